"""Deliberate breakages of the auditor, each killed by a promise: what would not be noticed is not proved.

A mutant puts a broken function in the place of one of the auditor's own, so it survives whatever is moved or
rewritten around it. One whose function is gone does not load, and one that changes nothing is not killed.
"""

import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial, wraps
from secrets import token_hex
from typing import Any, TypeVar
from unittest.mock import patch

import pytest

from session_auditor import (
    clocks,
    comparison,
    contract,
    coverage,
    faults,
    lifecycle,
    publisher,
    rules,
    snapshots,
    states,
    sweep,
    table,
    timeline,
    violations,
)
from session_auditor.comparison import Comparison, Transition
from session_auditor.coverage import Audit, Coverage, Watch
from session_auditor.faults import Faults
from session_auditor.listing import SessionLister
from session_auditor.model import (
    Cause,
    Change,
    Deadline,
    DetailType,
    Event,
    Failure,
    Life,
    Listing,
    Options,
    Presence,
    Remembered,
    Scope,
    Snapshot,
)
from session_auditor.policies import Document, Draining, Hours
from session_auditor.publisher import Published
from session_auditor.rules import draining, outside_hours
from session_auditor.snapshots import Snapshots
from session_auditor.sweep import Auditor, Clock, TimeLeft
from session_auditor.violations import Judged
from tests.simulation import invariants, test_containers, test_crashes, test_interleavings, test_stalls
from tests.simulation.aws import Cloud
from tests.simulation.invariants import Broken, event_id, session_of
from tests.simulation.scenarios import SCENARIOS, Moment, Scenario, arrive, each, office
from tests.simulation.test_crashes import replay, settle
from tests.simulation.trial import KILLED

F = TypeVar("F", bound=Callable[..., Any])
Breakage = AbstractContextManager[Any]
# Given a scenario, and a `cloud` to play it in.
Play = Callable[..., None]


def day(scenario: Scenario, cloud: Cloud) -> None:
    """Play a scenario with nothing in the way."""
    trial = replay(scenario, cloud, lambda _trial, _number: None)
    settle(trial)
    trial.check()


def day_with_a_poison(scenario: Scenario, cloud: Cloud) -> None:
    """Play a scenario in which the bus refuses every event of one session, for good."""
    del scenario
    poisoned = Scenario(
        "a poison session",
        (
            Moment(0, office),
            Moment(60, arrive("a", "b", "c", "d")),
            Moment(60, each("disconnect", "a", "b", "c", "d")),
            Moment(60, each("expire", "a", "b")),
        ),
    )
    cloud.eventbridge.refuses = lambda entry, _: "MalformedDetail" if session_of(entry) == "b" else None
    day(poisoned, cloud)
    told = {session_of(entry) for entry in cloud.eventbridge.accepted}
    if told != {"a", "c", "d"}:
        raise Broken(f"a poison session held others up: of {sorted(told)} alone was told")


def same_day_twice(scenario: Scenario, cloud: Cloud) -> None:
    """Play a scenario twice: the same history gives the same ids."""

    def ids(cloud: Cloud) -> list[str]:
        day(scenario, cloud)
        return [event_id(entry) for entry in cloud.eventbridge.accepted]

    with Cloud() as another:
        once = ids(another)
    if once != ids(cloud):
        raise Broken("the same history gave other ids")


# What breakages raised that no longer fit: their function has other parameters or fields now.
MISFITS: list[BaseException] = []


def watched(broken: F) -> F:
    """Note when a broken function does not break the auditor, but itself."""

    @wraps(broken)
    def call(*arguments: Any, **named: Any) -> Any:
        try:
            return broken(*arguments, **named)
        except (AttributeError, TypeError) as misfit:
            MISFITS.append(misfit)
            raise

    return call  # type: ignore[return-value]


def method(owner: type, name: str, broken: F) -> Breakage:
    """Put a broken method in the place of one of the auditor's."""
    return patch.object(owner, name, watched(broken))


