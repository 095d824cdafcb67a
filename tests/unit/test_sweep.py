"""One sweep after another, with real clients: moto's DynamoDB, and AppStream and EventBridge on the wire.

What a crash at any call does is the simulation's; here the rules of the sweep stand one by one.
"""

import json
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from session_auditor.documents import PoliciesReader
from session_auditor.errors import SnapshotError
from session_auditor.listing import SessionLister
from session_auditor.model import AuthenticationType, Options, UserIdMode
from session_auditor.preview import Unlisted
from session_auditor.publisher import Publisher
from session_auditor.sweep import Auditor, Outcome, Summary
from session_auditor.topology import TopologyReader
from tests.shared.aws import Wire, boto_client, client_error
from tests.shared.history import TARGET, at
from tests.shared.table import Table
from tests.shared.table import table as mocked_table


class Estate:
    """A target with sessions by (stack, fleet), a bus that keeps what it accepts, and a clock."""

    def __init__(self, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
        self.table = table
        self.wire = Wire(monkeypatch)
        self.minute = 0.0
        self.sessions: dict[tuple[str, str], dict[str, dict[str, Any]]] = {("office", "cad"): {}}
        self.bus: list[dict[str, Any]] = []
        self.refuse: dict[str, str] = {}
        self.document = ""
        self.wire.answers = {
            "DescribeStacks": lambda _: {
                "Stacks": [{"Name": each} for each in {stack for stack, _ in self.sessions}]
            },
            "DescribeFleets": lambda _: {
                "Fleets": [{"Name": fleet, "DisconnectTimeoutInSeconds": 3600} for _, fleet in self.sessions]
            },
            "ListAssociatedFleets": lambda p: {"Names": [f for s, f in self.sessions if s == p["StackName"]]},
            "DescribeSessions": self.describe_sessions,
            "PutEvents": self.put_events,
            "GetParameter": lambda _: {"Parameter": {"Value": self.document}},
        }
        self.auditor = self.container()

    def container(self, parameter: str = "", **options: Any) -> Auditor:
        """A new container: fresh clients, nothing kept; with policies if a parameter is named."""
        client = boto_client("appstream")
        topology = TopologyReader(client, workers=1, keep_for=timedelta(minutes=5))
        return Auditor(
            SessionLister(client, topology, workers=1, user_id=str),
            PoliciesReader(
                boto_client("ssm") if parameter else None,
                parameter,
                tag_keys=(),
                user_id_mode=UserIdMode.PLAIN,
                keep_for=timedelta(minutes=5),
            ),
            self.table.snapshots(),
            Publisher(boto_client("events"), "bus", workers=1),
            TARGET,
            Options(**options),
        )

    def put(
        self, name: str, connection: str = "CONNECTED", scope: tuple[str, str] = ("office", "cad")
    ) -> None:
        self.sessions[scope][name] = {
            "Id": name,
            "UserId": "jane.doe@example.com",
            "State": "ACTIVE",
            "ConnectionState": connection,
            "AuthenticationType": "SAML",
            "StartTime": at(self.minute),
            "MaxExpirationTime": at(self.minute + 600),
        }

    def store(self, **policies: dict[str, Any]) -> None:
        """Store a document of these policies in the parameter."""
        self.document = json.dumps({"version": 1, "timeZone": "UTC", "policies": policies})

    def sweep(self, time_left: float = 60.0, minutes: float = 1) -> Summary:
        self.wire.calls.clear()
        try:
            return self.auditor.sweep(f"sweep-{self.minute}", lambda: at(self.minute), lambda: time_left)
        finally:
            self.minute += minutes

    def describe_sessions(self, parameters: dict[str, Any]) -> dict[str, Any]:
        wanted = parameters.get("AuthenticationType")
        listed = [
            each
            for each in self.sessions[parameters["StackName"], parameters["FleetName"]].values()
            if wanted in (None, each["AuthenticationType"])
        ]
        start = int(parameters.get("NextToken", 0))
        end = start + parameters["Limit"]
        return {"Sessions": listed[start:end]} | ({"NextToken": str(end)} if end < len(listed) else {})

    def put_events(self, parameters: dict[str, Any]) -> dict[str, Any]:
        results = []
        for entry in parameters["Entries"]:
            code = self.refuse.get(entry["DetailType"])
            results.append({"ErrorCode": code} if code else {"EventId": "id"})
            if not code:
                self.bus.append(entry)
        return {"Entries": results}

    def told(self) -> list[str]:
        """The events that the bus accepted since last asked, in order."""
        told = [entry["DetailType"].split()[-1] for entry in self.bus]
        self.bus.clear()
        return told

    def ids(self) -> list[str]:
        return [json.loads(entry["Detail"])["metadata"]["eventId"] for entry in self.bus]

    def fail(self, operation: str, code: str) -> None:
        def answer(_: dict[str, Any]) -> dict[str, Any]:
            raise client_error(code, operation)

        self.wire.answers[operation] = answer


@pytest.fixture
def table() -> Iterator[Table]:
    with mocked_table() as table:
        yield table


@pytest.fixture
def estate(table: Table, monkeypatch: pytest.MonkeyPatch) -> Estate:
    estate = Estate(table, monkeypatch)
    estate.put("before")
    estate.sweep()
    return estate


class Died(BaseException):
    """The function was killed."""


def die(*_: Any) -> dict[str, Any]:
    raise Died


def test_the_story_of_a_session(estate: Estate) -> None:
    assert estate.told() == [], "the first sweep is silent"
    estate.put("s-1", "NOT_CONNECTED")
    estate.sweep()
    estate.put("s-1")
    estate.sweep()
    estate.put("s-1", "NOT_CONNECTED")
    estate.sweep()
    del estate.sessions["office", "cad"]["s-1"]
    estate.sweep()
    summary = estate.sweep()
    assert estate.told() == ["Started", "Connected", "Disconnected", "Ended"]
    assert summary.events_published == {"AppStream Session Ended": 1}
    assert len(estate.table.items("HISTORY#")) == 1
    assert set(estate.table.snapshots().load(at(9)).sessions) == {"before"}


def test_a_quiet_sweep_of_twenty_scopes(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a thousand sessions the gate of tests/performance says the same."""
    estate = Estate(table, monkeypatch)
    scopes = [(f"stack-{number % 4}", f"fleet-{number}") for number in range(20)]
    estate.sessions = {scope: {} for scope in scopes}
    for number in range(40):
        estate.put(f"s-{number}", scope=scopes[number % 20])
    estate.sweep()
    assert estate.sweep().sessions_seen == 40
    calls = estate.wire.operations()
    assert calls.count("DescribeSessions") == 20
    assert [call for call in calls if call not in ("DescribeSessions", "Query")] == ["PutItem"]
    assert calls[0] == "Query"
    assert calls[-1] == "PutItem"


def test_what_is_left_over_is_published_first_with_the_same_ids(estate: Estate) -> None:
    estate.put("s-1")
    accept = estate.wire.answers["PutEvents"]
    estate.wire.answers["PutEvents"] = die
    with pytest.raises(Died):
        estate.sweep()
    estate.wire.answers["PutEvents"] = accept
    estate.put("s-1", "NOT_CONNECTED")
    estate.auditor = estate.container()
    estate.sweep()
    assert estate.wire.operations()[:4] == ["Query", "Query", "PutEvents", "TransactWriteItems"]
    assert estate.told() == ["Started", "Disconnected"]


def test_a_death_between_publishing_and_clearing_repeats_the_same_ids(estate: Estate) -> None:
    estate.put("s-1")

    def accept_and_die(parameters: dict[str, Any]) -> dict[str, Any]:
        estate.put_events(parameters)
        raise Died

    accept = estate.wire.answers["PutEvents"]
    estate.wire.answers["PutEvents"] = accept_and_die
    with pytest.raises(Died):
        estate.sweep()
    estate.wire.answers["PutEvents"] = accept
    estate.sweep()
    first, again = estate.ids()
    assert first == again
    assert estate.sweep().pending == 0


def test_a_sweep_that_was_overtaken_says_so_and_publishes_nothing(estate: Estate) -> None:
    estate.put("s-1")
    serve = estate.describe_sessions
    other = estate.container()

    def overtake(parameters: dict[str, Any]) -> dict[str, Any]:
        estate.wire.answers["DescribeSessions"] = serve
        other.sweep("other", lambda: at(estate.minute), lambda: 60.0)
        return serve(parameters)

    estate.wire.answers["DescribeSessions"] = overtake
    summary = estate.sweep()
    assert summary.outcome is Outcome.FENCED
    assert estate.told() == ["Started"], "by the other sweep"
    assert estate.sweep().outcome is Outcome.COMPLETED
    assert estate.told() == []


def test_a_bus_out_of_reach_keeps_everything_pending(estate: Estate) -> None:
    estate.put("s-1")
    accept = estate.wire.answers["PutEvents"]
    estate.fail("PutEvents", "AccessDeniedException")
    assert estate.sweep().publishing_stopped == "AccessDeniedException"
    estate.put("s-1", "NOT_CONNECTED")
    summary = estate.sweep(minutes=2)
    assert (summary.outcome, summary.pending, summary.oldest_pending_age) == (Outcome.COMPLETED, 2, 60)
    estate.wire.answers["PutEvents"] = accept
    assert estate.sweep().pending == 0
    assert estate.told() == ["Started", "Disconnected"]


def test_a_refused_event_is_kept_apart_and_the_session_goes_on(estate: Estate) -> None:
    estate.refuse = {"AppStream Session Started": "MalformedDetail"}
    estate.put("s-1")
    summary = estate.sweep()
    assert (summary.events_refused, summary.pending) == ({"MalformedDetail": 1}, 0)
    estate.put("s-1", "NOT_CONNECTED")
    assert not estate.sweep().events_refused
    assert estate.told() == ["Disconnected"]
    (refused,) = estate.table.items("REFUSED#")
    assert refused["detailType"]["S"] == "AppStream Session Started"


def test_fifty_events_that_wait_hold_a_session_and_its_scope_back(estate: Estate) -> None:
    estate.put("s-1")
    accept = estate.wire.answers["PutEvents"]
    estate.fail("PutEvents", "InternalException")
    for number in range(53):
        estate.put("s-1", "NOT_CONNECTED" if number % 2 else "CONNECTED")
        summary = estate.sweep(minutes=0.1)
    assert summary.pending == 50
    assert (summary.failures, dict(summary.changes_deferred)) == ({}, {"OUTBOX_FULL": 1})
    estate.wire.answers["PutEvents"] = accept
    estate.sweep()
    assert Counter(estate.told()) == {"Started": 1, "Disconnected": 25, "Reconnected": 25}
    assert not estate.sweep().changes_deferred


def test_an_id_that_comes_back_waits_until_its_end_is_published(estate: Estate) -> None:
    estate.put("s-1")
    estate.sweep()
    accept = estate.wire.answers["PutEvents"]
    estate.fail("PutEvents", "InternalException")
    estate.sessions["office", "cad"]["s-1"]["State"] = "EXPIRED"
    estate.sweep()
    estate.put("s-1")
    assert dict(estate.sweep().changes_deferred) == {"END_PENDING": 1}
    estate.wire.answers["PutEvents"] = accept
    estate.sweep()
    ended, started = (json.loads(entry["Detail"])["metadata"] for entry in estate.bus[-2:])
    assert estate.told() == ["Started", "Ended", "Started"]
    assert started["sequence"] == 1
    assert started["previousObservedAt"] == ended["observedAt"], "not the sweep that had to leave it"


def test_an_ended_session_stays_until_its_end_is_published(estate: Estate) -> None:
    estate.put("s-1")
    estate.sweep()
    estate.sessions["office", "cad"]["s-1"]["State"] = "EXPIRED"
    accept = estate.wire.answers["PutEvents"]
    estate.fail("PutEvents", "InternalException")
    for _ in range(3):
        assert estate.sweep().pending == 1
    assert "s-1" in estate.table.snapshots().load(at(9)).sessions
    estate.wire.answers["PutEvents"] = accept
    estate.sweep()
    assert estate.told() == ["Started", "Ended"]
    assert "s-1" not in estate.table.snapshots().load(at(9)).sessions
    assert len(estate.table.items("HISTORY#")) == 1


def test_a_changed_filter_closes_the_life_of_what_it_leaves_out(estate: Estate) -> None:
    estate.put("s-1")
    accept = estate.wire.answers["PutEvents"]
    estate.fail("PutEvents", "InternalException")
    estate.sweep()
    everything = estate.auditor.options
    estate.auditor = estate.container(fleets=type(everything.fleets)(exclude=("cad",)))
    estate.sweep()
    assert set(estate.table.snapshots().load(at(9)).sessions) == {"s-1"}
    estate.wire.answers["PutEvents"] = accept
    estate.sweep()
    assert estate.told() == ["Started", "Unwatched"]
    assert estate.table.snapshots().load(at(9)).sessions == {}
    (history,) = estate.table.items("HISTORY#")
    assert history["endReason"] == {"S": "UNWATCHED"}


def test_what_could_not_be_forgotten_was_not_covered(estate: Estate) -> None:
    """For a minute the settings leave a session out; it is wanted again before the table took that."""
    estate.auditor = estate.container(authentication_types=frozenset([AuthenticationType.API]))
    estate.fail("TransactWriteItems", "ThrottlingException")
    assert estate.sweep().changes_deferred == {"NOT_COMMITTED": 1}
    del estate.wire.answers["TransactWriteItems"]
    estate.auditor = estate.container()
    estate.sessions["office", "cad"].clear()
    estate.sweep()
    estate.sweep()
    (ended,) = (json.loads(entry["Detail"]) for entry in estate.bus)
    assert ended["data"]["endedAfter"] == "2026-03-02T08:00:00Z"


def test_an_id_that_comes_back_while_its_closing_waits_has_to_wait(estate: Estate) -> None:
    estate.put("s-1")
    estate.sweep()
    everything = estate.auditor.options
    estate.auditor = estate.container(fleets=type(everything.fleets)(exclude=("cad",)))
    accept = estate.wire.answers["PutEvents"]
    estate.fail("PutEvents", "InternalException")
    estate.sweep()
    estate.auditor = estate.container()
    assert dict(estate.sweep().changes_deferred) == {"END_PENDING": 1}
    estate.wire.answers["PutEvents"] = accept
    estate.sweep()
    assert estate.told() == ["Started", "Unwatched", "Started"]


def test_no_time_to_list_is_no_coverage(estate: Estate) -> None:
    estate.put("s-1")
    summary = estate.sweep(time_left=5.0)
    assert list(summary.failures.values()) == ["DEADLINE"]
    assert summary.scopes_listed == 0
    assert estate.sweep().failures == {}
    assert estate.told() == ["Started"]


def test_a_conflicting_item_keeps_its_scopes_window_open(estate: Estate) -> None:
    estate.put("s-1")
    estate.sweep()
    serve = estate.describe_sessions

    def meddle(parameters: dict[str, Any]) -> dict[str, Any]:
        estate.table.put(estate.table.item("SESSION#s-1") | {"version": {"N": "99"}})
        return serve(parameters)

    estate.put("s-1", "NOT_CONNECTED")
    estate.wire.answers["DescribeSessions"] = meddle
    assert dict(estate.sweep().changes_deferred) == {"NOT_COMMITTED": 1}
    estate.wire.answers["DescribeSessions"] = serve
    assert not estate.sweep().changes_deferred
    last = json.loads(estate.bus[-1]["Detail"])["metadata"]
    assert last["previousObservedAt"] == "2026-03-02T08:01:00Z", "the window is still true"
    assert estate.told() == ["Started", "Disconnected"]


def test_without_the_table_the_sweep_raises(estate: Estate) -> None:
    estate.fail("Query", "AccessDeniedException")
    with pytest.raises(SnapshotError):
        estate.sweep()


def test_without_the_topology_it_fails_and_raises_nothing(estate: Estate) -> None:
    estate.put("s-1")
    estate.sweep()
    serve = estate.wire.answers["DescribeStacks"]
    estate.auditor = estate.container()
    estate.fail("DescribeStacks", "AccessDeniedException")
    outcomes = {estate.sweep().outcome for _ in range(7)}
    assert outcomes == {Outcome.FAILED}
    entry = estate.bus[-1]
    assert estate.told() == ["Started", "Degraded"]
    degraded = json.loads(entry["Detail"])["data"]
    assert (degraded["stackName"], degraded["fleetName"]) == ("", "")
    assert degraded["reason"] == "AccessDeniedException"
    assert degraded["summary"].startswith("Stacks and fleets could not be read since ")
    assert entry["Resources"] == []
    estate.wire.answers["DescribeStacks"] = serve
    assert estate.sweep().outcome is Outcome.COMPLETED
    assert estate.told() == ["Recovered"]


def test_degraded_and_recovered_reach_the_bus(estate: Estate) -> None:
    serve = estate.wire.answers["DescribeSessions"]
    estate.fail("DescribeSessions", "AccessDeniedException")
    for _ in range(7):
        estate.sweep()
    estate.wire.answers["DescribeSessions"] = serve
    for _ in range(2):
        estate.sweep()
    assert estate.told() == ["Degraded", "Recovered"]


def test_the_commit_that_fills_an_outbox_marks_the_session(
    estate: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("session_auditor.model.OUTBOX_LIMIT", 3)
    estate.put("s-1")
    estate.fail("PutEvents", "InternalException")
    states = ["CONNECTED", "NOT_CONNECTED", "CONNECTED", "NOT_CONNECTED"]
    marks = []
    for state in states:
        estate.put("s-1", state)
        estate.sweep()
        stored = estate.table.snapshots().load(at(9)).sessions["s-1"]
        marks.append((len(stored.outbox), stored.remembered.outbox_full))
    assert marks == [(1, False), (2, False), (3, True), (3, True)]


def test_many_sessions_are_published_slice_by_slice(estate: Estate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("session_auditor.sweep.SLICE", 20)
    for number in range(50):
        estate.put(f"s-{number}")
    assert estate.sweep().events_published == {"AppStream Session Started": 50}
    calls = [call for call in estate.wire.operations() if call in ("PutEvents", "TransactWriteItems")]
    assert calls[1:] == [*["PutEvents"] * 2, "TransactWriteItems"] * 2 + ["PutEvents", "TransactWriteItems"]


LONG = {"kind": "TOO_LONG", "minutes": [8]}


class TestPolicies:
    """The document is read with the topology, every five minutes; the table says which is in force."""

    @pytest.fixture
    def policed(self, estate: Estate) -> Estate:
        """A target with a policy and a session of minute 0, before its first sweep."""
        estate.store(long=LONG)
        estate.auditor = estate.container("/policies")
        return estate

    def pass_minutes(self, estate: Estate, minutes: int) -> list[Summary]:
        return [estate.sweep() for _ in range(minutes)]

    def test_it_is_read_with_the_topology(self, policed: Estate) -> None:
        asked = []
        for _ in range(11):
            policed.sweep()
            asked.append("GetParameter" in policed.wire.operations())
        assert [minute for minute, each in enumerate(asked) if each] == [0, 5, 10]

    def test_without_time_for_it_the_last_one_is_in_force(self, policed: Estate) -> None:
        self.pass_minutes(policed, 5)
        policed.store(long=LONG | {"minutes": [7]})
        policed.sweep(time_left=4.0)
        assert "GetParameter" not in policed.wire.operations()
        # It is read in the next sweep, which has time.
        policed.sweep()
        assert policed.told() == ["Violated"]

    def test_without_its_name_nothing_is_asked(self, estate: Estate) -> None:
        estate.sweep()
        assert "GetParameter" not in estate.wire.operations()

    def test_what_it_says_is_told(self, policed: Estate) -> None:
        self.pass_minutes(policed, 7)
        assert policed.told() == []
        policed.sweep()
        assert policed.told() == ["Violated"]

    def test_a_new_one_is_in_force_within_five_minutes(self, policed: Estate) -> None:
        self.pass_minutes(policed, 9)
        policed.store(long={"kind": "TOO_LONG", "minutes": [9, 500]})
        policed.told()
        # It is read in minute 11, after minutes 1 and 6.
        self.pass_minutes(policed, 1)
        assert policed.told() == []
        policed.sweep()
        assert policed.told() == ["Cleared", "Violated"]

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            pytest.param("", "", id="empty"),
            pytest.param("no JSON", "", id="no JSON"),
            pytest.param('{"version": 1}', "timeZone", id="no zone"),
            pytest.param(
                '{"version": 1, "timeZone": "UTC", "policies": {"a": {"kind": "TOO_LONG", "minutes": 30}}}',
                "policies.a.minutes",
                id="a number for a list",
            ),
        ],
    )
    def test_one_that_is_not_good_is_not_applied(self, policed: Estate, text: str, problem: str) -> None:
        self.pass_minutes(policed, 3)
        policed.document = text
        summaries = self.pass_minutes(policed, 7)
        assert policed.told() == ["Violated"], "the last good one stays in force"
        assert problem in summaries[-1].policies_problem

    @pytest.mark.parametrize(
        ("code", "remedy"),
        [
            pytest.param("ParameterNotFound", "store the document", id="not there"),
            pytest.param("AccessDeniedException", "ssm:GetParameter", id="denied"),
            pytest.param("ThrottlingException", "tried again", id="throttled"),
        ],
    )
    def test_one_that_cannot_be_read_changes_nothing(self, policed: Estate, code: str, remedy: str) -> None:
        self.pass_minutes(policed, 3)
        policed.fail("GetParameter", code)
        summaries = self.pass_minutes(policed, 7)
        assert policed.told() == ["Violated"]
        assert code in summaries[-1].policies_problem
        assert remedy in summaries[-1].policies_problem

    @pytest.mark.parametrize(
        "answer",
        [
            pytest.param({}, id="nothing"),
            pytest.param({"Parameter": None}, id="null"),
            pytest.param({"Parameter": {"Value": 7}}, id="a number"),
        ],
    )
    def test_an_answer_of_another_form_changes_nothing(self, policed: Estate, answer: dict[str, Any]) -> None:
        self.pass_minutes(policed, 3)
        policed.wire.answers["GetParameter"] = lambda _: answer
        summaries = self.pass_minutes(policed, 7)
        assert policed.told() == ["Violated"]
        assert summaries[-1].policies_problem

    def test_a_good_one_ends_the_problem(self, policed: Estate) -> None:
        good, policed.document = policed.document, "{"
        assert policed.sweep().policies_problem
        policed.document = good
        assert not self.pass_minutes(policed, 5)[-1].policies_problem

    def test_another_container_reads_it_once_and_goes_by_the_tables(self, policed: Estate) -> None:
        self.pass_minutes(policed, 9)
        policed.told()
        policed.document = "{"
        policed.auditor = policed.container("/policies")
        assert policed.sweep().policies_problem
        policed.auditor = policed.container("/policies")
        policed.fail("GetParameter", "ThrottlingException")
        policed.sweep()
        policed.sessions["office", "cad"].clear()
        self.pass_minutes(policed, 2)
        assert policed.told() == ["Cleared", "Ended"]

    def test_without_the_setting_what_is_open_is_over(self, policed: Estate) -> None:
        self.pass_minutes(policed, 9)
        policed.told()
        policed.auditor = policed.container()
        policed.sweep()
        assert policed.told() == ["Cleared"]

    def test_a_quiet_sweep_with_open_violations_writes_one_item(self, policed: Estate) -> None:
        self.pass_minutes(policed, 11)
        quiet = [each for each in policed.wire.operations() if each in {"PutItem", "TransactWriteItems"}]
        assert quiet == ["PutItem"]

    def test_a_document_that_the_table_did_not_take_is_not_in_force(self, policed: Estate) -> None:
        policed.sweep()
        policed.store(long={"kind": "TOO_LONG", "minutes": [1]})
        self.pass_minutes(policed, 4)
        policed.fail("TransactWriteItems", "TransactionCanceledException")
        policed.sweep()
        assert policed.told() == []
        del policed.wire.answers["TransactWriteItems"]
        self.pass_minutes(policed, 5)
        assert policed.told() == ["Violated"]

    def test_an_item_of_policies_that_somebody_broke_is_left_alone(self, policed: Estate) -> None:
        policed.sweep()
        item = policed.table.item("POLICIES")
        policed.table.put(item | {"state": {"S": "broken"}})
        policed.auditor = policed.container("/policies")
        self.pass_minutes(policed, 9)
        assert policed.table.item("POLICIES")["state"] == {"S": "broken"}
        # What this container reads is in force all the same.
        assert policed.told() == ["Violated"]


class TestPreview:
    @pytest.fixture
    def crowd(self, estate: Estate) -> Estate:
        for number in range(30):
            estate.put(f"s-{number:02}")
        estate.sweep(minutes=40)
        return estate

    def test_it_counts_what_the_next_sweep_tells(self, crowd: Estate) -> None:
        crowd.store(long=LONG, many={"kind": "TOO_MANY_SESSIONS", "limit": 2}, never={**LONG, "stacks": "x"})
        policies = crowd.auditor.policies.check(crowd.document)
        preview = crowd.auditor.preview(policies, lambda: at(crowd.minute), lambda: 60.0)
        crowd.auditor = crowd.container("/policies")
        crowd.bus.clear()
        crowd.sweep()
        told = Counter(
            json.loads(entry["Detail"])["data"]["policy"]["name"]
            for entry in crowd.bus
            if entry["DetailType"].endswith("Violated")
        )
        assert {name: each.violated for name, each in preview.policies.items()} == {
            "long": 31,
            "many": 29,
            "never": 0,
        }
        assert told == Counter({name: each.violated for name, each in preview.policies.items()})
        assert [len(each.sessions) for each in preview.policies.values()] == [20, 20, 0]
        assert (preview.sessions, preview.scopes_failed) == (31, 0)

    def test_it_writes_and_publishes_nothing(self, crowd: Estate) -> None:
        before = crowd.table.items()
        crowd.wire.calls.clear()
        crowd.store(long=LONG)
        policies = crowd.auditor.policies.check(crowd.document)
        crowd.auditor.preview(policies, lambda: at(crowd.minute), lambda: 60.0)
        assert crowd.table.items() == before
        assert not {"PutItem", "TransactWriteItems", "PutEvents"} & set(crowd.wire.operations())

    def test_it_tells_what_would_be_over(self, crowd: Estate) -> None:
        crowd.store(long=LONG)
        crowd.auditor = crowd.container("/policies")
        crowd.sweep()
        crowd.store(other=LONG)
        policies = crowd.auditor.policies.check(crowd.document)
        preview = crowd.auditor.preview(policies, lambda: at(crowd.minute), lambda: 60.0)
        assert {name: (each.violated, each.cleared) for name, each in preview.policies.items()} == {
            "other": (31, 0),
            "long": (0, 31),
        }

    def test_a_scope_that_fails_is_counted_and_named(self, crowd: Estate) -> None:
        crowd.fail("DescribeSessions", "AccessDeniedException")
        crowd.store(long=LONG)
        policies = crowd.auditor.policies.check(crowd.document)
        preview = crowd.auditor.preview(policies, lambda: at(crowd.minute), lambda: 60.0)
        assert (preview.policies["long"].violated, preview.scopes_failed) == (0, 1)
        assert preview.unlisted == (Unlisted("office", "cad", "AccessDeniedException"),)
