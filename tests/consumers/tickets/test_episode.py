"""What a ticket has to say, from plain data."""

from itertools import permutations
from typing import Any

import pytest

from tests.consumers.tickets.events import event, fault, gap, violation
from tickets.episode import Episode, Event, comment, description, plain, title, to_tell

OPENED_BY = frozenset(["AppStream Session Abandoned", "AppStream Fleet Faulted", "AppStream Audit Degraded"])


def parsed(raw: dict[str, Any]) -> Event:
    return Event.model_validate(raw)


def told(*events: dict[str, Any], opened: int = 0) -> list[int]:
    episode = Episode("key", waiting=tuple(map(parsed, events)), opened=opened)
    return [each.sequence for each in to_tell(episode, OPENED_BY)]


@pytest.mark.parametrize(
    ("events", "opened", "expected"),
    [
        pytest.param([event("Disconnected", 2)], 0, [], id="nothing opens a ticket"),
        pytest.param([event("Disconnected", 2), event("Ended", 3)], 0, [], id="an end alone"),
        pytest.param([event("Expiring", 2)], 0, [], id="Expiring does not open one"),
        pytest.param([event("Disconnected", 2), event("Abandoned", 3)], 0, [3], id="from the opening on"),
        pytest.param([event("Reconnected", 4)], 3, [4], id="what follows"),
        pytest.param([event("Connected", 2)], 3, [], id="what came before, late"),
        pytest.param([event("Reconnected", 4), event("Disconnected", 2)], 3, [4], id="of both, what follows"),
        pytest.param(
            [event("Ended", 5), event("Reconnected", 4), event("Abandoned", 3)],
            0,
            [3, 4, 5],
            id="the opening last",
        ),
        pytest.param(
            [event("Abandoned", 3), event("Disconnected", 4)], 6, [3, 4], id="an earlier opening, late"
        ),
        pytest.param([gap("Recovered"), gap("Degraded")], 0, [1, 2], id="a gap"),
        pytest.param(
            [fault("Recovered", 3), fault("Faulted", 2, "STS_DISABLED_IN_REGION"), fault("Faulted")],
            0,
            [1, 2, 3],
            id="a fault and its changes",
        ),
        pytest.param([fault("Recovered", 2)], 0, [], id="a recovery alone"),
        pytest.param([violation("Cleared", 3), violation("Violated", 2)], 0, [], id="a violation"),
    ],
)
def test_what_is_told(events: list[dict[str, Any]], opened: int, expected: list[int]) -> None:
    assert told(*events, opened=opened) == expected


def test_the_order_of_arrival_does_not_count() -> None:
    events = [event("Abandoned", 3), event("Reconnected", 4), event("Disconnected", 5), event("Ended", 6)]
    assert {tuple(told(*each)) for each in permutations(events)} == {(3, 4, 5, 6)}


class TestKey:
    """One key for an episode, another for every other."""

    def test_all_events_of_a_session_share_it(self) -> None:
        assert (
            len({parsed(event(kind, number)).key for number, kind in enumerate(["Abandoned", "Ended"], 1)})
            == 1
        )
        assert parsed(gap("Degraded")).key == parsed(gap("Recovered")).key

    def test_others_have_others(self) -> None:
        elsewhere = event("Abandoned", 1)
        elsewhere["detail"]["metadata"]["region"] = "us-east-1"
        later = gap("Degraded", since="2026-03-02T11:00:00Z")
        others = [event("Abandoned", 1), event("Abandoned", 1, "s-2"), elsewhere, gap("Degraded"), later]
        others += [fault("Faulted"), fault("Faulted", since="2026-03-02T11:00:00Z")]
        assert len({parsed(each).key for each in others}) == len(others)

    def test_all_events_of_a_fault_share_it(self) -> None:
        events = [fault("Faulted"), fault("Faulted", 2, "STS_DISABLED_IN_REGION"), fault("Recovered", 3)]
        assert len({parsed(each).key for each in events}) == 1

    def test_a_violation_shares_it_with_its_end(self) -> None:
        assert parsed(violation("Violated", 2)).key == parsed(violation("Cleared", 5)).key

    def test_each_violation_has_its_own(self) -> None:
        tighter = violation("Violated", 2)
        tighter["detail"]["data"]["thresholdMinutes"] = 720
        others = [event("Abandoned", 2), violation("Violated", 2), tighter, violation("Violated", 2, "s-2")]
        others += [violation("Violated", 2, policy="two-at-most")]
        others += [violation("Violated", 2, since="2026-03-03T10:00:00Z")]
        assert len({parsed(each).key for each in others}) == len(others)

    def test_it_is_safe_in_a_query(self) -> None:
        hostile = parsed(event("Abandoned", 1, session_id='s-1" OR labels = "x^state=1')).key
        assert hostile.removeprefix("appstream-").isalnum()
        assert len(hostile) <= 100, "correlation_id of ServiceNow"


