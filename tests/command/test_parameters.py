"""What the words on the command line mean."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import click
import pytest

from appstream_auditor.parameters import Moment, Span, globs, moment_of, month_of, presences
from session_auditor.model import Globs, Presence

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 3, 29, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "span"),
    [("15", 900), ("15m", 900), ("2h", 7200), ("90s", 90), ("7d", 604_800), (" 1H ", 3600), ("0", 0)],
)
def test_spans(text: str, span: int) -> None:
    assert Span().convert(text, None, None) == timedelta(seconds=span)


@pytest.mark.parametrize("text", ["", "x", "1.5h", "-5", "1 h 5", "9999999m"])
def test_what_is_no_span(text: str) -> None:
    with pytest.raises(click.BadParameter, match="such are 15m, 2h, 7d, or 15 for minutes"):
        Span().convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        pytest.param("2026-03-02", datetime(2026, 3, 1, 23, tzinfo=UTC), id="a day begins in the zone"),
        pytest.param("2026-03-02T08:00", datetime(2026, 3, 2, 7, tzinfo=UTC), id="a time in the zone"),
        pytest.param("2026-03-02T08:00Z", datetime(2026, 3, 2, 8, tzinfo=UTC), id="a time with a zone"),
        pytest.param("2026-03-30", datetime(2026, 3, 29, 22, tzinfo=UTC), id="a day in summer time"),
        pytest.param("today", datetime(2026, 3, 28, 23, tzinfo=UTC), id="the day of the switch"),
        pytest.param("yesterday", datetime(2026, 3, 27, 23, tzinfo=UTC), id="the day before"),
        pytest.param("36h", NOW - timedelta(hours=36), id="so long ago"),
    ],
)
def test_moments(text: str, moment: datetime) -> None:
    assert moment_of(text, NOW, BERLIN) == moment


@pytest.mark.parametrize("text", ["", "soon", "2026-13-01", "7w", "26-03-02"])
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(click.BadParameter, match="such are 2026-03-02"):
        Moment().convert(text, None, None)


def test_a_month_has_the_days_it_has() -> None:
    assert month_of("2026-03", BERLIN) == (
        datetime(2026, 2, 28, 23, tzinfo=UTC),
        datetime(2026, 3, 31, 22, tzinfo=UTC),
    )
    with pytest.raises(ValueError, match="2026-3"):
        month_of("2026-3", BERLIN)


def test_globs_and_states() -> None:
    assert globs(["prod-*,!prod-test", "lab"]) == Globs(include=("prod-*", "lab"), exclude=("prod-test",))
    assert presences(["away"]) == {Presence.DISCONNECTED, Presence.NEVER_CONNECTED}
    assert presences([]) == set(Presence)
