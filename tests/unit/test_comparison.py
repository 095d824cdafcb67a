"""The rules about sessions and coverage, as observations and the events that have to follow."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from session_auditor.comparison import Audit, audit, compare
from session_auditor.model import (
    AuthenticationMode,
    AuthenticationType,
    DetailType,
    Evidence,
    Failure,
    Globs,
    Listing,
    Policy,
    Scope,
    Session,
)
from tests.unit.history import AWAY, CONNECTED, SCOPE, History, at, session, told

ON, OFF = session(CONNECTED), session(AWAY)
EXPIRED = session(AWAY, state="EXPIRED")
UNTOLD = session("")
NOT_LISTED: tuple[Session, ...] = ()
BROKEN = "listing fails"

Observation = tuple[float, tuple[Session, ...] | str]


@pytest.mark.parametrize(
    ("observations", "expected"),
    [
        pytest.param([(1, (ON,))], ["Started"], id="first seen connected"),
        pytest.param([(1, (OFF,)), (2, (ON,))], ["Started", "Connected"], id="first connection"),
        pytest.param([(1, (ON,)), (2, (OFF,))], ["Started", "Disconnected"], id="disconnected"),
        pytest.param(
            [(1, (ON,)), (2, (OFF,)), (3, (ON,))],
            ["Started", "Disconnected", "Reconnected"],
            id="reconnected",
        ),
        pytest.param([(1, (ON,)), (2, (ON,)), (3, (ON,))], ["Started"], id="nothing happens"),
        pytest.param(
            [(1, (ON,)), (2, (UNTOLD,)), (3, (ON,))], ["Started"], id="a missing state is no transition"
        ),
        pytest.param(
            [(1, (ON,)), (2, (session("SLEEPING"),)), (3, (OFF,))],
            ["Started", "Disconnected"],
            id="an unknown state is no transition, what was known holds",
        ),
        pytest.param([(1, (UNTOLD,)), (2, (ON,))], ["Started"], id="connected since nobody knows when"),
        pytest.param(
            [(1, (UNTOLD,)), (2, (OFF,)), (3, (ON,))], ["Started", "Connected"], id="seen unconnected at last"
        ),
        pytest.param(
            [(1, (UNTOLD,)), (30, (UNTOLD,))], ["Started"], id="an unknown presence abandons nobody"
        ),
        # Ends.
        pytest.param(
            [(1, (ON,)), (2, (EXPIRED,))], ["Started", "Ended USER_OR_ADMIN"], id="expired ends at once"
        ),
        pytest.param(
            [(1, (EXPIRED,)), (2, (EXPIRED,)), (3, NOT_LISTED)], [], id="first seen expired is ignored"
        ),
        pytest.param(
            [(1, (ON,)), (2, (EXPIRED,)), (3, (EXPIRED,)), (4, NOT_LISTED)],
            ["Started", "Ended USER_OR_ADMIN"],
            id="expired for a while ends once",
        ),
        pytest.param([(1, (ON,)), (2, NOT_LISTED)], ["Started"], id="one miss ends nobody"),
        pytest.param(
            [(1, (ON,)), (2, NOT_LISTED), (3, NOT_LISTED)],
            ["Started", "Ended USER_OR_ADMIN"],
            id="two misses end",
        ),
        pytest.param(
            [(1, (ON,)), (2, NOT_LISTED), (3, (ON,)), (4, NOT_LISTED)],
            ["Started"],
            id="a return resets the miss",
        ),
        pytest.param(
            [(1, (ON,)), (2, NOT_LISTED), (3, BROKEN), (4, BROKEN)],
            ["Started", "Audit Degraded ThrottlingException"],
            id="a failed page never ends anybody",
        ),
        pytest.param(
            [(1, (ON,)), (2, NOT_LISTED), (3, BROKEN), (4, NOT_LISTED)],
            ["Started", "Ended USER_OR_ADMIN"],
            id="an incomplete listing between two misses neither counts nor resets",
        ),
        pytest.param(
            [(1, (OFF,)), (2, NOT_LISTED), (3, NOT_LISTED)],
            ["Started", "Ended NEVER_CONNECTED"],
            id="nobody ever connected",
        ),
        pytest.param(
            [(590, (ON,)), (601, NOT_LISTED)],
            ["Started", "Expiring MAX_DURATION 15", "Ended MAX_DURATION"],
            id="one miss past the maximum ends",
        ),
        pytest.param(
            [(1, (ON,)), (2, (OFF,)), (62, NOT_LISTED)],
            ["Started", "Disconnected", "Ended DISCONNECT_TIMEOUT"],
            id="one miss past the disconnect timeout ends",
        ),
        pytest.param(
            [(1, (ON,)), (2, (EXPIRED,)), (3, (ON,))],
            ["Started", "Ended USER_OR_ADMIN", "Started"],
            id="an id that comes back is a new first observation",
        ),
        # Thresholds.
        pytest.param(
            [(1, (ON,)), (539, (ON,)), (540, (ON,)), (541, (ON,)), (586, (ON,)), (596, (ON,)), (599, (ON,))],
            ["Started", "Expiring MAX_DURATION 60", "Expiring MAX_DURATION 15", "Expiring MAX_DURATION 5"],
            id="each threshold before the maximum fires once",
        ),
        pytest.param(
            [(1, (ON,)), (597, (ON,)), (598, (ON,))],
            ["Started", "Expiring MAX_DURATION 5"],
            id="of several crossed at once the tightest fires, the others count as fired",
        ),
        pytest.param(
            [(1, (session(max_expiration_time=at(15.5)),)), (2, (session(max_expiration_time=at(15.5)),))],
            ["Started"],
            id="a threshold as long as the session never fires",
        ),
        pytest.param(
            [(1, (ON,)), (2, (OFF,)), (17, (OFF,)), (18, (OFF,)), (47, (OFF,)), (57, (OFF,)), (60, (OFF,))],
            [
                "Started",
                "Disconnected",
                "Abandoned 15",
                "Expiring DISCONNECT_TIMEOUT 15",
                "Expiring DISCONNECT_TIMEOUT 5",
            ],
            id="a disconnect of an hour: 60 is not shorter than the timeout",
        ),
        pytest.param(
            [(1, (ON,)), (2, (OFF,)), (47, (OFF,)), (48, (ON,)), (49, (OFF,)), (94, (OFF,))],
            [
                "Started",
                "Disconnected",
                "Expiring DISCONNECT_TIMEOUT 15",
                "Abandoned 15",
                "Reconnected",
                "Disconnected",
                "Expiring DISCONNECT_TIMEOUT 15",
                "Abandoned 15",
            ],
            id="a reconnect withdraws the deadline, a later disconnect starts anew",
        ),
        pytest.param(
            [(1, (ON,)), (545, (ON,)), (546, (OFF,)), (550, (ON,)), (551, (ON,))],
            ["Started", "Expiring MAX_DURATION 60", "Disconnected", "Reconnected"],
            id="thresholds of the maximum outlive a disconnect",
        ),
        pytest.param(
            [(1, (OFF,)), (15, (OFF,)), (16, (OFF,)), (17, (OFF,)), (61, (OFF,)), (62, (OFF,))],
            ["Started", "Abandoned 15", "Abandoned 60"],
            id="never connected: abandoned counts from the start",
        ),
        pytest.param(
            [(1, (OFF,)), (70, (OFF,)), (71, (OFF,))],
            ["Started", "Abandoned 60"],
            id="of several crossed at once the largest Abandoned fires",
        ),
        pytest.param(
            [(1, (ON,)), (2, (OFF,)), (50, BROKEN), (51, (ON,))],
            ["Started", "Disconnected", "Reconnected"],
            id="thresholds fire only for sessions seen in the sweep",
        ),
    ],
)
def test_observations_become_events(observations: list[Observation], expected: list[str]) -> None:
    history = History()
    assert history.observe(0) == []
    events: list[dict[str, Any]] = []
    for minute, seen in observations:
        if isinstance(seen, str):
            events += history.observe(minute, failed={SCOPE: "ThrottlingException"})
        else:
            events += history.observe(minute, *seen)
    assert told(events) == expected


@pytest.mark.parametrize(
    ("timeout", "warnings"),
    [
        pytest.param(900, ["Expiring DISCONNECT_TIMEOUT 5"], id="15 minutes: only 5 is shorter"),
        pytest.param(300, [], id="5 minutes: none is shorter"),
        pytest.param(None, ["Abandoned 15", "Abandoned 60"], id="a fleet that is unknown has no timeout"),
    ],
)
def test_thresholds_have_to_be_shorter_than_the_disconnect_timeout(
    timeout: int | None, warnings: list[str]
) -> None:
    history = History(timeout=timeout)
    history.observe(0)
    history.observe(1, ON)
    history.observe(2, OFF)
    assert [line for minute in range(3, 70) for line in told(history.observe(minute, OFF))] == warnings


def test_the_deadline_that_comes_first_counts() -> None:
    history = History()
    history.observe(0)
    history.observe(1, ON)
    disconnected, expiring = history.observe(555, OFF)
    assert expiring["data"]["thresholdMinutes"] == 60
    assert disconnected["data"]["deadline"] == {
        "at": "2026-03-02T18:00:00Z",
        "cause": "MAX_DURATION",
        "minutesLeft": 45,
    }


class TestBaseline:
    """Rule 7: the first sweep of a target is silent, but for what needs someone's attention."""

    def test_first_sweep_is_silent(self) -> None:
        history = History()
        assert history.observe(0, ON) == []
        assert told(history.observe(1, OFF)) == ["Disconnected"]

    def test_first_sweep_still_warns(self) -> None:
        history = History()
        assert told(history.observe(590, ON)) == ["Expiring MAX_DURATION 15"]

    def test_a_parameter_turns_started_on(self) -> None:
        history = History(policy=Policy(baseline_events=True))
        (started,) = history.observe(1, ON)
        assert started["data"]["baseline"] is True

    def test_a_scope_that_failed_in_the_first_sweep_does_not_flood_later(self) -> None:
        history = History()
        history.observe(1, failed={SCOPE: "ThrottlingException"})
        old, new = session(session_id="old"), session(session_id="new", start_time=at(1.5))
        assert [event["data"]["session"]["id"] for event in history.observe(2, old, new)] == ["new"]

    def test_a_later_session_is_no_baseline(self) -> None:
        history = History()
        history.observe(0)
        (started,) = history.observe(1, ON)
        assert started["data"]["baseline"] is False

    def test_abandoned_counts_from_the_first_observation(self) -> None:
        history = History()
        assert told(history.observe(300, OFF)) == []
        assert told(history.observe(314, OFF)) == []
        assert told(history.observe(315, OFF)) == ["Abandoned 15"]

    def test_abandoned_counts_from_the_first_observation_without_a_start_time(self) -> None:
        history = History()
        history.observe(0)
        unknown = session(AWAY, start_time=None)
        assert told(history.observe(1, unknown)) == ["Started"]
        assert told(history.observe(15, unknown)) == []
        assert told(history.observe(16, unknown)) == ["Abandoned 15"]


