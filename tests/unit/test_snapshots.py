"""The table: what is written conditionally, together, or not at all, and what is left alone."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from pydantic import TypeAdapter

from session_auditor import table as table_module
from session_auditor.comparison import compare
from session_auditor.contract import Occasion, session_events
from session_auditor.errors import FencedError, SnapshotError
from session_auditor.model import (
    NO_FACTS,
    AuthenticationMode,
    EndReason,
    Facts,
    Fault,
    Fleet,
    Gap,
    Hole,
    KnownPolicies,
    Life,
    Listing,
    Options,
    Remembered,
    Scope,
    Snapshot,
    Target,
    UserIdMode,
)
from session_auditor.plan import SessionsPlan, TargetPlan, Write
from session_auditor.snapshots import Snapshots
from session_auditor.states import NAMES, SCHEMA
from session_auditor.timeline import life_of
from tests.shared.aws import Wire, client_error, raising
from tests.shared.history import AWAY, PATIENT, SCOPE, TARGET, at, session
from tests.shared.table import PARTITION, Table
from tests.shared.table import table as mocked_table

Writes = dict[str, Write]
FIRST = Target(first_begin=at(0))
GAPS = (Gap(SCOPE, at(1), at(0), "ThrottlingException", untried_since=at(1), announced=True),)
LATER = Target(at(0), at(5), at(6), AuthenticationMode.UNFILTERED, gaps=GAPS)


@pytest.fixture
def table() -> Iterator[Table]:
    with mocked_table() as table:
        yield table


@pytest.fixture
def wire(table: Table, monkeypatch: pytest.MonkeyPatch) -> Wire:
    return Wire(monkeypatch)


@pytest.fixture
def snapshots(table: Table) -> Snapshots:
    return table.snapshots()


def started(*names: str, minute: float = 1, **fields: Any) -> Writes:
    """The writes of a sweep that sees these sessions for the first time."""
    seen = {name: session(session_id=name, **fields) for name in names}
    listing = Listing(at(minute), at(minute), seen, frozenset([SCOPE]))
    comparison = compare(Snapshot(target=FIRST, scopes=frozenset([SCOPE])), listing, Options())
    occasion = Occasion(TARGET, "sweep", at(minute), NO_FACTS, Options())
    return {
        each.after.session.id: Write(each.after, tuple(session_events(each, occasion)))
        for each in comparison.transitions
    }


def committed(snapshots: Snapshots, *names: str) -> Snapshot:
    snapshot, uncommitted = snapshots.commit(
        snapshots.load(at(9)), SessionsPlan(FIRST, started(*names)), always
    )
    assert not uncommitted
    return snapshots.commit_target(snapshot, TargetPlan(LATER, frozenset([SCOPE]), ()))


def _values(query: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = query["ExpressionAttributeValues"]
    return values


def always() -> float:
    return 60.0


def ids(snapshot: Snapshot) -> frozenset[str]:
    return frozenset(event.event_id for stored in snapshot.sessions.values() for event in stored.outbox)


def test_an_empty_table_is_an_empty_snapshot(snapshots: Snapshots) -> None:
    assert snapshots.load(at(9)) == Snapshot()


def test_what_is_committed_is_loaded(snapshots: Snapshots) -> None:
    names = ("s-1", "s-2", "\U0001f600")
    scopes = frozenset([SCOPE, Scope("lab", "gis")])
    snapshot, uncommitted = snapshots.commit(
        snapshots.load(at(9)), SessionsPlan(FIRST, started(*names)), always
    )
    outbox = started("audit")["audit"][1]
    snapshot = snapshots.commit_target(snapshot, TargetPlan(LATER, scopes, outbox))
    assert not uncommitted
    assert snapshots.load(at(9)) == snapshot
    assert set(snapshot.sessions) == set(names)
    assert (snapshot.target, snapshot.outbox, snapshot.scopes) == (
        replace(LATER, sessions_schema=SCHEMA),
        outbox,
        scopes,
    )


def test_a_quiet_sweep_writes_the_target_alone(snapshots: Snapshots, wire: Wire) -> None:
    snapshot = committed(snapshots, "s-1")
    wire.calls.clear()
    snapshot, _ = snapshots.commit(snapshot, SessionsPlan(LATER, {}), always)
    snapshots.commit_target(snapshot, TargetPlan(replace(LATER, last_end=at(7)), frozenset([SCOPE]), ()))
    assert wire.operations() == ["PutItem"]
    size = len(json.dumps(wire.parameters("PutItem")[0]["Item"]))
    assert size < 1024


def test_more_than_a_megabyte_is_read_page_by_page(table: Table, snapshots: Snapshots, wire: Wire) -> None:
    names = [f"s-{number}" for number in range(5)]
    committed(snapshots, *names)
    for name in names:
        table.put(table.item(f"SESSION#{name}") | {"ballast": {"S": "x" * 300_000}})
    wire.calls.clear()
    assert snapshots.load(at(9)).sessions.keys() == set(names)
    queries = wire.parameters("Query")
    assert len(queries) > 1
    assert all(query["ConsistentRead"] for query in queries)


def test_transactions_stay_within_the_limits(snapshots: Snapshots, wire: Wire) -> None:
    committed(snapshots, *(f"s-{number}" for number in range(250)))
    sizes = [len(each["TransactItems"]) for each in wire.parameters("TransactWriteItems")]
    assert sizes[:-1] == [100, 100, 53], "99 sessions and the fence"
    assert sizes[-1] == 2, "the target and its scopes"


def test_one_item_that_somebody_wrote_does_not_sink_its_neighbours(
    table: Table, snapshots: Snapshots
) -> None:
    snapshot = committed(snapshots, "s-1", "s-2")
    other = table.item("SESSION#s-1")
    table.put(other | {"version": {"N": "9"}})
    before = snapshot.sessions
    writes = started("s-1", "s-2", "s-3", minute=2)
    snapshot, uncommitted = snapshots.commit(snapshot, SessionsPlan(LATER, writes), always)
    assert uncommitted == {"s-1"}
    assert snapshot.sessions["s-1"] == before["s-1"]
    assert snapshot.sessions["s-2"].version == before["s-2"].version + 1
    assert table.item("SESSION#s-1")["version"] == {"N": "9"}
    assert set(snapshot.sessions) == {"s-1", "s-2", "s-3"}


def test_an_invalid_item_does_not_sink_its_neighbours(snapshots: Snapshots, wire: Wire) -> None:
    def refuse_the_poison(parameters: dict[str, Any]) -> dict[str, Any]:
        if "SESSION#s-3" in str(parameters):
            raise client_error("ValidationException")
        return {}

    wire.answers["TransactWriteItems"] = refuse_the_poison
    names = [f"s-{number}" for number in range(9)]
    snapshot, uncommitted = snapshots.commit(Snapshot(), SessionsPlan(FIRST, started(*names)), always)
    assert uncommitted == {"s-3"}
    assert set(snapshot.sessions) == set(names) - {"s-3"}


@pytest.mark.parametrize("first", [True, False], ids=["the first sweep of a target", "a later sweep"])
def test_who_read_before_a_commit_is_fenced_off(snapshots: Snapshots, first: bool) -> None:
    if not first:
        committed(snapshots, "s-1")
    slow = fast = snapshots.load(at(9))
    snapshots.commit_target(fast, TargetPlan(LATER, frozenset([SCOPE]), ()))
    with pytest.raises(FencedError):
        snapshots.commit(slow, SessionsPlan(FIRST, started("s-2")), always)
    with pytest.raises(FencedError):
        snapshots.commit_target(slow, TargetPlan(FIRST, slow.scopes, ()))
    with pytest.raises(FencedError):
        snapshots.commit_target(slow, TargetPlan(FIRST, frozenset(), ()))
    assert "s-2" not in snapshots.load(at(9)).sessions


def test_a_sweep_that_died_before_its_target_was_written_fences_too(snapshots: Snapshots) -> None:
    slow = fast = committed(snapshots, "s-1")
    snapshots.commit(fast, SessionsPlan(LATER, started("s-2")), always)
    with pytest.raises(FencedError):
        snapshots.commit(slow, SessionsPlan(LATER, started("s-3")), always)


def test_what_there_is_no_time_for_stays_uncommitted(snapshots: Snapshots) -> None:
    left = iter([60.0, 0.0])
    names = [f"s-{number}" for number in range(150)]
    snapshot, uncommitted = snapshots.commit(
        Snapshot(), SessionsPlan(FIRST, started(*names)), lambda: next(left)
    )
    assert (len(snapshot.sessions), len(uncommitted)) == (99, 51)
    assert len(snapshots.load(at(9)).sessions) == 99


def test_a_session_can_be_forgotten(snapshots: Snapshots) -> None:
    snapshot, _ = snapshots.commit(
        committed(snapshots, "s-1", "s-2"), SessionsPlan(LATER, {"s-1": Write(None)}), always
    )
    assert set(snapshot.sessions) == set(snapshots.load(at(9)).sessions) == {"s-2"}


class TestKept:
    """What a warm container need not read again, and when it has to."""

    def published(self, snapshots: Snapshots, *names: str) -> Snapshot:
        """Commit and clear in a sweep, and make another, at minute 9, that finds nothing to write."""
        snapshot = committed(snapshots, *names)
        snapshots.clear(snapshot, ids(snapshot), {}, at(2))
        return snapshots.commit_target(snapshots.load(at(9)), TargetPlan(LATER, frozenset([SCOPE]), ()))

    def test_the_targets_item_is_all_that_is_read(self, snapshots: Snapshots, wire: Wire) -> None:
        snapshot = self.published(snapshots, "s-1", "s-2")
        snapshots.keep(snapshot)
        wire.calls.clear()
        assert snapshots.load(at(9)) == snapshot
        (query,) = wire.parameters("Query")
        assert query["ConsistentRead"]
        assert query["ExpressionAttributeValues"][":sk"] == {"S": "TARGET"}

    def test_what_another_one_committed_is_read(self, table: Table, snapshots: Snapshots) -> None:
        snapshots.keep(self.published(snapshots, "s-1"))
        another = table.snapshots()
        snapshot, _ = another.commit(another.load(at(9)), SessionsPlan(LATER, started("s-2")), always)
        assert snapshots.load(at(9)) == snapshot
        assert set(snapshot.sessions) == {"s-1", "s-2"}

    def test_quiet_sweeps_of_containers_by_turns_read_one_item(self, table: Table, wire: Wire) -> None:
        containers = [table.snapshots() for _ in range(3)]
        self.published(containers[0], "s-1", "s-2")
        for sweep in range(12):
            snapshots = containers[sweep % 3]
            wire.calls.clear()
            snapshot = snapshots.load(at(9 + sweep))
            assert set(snapshot.sessions) == {"s-1", "s-2"}
            asked = [call[":sk"] for call in map(_values, wire.parameters("Query")) if ":sk" in call]
            assert len(asked) == 1
            assert wire.operations().count("Query") == (1 if sweep >= 3 else 2)
            later = replace(LATER, last_begin=at(9 + sweep))
            snapshots.keep(snapshots.commit_target(snapshot, TargetPlan(later, snapshot.scopes, ())))
            assert table.snapshots().load(at(9 + sweep)) == snapshots.load(at(9 + sweep))
            snapshots.keep(snapshots.load(at(9 + sweep)))

    @pytest.mark.parametrize("change", ["a session", "scopes", "facts", "policies", "the target's outbox"])
    def test_what_another_one_changed_before_a_quiet_sweep_is_read(
        self, table: Table, snapshots: Snapshots, change: str
    ) -> None:
        snapshots.keep(self.published(snapshots, "s-1"))
        another = table.snapshots()
        loaded = another.load(at(9))
        plan = TargetPlan(LATER, loaded.scopes, ())
        match change:
            case "a session":
                loaded, _ = another.commit(loaded, SessionsPlan(LATER, started("s-2")), always)
                loaded = another.clear(loaded, ids(loaded), {}, at(9))
            case "scopes":
                plan = replace(plan, scopes=frozenset([Scope("new", "one")]))
            case "facts":
                plan = replace(plan, facts=Facts({"cad": Fleet(60)}))
            case "policies":
                loaded = another.adopt(loaded, KnownPolicies("{}"), at(9))
            case _:
                event = started("s-9")["s-9"].outbox
                loaded = another.commit_target(loaded, replace(plan, outbox=event))
                loaded = another.clear(loaded, frozenset([event[0].event_id]), {}, at(9))
        another.commit_target(loaded, plan)
        quiet = table.snapshots()
        quiet.commit_target(quiet.load(at(9)), replace(plan, scopes=plan.scopes, facts=plan.facts))
        assert snapshots.load(at(10)) == table.snapshots().load(at(10))

    def test_after_a_sweep_of_an_older_release_everything_is_read(
        self, table: Table, snapshots: Snapshots
    ) -> None:
        snapshots.keep(self.published(snapshots, "s-1", "s-2"))
        item = table.item("TARGET")
        del item["changed"]
        table.put(item | {"version": {"N": str(int(item["version"]["N"]) + 5)}})
        table.delete("SESSION#s-1")
        assert set(snapshots.load(at(9)).sessions) == {"s-2"}
        # Nor does a quiet sweep over it say that nothing changed before.
        quiet = table.snapshots()
        after = quiet.commit_target(quiet.load(at(9)), TargetPlan(LATER, frozenset([SCOPE]), ()))
        assert after.changed == after.version

    def test_a_new_beginning_is_read(self, table: Table, snapshots: Snapshots) -> None:
        snapshot = self.published(snapshots, "s-1")
        snapshots.keep(snapshot)
        item = table.item("TARGET")
        table.put(item | {"state": {"S": item["state"]["S"].replace("08:05:00", "09:05:00")}})
        loaded = snapshots.load(at(9))
        assert loaded.version == snapshot.version
        assert loaded != snapshot

    def test_an_hour_later_everything_is_read(self, table: Table, snapshots: Snapshots) -> None:
        snapshot = self.published(snapshots, "s-1", "s-2")
        snapshots.keep(snapshot)
        table.delete("SESSION#s-1")
        assert set(snapshots.load(at(68)).sessions) == {"s-1", "s-2"}
        snapshots.keep(snapshot)
        assert set(snapshots.load(at(69)).sessions) == {"s-2"}

    def test_not_by_a_sweep_that_wrote_a_session(self, table: Table, snapshots: Snapshots) -> None:
        snapshot = committed(snapshots, "s-1")
        snapshots.keep(snapshots.clear(snapshot, ids(snapshot), {}, at(2)))
        table.delete("SESSION#s-1")
        assert snapshots.load(at(9)).sessions == {}

    def test_not_while_an_event_waits(self, table: Table, snapshots: Snapshots) -> None:
        snapshot = committed(snapshots, "s-1")
        snapshots.keep(snapshot)
        another = table.snapshots()
        cleared = another.clear(another.load(at(9)), ids(snapshot), {}, at(2))
        assert snapshots.load(at(9)) == cleared

    def test_not_if_a_write_failed(self, table: Table, snapshots: Snapshots) -> None:
        snapshot = self.published(snapshots, "s-1")
        table.put(table.item("SESSION#s-1") | {"version": {"N": "9"}})
        snapshot, uncommitted = snapshots.commit(snapshot, SessionsPlan(LATER, started("s-1")), always)
        assert uncommitted == {"s-1"}
        snapshots.keep(snapshots.commit_target(snapshot, TargetPlan(LATER, snapshot.scopes, ())))
        assert snapshots.load(at(9)).sessions["s-1"].version == 9

    def test_not_if_an_item_could_not_be_read(self, table: Table, snapshots: Snapshots) -> None:
        self.published(snapshots, "s-1", "s-2")
        item = table.item("SESSION#s-1")
        table.put(item | {"schema": {"N": "2"}})
        snapshots.keep(
            snapshots.commit_target(snapshots.load(at(9)), TargetPlan(LATER, frozenset([SCOPE]), ()))
        )
        table.put(item)
        assert set(snapshots.load(at(9)).sessions) == {"s-1", "s-2"}

    def test_a_commit_in_the_middle_of_a_read_fences_the_reader(
        self, table: Table, snapshots: Snapshots, wire: Wire
    ) -> None:
        committed(snapshots, "s-1")
        another = table.snapshots()
        earlier = another.load(at(9))

        def commit_first(parameters: dict[str, Any]) -> dict[str, Any]:
            del wire.answers["Query"]
            answer: dict[str, Any] = table.dynamodb.query(**parameters)
            another.commit_target(earlier, TargetPlan(LATER, earlier.scopes, ()))
            return answer

        wire.answers["Query"] = commit_first
        with pytest.raises(FencedError):
            snapshots.commit_target(snapshots.load(at(9)), TargetPlan(LATER, earlier.scopes, ()))


class TestClear:
    """Taking out of the outbox what EventBridge took."""

    def test_accepted_events_are_taken_out(self, snapshots: Snapshots) -> None:
        snapshot = committed(snapshots, "s-1", "s-2")
        (first,) = snapshot.sessions["s-1"].outbox
        snapshot = snapshots.clear(snapshot, frozenset([first.event_id]), {}, at(2))
        assert snapshot.sessions["s-1"].outbox == ()
        assert len(snapshot.sessions["s-2"].outbox) == 1
        assert snapshots.load(at(9)) == snapshot

    @pytest.mark.parametrize(
        ("told", "fleet", "kept"),
        [
            pytest.param(
                {"instance_id": "i-1"},
                {"instance_type": "stream.standard.large", "max_sessions": 4},
                {
                    "userId": {"S": "jane.doe@example.com"},
                    "authenticationType": {"S": "SAML"},
                    "instanceId": {"S": "i-1"},
                    "instanceType": {"S": "stream.standard.large"},
                    "maxSessionsPerInstance": {"N": "4"},
                },
                id="all that is known",
            ),
            pytest.param(
                {"user_id": "", "authentication_type": ""}, {}, {}, id="what is not known has no attribute"
            ),
        ],
    )
    def test_an_ended_session_moves_to_history_in_one_step(
        self,
        *,
        table: Table,
        snapshots: Snapshots,
        wire: Wire,
        told: dict[str, str],
        fleet: dict[str, Any],
        kept: dict[str, dict[str, str]],
    ) -> None:
        snapshot = committed(snapshots, "s-1")
        remembered = snapshot.sessions["s-1"].remembered
        expired = session(AWAY, state="EXPIRED", **told)
        facts = Facts({"cad": Fleet(3600, "ON_DEMAND", **fleet)})
        listing = Listing(at(31), at(31), {"s-1": expired}, frozenset([SCOPE]), facts=facts)
        (ended,) = compare(snapshot, listing, PATIENT).transitions
        events = tuple(session_events(ended, Occasion(TARGET, "sweep", at(31), facts, Options())))
        snapshot, _ = snapshots.commit(
            snapshot, SessionsPlan(LATER, {"s-1": Write(ended.after, events)}), always
        )
        wire.calls.clear()
        snapshot = snapshots.clear(snapshot, ids(snapshot), {}, at(31))
        assert wire.operations() == ["TransactWriteItems"]
        assert snapshot.sessions == snapshots.load(at(9)).sessions == {}
        (history,) = table.items("HISTORY#")
        assert history == {
            "pk": {"S": "HISTORY#123456789012#eu-west-1#2026-03-02"},
            "sk": {"S": "2026-03-02T08:31:00Z#s-1"},
            "sessionId": {"S": "s-1"},
            **kept,
            "stackName": {"S": "office"},
            "fleetName": {"S": "cad"},
            "fleetType": {"S": "ON_DEMAND"},
            "startTime": {"S": "2026-03-02T08:00:30Z"},
            "firstSeen": {"S": "2026-03-02T08:01:00Z"},
            "endedAfter": {"S": "2026-03-02T08:00:00Z"},
            "endTime": {"S": "2026-03-02T08:31:00Z"},
            "endReason": {"S": "USER_OR_ADMIN"},
            "connectedSeconds": {"N": "1800"},
            "disconnectedSeconds": {"N": "0"},
            "neverConnectedSeconds": {"N": "0"},
            "disconnects": {"N": "0"},
            "events": {"N": "2"},
            "timeline": {"S": "0s,1800e1860"},
            "expiresAt": {"N": str(int(at(31).timestamp()) + 90 * 86400)},
        }
        assert remembered.ending is None
        assert list(snapshots.reader.history(at(31))) == [life_of(ended.after, at(31))]

    @pytest.mark.parametrize("timeline", ["+x", "+", "9" * 5000 + "s", "+" + "9" * 5000, "0s:" + "9" * 5000])
    def test_a_history_that_somebody_broke_is_left_out(
        self, table: Table, snapshots: Snapshots, timeline: str
    ) -> None:
        layout = table_module.Table("sessions", TARGET, timedelta(days=90))
        life = Life("s-1", SCOPE, at(0), at(0), end=at(9), reason=EndReason.UNKNOWN)
        item = layout.put_history(life, at(9), at(9))["Put"]["Item"]
        table.put(item)
        table.put(item | {"sk": {"S": "x#s-2"}, "timeline": {"S": timeline}})
        assert [each.session_id for each in snapshots.reader.history(at(9))] == ["s-1"]

    def test_of_another_target_the_index_tells_nothing(self, table: Table, snapshots: Snapshots) -> None:
        for target in (TARGET, TARGET._replace(region="us-east-1")):
            layout = table_module.Table("sessions", target, timedelta(days=90))
            for minute in (9, 10, 11):
                life = Life(
                    f"s-{minute}",
                    SCOPE,
                    at(0),
                    at(0),
                    end=at(minute),
                    user_id="ann",
                    reason=EndReason.UNKNOWN,
                )
                table.put(layout.put_history(life, at(minute), at(11))["Put"]["Item"])
        found = snapshots.reader.history_of("ann", at(9), at(11))
        assert [each.session_id for each in found] == ["s-9", "s-10"], "until means before"

    def test_what_no_index_takes_is_left_out_of_it(self) -> None:
        layout = table_module.Table("sessions", TARGET, timedelta(days=90))
        for user_id, kept in (("x" * 2048, True), ("x" * 2049, False)):
            life = Life("s-1", SCOPE, at(0), at(0), end=at(9), user_id=user_id)
            assert ("userId" in layout.put_history(life, at(9), at(9))["Put"]["Item"]) is kept

    def test_a_refused_event_is_kept_apart(self, table: Table, snapshots: Snapshots) -> None:
        snapshot = committed(snapshots, "s-1")
        (event,) = snapshot.sessions["s-1"].outbox
        snapshot = snapshots.clear(snapshot, frozenset(), {event.event_id: "MalformedDetail"}, at(2))
        assert snapshot.sessions["s-1"].outbox == ()
        (refused,) = table.items("REFUSED#")
        assert refused["errorCode"] == {"S": "MalformedDetail"}
        assert refused["detail"] == {"S": event.detail}
        assert int(refused["expiresAt"]["N"]) == int(at(2).timestamp()) + 90 * 86400
        assert snapshots.load(at(9)).unreadable == frozenset()

    def test_an_item_that_somebody_wrote_keeps_its_outbox(self, table: Table, snapshots: Snapshots) -> None:
        snapshot = committed(snapshots, "s-1", "s-2")
        table.put(table.item("SESSION#s-1") | {"version": {"N": "9"}})
        snapshot = snapshots.clear(snapshot, ids(snapshot), {}, at(2))
        assert [len(snapshot.sessions[name].outbox) for name in ("s-1", "s-2")] == [1, 0]
        assert "outbox" in table.item("SESSION#s-1")

    def test_the_targets_own_events(self, table: Table, snapshots: Snapshots) -> None:
        first, second = (*started("a")["a"][1], *started("b")["b"][1])
        snapshot = snapshots.commit_target(
            snapshots.load(at(9)), TargetPlan(LATER, frozenset([SCOPE]), (first, second))
        )
        snapshot = snapshots.clear(snapshot, frozenset([first.event_id]), {second.event_id: "X"}, at(2))
        assert snapshot.outbox == ()
        assert snapshots.load(at(9)) == snapshot
        assert len(table.items("REFUSED#")) == 1
        snapshots.commit_target(snapshot, TargetPlan(LATER, frozenset([SCOPE]), ()))

    def test_the_targets_events_stay_if_somebody_wrote_it(self, snapshots: Snapshots) -> None:
        snapshot = snapshots.commit_target(
            snapshots.load(at(9)), TargetPlan(LATER, frozenset(), started("a")["a"][1])
        )
        snapshots.commit_target(snapshot, TargetPlan(LATER, frozenset(), snapshot.outbox))
        cleared = snapshots.clear(snapshot, frozenset(each.event_id for each in snapshot.outbox), {}, at(2))
        assert cleared == snapshot

    def test_a_stalled_sweep_clears_nothing_of_the_next_life_of_a_session(
        self, table: Table, snapshots: Snapshots
    ) -> None:
        stalled = committed(snapshots, "s-1")
        another = table.snapshots()
        snapshot, _ = another.commit(another.load(at(9)), SessionsPlan(LATER, {"s-1": Write(None)}), always)
        another.commit(snapshot, SessionsPlan(LATER, started("s-1", minute=3)), always)
        after = table.item("SESSION#s-1")
        assert snapshots.clear(stalled, ids(stalled), {}, at(4)) == stalled
        assert table.item("SESSION#s-1") == after

    def test_more_refused_events_than_a_transaction_takes(self, table: Table, snapshots: Snapshots) -> None:
        events = tuple(started(*(str(number) for number in range(150))).values())
        outbox = tuple(event for _, events_ in events for event in events_)
        snapshot = snapshots.commit_target(
            snapshots.load(at(9)), TargetPlan(LATER, frozenset([SCOPE]), outbox)
        )
        refused = {event.event_id: "X" for event in outbox}
        assert snapshots.clear(snapshot, frozenset(), refused, at(2)).outbox == ()
        assert len(table.items("REFUSED#")) == 150

    def test_a_refused_event_that_cannot_be_kept_apart_stays(
        self, table: Table, wire: Wire, snapshots: Snapshots
    ) -> None:
        snapshot = committed(snapshots, "s-1", "s-2")
        kept, refused = (snapshot.sessions[name].outbox[0].event_id for name in ("s-1", "s-2"))

        def busy(parameters: dict[str, Any]) -> dict[str, Any]:
            if "REFUSED" in str(parameters):
                raise client_error("ThrottlingException")
            del wire.answers["TransactWriteItems"]
            return table.dynamodb.transact_write_items(**parameters)  # type: ignore[no-any-return]

        wire.answers["TransactWriteItems"] = busy
        cleared = snapshots.clear(snapshot, frozenset([kept]), {refused: "X"}, at(2))
        assert cleared.sessions["s-1"].outbox == ()
        assert cleared.sessions["s-2"] == snapshot.sessions["s-2"]


class TestStrangeItems:
    """Items that this release did not write."""

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param({"schema": {"N": str(SCHEMA + 1)}}, id="a newer schema"),
            pytest.param({"state": {"S": '{"session": '}}, id="truncated"),
            pytest.param({"state": {"S": "[]"}}, id="another form"),
            pytest.param({"state": {"N": "7"}}, id="a number"),
            pytest.param({"version": {"S": "one"}}, id="no version"),
            pytest.param({"schema": {"NULL": True}}, id="no schema"),
            pytest.param({"outbox": {"L": [{"M": {"type": {"S": "Nonsense"}}}]}}, id="no event of ours"),
            pytest.param(
                {"outbox": {"L": [{"M": {"type": {"S": "AppStream Session Ended"}, "detail": {"S": "{}"}}}]}},
                id="an event without its parts",
            ),
        ],
    )
    def test_they_are_left_as_they_are(
        self, table: Table, snapshots: Snapshots, change: dict[str, Any]
    ) -> None:
        committed(snapshots, "s-1", "s-2")
        strange = table.item("SESSION#s-1") | change
        table.put(strange)
        snapshot = snapshots.load(at(9))
        assert snapshot.unreadable == {"s-1"}
        assert set(snapshot.sessions) == {"s-2"}
        listing = Listing(at(9), at(9), {"s-1": session()}, frozenset([SCOPE]))
        assert [each.after.session.id for each in compare(snapshot, listing, Options()).transitions] == [
            "s-2"
        ]
        assert table.item("SESSION#s-1") == strange

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            pytest.param("sequence", -1, id="a negative count"),
            pytest.param("disconnect_timeout", 10**12, id="a timeout that no fleet has"),
            pytest.param("first_seen", "2026-03-02T08:00:00", id="a time without a zone"),
            pytest.param("first_seen", "0001-01-01T00:00:00+14:00", id="a time out of range"),
        ],
    )
    def test_a_state_that_would_break_a_later_sweep_is_left_too(
        self, table: Table, snapshots: Snapshots, field: str, value: object
    ) -> None:
        committed(snapshots, "s-1", "s-2")
        item = table.item("SESSION#s-1")
        state = json.loads(item["state"]["S"]) | {NAMES[field]: value}
        table.put(item | {"state": {"S": json.dumps(state)}})
        snapshot = snapshots.load(at(9))
        assert (snapshot.unreadable, set(snapshot.sessions)) == ({"s-1"}, {"s-2"})

    def test_times_of_whatever_zone_are_read_in_utc(self, table: Table, snapshots: Snapshots) -> None:
        committed(snapshots, "s-1")
        item = table.item("SESSION#s-1")
        state = json.loads(item["state"]["S"]) | {NAMES["first_seen"]: "2026-03-02T10:00:00+02:00"}
        table.put(item | {"state": {"S": json.dumps(state)}})
        first_seen = snapshots.load(at(9)).sessions["s-1"].remembered.first_seen
        assert (first_seen, first_seen.tzinfo) == (datetime(2026, 3, 2, 8, tzinfo=UTC), UTC)

    def test_another_writers_item_is_counted(self, table: Table, snapshots: Snapshots) -> None:
        table.put({"pk": {"S": PARTITION}, "sk": {"S": "NOTES"}, "text": {"S": "hello"}})
        assert snapshots.load(at(9)).unreadable == {"NOTES"}

    def test_scopes_of_a_newer_release_are_left_as_they_are(self, table: Table, snapshots: Snapshots) -> None:
        committed(snapshots, "s-1")
        newer = table.item("SCOPES") | {"schema": {"N": "2"}}
        table.put(newer)
        snapshot = snapshots.load(at(9))
        assert snapshot.unreadable == {"SCOPES"}
        snapshots.commit_target(snapshot, TargetPlan(LATER, frozenset(), ()))
        assert table.item("SCOPES") == newer

    def test_an_older_form_reads_and_is_rewritten(self, table: Table, snapshots: Snapshots) -> None:
        committed(snapshots, "s-1")
        item = table.item("SESSION#s-1")
        remembered = snapshots.load(at(9)).sessions["s-1"].remembered
        old = TypeAdapter(Remembered).dump_python(remembered, mode="json")
        del old["sequence"]
        table.put(item | {"schema": {"N": "0"}, "state": {"S": json.dumps(old)}})
        snapshot = snapshots.load(at(9))
        assert snapshot.sessions["s-1"].remembered.sequence == 0
        snapshots.commit(snapshot, SessionsPlan(LATER, started("s-1", minute=2)), always)
        assert table.item("SESSION#s-1")["schema"] == {"N": str(SCHEMA)}

    @pytest.mark.parametrize(
        "change",
        [
            {"schema": {"N": "2"}},
            {"state": {"S": "{}"}},
            {"state": {"S": '{"first_begin": "2026-03-02T08:00:00"}'}},
            {"version": {"N": "0"}},
            {"outbox": {"S": "x"}},
        ],
    )
    def test_the_targets_own_item_fails_the_sweep(
        self, table: Table, snapshots: Snapshots, change: dict[str, Any]
    ) -> None:
        committed(snapshots, "s-1")
        table.put(table.item("TARGET") | change)
        with pytest.raises(SnapshotError, match="delete the item TARGET"):
            snapshots.load(at(9))

    def test_a_broken_entry_of_the_targets_outbox_is_kept_as_it_is(
        self, table: Table, snapshots: Snapshots
    ) -> None:
        snapshot = committed(snapshots, "s-1")
        broken = [{"S": "x"}, {"M": {"type": {"S": "AppStream Audit Degraded"}, "detail": {"S": "{}"}}}]
        table.put(table.item("TARGET") | {"outbox": {"L": broken}})
        snapshot = snapshots.load(at(9))
        assert (len(snapshot.broken), snapshot.outbox) == (2, ())
        snapshots.commit_target(snapshot, TargetPlan(LATER, snapshot.scopes, ()))
        assert table.item("TARGET")["outbox"] == {"L": broken}

    def test_another_sessions_state_under_a_key_is_left(self, table: Table, snapshots: Snapshots) -> None:
        committed(snapshots, "s-1")
        table.put(table.item("SESSION#s-1") | {"sk": {"S": "SESSION#s-2"}})
        assert snapshots.load(at(9)).unreadable == {"s-2"}


class TestParts:
    """What does not fit the target's item lies beside it, and never reads as covered when it is missing."""

    @staticmethod
    def many(count: int) -> tuple[frozenset[Scope], Target]:
        scopes = [Scope("s" * 90 + f"{number:05}", "f" * 100) for number in range(count)]
        gaps = tuple(Gap(scope, at(1), at(0), "ThrottlingException", begin=at(1)) for scope in scopes)
        return frozenset(scopes), Target(at(0), at(5), at(6), gaps=gaps, holes=(Hole(SCOPE, at(1), at(1)),))

    def test_it_is_loaded_as_it_was_committed(self, table: Table, snapshots: Snapshots) -> None:
        scopes, target = self.many(2_000)
        snapshot = snapshots.commit_target(snapshots.load(at(9)), TargetPlan(target, scopes, ()))
        assert snapshot.parts > 1
        loaded = table.snapshots().load(at(9))
        assert loaded == snapshot
        assert loaded.target
        assert set(loaded.target.gaps) == set(target.gaps)
        assert (loaded.target.holes, loaded.scopes) == (target.holes, scopes)
        sizes = [len(str(item)) for item in table.items()]
        assert max(sizes) < 400_000
        assert len(str(table.item("TARGET"))) < 1_000

    def test_what_does_not_change_is_not_written_again(self, snapshots: Snapshots, wire: Wire) -> None:
        scopes, target = self.many(2_000)
        snapshot = snapshots.commit_target(snapshots.load(at(9)), TargetPlan(target, scopes, ()))
        wire.calls.clear()
        snapshot = snapshots.commit_target(
            snapshot, TargetPlan(replace(target, last_begin=at(7)), scopes, ())
        )
        assert wire.operations() == ["PutItem"]
        assert snapshots.load(at(9)) == snapshot

    def test_what_fits_again_lies_on_the_item(self, table: Table, snapshots: Snapshots) -> None:
        scopes, target = self.many(2_000)
        snapshot = snapshots.commit_target(snapshots.load(at(9)), TargetPlan(target, scopes, ()))
        few = replace(target, gaps=target.gaps[:3])
        snapshot = snapshots.commit_target(snapshot, TargetPlan(few, frozenset([SCOPE]), ()))
        assert snapshot.parts == 0
        loaded = table.snapshots().load(at(9))
        assert (loaded.target, loaded.scopes, loaded.unreadable) == (
            replace(few, sessions_schema=SCHEMA),
            {SCOPE},
            frozenset(),
        )

    @pytest.mark.parametrize("missing", [True, False], ids=["missing", "broken"])
    def test_without_one_no_scope_reads_as_covered(
        self, table: Table, snapshots: Snapshots, missing: bool
    ) -> None:
        scopes, target = self.many(2_000)
        snapshots.commit_target(snapshots.load(at(9)), TargetPlan(target, scopes, ()))
        if missing:
            table.delete("TARGET#2")
        else:
            table.put(table.item("TARGET#2") | {"state": {"S": "[]"}})
        loaded = snapshots.load(at(9))
        assert loaded.scopes == frozenset()
        assert loaded.unreadable == (set() if missing else {"TARGET#2"})

    def test_what_fits_no_transaction_reads_as_never_covered(self, snapshots: Snapshots) -> None:
        scopes, target = self.many(6_000)
        snapshots.commit_target(snapshots.load(at(9)), TargetPlan(target, scopes, ()))
        loaded = snapshots.load(at(9))
        assert loaded.target
        gaps = {gap.scope for gap in loaded.target.gaps}
        assert 4_000 < len(gaps) < 6_000
        assert loaded.scopes <= gaps

    def test_they_are_written_by_one_transaction_or_not_at_all(
        self, snapshots: Snapshots, wire: Wire
    ) -> None:
        scopes, target = self.many(2_000)
        wire.answers["TransactWriteItems"] = raising(client_error("ThrottlingException"))
        with pytest.raises(SnapshotError, match="too busy"):
            snapshots.commit_target(snapshots.load(at(9)), TargetPlan(target, scopes, ()))
        assert snapshots.load(at(9)) == Snapshot()

    def test_gaps_of_the_last_release_are_read(self, table: Table, snapshots: Snapshots) -> None:
        committed(snapshots, "s-1")
        state = json.loads(table.item("TARGET")["state"]["S"])
        state["gaps"] = [
            {
                "scope": ["office", "cad"],
                "since": "2026-03-02T08:01:00Z",
                "covered": "2026-03-02T08:00:00Z",
                "reason": "ThrottlingException",
                "untried": 1,
                "sweeps": 2,
                "announced": True,
            }
        ]
        table.put(table.item("TARGET") | {"state": {"S": json.dumps(state)}})
        target = snapshots.load(at(9)).target
        assert target
        assert target.gaps == (Gap(SCOPE, at(1), at(0), "ThrottlingException", announced=True),)


