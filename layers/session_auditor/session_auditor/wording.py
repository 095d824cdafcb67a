"""The line that people read of an event, and how words of unknown origin are made harmless in it.

Plain data in, plain data out. Whoever reads the line may paste it into Slack, HTML, a shell or a spreadsheet.
"""

import re
from datetime import UTC, datetime, tzinfo
from typing import assert_never

from session_auditor.comparison import Transition
from session_auditor.coverage import FILTERED, AuditChange
from session_auditor.faults import FaultChange
from session_auditor.model import (
    Cause,
    Change,
    ClearReason,
    Deadline,
    DetailType,
    EndReason,
    PolicyKind,
    Scope,
    Violation,
)

SUMMARY_LIMIT = 200
# Chat programs render brackets, asterisks and the like. “ and ” are ours alone: a user id stands in them.
_HARMLESS = str.maketrans(
    {"<": "(", ">": ")", "[": "(", "]": ")", "&": "+", "\\": "/"} | dict.fromkeys('"`*~|“”', "'")
)
# A mention, and what makes a link of an address. An @ inside a word is a mail address.
_MENTION = re.compile(r"(?<!\w)@|@(?!\w)")
_LINK = re.compile(r":+(?=//)")
# Prints nothing and yet counts as printable: default ignorable code points (Unicode), the empty Braille cell.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def harmless(text: str, limit: int) -> str:
    """Return text of unknown origin safe to print: one line, no markup, no control or format characters."""
    line = "".join(each for each in _INVISIBLE.sub("", text).translate(_HARMLESS) if each.isprintable())
    return _cut(_LINK.sub("", _MENTION.sub("", " ".join(line.split()))), limit)


def summary(transition: Transition, change: Change, observed_at: datetime, *, time_zone: tzinfo) -> str:
    """Return the line of a session's event, its times in a zone."""
    return _cut(_summary(transition, change, observed_at, time_zone), SUMMARY_LIMIT)


def audit_summary(change: AuditChange, *, time_zone: tzinfo) -> str:
    """Return the line of an audit event: a scope could not be listed, or can be again."""
    gap = change.gap
    what = f"Sessions {_on_stack(gap.scope)}" if gap.scope.stack else "Stacks and fleets"
    verb = "listed" if gap.scope.stack else "read"
    since = f"since {local_time(gap.since, time_zone)}"
    match change.detail_type:
        case DetailType.AUDIT_DEGRADED:
            line = f"{what} could not be {verb} {since}: {harmless(gap.reason, 40)}"
        case DetailType.AUDIT_RECOVERED if gap.reason == FILTERED:
            line = f"{what} are not audited any more; they had not been {verb} {since}"
        case DetailType.AUDIT_RECOVERED:
            line = f"{what} are {verb} again; they had not been {since}"
        case _:
            assert_never(change.detail_type)
    return _cut(line, SUMMARY_LIMIT)


def fleet_summary(change: FaultChange, *, time_zone: tzinfo = UTC) -> str:
    """Return the line of a fleet's event: which errors AppStream names, or that it names none any more."""
    fault = change.fault
    fleet, since = f"Fleet {harmless(fault.fleet, 32)}", f"since {local_time(fault.since, time_zone)}"
    codes = harmless(fault.codes.replace(",", ", "), 90)
    match change.detail_type:
        case DetailType.FLEET_FAULTED:
            line = f"{fleet} has errors {since}: {codes}"
        case DetailType.FLEET_RECOVERED:
            line = f"{fleet} has no errors any more; {since} it had {codes}"
        case _:
            assert_never(change.detail_type)
    return _cut(line, SUMMARY_LIMIT)


def local_time(time: datetime, zone: tzinfo, *, on_day_of: datetime | None = None) -> str:
    """Return a time in a zone and the zone's name, such as 2026-03-02 16:00 CET.

    The date is left out where it is that of `on_day_of` there.
    """
    local = in_zone(time, zone)
    same_day = on_day_of is not None and local.date() == in_zone(on_day_of, zone).date()
    shown = f"{local:%H:%M}" if same_day else f"{local:%Y-%m-%d %H:%M}"
    return f"{shown} {zone_name(local)}"


def zone_name(local: datetime) -> str:
    """Return what the zone of a time is called then: CET or CEST, and UTC-03 where it has only a number."""
    name = local.tzname() or ""
    return f"UTC{name[:3]}:{name[3:]}".rstrip(":") if name[:1] in {"+", "-"} else name


def in_zone(time: datetime, zone: tzinfo | None) -> datetime:
    """Return a time in a zone (None: this machine's), or in UTC where the zone has no date for it."""
    try:
        return time.astimezone(zone)
    except (OverflowError, ValueError):
        # AppStream may name the last minute that a date can have.
        return time.astimezone(UTC)


def minutes_left(deadline: Deadline, observed_at: datetime) -> int:
    """Return the whole minutes until a deadline, never negative; 0 without one."""
    return seconds_between(observed_at, deadline.at) // 60 if deadline.at else 0


def seconds_between(start: datetime, end: datetime) -> int:
    """Return the whole seconds from start to end, never negative."""
    return max(0, int((end - start).total_seconds()))


