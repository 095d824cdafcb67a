"""A life in short: what is noted can be told again, in order, whatever was left out of it."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from session_auditor.model import (
    Cause,
    Change,
    DetailType,
    Options,
    Presence,
    Remembered,
    SessionType,
    Timeline,
)
from session_auditor.timeline import Entry, entries_of, life_of, noted
from tests.shared.history import AWAY, History, at, session

BLANK = Remembered(session(), at(0), baseline=False, presence=Presence.CONNECTED, presence_since=at(0))
CHECK = TypeAdapter(Timeline)


def told(remembered: Remembered) -> list[Entry]:
    return list(entries_of(remembered.timeline, remembered.first_seen))


def test_a_day_reads_as_it_was_told() -> None:
    history = History(options=Options(), timeout=3600)
    history.observe(0)
    for minute in range(1, 71):
        history.observe(minute, session(AWAY if minute >= 3 else "CONNECTED"))
    remembered = history.snapshot.sessions["s-1"].remembered
    assert remembered.timeline == "0s60,120d60,1020a60:15,2820t60:15,3420t60:5"
    assert [each[:5] for each in told(remembered)] == [
        (1, DetailType.STARTED, at(1), at(0), 0),
        (2, DetailType.DISCONNECTED, at(3), at(2), 0),
        (3, DetailType.ABANDONED, at(18), at(17), 15),
        (4, DetailType.EXPIRING, at(48), at(47), 15),
        (5, DetailType.EXPIRING, at(58), at(57), 5),
    ]
    assert {each.cause for each in told(remembered)[3:]} == {Cause.DISCONNECT_TIMEOUT}
    assert life_of(remembered, at(70)).timeline == remembered.timeline


def test_what_an_earlier_release_told_of_is_counted() -> None:
    told_before = Remembered(
        session(), at(0), baseline=False, presence=Presence.CONNECTED, presence_since=at(0), sequence=5
    )
    after = noted(told_before, (Change(DetailType.DISCONNECTED),), Cause.NONE, at(9), None)
    assert (after.timeline, after.sequence) == ("+5,540d", 6)
    assert told(after) == [Entry(6, DetailType.DISCONNECTED, at(9), None)]


kinds: dict[SessionType, int] = {
    DetailType.STARTED: 0,
    DetailType.CONNECTED: 0,
    DetailType.DISCONNECTED: 0,
    DetailType.RECONNECTED: 0,
    DetailType.EXPIRING: 15,
    DetailType.ABANDONED: 60,
    DetailType.ENDED: 0,
    DetailType.UNWATCHED: 0,
}


@given(
    before=st.integers(0, 3),
    steps=st.lists(
        st.tuples(
            st.lists(st.sampled_from(list(kinds)), min_size=1, max_size=3),
            st.sampled_from([Cause.MAX_DURATION, Cause.DISCONNECT_TIMEOUT]),
            st.none() | st.integers(0, 600),
        ),
        max_size=30,
    ),
)
def test_the_first_and_the_last_are_kept_and_every_one_is_numbered(
    before: int, steps: list[tuple[list[SessionType], Cause, int | None]]
) -> None:
    remembered = Remembered(
        session(), at(0), baseline=False, presence=Presence.CONNECTED, presence_since=at(0), sequence=before
    )
    happened: list[Entry] = []
    for minute, (detail_types, cause, window) in enumerate(steps):
        since = None if window is None else at(minute) - timedelta(seconds=window)
        changes = tuple(Change(each, kinds[each]) for each in detail_types)
        remembered = noted(remembered, changes, cause, at(minute), since)
        for change in changes:
            entry_cause = cause if change.detail_type is DetailType.EXPIRING else Cause.NONE
            number = before + len(happened) + 1
            happened.append(
                Entry(number, change.detail_type, at(minute), since, change.threshold, entry_cause)
            )
        CHECK.validate_python(remembered.timeline)
    kept = happened if len(happened) <= 8 + 24 else happened[:8] + happened[-24:]
    assert told(remembered) == kept
    assert remembered.sequence == before + len(happened)
    assert len(remembered.timeline) <= 32 * 20


def test_a_time_that_cannot_be_is_no_entry() -> None:
    assert list(entries_of("0s,999999999999e,60q,120d", at(0))) == [
        Entry(1, DetailType.STARTED, at(0), None),
        Entry(4, DetailType.DISCONNECTED, at(2), None),
    ]


def test_what_is_written_can_be_read_however_many_there_were() -> None:
    many = replace(BLANK, sequence=10**12)
    after = noted(many, (Change(DetailType.DISCONNECTED),), Cause.NONE, at(9), None)
    assert CHECK.validate_python(after.timeline) == "+999999999,540d"


def test_a_life_that_nobody_came_to_at_first_keeps_how_long_that_was() -> None:
    history = History(options=Options(), timeout=3600)
    history.observe(0)
    for minute in range(1, 13):
        history.observe(minute, session(AWAY if minute < 5 else "CONNECTED"))
    life = life_of(history.snapshot.sessions["s-1"].remembered, at(12))
    assert (life.never_connected_seconds, life.connected_seconds, life.disconnected_seconds) == (240, 420, 0)