@contextmanager
def everywhere(original: F, broken: F) -> Iterator[None]:
    """Put a broken function in the place of one of the auditor's, wherever it was imported."""
    places = [
        (module, name)
        for package, module in list(sys.modules.items())
        if package.partition(".")[0] == "session_auditor"
        for name, value in vars(module).items()
        if value is original
    ]
    assert places, f"{original} is used nowhere"
    with ExitStack() as stack:
        for module, name in places:
            stack.enter_context(patch.object(module, name, watched(broken)))
        yield


def no_condition_on_the_write() -> Breakage:
    return everywhere(table._condition, lambda _version: {})


def read_after_listing() -> Breakage:
    original = Auditor._list

    def list_then_read(
        self: Auditor, snapshot: Snapshot, begin: datetime, clock: Clock, time_left: TimeLeft
    ) -> Listing:
        listing = original(self, snapshot, begin, clock, time_left)
        fresh = self.snapshots.load(begin)
        for part in fields(Snapshot):
            object.__setattr__(snapshot, part.name, getattr(fresh, part.name))
        return listing

    return method(Auditor, "_list", list_then_read)


def clear_before_publish() -> Breakage:
    def publish(
        self: Auditor, snapshot: Snapshot, clock: Clock, time_left: TimeLeft
    ) -> tuple[Snapshot, Published]:
        lanes = sweep._lanes(snapshot)
        ids = frozenset(event.event_id for lane in lanes for event in lane)
        snapshot = self.snapshots.clear(snapshot, ids, {}, clock())
        return snapshot, self.publisher.publish(lanes, time_left)

    return method(Auditor, "_publish", publish)


def end_forgets_its_life() -> Breakage:
    original = timeline.life_of

    def without(remembered: Remembered, until: datetime) -> Life:
        return replace(original(remembered, until), timeline="")

    return everywhere(original, without)


def life_forgets_its_windows() -> Breakage:
    original = timeline.noted

    def at_once(
        after: Remembered,
        changes: tuple[Change, ...],
        cause: Cause,
        observed_at: datetime,
        since: datetime | None,
    ) -> Remembered:
        del since
        return original(after, changes, cause, observed_at, observed_at)

    return everywhere(original, at_once)


def random_event_id() -> Breakage:
    return everywhere(contract._event_id, lambda _identity: token_hex(16))


def listed(change: Callable[[Listing], Listing]) -> Breakage:
    """Change what the auditor believes to have listed."""
    original = SessionLister.list

    def otherwise(self: SessionLister, *arguments: Any) -> Listing:
        return change(original(self, *arguments))

    return method(SessionLister, "list", otherwise)


def partial_list_believed() -> Breakage:
    return listed(lambda listing: replace(listing, failed={}))


def refused_type_costs_the_scope() -> Breakage:
    return listed(
        lambda listing: replace(
            listing, failed={**listing.failed, **dict.fromkeys(listing.refused_types, Failure("REFUSED"))}
        )
    )


def refused_topology_is_empty() -> Breakage:
    original = Auditor._list

    def believed(self: Auditor, *arguments: Any) -> Listing:
        return replace(original(self, *arguments), topology_read=True)

    return method(Auditor, "_list", believed)


def one_miss_ends() -> Breakage:
    def ends(before: Remembered, listing: Listing, watch: Watch) -> lifecycle.Found | None:
        seen = lifecycle.last_seen_of(before, watch)
        return lifecycle.end(before, listing, seen, listing.observed_at, hole=watch.hole_after(seen))

    return everywhere(lifecycle.miss, ends)


def two_misses_at_once_end() -> Breakage:
    return patch.object(lifecycle, "MISSING_FOR", timedelta(0))


def threshold_not_remembered() -> Breakage:
    original = rules.fire

    def forgetful(
        remembered: Remembered, now: datetime, options: Options, *, running: bool
    ) -> tuple[Remembered, tuple[Change, ...]]:
        after, changes = original(remembered, now, options, running=running)
        return replace(after, fired=remembered.fired), changes

    return everywhere(rules.fire, forgetful)


def reconnect_keeps_the_deadline() -> Breakage:
    original = clocks.deadline_of

    def kept(remembered: Remembered, *, running: bool = True) -> Deadline:
        if remembered.disconnects:
            remembered = replace(remembered, presence=Presence.DISCONNECTED)
        return original(remembered, running=running)

    return everywhere(clocks.deadline_of, kept)