def _summary(transition: Transition, change: Change, observed_at: datetime, zone: tzinfo) -> str:
    before, after, deadline = transition.before, transition.after, transition.deadline
    # A line opens with our own word: a spreadsheet would run a user id that opens with "=".
    name = harmless(after.session.user_id, 60)
    user, whose = (f"User “{name}”", f"The session of “{name}”") if name else ("A user", "A session")
    place = _on_stack(after.session.scope)
    ends = _ends(deadline, observed_at, zone)
    match change.detail_type:
        case DetailType.STARTED if after.baseline:
            return f"{user} has a session {place} that began before the audit"
        case DetailType.STARTED:
            return f"{user} started a session {place}"
        case DetailType.CONNECTED:
            return f"{user} connected {place}"
        case DetailType.DISCONNECTED:
            return f"{user} disconnected {place}" + (f"; the session ends at {ends}" if ends else "")
        case DetailType.RECONNECTED:
            # Who was away before a hole and after it may have been there in between.
            if before is None or before.clocks_from is not None:
                return f"{user} reconnected {place}"
            away = _duration(seconds_between(before.presence_since, observed_at))
            return f"{user} reconnected {place} after {away}"
        case DetailType.EXPIRING:
            minutes = _duration(minutes_left(deadline, observed_at) * 60)
            return f"{whose} {place} ends in {minutes}, at {ends}"
        case DetailType.ABANDONED:
            minutes = _duration(change.threshold * 60)
            left = f"; it ends at {ends}" if ends else ""
            return f"{whose} {place} is abandoned: nobody was seen connected for {minutes}{left}"
        case DetailType.ENDED:
            reason = after.ending.reason if after.ending else EndReason.UNKNOWN
            return f"{whose} {place} has ended: {_reason(reason)}"
        case DetailType.UNWATCHED:
            return f"{whose} {place} is not audited any more: {_reason(EndReason.UNWATCHED)}"
        case DetailType.POLICY_VIOLATED | DetailType.POLICY_CLEARED:
            return f"{whose} {place} {_violation(change)}"
        case _:
            assert_never(change.detail_type)


def _violation(change: Change) -> str:
    """Return which policy is violated and how, or is not any more and why."""
    violation = change.violation
    if violation is None:
        raise ValueError("no violation")
    policy = f"policy {harmless(violation.policy, 40)}"
    match change.clear_reason:
        case None:
            return f"violates {policy}: {excess(violation)}"
        case ClearReason.RESOLVED:
            return f"no longer violates {policy}"
        case ClearReason.ENDED:
            return f"no longer violates {policy}: it has ended"
        case ClearReason.UNWATCHED:
            return f"no longer violates {policy}: it is not audited any more"
        case ClearReason.POLICY_CHANGED:
            return f"no longer violates {policy}: the policy was changed"
        case _:
            assert_never(change.clear_reason)


def excess(violation: Violation) -> str:
    """Return how a session violates a policy, or did when it was told."""
    limit, actual = harmless(violation.limit, 60), harmless(violation.actual, 30)
    match violation.kind:
        case PolicyKind.OUTSIDE_HOURS:
            return f"outside {limit}"
        case PolicyKind.TOO_MANY_SESSIONS:
            return f"its user has {actual} sessions, and the limit is {limit}"
        case PolicyKind.TOO_LONG:
            return f"it has lasted for {_duration(violation.threshold * 60)}"
        case PolicyKind.DRAINING:
            return f"its host has been draining for {_duration(violation.threshold * 60)}"
        case _:
            assert_never(violation.kind)


def _reason(reason: EndReason) -> str:
    match reason:
        case EndReason.SCOPE_GONE:
            return "its stack or fleet is gone"
        case EndReason.UNKNOWN:
            return "for a reason that is not known"
        case EndReason.MAX_DURATION:
            return "maximum duration reached"
        case EndReason.DISCONNECT_TIMEOUT:
            return "disconnect timeout reached"
        case EndReason.NEVER_CONNECTED:
            return "nobody was seen connected"
        case EndReason.USER_OR_ADMIN:
            return "by its user or an administrator"
        case EndReason.UNWATCHED:
            return "a filter leaves it out"
        case _:
            assert_never(reason)


def _ends(deadline: Deadline, observed_at: datetime, zone: tzinfo) -> str:
    """Return when the session ends and by what; "" without a deadline."""
    if deadline.at is None:
        return ""
    match deadline.cause:
        case Cause.MAX_DURATION:
            cause = "maximum duration"
        case Cause.DISCONNECT_TIMEOUT:
            cause = "disconnect timeout"
        case Cause.NONE:
            return ""
        case _:
            assert_never(deadline.cause)
    return f"{local_time(deadline.at, zone, on_day_of=observed_at)} ({cause})"


def _on_stack(scope: Scope) -> str:
    return f"on stack {harmless(scope.stack, 32)}, fleet {harmless(scope.fleet, 32)}"


def _duration(seconds: int) -> str:
    hours, minutes = divmod(seconds // 60, 60)
    return f"{hours} h {minutes} min" if hours and minutes else f"{hours} h" if hours else f"{minutes} min"


def _cut(line: str, limit: int) -> str:
    # What is cut off must not leave the beginning of a mention.
    return line if len(line) <= limit else line[: limit - 3].rstrip("@") + "..."
