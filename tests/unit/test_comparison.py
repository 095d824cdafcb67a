"""The rules about sessions and coverage, as observations and the events that have to follow."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from session_auditor.comparison import compare
from session_auditor.coverage import Audit, audit
from session_auditor.model import (
    OUTBOX_LIMIT,
    WHOLE_TARGET,
    AuthenticationMode,
    AuthenticationType,
    DetailType,
    Evidence,
    Facts,
    Failure,
    Fleet,
    Globs,
    Hole,
    Listing,
    Options,
    Scope,
    Session,
    Target,
)
from tests.shared.history import AWAY, CONNECTED, PATIENT, SCOPE, History, at, session, told

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
            [(1, (ON,)), (2, NOT_LISTED), (2.4, NOT_LISTED)],
            ["Started"],
            id="two misses within half a minute end nobody",
        ),
        pytest.param(
            [(1, (ON,)), (2, NOT_LISTED), (2.4, NOT_LISTED), (2.5, NOT_LISTED)],
            ["Started", "Ended USER_OR_ADMIN"],
            id="missing for half a minute ends",
        ),
        pytest.param(
            [(1, (ON,)), (2, NOT_LISTED), (3, (ON,)), (4, NOT_LISTED)],
            ["Started"],
            id="a return resets the miss",
        ),
        pytest.param(
            [(1, (ON,)), (2, NOT_LISTED), (3, BROKEN), (4, BROKEN)],
            ["Started"],
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
            id="never connected: abandoned counts from the first observation",
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
        history = History(options=Options(baseline_events=True))
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

    @pytest.mark.parametrize("seen", [(), (EXPIRED,)], ids=["missing", "expired"])
    def test_a_timeout_that_is_read_at_last_explains_it(self, seen: tuple[Session, ...]) -> None:
        """DescribeFleets was refused as long as the session was listed."""
        history = History(timeout=None)
        history.observe(0)
        history.observe(1, ON)
        history.observe(2, OFF)
        history.timeout = 600
        assert told(history.observe(13, *seen)) == ["Ended DISCONNECT_TIMEOUT"]

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

    def test_degraded_when_the_hole_opens_and_recovered_once(self) -> None:
        history = History(options=Options())
        history.observe(0)
        for minute in range(1, 6):
            assert history.observe(minute, failed={SCOPE: "ThrottlingException"}) == []
        (degraded,) = history.observe(6, failed={SCOPE: "AccessDeniedException"})
        assert degraded["data"]["since"] == "2026-03-02T08:01:00Z"
        assert degraded["data"]["reason"] == "AccessDeniedException"
        assert history.observe(7, failed={SCOPE: "ThrottlingException"}) == []
        (recovered,) = history.observe(8)
        assert recovered["type"] == "Audit Recovered"
        assert recovered["data"]["since"] == "2026-03-02T08:01:00Z"
        assert recovered["data"]["reason"] == "AccessDeniedException", "the reason of its Degraded"
        assert history.observe(9) == []

    def test_after_a_pause_a_scope_that_fails_is_degraded_at_once(self) -> None:
        history = History(options=Options())
        history.observe(0)
        assert told(history.observe(120, failed={SCOPE: "DEADLINE"})) == ["Audit Degraded DEADLINE"]

    def test_a_scope_that_was_never_listed_counts_from_its_first_failure(self) -> None:
        history = History(options=Options())
        lines = [told(history.observe(minute, failed={SCOPE: "ThrottlingException"})) for minute in range(7)]
        assert lines == [[], [], [], [], [], [], ["Audit Degraded ThrottlingException"]]

    @pytest.mark.parametrize("sweeps", [1, 2, 5])
    def test_what_does_not_last_is_not_worth_a_word(self, sweeps: int) -> None:
        history = History(options=Options())
        history.observe(0)
        for minute in range(1, 1 + sweeps):
            assert history.observe(minute, failed={SCOPE: "ThrottlingException"}) == []
        assert history.observe(1 + sweeps) == []

    def test_a_degraded_scope_that_vanishes_recovers(self) -> None:
        history = History(options=Options())
        for minute in range(7):
            history.observe(minute, failed={SCOPE: "ResourceNotFoundException"}, scopes=frozenset())
        assert told(history.observe(7, scopes=frozenset())) == ["Audit Recovered ResourceNotFoundException"]

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
        history = History(options=Options())
        history.observe(0)
        degraded = history.observe(6, failed={SCOPE: "ThrottlingException"})
        assert told(degraded) == ["Audit Degraded ThrottlingException"]
        history.snapshot = replace(history.snapshot, outbox=tuple(history.events) * 1_000)
        assert history.observe(7) == []
        history.snapshot = replace(history.snapshot, outbox=())
        assert told(history.observe(8)) == ["Audit Recovered ThrottlingException"]

    def test_what_could_not_be_committed_keeps_the_window_open_and_degrades_nothing(self) -> None:
        history = History(options=Options())
        history.observe(0)
        for minute in range(1, 20):
            coverage = covered(history, minute, uncommitted={SCOPE: "NOT_COMMITTED"})
            assert coverage.changes == ()
            (gap,) = coverage.target.gaps
            assert (gap.covered, gap.listed, gap.failing) == (at(0), at(minute), False)
            assert coverage.target.holes == (), "every sweep listed it whole"

    def test_a_scope_that_is_listed_again_recovers_though_not_all_of_it_was_committed(self) -> None:
        history = History(options=Options())
        history.observe(0)
        history.observe(6, failed={SCOPE: "ThrottlingException"})
        coverage = covered(history, 7, uncommitted={SCOPE: "NOT_COMMITTED"})
        assert [change.detail_type for change in coverage.changes] == [DetailType.AUDIT_RECOVERED]
        (gap,) = coverage.target.gaps
        assert (gap.covered, gap.failing, gap.announced) == (at(0), False, False)

    def test_sweeps_without_time_are_counted_until_it_is_tried(self) -> None:
        history = History()
        history.observe(0)
        untried_since = []
        for minute, tried in enumerate((False, False, True, False), 1):
            failure = Failure("DEADLINE", tried=tried)
            (gap,) = covered(history, minute, failed={SCOPE: failure}).target.gaps
            untried_since.append(gap.untried_since)
        assert untried_since == [at(1), at(1), None, at(4)]

    def test_a_gap_that_lasts_does_not_change(self) -> None:
        history = History(options=Options())
        history.observe(0)
        failure = {SCOPE: Failure("AccessDeniedException")}
        gaps = [covered(history, minute, failed=failure).target.gaps for minute in range(7, 10)]
        assert gaps[0] == gaps[1] == gaps[2]

    def test_a_filter_that_leaves_a_degraded_scope_out_recovers_it(self) -> None:
        history = History(options=Options())
        history.observe(0)
        history.observe(6, failed={SCOPE: "ThrottlingException"})
        history.options = Options(stacks=Globs(exclude=(SCOPE.stack,)))
        (recovered,) = history.observe(7, scopes=frozenset())
        assert told([recovered]) == ["Audit Recovered FILTERED"]
        assert history.observe(8, scopes=frozenset()) == []

    def test_a_topology_that_cannot_be_read_changes_the_gap_of_the_target_alone(self) -> None:
        history = History(options=Options())
        history.observe(0, ON)
        before = history.target
        history.observe(1, ON, failed={SCOPE: "ThrottlingException"})
        changes = []
        for minute in range(2, 8):
            failed = {WHOLE_TARGET: Failure("AccessDeniedException")}
            listing = Listing(at(minute), at(minute), {}, frozenset(), failed, topology_read=False)
            coverage = audit(history.snapshot, listing, {}, history.options)
            changes += [(minute, change.detail_type, change.gap.scope) for change in coverage.changes]
            assert coverage.scopes == history.snapshot.scopes
            history.snapshot = replace(history.snapshot, target=coverage.target)
        assert changes == [(7, DetailType.AUDIT_DEGRADED, WHOLE_TARGET)]
        assert history.target.last_begin == at(1) != before.last_begin
        assert [gap.scope for gap in history.target.gaps] == [WHOLE_TARGET, SCOPE]
        assert told(history.observe(8, ON)) == [
            "Audit Recovered AccessDeniedException",
        ]

    def test_a_first_sweep_that_could_read_nothing_is_no_first_sweep(self) -> None:
        history = History()
        failed = {WHOLE_TARGET: Failure("AccessDeniedException")}
        listing = Listing(at(0), at(0), {}, frozenset(), failed, topology_read=False)
        coverage = audit(history.snapshot, listing, {}, history.options)
        history.snapshot = replace(history.snapshot, target=coverage.target)
        assert history.observe(2, ON) == [], "the baseline is silent"
        assert history.target.first_begin == at(2)


class TestHoles:
    """Rule 13: nothing is claimed of a time in which nobody looked."""

    @staticmethod
    def play(*observations: Observation, timeout: int | None = 36_000) -> list[str]:
        history = History(options=Options(), timeout=timeout)
        history.observe(0)
        events: list[dict[str, Any]] = []
        for minute, seen in observations:
            if isinstance(seen, str):
                events += history.observe(minute, failed={SCOPE: "ThrottlingException"})
            else:
                events += history.observe(minute, *seen)
        return [line for line in told(events) if not line.startswith("Audit")]

    @staticmethod
    def minutes(start: int, end: int, *seen: Session) -> list[Observation]:
        return [(minute, seen) for minute in range(start, end)]

    def test_a_pause_of_two_hours_is_no_time_without_anybody(self) -> None:
        assert self.play(*self.minutes(1, 3, OFF), *self.minutes(123, 125, OFF)) == ["Started"]

    def test_the_clock_of_abandoned_starts_anew_after_it(self) -> None:
        lines = self.play(*self.minutes(1, 3, OFF), *self.minutes(123, 139, OFF))
        assert lines == ["Started", "Abandoned 15"]

    def test_who_was_away_before_it_and_after_it_may_have_worked_in_between(self) -> None:
        lines = self.play((1, (ON,)), (2, (OFF,)), *self.minutes(123, 137, OFF))
        assert lines == ["Started", "Disconnected"]

    def test_what_has_fired_stays_fired(self) -> None:
        lines = self.play((1, (ON,)), *self.minutes(2, 20, OFF), *self.minutes(140, 160, OFF))
        assert lines == ["Started", "Disconnected", "Abandoned 15"]

    def test_it_puts_the_disconnect_deadline_off(self) -> None:
        lines = self.play((1, (ON,)), (2, (OFF,)), *self.minutes(18, 29, OFF), timeout=900)
        assert lines == ["Started", "Disconnected", "Expiring DISCONNECT_TIMEOUT 5"]

    def test_one_miss_is_no_end_by_a_deadline_that_it_put_off(self) -> None:
        assert self.play((1, (ON,)), (2, (OFF,)), (18, (OFF,)), (19, NOT_LISTED), timeout=900) == [
            "Started",
            "Disconnected",
        ]

    def test_a_partial_listing_shows_what_it_shows_and_starts_no_clock(self) -> None:
        history = History(options=Options(), timeout=900)
        history.observe(0)
        history.observe(1, ON)
        for minute in range(2, 8):
            history.observe(minute, ON, failed={SCOPE: "DEADLINE"})
        (disconnected,) = history.observe(8, OFF, failed={SCOPE: "DEADLINE"})
        assert disconnected["type"] == "Session Disconnected"
        assert disconnected["data"]["deadline"]["cause"] == "MAX_DURATION"
        for minute in range(9, 40):
            assert history.observe(minute, OFF, failed={SCOPE: "DEADLINE"}) == []
        assert told(history.observe(40, OFF)) == ["Audit Recovered DEADLINE"]
        lines = [told(history.observe(minute, OFF)) for minute in range(41, 51)]
        assert lines == [[]] * 9 + [["Expiring DISCONNECT_TIMEOUT 5"]]

    def test_that_of_a_session_that_was_written_before_its_scope_is_remembered(self) -> None:
        """The first sweep died between the two; what failed after it began too late to be a hole."""
        history = History(options=Options())
        history.observe(0, ON)
        died = Target(first_begin=at(0))
        history.snapshot = replace(history.snapshot, target=died, scopes=frozenset())
        for minute in range(3, 7):
            history.observe(minute, ON, failed={SCOPE: "DEADLINE"})
        assert history.observe(7, ON) == []
        history.observe(8)
        (ended,) = history.observe(9)
        assert ended["data"]["usage"]["connectedSeconds"] == 60

    @pytest.mark.parametrize(
        ("observations", "reason"),
        [
            pytest.param([(1, (ON,)), (9, NOT_LISTED), (10, NOT_LISTED)], "UNKNOWN", id="ended within it"),
            pytest.param([(1, (ON,)), (9, (EXPIRED,))], "UNKNOWN", id="expired within it"),
            pytest.param(
                [(1, (OFF,)), (9, (OFF,)), (10, NOT_LISTED), (11, NOT_LISTED)],
                "UNKNOWN",
                id="never seen connected, with one in its life",
            ),
            pytest.param(
                [(9, (OFF,)), (10, NOT_LISTED), (11, NOT_LISTED)],
                "UNKNOWN",
                id="never seen connected, first seen after one",
            ),
            pytest.param(
                [(9, (UNTOLD,)), (10, (OFF,)), (11, NOT_LISTED), (12, NOT_LISTED)],
                "UNKNOWN",
                id="first seen after one, without a connection state",
            ),
            pytest.param(
                [(1, (ON,)), (9, (ON,)), (10, NOT_LISTED), (11, NOT_LISTED)],
                "USER_OR_ADMIN",
                id="seen connected, with one in its life",
            ),
            pytest.param(
                [(1, (ON,)), (2, NOT_LISTED), (9, NOT_LISTED)],
                "USER_OR_ADMIN",
                id="one between two misses is not in the window",
            ),
            pytest.param(
                [(1, (ON,)), (9, NOT_LISTED), (16, NOT_LISTED)],
                "UNKNOWN",
                id="one in the window, another between the misses",
            ),
        ],
    )
    def test_why_a_session_ended(self, observations: list[Observation], reason: str) -> None:
        assert self.play(*observations)[-1] == f"Ended {reason}"

    def test_a_session_of_the_baseline_that_nobody_was_seen_connected_to(self) -> None:
        history = History(options=Options())
        history.observe(1, OFF)
        history.observe(2)
        assert told(history.observe(3)) == ["Ended UNKNOWN"]

    def test_usage_counts_anew_after_it(self) -> None:
        history = History(options=Options())
        history.observe(0)
        for minute in (1, 2, 123, 124):
            history.observe(minute, ON)
        (disconnected,) = history.observe(125, OFF)
        assert disconnected["data"]["usage"]["connectedSeconds"] == 120

    def test_usage_of_who_expires_within_it(self) -> None:
        history = History(options=Options())
        history.observe(0)
        history.observe(1, ON)
        (ended,) = history.observe(9, session(CONNECTED, state="EXPIRED"))
        assert ended["data"]["usage"]["connectedSeconds"] == 0

    def test_a_return_after_it_does_not_say_how_long(self) -> None:
        history = History(options=Options())
        history.observe(0)
        history.observe(1, ON)
        history.observe(2, OFF)
        (reconnected,) = history.observe(123, ON)
        assert reconnected["data"]["summary"].endswith("reconnected on stack office, fleet cad")

    def test_it_writes_no_session(self) -> None:
        history = History(options=Options())
        history.observe(0)
        sessions = [session(CONNECTED if number % 2 else AWAY, f"s-{number}") for number in range(10)]
        history.observe(1, *sessions)
        for minute in (60, 61, 62):
            listing = Listing(
                at(minute),
                at(minute),
                {each.id: each for each in sessions},
                frozenset([SCOPE]),
                facts=Facts({SCOPE.fleet: Fleet(3600)}),
            )
            assert compare(history.snapshot, listing, history.options).transitions == ()
            history.observe(minute, *sessions)
        assert history.target.holes == (Hole(None, at(60), at(60)),)

    def test_a_scope_has_one_of_its_own_until_no_session_lived_through_it(self) -> None:
        history = History(options=Options())
        other = Scope("office", "other")
        both = frozenset([SCOPE, other])
        elsewhere = session(session_id="elsewhere", scope=other)
        history.observe(0, scopes=both)
        history.observe(1, OFF, elsewhere, scopes=both)
        for minute in range(2, 9):
            history.observe(minute, elsewhere, failed={SCOPE: "DEADLINE"}, scopes=both)
        history.observe(9, OFF, elsewhere, scopes=both)
        assert history.target.holes == (Hole(SCOPE, at(9), at(9)),)
        history.observe(10, EXPIRED, elsewhere, scopes=both)
        history.observe(11, elsewhere, scopes=both)
        assert history.target.holes == ()

    def test_one_session_that_cannot_be_committed_makes_none_for_its_neighbours(self) -> None:
        history = History(options=Options())
        history.observe(0)
        history.observe(1, ON)
        history.observe(2, OFF)
        for minute in range(3, 40):
            listing = Listing(
                at(minute),
                at(minute),
                {"s-1": OFF},
                frozenset([SCOPE]),
                facts=Facts({SCOPE.fleet: Fleet(3600)}),
            )
            lines = [
                change.detail_type
                for transition in compare(history.snapshot, listing, history.options).transitions
                for change in transition.changes
            ]
            if minute == 17:
                assert lines == [DetailType.ABANDONED]
                return
            coverage = audit(history.snapshot, listing, {SCOPE: "OUTBOX_FULL"}, history.options)
            history.snapshot = replace(history.snapshot, target=coverage.target)

    @pytest.mark.parametrize(
        "hole", [timedelta(minutes=5), timedelta(minutes=11)], ids=["the shortest", "of a slow schedule"]
    )
    def test_it_is_longer_than_a_missed_sweep_or_two(self, hole: timedelta) -> None:
        for over in (timedelta(0), timedelta(seconds=1)):
            history = History(options=Options(hole=hole))
            history.observe(0)
            history.observe((hole + over) / timedelta(minutes=1), ON)
            assert bool(history.target.holes) is bool(over)

    def test_a_session_whose_outbox_was_full_is_compared_as_after_one(self) -> None:
        history = History(options=Options())
        history.observe(0)
        history.observe(1, ON)
        history.observe(2, OFF)
        stored = history.snapshot.sessions["s-1"]
        full = replace(stored, remembered=replace(stored.remembered, outbox_full=True))
        full = replace(full, outbox=tuple(history.events) * OUTBOX_LIMIT)
        history.snapshot = replace(history.snapshot, sessions={"s-1": full})
        history.observe(4, ON)
        drained = replace(full, outbox=())
        history.snapshot = replace(history.snapshot, sessions={"s-1": drained})
        lines = [line for minute in range(5, 25) for line in told(history.observe(minute, OFF))]
        assert lines == ["Abandoned 15"]
        remembered = history.snapshot.sessions["s-1"].remembered
        assert (remembered.clocks_from, remembered.outbox_full) == (at(5), False)

    def test_the_end_of_a_session_whose_outbox_was_full_is_not_explained(self) -> None:
        history = History(options=Options())
        history.observe(0)
        history.observe(1, ON)
        stored = history.snapshot.sessions["s-1"]
        full = replace(stored, remembered=replace(stored.remembered, outbox_full=True))
        history.snapshot = replace(history.snapshot, sessions={"s-1": full})
        history.observe(2)
        assert told(history.observe(3)) == ["Ended UNKNOWN"]


def covered(
    history: History,
    minute: float,
    failed: Mapping[Scope, Failure] | None = None,
    uncommitted: Mapping[Scope, str] | None = None,
) -> Audit:
    """Audit an empty listing, of which not all may have been covered or committed."""
    listing = Listing(at(minute), at(minute), {}, frozenset([SCOPE]), failed or {})
    coverage = audit(history.snapshot, listing, uncommitted or {}, history.options)
    history.snapshot = replace(history.snapshot, target=coverage.target)
    return coverage


class TestFilters:
    """A changed filter closes the life of what it leaves out, and claims nothing about it."""

    LEFT_OUT = Options(fleets=Globs(exclude=("c*",)))

    def test_a_session_that_events_were_told_of_is_unwatched(self) -> None:
        history = History()
        history.observe(0)
        history.observe(1, ON)
        history.options = self.LEFT_OUT
        (unwatched,) = history.observe(2, scopes=frozenset())
        assert unwatched["type"] == "Session Unwatched"
        assert unwatched["metadata"]["sequence"] == 2
        assert unwatched["data"]["summary"] == (
            "The session of “jane.doe@example.com” on stack office, fleet cad is not audited any more: "
            "a filter leaves it out"
        )
        assert history.snapshot.sessions == {}

    def test_a_session_of_which_nothing_was_told_is_forgotten(self) -> None:
        history = History()
        history.observe(0, ON)
        history.options = self.LEFT_OUT
        assert history.observe(2, scopes=frozenset()) == []
        assert history.snapshot.sessions == {}

    def test_included_again_it_begins_a_new_life_of_which_the_past_is_not_known(self) -> None:
        history = History(options=Options())
        history.observe(0)
        history.observe(1, OFF)
        history.options = replace(self.LEFT_OUT, hole=history.options.hole)
        for minute in range(2, 120):
            history.observe(minute, scopes=frozenset())
        history.options = Options()
        (started,) = history.observe(120, OFF)
        assert (started["type"], started["metadata"]["sequence"]) == ("Session Started", 1)
        assert started["metadata"]["previousObservedAt"] == "2026-03-02T08:01:00Z"
        assert history.observe(121, OFF) == [], "nobody knows what it did meanwhile"
        history.observe(122)
        assert told(history.observe(123)) == ["Ended UNKNOWN"]

    def test_how_long_it_was_left_out_is_remembered_for_a_month(self) -> None:
        history = History()
        history.observe(0)
        history.options = self.LEFT_OUT
        history.observe(1, scopes=frozenset())
        assert [gap.reason for gap in history.target.gaps] == ["FILTERED"]
        history.observe(31 * 24 * 60, scopes=frozenset())
        assert history.target.gaps == ()

    def test_a_scope_that_was_never_listed_is_remembered_too(self) -> None:
        """So it is tried, and its Degraded told, where its stack cannot be read when it is wanted again."""
        history = History()
        history.observe(0, failed={SCOPE: "DEADLINE"})
        history.options = self.LEFT_OUT
        history.observe(1, scopes=frozenset())
        assert [(gap.scope, gap.reason) for gap in history.target.gaps] == [(SCOPE, "FILTERED")]
        history.options = Options()
        assert history.observe(10, failed={SCOPE: "DEADLINE"}) == [], "nobody had wanted it to be listed"
        assert told(history.observe(16, failed={SCOPE: "DEADLINE"})) == ["Audit Degraded DEADLINE"]

    @pytest.mark.parametrize(
        ("record", "listed_as", "asked_for", "expected"),
        [
            pytest.param("SAML", "SAML", "API", ["Unwatched"], id="its type is not asked for any more"),
            pytest.param("SAML", "", "API", ["Unwatched"], id="listed without a type, the record decides"),
            pytest.param("", "", "API", ["Unwatched"], id="nothing tells its type"),
            pytest.param("AWS_AD", "SAML", "SAML", [], id="AWS's record says another type"),
            pytest.param("WORKFORCE", "SAML", "SAML", [], id="AWS's record says a type nobody knows"),
            pytest.param("API", "SAML", "API", ["Unwatched"], id="the call decides, not the record"),
            pytest.param("SAML", "", "SAML", [], id="listed without a type, and still asked for"),
        ],
    )
    def test_the_type_of_the_call_that_listed_a_session_decides(
        self, record: str, listed_as: str, asked_for: str, expected: list[str]
    ) -> None:
        history = History()
        history.observe(0)
        calls = {"s-1": AuthenticationType(listed_as)} if listed_as else {}
        history.observe(1, session(authentication_type=record), listed_as=calls)
        types = frozenset([AuthenticationType(asked_for)])
        assert told(history.observe(2, authentication_types=types)) == expected
        assert ("s-1" in history.snapshot.sessions) is not bool(expected)

    def test_a_call_without_a_type_changes_nothing_remembered(self) -> None:
        history = History()
        history.observe(0)
        history.observe(1, ON, listed_as={"s-1": AuthenticationType.API})
        history.observe(2, ON)
        assert history.snapshot.sessions["s-1"].remembered.listed_as is AuthenticationType.API

    def test_a_type_that_is_refused_ends_nobody_that_was_listed_by_it(self) -> None:
        history = History()
        history.observe(0)
        by_type = {"s-1": AuthenticationType.SAML, "pool": AuthenticationType.USERPOOL}
        history.observe(1, ON, session(session_id="pool"), listed_as=by_type)
        refused = {SCOPE: frozenset([AuthenticationType.USERPOOL])}
        lines = [told(history.observe(minute, refused_types=refused)) for minute in (2, 3, 4)]
        assert lines == [[], ["Ended USER_OR_ADMIN"], []]
        assert list(history.snapshot.sessions) == ["pool"]

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
        assert Options(fleets=globs).wants(Scope("office", "cad-test")) is wanted


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


class TestFleet:
    """What a session's fleet is is for the history alone: no session is written for it."""

    @staticmethod
    def listed(
        minute: float,
        fleet_type: str,
        connection: str = CONNECTED,
        instance_type: str = "",
        sessions: int = 0,
    ) -> Listing:
        fleet = Fleet(3600, fleet_type, instance_type, max_sessions=sessions)
        facts = Facts({SCOPE.fleet: fleet})
        return Listing(at(minute), at(minute), {"s-1": session(connection)}, frozenset([SCOPE]), facts=facts)

    def test_a_quiet_sweep_writes_no_session_for_it(self) -> None:
        history = History()
        history.observe(0)
        history.observe(1, session())
        assert compare(history.snapshot, self.listed(2, "ALWAYS_ON"), PATIENT).transitions == ()

    def test_it_is_noted_with_the_next_change(self) -> None:
        history = History()
        history.observe(0)
        history.observe(1, session())
        (transition,) = compare(history.snapshot, self.listed(2, "ALWAYS_ON", AWAY), PATIENT).transitions
        assert transition.before
        assert (transition.before.fleet_type, transition.after.fleet_type) == ("ON_DEMAND", "ALWAYS_ON")
        (unknown,) = compare(history.snapshot, self.listed(2, "", AWAY), PATIENT).transitions
        assert unknown.after.fleet_type == "ON_DEMAND"

    @pytest.mark.parametrize(
        ("said", "kept"),
        [
            pytest.param(("", 0), ("stream.standard.large", 4), id="what is not known leaves what was"),
            pytest.param(("", 9), ("stream.standard.large", 4), id="a part of it, too"),
            pytest.param(("stream.compute.large", 8), ("stream.compute.large", 8), id="another instance"),
            pytest.param(("stream.compute.large", 0), ("stream.compute.large", 0), id="of one session"),
        ],
    )
    def test_an_instance_and_its_sessions_are_said_together(
        self, said: tuple[str, int], kept: tuple[str, int]
    ) -> None:
        history = History()
        history.observe(0)
        fleet = Fleet(3600, "ALWAYS_ON", "stream.standard.large", max_sessions=4)
        history.observe(1, session(), facts=Facts({SCOPE.fleet: fleet}))
        listing = self.listed(2, "ALWAYS_ON", AWAY, *said)
        (transition,) = compare(history.snapshot, listing, PATIENT).transitions
        assert (transition.after.instance_type, transition.after.max_sessions) == kept


@pytest.mark.parametrize(
    ("sights", "expected"),
    [
        pytest.param(["ACTIVE"], None, id="it does not drain"),
        pytest.param(["DRAINING", "DRAINING"], 1, id="the first sight counts"),
        pytest.param(["DRAINING", "ACTIVE"], None, id="taken back"),
        pytest.param(["DRAINING", "ACTIVE", "DRAINING"], 3, id="and draining again"),
        pytest.param(["DRAINING in part"], None, id="a scope that is not listed whole starts nothing"),
        pytest.param(["ACTIVE", "DRAINING in part", "DRAINING"], 3, id="until it is whole"),
        pytest.param(["DRAINING", "ACTIVE in part"], 1, id="and takes nothing back"),
    ],
)
def test_since_when_a_host_was_seen_draining(sights: list[str], expected: float | None) -> None:
    history = History()
    history.observe(0)
    for minute, sight in enumerate(sights, start=1):
        status, _, in_part = sight.partition(" ")
        failed = {SCOPE: "ThrottlingException"} if in_part else {}
        history.observe(minute, session(instance_drain_status=status), failed=failed)
    since = None if expected is None else at(expected)
    assert history.snapshot.sessions["s-1"].remembered.draining_since == since
