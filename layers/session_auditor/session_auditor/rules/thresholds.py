"""What thresholds in minutes have been crossed; it knows of no session."""

from datetime import datetime

from session_auditor.clocks import MINUTE
from session_auditor.model import Violation
from session_auditor.policies import Draining, TooLong


def crossed(policy: TooLong | Draining, begin: datetime, now: datetime) -> tuple[Violation, ...]:
    """Return a violation for each threshold that was crossed since then, the smallest first."""
    actual = str((now - begin) // MINUTE)
    return tuple(
        Violation(
            policy=policy.name,
            kind=policy.kind,
            threshold=threshold,
            since=begin + threshold * MINUTE,
            limit=str(threshold),
            actual=actual,
            edition=policy.edition,
        )
        for threshold in policy.thresholds
        if begin + threshold * MINUTE <= now
    )