def hole_counts_as_observed() -> Breakage:
    return everywhere(clocks.clock_of, lambda remembered: remembered.presence_since)


def end_within_a_hole_is_explained() -> Breakage:
    original = lifecycle.end

    def explained(
        before: Remembered, listing: Listing, after: datetime, until: datetime, *, hole: bool
    ) -> lifecycle.Found:
        del hole
        watched = replace(before, baseline=False, watched=True)
        return original(watched, listing, after, until, hole=False)

    return everywhere(lifecycle.end, explained)


def partial_listing_ends_a_hole() -> Breakage:
    original = Coverage.of

    def over(self: Coverage, scope: Scope) -> Watch:
        return original(self, scope)._replace(running=True)

    return method(Coverage, "of", over)


def degraded_at_the_first_failure() -> Breakage:
    original = coverage.audit

    def impatient(
        snapshot: Snapshot, listing: Listing, uncommitted: Mapping[Scope, str], options: Options
    ) -> Audit:
        return original(snapshot, listing, uncommitted, replace(options, hole=timedelta(0)))

    return everywhere(coverage.audit, impatient)


def compared(change: Callable[[Comparison], Comparison], **options: Any) -> Breakage:
    """Change what the comparison found, or the options that it went by."""
    original = comparison.compare

    def otherwise(snapshot: Snapshot, listing: Listing, given: Options, *policies: Document) -> Comparison:
        return change(original(snapshot, listing, replace(given, **options), *policies))

    return everywhere(comparison.compare, otherwise)


def baseline_emitted() -> Breakage:
    return compared(lambda found: found, baseline_events=True)


def changed_filter_forgets() -> Breakage:
    def forget(found: Comparison) -> Comparison:
        unwatched = [each for each in found.transitions if Change(DetailType.UNWATCHED) in each.changes]
        ids = {each.after.session.id for each in unwatched}
        rest = tuple(each for each in found.transitions if each not in unwatched)
        return replace(found, transitions=rest, forgotten=found.forgotten | ids)

    return compared(forget)


def cleared_after_the_end() -> Breakage:
    def end_first(found: Comparison) -> Comparison:
        closing = {DetailType.ENDED, DetailType.UNWATCHED}
        return replace(
            found,
            transitions=tuple(
                replace(
                    each, changes=tuple(sorted(each.changes, key=lambda it: it.detail_type not in closing))
                )
                for each in found.transitions
            ),
        )

    return compared(end_first)


def violation_cleared_twice() -> Breakage:
    original = violations.judge

    def stays_open(*arguments: Any) -> Iterator[tuple[str, Judged]]:
        for session_id, (after, changes) in original(*arguments):
            over = [each.violation for each in changes if each.detail_type is DetailType.POLICY_CLEARED]
            yield session_id, (replace(after, violations=(*after.violations, *filter(None, over))), changes)

    return everywhere(original, stays_open)


def violation_raised_in_a_failed_scope() -> Breakage:
    original = comparison._judged

    def judged(cases: Any, listing: Listing, document: Document) -> Any:
        return original(cases, replace(listing, failed={}), document)

    return everywhere(original, judged)


def violation_forgotten_after_a_restart() -> Breakage:
    original = states.read_state

    def forgetful(*arguments: Any) -> Remembered:
        return replace(original(*arguments), violations=())

    return everywhere(original, forgetful)


def hole_takes_back_a_violation() -> Breakage:
    original = draining.violated

    def anew(policy: Draining, sessions: Iterable[Remembered], now: datetime) -> Any:
        return original(policy, (replace(each, violations=()) for each in sessions), now)

    return everywhere(original, anew)


def hours_end_when_clocks_are_put_back() -> Breakage:
    original = outside_hours._span

    def first(hours: Hours, day: date) -> tuple[datetime, datetime]:
        begin, _ = original(hours, day)
        midnight = datetime(day.year, day.month, day.day, tzinfo=hours.zone)
        return begin, (midnight + hours.end * clocks.MINUTE).astimezone(UTC)

    return everywhere(original, first)


