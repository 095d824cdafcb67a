"""One sweep, top to bottom: load, publish what is left, list, commit what the plan says, publish, clear.

This is the only place where the steps meet. What is written is decided in `plan`, from what `comparison`
found; how each step talks to AWS is its adapter's business.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from session_auditor.documents import PoliciesReader
from session_auditor.errors import FencedError, TopologyError
from session_auditor.model import (
    WHOLE_TARGET,
    DetailType,
    Event,
    Failure,
    Listing,
    Options,
    Scope,
    Snapshot,
    TargetId,
)
from session_auditor.plan import Deferral, Deferred, all_deferred, plan_sessions, plan_target
from session_auditor.policies import Document
from session_auditor.preview import Preview, preview_of
from session_auditor.publisher import Published, Publisher
from session_auditor.snapshots import Snapshots

# Sessions whose events are published before their outboxes are cleared: bounds what a crash repeats.
SLICE = 500
# Seconds without which no further transaction is begun: one takes some tens of milliseconds.
COMMIT_SECONDS = 1.0

NOTHING_DEFERRED: Mapping[str, Deferred] = {}
NOTHING_PUBLISHED = Published()

Clock = Callable[[], datetime]
TimeLeft = Callable[[], float]


class Outcome(StrEnum):
    """How a sweep ended.

    FENCED if another one committed first, so that this one's comparison is void; FAILED if the topology could
    not be read, so that nothing was listed; LEFT_OUT if another one began since this one was due.
    """

    COMPLETED = "COMPLETED"
    FENCED = "FENCED"
    FAILED = "FAILED"
    LEFT_OUT = "LEFT_OUT"


@dataclass(frozen=True, slots=True)
class Summary:
    """What a sweep saw and did; `oldest_pending_age` in seconds, `duration` in milliseconds."""

    sweep_id: str
    outcome: Outcome
    scopes_listed: int
    failures: Mapping[Scope, str]
    topology_unread: Mapping[str, str]
    sessions_seen: int
    changes_deferred: Counter[Deferral]
    events_published: Counter[DetailType]
    events_refused: Counter[str]
    publishing_stopped: str
    pending: int
    oldest_pending_age: int
    items_unreadable: int
    unknown_authentication_types: int
    policies_problem: str
    duration: int

    @property
    def quiet(self) -> bool:
        """Whether it found nothing that anybody has to know of.

        What cannot be read is told by an Audit Degraded, and needs no line in every sweep.
        """
        return not (
            self.changes_deferred
            or self.events_published
            or self.events_refused
            or self.pending
            or self.items_unreadable
            or self.policies_problem
        )


class Lister(Protocol):
    """Whoever lists the sessions of a target."""

    def list(
        self, snapshot: Snapshot, options: Options, begin: datetime, clock: Clock, time_left: TimeLeft, /
    ) -> Listing:
        """Return what was seen; raise TopologyError when no stack can be read."""


@dataclass(frozen=True, slots=True)
class Auditor:
    """Audits one target."""

    lister: Lister
    policies: PoliciesReader
    snapshots: Snapshots
    publisher: Publisher
    target_id: TargetId
    options: Options

    def sweep(
        self, sweep_id: str, clock: Clock, time_left: TimeLeft, *, due: datetime | None = None
    ) -> Summary:
        """Make one sweep and sum it up.

        `clock` returns the time in whole seconds of UTC, `time_left` the seconds until the function is
        stopped. A sweep that was `due` when another began since, or just then, is left out. Raises
        SnapshotError; nothing is lost by it.
        """
        limit = time_left()
        margin = max(5.0, limit / 10)
        begin = clock()
        snapshot = self.snapshots.load(begin)
        if due and _swept_since(snapshot, due):
            self.snapshots.keep(snapshot)
            nothing = Listing(begin, begin, {}, frozenset(), topology_read=False)
            return _sum_up(sweep_id, Outcome.LEFT_OUT, snapshot, nothing, now=begin)
        # However much was left over, half of the time belongs to finding out what is new.
        snapshot, published = self._publish(snapshot, clock, lambda: time_left() - limit / 2)
        in_time = time_left() > margin
        policies = self.policies.read(snapshot, begin) if in_time else snapshot.policies
        listing = self._list(snapshot, begin, clock, lambda: time_left() - margin)
        deferred: Mapping[str, Deferred] = {}
        try:
            read_at = self.policies.read_at if in_time else None
            snapshot = self.snapshots.adopt(snapshot, policies, read_at)
            snapshot, deferred = self._commit(
                snapshot, listing, sweep_id, lambda: time_left() - COMMIT_SECONDS
            )
        except FencedError:
            outcome = Outcome.FENCED
        else:
            outcome = Outcome.COMPLETED if listing.topology_read else Outcome.FAILED
            snapshot, rest = self._publish(snapshot, clock, lambda: time_left() - margin)
            published = published.followed_by(rest)
            self.snapshots.keep(snapshot)
        duration = int((limit - time_left()) * 1000)
        return _sum_up(
            sweep_id,
            outcome,
            snapshot,
            listing,
            deferred=deferred,
            published=published,
            now=clock(),
            duration=duration,
        )

    def preview(self, policies: Document, clock: Clock, time_left: TimeLeft) -> Preview:
        """Return what the next sweep would tell of policies, if these were in force; write nothing.

        Raises SnapshotError, and TopologyError when no stack can be read.
        """
        margin = max(5.0, time_left() / 10)
        begin = clock()
        snapshot = self.snapshots.load(begin)
        listing = self.lister.list(snapshot, self.options, begin, clock, lambda: time_left() - margin)
        return preview_of(snapshot, listing, policies, self.options)

    def _list(self, snapshot: Snapshot, begin: datetime, clock: Clock, time_left: TimeLeft) -> Listing:
        """List the sessions; a topology that cannot be read is a listing that saw nothing."""
        try:
            return self.lister.list(snapshot, self.options, begin, clock, time_left)
        except TopologyError as error:
            failed = {WHOLE_TARGET: Failure(error.reason)}
            return Listing(begin, clock(), {}, frozenset(), failed, topology_read=False)

    def _commit(
        self, snapshot: Snapshot, listing: Listing, sweep_id: str, time_left: TimeLeft
    ) -> tuple[Snapshot, Mapping[str, Deferred]]:
        """Commit every session together with its events, then the target; raise FencedError."""
        sessions = plan_sessions(
            snapshot,
            listing,
            self.policies.in_force(snapshot),
            options=self.options,
            target_id=self.target_id,
            sweep_id=sweep_id,
        )
        snapshot, uncommitted = self.snapshots.commit(snapshot, sessions, time_left)
        deferred = all_deferred(sessions, snapshot, uncommitted)
        target = plan_target(
            snapshot, listing, deferred, options=self.options, target_id=self.target_id, sweep_id=sweep_id
        )
        return self.snapshots.commit_target(snapshot, target), deferred

    def _publish(self, snapshot: Snapshot, clock: Clock, time_left: TimeLeft) -> tuple[Snapshot, Published]:
        """Publish what waits in the outboxes, the oldest first, and clear what EventBridge took."""
        lanes = _lanes(snapshot)
        published = Published()
        for start in range(0, len(lanes), SLICE):
            some = self.publisher.publish(lanes[start : start + SLICE], time_left)
            published = published.followed_by(some)
            if some.accepted or some.refused:
                accepted = frozenset(event_id for event_id, _ in some.accepted)
                snapshot = self.snapshots.clear(snapshot, accepted, some.refused, clock())
            if some.stopped:
                break
        return snapshot, published


def _swept_since(snapshot: Snapshot, due: datetime) -> bool:
    last_begin = snapshot.target.last_begin if snapshot.target else None
    return last_begin is not None and last_begin >= due


def _lanes(snapshot: Snapshot) -> list[tuple[Event, ...]]:
    """Return the events that wait, a lane for each session and for each scope's audit events."""
    lanes = [stored.outbox for stored in snapshot.sessions.values() if stored.outbox]
    by_scope: dict[tuple[str, ...], tuple[Event, ...]] = {}
    for event in snapshot.outbox:
        by_scope[event.resources] = (*by_scope.get(event.resources, ()), event)
    lanes += by_scope.values()
    return sorted(lanes, key=lambda lane: (lane[0].observed_at, lane[0].event_id))