class TestBeside:
    """What is known of fleets and policies lies beside the target's item, and is written when it changes."""

    FACTS = Facts(
        {"cad": Fleet(3600, "ON_DEMAND", "stream.standard.medium", "WINDOWS_SERVER_2022", 4, {"team": "a"})},
        {"office": {"team": "b"}},
    )
    POLICIES = KnownPolicies('{"version": 1}', "policies.a: no such hours")

    def plan(self, facts: Facts = FACTS) -> TargetPlan:
        return TargetPlan(LATER, frozenset([SCOPE]), (), facts)

    def test_facts_are_loaded_as_they_were_committed(self, table: Table, snapshots: Snapshots) -> None:
        snapshot = snapshots.commit_target(snapshots.load(at(9)), self.plan())
        assert snapshot.facts == self.FACTS
        assert table.snapshots().load(at(9)) == snapshot

    def test_what_does_not_change_is_not_written_again(self, snapshots: Snapshots, wire: Wire) -> None:
        snapshot = snapshots.commit_target(snapshots.load(at(9)), self.plan())
        wire.calls.clear()
        snapshots.commit_target(snapshot, self.plan(replace(self.FACTS)))
        assert wire.operations() == ["PutItem"]

    def test_thousands_of_fleets_lie_in_several_items(self, table: Table, snapshots: Snapshots) -> None:
        tags = {f"key-{number}": "value" * 20 for number in range(5)}
        names = [f"fleet-{number:05}" for number in range(500)]
        facts = Facts({name: replace(self.FACTS.fleet("cad"), tags=tags) for name in names})
        snapshot = snapshots.commit_target(snapshots.load(at(9)), self.plan(facts))
        assert "FLEETS#1" in {item["sk"]["S"] for item in table.items()}
        assert max(len(str(item)) for item in table.items()) < 400_000
        assert table.snapshots().load(at(9)).facts == snapshot.facts == facts
        snapshots.commit_target(snapshot, self.plan())
        assert table.snapshots().load(at(9)).facts == self.FACTS

    def test_what_fits_no_transaction_is_left_out(self, table: Table, snapshots: Snapshots) -> None:
        tags = {f"key-{number}": "value" * 50 for number in range(10)}
        facts = Facts({f"fleet-{number:05}": Fleet(tags=tags) for number in range(2_000)})
        snapshot = snapshots.commit_target(snapshots.load(at(9)), self.plan(facts))
        loaded = table.snapshots().load(at(9))
        assert loaded.facts == snapshot.facts
        assert 0 < len(loaded.facts.fleets) < 2_000

    @pytest.mark.parametrize("key", ["FLEETS", "POLICIES"])
    @pytest.mark.parametrize(
        "change", [{"schema": {"N": "2"}}, {"state": {"S": "[7]"}}], ids=["newer", "broken"]
    )
    def test_items_that_cannot_be_read_are_left_as_they_are(
        self, table: Table, snapshots: Snapshots, key: str, change: dict[str, Any]
    ) -> None:
        snapshot = snapshots.adopt(snapshots.load(at(9)), self.POLICIES, at(9))
        snapshots.commit_target(snapshot, self.plan())
        strange = table.item(key) | change
        table.put(strange)
        snapshot = snapshots.load(at(9))
        assert snapshot.unreadable == {key}
        snapshot = snapshots.adopt(snapshot, KnownPolicies("other"), at(10))
        snapshots.commit_target(snapshot, self.plan(Facts({"cad": Fleet(60)})))
        assert table.item(key) == strange

    def test_policies_are_in_the_table_before_anything_is_judged(
        self, table: Table, snapshots: Snapshots
    ) -> None:
        snapshot = snapshots.adopt(snapshots.load(at(9)), self.POLICIES, at(9))
        assert snapshot.policies == self.POLICIES
        loaded = table.snapshots().load(at(9))
        assert (loaded.policies, loaded.version) == (self.POLICIES, snapshot.version)

    def test_those_of_a_moment_ago_are_not_written_again(self, snapshots: Snapshots, wire: Wire) -> None:
        snapshot = snapshots.adopt(snapshots.load(at(9)), self.POLICIES, at(9))
        wire.calls.clear()
        snapshot = snapshots.adopt(snapshot, replace(self.POLICIES), at(14))
        assert wire.operations() == []
        assert snapshot.target
        assert snapshot.target.policies_read == at(14)

    def test_who_read_before_that_is_fenced_off(self, table: Table, snapshots: Snapshots) -> None:
        stalled = table.snapshots().load(at(9))
        snapshots.adopt(snapshots.load(at(9)), self.POLICIES, at(9))
        with pytest.raises(FencedError):
            table.snapshots().adopt(stalled, KnownPolicies("older"), at(8))
        with pytest.raises(FencedError):
            table.snapshots().commit_target(stalled, self.plan())
        assert table.snapshots().load(at(9)).policies == self.POLICIES

    def test_faults_that_do_not_fit_the_item_lie_in_further_ones(
        self, table: Table, snapshots: Snapshots
    ) -> None:
        codes = ",".join("ERROR_CODE_" + str(number) for number in range(20))
        faults = tuple(Fault(f"fleet-{number:04}", at(1), codes, 3) for number in range(500))
        target = replace(LATER, faults=faults, fleets_read=at(5))
        snapshot = snapshots.commit_target(snapshots.load(at(9)), TargetPlan(target, frozenset([SCOPE]), ()))
        assert snapshot.parts
        loaded = table.snapshots().load(at(9))
        assert loaded == snapshot
        assert loaded.target
        assert loaded.target.faults == faults