def hours_know_no_summer_time() -> Breakage:
    original = outside_hours._span

    def in_winter(hours: Hours, day: date) -> tuple[datetime, datetime]:
        midnight = datetime(day.year, day.month, day.day, tzinfo=hours.zone).astimezone(UTC)
        return midnight + hours.begin * clocks.MINUTE, midnight + hours.end * clocks.MINUTE

    return everywhere(original, in_winter)


def fault_told_twice() -> Breakage:
    original = faults.faults_after

    def forgetful(*arguments: Any) -> Faults:
        found = original(*arguments)
        return found._replace(open=tuple(replace(fault, codes="") for fault in found.open))

    return everywhere(original, forgetful)


def fleet_recovers_when_fleets_cannot_be_read() -> Breakage:
    def believed(listing: Listing) -> Listing:
        if listing.fleets_read:
            return listing
        return replace(listing, fleets_read=listing.begin, fleet_errors={}, unread={})

    return listed(believed)


def sequence_reset() -> Breakage:
    original = contract.session_events

    def numbered_anew(transition: Transition, *rest: Any) -> Iterator[Event]:
        after = replace(transition.after, sequence=len(transition.changes))
        return original(replace(transition, after=after), *rest)

    return everywhere(contract.session_events, numbered_anew)


def batch_stops_at_the_first_failure() -> Breakage:
    original = publisher._settle

    def stop(lane: publisher._Lane, refusal: str, published: Published) -> None:
        if refusal or published.stopped:
            published.stopped = published.stopped or refusal
        else:
            original(lane, refusal, published)

    return everywhere(publisher._settle, stop)


def unlimited_retry_of_a_refused_entry() -> Breakage:
    original = publisher._settle

    def retry(lane: publisher._Lane, refusal: str, published: Published) -> None:
        original(lane, "ThrottlingException" if refusal else "", published)

    return everywhere(publisher._settle, retry)


def clear_takes_later_events_with_it() -> Breakage:
    original = Snapshots.clear

    def take(self: Snapshots, snapshot: Snapshot, accepted: frozenset[str], *rest: Any) -> Snapshot:
        outboxes = [{event.event_id for event in each.outbox} for each in snapshot.sessions.values()]
        accepted = accepted.union(*(ids for ids in outboxes if ids & accepted))
        return original(self, snapshot, accepted, *rest)

    return method(Snapshots, "clear", take)


def versions_begin_anew() -> Breakage:
    return everywhere(snapshots.first_version, lambda _remembered: 1)


def kept_snapshot_is_believed_unseen() -> Breakage:
    original = Snapshots.load

    def load(self: Snapshots, now: datetime) -> Snapshot:
        kept = self._kept
        found = original(self, now)
        return kept or found

    return method(Snapshots, "load", load)


@dataclass(frozen=True)
class Mutant:
    """A breakage, how it is played, and the promise that falls.

    `first` is the scenario to begin with: one that is known to kill it, so that it need not be searched for.
    """

    breakage: Callable[[], Breakage]
    play: Play
    killer: str
    first: str = ""

    @property
    def name(self) -> str:
        return self.breakage.__name__.replace("_", " ")


