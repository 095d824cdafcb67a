"""What a policy forbids, as plain data: a policy, what is remembered of sessions, and the time."""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from session_auditor.model import PolicyKind, Presence, Remembered, Violation
from session_auditor.policies import DAYS, OutsideHours, Policy, read_document
from session_auditor.rules import violated
from session_auditor.rules.outside_hours import closed_since
from tests.shared.history import session

MINUTE = timedelta(minutes=1)
# A Monday.
NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def policy(**fields: Any) -> Policy:
    document = {"version": 1, "timeZone": "UTC", "policies": {"it": fields}}
    return read_document(json.dumps(document)).policies["it"]


def office(
    days: str = "mon-fri",
    begin: str = "07:00",
    end: str = "19:00",
    *,
    grace: int = 0,
    skip: tuple[str, ...] = (),
    zone: str = "Europe/Berlin",
) -> OutsideHours:
    hours = {"days": days, "from": begin, "to": end, "skip": skip}
    fields = {"kind": "OUTSIDE_HOURS", "hours": "office", "graceMinutes": grace}
    document = {"version": 1, "timeZone": zone, "hours": {"office": hours}, "policies": {"it": fields}}
    found = read_document(json.dumps(document)).policies["it"]
    assert isinstance(found, OutsideHours)
    return found


def remembered(
    session_id: str = "s-1",
    *,
    start: datetime | None = NOW - 60 * MINUTE,
    user: str = "jane",
    first_seen: datetime = NOW - 59 * MINUTE,
    draining_since: datetime | None = None,
    violations: tuple[Violation, ...] = (),
) -> Remembered:
    return Remembered(
        session=session(session_id=session_id, user_id=user, start_time=start),
        first_seen=first_seen,
        baseline=False,
        presence=Presence.CONNECTED,
        presence_since=first_seen,
        draining_since=draining_since,
        violations=violations,
    )


class TestTooLong:
    @pytest.mark.parametrize(
        ("start", "expected"),
        [
            pytest.param(NOW - 60 * MINUTE + timedelta(seconds=1), [], id="a second before"),
            pytest.param(NOW - 60 * MINUTE, [(60, NOW, "60", "60")], id="just now"),
            pytest.param(
                NOW - 63 * MINUTE - timedelta(seconds=59),
                [(60, NOW - timedelta(seconds=239), "60", "63")],
                id="later",
            ),
            pytest.param(
                NOW - 90 * MINUTE,
                [(60, NOW - 30 * MINUTE, "60", "90"), (90, NOW, "90", "90")],
                id="two thresholds, the smallest first",
            ),
            pytest.param(NOW + MINUTE, [], id="AWS's clock is ahead"),
            pytest.param(
                None, [(60, NOW + MINUTE - 2 * MINUTE, "60", "61")], id="no start: since it was first seen"
            ),
        ],
    )
    def test_it_counts_from_the_start(
        self, start: datetime | None, expected: list[tuple[int, datetime, str, str]]
    ) -> None:
        rule = policy(kind="TOO_LONG", minutes=[90, 60])
        found = violated(rule, [remembered(start=start, first_seen=NOW - 61 * MINUTE)], NOW)
        assert found == (
            {
                "s-1": tuple(
                    Violation("it", PolicyKind.TOO_LONG, threshold, since, limit, actual, rule.edition)
                    for threshold, since, limit, actual in expected
                )
            }
            if expected
            else {}
        )


