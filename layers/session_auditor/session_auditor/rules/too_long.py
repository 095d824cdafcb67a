"""TOO_LONG: a session has lasted longer than allowed, counted from its start."""

from collections.abc import Iterable
from datetime import datetime

from session_auditor.clocks import MINUTE, start_of
from session_auditor.model import Remembered, Violation
from session_auditor.policies import TooLong
from session_auditor.rules.thresholds import crossed


def violated(
    policy: TooLong, sessions: Iterable[Remembered], now: datetime
) -> dict[str, tuple[Violation, ...]]:
    """Return the violations of every session that is too old, by its id: one for each threshold crossed."""
    latest = now - policy.thresholds[0] * MINUTE
    return {
        each.session.id: crossed(policy, start, now)
        for each in sessions
        if (start := start_of(each)) <= latest
    }