class TestWords:
    """Plain lines, and a mark that nobody else can write."""

    def test_a_description_names_session_and_event(self) -> None:
        abandoned = event("Abandoned", 3, summary="Jane left")
        event_id = abandoned["detail"]["metadata"]["eventId"]
        assert description(parsed(abandoned)) == [
            "Jane left",
            "User: jane.doe@example.com",
            "Stack: office",
            "Fleet: cad",
            "Session: s-1",
            "Instance: i-1",
            "Account: text",
            "Region: text",
            "Observed at 2026-03-02T10:00:00Z",
            f"Event {event_id}",
        ]
        assert comment(parsed(abandoned)) == [
            "Jane left",
            "Observed at 2026-03-02T10:00:00Z",
            f"Event {event_id}",
        ]

    def test_a_user_who_was_left_out_has_no_line(self) -> None:
        assert not [line for line in description(parsed(event("Abandoned", 3, user_id=""))) if "User" in line]

    def test_a_gap_is_described_by_its_place(self) -> None:
        lines = description(parsed(gap("Degraded")))
        assert lines[:4] == [
            "Audit Degraded",
            "Stack: office",
            "Fleet: cad",
            "Not listed since: 2026-03-02T10:00:00Z",
        ]

    def test_a_violation_is_described_by_its_session_and_policy(self) -> None:
        lines = description(parsed(violation("Violated", 2)))
        assert lines[1:6] == description(parsed(event("Abandoned", 3)))[1:6]
        assert lines[6:10] == [
            "Policy: too-long",
            "Limit: 600",
            "Actual: 603",
            "Since: 2026-03-02T10:00:00Z",
        ]

    def test_a_fault_is_described_by_its_fleet_and_errors(self) -> None:
        both = "DOMAIN_JOIN_ERROR_ACCESS_DENIED,STS_DISABLED_IN_REGION"
        assert description(parsed(fault("Faulted", codes=both)))[:4] == [
            "Fleet Faulted",
            "Fleet: cad",
            "Errors: DOMAIN_JOIN_ERROR_ACCESS_DENIED, STS_DISABLED_IN_REGION",
            "Since: 2026-03-02T10:00:00Z",
        ]

    @pytest.mark.parametrize(
        "line_break", ["\n", "\r\n", "\u2028", "\x0b", "\x85"], ids=["LF", "CRLF", "U+2028", "VT", "NEL"]
    )
    def test_no_text_adds_a_line(self, line_break: str) -> None:
        mark = parsed(event("Reconnected", 4)).mark
        forger = parsed(event("Abandoned", 3, user_id=f"x{line_break}{mark}", summary=f"y{line_break}{mark}"))
        assert mark not in [part for line in description(forger) for part in line.splitlines()]
        assert title(forger) == f"y {mark}"

    def test_plain(self) -> None:
        assert plain("a\u202e\x00b  c") == "a b c"
        assert len(plain("x" * 1000)) == 256