class TestDraining:
    @pytest.mark.parametrize(
        ("since", "expected"),
        [
            pytest.param(None, [], id="it does not"),
            pytest.param(NOW - 29 * MINUTE, [], id="not yet"),
            pytest.param(NOW - 30 * MINUTE, [(30, NOW, "30", "30")], id="just now"),
            pytest.param(
                NOW - 61 * MINUTE,
                [(30, NOW - 31 * MINUTE, "30", "61"), (60, NOW - MINUTE, "60", "61")],
                id="two thresholds",
            ),
        ],
    )
    def test_it_counts_from_the_first_sight(
        self, since: datetime | None, expected: list[tuple[int, datetime, str, str]]
    ) -> None:
        rule = policy(kind="DRAINING", minutes=[30, 60])
        found = violated(rule, [remembered(draining_since=since)], NOW)
        assert [
            (each.threshold, each.since, each.limit, each.actual) for each in found.get("s-1", ())
        ] == expected
        assert all(each.kind is PolicyKind.DRAINING for each in found.get("s-1", ()))

    @pytest.mark.parametrize(
        ("since", "minutes", "expected"),
        [
            pytest.param(NOW, [30, 60], [60], id="a hole has just put the clock off"),
            pytest.param(NOW - 31 * MINUTE, [30, 60], [30, 60], id="a smaller one is crossed again"),
            pytest.param(NOW - 90 * MINUTE, [30, 60, 90], [30, 60, 90], id="a larger one is crossed"),
            pytest.param(NOW, [30], [], id="edited out"),
            pytest.param(None, [30, 60], [], id="it drains no more"),
        ],
    )
    def test_what_is_open_stays_crossed_while_the_host_drains(
        self, since: datetime | None, minutes: list[int], expected: list[int]
    ) -> None:
        rule = policy(kind="DRAINING", minutes=minutes)
        told = Violation("it", PolicyKind.DRAINING, 60, NOW - 5 * MINUTE, "60", "62", "of before")
        found = violated(rule, [remembered(draining_since=since, violations=(told,))], NOW).get("s-1", ())
        assert [each.threshold for each in found] == expected
        assert {each.edition for each in found} <= {rule.edition}

    @pytest.mark.parametrize(
        "told",
        [
            pytest.param(("another", PolicyKind.DRAINING), id="of another policy"),
            pytest.param(("it", PolicyKind.TOO_LONG), id="of another kind"),
        ],
    )
    def test_what_is_open_of_another_policy_does_not_count(self, told: tuple[str, PolicyKind]) -> None:
        open_one = Violation(*told, 30, NOW - 5 * MINUTE, "30", "35", "of before")
        each = remembered(draining_since=NOW, violations=(open_one,))
        assert violated(policy(kind="DRAINING", minutes=[30]), [each], NOW) == {}


class TestTooManySessions:
    RULE = policy(kind="TOO_MANY_SESSIONS", limit=2)

    def test_those_that_came_last_are_too_many(self) -> None:
        sessions = [
            remembered("s-1", start=NOW - 1 * MINUTE),
            remembered("s-2", start=NOW - 4 * MINUTE),
            remembered("s-3", start=NOW - 3 * MINUTE),
            remembered("s-4", start=NOW - 2 * MINUTE),
            remembered("s-5", start=NOW - 1 * MINUTE, user="joe"),
        ]
        expected = Violation("it", PolicyKind.TOO_MANY_SESSIONS, 0, NOW, "2", "4", self.RULE.edition)
        assert violated(self.RULE, sessions, NOW) == {"s-4": (expected,), "s-1": (expected,)}

    def test_of_two_that_came_at_once_the_id_decides(self) -> None:
        sessions = [remembered(f"s-{number}") for number in (3, 1, 2)]
        assert violated(self.RULE, sessions, NOW).keys() == {"s-3"}

    def test_without_a_start_the_first_sight_counts(self) -> None:
        sessions = [
            remembered("s-1", start=None, first_seen=NOW),
            remembered("s-2", start=NOW - MINUTE),
            remembered("s-3", start=NOW - MINUTE),
        ]
        assert violated(self.RULE, sessions, NOW).keys() == {"s-1"}

    def test_sessions_of_nobody_do_not_count(self) -> None:
        assert violated(self.RULE, [remembered(f"s-{number}", user="") for number in range(9)], NOW) == {}

    @given(st.dictionaries(st.text(max_size=2), st.tuples(st.sampled_from("abc"), st.integers(0, 3))))
    def test_as_many_as_are_allowed_are_left(self, sessions: dict[str, tuple[str, int]]) -> None:
        live = [
            remembered(each, user=user, start=NOW + minute * MINUTE)
            for each, (user, minute) in sessions.items()
        ]
        found = violated(self.RULE, live, NOW)
        for user in "abc":
            theirs = [each for each in live if each.session.user_id == user]
            left = [each for each in theirs if each.session.id not in found]
            assert len(left) == min(2, len(theirs))
            ranks = [(each.session.start_time or NOW, each.session.id) for each in left]
            for each in theirs:
                if each.session.id in found:
                    assert found[each.session.id][0].actual == str(len(theirs))
                    assert (each.session.start_time, each.session.id) > max(ranks)