class TestEnded:
    """The window in which a session ended, and why."""

    def test_two_misses_end_between_the_last_sighting_and_the_first_miss(self) -> None:
        history = History()
        history.observe(0)
        history.observe(1, ON)
        history.observe(2)
        (ended,) = history.observe(3)
        assert (ended["data"]["endedAfter"], ended["data"]["endedBefore"]) == (
            "2026-03-02T08:01:00Z",
            "2026-03-02T08:02:00Z",
        )
        assert ended["metadata"]["previousObservedAt"] == "2026-03-02T08:02:00Z"

    def test_a_failed_listing_widens_the_window(self) -> None:
        history = History()
        history.observe(0)
        history.observe(1, ON)
        history.observe(2, failed={SCOPE: "InternalServiceException"})
        (ended,) = history.observe(3, EXPIRED)
        assert (ended["data"]["endedAfter"], ended["data"]["endedBefore"]) == (
            "2026-03-02T08:01:00Z",
            "2026-03-02T08:03:00Z",
        )

    def test_a_miss_before_expired_keeps_the_window_open(self) -> None:
        history = History()
        history.observe(0)
        history.observe(1, ON)
        history.observe(2)
        (ended,) = history.observe(3, EXPIRED)
        assert (ended["data"]["endedAfter"], ended["data"]["endedBefore"]) == (
            "2026-03-02T08:01:00Z",
            "2026-03-02T08:03:00Z",
        )

    def test_a_scope_that_vanishes_counts_as_listed_and_empty(self) -> None:
        history = History()
        history.observe(0)
        history.observe(1, ON)
        history.observe(2, scopes=frozenset())
        (ended,) = history.observe(3, scopes=frozenset())
        assert ended["data"]["endReason"] == "SCOPE_GONE"
        assert ended["metadata"]["previousObservedAt"] == "2026-03-02T08:02:00Z"

    def test_usage_is_what_was_observed(self) -> None:
        history = History()
        history.observe(0)
        history.observe(1, ON)
        history.observe(11, OFF)
        history.observe(14, ON)
        history.observe(20)
        (ended,) = history.observe(21)
        assert ended["data"]["usage"] == {
            "ageSeconds": 19 * 60 + 30,
            "connectedSeconds": 16 * 60,
            "disconnectedSeconds": 3 * 60,
            "disconnects": 1,
        }


