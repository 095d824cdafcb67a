"""What people ask of the table: live rows as histories leave them, peaks and sums against brute force."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_auditor.model import (
    Cause,
    DetailType,
    Ending,
    EndReason,
    Event,
    Globs,
    Life,
    Options,
    PolicyKind,
    Presence,
    Remembered,
    Scope,
    Snapshot,
    Violation,
)
from session_auditor.model import Fault as FleetFault
from session_auditor.views import (
    By,
    Fault,
    Filter,
    Peak,
    Row,
    Sort,
    Sums,
    by_hour,
    coming,
    grouped,
    levels,
    live,
    once,
    ordered,
    peak,
    status,
    sums,
    totals,
)
from session_auditor.views import lives as lives_of
from tests.shared.history import AWAY, CONNECTED, SCOPE, START, History, at, session

LAB = Scope("lab", "render")
TOO_LONG = Violation("too-long", PolicyKind.TOO_LONG, 10, at(11), "10", "10", "edition")
TOO_MANY = Violation("two-at-most", PolicyKind.TOO_MANY_SESSIONS, 0, at(12), "2", "3", "edition")
HOLE = timedelta(minutes=5)
MINUTE = timedelta(minutes=1)
SEEN = session(session_id="at-work"), session(AWAY, "left"), session(AWAY, "never-there")


def rows(history: History, minute: float, hole: timedelta = HOLE) -> dict[str, Row]:
    return {row.session.id: row for row in live(history.snapshot, at(minute), hole)}


def violating(history: History, **violations: tuple[Violation, ...]) -> History:
    """Let sessions, by id, violate policies."""
    sessions = dict(history.snapshot.sessions)
    for session_id, open_ones in violations.items():
        stored = sessions[session_id]
        remembered: Remembered = replace(stored.remembered, violations=open_ones)
        sessions[session_id] = replace(stored, remembered=remembered)
    history.snapshot = replace(history.snapshot, sessions=sessions)
    return history


@pytest.fixture
def office() -> History:
    """Minute 20 of an office: at work, away since minute 3, never there, and one who is missing."""
    history = History(options=Options(), timeout=3600)
    history.observe(0)
    both = session(session_id="at-work"), session(session_id="missing", user_id="kim@example.com")
    never = session(AWAY, "never-there", instance_id="i-1", eni_private_ip_address="10.0.0.7")
    for minute in range(1, 20):
        left = session(CONNECTED if minute < 3 else AWAY, "left")
        history.observe(minute, *both, left, never)
    history.observe(20, both[0], session(AWAY, "left"), never)
    return history


class TestRows:
    """Live sessions, as far as anybody looked."""

    def test_presence_and_since_when(self, office: History) -> None:
        found = {name: (row.presence, row.since) for name, row in rows(office, 20).items()}
        assert found == {
            "at-work": (Presence.CONNECTED, at(1)),
            "left": (Presence.DISCONNECTED, at(3)),
            "missing": (Presence.CONNECTED, at(1)),
            "never-there": (Presence.NEVER_CONNECTED, at(1)),
        }

    def test_away_abandoned_and_the_deadline(self, office: History) -> None:
        left, at_work = rows(office, 20)["left"], rows(office, 20)["at-work"]
        assert left.away(at(20)) == 17 * MINUTE
        assert left.abandoned == 15
        assert (left.deadline.at, left.deadline.cause) == (at(63), Cause.DISCONNECT_TIMEOUT)
        assert at_work.away(at(20)) == timedelta()
        assert (at_work.deadline.at, at_work.abandoned) == (at(600), 0)

    def test_when_it_was_seen(self, office: History) -> None:
        found = {name: row.seen for name, row in rows(office, 20).items()}
        assert found == {"at-work": at(20), "left": at(20), "missing": at(19), "never-there": at(20)}

    def test_nothing_is_claimed_while_nobody_looks(self, office: History) -> None:
        for minute in range(21, 30):
            office.observe(minute, failed={SCOPE: "ThrottlingException"})
        left = rows(office, 29)["left"]
        assert (left.watched, left.seen, left.away(at(29))) == (False, at(20), timedelta())
        assert left.deadline.cause is Cause.MAX_DURATION

    def test_after_a_hole_clocks_begin_anew(self, office: History) -> None:
        office.observe(40, session(session_id="at-work"), session(AWAY, "left"))
        left = rows(office, 45)["left"]
        assert (left.watched, left.since, left.away(at(45))) == (True, at(40), 5 * MINUTE)
        assert left.deadline.at == at(100)

    def test_an_end_that_waits_to_be_published_is_no_live_session(self, office: History) -> None:
        ending = Ending(EndReason.USER_OR_ADMIN, at(19), at(20))
        left = office.snapshot.sessions["left"]
        ended = replace(left, remembered=replace(left.remembered, ending=ending))
        snapshot = replace(office.snapshot, sessions={**office.snapshot.sessions, "left": ended})
        assert [row.session.id for row in live(snapshot, at(20), HOLE)] == [
            "at-work",
            "missing",
            "never-there",
        ]

    def test_the_policies_that_it_violates_each_once(self, office: History) -> None:
        longer = replace(TOO_LONG, threshold=20)
        found = rows(violating(office, missing=(TOO_LONG, longer, TOO_MANY), left=(TOO_MANY,)), 20)
        names = {name: row.policies for name, row in found.items()}
        assert names.pop("missing") == ("too-long", "two-at-most")
        assert names.pop("left") == ("two-at-most",)
        assert set(names.values()) == {()}

    def test_a_violation_lasts_while_nobody_looks(self, office: History) -> None:
        violating(office, left=(TOO_MANY,))
        for minute in range(21, 30):
            office.observe(minute, failed={SCOPE: "ThrottlingException"})
        left = rows(office, 29)["left"]
        assert (left.watched, left.policies) == (False, ("two-at-most",))

    def test_totals(self, office: History) -> None:
        assert totals(rows(office, 20).values()) == {
            Presence.CONNECTED: 2,
            Presence.DISCONNECTED: 1,
            Presence.NEVER_CONNECTED: 1,
            Presence.UNKNOWN: 0,
        }


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        pytest.param(Filter(), ["at-work", "left", "missing", "never-there"], id="everybody"),
        pytest.param(Filter(user="kim@*"), ["missing"], id="a user"),
        pytest.param(Filter(stacks=Globs(include=("lab",))), [], id="another stack"),
        pytest.param(Filter(fleets=Globs(exclude=("cad",))), [], id="not that fleet"),
        pytest.param(Filter(host="i-1"), ["never-there"], id="an instance"),
        pytest.param(Filter(host="10.0.0.7"), ["never-there"], id="an address"),
        pytest.param(Filter(presences=frozenset([Presence.DISCONNECTED])), ["left"], id="who left"),
        pytest.param(Filter(away_longer_than=17 * MINUTE), ["never-there"], id="longer is not as long"),
        pytest.param(Filter(ends_within=43 * MINUTE), ["left"], id="who ends within"),
    ],
)
def test_filters(office: History, wanted: Filter, names: list[str]) -> None:
    assert [name for name, row in rows(office, 20).items() if wanted.wants(row, at(20))] == names


@pytest.mark.parametrize(
    ("by", "names"),
    [
        (Sort.URGENCY, ["left", "never-there", "at-work", "missing"]),
        (Sort.AWAY, ["never-there", "left", "at-work", "missing"]),
        (Sort.ENDS, ["left", "at-work", "missing", "never-there"]),
        (Sort.USER, ["at-work", "left", "never-there", "missing"]),
        (Sort.STARTED, ["at-work", "left", "missing", "never-there"]),
    ],
)
def test_orders(office: History, by: Sort, names: list[str]) -> None:
    assert [row.session.id for row in ordered(rows(office, 20).values(), by, at(20))] == names


times = st.integers(0, 60 * 60).map(lambda minutes: START + timedelta(minutes=minutes))
lives = st.lists(
    st.builds(
        Life,
        session_id=st.just("s"),
        user_id=st.sampled_from(["ann", "bob"]),
        scope=st.sampled_from([SCOPE, LAB]),
        start=times,
        first_seen=times,
        end=st.none() | times,
        connected_seconds=st.integers(0, 10),
        disconnected_seconds=st.integers(0, 10),
        never_connected_seconds=st.integers(0, 10),
    ),
    max_size=12,
)


def sessions_at(found: list[Life], moment: datetime) -> int:
    return sum(life.start <= moment and (life.end is None or moment < life.end) for life in found)


def counted(found: list[Life], since: datetime, until: datetime) -> Peak:
    """The peak, by looking at every minute: all times here are whole minutes."""
    moments = [since + minute * MINUTE for minute in range(int((until - since) / MINUTE))]
    best = Peak(0, None)
    for moment in moments:
        if (number := sessions_at(found, moment)) > best.sessions:
            best = Peak(number, moment)
    return best


@given(found=lives, since=times, minutes=st.integers(1, 300))
def test_the_peak_is_what_counting_finds(found: list[Life], since: datetime, minutes: int) -> None:
    until = since + minutes * MINUTE
    assert peak(found, since, until) == counted(found, since, until)


@given(found=lives, since=times, minutes=st.integers(1, 300))
def test_every_hour_has_its_own_peak(found: list[Life], since: datetime, minutes: int) -> None:
    until = since + minutes * MINUTE
    hours = list(by_hour(found, since, until))
    assert [begin for begin, _ in hours] == [
        since + number * timedelta(hours=1) for number in range(-(-minutes // 60))
    ]
    for begin, most in hours:
        assert most == counted(found, begin, min(begin + timedelta(hours=1), until))


@given(found=lives, by=st.sampled_from(By))
def test_sums_lose_nothing(found: list[Life], by: By) -> None:
    groups = grouped(found, by, START, UTC)
    assert list(groups) == sorted(groups)
    result = [sums(each) for each in groups.values()]
    assert sum(each.lives for each in result) == len(found)
    for field in ("connected_seconds", "alone_seconds", "never_connected_seconds"):
        assert sum(getattr(each, field) for each in result) == sum(getattr(life, field) for life in found)


def test_a_life_belongs_to_the_local_day_of_its_end() -> None:
    late = Life(
        session_id="s",
        scope=SCOPE,
        start=at(0),
        first_seen=at(0),
        end=datetime(2026, 3, 31, 22, 30, tzinfo=UTC),
        user_id="ann",
        connected_seconds=60,
        disconnected_seconds=20,
        never_connected_seconds=10,
    )
    alive = replace(late, end=None)
    now = datetime(2026, 3, 31, 21, 0, tzinfo=UTC)
    zone = ZoneInfo("Europe/Berlin")
    assert grouped([late, alive], By.DAY, now, zone) == {"2026-03-31": [alive], "2026-04-01": [late]}
    assert list(grouped([late, alive], By.MONTH, now, zone)) == ["2026-03", "2026-04"]
    assert list(grouped([late], By.USER, now, zone)) == ["ann"]
    assert list(grouped([late], By.FLEET, now, zone)) == ["cad"]
    assert sums([late, alive]) == Sums(2, 120, 60, 20)


@pytest.mark.parametrize(
    ("policy", "names"),
    [
        pytest.param("", ["at-work", "left", "missing", "never-there"], id="whether or not"),
        pytest.param("two-at-most", ["left", "missing"], id="a policy"),
        pytest.param("too-*", ["missing"], id="a glob"),
        pytest.param("*", ["left", "missing"], id="any policy"),
        pytest.param("two", [], id="no part of a name"),
    ],
)
def test_a_filter_by_policy(office: History, policy: str, names: list[str]) -> None:
    found = rows(violating(office, missing=(TOO_LONG, TOO_MANY), left=(TOO_MANY,)), 20)
    wanted = Filter(policy=policy)
    assert [name for name, row in found.items() if wanted.wants(row, at(20))] == names


class TestWhatIsComing:
    """What will be told, if nothing happens: it is what then is told."""

    @pytest.mark.parametrize(
        ("presence", "options"),
        [
            pytest.param(CONNECTED, Options(), id="somebody at work"),
            pytest.param(AWAY, Options(), id="somebody away"),
            pytest.param(AWAY, Options(abandoned_minutes=(5, 7, 200)), id="other thresholds"),
        ],
    )
    @pytest.mark.parametrize("asked", [2, 21, 48])
    def test_it_comes_to_pass(self, presence: str, options: Options, asked: int) -> None:
        history = History(options=options, timeout=3600)
        lasting = session(presence, max_expiration_time=at(90))
        history.observe(0)
        history.observe(1, session(max_expiration_time=at(90)))
        for minute in range(2, asked + 1):
            history.observe(minute, lasting)
        promised = coming(rows(history, asked, options.hole)["s-1"], at(asked), options)
        told = []
        for minute in range(asked + 1, 90):
            told += [
                (at(minute), event["type"], event["data"].get("thresholdMinutes"))
                for event in history.observe(minute, lasting)
            ]
        ends = at(90) if presence == CONNECTED else at(62)
        before_its_end = [each for each in told if each[0] < ends]
        assert [(each.at, each.detail_type[10:], each.threshold) for each in promised[:-1]] == before_its_end
        assert (promised[-1].at, promised[-1].detail_type) == (ends, DetailType.ENDED)

    def test_of_nobody_who_is_not_watched_anything_is_claimed_but_the_maximum(self, office: History) -> None:
        (end,) = [
            each
            for each in coming(rows(office, 300)["left"], at(300), Options())
            if each.detail_type is DetailType.ENDED
        ]
        assert (end.at, end.cause) == (at(600), Cause.MAX_DURATION)


class TestStatus:
    """A target at a glance, and what is wrong with its audit."""

    def test_of_an_office(self, office: History) -> None:
        found = status(office.snapshot, live(office.snapshot, at(20), HOLE))
        assert (found.live, found.away, found.abandoned, found.swept) == (4, 2, 2, at(20))
        assert found.faults(at(20), MINUTE) == ()
        assert found.faults(at(23), MINUTE) == ()
        assert found.faults(at(23.1), MINUTE) == (Fault.NO_SWEEP,)

    def test_how_many_sessions_violate_a_policy(self, office: History) -> None:
        assert status(office.snapshot, live(office.snapshot, at(20), HOLE)).violating == 0
        violating(office, missing=(TOO_LONG, TOO_MANY), left=(TOO_MANY,))
        assert status(office.snapshot, live(office.snapshot, at(20), HOLE)).violating == 2

    def test_fleets_with_errors_are_no_fault_of_the_audit(self, office: History) -> None:
        faults = tuple(FleetFault(name, at(5), "DOMAIN_JOIN_ERROR", 1) for name in ("gis", "cad"))
        snapshot = replace(office.snapshot, target=replace(office.target, faults=faults))
        found = status(snapshot, live(snapshot, at(20), HOLE))
        assert [fault.fleet for fault in found.faulted] == ["cad", "gis"]
        assert found.faults(at(20), MINUTE) == ()

    def test_a_table_without_a_sweep(self) -> None:
        found = status(Snapshot(), ())
        assert (found.live, found.swept, found.faults(at(0), MINUTE)) == (0, None, (Fault.NO_SWEEP,))

    def test_a_gap_is_degraded_once_it_was_told_of(self, office: History) -> None:
        for minute, degraded in ((21, 0), (25, 0), (26, 1), (27, 1)):
            office.observe(minute, failed={SCOPE: "ThrottlingException"})
            assert len(status(office.snapshot, live(office.snapshot, at(minute), HOLE)).degraded) == degraded
        assert status(office.snapshot, live(office.snapshot, at(27), HOLE)).faults(at(27), MINUTE) == (
            Fault.DEGRADED,
        )
        office.observe(28, *SEEN)
        assert status(office.snapshot, live(office.snapshot, at(28), HOLE)).degraded == ()

    def test_an_event_that_waits(self, office: History) -> None:
        (stored,) = [each for name, each in office.snapshot.sessions.items() if name == "left"]
        event = Event(DetailType.DISCONNECTED, "0" * 32, at(16), (), "{}")
        waiting = replace(office.snapshot, sessions={"left": replace(stored, outbox=(event,))})
        found = status(waiting, live(waiting, at(20), HOLE))
        assert (found.pending, found.waiting) == (1, at(16))
        assert found.faults(at(20.9), MINUTE) == ()
        assert found.faults(at(21), MINUTE) == (Fault.EVENTS_WAIT,)


def test_live_sessions_are_lives_too(office: History) -> None:
    found = {
        life.session_id: life
        for life in lives_of(office.snapshot, live(office.snapshot, at(20), HOLE), at(20))
    }
    assert found["at-work"].connected_seconds == 19 * 60
    assert (found["left"].connected_seconds, found["left"].disconnected_seconds) == (120, 17 * 60)
    assert found["never-there"].never_connected_seconds == 19 * 60
    assert found["missing"].connected_seconds == 18 * 60
    assert {life.end for life in found.values()} == {None}


def test_no_use_is_claimed_of_a_hole() -> None:
    for connection, field in ((CONNECTED, "connected_seconds"), (AWAY, "never_connected_seconds")):
        history = History(options=Options(), timeout=None)
        history.observe(0)
        for minute in (*range(1, 11), *range(130, 141)):
            history.observe(minute, session(connection))
        (life,) = lives_of(history.snapshot, live(history.snapshot, at(140), HOLE), at(140))
        assert getattr(life, field) == 10 * 60, "since the hole was over"


def test_an_end_that_waits_to_be_published_is_a_life_and_once(office: History) -> None:
    ending = Ending(EndReason.USER_OR_ADMIN, at(19), at(20))
    left = office.snapshot.sessions["left"]
    ended = replace(left, remembered=replace(left.remembered, ending=ending))
    snapshot = replace(office.snapshot, sessions={"left": ended})
    (life,) = lives_of(snapshot, live(snapshot, at(25), HOLE), at(25))
    assert (life.end, life.reason, life.disconnected_seconds) == (at(20), EndReason.USER_OR_ADMIN, 17 * 60)
    assert once([life, life]) == [life]


def test_hours_of_a_day_with_an_hour_twice_are_25() -> None:
    begin = datetime(2026, 10, 25, tzinfo=ZoneInfo("Europe/Berlin"))
    until = datetime(2026, 10, 26, tzinfo=ZoneInfo("Europe/Berlin"))
    hours = [hour for hour, _ in by_hour([], begin, until)]
    assert len(hours) == len(set(hours)) == 25


connections = st.sampled_from([CONNECTED, AWAY, AWAY, "", "gap"])


@given(steps=st.lists(connections, min_size=2, max_size=30), timeout=st.sampled_from([None, 1800, 3600]))
def test_what_is_coming_is_what_comes(steps: list[str], timeout: int | None) -> None:
    """Whatever was before, holes and unknown states, too: what is promised is what then is told."""
    options = Options(abandoned_minutes=(5, 15, 60))
    history = History(options=options, timeout=timeout)
    history.observe(0)
    minute, last = 1, AWAY
    for step in steps:
        if step == "gap":
            minute += 9
            continue
        last = step
        history.observe(minute, session(step, max_expiration_time=at(240)))
        minute += 1
    if "s-1" not in history.snapshot.sessions:
        return
    asked = minute - 1
    promised = coming(rows(history, asked, options.hole)["s-1"], at(asked), options)
    if not history.snapshot.target or history.snapshot.target.last_begin != at(asked):
        return
    told: list[tuple[datetime, str, int]] = []
    ends = next((each.at for each in promised if each.detail_type is DetailType.ENDED), at(500))
    for later in range(asked + 1, 240):
        told += [
            (at(later), event["type"], event["data"].get("thresholdMinutes", 0))
            for event in history.observe(later, session(last, max_expiration_time=at(240)))
            if at(later) < ends
        ]
    expected = [(each.at, each.detail_type[10:], each.threshold) for each in promised if each.at < ends]
    assert expected == told


@given(found=lives, since=times, minutes=st.integers(1, 300), slots=st.integers(1, 20))
def test_the_level_at_the_end_of_each_slot_is_what_counting_finds(
    found: list[Life], since: datetime, minutes: int, slots: int
) -> None:
    slot = minutes * MINUTE
    ends = [since + (number + 1) * slot for number in range(slots)]
    on = [(life.start, life.end) for life in found]
    assert levels(on, since, since + slots * slot, slots) == [sessions_at(found, end) for end in ends]
