"""What happened: compares the snapshot with a listing, session by session.

Plain data in, plain data out. It decides which sessions are seen, missing or out of view, and how far their
clocks may be trusted; what that means for a session is `lifecycle`'s to say, what is due is the rules'.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

from session_auditor.clocks import clock_of, deadline_of
from session_auditor.coverage import Coverage, Watch
from session_auditor.lifecycle import (
    NEVER_SEEN_CONNECTED,
    Found,
    end,
    first_presence,
    last_seen_of,
    miss,
    observe,
    unwatch,
)
from session_auditor.model import (
    AuthenticationType,
    Change,
    ConnectionState,
    Deadline,
    DetailType,
    Listing,
    Options,
    Presence,
    Remembered,
    Session,
    SessionState,
    Snapshot,
    Stored,
    Target,
    outbox_is_full,
)
from session_auditor.policies import NO_DOCUMENT, Document
from session_auditor.rules import fire
from session_auditor.timeline import noted
from session_auditor.user_ids import hash_mark
from session_auditor.violations import judge

# A value of `Session.InstanceDrainStatus`.
DRAINING = "DRAINING"


@dataclass(frozen=True, slots=True)
class Transition:
    """A session's state before (None: never seen) and after, and the changes between, in order."""

    before: Remembered | None
    after: Remembered
    changes: tuple[Change, ...]
    previous_observed_at: datetime | None
    deadline: Deadline


@dataclass(frozen=True, slots=True)
class Comparison:
    """The transitions to commit, and the ids of sessions to forget: out of view, and no event told of them.

    `returned` are sessions whose id came back while their end still waits to be published: they have to wait.
    """

    transitions: tuple[Transition, ...] = ()
    forgotten: frozenset[str] = frozenset()
    returned: frozenset[str] = frozenset()


class _Sight(NamedTuple):
    """What is beside a session when it is compared: how its scope was watched, and what holds for all."""

    watch: Watch
    listing: Listing
    options: Options
    target: Target | None


class _Case(NamedTuple):
    """What was known of a session, what was found of it now, and how its scope was watched."""

    before: Remembered | None
    found: Found | None
    watch: Watch


def compare(
    snapshot: Snapshot, listing: Listing, options: Options, policies: Document = NO_DOCUMENT
) -> Comparison:
    """Return what happened to every session between the snapshot and the listing."""
    if not listing.topology_read:
        return Comparison()
    coverage = Coverage(snapshot, listing, options)
    cases: dict[str, _Case] = {}
    returned = set()
    forgotten = set()
    for session_id, session in listing.sessions.items():
        if session_id in snapshot.unreadable:
            continue
        stored = snapshot.sessions.get(session_id)
        sight = _Sight(coverage.of(session.scope), listing, options, snapshot.target)
        if stored is None:
            cases[session_id] = _Case(None, _first_seen(session, sight), sight.watch)
        elif not stored.remembered.ending:
            sight, before = _with_clocks(stored, session, sight)
            found = _seen_again(stored, before, session, sight)
            cases[session_id] = _Case(before, found, sight.watch)
        elif session.state != SessionState.EXPIRED:
            returned.add(session_id)
    for session_id in snapshot.sessions.keys() - listing.sessions.keys():
        stored = snapshot.sessions[session_id]
        # The end of a session is remembered only until its event is published.
        if stored.remembered.ending:
            continue
        scope = stored.remembered.session.scope
        sight = _Sight(coverage.of(scope), listing, options, snapshot.target)
        sight, before = _with_clocks(stored, None, sight)
        if _out_of_view(before, listing, options) and not before.sequence:
            forgotten.add(session_id)
        else:
            cases[session_id] = _Case(before, _not_listed(stored, before, sight), sight.watch)
    cases = _judged(cases, listing, policies)
    transitions = [_transition(case, listing) for _, case in sorted(cases.items()) if case.found]
    return Comparison(tuple(filter(None, transitions)), frozenset(forgotten), frozenset(returned))


def _judged(cases: dict[str, _Case], listing: Listing, policies: Document) -> dict[str, _Case]:
    """Add what violates a policy, or does no more, of the sessions that were seen in scopes listed whole."""
    live: dict[str, Remembered] = {}
    open_ones = False
    for session_id, case in cases.items():
        remembered = case.found[0] if case.found else case.before
        if remembered is not None and not remembered.ending:
            live[session_id] = _draining_put_off(remembered, case.watch)
            open_ones = open_ones or bool(remembered.violations)
    if not policies.policies and not open_ones:
        return cases
    seen = [
        session_id
        for session_id in live
        if session_id in listing.sessions and live[session_id].session.scope not in listing.failed
    ]
    judged = dict(cases)
    for session_id, (after, changes) in judge(policies, listing.facts, live, seen, listing.observed_at):
        before, found, watch = cases[session_id]
        earlier = found[1] if found else ()
        # Whatever is written says when its clocks began.
        judged[session_id] = _Case(before, (_put_off(after, watch), (*earlier, *changes)), watch)
    return judged


