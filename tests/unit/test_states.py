"""The state of a session in its item: short, whole, and never twice what an event beside it says."""

import json
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_auditor.comparison import compare
from session_auditor.contract import Occasion, session_events, session_of
from session_auditor.model import NO_FACTS, Event, Listing, Options, Remembered, Snapshot, Target
from session_auditor.states import NAMES, SCHEMA, read_state, write_state
from tests.shared.history import SCOPE, TARGET, at, session

FULL = session(
    instance_id="i-0123456789abcdef0",
    eni_id="eni-0123456789abcdef0",
    eni_private_ip_address="10.0.0.7",
    instance_drain_status="NOT_APPLICABLE",
)


def started() -> tuple[Remembered, tuple[Event, ...]]:
    """A session that has just started, with its event."""
    snapshot = Snapshot(target=Target(first_begin=at(0)), scopes=frozenset([SCOPE]))
    (transition,) = compare(
        snapshot, Listing(at(1), at(1), {"s-1": FULL}, frozenset([SCOPE])), Options()
    ).transitions
    return transition.after, tuple(
        session_events(transition, Occasion(TARGET, "sweep-1", at(1), NO_FACTS, Options()))
    )


def dataclasses_of(kind: type) -> Iterator[type]:
    """A dataclass, and those that it is made of."""
    yield kind
    for hint in get_type_hints(kind).values():
        for each in (hint, *get_args(hint)):
            if isinstance(each, type) and is_dataclass(each):
                yield from dataclasses_of(each)


def test_every_field_has_a_short_name_of_its_own() -> None:
    named = {field.name for kind in dataclasses_of(Remembered) for field in fields(kind)}
    assert named == NAMES.keys()
    assert len(set(NAMES.values())) == len(NAMES)


def test_a_state_reads_as_it_was_written() -> None:
    remembered, _ = started()
    text = write_state(remembered, ())
    assert read_state(text, SCHEMA, ()) == remembered
    assert "null" not in text


def test_what_the_newest_event_says_is_not_written_twice() -> None:
    remembered, events = started()
    text = write_state(remembered, events)
    assert NAMES["session"] not in json.loads(text)
    assert session_of(events[-1]) == remembered.session
    assert read_state(text, SCHEMA, events) == remembered


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"instance_drain_status": "DRAINING"}, id="an attribute that changed without an event"),
        pytest.param({"user_id": "a0" * 16}, id="a user id in another mode"),
    ],
)
def test_what_no_event_says_is_written(changed: dict[str, Any]) -> None:
    remembered, events = started()
    later = replace(remembered, session=replace(remembered.session, **changed))
    assert read_state(write_state(later, events), SCHEMA, events) == later


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param({"eniId": None}, id="a field is missing"),
        pytest.param({"state": 7}, id="a field is no text"),
        pytest.param({"startTime": "yesterday"}, id="a time is none"),
        pytest.param({"startTime": "0001-01-01T00:00:00+14:00"}, id="a time is out of range"),
    ],
)
def test_an_event_that_can_be_passed_on_but_not_read_costs_nothing(broken: dict[str, Any]) -> None:
    remembered, (event,) = started()
    detail = json.loads(event.detail)
    detail["data"]["session"] |= broken
    if None in broken.values():
        del detail["data"]["session"]["eniId"]
    odd = event._replace(detail=json.dumps(detail))
    assert read_state(write_state(remembered, (odd,)), SCHEMA, (odd,)) == remembered


@given(names=st.lists(st.sampled_from(["ann", "bob", "=1", "陳"]), max_size=3), published=st.integers(0, 3))
def test_whatever_waits_beside_it_a_state_reads_as_it_was_written(names: list[str], published: int) -> None:
    """The newest event counts, wherever publishing has stopped, and the session may have changed since."""
    remembered, (event,) = started()
    outbox = []
    for name in names:
        detail = json.loads(event.detail)
        detail["data"]["session"]["userId"] = name
        outbox.append(event._replace(detail=json.dumps(detail)))
    for user in ("ann", "bob"):
        changed = replace(remembered, session=replace(remembered.session, user_id=user))
        rest = tuple(outbox[published:])
        text = write_state(changed, rest)
        assert read_state(text, SCHEMA, rest) == changed
        assert (NAMES["session"] not in json.loads(text)) is (bool(rest) and names[-1] == user)


def test_a_state_that_somebody_changed_by_hand_keeps_what_it_says() -> None:
    remembered, events = started()
    changed = replace(remembered, session=replace(remembered.session, user_id="kim"))
    by_hand = json.dumps(json.loads(write_state(changed, ())), indent=1)
    assert read_state(by_hand, SCHEMA, events).session.user_id == "kim"


def test_without_its_event_such_a_state_does_not_read() -> None:
    remembered, events = started()
    with pytest.raises(ValueError, match="Field required"):
        read_state(write_state(remembered, events), SCHEMA, ())