class TestOutsideHours:
    def test_whoever_is_there_violates(self) -> None:
        rule, now = office(grace=30), utc("2026-03-02T18:31:00")
        sessions = [
            remembered("s-1", start=utc("2026-03-02T09:00:00")),
            remembered("s-2", start=utc("2026-03-02T18:30:30")),
            remembered("s-3", start=None, first_seen=now),
            remembered("s-4", start=utc("2026-03-02T18:40:00")),
        ]
        found = violated(rule, sessions, now)
        assert {each: [violation.since for violation in found[each]] for each in found} == {
            "s-1": [utc("2026-03-02T18:30:00")],
            "s-2": [utc("2026-03-02T18:30:30")],
            "s-3": [now],
            # AWS's clock is ahead.
            "s-4": [now],
        }
        assert found["s-1"] == (
            Violation(
                "it",
                PolicyKind.OUTSIDE_HOURS,
                0,
                utc("2026-03-02T18:30:00"),
                "mon-fri 07:00-19:00 Europe/Berlin",
                "2026-03-02 19:31 CET",
                rule.edition,
            ),
        )

    def test_in_hours_nobody_violates(self) -> None:
        assert violated(office(), [remembered()], NOW) == {}

    @pytest.mark.parametrize(
        ("rule", "now", "expected"),
        [
            pytest.param(
                office(), "2026-03-02T05:59:59", "2026-02-27T18:00:00", id="before the first second"
            ),
            pytest.param(office(), "2026-03-02T06:00:00", None, id="from the first second"),
            pytest.param(office(), "2026-03-02T17:59:59", None, id="until the last second"),
            pytest.param(office(), "2026-03-02T18:00:00", "2026-03-02T18:00:00", id="after it"),
            pytest.param(office(grace=30), "2026-03-02T18:29:59", None, id="in grace"),
            pytest.param(office(grace=30), "2026-03-02T18:30:00", "2026-03-02T18:30:00", id="after grace"),
            pytest.param(office(), "2026-03-07T12:00:00", "2026-03-06T18:00:00", id="a weekend"),
            pytest.param(
                office(grace=24 * 60),
                "2026-03-07T17:59:00",
                None,
                id="grace over the night, into a closed day",
            ),
            pytest.param(office(grace=24 * 60), "2026-03-03T12:00:00", None, id="grace into the next hours"),
            pytest.param(
                office(skip=("2026-03-02",)), "2026-03-02T12:00:00", "2026-02-27T18:00:00", id="a day to skip"
            ),
            pytest.param(
                office("mon-sun", "22:00", "06:00"),
                "2026-03-03T04:59:59",
                None,
                id="over midnight, still open",
            ),
            pytest.param(
                office("mon-sun", "22:00", "06:00"),
                "2026-03-03T05:00:00",
                "2026-03-03T05:00:00",
                id="over midnight, closed",
            ),
            pytest.param(
                office("mon", "22:00", "06:00"), "2026-03-03T02:00:00", None, id="Monday's hours on Tuesday"
            ),
            pytest.param(
                office("tue", "22:00", "06:00"),
                "2026-03-03T02:00:00",
                "2026-02-25T05:00:00",
                id="Tuesday's hours have not begun",
            ),
            pytest.param(
                office("mon-tue", "22:00", "06:00", skip=("2026-03-03",)),
                "2026-03-03T02:00:00",
                None,
                id="a day to skip skips what begins on it",
            ),
            pytest.param(
                office("mon-tue", "22:00", "06:00", skip=("2026-03-03",)),
                "2026-03-03T23:00:00",
                "2026-03-03T05:00:00",
                id="a day to skip skips all that begins on it",
            ),
            pytest.param(office("mon-sun", "00:00", "24:00"), "2026-03-02T23:00:00", None, id="always open"),
            pytest.param(
                office("mon", "00:00", "24:00"),
                "2026-03-03T12:00:00",
                "2026-03-02T23:00:00",
                id="until the end of the day",
            ),
            pytest.param(
                office("sun", skip=(*(f"2026-02-{day:02}" for day in (1, 8, 15, 22)), "2026-03-01")),
                "2026-03-02T12:00:00",
                "2026-01-25T18:00:00",
                id="more than a month ago",
            ),
        ],
    )
    def test_closed_since(self, rule: OutsideHours, now: str, expected: str | None) -> None:
        assert closed_since(rule, utc(now)) == (utc(expected) if expected else None)

    @pytest.mark.parametrize(
        ("rule", "now", "expected"),
        [
            # In Berlin it is 01:59 CET and then 03:00 CEST on 2026-03-29, at 01:00 UTC.
            pytest.param(office(), "2026-03-27T17:59:00", None, id="the Friday before: 18:59 CET"),
            pytest.param(office(), "2026-03-27T18:00:00", "2026-03-27T18:00:00", id="19:00 CET"),
            pytest.param(
                office(), "2026-03-30T04:59:00", "2026-03-27T18:00:00", id="the Monday after: 06:59 CEST"
            ),
            pytest.param(office(), "2026-03-30T05:00:00", None, id="07:00 CEST, an hour earlier in UTC"),
            pytest.param(
                office(), "2026-03-30T17:30:00", "2026-03-30T17:00:00", id="18:30 CET would still be open"
            ),
            pytest.param(
                office("sat", "22:00", "06:00"),
                "2026-03-29T03:59:00",
                None,
                id="a night that is an hour short",
            ),
            pytest.param(
                office("sat", "22:00", "06:00"), "2026-03-29T04:00:00", "2026-03-29T04:00:00", id="its end"
            ),
            pytest.param(
                office("sun", "02:30", "06:00"),
                "2026-03-29T01:29:00",
                "2026-03-22T05:00:00",
                id="a begin that does not exist",
            ),
            pytest.param(office("sun", "02:30", "06:00"), "2026-03-29T01:30:00", None, id="is 03:30 CEST"),
            pytest.param(
                office("sat", "22:00", "02:30"), "2026-03-29T01:29:00", None, id="an end that does not exist"
            ),
            pytest.param(
                office("sat", "22:00", "02:30"),
                "2026-03-29T01:30:00",
                "2026-03-29T01:30:00",
                id="is 03:30 CEST, too",
            ),
            pytest.param(
                office("sun", "02:30", "03:00"),
                "2026-03-29T02:00:00",
                "2026-03-22T02:00:00",
                id="hours that the switch swallows",
            ),
            # It is 02:59 CEST and then 02:00 CET on 2026-10-25, at 01:00 UTC.
            pytest.param(office(), "2026-10-26T05:59:00", "2026-10-23T17:00:00", id="06:59 CET"),
            pytest.param(office(), "2026-10-26T06:00:00", None, id="07:00 CET, an hour later in UTC"),
            pytest.param(office(), "2026-10-26T17:59:00", None, id="18:59 CET; CEST would be closed"),
            pytest.param(
                office("sun", "02:30", "06:00"),
                "2026-10-25T00:29:00",
                "2026-10-18T04:00:00",
                id="before 02:30 CEST",
            ),
            pytest.param(
                office("sun", "02:30", "06:00"), "2026-10-25T00:30:00", None, id="a begin that is there twice"
            ),
            pytest.param(office("sun", "02:30", "06:00"), "2026-10-25T01:15:00", None, id="is the first"),
            pytest.param(
                office("sat", "22:00", "02:30"), "2026-10-25T01:29:00", None, id="an end that is there twice"
            ),
            pytest.param(
                office("sat", "22:00", "02:30"),
                "2026-10-25T01:30:00",
                "2026-10-25T01:30:00",
                id="is the second",
            ),
        ],
    )
    def test_hours_hold_across_both_switches(
        self, rule: OutsideHours, now: str, expected: str | None
    ) -> None:
        assert closed_since(rule, utc(now)) == (utc(expected) if expected else None)

    def test_a_day_that_a_zone_left_out_has_its_hours_a_day_later(self) -> None:
        # In Apia the Saturday came after the Thursday: 2011-12-30 was left out at 10:00 UTC.
        rule = office("fri", zone="Pacific/Apia")
        assert closed_since(rule, utc("2011-12-30T16:59:00")) == utc("2011-12-24T05:00:00")
        assert closed_since(rule, utc("2011-12-30T17:00:00")) is None
        assert closed_since(rule, utc("2011-12-31T05:00:00")) == utc("2011-12-31T05:00:00")

    def test_hours_go_on_while_it_is_yesterday_again(self) -> None:
        # In St. John's it was 00:01 on Sunday and then 23:01 on Saturday, 2010-11-07 at 02:31 UTC.
        rule = office("sun", "00:00", "06:00", zone="America/St_Johns")
        assert closed_since(rule, utc("2010-11-07T02:29:00")) == utc("2010-10-31T08:30:00")
        assert closed_since(rule, utc("2010-11-07T02:30:00")) is None
        assert closed_since(rule, utc("2010-11-07T02:45:00")) is None

    def test_before_any_hours_nothing_is_closed(self) -> None:
        rule = office("mon", zone="UTC", skip=("0001-01-01",))
        assert closed_since(rule, datetime(1, 1, 3, tzinfo=UTC)) is None

    def test_the_actual_time_names_its_zone(self) -> None:
        now = utc("2026-07-01T20:00:00")
        found = violated(office(), [remembered(start=NOW)], now)
        assert found["s-1"][0].actual == "2026-07-01 22:00 CEST"


