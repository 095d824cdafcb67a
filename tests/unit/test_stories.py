"""How spans and times read; the lives themselves are told in tests/command and tests/integration."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from session_auditor.model import Cause, EndReason, Presence
from session_auditor.stories import CAUSES, END_REASONS, PRESENCES, hours, moment, span

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (timedelta(seconds=59), "59s"),
        (timedelta(minutes=1, seconds=59), "1m"),
        (timedelta(minutes=65), "1h 05m"),
        (timedelta(days=2, hours=3), "2d 03h"),
        (timedelta(seconds=-5), "0s"),
    ],
)
def test_spans(length: timedelta, words: str) -> None:
    assert span(length) == words


def test_a_time_of_today_is_its_hour_alone() -> None:
    assert moment(NOON, UTC, NOON) == "12:00"
    assert moment(NOON - timedelta(days=1), UTC, NOON) == "2026-03-01 12:00"
    assert moment(NOON + timedelta(days=6), UTC, NOON) == "Sun 12:00"
    assert moment(NOON + timedelta(days=7), UTC, NOON) == "2026-03-09 12:00"
    assert moment(None, UTC, NOON) == ""


def test_a_time_that_the_zone_has_not_is_that_of_utc() -> None:
    east, last = timezone(timedelta(hours=2)), datetime(9999, 12, 31, 23, 59, tzinfo=UTC)
    assert moment(last, east, NOON) == "9999-12-31 23:59"


def test_hours_of_use() -> None:
    assert [hours(seconds) for seconds in (0, 59, 3661, 115_500)] == ["", "0h 00m", "1h 01m", "32h 05m"]


def test_every_value_has_words() -> None:
    assert PRESENCES.keys() == set(Presence)
    assert CAUSES.keys() == set(Cause)
    assert END_REASONS.keys() == {None, *EndReason}
