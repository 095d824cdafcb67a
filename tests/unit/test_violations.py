"""When violations of policies are told and when they are over: observations, and the events that follow."""

import json
from typing import Any, ClassVar

import pytest

from session_auditor.model import DetailType, Facts, Fleet, Globs, Options, Scope, Session
from session_auditor.policies import NO_DOCUMENT, Document, read_document
from tests.shared.history import AWAY, CONNECTED, PATIENT, SCOPE, History, at, session

OTHER = Scope("office", "render")
BOTH = frozenset([SCOPE, OTHER])


def document(hours: dict[str, Any] | None = None, **policies: dict[str, Any]) -> Document:
    text = {"version": 1, "timeZone": "UTC", "hours": hours or {}, "policies": policies}
    return read_document(json.dumps(text), tag_keys=("team",))


def too_long(*minutes: int, **filters: Any) -> dict[str, Any]:
    return {"kind": "TOO_LONG", "minutes": list(minutes)} | filters


def too_many(limit: int, **filters: Any) -> dict[str, Any]:
    return {"kind": "TOO_MANY_SESSIONS", "limit": limit} | filters


def draining(*minutes: int) -> dict[str, Any]:
    return {"kind": "DRAINING", "minutes": list(minutes)}


HALF_AN_HOUR = document(long=too_long(30))


def policies_told(events: list[dict[str, Any]]) -> list[str]:
    """Sum events up: their type, the session's id, and of policies the name, threshold and why it is over."""
    lines = []
    for event in events:
        data = event["data"]
        words = [event["type"].removeprefix("Session "), data["session"]["id"]] if "session" in data else []
        if "policy" in data:
            words += [data["policy"]["name"], str(data["thresholdMinutes"]), data.get("clearReason", "")]
        lines.append(" ".join(words).rstrip())
    return [line for line in lines if line]


def history(policies: Document = HALF_AN_HOUR, options: Options = PATIENT) -> History:
    """A target that was swept at minute 0, so that nothing is of the baseline."""
    told = History(options=options, policies=policies)
    told.observe(0, scopes=BOTH)
    return told


def sweep(told: History, minute: float, *sessions: Any, **listing: Any) -> list[str]:
    return policies_told(told.observe(minute, *sessions, **{"scopes": BOTH} | listing))


class TestOnce:
    def test_it_is_told_when_it_begins_and_when_it_is_over(self) -> None:
        told = history()
        assert sweep(told, 1, session()) == ["Started s-1"]
        assert sweep(told, 30, session()) == []
        assert sweep(told, 31, session()) == ["Policy Violated s-1 long 30"]
        assert sweep(told, 32, session()) == []
        told.observe(33, session(AWAY), scopes=BOTH)
        assert sweep(told, 34, session(AWAY)) == []
        assert sweep(told, 35, session(state="EXPIRED")) == ["Policy Cleared s-1 long 30 ENDED", "Ended s-1"]

    def test_events_are_numbered_among_the_sessions_own(self) -> None:
        told = history()
        for minute, seen in ((1, session()), (31, session(AWAY)), (32, session(state="EXPIRED"))):
            told.observe(minute, seen, scopes=BOTH)
        numbered = [
            (event.detail_type.removeprefix("AppStream Session "), json.loads(event.detail)["metadata"])
            for event in told.events
        ]
        assert [(name, metadata["sequence"]) for name, metadata in numbered] == [
            ("Started", 1),
            ("Disconnected", 2),
            ("Policy Violated", 3),
            ("Policy Cleared", 4),
            ("Ended", 5),
        ]

    def test_what_is_over_may_begin_again(self) -> None:
        told = history(document(many=too_many(1)))
        one, two = session(), session(session_id="s-2", start_time=at(1))
        sweep(told, 2, one, two)
        lines = [sweep(told, 3, one, two), sweep(told, 4, two), sweep(told, 6, two), sweep(told, 7, one, two)]
        # s-2 is beyond the limit as long as s-1 lives; a session that comes back is before it again.
        assert lines[0] == []
        assert lines[1] == [], "one miss ends nobody, and a missing session counts"
        assert lines[2] == ["Ended s-1", "Policy Cleared s-2 many 0 RESOLVED"]
        assert lines[3] == ["Started s-1", "Policy Violated s-2 many 0"]

    def test_of_several_thresholds_the_largest_alone_is_told(self) -> None:
        told = history(document(long=too_long(10, 20, 60)))
        assert sweep(told, 30, session()) == ["Started s-1", "Policy Violated s-1 long 20"]
        assert sweep(told, 61, session()) == ["Policy Violated s-1 long 60"]
        assert sweep(told, 62, session(state="EXPIRED")) == [
            "Policy Cleared s-1 long 20 ENDED",
            "Policy Cleared s-1 long 60 ENDED",
            "Ended s-1",
        ]

    def test_each_policy_is_its_own(self) -> None:
        told = history(document(b=too_long(10), a=too_long(10, 20), c=too_many(1)))
        assert sweep(told, 12, session()) == [
            "Started s-1",
            "Policy Violated s-1 a 10",
            "Policy Violated s-1 b 10",
        ]

    def test_a_session_of_the_baseline_raises_too(self) -> None:
        told = History(options=PATIENT, policies=HALF_AN_HOUR)
        assert sweep(told, 31, session()) == ["Policy Violated s-1 long 30"]

    def test_what_is_told_when_it_is_over_is_what_was_told_when_it_began(self) -> None:
        told = history()
        (_, violated) = told.observe(31, session(), scopes=BOTH)
        (cleared, _) = told.observe(40, session(state="EXPIRED"), scopes=BOTH)
        expected = {
            "name": "long",
            "kind": "TOO_LONG",
            "since": "2026-03-02T08:30:30Z",
            "limit": "30",
            "actual": "30",
        }
        assert violated["data"]["policy"] == cleared["data"]["policy"] == expected
        assert violated["data"]["thresholdMinutes"] == cleared["data"]["thresholdMinutes"] == 30


