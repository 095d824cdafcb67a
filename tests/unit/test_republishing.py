"""Events that EventBridge refused are put back: which, in what order, and what stays."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from session_auditor.model import Event, Snapshot
from session_auditor.plan import SessionsPlan, TargetPlan, Write
from session_auditor.publisher import Publisher
from session_auditor.republishing import Answer, republish
from session_auditor.snapshots import Snapshots
from tests.shared.aws import Wire, boto_client
from tests.shared.events import TOO_LONG
from tests.shared.history import AWAY, SCOPE, TARGET, History, at, session
from tests.shared.table import Table
from tests.shared.table import table as mocked_table


class Refusals:
    """A table in which the events of a history were refused, and what the bus takes now."""

    def __init__(self, table: Table, wire: Wire) -> None:
        self.table = table
        self.refuses: dict[str, str] = {}
        self.bus: list[str] = []
        wire.answers["PutEvents"] = self.put_events

    def keep(self, *events: Event) -> None:
        snapshots = self.table.snapshots()
        for event in events:
            waiting = Snapshot(outbox=(event,))
            snapshots.clear(waiting, frozenset(), {event.event_id: "InvalidArgument"}, at(0))

    def live(self, history: History) -> None:
        """Write the live state of a history into the table."""
        snapshots = self.table.snapshots()
        writes = {name: Write(stored.remembered) for name, stored in history.snapshot.sessions.items()}
        snapshot, _ = snapshots.commit(
            snapshots.load(at(0)), SessionsPlan(history.target, writes), lambda: 60.0
        )
        snapshots.commit_target(snapshot, TargetPlan(history.target, history.snapshot.scopes, ()))

    def put_events(self, parameters: dict[str, Any]) -> dict[str, Any]:
        results = []
        for entry in parameters["Entries"]:
            code = self.refuses.get(entry["DetailType"])
            results.append({"ErrorCode": code} if code else {"EventId": "id"})
            if not code:
                self.bus.append(entry["DetailType"].split()[-1])
        return {"Entries": results}

    def ask(self, which: str, *, closed: bool = False) -> Answer:
        publisher = Publisher(boto_client("events"), "bus", workers=1)
        snapshots: Snapshots = self.table.snapshots()
        return republish(snapshots, publisher, which, lambda: at(99), lambda: 60.0, closed=closed)

    def kept(self) -> set[str]:
        return {item["sk"]["S"] for item in self.table.items("REFUSED#")}


@pytest.fixture
def refusals(monkeypatch: pytest.MonkeyPatch) -> Iterator[Refusals]:
    with mocked_table() as table:
        yield Refusals(table, Wire(monkeypatch))


def a_life(*, ended: bool) -> History:
    history = History()
    history.observe(0)
    history.observe(1, session())
    history.observe(2, session(AWAY))
    history.observe(3, session())
    if ended:
        history.observe(4, session(state="EXPIRED"))
    return history


def test_all_are_put_back_in_order_and_forgotten(refusals: Refusals) -> None:
    history = a_life(ended=False)
    refusals.live(history)
    refusals.keep(*reversed(history.events))
    answer = refusals.ask("all")
    assert refusals.bus == ["Started", "Disconnected", "Reconnected"]
    assert answer == Answer(republished=[event.event_id for event in history.events])
    assert refusals.kept() == set()


def test_one_is_put_back_by_its_id(refusals: Refusals) -> None:
    history = a_life(ended=False)
    refusals.live(history)
    refusals.keep(*history.events)
    started, *others = (event.event_id for event in history.events)
    assert refusals.ask(started).republished == [started]
    assert refusals.kept() == set(others)
    assert refusals.ask(started) == Answer(unknown=[started])


def test_events_of_a_closed_life_are_only_named(refusals: Refusals) -> None:
    history = a_life(ended=True)
    refusals.live(history)
    started, disconnected, *_ = history.events
    refusals.keep(started, disconnected)
    assert refusals.ask("all") == Answer(closed=[started.event_id, disconnected.event_id])
    assert refusals.bus == []
    assert len(refusals.kept()) == 2
    assert refusals.ask("all", closed=True).closed == []
    assert refusals.bus == ["Started", "Disconnected"]


def test_they_go_if_the_closing_event_goes_as_well(refusals: Refusals) -> None:
    history = a_life(ended=True)
    refusals.live(history)
    refusals.keep(*history.events[2:], history.events[0])
    refusals.ask("all")
    assert refusals.bus == ["Started", "Reconnected", "Ended"]


def test_a_later_life_of_the_id_keeps_no_earlier_one_open(refusals: Refusals) -> None:
    history = a_life(ended=True)
    started = history.events[0]
    history.observe(9, session(start_time=at(8.5)))
    refusals.live(history)
    refusals.keep(started)
    assert refusals.ask("all").closed == [started.event_id]


@pytest.mark.parametrize("recovered", [False, True], ids=["degraded", "recovered since"])
def test_a_gap_that_has_closed_is_only_named(refusals: Refusals, recovered: bool) -> None:
    history = a_life(ended=False)
    history.options = type(history.options)()
    (degraded,) = history.observe(60, session(), failed={SCOPE: "DEADLINE"})
    kept = history.events[-1]
    if recovered:
        history.observe(61, session())
    refusals.live(history)
    refusals.keep(kept)
    answer = refusals.ask("all")
    assert (answer.closed, answer.republished) == (
        ([kept.event_id], []) if recovered else ([], [kept.event_id])
    )
    assert degraded["type"] == "Audit Degraded"


@pytest.mark.parametrize(
    ("codes", "closed"),
    [
        pytest.param(("A",), [], id="the fault is open"),
        pytest.param(("A", "A,B"), [], id="its codes have changed"),
        pytest.param(("A", ""), [0], id="the fleet has recovered"),
        pytest.param(("A", "", "A"), [0], id="another fault of the fleet is open"),
    ],
)
def test_a_fault_that_is_over_is_only_named(
    refusals: Refusals, codes: tuple[str, ...], closed: list[int]
) -> None:
    history = History()
    for minute, each in enumerate(codes):
        history.observe(minute, fleets_read=at(minute), fleet_errors={SCOPE.fleet: each})
    refusals.live(history)
    refusals.keep(history.events[0])
    assert refusals.ask("all").closed == [history.events[number].event_id for number in closed]


def test_a_whole_fault_is_put_back_in_order(refusals: Refusals) -> None:
    history = History()
    for minute, each in enumerate(("A", "B", "")):
        history.observe(minute, fleets_read=at(minute), fleet_errors={SCOPE.fleet: each})
    refusals.live(history)
    refusals.keep(*reversed(history.events))
    refusals.ask("all")
    assert refusals.bus == ["Faulted", "Faulted", "Recovered"]


def test_a_violation_is_put_back_among_its_sessions_events(refusals: Refusals) -> None:
    history = History(policies=TOO_LONG)
    history.observe(0)
    history.observe(1, session())
    history.observe(31, session())
    refusals.live(history)
    refusals.keep(*reversed(history.events))
    refusals.ask("all")
    assert refusals.bus == ["Started", "Violated"]


def test_what_is_refused_again_stays_with_its_code(refusals: Refusals) -> None:
    history = a_life(ended=False)
    refusals.live(history)
    refusals.keep(*history.events)
    refusals.refuses["AppStream Session Disconnected"] = "InvalidArgument"
    disconnected = history.events[1].event_id
    assert refusals.ask("all").refused == {disconnected: "InvalidArgument"}
    assert refusals.kept() == {disconnected}


def test_what_cannot_be_read_is_left_alone(refusals: Refusals) -> None:
    history = a_life(ended=False)
    refusals.live(history)
    refusals.keep(history.events[0])
    (item,) = refusals.table.items("REFUSED#")
    broken = item | {"sk": {"S": "0" * 32}, "detail": {"S": json.dumps({"metadata": []})}}
    refusals.table.put(broken)
    assert refusals.ask("all").republished == [history.events[0].event_id]
    assert refusals.table.items("REFUSED#") == [broken]


def test_resources_and_time_are_those_of_the_event(
    refusals: Refusals, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = Wire(monkeypatch)
    wire.answers["PutEvents"] = refusals.put_events
    history = a_life(ended=False)
    refusals.live(history)
    refusals.keep(history.events[0])
    refusals.ask("all")
    ((entry,),) = (call["Entries"] for call in wire.parameters("PutEvents"))
    event = history.events[0]
    assert (entry["Detail"], entry["Time"], tuple(entry["Resources"])) == (
        event.detail,
        event.observed_at,
        event.resources,
    )
    assert TARGET.account_id in entry["Resources"][0]
