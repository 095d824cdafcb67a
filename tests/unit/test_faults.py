"""Fleets of which AppStream names errors, as what DescribeFleets answers and the events that follow."""

import json
from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from session_auditor.faults import EVENT_BYTES, faults_after
from session_auditor.model import WHOLE_TARGET, Globs, Listing, Options, Scope, Snapshot, Target
from tests.shared.history import PATIENT, SCOPE, History, at

OTHER = Scope("office", "render")


def seen(
    told: History, minute: float, codes: str | None, *, read: float | None = None, **listing: Any
) -> list[str]:
    """Sum a sweep's events of fleets up; the fleets were read in that minute."""
    events = told.observe(
        minute,
        fleets_read=at(minute if read is None else read),
        fleet_errors={} if codes is None else {SCOPE.fleet: codes},
        **listing,
    )
    return [
        f"{event['type'].removeprefix('Fleet ')} {event['data']['codes']}"
        for event in events
        if event["type"].startswith("Fleet")
    ]


def test_each_change_of_the_codes_is_told_once() -> None:
    told = History()
    assert seen(told, 0, "") == []
    assert seen(told, 1, "A") == ["Faulted A"]
    assert seen(told, 2, "A") == []
    assert seen(told, 3, "A,B") == ["Faulted A,B"]
    assert seen(told, 4, "B") == ["Faulted B"]
    assert seen(told, 5, "") == ["Recovered B"]
    assert seen(told, 6, "") == []


def test_no_window_begins_after_it_ends_where_clocks_differ() -> None:
    told = History()
    seen(told, 1, "", read=5)
    told.observe(2, fleets_read=at(2), fleet_errors={SCOPE.fleet: "A"})
    metadata = json.loads(told.events[-1].detail)["metadata"]
    assert metadata["previousObservedAt"] == metadata["observedAt"]


def test_the_first_sweep_tells_of_a_fleet_that_fails() -> None:
    assert seen(History(), 0, "A") == ["Faulted A"]


def test_events_of_one_fault_are_numbered_and_know_its_begin() -> None:
    told = History()
    for minute, codes in enumerate(["", "A", "B", "", "A"]):
        told.observe(minute, fleets_read=at(minute), fleet_errors={SCOPE.fleet: codes})
    events = [event for event in told.events if "Fleet" in event.detail_type]
    details = [json.loads(event.detail) for event in events]
    assert [(each["metadata"]["sequence"], each["data"]["since"]) for each in details] == [
        (1, "2026-03-02T08:01:00Z"),
        (2, "2026-03-02T08:01:00Z"),
        (3, "2026-03-02T08:01:00Z"),
        (1, "2026-03-02T08:04:00Z"),
    ]
    assert [each["metadata"]["previousObservedAt"] for each in details] == [
        "2026-03-02T08:00:00Z",
        "2026-03-02T08:01:00Z",
        "2026-03-02T08:02:00Z",
        "2026-03-02T08:03:00Z",
    ]
    assert len({event.event_id for event in events}) == 4
    assert {event.resources for event in events} == {("arn:aws:appstream:eu-west-1:123456789012:fleet/cad",)}
    assert {(each["data"]["stackName"], each["data"]["fleetName"]) for each in details} == {("", "cad")}


class TestNotRead:
    """What was not read changes nothing."""

    def test_fleets_that_could_not_be_read(self) -> None:
        told = History()
        seen(told, 0, "A")
        told.observe(1, unread={"fleets": "ThrottlingException"})
        assert told.target.faults
        assert seen(told, 2, "") == ["Recovered A"]

    @pytest.mark.parametrize("codes", [pytest.param("", id="well"), pytest.param("B", id="other codes")])
    def test_a_container_that_read_them_earlier_than_another(self, codes: str) -> None:
        told = History()
        seen(told, 5, "A")
        # What the table knows is as new: the listing says that nothing was read.
        events = told.observe(6, fleets_read=None, fleet_errors={SCOPE.fleet: codes})
        assert events == []

    def test_errors_in_no_form_that_can_be_read(self) -> None:
        told = History()
        seen(told, 0, "A")
        told.observe(1, fleets_read=at(1), fleet_errors={SCOPE.fleet: None})
        assert [fault.codes for fault in told.target.faults] == ["A"]

    def test_its_window_begins_with_the_last_reading(self) -> None:
        told = History()
        seen(told, 0, "")
        told.observe(1, unread={"fleets": "ThrottlingException"})
        (event,) = told.observe(2, fleets_read=at(2), fleet_errors={SCOPE.fleet: "A"})
        assert event["metadata"]["previousObservedAt"] == "2026-03-02T08:00:00Z"

    def test_nobody_ever_read_them(self) -> None:
        (event,) = History().observe(2, fleets_read=at(2), fleet_errors={SCOPE.fleet: "A"})
        assert event["metadata"]["previousObservedAt"] == ""