class Window(NamedTuple):
    """Weeks around a switch of clocks, minute by minute: the local time of each."""

    zone: str
    begin: datetime
    local: list[datetime]
    minutes_of: dict[datetime, list[int]]


WINDOWS = {
    "Europe/Berlin forward": ("Europe/Berlin", "2026-03-10T00:00:00"),
    "Europe/Berlin back": ("Europe/Berlin", "2026-10-06T00:00:00"),
    "over midnight, back": ("America/St_Johns", "2010-10-20T00:00:00"),
    "over midnight, forward": ("America/Sao_Paulo", "2018-10-16T00:00:00"),
    "by half an hour": ("Australia/Lord_Howe", "2026-03-18T00:00:00"),
    "a day that is left out": ("Pacific/Apia", "2011-12-12T00:00:00"),
    "never": ("Asia/Kolkata", "2026-03-10T00:00:00"),
}
WEEKS = 4


@cache
def window(name: str) -> Window:
    zone, begin = WINDOWS[name]
    local = [
        (utc(begin) + minute * MINUTE).astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0)
        for minute in range(WEEKS * 7 * 24 * 60)
    ]
    minutes_of: dict[datetime, list[int]] = {}
    for minute, each in enumerate(local):
        minutes_of.setdefault(each, []).append(minute)
    return Window(zone, utc(begin), local, minutes_of)


