"""One sweep, top to bottom: load, publish what is left, list, compare, commit, publish, clear.

This is the only place where the steps meet. What each step decides is in the core, how each talks to
AWS is in its adapter.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from session_auditor.appstream import AppStream, TopologyError
from session_auditor.comparison import Comparison, compare, outbox_is_full
from session_auditor.coverage import Audit, audit, audit_failure
from session_auditor.events import audit_event, session_events
from session_auditor.model import (
    WHOLE_TARGET,
    DetailType,
    Event,
    Failure,
    Listing,
    Policy,
    Remembered,
    Scope,
    Snapshot,
    Target,
    TargetId,
)
from session_auditor.publisher import Publisher
from session_auditor.snapshots import FencedError, Snapshots

# Sessions whose events are published before their outboxes are cleared: bounds what a crash repeats.
SLICE = 500
# Seconds without which no further transaction is begun: one takes some tens of milliseconds.
COMMIT_SECONDS = 1.0
OUTBOX_FULL = "OUTBOX_FULL"
END_PENDING = "END_PENDING"
NOT_COMMITTED = "NOT_COMMITTED"


class Outcome(StrEnum):
    """How a sweep ended.

    FENCED if another one committed first, so that this one's comparison is void; FAILED if the topology could
    not be read, so that nothing was listed.
    """

    COMPLETED = "COMPLETED"
    FENCED = "FENCED"
    FAILED = "FAILED"


@dataclass(slots=True)
class Summary:
    """What a sweep saw and did; `oldest_pending_age` in seconds, `duration` in milliseconds."""

    sweep_id: str
    outcome: Outcome = Outcome.COMPLETED
    scopes_listed: int = 0
    failures: dict[Scope, str] = field(default_factory=dict)
    topology_unread: Mapping[str, str] = field(default_factory=dict)
    sessions_seen: int = 0
    changes_uncommitted: Counter[str] = field(default_factory=Counter)
    events_published: Counter[DetailType] = field(default_factory=Counter)
    events_refused: Counter[str] = field(default_factory=Counter)
    publishing_stopped: str = ""
    pending: int = 0
    oldest_pending_age: int = 0
    items_unreadable: int = 0
    unknown_authentication_types: int = 0
    duration: int = 0


@dataclass(frozen=True, slots=True)
class Auditor:
    """Audits one target."""

    appstream: AppStream
    snapshots: Snapshots
    publisher: Publisher
    target_id: TargetId
    policy: Policy

    def sweep(self, sweep_id: str, clock: Callable[[], datetime], time_left: Callable[[], float]) -> Summary:
        """Make one sweep and sum it up.

        `clock` tells the time in whole seconds of UTC, `time_left` the seconds until the function is
        stopped. Raises SnapshotError; nothing is lost by it.
        """
        limit = time_left()
        margin = max(5.0, limit / 10)
        summary = Summary(sweep_id)
        begin = clock()
        snapshot = self.snapshots.load(begin)
        # However much was left over, half of the time belongs to finding out what is new.
        snapshot = self._publish(snapshot, summary, clock, lambda: time_left() - limit / 2)
        listing = self._list(snapshot, summary, begin, clock, lambda: time_left() - margin)
        try:
            if summary.outcome is Outcome.FAILED:
                snapshot = self._commit_failure(snapshot, listing, summary)
            else:
                comparison = compare(snapshot, listing, self.policy)
                snapshot = self._commit(
                    snapshot, listing, comparison, summary, lambda: time_left() - COMMIT_SECONDS
                )
        except FencedError:
            summary.outcome = Outcome.FENCED
        else:
            snapshot = self._publish(snapshot, summary, clock, lambda: time_left() - margin)
            self.snapshots.keep(snapshot)
        summary.sessions_seen = len(listing.sessions)
        summary.unknown_authentication_types = len(listing.unknown_authentication_types)
        summary.items_unreadable = len(snapshot.unreadable) + len(snapshot.broken)
        waiting = [event.observed_at for lane in _lanes(snapshot) for event in lane]
        summary.pending = len(waiting)
        if waiting:
            summary.oldest_pending_age = max(0, int((clock() - min(waiting)).total_seconds()))
        summary.duration = int((limit - time_left()) * 1000)
        return summary

    def _list(
        self,
        snapshot: Snapshot,
        summary: Summary,
        begin: datetime,
        clock: Callable[[], datetime],
        time_left: Callable[[], float],
    ) -> Listing:
        """List the sessions; a topology that cannot be read fails the sweep, and nothing else."""
        try:
            listing = self.appstream.list_sessions(snapshot, self.policy, begin, clock, time_left)
        except TopologyError as error:
            summary.outcome = Outcome.FAILED
            failed = {WHOLE_TARGET: Failure(error.reason)}
            listing = Listing(begin, clock(), sessions={}, scopes=frozenset(), failed=failed)
        summary.scopes_listed = len(listing.scopes - listing.failed.keys())
        summary.failures = {scope: failure.reason for scope, failure in listing.failed.items()}
        summary.topology_unread = listing.unread
        return listing

    def _commit_failure(self, snapshot: Snapshot, listing: Listing, summary: Summary) -> Snapshot:
        """Commit that nothing could be listed; raises FencedError."""
        return self._commit_audit(snapshot, audit_failure(snapshot, listing, self.policy), listing, summary)

    def _commit_audit(
        self, snapshot: Snapshot, coverage: Audit, listing: Listing, summary: Summary
    ) -> Snapshot:
        announced = [
            audit_event(change, self.target_id, summary.sweep_id, listing.observed_at)
            for change in coverage.changes
        ]
        return self.snapshots.commit_target(
            snapshot, coverage.target, (*snapshot.outbox, *announced), coverage.scopes
        )

    def _commit(
        self,
        snapshot: Snapshot,
        listing: Listing,
        comparison: Comparison,
        summary: Summary,
        time_left: Callable[[], float],
    ) -> Snapshot:
        """Commit every transition together with its events, then the target; raises FencedError."""
        writes: dict[str, tuple[Remembered | None, tuple[Event, ...]]] = {}
        uncommitted: dict[Scope, str] = {}
        for transition in comparison.transitions:
            session = transition.after.session
            stored = snapshot.sessions.get(session.id)
            outbox = stored.outbox if stored else ()
            if outbox_is_full(outbox):
                uncommitted[session.scope] = OUTBOX_FULL
                summary.changes_uncommitted[OUTBOX_FULL] += 1
                continue
            found = session_events(transition, self.target_id, summary.sweep_id, listing.observed_at)
            outbox = (*outbox, *found)
            after = transition.after
            if outbox_is_full(outbox):
                after = replace(after, outbox_full=True)
            writes[session.id] = (after, outbox)
        for session_id in comparison.returned:
            uncommitted[listing.sessions[session_id].scope] = END_PENDING
            summary.changes_uncommitted[END_PENDING] += 1
        for session_id in comparison.forgotten:
            writes[session_id] = (None, ())
        target = snapshot.target or Target(first_begin=None)
        target = replace(target, first_begin=target.first_begin or listing.begin)
        snapshot, refused = self.snapshots.commit(snapshot, target, writes, time_left)
        for session_id in refused:
            # One that could not be forgotten may be in view again before it is.
            remembered = writes[session_id][0] or snapshot.sessions[session_id].remembered
            summary.changes_uncommitted[NOT_COMMITTED] += 1
            uncommitted[remembered.session.scope] = NOT_COMMITTED
        coverage = audit(snapshot, listing, uncommitted, self.policy)
        return self._commit_audit(snapshot, coverage, listing, summary)

    def _publish(
        self,
        snapshot: Snapshot,
        summary: Summary,
        clock: Callable[[], datetime],
        time_left: Callable[[], float],
    ) -> Snapshot:
        """Publish what waits in the outboxes, the oldest first, and clear what EventBridge took."""
        lanes = _lanes(snapshot)
        for start in range(0, len(lanes), SLICE):
            published = self.publisher.publish(lanes[start : start + SLICE], time_left)
            summary.events_published.update(detail_type for _, detail_type in published.accepted)
            summary.events_refused.update(published.refused.values())
            summary.publishing_stopped = published.stopped
            if published.accepted or published.refused:
                accepted = frozenset(event_id for event_id, _ in published.accepted)
                snapshot = self.snapshots.clear(snapshot, accepted, published.refused, clock())
            if published.stopped:
                break
        return snapshot


def _lanes(snapshot: Snapshot) -> list[tuple[Event, ...]]:
    """Give the events that wait, a lane for each session and for each scope's audit events."""
    lanes = [stored.outbox for stored in snapshot.sessions.values() if stored.outbox]
    by_scope: dict[tuple[str, ...], tuple[Event, ...]] = {}
    for event in snapshot.outbox:
        by_scope[event.resources] = (*by_scope.get(event.resources, ()), event)
    lanes += by_scope.values()
    return sorted(lanes, key=lambda lane: (lane[0].observed_at, lane[0].event_id))
