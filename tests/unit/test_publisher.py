"""PutEvents: batches, partial failures told apart entry by entry, order per session."""

from collections.abc import Callable
from threading import Barrier
from threading import Event as Flag
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from session_auditor.model import DetailType, Event
from session_auditor.publisher import Publisher
from tests.shared.aws import Wire, boto_client, client_error
from tests.shared.history import at


def event(name: str, size: int = 100) -> Event:
    return Event(DetailType.STARTED, name, at(1), ("fleet", "stack"), '"' + "x" * (size - 2) + '"')


def lanes(*names: str) -> list[tuple[Event, ...]]:
    """A lane for every word; an event for each of its letters."""
    return [tuple(event(f"{name}{number}") for number in range(len(name))) for name in names]


class Bus:
    """Accepts entries, unless told what to answer for a detail."""

    def __init__(self) -> None:
        self.entries: list[list[dict[str, Any]]] = []
        self.refuse: Callable[[dict[str, Any]], str | None] = lambda _: None
        self.fail: Callable[[list[dict[str, Any]]], None] = lambda _: None

    def put_events(self, parameters: dict[str, Any]) -> dict[str, Any]:
        self.entries.append(parameters["Entries"])
        self.fail(parameters["Entries"])
        codes = [self.refuse(entry) for entry in parameters["Entries"]]
        return {
            "FailedEntryCount": len([code for code in codes if code]),
            "Entries": [{"ErrorCode": code} if code else {"EventId": "id"} for code in codes],
        }


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch) -> Bus:
    bus = Bus()
    Wire(monkeypatch).answers["PutEvents"] = bus.put_events
    return bus


@pytest.fixture
def publisher(bus: Bus) -> Publisher:
    return Publisher(boto_client("events"), "session-bus", workers=2)


def always() -> float:
    return 60.0


def test_an_entry_says_all_that_rules_need(bus: Bus, publisher: Publisher) -> None:
    publisher.publish([(event("a"),)], always)
    ((entry,),) = bus.entries
    assert entry | {"Detail": "..."} == {
        "EventBusName": "session-bus",
        "Source": "appstream.auditor",
        "DetailType": "AppStream Session Started",
        "Time": at(1),
        "Resources": ["fleet", "stack"],
        "Detail": "...",
    }


def test_ten_entries_a_call(bus: Bus, publisher: Publisher) -> None:
    published = publisher.publish(lanes(*"abcdefghijklmnopqrstuvwxy"), always)
    assert [len(entries) for entries in bus.entries] == [10, 10, 5]
    assert len(published.accepted) == 25


def test_a_call_stays_under_a_megabyte(bus: Bus, publisher: Publisher) -> None:
    publisher.publish([(event(str(number), 240_000),) for number in range(9)], always)
    assert [len(entries) for entries in bus.entries] == [4, 4, 1]


def test_one_event_of_a_session_a_call_in_order(bus: Bus, publisher: Publisher) -> None:
    published = publisher.publish(lanes("aaa", "b"), always)
    assert [len(entries) for entries in bus.entries] == [2, 1, 1]
    assert [event_id for event_id, _ in published.accepted] == ["aaa0", "b0", "aaa1", "aaa2"]


def test_partial_failures_are_told_apart(bus: Bus, publisher: Publisher) -> None:
    codes = {1: "InternalFailure", 2: "NotAuthorizedForSourceException"}
    seen: list[int] = []

    def refuse(_: dict[str, Any]) -> str | None:
        seen.append(len(seen))
        return codes.get(seen[-1])

    bus.refuse = refuse
    published = publisher.publish(lanes("a", "b", "c", "d"), always)
    assert [event_id for event_id, _ in published.accepted] == ["a0", "d0", "b0"]
    assert published.refused == {"c0": "NotAuthorizedForSourceException"}


