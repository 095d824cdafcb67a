"""What a sweep writes: decided here, from what the comparison found, before anything is written.

Plain data in, plain data out. Sessions come first, each with its events; the target's item is last, because
it says which scopes were covered, and a scope whose changes had to wait was not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

from session_auditor.comparison import compare
from session_auditor.contract import audit_event, session_events
from session_auditor.coverage import audit
from session_auditor.model import (
    Event,
    Listing,
    Options,
    Remembered,
    Scope,
    Snapshot,
    Target,
    TargetId,
    outbox_is_full,
)


class Deferral(StrEnum):
    """Why a change has to wait: a later sweep finds it again.

    The session's outbox is full; its id came back while the end of its earlier life is not published yet; or
    the table did not take it in time.
    """

    OUTBOX_FULL = "OUTBOX_FULL"
    END_PENDING = "END_PENDING"
    NOT_COMMITTED = "NOT_COMMITTED"


class Deferred(NamedTuple):
    """A change that has to wait, and the scope that does not count as covered meanwhile."""

    scope: Scope
    reason: Deferral


class Write(NamedTuple):
    """What becomes of a session's item: its state and its outbox; without a state it is forgotten."""

    remembered: Remembered | None
    outbox: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True)
class SessionsPlan:
    """What becomes of each session, by id. `target` is what the target's item says while they are written."""

    target: Target
    writes: Mapping[str, Write]
    deferred: Mapping[str, Deferred] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TargetPlan:
    """What becomes of the target: its state, its scopes and its outbox."""

    target: Target
    scopes: frozenset[Scope]
    outbox: tuple[Event, ...]


def plan_sessions(
    snapshot: Snapshot, listing: Listing, *, options: Options, target_id: TargetId, sweep_id: str
) -> SessionsPlan:
    """Return what becomes of each session that has changed: its new state together with its events."""
    comparison = compare(snapshot, listing, options)
    writes: dict[str, Write] = {}
    deferred: dict[str, Deferred] = {}
    for transition in comparison.transitions:
        after = transition.after
        stored = snapshot.sessions.get(after.session.id)
        waiting = stored.outbox if stored else ()
        if outbox_is_full(waiting):
            deferred[after.session.id] = Deferred(after.session.scope, Deferral.OUTBOX_FULL)
            continue
        events = session_events(
            transition, target_id, sweep_id, listing.observed_at, time_zone=options.time_zone
        )
        outbox = (*waiting, *events)
        if outbox_is_full(outbox):
            # What it does until some are published will not be known.
            after = replace(after, outbox_full=True)
        writes[after.session.id] = Write(after, outbox)
    for session_id in comparison.returned:
        deferred[session_id] = Deferred(listing.sessions[session_id].scope, Deferral.END_PENDING)
    for session_id in comparison.forgotten:
        writes[session_id] = Write(None)
    target = snapshot.target or Target(first_begin=None)
    if listing.topology_read:
        target = replace(target, first_begin=target.first_begin or listing.begin)
    return SessionsPlan(target, writes, deferred)


def all_deferred(
    plan: SessionsPlan, snapshot: Snapshot, session_ids: frozenset[str]
) -> Mapping[str, Deferred]:
    """Return all that has to wait, once it is known which sessions the table did not take."""
    deferred = dict(plan.deferred)
    for session_id in session_ids:
        # One that could not be forgotten may be in view again before it is.
        remembered = plan.writes[session_id].remembered or snapshot.sessions[session_id].remembered
        deferred[session_id] = Deferred(remembered.session.scope, Deferral.NOT_COMMITTED)
    return deferred


def plan_target(
    snapshot: Snapshot,
    listing: Listing,
    deferred: Mapping[str, Deferred],
    *,
    options: Options,
    target_id: TargetId,
    sweep_id: str,
) -> TargetPlan:
    """Return what becomes of the target: what was covered, and the events about what was not."""
    uncommitted = {each.scope: each.reason.value for each in deferred.values()}
    found = audit(snapshot, listing, uncommitted, options)
    announced = (
        audit_event(change, target_id, sweep_id, listing.observed_at, time_zone=options.time_zone)
        for change in found.changes
    )
    return TargetPlan(found.target, found.scopes, (*snapshot.outbox, *announced))
