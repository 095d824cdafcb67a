"""The life of a session told in lines, for the command and the board alike, so that they tell the same.

Plain data in, plain data out. Words of unknown origin are given as they are: whoever shows a line makes them
harmless for the place where it is shown.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from enum import StrEnum
from typing import NamedTuple

from session_auditor.model import Cause, DetailType, EndReason, Life, Options, Presence, Snapshot
from session_auditor.timeline import Entry, entries_of, life_of
from session_auditor.views import Coming, Row, coming, life, live
from session_auditor.wording import excess, in_zone

PRESENCES = {
    Presence.CONNECTED: "connected",
    Presence.DISCONNECTED: "disconnected",
    Presence.NEVER_CONNECTED: "never connected",
    Presence.UNKNOWN: "unknown",
}
CAUSES = {
    Cause.MAX_DURATION: "maximum duration",
    Cause.DISCONNECT_TIMEOUT: "disconnect timeout",
    Cause.NONE: "",
}
END_REASONS = {
    None: "",
    EndReason.SCOPE_GONE: "fleet removed",
    EndReason.UNKNOWN: "not known",
    EndReason.MAX_DURATION: "maximum duration",
    EndReason.DISCONNECT_TIMEOUT: "disconnect timeout",
    EndReason.NEVER_CONNECTED: "nobody came",
    EndReason.USER_OR_ADMIN: "user or administrator",
    EndReason.UNWATCHED: "not audited any more",
}


class Tone(StrEnum):
    """How a line is meant: what was told, what is only remarked, what is still to come."""

    TOLD = "told"
    REMARK = "remark"
    COMING = "coming"


class Line(NamedTuple):
    """A line of a life: when, what, and more about it."""

    at: datetime | None
    what: str
    words: str
    tone: Tone


class Told(NamedTuple):
    """A life and what is beside it while it lasts: its row, and what is coming."""

    life: Life
    row: Row | None = None
    coming: tuple[Coming, ...] = ()


def told_of(snapshot: Snapshot, session_id: str, now: datetime, options: Options) -> Told:
    """Return the life of a session of the snapshot, whose end may wait to be published."""
    remembered = snapshot.sessions[session_id].remembered
    if remembered.ending:
        return Told(life_of(remembered, remembered.ending.before))
    alone = replace(snapshot, sessions={session_id: snapshot.sessions[session_id]})
    (row,) = live(alone, now, options.hole)
    return Told(life(row, now), row, coming(row, now, options))


def state_of(told: Told, now: datetime, zone: tzinfo | None) -> str:
    """Return how a session is, or how it ended, in a sentence."""
    ended, row, _ = told
    if row is None:
        between = f"between {moment(ended.ended_after, zone, now)} and " if ended.ended_after else "by "
        return f"ended {between}{moment(ended.end, zone, now)} ({END_REASONS[ended.reason]})"
    words = f"{PRESENCES[row.presence]} since {moment(row.since, zone, now)}"
    if not row.watched:
        seen = f"since {moment(row.seen, zone, now)}" if row.seen else "lately"
        return f"{words}; not listed {seen}, so it may have changed"
    ends, cause = row.deadline
    if ends is None:
        return words
    left = f"in {span(ends - now)}" if ends > now else "overdue"
    return f"{words}; ends at {moment(ends, zone, now)}, {left} ({CAUSES[cause]})"


def violations_of(told: Told, now: datetime, zone: tzinfo | None) -> Iterator[str]:
    """Return which policies a session violates, each in a sentence; none once it has ended."""
    for each in told.row.remembered.violations if told.row else ():
        yield f"violates policy {each.policy} since {moment(each.since, zone, now)}: {excess(each)}"


def story(told: Told, now: datetime, zone: tzinfo | None) -> Iterator[Line]:
    """Tell a life: what was told of it, how many events are not kept, and what will come next."""
    life = told.life
    entries = list(entries_of(life.timeline, life.first_seen))
    if not entries and life.end:
        words = "what was told of it was not kept: it ended under an earlier release"
        yield Line(None, "", words, Tone.REMARK)
        return
    from_the_start = life.events and (
        not entries or entries[0].sequence > 1 or entries[0].detail_type is DetailType.STARTED
    )
    if not from_the_start:
        yield Line(life.first_seen, "", "first seen; it was there before the audit", Tone.REMARK)
    number = 0
    for entry in entries:
        yield from _not_kept(entry.sequence - number - 1)
        number = entry.sequence
        yield Line(entry.at, _short(entry.detail_type), _about(entry, life, zone, now), Tone.TOLD)
    yield from _not_kept(life.events - number)
    for each in told.coming:
        words = _threshold(each.detail_type, each.threshold, each.cause) or CAUSES[each.cause]
        yield Line(each.at, _short(each.detail_type), words, Tone.COMING)


def span(length: timedelta) -> str:
    """Return a span in its two largest units, such as 2h 05m; seconds only below a minute."""
    seconds = max(0, int(length.total_seconds()))
    minutes, hours_, days = seconds // 60, seconds // 3600, seconds // 86_400
    if minutes == 0:
        return f"{seconds}s"
    if hours_ == 0:
        return f"{minutes}m"
    return f"{hours_}h {minutes % 60:02}m" if days == 0 else f"{days}d {hours_ % 24:02}h"


def hours(seconds: int) -> str:
    """Return a time of use in hours, such as 32h 05m; nothing for none."""
    return f"{seconds // 3600}h {seconds // 60 % 60:02}m" if seconds else ""


def moment(time: datetime | None, zone: tzinfo | None, now: datetime) -> str:
    """Return a time of the reader's zone (None: this machine's): with the day if it is not today's.

    Of the six days to come the weekday is enough; what was has its date.
    """
    if time is None:
        return ""
    local, today = in_zone(time, zone), now.astimezone(zone).date()
    days = (local.date() - today).days
    if days == 0:
        return f"{local:%H:%M}"
    return f"{local:%a %H:%M}" if 0 < days <= 6 else f"{local:%Y-%m-%d %H:%M}"


def _not_kept(number: int) -> Iterator[Line]:
    if number > 0:
        words = "1 event that is not kept" if number == 1 else f"{number} events that are not kept"
        yield Line(None, "", words, Tone.REMARK)


def _about(entry: Entry, life: Life, zone: tzinfo | None, now: datetime) -> str:
    words = _threshold(entry.detail_type, entry.threshold, entry.cause)
    if words:
        return words
    if entry.policy:
        return f"{entry.policy}, {entry.threshold} min" if entry.threshold else entry.policy
    if entry.detail_type is DetailType.ENDED:
        return END_REASONS[life.reason]
    return f"after {moment(entry.since, zone, now)}" if entry.since else ""


def _threshold(detail_type: DetailType, minutes: int, cause: Cause) -> str:
    if detail_type is DetailType.EXPIRING:
        return f"{minutes} min before its end ({CAUSES[cause]})"
    return f"nobody connected for {minutes} min" if detail_type is DetailType.ABANDONED else ""


def _short(detail_type: DetailType) -> str:
    return detail_type.removeprefix("AppStream Session ").removeprefix("Policy ")
