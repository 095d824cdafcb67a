"""Rules say when a session that is seen is due for an event, though nothing about it has changed.

Each is a file with one pure function: from what is remembered of a session and the time to what is due. Each
threshold fires once; if several are crossed at once, only the tightest fires. What counts from a disconnect
may fire again after the next one: `lifecycle.observe` forgets then that it fired.

What a policy forbids has a rule for each kind: `violated` takes the policy, all live sessions that it matches
and the time, and answers what they violate now. Whoever asks compares the answer with what is open. Of these
rules DRAINING alone looks at what is open, since a hole puts its clock off.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from typing import assert_never

from session_auditor.model import Change, Due, Options, Remembered, Violation
from session_auditor.policies import Draining, OutsideHours, Policy, TooLong, TooManySessions
from session_auditor.rules import abandoned, draining, expiring, outside_hours, too_long, too_many_sessions

# In the order in which their events are numbered. A rule is told whether the clocks are running: in a hole
# that is not over they are not.
RULES: tuple[Callable[[Remembered, datetime, Options, bool], Due | None], ...] = (expiring.due, abandoned.due)


def fire(
    remembered: Remembered, now: datetime, options: Options, *, running: bool
) -> tuple[Remembered, tuple[Change, ...]]:
    """Return what is due, and the session with a note of it, so that it is not due again."""
    changes: tuple[Change, ...] = ()
    for rule in RULES:
        due = rule(remembered, now, options, running)
        if due:
            remembered = replace(remembered, fired={**remembered.fired, due.rule: due.threshold})
            changes += (Change(due.detail_type, due.threshold),)
    return remembered, changes


def violated(
    policy: Policy, sessions: Iterable[Remembered], now: datetime
) -> dict[str, tuple[Violation, ...]]:
    """Return what live sessions that a policy matches violate, by session id, the smallest threshold first.

    All of them count, listed or not: TOO_MANY_SESSIONS ranks a user's sessions among each other.
    """
    match policy:
        case OutsideHours():
            return outside_hours.violated(policy, sessions, now)
        case TooManySessions():
            return too_many_sessions.violated(policy, sessions, now)
        case TooLong():
            return too_long.violated(policy, sessions, now)
        case Draining():
            return draining.violated(policy, sessions, now)
        case _:
            assert_never(policy)
