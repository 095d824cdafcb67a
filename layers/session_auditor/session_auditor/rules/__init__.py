"""Rules say when a session that is seen is due for an event, though nothing about it has changed.

Each is a file with one pure function: from what is remembered of a session and the time to what is due. Each
threshold fires once; if several are crossed at once, only the tightest fires. What counts from a disconnect
may fire again after the next one: `lifecycle.observe` forgets then that it fired.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from session_auditor.model import Change, Due, Options, Remembered
from session_auditor.rules import abandoned, expiring

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