def _sum_up(
    sweep_id: str,
    outcome: Outcome,
    snapshot: Snapshot,
    listing: Listing,
    *,
    now: datetime,
    deferred: Mapping[str, Deferred] = NOTHING_DEFERRED,
    published: Published = NOTHING_PUBLISHED,
    duration: int = 0,
) -> Summary:
    waiting = [event.observed_at for lane in _lanes(snapshot) for event in lane]
    return Summary(
        sweep_id=sweep_id,
        outcome=outcome,
        scopes_listed=len(listing.scopes - listing.failed.keys()),
        failures={scope: failure.reason for scope, failure in listing.failed.items()},
        topology_unread=listing.unread,
        sessions_seen=len(listing.sessions),
        changes_deferred=Counter(each.reason for each in deferred.values()),
        events_published=Counter(detail_type for _, detail_type in published.accepted),
        events_refused=Counter(published.refused.values()),
        publishing_stopped=published.stopped,
        pending=len(waiting),
        oldest_pending_age=max(0, int((now - min(waiting)).total_seconds())) if waiting else 0,
        items_unreadable=len(snapshot.unreadable) + len(snapshot.broken),
        unknown_authentication_types=len(listing.unknown_authentication_types),
        policies_problem=snapshot.policies.problem,
        duration=duration,
    )