class TestEnds:
    def test_a_session_that_is_gone(self) -> None:
        told = history()
        sweep(told, 31, session())
        assert sweep(told, 32) == []
        assert sweep(told, 33) == ["Policy Cleared s-1 long 30 ENDED", "Ended s-1"]

    def test_a_session_that_a_filter_leaves_out(self) -> None:
        told = history()
        sweep(told, 31, session())
        told.options = Options(stacks=Globs(exclude=("*",)))
        assert sweep(told, 32, scopes=frozenset()) == [
            "Policy Cleared s-1 long 30 UNWATCHED",
            "Unwatched s-1",
        ]

    def test_an_open_violation_makes_a_session_of_the_baseline_known(self) -> None:
        told = History(options=PATIENT, policies=HALF_AN_HOUR)
        sweep(told, 31, session())
        told.options = Options(stacks=Globs(exclude=("*",)))
        assert sweep(told, 32, scopes=frozenset()) == [
            "Policy Cleared s-1 long 30 UNWATCHED",
            "Unwatched s-1",
        ]

    def test_an_expired_session_raises_nothing(self) -> None:
        told = history()
        sweep(told, 1, session())
        assert sweep(told, 31, session(state="EXPIRED")) == ["Ended s-1"]


class TestChanged:
    @pytest.mark.parametrize(
        "after",
        [
            pytest.param(document(long=too_long(90)), id="another threshold"),
            pytest.param(document(long=too_long(30, fleets="render")), id="another filter"),
            pytest.param(document(other=too_long(90)), id="deleted"),
            pytest.param(document(long=draining(30)), id="another kind"),
            pytest.param(NO_DOCUMENT, id="no policies any more"),
        ],
    )
    def test_what_an_edited_policy_finds_no_more_is_over(self, after: Document) -> None:
        told = history()
        sweep(told, 31, session())
        told.policies = after
        assert sweep(told, 32, session()) == ["Policy Cleared s-1 long 30 POLICY_CHANGED"]
        assert sweep(told, 33, session()) == []

    def test_what_it_still_finds_stays_open_without_a_word(self) -> None:
        told = history()
        sweep(told, 31, session())
        told.policies = document(long=too_long(30, 400))
        assert sweep(told, 32, session()) == []
        assert sweep(told, 33, session()) == []
        assert sweep(told, 34, session(state="EXPIRED")) == ["Policy Cleared s-1 long 30 ENDED", "Ended s-1"]

    def test_once_an_edited_policy_has_found_it_its_end_is_its_own(self) -> None:
        told = history(document(many=too_many(1)))
        one, two = session(), session(session_id="s-2", start_time=at(1))
        sweep(told, 2, one, two)
        told.policies = document(many=too_many(1, stacks="office"))
        assert sweep(told, 3, one, two) == []
        assert sweep(told, 4, session(state="EXPIRED"), two) == [
            "Ended s-1",
            "Policy Cleared s-2 many 0 RESOLVED",
        ]

    def test_a_smaller_threshold_than_the_open_one_counts_as_told(self) -> None:
        told = history(document(long=too_long(30)))
        sweep(told, 31, session())
        told.policies = document(long=too_long(5, 30))
        assert sweep(told, 32, session()) == []

    def test_a_moved_threshold_is_another_violation(self) -> None:
        told = history(document(long=too_long(30)))
        sweep(told, 31, session())
        told.policies = document(long=too_long(20))
        assert sweep(told, 32, session()) == [
            "Policy Cleared s-1 long 30 POLICY_CHANGED",
            "Policy Violated s-1 long 20",
        ]

    def test_a_fleet_that_loses_its_tag_is_matched_no_more(self) -> None:
        told = history(document(long=too_long(30, tags={"team": "cad"})))

        def tagged(team: str) -> Facts:
            return Facts({SCOPE.fleet: Fleet(tags={"team": team})})

        assert sweep(told, 31, session(), facts=tagged("cad")) == [
            "Started s-1",
            "Policy Violated s-1 long 30",
        ]
        assert sweep(told, 32, session(), facts=tagged("")) == ["Policy Cleared s-1 long 30 RESOLVED"]