def _transition(case: _Case, listing: Listing) -> Transition | None:
    if case.found is None:
        return None
    after, changes = case.found
    deadline = deadline_of(after, running=case.watch.running)
    after = noted(after, changes, deadline.cause, listing.observed_at, case.watch.covered)
    after = _with_fleet(after, listing)
    return Transition(case.before, after, changes, case.watch.covered, deadline)


def _first_seen(session: Session, sight: _Sight) -> Found | None:
    # Listed for the first time after its end: there was nothing to see, before and after.
    if session.state == SessionState.EXPIRED:
        return None
    listing, options = sight.listing, sight.options
    # A scope that failed in the first sweep must not flood the bus when it recovers.
    first_begin = sight.target.first_begin if sight.target else None
    baseline = first_begin is None or (session.start_time is not None and session.start_time <= first_begin)
    presence = first_presence(session.connection_state)
    remembered = Remembered(
        session=session,
        first_seen=listing.observed_at,
        baseline=baseline,
        presence=presence,
        presence_since=listing.observed_at,
        disconnect_timeout=listing.facts.fleet(session.scope.fleet).disconnect_timeout,
        listed_as=listing.listed_as.get(session.id),
        user_id_hashed=hash_mark(session.user_id, options.user_id_mode),
        watched=presence not in NEVER_SEEN_CONNECTED or _was_watched_before(session, sight),
        draining_since=_draining(None, session, listing),
    )
    started = (Change(DetailType.STARTED),) if options.baseline_events or not baseline else ()
    return _with_what_is_due(remembered, started, sight)


def _was_watched_before(session: Session, sight: _Sight) -> bool:
    """Return whether nobody can have connected unseen in the window in which a session was first seen."""
    asked_for = sight.target.authentication_types if sight.target else None
    listed_as = sight.listing.listed_as.get(session.id, session.authentication_type)
    if asked_for is not None and listed_as not in asked_for:
        return False
    # The sessions of a new scope were watched from their start, those of one that was out of view were not.
    since = sight.watch.listed or session.start_time
    in_time = since is not None and sight.listing.observed_at - since <= sight.options.hole
    return sight.watch.running and in_time


def _seen_again(stored: Stored, before: Remembered, session: Session, sight: _Sight) -> Found | None:
    listing = sight.listing
    hashed = hash_mark(session.user_id, sight.options.user_id_mode)
    timeout = _timeout(before, listing)
    if session.state == SessionState.EXPIRED:
        last_seen = last_seen_of(before, sight.watch)
        hole = sight.watch.hole_after(last_seen)
        before = replace(before, session=session, user_id_hashed=hashed, disconnect_timeout=timeout)
        return end(before, listing, last_seen, listing.observed_at, hole=hole)
    listed_as = listing.listed_as.get(session.id, before.listed_as)
    after = before
    # Nearly every session of nearly every sweep is as it was: a copy of each would cost more than the rest.
    known = (
        before.session,
        before.missed,
        before.disconnect_timeout,
        before.listed_as,
        before.user_id_hashed,
        before.unlisted_since,
        before.draining_since,
    )
    unlisted_since = None if sight.watch.running else before.unlisted_since
    draining_since = _draining(before.draining_since, session, listing)
    if known != (session, None, timeout, listed_as, hashed, unlisted_since, draining_since):
        after = replace(
            before,
            session=session,
            missed=None,
            disconnect_timeout=timeout,
            listed_as=listed_as,
            user_id_hashed=hashed,
            unlisted_since=unlisted_since,
            draining_since=draining_since,
        )
    after, changes = observe(after, session.connection_state, listing.observed_at)
    after, changes = _with_what_is_due(after, changes, sight)
    # A hole alone writes nothing: its end is remembered with the scope; but not that of a session that was
    # written before its scope was.
    own_hole_is_over = (
        sight.watch.running
        and sight.watch.listed is None
        and before.clocks_from != stored.remembered.clocks_from
    )
    changed = (
        after is not before
        or own_hole_is_over
        or stored.rewrite
        or before.outbox_full != stored.remembered.outbox_full
    )
    return (_put_off(after, sight.watch), changes) if changed else None


def _with_what_is_due(after: Remembered, changes: tuple[Change, ...], sight: _Sight) -> Found:
    """Add what the rules find due."""
    after, due = fire(after, sight.listing.observed_at, sight.options, running=sight.watch.running)
    return after, changes + due


def _not_listed(stored: Stored, before: Remembered, sight: _Sight) -> Found | None:
    # What is known of its fleet now explains an end better than what was known when it was listed last.
    timeout = _timeout(before, sight.listing)
    if timeout != before.disconnect_timeout:
        before = replace(before, disconnect_timeout=timeout)
    if _out_of_view(before, sight.listing, sight.options):
        return unwatch(before, sight.listing, sight.watch)
    if before.session.scope in sight.listing.failed:
        # A failed page never ends anybody.
        return None
    if _is_refused(before, sight.listing):
        return _unlisted(stored.remembered, sight)
    return miss(before, sight.listing, sight.watch)