@pytest.mark.parametrize("code", ["InternalFailure", "ThrottlingException"])
def test_a_transient_failure_is_tried_three_times_and_holds_its_session_back(
    bus: Bus, publisher: Publisher, code: str
) -> None:
    bus.refuse = lambda entry: code if entry["Detail"] == event("x", 50).detail else None
    published = publisher.publish([(event("bad", 50), event("later")), (event("other"),)], always)
    assert [event_id for event_id, _ in published.accepted] == ["other"]
    assert published.refused == {}
    assert len(bus.entries) == 3
    assert published.stopped == ""


def test_a_refused_event_does_not_hold_its_session_back(bus: Bus, publisher: Publisher) -> None:
    bus.refuse = lambda entry: "MalformedDetail" if entry["Detail"] == event("x", 50).detail else None
    published = publisher.publish([(event("bad", 50), event("later"))], always)
    assert [event_id for event_id, _ in published.accepted] == ["later"]
    assert published.refused == {"bad": "MalformedDetail"}


@pytest.mark.parametrize(
    "error",
    [
        client_error("AccessDeniedException"),
        client_error("ResourceNotFoundException"),
        EndpointConnectionError(endpoint_url="http://events"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_call_that_fails_keeps_everything_pending(bus: Bus, publisher: Publisher, error: Exception) -> None:
    def fail(_: list[dict[str, Any]]) -> None:
        raise error

    bus.fail = fail
    published = publisher.publish(lanes("a", "b"), always)
    assert (published.accepted, published.refused) == ([], {})
    assert published.stopped in (
        "EndpointConnectionError",
        error.response["Error"]["Code"] if hasattr(error, "response") else "",
    )
    assert len(bus.entries) == 1


def test_a_throttled_call_is_made_again(bus: Bus, publisher: Publisher) -> None:
    throttled = {2, 4}

    def fail(_: list[dict[str, Any]]) -> None:
        if len(bus.entries) in throttled:
            raise client_error("ThrottlingException")

    bus.fail = fail
    published = publisher.publish(lanes("aaa"), always)
    assert ([event_id for event_id, _ in published.accepted], published.stopped) == (
        ["aaa0", "aaa1", "aaa2"],
        "",
    )
    assert len(bus.entries) == 5


def test_calls_that_are_throttled_for_good_are_made_three_times(bus: Bus, publisher: Publisher) -> None:
    def fail(_: list[dict[str, Any]]) -> None:
        raise client_error("ThrottlingException")

    bus.fail = fail
    published = publisher.publish(
        [(event("a", 50),), *lanes(*(f"{number:02}" for number in range(19)))], always
    )
    assert (published.accepted, published.refused, published.stopped) == ([], {}, "ThrottlingException")
    assert [entry["Detail"] for entries in bus.entries for entry in entries].count(event("a", 50).detail) == 3


class TestSideBySide:
    """Two calls at a time, here."""

    ELEVEN = tuple(f"{number:02}" for number in range(11))

    def test_a_session_stays_in_order(self, bus: Bus, publisher: Publisher) -> None:
        """Two events of eleven sessions are four calls, always two of them at once."""
        pair = Barrier(2, timeout=20)

        def fail(_: list[dict[str, Any]]) -> None:
            pair.wait()

        bus.fail = fail
        published = publisher.publish(lanes(*self.ELEVEN), always)
        assert sorted(len(entries) for entries in bus.entries) == [1, 1, 10, 10]
        accepted = [event_id for event_id, _ in published.accepted]
        assert sorted(accepted[:11]) == [f"{name}0" for name in self.ELEVEN]
        assert sorted(accepted[11:]) == [f"{name}1" for name in self.ELEVEN]

    def test_whichever_call_is_answered_first(self, bus: Bus, publisher: Publisher) -> None:
        answered = Flag()

        def fail(entries: list[dict[str, Any]]) -> None:
            if len(entries) == 10:
                answered.wait(20)

        def refuse(_: dict[str, Any]) -> str | None:
            if len(bus.entries[-1]) == 1 and not answered.is_set():
                answered.set()
                return "MalformedDetail"
            return None

        bus.fail, bus.refuse = fail, refuse
        published = publisher.publish([(event(name),) for name in self.ELEVEN], always)
        assert [event_id for event_id, _ in published.accepted] == list(self.ELEVEN[:10])
        assert published.refused == {"10": "MalformedDetail"}

    def test_what_the_other_call_published_is_known_when_one_fails(
        self, bus: Bus, publisher: Publisher
    ) -> None:
        def fail(entries: list[dict[str, Any]]) -> None:
            if len(entries) == 1:
                raise client_error("AccessDeniedException")

        bus.fail = fail
        published = publisher.publish(lanes(*self.ELEVEN), always)
        assert (len(published.accepted), published.stopped) == (10, "AccessDeniedException")

    def test_one_that_gets_through_shows_that_the_bus_works(self, bus: Bus, publisher: Publisher) -> None:
        """The first four tries of a call are throttled, in rounds in which the other succeeds."""
        poison = event("x", 50)
        throttled = iter(range(4))

        def fail(entries: list[dict[str, Any]]) -> None:
            if poison.detail in [entry["Detail"] for entry in entries] and next(throttled, None) is not None:
                raise client_error("ThrottlingException")

        bus.fail = fail
        others = [(event(f"{number}"),) * 5 for number in range(10)]
        published = publisher.publish([*others, (poison,)], always)
        assert (len(published.accepted), published.stopped) == (51, "")


def test_an_invalid_call_is_tried_entry_by_entry(bus: Bus, publisher: Publisher) -> None:
    poison = event("x", 50).detail

    def fail(entries: list[dict[str, Any]]) -> None:
        if any(entry["Detail"] == poison for entry in entries):
            raise client_error("ValidationException")

    bus.fail = fail
    published = publisher.publish([(event("a"),), (event("bad", 50),), (event("c"), event("d"))], always)
    assert sorted(event_id for event_id, _ in published.accepted) == ["a", "c", "d"]
    assert published.refused == {"bad": "ValidationException"}


def test_an_invalid_call_whose_entries_are_throttled_ends_too(bus: Bus, publisher: Publisher) -> None:
    def fail(entries: list[dict[str, Any]]) -> None:
        raise client_error("ValidationException" if len(entries) > 1 else "ThrottlingException")

    bus.fail = fail
    left = iter(range(50, 0, -1))
    published = publisher.publish(lanes("a", "b"), lambda: float(next(left, 0)))
    assert (published.accepted, published.refused, published.stopped) == ([], {}, "ThrottlingException")
    assert [len(entries) for entries in bus.entries] == [2, *[1] * 6]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param({}, id="no entries"),
        pytest.param({"Entries": None}, id="null"),
        pytest.param({"Entries": "abc"}, id="text"),
        pytest.param({"Entries": [None]}, id="a null entry"),
        pytest.param({"Entries": [{"ErrorCode": ["x"]}]}, id="a code that is no text"),
    ],
)
def test_a_malformed_answer_keeps_everything_pending(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any]
) -> None:
    Wire(monkeypatch).answers["PutEvents"] = lambda _: answer
    published = publisher.publish(lanes("a", "b"), always)
    assert (published.accepted, published.refused) == ([], {})
    assert published.stopped == "MALFORMED_ANSWER"


def test_it_stops_when_the_time_is_up(bus: Bus, publisher: Publisher) -> None:
    left = iter([2.0, 1.0, 0.0])
    published = publisher.publish(lanes("aaa"), lambda: next(left))
    assert [event_id for event_id, _ in published.accepted] == ["aaa0", "aaa1"]
    assert published.stopped == "DEADLINE"


def test_an_answer_that_is_too_short_leaves_the_rest_pending(
    bus: Bus, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    Wire(monkeypatch).answers["PutEvents"] = lambda _: {"Entries": [{"EventId": "id"}]}
    published = publisher.publish(lanes("a", "b"), always)
    assert [event_id for event_id, _ in published.accepted] == ["a0"]
    assert published.refused == {}
