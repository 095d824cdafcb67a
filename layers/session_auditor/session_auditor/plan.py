"""What a sweep writes: decided here, from what the comparison found, before anything is written.

Plain data in, plain data out. Sessions come first, each with its events; the target's item is last, because
it says which scopes were covered, and a scope whose changes had to wait was not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from session_auditor.comparison import compare
from session_auditor.contract import Occasion, audit_event, fleet_event, session_events
from session_auditor.coverage import AUDIT_OUTBOX_BYTES, audit
from session_auditor.faults import faults_after
from session_auditor.model import (
    NO_FACTS,
    Event,
    Facts,
    Listing,
    Options,
    Remembered,
    Scope,
    Snapshot,
    Target,
    TargetId,
    outbox_is_full,
)
from session_auditor.policies import NO_DOCUMENT, Document


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
    """What becomes of the target: its state, its scopes, its outbox, and what is known of its fleets."""

    target: Target
    scopes: frozenset[Scope]
    outbox: tuple[Event, ...]
    facts: Facts = NO_FACTS


def plan_sessions(
    snapshot: Snapshot,
    listing: Listing,
    policies: Document = NO_DOCUMENT,
    *,
    options: Options,
    target_id: TargetId,
    sweep_id: str,
) -> SessionsPlan:
    """Return what becomes of each session that has changed: its new state together with its events."""
    comparison = compare(snapshot, listing, options, policies)
    occasion = Occasion(target_id, sweep_id, listing.observed_at, listing.facts, options)
    writes: dict[str, Write] = {}
    deferred: dict[str, Deferred] = {}
    for transition in comparison.transitions:
        after = transition.after
        stored = snapshot.sessions.get(after.session.id)
        waiting = stored.outbox if stored else ()
        if outbox_is_full(waiting):
            deferred[after.session.id] = Deferred(after.session.scope, Deferral.OUTBOX_FULL)
            continue
        outbox = (*waiting, *session_events(transition, occasion))
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
    occasion = Occasion(target_id, sweep_id, listing.observed_at, listing.facts, options)
    outbox = (*snapshot.outbox, *(audit_event(change, occasion) for change in found.changes))
    room = AUDIT_OUTBOX_BYTES - sum(len(event.detail) for event in outbox)
    faults = faults_after(snapshot, listing, options, room)
    outbox += tuple(fleet_event(change, occasion) for change in faults.changes)
    target = replace(
        found.target,
        faults=faults.open,
        fleets_read=faults.fleets_read,
        idle_since=_idle_since(snapshot, listing),
    )
    facts = snapshot.facts
    if listing.topology_read:
        # A fault of a fleet that is out of view may be over later.
        told_of = {scope.fleet for scope in found.scopes}.union(fault.fleet for fault in faults.open)
        facts = _in_view(listing.facts, told_of, {scope.stack for scope in found.scopes})
    return TargetPlan(target, found.scopes, outbox, facts)


def _idle_since(snapshot: Snapshot, listing: Listing) -> datetime | None:
    if listing.sessions or (listing.topology_read and snapshot.sessions):
        return None
    return (snapshot.target.idle_since if snapshot.target else None) or listing.begin


def _in_view(facts: Facts, fleets: set[str], stacks: set[str]) -> Facts:
    """Return what is known of the fleets and stacks that matter: an account may have a thousand others."""
    return Facts(
        {name: facts.fleets[name] for name in sorted(fleets & facts.fleets.keys())},
        {name: facts.stack_tags[name] for name in sorted(stacks & facts.stack_tags.keys())},
    )