MUTANTS = [
    Mutant(
        no_condition_on_the_write,
        test_interleavings.test_every_order_of_two_sweeps,
        "one_id_per_transition",
        first="a user who drops twice",
    ),
    Mutant(
        read_after_listing,
        test_interleavings.test_two_sweeps_while_the_world_changes_at_every_place,
        "published_is_expected",
    ),
    Mutant(clear_before_publish, test_crashes.test_every_crash_point, "published_is_committed"),
    Mutant(random_event_id, same_day_twice, "same_day_twice"),
    Mutant(partial_list_believed, test_crashes.test_every_crash_point, "published_is_expected"),
    Mutant(one_miss_ends, day, "published_is_expected"),
    Mutant(end_forgets_its_life, day, "lives_are_kept"),
    Mutant(life_forgets_its_windows, day, "lives_are_kept"),
    Mutant(threshold_not_remembered, day, "every_threshold_once"),
    Mutant(reconnect_keeps_the_deadline, day, "published_is_expected"),
    Mutant(batch_stops_at_the_first_failure, day_with_a_poison, "outbox_is_empty"),
    Mutant(unlimited_retry_of_a_refused_entry, day_with_a_poison, "outbox_is_empty"),
    Mutant(sequence_reset, day, "published_is_expected"),
    Mutant(baseline_emitted, day, "published_is_expected"),
    Mutant(
        clear_takes_later_events_with_it,
        test_crashes.test_every_crash_point,
        "published_is_committed",
        first="a baseline that is told",
    ),
    Mutant(
        versions_begin_anew,
        partial(test_stalls.test_a_sweep_wakes_up_late, bus="fails"),
        "published_is_committed",
        first="an id that comes back",
    ),
    Mutant(
        two_misses_at_once_end,
        test_interleavings.test_every_order_of_two_sweeps,
        "published_is_expected",
    ),
    Mutant(hole_counts_as_observed, day, "published_is_expected"),
    Mutant(end_within_a_hole_is_explained, day, "published_is_expected"),
    Mutant(partial_listing_ends_a_hole, day, "published_is_expected"),
    Mutant(changed_filter_forgets, day, "published_is_expected"),
    Mutant(refused_topology_is_empty, day, "published_is_expected"),
    Mutant(degraded_at_the_first_failure, day, "published_is_expected"),
    Mutant(refused_type_costs_the_scope, day, "published_is_expected"),
    Mutant(
        violation_cleared_twice,
        day,
        "violations_are_opened_and_closed",
        first="an evening after hours",
    ),
    Mutant(
        violation_raised_in_a_failed_scope,
        day,
        "published_is_expected",
        first="sessions that are too long",
    ),
    Mutant(
        violation_forgotten_after_a_restart,
        day,
        "violations_are_opened_and_closed",
        first="sessions that are too long",
    ),
    Mutant(
        cleared_after_the_end,
        day,
        "sequences_are_gapless_and_in_order",
        first="sessions that are too long",
    ),
    Mutant(hole_takes_back_a_violation, day, "published_is_expected", first="hosts that drain, and a pause"),
    Mutant(
        hours_end_when_clocks_are_put_back,
        day,
        "published_is_expected",
        first="an evening on which clocks are put back",
    ),
    Mutant(
        hours_know_no_summer_time,
        day,
        "published_is_expected",
        first="an evening on which clocks are put forward",
    ),
    Mutant(fault_told_twice, day, "faults_are_opened_and_closed", first="fleets that fail and mend"),
    Mutant(
        fleet_recovers_when_fleets_cannot_be_read,
        day,
        "published_is_expected",
        first="fleets that fail and mend",
    ),
    Mutant(
        kept_snapshot_is_believed_unseen,
        test_containers.test_another_container_between_two_sweeps_of_a_warm_one,
        "snapshot_is_world",
        first="a baseline that is told",
    ),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_is_killed(mutant: Mutant) -> None:
    MISFITS.clear()
    with mutant.breakage(), pytest.raises(Broken) as caught:
        play_every_scenario(mutant.play, mutant.first)
    assert not MISFITS, "the mutant no longer fits the auditor"
    KILLED[mutant.name] = killer_of(caught.value)
    assert KILLED[mutant.name] == mutant.killer, str(caught.value)


def play_every_scenario(play: Play, first: str) -> None:
    for scenario in sorted(SCENARIOS, key=lambda scenario: scenario.name != first):
        with Cloud() as cloud:
            play(scenario, cloud=cloud)


def killer_of(broken: BaseException) -> str:
    """Name the promise that fell: the innermost function of the invariants, or of this file."""
    first = broken.__cause__ or broken
    frames = traceback.extract_tb(first.__traceback__)
    files = {invariants.__file__, __file__}
    return next(frame.name for frame in reversed(frames) if frame.filename in files)


@pytest.mark.parametrize("play", [day_with_a_poison, same_day_twice], ids=lambda play: play.__name__)
def test_the_auditor_itself_survives(play: Play) -> None:
    with Cloud() as cloud:
        play(SCENARIOS[0], cloud)
