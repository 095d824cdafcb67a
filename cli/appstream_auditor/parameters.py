"""What the words on the command line mean: spans of time, moments, globs, states."""

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta, tzinfo

import click

from session_auditor.model import Globs, Presence

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
# The words of --state; away is whoever is not connected, after a disconnect or never. Those of them of which
# Abandoned was told have a word of their own.
ABANDONED = "abandoned"
STATES = {
    "connected": frozenset([Presence.CONNECTED]),
    "disconnected": frozenset([Presence.DISCONNECTED]),
    "never-connected": frozenset([Presence.NEVER_CONNECTED]),
    "away": frozenset([Presence.DISCONNECTED, Presence.NEVER_CONNECTED]),
    "unknown": frozenset([Presence.UNKNOWN]),
    ABANDONED: frozenset([Presence.DISCONNECTED, Presence.NEVER_CONNECTED]),
}


class Span(click.ParamType[timedelta]):
    """A span of time: 90s, 15m, 2h, 7d; a bare number is minutes."""

    name = "span"

    def convert(
        self, value: str | timedelta, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Return the span; fail with what one looks like."""
        if isinstance(value, timedelta):
            return value
        found = re.fullmatch(r"([0-9]{1,6})([smhd]?)", value.strip().lower())
        if not found:
            self.fail(f"{value} is no span of time; such are 15m, 2h, 7d, or 15 for minutes", param, ctx)
        return timedelta(**{_UNITS[found[2] or "m"]: int(found[1])})


class Moment(click.ParamType[str]):
    """A moment, read once the time zone is known: 2026-03-02, 2026-03-02T08:00, 08:00, today, 7d."""

    name = "time"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text if it is one; fail with what one looks like."""
        try:
            moment_of(value, datetime.now(UTC), UTC)
        except (OverflowError, ValueError):
            known = "2026-03-02, 2026-03-02T08:00, 08:00, today, yesterday, 7d"
            self.fail(f"{value} is no time; such are {known}", param, ctx)
        return value


def moment_of(text: str, now: datetime, zone: tzinfo | None) -> datetime:
    """Return a moment in UTC, read in a time zone (None: this machine's); raise ValueError."""
    today = now.astimezone(zone).date()
    days = {"today": today, "yesterday": today - timedelta(days=1)}
    ago = re.fullmatch(r"([0-9]{1,4})([smhd])", text)
    if re.fullmatch(r"[0-9]{1,2}:[0-9]{2}", text):
        text = f"{today}T{text:0>5}"
    if text in days:
        return midnight(days[text], zone)
    if ago:
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC).replace(microsecond=0)


def utc_day_of(text: str, now: datetime) -> date:
    """Return a day, such as 2026-03-02 or yesterday, as UTC has it; raise ValueError."""
    return now.astimezone(UTC).date() - timedelta(days=1) if text == "yesterday" else date.fromisoformat(text)


def month_of(text: str, zone: tzinfo | None) -> tuple[datetime, datetime]:
    """Return when a month such as 2026-03 begins and ends; raise ValueError."""
    first = date.fromisoformat(f"{text}-01")
    return midnight(first, zone), midnight((first + timedelta(days=31)).replace(day=1), zone)


def midnight(day: date, zone: tzinfo | None) -> datetime:
    """Return when a day begins in a time zone (None: this machine's), in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def globs(names: Iterable[str]) -> Globs:
    """Return names or globs of which some exclude, with ! before them."""
    words = [word.strip() for name in names for word in name.split(",") if word.strip()]
    return Globs(
        include=tuple(word for word in words if not word.startswith("!")),
        exclude=tuple(word[1:] for word in words if word.startswith("!")),
    )


def presences(states: Iterable[str]) -> frozenset[Presence]:
    """Return the presences that words of --state stand for; every one without a word."""
    wanted = [STATES[state] for state in states]
    return frozenset().union(*wanted) if wanted else frozenset(Presence)