class TestCoverage:
    """Audit Degraded and Recovered, once per change."""

    def test_degraded_after_two_sweeps_and_recovered_once(self) -> None:
        history = History()
        history.observe(0)
        assert history.observe(1, failed={SCOPE: "ThrottlingException"}) == []
        (degraded,) = history.observe(2, failed={SCOPE: "AccessDeniedException"})
        assert degraded["data"]["since"] == "2026-03-02T08:01:00Z"
        assert degraded["data"]["reason"] == "AccessDeniedException"
        assert history.observe(3, failed={SCOPE: "ThrottlingException"}) == []
        (recovered,) = history.observe(4)
        assert (recovered["type"], recovered["data"]["since"]) == ("Audit Recovered", "2026-03-02T08:01:00Z")
        assert history.observe(5) == []

    def test_one_failure_is_not_worth_a_word(self) -> None:
        history = History()
        history.observe(0, failed={SCOPE: "ThrottlingException"})
        assert history.observe(1) == []

    def test_a_degraded_scope_that_vanishes_recovers(self) -> None:
        history = History()
        for minute in range(3):
            history.observe(minute, failed={SCOPE: "ResourceNotFoundException"}, scopes=frozenset())
        assert told(history.observe(3, scopes=frozenset())) == ["Audit Recovered ResourceNotFoundException"]

    def test_windows_open_where_the_scope_was_last_covered(self) -> None:
        history = History()
        history.observe(0)
        history.observe(1, failed={SCOPE: "ThrottlingException"})
        (started,) = history.observe(2, session(start_time=at(1.5)))
        assert started["metadata"]["previousObservedAt"] == "2026-03-02T08:00:00Z"

    def test_a_scope_seen_for_the_first_time_has_no_previous_observation(self) -> None:
        history = History()
        history.observe(0, scopes=frozenset())
        (started,) = history.observe(1, ON)
        assert started["metadata"]["previousObservedAt"] == ""

    def test_a_partial_listing_still_tells_what_it_saw(self) -> None:
        history = History()
        history.observe(0)
        history.observe(1, ON)
        assert told(history.observe(2, OFF, failed={SCOPE: "DEADLINE"})) == ["Disconnected"]

    def test_audit_events_wait_while_the_outbox_is_full(self) -> None:
        history = History()
        history.observe(0)
        history.observe(1, failed={SCOPE: "ThrottlingException"})
        degraded = history.observe(2, failed={SCOPE: "ThrottlingException"})
        full = replace(history.snapshot, outbox=tuple(history.events) * 200)
        history.snapshot = full
        assert told(degraded) == ["Audit Degraded ThrottlingException"]
        assert history.observe(3) == []
        history.snapshot = replace(history.snapshot, outbox=())
        assert told(history.observe(4)) == ["Audit Recovered ThrottlingException"]

    def test_what_could_not_be_committed_keeps_the_window_open_and_degrades_nothing(self) -> None:
        history = History()
        history.observe(0)
        for minute in (1, 2, 3):
            coverage = covered(history, minute, uncommitted={SCOPE: "NOT_COMMITTED"})
            assert coverage.changes == ()
            (gap,) = coverage.target.gaps
            assert (gap.covered, gap.sweeps) == (at(0), 0)

    def test_a_scope_that_is_listed_again_recovers_though_not_all_of_it_was_committed(self) -> None:
        history = History()
        history.observe(0)
        for minute in (1, 2):
            history.observe(minute, failed={SCOPE: "ThrottlingException"})
        coverage = covered(history, 3, uncommitted={SCOPE: "NOT_COMMITTED"})
        assert [change.detail_type for change in coverage.changes] == [DetailType.AUDIT_RECOVERED]
        (gap,) = coverage.target.gaps
        assert (gap.covered, gap.sweeps, gap.announced) == (at(0), 0, False)

    def test_sweeps_without_time_are_counted_until_it_is_tried(self) -> None:
        history = History()
        history.observe(0)
        untried = []
        for minute, tried in enumerate((False, False, True, False), 1):
            failure = Failure("DEADLINE", tried=tried)
            (gap,) = covered(history, minute, failed={SCOPE: failure}).target.gaps
            untried.append(gap.untried)
        assert untried == [1, 2, 0, 1]