class TestOvertaken:
    """DynamoDB says in three ways that another sweep was first; all of them void what this one compared."""

    @pytest.mark.parametrize(
        ("operation", "error"),
        [
            pytest.param("PutItem", client_error("ConditionalCheckFailedException"), id="its condition"),
            pytest.param(
                "PutItem", client_error("TransactionConflictException"), id="another's running transaction"
            ),
            pytest.param(
                "TransactWriteItems",
                client_error(
                    "TransactionCanceledException", CancellationReasons=[{"Code": "ConditionalCheckFailed"}]
                ),
                id="the fence's condition",
            ),
            pytest.param(
                "TransactWriteItems",
                client_error(
                    "TransactionCanceledException", CancellationReasons=[{"Code": "TransactionConflict"}]
                ),
                id="two transactions at once",
            ),
            pytest.param(
                "TransactWriteItems",
                client_error("TransactionConflictException"),
                id="an exception where a reason would do",
            ),
        ],
    )
    def test_it_is_fenced(self, snapshots: Snapshots, wire: Wire, operation: str, error: ClientError) -> None:
        snapshot = committed(snapshots, "s-1")
        wire.answers[operation] = raising(error)
        scopes = snapshot.scopes if operation == "PutItem" else frozenset([Scope("lab", "cad")])
        with pytest.raises(FencedError):
            snapshots.commit_target(snapshot, TargetPlan(LATER, scopes, ()))


