"""Listing: what AppStream may answer, and which scopes arrived whole."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import count
from threading import Barrier
from threading import Event as Flag
from typing import Any

import pytest

from session_auditor.coverage import audit
from session_auditor.errors import TopologyError
from session_auditor.listing import SessionLister, utc
from session_auditor.model import (
    WHOLE_TARGET,
    AuthenticationMode,
    AuthenticationType,
    Failure,
    Fleet,
    Gap,
    Globs,
    Listing,
    Options,
    Scope,
    Snapshot,
    Target,
    UserIdMode,
)
from session_auditor.topology import TopologyReader
from session_auditor.user_ids import user_ids
from tests.shared.aws import Wire, boto_client, client_error, raising
from tests.shared.history import History, at, session

CAD, GIS, LAB = Scope("office", "cad"), Scope("office", "gis"), Scope("lab", "cad")
SETTLED = Snapshot(
    Target(at(0), authentication=AuthenticationMode.UNFILTERED), scopes=frozenset([CAD, GIS, LAB])
)


def record(session_id: Any, **fields: Any) -> dict[str, Any]:
    return {"Id": session_id, "UserId": "jane", "State": "ACTIVE", "ConnectionState": "CONNECTED"} | fields


class Estate:
    """Three scopes; sessions by scope, served in pages of two."""

    def __init__(self, wire: Wire) -> None:
        self.sessions: dict[Scope, list[Any]] = {CAD: [], GIS: [], LAB: []}
        self.wire = wire
        self.fail: Callable[[dict[str, Any]], None] = lambda _: None
        wire.answers |= {
            "DescribeStacks": lambda _: {
                "Stacks": [{"Name": each} for each in sorted({s.stack for s in self.sessions})]
            },
            "DescribeFleets": lambda _: {
                "Fleets": [{"Name": "cad", "DisconnectTimeoutInSeconds": 900}, {"Name": "gis"}]
            },
            "ListAssociatedFleets": lambda p: {
                "Names": [s.fleet for s in self.sessions if s.stack == p["StackName"]]
            },
            "DescribeSessions": self.describe_sessions,
        }

    def describe_sessions(self, parameters: dict[str, Any]) -> dict[str, Any]:
        self.fail(parameters)
        kind = parameters.get("AuthenticationType")
        listed = [
            each
            for each in self.sessions[Scope(parameters["StackName"], parameters["FleetName"])]
            if kind is None or not isinstance(each, dict) or each.get("AuthenticationType", "API") == kind
        ]
        start = int(parameters.get("NextToken", 0))
        more = {"NextToken": str(start + 2)} if start + 2 < len(listed) else {}
        return {"Sessions": listed[start : start + 2], **more}


@pytest.fixture
def estate(monkeypatch: pytest.MonkeyPatch) -> Estate:
    return Estate(Wire(monkeypatch))


def appstream(
    workers: int = 2,
    topology_for: timedelta = timedelta(minutes=5),
    user_id: Callable[[str], str] = str,
) -> SessionLister:
    client = boto_client("appstream")
    topology = TopologyReader(client, workers=workers, keep_for=topology_for)
    return SessionLister(client, topology, workers=workers, user_id=user_id)


def listing(
    auditor: SessionLister | None = None,
    snapshot: Snapshot = SETTLED,
    options: Options | None = None,
    minute: float = 1,
    time_left: Callable[[], float] = lambda: 60.0,
) -> Listing:
    return (auditor or appstream()).list(
        snapshot, options or Options(), at(minute), lambda: at(minute), time_left
    )


def test_every_page_of_every_scope(estate: Estate) -> None:
    estate.sessions[CAD] = [record(f"c{number}") for number in range(5)]
    estate.sessions[LAB] = [record("l0")]
    found = listing()
    assert {each.id: each.scope for each in found.sessions.values()} == {
        **{f"c{number}": CAD for number in range(5)},
        "l0": LAB,
    }
    assert (found.scopes, found.failed) == ({CAD, GIS, LAB}, {})
    assert found.facts.fleets == {"cad": Fleet(900), "gis": Fleet()}
    calls = estate.wire.parameters("DescribeSessions")
    assert len(calls) == 5
    assert {call["Limit"] for call in calls} == {50}


def test_duplicates_across_pages_collapse_in_whatever_order(estate: Estate) -> None:
    active, expired = record("c0"), record("c0", State="EXPIRED")
    for order in ([active, record("c1"), expired], [expired, record("c1"), active]):
        estate.sessions[CAD] = order
        assert {each.id: each.state for each in listing().sessions.values()} == {
            "c0": "EXPIRED",
            "c1": "ACTIVE",
        }


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        pytest.param(client_error("ThrottlingException"), "ThrottlingException", id="throttled for good"),
        pytest.param(
            client_error("ResourceNotFoundException"), "ResourceNotFoundException", id="deleted fleet"
        ),
        pytest.param(TypeError("'NoneType' object is not iterable"), "MALFORMED_ANSWER", id="botocore trips"),
        pytest.param(TimeoutError, None, id="a bug of ours is no coverage"),
    ],
)
def test_a_failing_page_costs_its_scope_only(estate: Estate, broken: Exception, reason: str | None) -> None:
    estate.sessions[CAD] = [record(f"c{number}") for number in range(4)]
    estate.sessions[LAB] = [record("l0")]

    def fail(parameters: dict[str, Any]) -> None:
        if parameters["StackName"] == "office" and "NextToken" in parameters:
            raise broken

    estate.fail = fail
    if reason is None:
        with pytest.raises(TimeoutError):
            listing()
        return
    found = listing()
    assert found.failed == {CAD: Failure(reason)}
    assert set(found.sessions) == {"c0", "c1", "l0"}


@pytest.mark.parametrize(
    "page",
    [
        pytest.param({}, id="no sessions at all"),
        pytest.param({"Sessions": None}, id="null"),
        pytest.param({"Sessions": "all of them"}, id="text"),
        pytest.param({"Sessions": [None]}, id="a session that is none"),
        pytest.param({"Sessions": [{"UserId": "jane"}]}, id="a session without id"),
        pytest.param({"Sessions": [record("")]}, id="an empty id"),
        pytest.param({"Sessions": [record(7)]}, id="a number for an id"),
        pytest.param({"Sessions": [record("x" * 10_000)]}, id="an id that fits no key"),
        pytest.param({"Sessions": [record("\ud800")]}, id="an id that UTF-8 cannot write"),
        pytest.param({"Sessions": [], "NextToken": "again"}, id="a token that repeats"),
    ],
)
def test_a_malformed_answer_makes_its_scope_incomplete(estate: Estate, page: dict[str, Any]) -> None:
    estate.sessions[LAB] = [record("l0")]
    serve = estate.describe_sessions
    estate.wire.answers["DescribeSessions"] = lambda p: page if p["FleetName"] == "gis" else serve(p)
    found = listing()
    assert set(found.failed) == {GIS}
    assert set(found.sessions) == {"l0"}


def test_a_broken_field_costs_itself_only(estate: Estate) -> None:
    estate.sessions[CAD] = [
        {
            "Id": "c0",
            "UserId": ["jane"],
            "State": "DREAMING",
            "ConnectionState": 7,
            "StartTime": "yesterday",
            "MaxExpirationTime": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))),
            "NetworkAccessConfiguration": "none",
            "InstanceId": "i" * 10_000,
            "InstanceDrainStatus": None,
            "Colour": "blue",
        },
        {
            "Id": "c1",
            "UserId": "\ud800jane",
            "StartTime": datetime(2026, 3, 2, 8, 0, 30, 999_999, tzinfo=UTC).replace(tzinfo=None),
            "MaxExpirationTime": datetime(2026, 3, 2, 20, 0, tzinfo=timezone(timedelta(hours=2))),
            "NetworkAccessConfiguration": {"EniId": "eni-1", "EniPrivateIpAddress": "10.0.0.1"},
        },
    ]
    found = listing()
    assert found.failed == {}
    broken, odd = found.sessions["c0"], found.sessions["c1"]
    assert (broken.user_id, broken.state, broken.connection_state) == ("", "DREAMING", "")
    assert (broken.start_time, broken.max_expiration_time, len(broken.instance_id)) == (None, None, 512)
    assert odd.user_id == "?jane"
    assert odd.start_time == datetime(2026, 3, 2, 8, 0, 30, tzinfo=UTC)
    assert odd.max_expiration_time == datetime(2026, 3, 2, 18, 0, tzinfo=UTC)
    assert (odd.eni_id, odd.eni_private_ip_address) == ("eni-1", "10.0.0.1")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(1_772_438_400, at(0), id="seconds"),
        pytest.param(1_772_438_400.75, at(0) + timedelta(milliseconds=750), id="with a fraction"),
        pytest.param("2026-03-02T08:00:00Z", at(0), id="text"),
        pytest.param("2026-03-02T09:00:00+01:00", at(0), id="text of another zone"),
        pytest.param("soon", None, id="no time"),
        pytest.param({"at": 0}, None, id="another form"),
        pytest.param(1e12, None, id="beyond the year 9999"),
        pytest.param(1e20, None, id="beyond the platform's clock"),
        pytest.param(float("nan"), None, id="no number"),
    ],
)
def test_times_are_read_in_utc(value: Any, expected: datetime | None) -> None:
    assert utc(value) == expected


def test_a_listing_that_never_ends_is_cut_off(estate: Estate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("session_auditor.paging.PAGES_LIMIT", 20)
    serve = estate.describe_sessions

    def endless(parameters: dict[str, Any]) -> dict[str, Any]:
        if parameters["FleetName"] != "gis":
            return serve(parameters)
        return {"Sessions": [record("g0")], "NextToken": parameters.get("NextToken", "") + "x"}

    estate.wire.answers["DescribeSessions"] = endless
    assert listing().failed == {GIS: Failure("LISTING_TOO_LONG")}


class TestDeadline:
    """Rule 8: listing stops in time, and what was not covered goes first next time."""

    def test_what_is_not_listed_in_time_is_not_covered(self, estate: Estate) -> None:
        estate.sessions[CAD] = [record(f"c{number}") for number in range(5)]
        left = [60.0] * 4

        found = listing(
            appstream(workers=1),
            replace(SETTLED, scopes=frozenset()),
            time_left=lambda: left.pop() if left else 0.0,
        )
        assert {failure.reason for failure in found.failed.values()} == {"DEADLINE"}
        assert found.observed_at == at(1)

    def test_a_call_that_hangs_is_left_behind(self, estate: Estate) -> None:
        estate.sessions[CAD] = [record("c0")]
        late, done = Flag(), Flag()
        serve = estate.describe_sessions

        def hang(parameters: dict[str, Any]) -> dict[str, Any]:
            if parameters["FleetName"] == "gis":
                late.set()
                done.wait(30)
            return serve(parameters)

        estate.wire.answers["DescribeSessions"] = hang
        try:
            found = listing(appstream(workers=4), time_left=lambda: 0.5 if not late.is_set() else 0.2)
            assert found.failed == {GIS: Failure("DEADLINE")}
            assert set(found.sessions) == {"c0"}
        finally:
            done.set()

    def test_what_is_begun_is_listed_to_its_end_while_others_wait(self, estate: Estate) -> None:
        """Nine scopes of three pages, time for ten calls: three are covered, not none."""
        estate.sessions = {Scope("office", f"f{n}"): [record(f"{n}.{m}") for m in range(5)] for n in range(9)}
        found = listing(
            appstream(workers=1),
            replace(SETTLED, scopes=frozenset()),
            time_left=lambda: 10.0 - len(estate.wire.parameters("DescribeSessions")),
        )
        assert len(found.scopes) - len(found.failed) == 3

    @pytest.mark.parametrize(
        ("left", "reason", "paired", "first"),
        [
            pytest.param(31.0, "ServiceUnavailable", 8, {CAD, GIS, LAB}, id="in time"),
            pytest.param(30.0, "ServiceUnavailable", 6, {CAD, GIS}, id="late"),
            pytest.param(31.0, "DEADLINE", 6, {CAD, GIS}, id="after a sweep that was late"),
            pytest.param(31.0, None, 6, {LAB, CAD}, id="the first sweep"),
        ],
    )
    def test_the_last_scopes_take_turns_if_there_is_time(
        self, estate: Estate, left: float, reason: str | None, paired: int, first: set[Scope]
    ) -> None:
        """Three scopes of three pages, two workers: by turns, both have work until the last page."""
        estate.sessions = {scope: [record(f"{scope}{n}") for n in range(5)] for scope in (CAD, GIS, LAB)}
        pair = Barrier(2, timeout=20)
        number = count(1)
        serve = estate.describe_sessions

        def in_pairs(parameters: dict[str, Any]) -> dict[str, Any]:
            if next(number) <= paired:
                pair.wait()
            return serve(parameters)

        estate.wire.answers["DescribeSessions"] = in_pairs
        gaps = tuple(Gap(scope, at(0), None, reason) for scope in (CAD, GIS)) if reason else ()
        found = listing(
            snapshot=replace(SETTLED, target=Target(at(0), gaps=gaps) if reason else None),
            options=Options(authentication_types=frozenset([AuthenticationType.API])),
            time_left=lambda: left if estate.wire.parameters("DescribeSessions") else 60.0,
        )
        assert (found.failed, len(found.sessions)) == ({}, 15)
        calls = estate.wire.parameters("DescribeSessions")[:6]
        assert {Scope(each["StackName"], each["FleetName"]) for each in calls} == first

    def test_what_had_no_time_goes_first_then_what_failed(self, estate: Estate) -> None:
        gaps = (Gap(GIS, at(0), None, "DEADLINE"), Gap(LAB, at(0), None, "DEADLINE", untried_since=at(0)))
        assert SETTLED.target
        listing(appstream(workers=1), replace(SETTLED, target=replace(SETTLED.target, gaps=gaps)))
        order = [Scope(p["StackName"], p["FleetName"]) for p in estate.wire.parameters("DescribeSessions")]
        assert order == [LAB, GIS, CAD]

    def test_what_has_no_time_is_listed_by_turns(self, estate: Estate) -> None:
        """Nine scopes, and time for four in a sweep: nobody waits for more than two sweeps."""
        estate.sessions = {Scope("office", f"f{number}"): [] for number in range(9)}
        history = History()
        listed: list[set[Scope]] = []
        for minute in range(6):
            listed.append(set())

            def time_left(of_this_sweep: set[Scope] = listed[-1]) -> float:
                of_this_sweep |= {
                    Scope(each["StackName"], each["FleetName"])
                    for each in estate.wire.parameters("DescribeSessions")
                }
                return 4.0 - len(of_this_sweep)

            estate.wire.calls.clear()
            auditor = appstream(workers=1, topology_for=timedelta())
            found = listing(auditor, history.snapshot, minute=minute, time_left=time_left)
            target = audit(history.snapshot, found, {}, Options()).target
            history.snapshot = replace(history.snapshot, target=target, scopes=found.scopes)
        for waiting in range(4):
            assert set.union(*listed[waiting : waiting + 3]) == set(estate.sessions)

    @pytest.mark.parametrize(
        ("operation", "failed"),
        [
            pytest.param("DescribeStacks", {WHOLE_TARGET: Failure("DEADLINE")}, id="stacks"),
            pytest.param("DescribeFleets", {}, id="fleets"),
            pytest.param("ListAssociatedFleets", {}, id="fleets of a stack"),
        ],
    )
    def test_a_topology_that_never_ends_leaves_half_of_the_time_for_what_is_known(
        self, estate: Estate, operation: str, failed: dict[Scope, Failure]
    ) -> None:
        endless(estate, operation)
        left = iter(range(400, 0, -1))
        found = listing(time_left=lambda: next(left, 0) / 10)
        assert (found.failed, found.scopes) == (failed, {CAD, GIS, LAB})
        assert estate.wire.operations().count("DescribeSessions") == 3

    def test_a_stack_whose_fleets_never_end_costs_nothing_of_what_is_known(
        self, estate: Estate, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("session_auditor.paging.PAGES_LIMIT", 20)
        endless(estate, "ListAssociatedFleets")
        found = listing()
        assert found.failed == {}
        assert found.unread == {
            "fleets of stack lab": "LISTING_TOO_LONG",
            "fleets of stack office": "LISTING_TOO_LONG",
        }


def endless(estate: Estate, operation: str) -> None:
    """Let an operation answer every time with a token that is new."""
    answer = estate.wire.answers[operation]
    estate.wire.answers[operation] = lambda p: answer(p) | {"NextToken": str(int(p.get("NextToken", 0)) + 1)}


class TestTopology:
    """Stacks and their fleets, kept for some minutes."""

    def test_it_is_kept_for_some_minutes(self, estate: Estate) -> None:
        auditor = appstream()
        for minute in (1, 2, 5.9, 6, 7):
            listing(auditor, minute=minute)
        assert estate.wire.operations().count("DescribeStacks") == 2

    def test_a_clock_that_was_set_back_reads_it_anew(self, estate: Estate) -> None:
        auditor = appstream()
        listing(auditor, minute=10)
        listing(auditor, minute=9)
        assert estate.wire.operations().count("DescribeStacks") == 2

    def test_it_is_read_anew_while_the_snapshot_knows_other_scopes(self, estate: Estate) -> None:
        auditor = appstream()
        gone = replace(SETTLED, scopes=SETTLED.scopes | {Scope("office", "gone")})
        for minute in (1, 2, 3):
            assert Scope("office", "gone") not in listing(auditor, gone, minute=minute).scopes
        assert estate.wire.operations().count("DescribeStacks") == 3

    def test_it_is_read_anew_while_all_sessions_of_a_scope_are_missing(self, estate: Estate) -> None:
        auditor = appstream()
        history = History()
        history.observe(0)
        history.observe(1, session(), session(session_id="s-2"))
        reads = []
        for seen in ((session(), session(session_id="s-2")), (session(),), (), ()):
            estate.wire.calls.clear()
            known = replace(SETTLED, sessions=history.snapshot.sessions)
            listing(auditor, known, minute=1)
            reads.append(estate.wire.operations().count("DescribeStacks"))
            history.observe(2 + len(reads), *seen)
        assert reads == [1, 0, 0, 1], "once nobody is left there"

    @pytest.mark.parametrize("seconds", [1, 59, 36_001, 43_200, 360_000, 10**9])
    def test_any_disconnect_timeout_is_believed(self, estate: Estate, seconds: int) -> None:
        estate.wire.answers["DescribeFleets"] = lambda _: {
            "Fleets": [{"Name": "cad", "DisconnectTimeoutInSeconds": seconds}]
        }
        assert listing().facts.fleets == {"cad": Fleet(seconds)}

    @pytest.mark.parametrize("seconds", [0, -5, True, "900", None, [900], 1.5])
    def test_what_is_no_positive_whole_number_is_no_timeout(self, estate: Estate, seconds: object) -> None:
        estate.wire.answers["DescribeFleets"] = lambda _: {
            "Fleets": [{"Name": "cad", "DisconnectTimeoutInSeconds": seconds}]
        }
        assert listing().facts.fleets == {"cad": Fleet()}

    @pytest.mark.parametrize(
        "code", ["ResourceNotFoundException", "InvalidParameterCombinationException", "OperationNotPermitted"]
    )
    def test_a_scope_that_is_refused_is_looked_up_again_at_once(self, estate: Estate, code: str) -> None:
        auditor = appstream()
        listing(auditor, minute=1)

        def fail(parameters: dict[str, Any]) -> None:
            if parameters["FleetName"] == "gis":
                raise client_error(code)

        estate.fail = fail
        still = listing(auditor, minute=2)
        assert still.failed == {GIS: Failure(code)}, "the fleet is still there"
        del estate.sessions[GIS]
        gone = listing(auditor, minute=3)
        assert (gone.failed, gone.scopes) == ({}, {CAD, LAB})

    def test_whom_a_scope_listed_before_it_was_gone_was_there(self, estate: Estate) -> None:
        """The fleet is deleted between two pages: nobody of the first page was missing."""
        estate.sessions[GIS] = [record(f"g{number}") for number in range(3)]
        auditor = appstream()
        listing(auditor, minute=1)

        def fail(parameters: dict[str, Any]) -> None:
            if parameters["FleetName"] == "gis" and "NextToken" in parameters:
                del estate.sessions[GIS]
                raise client_error("ResourceNotFoundException")

        estate.fail = fail
        gone = listing(auditor, minute=2)
        assert (gone.failed, gone.scopes, set(gone.sessions)) == ({}, {CAD, LAB}, {"g0", "g1"})

    @pytest.mark.parametrize("code", ["ThrottlingException", "InternalFailure", "RequestTimeout"])
    def test_what_may_pass_is_not_looked_up_again(self, estate: Estate, code: str) -> None:
        def fail(_: dict[str, Any]) -> None:
            raise client_error(code)

        estate.fail = fail
        assert set(listing().failed) == {CAD, GIS, LAB}
        assert estate.wire.operations().count("ListAssociatedFleets") == 2

    def test_a_large_topology_is_read_across_sweeps_while_known_scopes_are_listed(
        self, estate: Estate
    ) -> None:
        """Two hundred stacks and three calls a second: every scope is listed within four sweeps."""
        estate.sessions = {Scope(f"s{number:03}", "cad"): [] for number in range(200)}
        auditor = appstream(workers=1)
        history = History()
        listed: set[Scope] = set()
        for minute in range(12):
            began = len(estate.wire.calls)

            def time_left(began: int = began) -> float:
                return 45.0 - (len(estate.wire.calls) - began) / 3

            options = Options(authentication_types=frozenset([AuthenticationType.API]))
            found = listing(auditor, history.snapshot, options, minute, time_left)
            target = audit(history.snapshot, found, {}, history.options).target
            scopes = found.scopes | {scope for scope in found.failed if scope.fleet}
            history.snapshot = replace(history.snapshot, target=target, scopes=scopes)
            whole = found.scopes - found.failed.keys()
            assert len(whole) >= 40, "half of the time belongs to the sessions"
            listed |= whole
        assert listed == set(estate.sessions)

    def test_filters_leave_scopes_out(self, estate: Estate) -> None:
        found = listing(options=Options(stacks=Globs(include=("off*",)), fleets=Globs(exclude=("g*",))))
        assert found.scopes == {CAD}
        assert [p["StackName"] for p in estate.wire.parameters("ListAssociatedFleets")] == ["office"]

    def test_stacks_that_may_not_be_read_fail_the_sweep(self, estate: Estate) -> None:
        estate.wire.answers["DescribeStacks"] = raising(client_error("AccessDeniedException"))
        with pytest.raises(TopologyError, match="appstream:DescribeStacks") as caught:
            listing()
        assert caught.value.reason == "AccessDeniedException"
        assert "jane" not in str(caught.value)

    @pytest.mark.parametrize("code", ["ThrottlingException", "InternalFailure"])
    def test_without_a_stack_that_is_known_it_fails_as_well(self, estate: Estate, code: str) -> None:
        estate.wire.answers["DescribeStacks"] = raising(client_error(code))
        assert listing().failed == {WHOLE_TARGET: Failure(code)}
        with pytest.raises(TopologyError):
            listing(snapshot=Snapshot())

    @pytest.mark.parametrize(
        "stacks",
        [
            pytest.param(7, id="no list"),
            pytest.param([{"Name": "office"}, {}], id="no name"),
            pytest.param([{"Name": "office"}, {"Name": "\ud800"}], id="a lone surrogate"),
            pytest.param([{"Name": "office"}, {"Name": "n" * 2_000}], id="a name without end"),
            pytest.param([{"Name": "office"}, None, ["x"]], id="no records"),
        ],
    )
    def test_a_record_that_cannot_be_read_makes_nothing_vanish(self, estate: Estate, stacks: Any) -> None:
        estate.wire.answers["DescribeStacks"] = lambda _: {"Stacks": stacks}
        found = listing()
        assert found.failed == {WHOLE_TARGET: Failure("MALFORMED_ANSWER")}
        assert found.scopes == {CAD, GIS, LAB}, "as the table knows them"

    @pytest.mark.parametrize(
        "broken",
        [
            pytest.param(client_error("AccessDeniedException"), id="refused"),
            pytest.param({"Fleets": [{}, 7, {"Name": ["cad"]}, {"Name": "\ud800"}]}, id="records"),
            pytest.param({}, id="nothing"),
        ],
    )
    def test_without_the_fleets_their_facts_are_the_last_known(self, estate: Estate, broken: Any) -> None:
        auditor = appstream()
        listing(auditor)
        estate.wire.answers["DescribeFleets"] = answering(broken)
        found = listing(auditor, minute=9)
        assert found.failed == {}
        refused = isinstance(broken, Exception)
        assert found.facts.fleets == {"cad": Fleet(900), "gis": Fleet()}
        assert found.unread == {"fleets": "AccessDeniedException" if refused else "MALFORMED_ANSWER"}

    def test_a_new_container_knows_them_from_the_sessions(self, estate: Estate) -> None:
        history = History()
        history.observe(0)
        history.observe(1, session())
        estate.wire.answers["DescribeFleets"] = raising(client_error("AccessDeniedException"))
        known = replace(SETTLED, sessions=history.snapshot.sessions)
        assert listing(snapshot=known).facts.fleets == {"cad": Fleet(3600)}

    @pytest.mark.usefixtures("estate")
    def test_the_fleets_that_were_read_now_are_news_whatever_another_clock_said(self) -> None:
        topology = TopologyReader(boto_client("appstream"), workers=1, keep_for=timedelta(minutes=5))
        known = Snapshot(target=Target(at(0), fleets_read=at(9)))
        read = [topology.read(known, Options(), at(minute), lambda: 60.0) for minute in (2, 3)]
        assert [each.fleets_read for each in read] == [at(2), None]

    @pytest.mark.parametrize(
        "broken",
        [
            pytest.param(client_error("ThrottlingException"), id="throttled"),
            pytest.param({"Names": None}, id="no list"),
            pytest.param({"Names": [7]}, id="no name"),
            pytest.param({"Names": ["cad", "\ud800"]}, id="a lone surrogate"),
        ],
    )
    def test_of_a_stack_that_fails_what_is_known_from_before_is_listed(
        self, estate: Estate, broken: Any
    ) -> None:
        estate.sessions[LAB] = [record("l0")]
        serve = estate.wire.answers["ListAssociatedFleets"]
        fails = answering(broken)
        estate.wire.answers["ListAssociatedFleets"] = lambda p: (
            serve(p) if p["StackName"] == "lab" else fails(p)
        )
        auditor = appstream()
        found = listing(auditor)
        assert (found.failed, found.scopes) == ({}, {CAD, GIS, LAB})
        assert list(found.unread) == ["fleets of stack office"]
        assert set(found.sessions) == {"l0"}
        never_known = listing(appstream(), replace(SETTLED, scopes=frozenset([LAB])))
        part = {CAD} if isinstance(broken, dict) and broken["Names"] == ["cad", "\ud800"] else set()
        assert set(never_known.failed) == (set() if part else {Scope("office", "")})
        assert never_known.scopes == {LAB, *part}


def answering(broken: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return raising(broken) if isinstance(broken, Exception) else lambda _: broken


class TestAuthenticationTypes:
    """Rule 10: list each type until evidence is seen."""

    def asked(self, estate: Estate) -> list[str | None]:
        return [p.get("AuthenticationType") for p in estate.wire.parameters("DescribeSessions")]

    def mode(self, mode: AuthenticationMode) -> Snapshot:
        return Snapshot(Target(at(0), authentication=mode), scopes=frozenset([CAD]))

    @pytest.fixture(autouse=True)
    def _one_scope(self, estate: Estate) -> None:
        estate.sessions = {CAD: [record("url"), record("saml", AuthenticationType="SAML")]}

    def test_unknown_lists_each_type_and_none(self, estate: Estate) -> None:
        found = listing(snapshot=Snapshot())
        assert self.asked(estate) == [None, "API", "SAML", "USERPOOL", "AWS_AD"]
        assert set(found.sessions) == {"url", "saml"}
        assert found.evidence.unfiltered_lists_others
        assert found.evidence.absent_unfiltered == frozenset()
        assert found.authentication_types is None

    def test_what_is_absent_unfiltered_is_evidence(self, estate: Estate) -> None:
        serve = estate.describe_sessions
        estate.wire.answers["DescribeSessions"] = lambda p: serve({"AuthenticationType": "API"} | p)
        found = listing(snapshot=Snapshot())
        assert set(found.sessions) == {"url", "saml"}
        assert not found.evidence.unfiltered_lists_others
        assert found.evidence.absent_unfiltered == {"saml"}

    def test_url_sessions_alone_prove_nothing(self, estate: Estate) -> None:
        estate.sessions[CAD] = [record("url", AuthenticationType="API")]
        found = listing(snapshot=Snapshot())
        assert not found.evidence.unfiltered_lists_others
        assert found.evidence.absent_unfiltered == frozenset()

    def test_settled_makes_one_call_a_page(self, estate: Estate) -> None:
        listing(snapshot=self.mode(AuthenticationMode.UNFILTERED))
        assert self.asked(estate) == [None]

    def test_by_type_lists_each_type(self, estate: Estate) -> None:
        found = listing(snapshot=self.mode(AuthenticationMode.BY_TYPE))
        assert self.asked(estate) == ["API", "SAML", "USERPOOL", "AWS_AD"]
        assert found.authentication_types == frozenset(AuthenticationType)

    def test_an_explicit_list_overrides(self, estate: Estate) -> None:
        options = Options(authentication_types=frozenset([AuthenticationType.SAML]))
        found = listing(snapshot=self.mode(AuthenticationMode.UNFILTERED), options=options)
        assert self.asked(estate) == ["SAML"]
        assert set(found.sessions) == {"saml"}

    @pytest.mark.parametrize(
        ("mode", "refused", "listed"),
        [
            pytest.param(AuthenticationMode.UNKNOWN, {"USERPOOL"}, {"url", "saml"}, id="no user pools"),
            pytest.param(AuthenticationMode.UNKNOWN, {None}, {"url", "saml"}, id="no call without a type"),
            pytest.param(
                AuthenticationMode.UNFILTERED, {None}, {"url", "saml"}, id="though that was settled"
            ),
            pytest.param(AuthenticationMode.BY_TYPE, {"USERPOOL", "API"}, {"saml"}, id="two types"),
        ],
    )
    def test_a_type_that_is_refused_costs_that_type(
        self, estate: Estate, mode: AuthenticationMode, refused: set[str | None], listed: set[str]
    ) -> None:
        refuse(estate, refused)
        found = listing(snapshot=self.mode(mode))
        assert (found.failed, set(found.sessions)) == ({}, listed)
        assert found.refused_types == {CAD: frozenset(refused)}

    def test_the_evidence_of_the_others_settles_the_mode(self, estate: Estate) -> None:
        refuse(estate, {"USERPOOL", "AWS_AD"})
        assert listing(snapshot=Snapshot()).evidence.unfiltered_lists_others

    def test_a_call_without_a_type_that_is_refused_lists_nobody(self, estate: Estate) -> None:
        refuse(estate, {None})
        assert listing(snapshot=Snapshot()).evidence.absent_unfiltered == {"url", "saml"}

    def test_where_every_call_is_refused_nothing_is_listed(self, estate: Estate) -> None:
        refuse(estate, {None, *AuthenticationType})
        assert listing(snapshot=Snapshot()).failed == {CAD: Failure("InvalidParameterCombinationException")}

    def test_under_an_explicit_list_it_is_a_mistake_of_the_settings(self, estate: Estate) -> None:
        refuse(estate, {"USERPOOL"})
        types = frozenset([AuthenticationType.SAML, AuthenticationType.USERPOOL])
        found = listing(options=Options(authentication_types=types))
        assert found.failed == {CAD: Failure("InvalidParameterCombinationException")}
        assert set(found.sessions) == {"saml"}, "what is listed is compared all the same"

    def test_a_throttled_type_costs_the_scope(self, estate: Estate) -> None:
        refuse(estate, {"USERPOOL"}, "ThrottlingException")
        assert listing(snapshot=Snapshot()).failed == {CAD: Failure("ThrottlingException")}

    def test_the_type_of_the_call_is_told(self, estate: Estate) -> None:
        estate.sessions[CAD] = [record("odd", AuthenticationType="SAML")]
        serve = estate.wire.answers["DescribeSessions"]
        estate.wire.answers["DescribeSessions"] = lambda p: {
            "Sessions": [each | {"AuthenticationType": "AWS_AD"} for each in serve(p)["Sessions"]]
        }
        assert listing(snapshot=Snapshot()).listed_as == {"odd": AuthenticationType.SAML}
        assert listing().listed_as == {}

    def test_types_that_nobody_knows_are_counted(self, estate: Estate) -> None:
        estate.sessions[CAD] = [record("x", AuthenticationType="PASSKEY")]
        assert listing().unknown_authentication_types == {"PASSKEY"}


def refuse(estate: Estate, types: set[Any], code: str = "InvalidParameterCombinationException") -> None:
    """Let AppStream refuse these types."""

    def fail(parameters: dict[str, Any]) -> None:
        if parameters.get("AuthenticationType") in types:
            raise client_error(code)

    estate.fail = fail


class TestUserIds:
    """UserIdMode: what becomes of user ids before anything else sees them."""

    def test_hash_is_keyed_and_always_the_same(self) -> None:
        one, other = user_ids(UserIdMode.HASH, "secret"), user_ids(UserIdMode.HASH, "another")
        assert one("jane") == one("jane") != other("jane")
        assert len(one("jane")) == 32
        assert int(one("jane"), 16)

    @pytest.mark.parametrize(
        ("mode", "expected"),
        [(UserIdMode.PLAIN, "jane"), (UserIdMode.OMIT, "")],
    )
    def test_plain_and_omit(self, estate: Estate, mode: UserIdMode, expected: str) -> None:
        estate.sessions[CAD] = [record("c0")]
        found = listing(appstream(user_id=user_ids(mode, "")))
        assert found.sessions["c0"].user_id == expected