def covered(
    history: History,
    minute: float,
    failed: Mapping[Scope, Failure] | None = None,
    uncommitted: Mapping[Scope, str] | None = None,
) -> Audit:
    """Audit an empty listing, of which not all may have been covered or committed."""
    listing = Listing(at(minute), at(minute), {}, frozenset([SCOPE]), failed or {})
    coverage = audit(history.snapshot, listing, uncommitted or {}, history.policy)
    history.snapshot = replace(history.snapshot, target=coverage.target)
    return coverage


class TestFilters:
    """A scope or type that a changed filter excludes is forgotten without events."""

    def test_an_excluded_scope_is_forgotten(self) -> None:
        history = History()
        history.observe(0)
        history.observe(1, ON)
        history.policy = Policy(fleets=Globs(exclude=("c*",)))
        assert history.observe(2, scopes=frozenset()) == []
        assert history.snapshot.sessions == {}

    def test_an_authentication_type_that_is_not_listed_any_more_is_forgotten(self) -> None:
        history = History()
        history.observe(0)
        history.observe(1, ON, session(session_id="url", authentication_type="API"))
        listing = Listing(
            at(2), at(2), {}, frozenset([SCOPE]), authentication_types=frozenset([AuthenticationType.API])
        )
        comparison = compare(history.snapshot, listing, history.policy)
        assert comparison.forgotten == {"s-1"}
        assert [transition.after.session.id for transition in comparison.transitions] == ["url"]

    @pytest.mark.parametrize(
        ("globs", "wanted"),
        [
            pytest.param(Globs(), True, id="no pattern means all"),
            pytest.param(Globs(include=("cad*",)), True, id="included"),
            pytest.param(Globs(include=("office*",)), False, id="not included"),
            pytest.param(Globs(include=("*",), exclude=("*-test",)), False, id="excluded"),
            pytest.param(Globs(include=("CAD*",)), False, id="case matters"),
        ],
    )
    def test_globs(self, globs: Globs, wanted: bool) -> None:
        assert Policy(fleets=globs).wants(Scope("office", "cad-test")) is wanted


