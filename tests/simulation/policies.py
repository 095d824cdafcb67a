"""What a policies document forbids, told from the words of the rules; it shares nothing with the auditor.

Hours are found by walking the calendar backwards, day by day, and a local time by trying the zone's offsets
around it: slow, and built differently from whatever it is held against.
"""

import json
from calendar import timegm
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from fnmatch import fnmatchcase
from functools import lru_cache
from itertools import count
from typing import Any
from zoneinfo import ZoneInfo

Document = Mapping[str, Any]
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY = 24 * 3600
OUTSIDE_HOURS, TOO_MANY, TOO_LONG, DRAINING = "OUTSIDE_HOURS", "TOO_MANY_SESSIONS", "TOO_LONG", "DRAINING"


@dataclass(frozen=True)
class Found:
    """A policy is violated: since when, and what is said of it."""

    since: int
    limit: str
    actual: str


def edition(document: Document, name: str) -> str:
    """Return the wording of a policy, with that of the hours that it names."""
    policy = document["policies"][name]
    hours = (document["hours"][policy["hours"]], document["timeZone"]) if "hours" in policy else ()
    return json.dumps([policy, hours], sort_keys=True)


def concerns(policy: Mapping[str, Any], scope: tuple[str, str], tags: Mapping[str, str]) -> bool:
    """Return whether a policy's filters match what streams from a scope."""
    by_name = zip((policy.get("stacks", ""), policy.get("fleets", "")), scope, strict=True)
    by_tag = ((globs, tags[key]) for key, globs in policy.get("tags", {}).items())
    return all(_wanted(globs, name) for globs, name in (*by_name, *by_tag))


def _wanted(globs: str, name: str) -> bool:
    words = [word.strip() for word in globs.split(",") if word.strip()]
    named = [word for word in words if not word.startswith("!")]
    if any(fnmatchcase(name, word[1:]) for word in words if word.startswith("!")):
        return False
    return not named or any(fnmatchcase(name, word) for word in named)


def outside_hours(document: Document, name: str, at: int, start: int) -> Found | None:
    """Return how a session that started at `start` violates hours now, if it does."""
    policy, zone = document["policies"][name], document["timeZone"]
    hours = document["hours"][policy["hours"]]
    end = _last_end(json.dumps(hours, sort_keys=True), zone, at)
    closed = None if end is None else end + policy.get("graceMinutes", 0) * 60
    if closed is None or at < closed:
        return None
    return Found(
        min(max(closed, start), at),
        f"{hours['days']} {hours['from']}-{hours['to']} {zone}",
        f"{_local(at, zone):%Y-%m-%d %H:%M %Z}",
    )


def thresholds(policy: Mapping[str, Any], at: int, clock: int | None) -> dict[int, Found]:
    """Return by minutes which of a policy's thresholds have passed since `clock`."""
    if clock is None:
        return {}
    return {
        minutes: Found(clock + minutes * 60, str(minutes), str((at - clock) // 60))
        for minutes in policy["minutes"]
        if at - clock >= minutes * 60
    }


def beyond(limit: int, ranked: Iterable[tuple[int, str]], identity: str, at: int) -> Found | None:
    """Return how a session violates a limit, among all of its user's by start and id."""
    order = [each for _, each in sorted(ranked)]
    if identity not in order[limit:]:
        return None
    return Found(at, str(limit), str(len(order)))


@lru_cache(maxsize=20_000)
def _last_end(hours_text: str, zone: str, at: int) -> int | None:
    """Return when hours ended last; None if they go on now."""
    hours = json.loads(hours_text)
    for back in count(-1):
        day = _local(at, zone).date() - timedelta(days=back)
        if DAYS[day.weekday()] not in _days(hours["days"]) or day.isoformat() in hours.get("skip", ()):
            continue
        begin, end = _span(hours, day, zone)
        if end <= begin:
            # In spring there are none, if clocks pass over them.
            continue
        if begin <= at < end:
            return None
        if end <= at:
            return end
    return None


def _span(hours: Mapping[str, Any], day: date, zone: str) -> tuple[int, int]:
    """Return begin and end of the hours that begin on a day."""
    begin, end = (_minutes(hours[word]) for word in ("from", "to"))
    midnight = timegm(day.timetuple())
    end += 24 * 60 if end < begin else 0
    return min(_instants(midnight + begin * 60, zone)), max(_instants(midnight + end * 60, zone))


def _minutes(clock: str) -> int:
    hour, minute = clock.split(":")
    return int(hour) * 60 + int(minute)


def _instants(wall: int, zone: str) -> list[int]:
    """Return when clocks show a time: twice in autumn; if never, as if they had not been put forward."""
    before, after = _offset(wall - DAY, zone), _offset(wall + DAY, zone)
    shown = [wall - offset for offset in {before, after} if _offset(wall - offset, zone) == offset]
    return shown or [wall - before]


def _offset(at: int, zone: str) -> int:
    return timegm(_local(at, zone).timetuple()) - at


def _local(at: int, zone: str) -> datetime:
    return datetime.fromtimestamp(at, ZoneInfo(zone))


def _days(words: str) -> set[str]:
    days: set[str] = set()
    for word in words.replace(" ", "").split(","):
        first, _, last = word.partition("-")
        place = DAYS.index(first)
        days.add(first)
        while last and DAYS[place] != last:
            place = (place + 1) % 7
            days.add(DAYS[place])
    return days