def _timeout(before: Remembered, listing: Listing) -> int | None:
    known = listing.facts.fleet(before.session.scope.fleet).disconnect_timeout
    return before.disconnect_timeout if known is None else known


def _with_fleet(after: Remembered, listing: Listing) -> Remembered:
    """Note what its fleet is, for the history alone: no session is written for it."""
    known = listing.facts.fleet(after.session.scope.fleet)
    fleet_type = known.type or after.fleet_type
    # How many sessions an instance takes is said together with what kind of instance it is.
    said = known if known.instance_type else after
    instance_type, max_sessions = said.instance_type, said.max_sessions
    if (fleet_type, instance_type, max_sessions) == (
        after.fleet_type,
        after.instance_type,
        after.max_sessions,
    ):
        return after
    return replace(after, fleet_type=fleet_type, instance_type=instance_type, max_sessions=max_sessions)


def _draining(since: datetime | None, session: Session, listing: Listing) -> datetime | None:
    """Return since when the host was seen draining; a scope that was not listed whole changes nothing."""
    if session.scope in listing.failed:
        return since
    return (since or listing.observed_at) if session.instance_drain_status == DRAINING else None


def _unlisted(before: Remembered, sight: _Sight) -> Found | None:
    """Remember when a session was listed last whose type is refused now: nobody looks at it."""
    if before.unlisted_since or sight.watch.covered is None:
        return None
    return replace(before, unlisted_since=sight.watch.covered), ()


def _with_clocks(stored: Stored, session: Session | None, sight: _Sight) -> tuple[_Sight, Remembered]:
    """Put the clocks of a session off to the end of its latest hole, where that matters."""
    before, watch, listing = stored.remembered, sight.watch, sight.listing
    unlisted_since = before.unlisted_since
    if unlisted_since is None and watch.listed is None:
        # Nothing tells when its scope was listed last, but it was when the session last changed.
        unlisted_since = max(before.first_seen, before.presence_since)
    if unlisted_since is None and not before.outbox_full and _stays_connected(before, session):
        # Its clocks matter only when something is told, which is seldom.
        return sight, before
    if before.unlisted_since:
        watch = watch._replace(covered=before.unlisted_since)
    out_of_view = session is None and _out_of_view(before, listing, sight.options)
    in_hole = unlisted_since is not None and listing.observed_at - unlisted_since > sight.options.hole
    if before.outbox_full or in_hole:
        # What it did is not known while it could commit nothing, or while nobody listed it.
        listed = session is not None or not _is_refused(before, listing)
        whole = listed and not out_of_view and before.session.scope not in listing.failed
        over = watch.running and whole and not outbox_is_full(stored.outbox)
        watch = watch._replace(found=listing.begin, since=listing.observed_at, running=over)
        before = replace(before, outbox_full=before.outbox_full and not over)
    sight = sight._replace(watch=watch)
    if session is None and before.missed and not out_of_view:
        # The clocks of a missing session stand still.
        return sight, stored.remembered
    return sight, _put_off(before, watch)


def _stays_connected(before: Remembered, session: Session | None) -> bool:
    return (
        before.presence is Presence.CONNECTED
        and session is not None
        and session.state != SessionState.EXPIRED
        and session.connection_state == ConnectionState.CONNECTED
    )


def _put_off(remembered: Remembered, watch: Watch) -> Remembered:
    if watch.since is None:
        return remembered
    remembered = _draining_put_off(remembered, watch)
    if watch.since <= clock_of(remembered):
        return remembered
    watched = remembered.watched and remembered.presence not in NEVER_SEEN_CONNECTED
    return replace(remembered, clocks_from=watch.since, watched=watched)


def _draining_put_off(remembered: Remembered, watch: Watch) -> Remembered:
    if not remembered.draining_since or not watch.since or watch.since <= remembered.draining_since:
        return remembered
    return replace(remembered, draining_since=watch.since)


def _out_of_view(before: Remembered, listing: Listing, options: Options) -> bool:
    """Return whether the filters, not its end, keep a session out of the listing.

    The type of the call that listed it decides; AWS's own record does only where there was none.
    """
    if not options.wants(before.session.scope):
        return True
    types = listing.authentication_types
    return types is not None and _type_of(before) not in types


def _is_refused(before: Remembered, listing: Listing) -> bool:
    """Return whether the call that would list a session is one that AppStream does not take."""
    refused = listing.refused_types.get(before.session.scope, frozenset())
    listed_as = _type_of(before)
    return listed_as in refused or (None in refused and listed_as not in set(AuthenticationType))


def _type_of(before: Remembered) -> str:
    return before.listed_as or before.session.authentication_type