class TestAuthentication:
    """Rule 10: evidence settles how to list, nothing else does."""

    def test_a_session_of_another_type_in_an_unfiltered_listing_proves_it_whole(self) -> None:
        history = History()
        history.observe(0)
        assert history.target.authentication is AuthenticationMode.UNKNOWN
        history.observe(1, evidence=Evidence(unfiltered_lists_others=True))
        assert history.target.authentication is AuthenticationMode.UNFILTERED

    def test_it_proves_nothing_while_a_session_is_absent_from_it(self) -> None:
        history = History()
        history.observe(0)
        both = Evidence(unfiltered_lists_others=True, absent_unfiltered=frozenset("a"))
        history.observe(1, evidence=both)
        assert history.target.authentication is AuthenticationMode.UNKNOWN
        history.observe(2, evidence=both)
        assert history.target.authentication is AuthenticationMode.BY_TYPE

    def test_a_sweep_that_saw_nothing_takes_no_evidence_back(self) -> None:
        history = History()
        history.observe(0, evidence=Evidence(absent_unfiltered=frozenset(["s-1"])))
        history.observe(1, failed={SCOPE: "ThrottlingException"})
        assert history.target.absent_unfiltered == ("s-1",)
        history.observe(2, ON)
        assert history.target.absent_unfiltered == (), "it was listed, and not absent"

    def test_absent_twice_proves_it_partial_for_good(self) -> None:
        history = History()
        history.observe(0, evidence=Evidence(absent_unfiltered=frozenset("ab")))
        assert history.target.authentication is AuthenticationMode.UNKNOWN
        history.observe(1, evidence=Evidence(absent_unfiltered=frozenset("b")))
        assert history.target.authentication is AuthenticationMode.BY_TYPE
        history.observe(2, evidence=Evidence(unfiltered_lists_others=True))
        assert history.target.authentication is AuthenticationMode.BY_TYPE

    def test_absent_once_each_proves_nothing(self) -> None:
        history = History()
        history.observe(0, evidence=Evidence(absent_unfiltered=frozenset("a")))
        history.observe(1, evidence=Evidence(absent_unfiltered=frozenset("b")))
        assert history.target.authentication is AuthenticationMode.UNKNOWN


