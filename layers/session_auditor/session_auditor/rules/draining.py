"""DRAINING: a host is to be freed of its sessions, and this one has stayed too long."""

from collections.abc import Iterable
from datetime import datetime

from session_auditor.clocks import MINUTE
from session_auditor.model import Remembered, Violation
from session_auditor.policies import Draining
from session_auditor.rules.thresholds import crossed


def violated(
    policy: Draining, sessions: Iterable[Remembered], now: datetime
) -> dict[str, tuple[Violation, ...]]:
    """Return the violations of every session that stays too long, by its id: one for each threshold crossed.

    It counts from `draining_since`, which whoever asks has put off to the end of a later hole.
    """
    latest = now - policy.thresholds[0] * MINUTE
    return {
        each.session.id: crossed(policy, since, now)
        for each in sessions
        if (since := each.draining_since) is not None and since <= latest
    }
