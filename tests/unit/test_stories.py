"""How spans, times and violations read; the lives are told in tests/command and tests/integration, too."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from session_auditor.model import Cause, EndReason, Life, Options, PolicyKind, Presence, Violation
from session_auditor.policies import read_document
from session_auditor.stories import (
    CAUSES,
    END_REASONS,
    PRESENCES,
    Told,
    Tone,
    hours,
    moment,
    span,
    story,
    told_of,
    violations_of,
)
from tests.shared.history import SCOPE, History, at, session

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


HOURS = "mon-fri 07:00-19:00 Europe/Berlin"


@pytest.mark.parametrize(
    ("violation", "sentence"),
    [
        pytest.param(
            Violation("late", PolicyKind.OUTSIDE_HOURS, 0, at(60), HOURS, "2026-03-02 19:31 CET", "e"),
            f"violates policy late since 09:00: outside {HOURS}",
            id="outside hours",
        ),
        pytest.param(
            Violation("two", PolicyKind.TOO_MANY_SESSIONS, 0, at(60), "2", "3", "e"),
            "violates policy two since 09:00: its user has 3 sessions, and the limit is 2",
            id="too many sessions",
        ),
        pytest.param(
            Violation("long", PolicyKind.TOO_LONG, 90, at(91), "90", "90", "e"),
            "violates policy long since 09:31: it has lasted for 1 h 30 min",
            id="too long",
        ),
        pytest.param(
            Violation("host", PolicyKind.DRAINING, 30, at(-1440), "30", "31", "e"),
            "violates policy host since 2026-03-01 08:00: its host has been draining for 30 min",
            id="draining",
        ),
    ],
)
def test_what_is_violated_is_said_in_a_sentence(violation: Violation, sentence: str) -> None:
    history = History(options=Options())
    history.observe(0)
    history.observe(1, session())
    stored = history.snapshot.sessions["s-1"]
    remembered = replace(stored.remembered, violations=(violation,))
    snapshot = replace(history.snapshot, sessions={"s-1": replace(stored, remembered=remembered)})
    told = told_of(snapshot, "s-1", at(600), Options())
    assert list(violations_of(told, at(600), UTC)) == [sentence]


class TestAStoryOfPolicies:
    """What was told of policies stands in the life, by the policy's name and its threshold."""

    @pytest.fixture
    def history(self) -> History:
        text = """{"version": 1, "timeZone": "UTC", "policies": {
            "long": {"kind": "TOO_LONG", "minutes": [2, 4]},
            "two": {"kind": "TOO_MANY_SESSIONS", "limit": 1}}}"""
        history = History(options=Options(), policies=read_document(text))
        history.observe(0)
        for minute in range(1, 6):
            history.observe(minute, session(), session(session_id="s-2", start_time=at(0.7)))
        return history

    def lines(self, told: Told) -> list[tuple[str, str]]:
        return [(each.what, each.words) for each in story(told, at(6), UTC) if each.tone is Tone.TOLD]

    def test_while_it_lives(self, history: History) -> None:
        told = told_of(history.snapshot, "s-2", at(6), Options())
        assert self.lines(told) == [
            ("Started", "after 08:00"),
            ("Violated", "two"),
            ("Violated", "long, 2 min"),
            ("Violated", "long, 4 min"),
        ]
        assert len(list(violations_of(told, at(6), UTC))) == 3

    def test_once_it_is_over(self) -> None:
        timeline = "0s60,0v60:two,120v60:2:long,300x60:2:long,300x60:two,300e60"
        told = Told(Life("s-2", SCOPE, at(0.7), at(1), at(6), events=6, timeline=timeline))
        assert self.lines(told) == [
            ("Started", "after 08:00"),
            ("Violated", "two"),
            ("Violated", "long, 2 min"),
            ("Cleared", "long, 2 min"),
            ("Cleared", "two"),
            ("Ended", ""),
        ]
        assert list(violations_of(told, at(6), UTC)) == []

    def test_a_name_that_is_not_kept_is_left_out(self) -> None:
        told = Told(Life("s-2", SCOPE, at(0.7), at(1), at(6), events=1, timeline="0v60"))
        assert self.lines(told) == [("Violated", "after 08:00")]