def test_an_attribute_that_changes_without_an_event_is_stored() -> None:
    history = History()
    history.observe(0)
    history.observe(1, ON)
    moved = session(instance_id="i-0abc")
    assert history.observe(2, moved) == []
    assert history.snapshot.sessions["s-1"].remembered.session == moved


def test_sessions_of_unreadable_items_are_not_compared() -> None:
    history = History()
    history.observe(0)
    history.snapshot = replace(history.snapshot, unreadable=frozenset(["s-1"]))
    assert history.observe(1, ON) == []


def test_a_clock_that_runs_behind_turns_no_window_around() -> None:
    history = History()
    history.observe(0)
    history.observe(10, ON)
    (disconnected,) = history.observe(9, OFF)
    assert disconnected["metadata"]["previousObservedAt"] == disconnected["metadata"]["observedAt"]
    assert disconnected["data"]["usage"]["connectedSeconds"] == 0


def test_ids_depend_on_the_history_alone() -> None:
    def play() -> list[str]:
        history = History()
        for minute, seen in ((0, ()), (1, (ON,)), (2, (OFF,)), (3, (EXPIRED,)), (4, (ON,))):
            history.observe(minute, *seen)
        return [event.event_id for event in history.events]

    ids = play()
    assert ids == play()
    assert len(set(ids)) == 4


def test_sequence_counts_from_one_without_gaps() -> None:
    history = History()
    history.observe(0)
    events = [
        *history.observe(1, ON),
        *history.observe(2, OFF),
        *history.observe(50, OFF),
        *history.observe(51, ON),
    ]
    assert [event["metadata"]["sequence"] for event in events] == list(range(1, 6))


def test_a_deadline_in_the_past_is_nothing_left() -> None:
    history = History()
    history.observe(0)
    history.observe(1, ON)
    (expiring,) = history.observe(601, ON)
    assert expiring["data"]["deadline"]["minutesLeft"] == 0
    assert at(601) - at(600) == timedelta(minutes=1)