class TestUserIdMode:
    """After a switch of mode, whatever is worded or written is of the new mode."""

    @pytest.mark.parametrize(
        ("mode", "expected"),
        [
            pytest.param(UserIdMode.PLAIN, "jane.doe@example.com", id="plain"),
            pytest.param(UserIdMode.HASH, "hash of jane.doe@example.com", id="hash"),
            pytest.param(UserIdMode.OMIT, "", id="omit"),
        ],
    )
    def test_a_stored_plain_id(self, table: Table, mode: UserIdMode, expected: str) -> None:
        committed(table.snapshots(), "s-1")
        stored = in_mode(table, mode).load(at(9)).sessions["s-1"]
        assert stored.remembered.session.user_id == expected
        assert stored.rewrite is (mode is not UserIdMode.PLAIN)

    def test_a_stored_hash_stays_the_same(self, table: Table) -> None:
        hashing = in_mode(table, UserIdMode.HASH)
        snapshot = hashing.load(at(9))
        options = replace(PATIENT, user_id_mode=UserIdMode.HASH)
        listing = Listing(at(1), at(1), {"s-1": session(user_id="a hash")}, frozenset([SCOPE]))
        (started,) = compare(snapshot, listing, options).transitions
        hashing.commit(snapshot, SessionsPlan(FIRST, {"s-1": Write(started.after)}), always)
        for mode in (UserIdMode.HASH, UserIdMode.PLAIN):
            stored = in_mode(table, mode).load(at(9)).sessions["s-1"]
            assert (stored.remembered.session.user_id, stored.rewrite) == ("a hash", False)

    def test_an_unchanged_session_is_written_once_in_the_new_mode(self, table: Table) -> None:
        snapshot = committed(table.snapshots(), "s-1")
        hashing = in_mode(table, UserIdMode.HASH)
        options = replace(PATIENT, user_id_mode=UserIdMode.HASH)
        seen = {"s-1": session(user_id="hash of jane.doe@example.com")}
        listing = Listing(at(2), at(2), seen, frozenset([SCOPE]))
        snapshot = hashing.load(at(9))
        (rewritten,) = compare(snapshot, listing, options).transitions
        assert rewritten.changes == ()
        outbox = snapshot.sessions["s-1"].outbox
        hashing.commit(snapshot, SessionsPlan(LATER, {"s-1": Write(rewritten.after, outbox)}), always)
        assert '"hash of jane' in table.item("SESSION#s-1")["state"]["S"]
        assert compare(hashing.load(at(9)), listing, options).transitions == ()