class TestOutOfView:
    def test_of_a_fleet_that_nobody_wants_nothing_is_told(self) -> None:
        told = History()
        events = told.observe(0, fleets_read=at(0), fleet_errors={"of-nobody": "A"})
        assert events == []

    def test_a_fleet_that_is_deleted(self) -> None:
        told = History()
        seen(told, 0, "A")
        assert seen(told, 1, None, scopes=frozenset()) == ["Recovered A"]

    def test_a_fleet_that_a_filter_leaves_out(self) -> None:
        told = History()
        seen(told, 0, "A")
        told.options = Options(fleets=Globs(exclude=("cad",)))
        assert seen(told, 1, "A", scopes=frozenset()) == ["Recovered A"]

    def test_a_stack_that_could_not_be_read_takes_no_fleet_out_of_view(self) -> None:
        told = History()
        seen(told, 0, "A")
        unread = {"fleets of stack office": "ThrottlingException"}
        assert seen(told, 1, "A", scopes=frozenset(), unread=unread) == []
        assert seen(told, 2, "A,B", scopes=frozenset(), unread=unread) == ["Faulted A,B"]

    def test_nor_do_stacks_that_could_not_all_be_read(self) -> None:
        told = History()
        seen(told, 0, "A")
        assert seen(told, 1, None, scopes=frozenset(), failed={WHOLE_TARGET: "ThrottlingException"}) == []

    def test_tags_say_nothing_of_which_fleets_there_are(self) -> None:
        told = History()
        seen(told, 0, "A")
        unread = {"tags": "AccessDeniedException"}
        assert seen(told, 1, None, scopes=frozenset(), unread=unread) == ["Recovered A"]

    def test_a_scope_that_fails_is_in_view(self) -> None:
        told = History()
        assert seen(told, 0, "A", scopes=frozenset(), failed={SCOPE: "AccessDeniedException"}) == [
            "Faulted A"
        ]


class TestRoom:
    """A change that the target's outbox has no room for is found again."""

    def faults(self, room: int) -> Any:
        listing = Listing(
            begin=at(1),
            observed_at=at(1),
            sessions={},
            scopes=frozenset([SCOPE, OTHER]),
            fleets_read=at(1),
            fleet_errors={SCOPE.fleet: "A", OTHER.fleet: "B"},
        )
        snapshot = Snapshot(target=Target(first_begin=at(0), fleets_read=at(0)))
        return faults_after(snapshot, listing, PATIENT, room)

    def test_it_waits(self) -> None:
        found = self.faults(2 * EVENT_BYTES - 1)
        assert [change.fault.fleet for change in found.changes] == [SCOPE.fleet]
        assert [fault.fleet for fault in found.open] == [SCOPE.fleet]
        # The window of the one that waits stays open.
        assert found.fleets_read == at(0)

    def test_there_is_enough(self) -> None:
        found = self.faults(3 * EVENT_BYTES)
        assert [change.fault.fleet for change in found.changes] == [SCOPE.fleet, OTHER.fleet]
        assert found.fleets_read == at(1)


def test_the_line_for_people() -> None:
    told = History(options=replace(PATIENT, time_zone=ZoneInfo("Europe/Berlin")))
    events = [
        told.observe(minute, fleets_read=at(minute), fleet_errors={SCOPE.fleet: codes})
        for minute, codes in enumerate(["A,B", ""])
    ]
    assert [event["data"]["summary"] for (event,) in events] == [
        "Fleet cad has errors since 2026-03-02 09:00 CET: A, B",
        "Fleet cad has no errors any more; since 2026-03-02 09:00 CET it had A, B",
    ]