class TestNotListed:
    BROKEN: ClassVar = {SCOPE: "ThrottlingException"}

    def test_a_scope_that_failed_raises_nothing(self) -> None:
        told = history()
        sweep(told, 1, session())
        assert sweep(told, 31, session(), failed=self.BROKEN) == []
        assert sweep(told, 32, session()) == ["Policy Violated s-1 long 30"]

    def test_a_scope_that_failed_clears_nothing(self) -> None:
        told = history()
        sweep(told, 31, session())
        told.policies = NO_DOCUMENT
        assert sweep(told, 32, session(), failed=self.BROKEN) == []
        assert sweep(told, 33, session()) == ["Policy Cleared s-1 long 30 POLICY_CHANGED"]

    def test_its_sessions_count_all_the_same(self) -> None:
        told = history(document(many=too_many(1)))
        one, two = session(), session(session_id="s-2", scope=OTHER, start_time=at(1))
        assert sweep(told, 2, one) == ["Started s-1"]
        assert sweep(told, 3, two, failed=self.BROKEN) == ["Started s-2", "Policy Violated s-2 many 0"]
        assert sweep(told, 4, two, failed=self.BROKEN) == []

    def test_a_missing_session_raises_and_clears_nothing(self) -> None:
        told = history()
        sweep(told, 1, session())
        assert sweep(told, 31) == []
        assert sweep(told, 32, session()) == ["Policy Violated s-1 long 30"]


class TestHoles:
    """Nothing is claimed of a time in which nobody looked."""

    DRAINED = session(instance_drain_status="DRAINING")

    def drained(self) -> History:
        told = history(document(drain=draining(30)), Options())
        for minute in range(1, 11):
            sweep(told, minute, self.DRAINED)
        return told

    def test_draining_counts_from_its_first_sight(self) -> None:
        told = self.drained()
        for minute in range(11, 31):
            assert sweep(told, minute, self.DRAINED) == []
        assert sweep(told, 31, self.DRAINED) == ["Policy Violated s-1 drain 30"]

    def test_draining_counts_anew_after_a_hole(self) -> None:
        told = self.drained()
        for minute in range(20, 50):
            assert sweep(told, minute, self.DRAINED) == []
        assert sweep(told, 50, self.DRAINED) == ["Policy Violated s-1 drain 30"]

    def test_a_host_that_drains_no_more(self) -> None:
        told = self.drained()
        for minute in range(11, 31):
            sweep(told, minute, self.DRAINED)
        assert sweep(told, 31, self.DRAINED) == ["Policy Violated s-1 drain 30"]
        assert sweep(told, 32, session(instance_drain_status="ACTIVE")) == [
            "Policy Cleared s-1 drain 30 RESOLVED"
        ]
        assert sweep(told, 33, self.DRAINED) == []

    def test_a_session_was_too_long_in_a_hole_too(self) -> None:
        told = history(HALF_AN_HOUR, Options())
        sweep(told, 1, session())
        assert sweep(told, 200, session()) == ["Policy Violated s-1 long 30"]