def in_mode(table: Table, mode: UserIdMode) -> Snapshots:
    user_id: dict[UserIdMode, Callable[[str], str]] = {
        UserIdMode.PLAIN: str,
        UserIdMode.HASH: lambda user_id: f"hash of {user_id}",
        UserIdMode.OMIT: lambda _: "",
    }
    return table.snapshots(user_id_mode=mode, user_id=user_id[mode])


class TestOutOfReach:
    """Without the table a sweep cannot go on, and says so without quoting anybody."""

    def test_no_such_table(self, table: Table) -> None:
        nowhere = table.snapshots("nowhere")
        with pytest.raises(
            SnapshotError, match=r"table nowhere cannot be read \(ResourceNotFoundException\)"
        ):
            nowhere.load(at(9))

    @pytest.mark.parametrize(
        "error",
        [client_error("AccessDeniedException"), EndpointConnectionError(endpoint_url="http://jane")],
        ids=["access denied", "no connection"],
    )
    @pytest.mark.parametrize("operation", ["Query", "TransactWriteItems", "PutItem"])
    def test_it_raises(self, wire: Wire, snapshots: Snapshots, operation: str, error: Exception) -> None:
        snapshot = committed(snapshots, "s-1")
        wire.answers[operation] = raising(error)
        calls: dict[str, Callable[[], object]] = {
            "Query": lambda: snapshots.load(at(9)),
            "PutItem": lambda: snapshots.commit_target(snapshot, TargetPlan(LATER, snapshot.scopes, ())),
            "TransactWriteItems": lambda: snapshots.clear(snapshot, ids(snapshot), {}, at(2)),
        }
        with pytest.raises(SnapshotError, match=r"AccessDeniedException|EndpointConnectionError") as caught:
            calls[operation]()
        assert "jane" not in str(caught.value)
        assert caught.value.__suppress_context__

    @pytest.mark.parametrize(
        "error",
        [
            client_error("ThrottlingException"),
            client_error("ProvisionedThroughputExceededException"),
            client_error("InternalServerError"),
            client_error("TransactionCanceledException"),
            client_error("TransactionCanceledException", CancellationReasons=[{"Code": "ThrottlingError"}]),
        ],
        ids=lambda error: str(error.response["Error"]["Code"]),
    )
    def test_while_it_is_busy_sessions_wait(
        self, wire: Wire, snapshots: Snapshots, error: ClientError
    ) -> None:
        snapshot = committed(snapshots, "s-1")
        wire.answers["TransactWriteItems"] = raising(error)
        after, uncommitted = snapshots.commit(snapshot, SessionsPlan(LATER, started("s-2", "s-3")), always)
        assert uncommitted == {"s-2", "s-3"}
        assert after == snapshot
        assert snapshots.clear(snapshot, ids(snapshot), {}, at(2)) == snapshot

    def test_scopes_that_cannot_be_written_do_not_hold_the_target_up(
        self, wire: Wire, snapshots: Snapshots
    ) -> None:
        snapshot = committed(snapshots, "s-1")
        wire.answers["TransactWriteItems"] = raising(client_error("ValidationException"))
        after = snapshots.commit_target(snapshot, TargetPlan(LATER, frozenset(), ()))
        assert (after.scopes, after.version) == (snapshot.scopes, snapshot.version + 1)
