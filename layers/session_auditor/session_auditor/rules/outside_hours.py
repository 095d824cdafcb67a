"""OUTSIDE_HOURS: a session lives outside the hours, whether anybody is connected to it or not."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime

from session_auditor.clocks import MINUTE, start_of
from session_auditor.model import Remembered, Violation
from session_auditor.policies import Hours, OutsideHours


def violated(
    policy: OutsideHours, sessions: Iterable[Remembered], now: datetime
) -> dict[str, tuple[Violation, ...]]:
    """Return the violation of every session, by its id, if it is outside the hours now."""
    closed = closed_since(policy, now)
    if closed is None:
        return {}
    from_before = Violation(
        policy=policy.name,
        kind=policy.kind,
        threshold=0,
        since=closed,
        limit=policy.hours.text,
        actual=f"{now.astimezone(policy.hours.zone):%Y-%m-%d %H:%M %Z}",
        edition=policy.edition,
    )
    return {
        each.session.id: (
            from_before
            if (start := start_of(each)) <= closed
            # AWS's clock may be ahead of ours.
            else replace(from_before, since=min(start, now)),
        )
        for each in sessions
    }


def closed_since(policy: OutsideHours, now: datetime) -> datetime | None:
    """Return when the latest hours ended, grace included; None in hours, in grace, and before any hours."""
    hours = policy.hours
    # Where clocks go back over midnight, tomorrow's hours can have begun when it is today once more.
    tomorrow = now.astimezone(hours.zone).toordinal() + 1
    for ordinal in range(tomorrow, 0, -1):
        day = date.fromordinal(ordinal)
        if day.weekday() not in hours.days or day in hours.skip:
            continue
        begin, end = _span(hours, day)
        # Hours that the switch of clocks swallows are none. Those that began last also end last.
        if begin <= now and begin < end:
            closed = end + policy.grace
            return closed if closed <= now else None
    return None


def _span(hours: Hours, day: date) -> tuple[datetime, datetime]:
    """Return when the hours of a local day begin and end, each the widest way to read an ambiguous time."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=hours.zone)
    # A sum of local times is a local time, whatever the clocks do meanwhile.
    begin, end = midnight + hours.begin * MINUTE, midnight + hours.end * MINUTE
    # The second of two, or, of a time that does not exist, the one by the clock before the switch.
    return begin.astimezone(UTC), max(end.astimezone(UTC), end.replace(fold=1).astimezone(UTC))