class TestOutsideHours:
    NIGHT = document(
        hours={"day": {"days": "mon-sun", "from": "07:00", "to": "08:30"}},
        night={"kind": "OUTSIDE_HOURS", "hours": "day", "graceMinutes": 10},
    )

    def test_it_stays_open_through_disconnects(self) -> None:
        told = history(self.NIGHT)
        on, off = (session(each, max_expiration_time=None) for each in (CONNECTED, AWAY))
        assert sweep(told, 39, on) == ["Started s-1"]
        assert sweep(told, 40, on) == ["Policy Violated s-1 night 0"]
        assert sweep(told, 41, off) == ["Disconnected s-1"]
        assert sweep(told, 42, on) == ["Reconnected s-1"]
        # At 06:59 and 07:00 of the next day.
        assert sweep(told, 23 * 60 - 1, on) == []
        assert sweep(told, 23 * 60, on) == ["Policy Cleared s-1 night 0 RESOLVED"]


class TestSummaries:
    """The line for people says which policy, how it is violated, and why it is over."""

    DAY: ClassVar = {"day": {"days": "mon-sun", "from": "07:00", "to": "08:30"}}

    @pytest.mark.parametrize(
        ("policy", "expected"),
        [
            pytest.param(
                {"kind": "OUTSIDE_HOURS", "hours": "day"},
                "outside mon-sun 07:00-08:30 UTC",
                id="OUTSIDE_HOURS",
            ),
            pytest.param(too_many(1), "its user has 2 sessions, and the limit is 1", id="TOO_MANY_SESSIONS"),
            pytest.param(too_long(90), "it has lasted for 1 h 30 min", id="TOO_LONG"),
            pytest.param(draining(45), "its host has been draining for 45 min", id="DRAINING"),
        ],
    )
    def test_how_it_is_violated(self, policy: dict[str, Any], expected: str) -> None:
        told = history(document(hours=self.DAY, it=policy))
        one = session(instance_drain_status="DRAINING")
        two = session(session_id="s-2", start_time=at(2), instance_drain_status="DRAINING")
        told.observe(5, one, two, scopes=BOTH)
        told.observe(95, one, two, scopes=BOTH)
        told.observe(96, one, two, scopes=BOTH)
        summaries = {
            json.loads(event.detail)["data"]["summary"]
            for event in told.events
            if event.detail_type is DetailType.POLICY_VIOLATED
        }
        place = "The session of “jane.doe@example.com” on stack office, fleet cad"
        assert summaries == {f"{place} violates policy it: {expected}"}

    @pytest.mark.parametrize(
        ("expected", "seen", "change"),
        [
            pytest.param("", session(instance_drain_status="ACTIVE"), {}, id="RESOLVED"),
            pytest.param(": it has ended", session(state="EXPIRED"), {}, id="ENDED"),
            pytest.param(
                ": the policy was changed", session(), {"policies": NO_DOCUMENT}, id="POLICY_CHANGED"
            ),
            pytest.param(
                ": it is not audited any more",
                None,
                {"options": Options(stacks=Globs(exclude=("*",)))},
                id="UNWATCHED",
            ),
        ],
    )
    def test_why_it_is_over(self, expected: str, seen: Session | None, change: dict[str, Any]) -> None:
        told = history(document(it=draining(1)))
        drained = session(instance_drain_status="DRAINING")
        told.observe(1, drained, scopes=BOTH)
        told.observe(2, drained, scopes=BOTH)
        vars(told).update(change)
        event, *_ = told.observe(3, *([seen] if seen else []), scopes=BOTH if seen else frozenset())
        place = "The session of “jane.doe@example.com” on stack office, fleet cad"
        assert event["data"]["summary"] == f"{place} no longer violates policy it{expected}"