def when(local: datetime, weeks: Window) -> list[int]:
    """Return the minutes at which clocks show a time; if none do, the one by the clock before the switch."""
    if local in weeks.minutes_of:
        return weeks.minutes_of[local]
    before = next(minute for minute, each in enumerate(weeks.local) if each > local) - 1
    return [before + round((local - weeks.local[before]) / MINUTE)]


def spans(rule: dict[str, Any], weeks: Window) -> Iterator[tuple[int, int]]:
    """Yield the minutes in which hours begin and end, read from the words of the document."""
    first, last = weeks.local[0].date(), weeks.local[-1].date()
    day = first + timedelta(days=1)
    while day < last - timedelta(days=1):
        if DAYS[day.weekday()] in rule["days"] and day not in rule["skip"]:
            midnight = datetime.combine(day, datetime.min.time())
            begin, end = midnight + rule["from"] * MINUTE, midnight + rule["to"] * MINUTE
            end += timedelta(days=1) if end <= begin else timedelta()
            yield min(when(begin, weeks)), max(when(end, weeks))
        day += timedelta(days=1)


def clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


# Around the switches most of all.
times = st.sampled_from([0, 1, 29, 30, 60, 90, 119, 120, 121, 150, 179, 180]) | st.integers(0, 24 * 60 - 1)


@settings(max_examples=200)
@given(
    st.sampled_from(list(WINDOWS)),
    st.fixed_dictionaries(
        {
            "days": st.sets(st.sampled_from(DAYS), min_size=1),
            "from": times,
            "to": times,
            "skip": st.sets(st.integers(0, WEEKS * 7 - 1), max_size=3),
            "grace": st.sampled_from([0, 0, 1, 30, 61, 600, 2_000]),
        }
    ).filter(lambda rule: rule["from"] != rule["to"]),
    st.lists(st.integers(0, WEEKS * 7 * 24 * 60 - 1), max_size=20),
)
def test_hours_are_what_clocks_on_the_wall_say(name: str, rule: dict[str, Any], minutes: list[int]) -> None:
    weeks = window(name)
    rule = rule | {"skip": {weeks.local[0].date() + timedelta(days=day) for day in rule["skip"]}}
    policy = office(
        ",".join(sorted(rule["days"])),
        clock(rule["from"]),
        clock(rule["to"]),
        grace=rule["grace"],
        skip=tuple(map(date.isoformat, rule["skip"])),
        zone=weeks.zone,
    )
    is_open = bytearray(len(weeks.local))
    opened = [(begin, end) for begin, end in spans(rule, weeks) if begin < end]
    for begin, end in opened:
        is_open[begin:end] = b"\1" * (end - begin)
    edges = {edge for span in opened for edge in span}
    near = [edge + delta for edge in edges for delta in (-1, 0, 1, rule["grace"] - 1, rule["grace"])]
    # What comes last is beyond the days of which all minutes are known.
    known = [each for each in (*minutes, *near) if 0 <= each < len(is_open) - 4 * 24 * 60]
    for minute in known:
        last_open = is_open.rfind(1, 0, minute + 1)
        if last_open < 0:
            continue
        closed = last_open + 1 + rule["grace"]
        expected = None if closed > minute else weeks.begin + closed * MINUTE
        assert closed_since(policy, weeks.begin + minute * MINUTE) == expected, weeks.local[minute]
