"""What happened: compares the snapshot with a listing and says what changed.

Plain data in, plain data out. This module decides every rule about sessions and coverage; it knows
no AWS client, no environment, no logger and no clock, and does not word the events.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import inf
from typing import NamedTuple

from session_auditor.coverage import Coverage, Watch
from session_auditor.model import (
    AuthenticationType,
    Cause,
    ConnectionState,
    DetailType,
    Ending,
    EndReason,
    Event,
    Listing,
    Miss,
    Policy,
    Presence,
    Remembered,
    Session,
    SessionState,
    Snapshot,
    Stored,
    Target,
    UserIdMode,
)

MINUTE = timedelta(minutes=1)
# Pages have no snapshot isolation, so that one miss proves nothing, nor do two sweeps at once.
MISSING_FOR = timedelta(seconds=30)
# A session commits nothing more while its outbox is full: an item may have 400 KB at most.
OUTBOX_LIMIT = 50
OUTBOX_BYTES = 200_000
# The form of a hashed user id.
HASH_DIGITS = 32
_HASHED = re.compile("[0-9a-f]+")


class Deadline(NamedTuple):
    """When a session will be ended unless something changes, and by what."""

    at: datetime | None
    cause: Cause


class Change(NamedTuple):
    """One fact about one session that the comparison found; `threshold` in minutes."""

    detail_type: DetailType
    threshold: int = 0


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
    """The transitions to commit, and the ids out of view of whom nothing was told yet.

    `returned` are sessions whose id came back while their end still waits to be published: they have to wait.
    """

    transitions: tuple[Transition, ...]
    forgotten: frozenset[str]
    returned: frozenset[str]


def compare(snapshot: Snapshot, listing: Listing, policy: Policy) -> Comparison:
    """Return what happened to every session between the snapshot and the listing."""
    coverage = Coverage(snapshot, listing, policy)
    transitions = []
    returned = set()
    forgotten = set()

    def add(before: Remembered | None, found: _Found | None, watch: Watch) -> None:
        if found is not None:
            after, changes = found
            deadline = deadline_of(after, running=watch.running)
            transitions.append(Transition(before, after, changes, watch.covered, deadline))

    for session_id, session in listing.sessions.items():
        if session_id in snapshot.unreadable:
            continue
        stored = snapshot.sessions.get(session_id)
        sight = _Sight(coverage.of(session.scope), listing, policy, snapshot.target)
        if stored is None:
            add(None, _appeared(session, sight), sight.watch)
        elif not stored.remembered.ending:
            sight, before = _with_clocks(stored, session, sight)
            add(before, _seen_again(stored, before, session, sight), sight.watch)
        elif session.state != SessionState.EXPIRED:
            returned.add(session_id)
    for session_id in snapshot.sessions.keys() - listing.sessions.keys():
        stored = snapshot.sessions[session_id]
        # The end of a session is remembered only until its event is published.
        if stored.remembered.ending:
            continue
        scope = stored.remembered.session.scope
        sight = _Sight(coverage.of(scope), listing, policy, snapshot.target)
        sight, before = _with_clocks(stored, None, sight)
        if _out_of_view(before, listing, policy) and not before.sequence:
            forgotten.add(session_id)
        else:
            add(before, _not_listed(stored, before, sight), sight.watch)
    transitions.sort(key=lambda transition: transition.after.session.id)
    return Comparison(tuple(transitions), frozenset(forgotten), frozenset(returned))


def outbox_is_full(outbox: Iterable[Event]) -> bool:
    """Return whether a session can commit nothing more until some of these events are published."""
    sizes = [len(event.detail.encode()) for event in outbox]
    return len(sizes) >= OUTBOX_LIMIT or sum(sizes) >= OUTBOX_BYTES


def deadline_of(remembered: Remembered, *, running: bool = True) -> Deadline:
    """Return when the session will be ended: at its maximum or when its user stays away too long.

    A session that nobody ever connected to has no disconnect timeout, nor has one whose clock is not running.
    """
    maximum = remembered.session.max_expiration_time
    timeout = remembered.disconnect_timeout
    if running and remembered.presence is Presence.DISCONNECTED and timeout is not None:
        away_too_long = _later(_clock(remembered), timeout)
        if away_too_long is not None and (maximum is None or away_too_long < maximum):
            return Deadline(away_too_long, Cause.DISCONNECT_TIMEOUT)
    return Deadline(maximum, Cause.MAX_DURATION) if maximum else Deadline(None, Cause.NONE)


def used(remembered: Remembered, until: datetime) -> tuple[int, int]:
    """Count the seconds connected and disconnected, as observed, until then."""
    current = max(0, int((until - _clock(remembered)).total_seconds()))
    return (
        remembered.connected_seconds + (current if remembered.presence is Presence.CONNECTED else 0),
        remembered.disconnected_seconds + (current if remembered.presence is Presence.DISCONNECTED else 0),
    )


def _clock(remembered: Remembered) -> datetime:
    """Return when the clocks of its presence began: anew after a hole, of which nothing is claimed."""
    since, hole_end = remembered.presence_since, remembered.clocks_from
    return since if hole_end is None else max(since, hole_end)


def _later(time: datetime, seconds: int) -> datetime | None:
    try:
        return time + timedelta(seconds=seconds)
    except OverflowError:
        return None


_Found = tuple[Remembered, tuple[Change, ...]]


_NEVER_SEEN_CONNECTED = frozenset([Presence.UNKNOWN, Presence.NEVER_CONNECTED])


class _Sight(NamedTuple):
    """What is beside a session when it is compared: how its scope was watched, and what holds for all."""

    watch: Watch
    listing: Listing
    policy: Policy
    target: Target | None


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
    out_of_view = session is None and _out_of_view(before, listing, sight.policy)
    in_hole = unlisted_since is not None and listing.observed_at - unlisted_since > sight.policy.hole
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
    if watch.since is None or watch.since <= _clock(remembered):
        return remembered
    watched = remembered.watched and remembered.presence not in _NEVER_SEEN_CONNECTED
    return replace(remembered, clocks_from=watch.since, watched=watched)


def _appeared(session: Session, sight: _Sight) -> _Found | None:
    # Listed for the first time after its end: there was nothing to see, before and after.
    if session.state == SessionState.EXPIRED:
        return None
    listing, policy = sight.listing, sight.policy
    # A scope that failed in the first sweep must not flood the bus when it recovers.
    first_begin = sight.target.first_begin if sight.target else None
    baseline = first_begin is None or (session.start_time is not None and session.start_time <= first_begin)
    match session.connection_state:
        case ConnectionState.CONNECTED:
            presence = Presence.CONNECTED
        case ConnectionState.NOT_CONNECTED:
            presence = Presence.NEVER_CONNECTED
        case _:
            presence = Presence.UNKNOWN
    appeared = Remembered(
        session=session,
        first_seen=listing.observed_at,
        baseline=baseline,
        presence=presence,
        presence_since=listing.observed_at,
        disconnect_timeout=listing.disconnect_timeouts.get(session.scope.fleet),
        listed_as=listing.listed_as.get(session.id),
        user_id_hashed=hash_mark(session.user_id, policy.user_id_mode),
        watched=presence not in _NEVER_SEEN_CONNECTED or _was_watched_before(session, sight),
    )
    started = (Change(DetailType.STARTED),) if policy.baseline_events or not baseline else ()
    return _with_warnings(appeared, started, sight)


def _was_watched_before(session: Session, sight: _Sight) -> bool:
    """Return whether nobody can have connected unseen in the window in which a session was first seen."""
    asked_for = sight.target.authentication_types if sight.target else None
    listed_as = sight.listing.listed_as.get(session.id, session.authentication_type)
    if asked_for is not None and listed_as not in asked_for:
        return False
    # The sessions of a new scope were watched from their start, those of one that was out of view were not.
    since = sight.watch.listed or session.start_time
    in_time = since is not None and sight.listing.observed_at - since <= sight.policy.hole
    return sight.watch.running and in_time


def _seen_again(stored: Stored, before: Remembered, session: Session, sight: _Sight) -> _Found | None:
    listing, observed_at = sight.listing, sight.listing.observed_at
    hashed = hash_mark(session.user_id, sight.policy.user_id_mode)
    timeout = listing.disconnect_timeouts.get(session.scope.fleet, before.disconnect_timeout)
    if session.state == SessionState.EXPIRED:
        last_seen = _last_seen(before, sight.watch)
        hole = sight.watch.hole_after(last_seen)
        before = replace(before, session=session, user_id_hashed=hashed, disconnect_timeout=timeout)
        return _end(before, listing, last_seen, observed_at, hole=hole)
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
    )
    unlisted_since = None if sight.watch.running else before.unlisted_since
    if known != (session, None, timeout, listed_as, hashed, unlisted_since):
        after = replace(
            before,
            session=session,
            missed=None,
            disconnect_timeout=timeout,
            listed_as=listed_as,
            user_id_hashed=hashed,
            unlisted_since=unlisted_since,
        )
    changes: tuple[Change, ...] = ()
    match (before.presence, session.connection_state):
        case (Presence.CONNECTED, ConnectionState.NOT_CONNECTED):
            after = replace(
                _turned(after, Presence.DISCONNECTED, observed_at),
                disconnects=before.disconnects + 1,
                disconnect_timeout_warned=None,
                abandoned_warned=None,
            )
            changes = (Change(DetailType.DISCONNECTED),)
        case (Presence.NEVER_CONNECTED, ConnectionState.CONNECTED):
            after = _turned(after, Presence.CONNECTED, observed_at)
            changes = (Change(DetailType.CONNECTED),)
        case (Presence.DISCONNECTED, ConnectionState.CONNECTED):
            after = _turned(after, Presence.CONNECTED, observed_at)
            changes = (Change(DetailType.RECONNECTED),)
        # AWS did not tell the connection until now, so this is where history begins, not a transition.
        case (Presence.UNKNOWN, ConnectionState.CONNECTED):
            after = _turned(after, Presence.CONNECTED, observed_at)
        case (Presence.UNKNOWN, ConnectionState.NOT_CONNECTED):
            after = _turned(after, Presence.NEVER_CONNECTED, observed_at)
    after, changes = _with_warnings(after, changes, sight)
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


def _not_listed(stored: Stored, before: Remembered, sight: _Sight) -> _Found | None:
    # What is known of its fleet now explains an end better than what was known when it was listed last.
    timeout = sight.listing.disconnect_timeouts.get(before.session.scope.fleet, before.disconnect_timeout)
    if timeout != before.disconnect_timeout:
        before = replace(before, disconnect_timeout=timeout)
    if _out_of_view(before, sight.listing, sight.policy):
        return _unwatched(before, sight)
    if before.session.scope in sight.listing.failed:
        return None
    if _is_refused(before, sight.listing):
        return _unlisted(stored.remembered, sight)
    return _absent(before, sight)


def _unlisted(before: Remembered, sight: _Sight) -> _Found | None:
    """Remember when a session was listed last whose type is refused now: nobody looks at it."""
    if before.unlisted_since or sight.watch.covered is None:
        return None
    return replace(before, unlisted_since=sight.watch.covered), ()


def _absent(before: Remembered, sight: _Sight) -> _Found | None:
    listing, last_seen = sight.listing, _last_seen(before, sight.watch)
    missed = before.missed or Miss(
        last_seen,
        at=listing.observed_at,
        begin=listing.begin,
        hole=sight.watch.hole_after(last_seen),
    )
    deadline = deadline_of(before)
    overdue = deadline.at is not None and deadline.at <= listing.observed_at
    if overdue or listing.begin - (missed.begin or missed.at) >= MISSING_FOR:
        return _end(before, listing, last_seen, missed.at, hole=missed.hole)
    return None if before.missed else (replace(before, missed=missed), ())


def _last_seen(before: Remembered, watch: Watch) -> datetime:
    if before.missed:
        return before.missed.last_seen
    # A scope that was never covered whole leaves the session's own start as the earliest end.
    return watch.covered or before.session.start_time or before.first_seen


def _end(
    before: Remembered, listing: Listing, ended_after: datetime, ended_before: datetime, *, hole: bool
) -> _Found:
    deadline = deadline_of(before)
    unwatched = before.baseline or not before.watched
    if before.session.scope not in listing.scopes:
        reason = EndReason.SCOPE_GONE
    elif hole or (unwatched and before.presence in _NEVER_SEEN_CONNECTED):
        reason = EndReason.UNKNOWN
    elif deadline.at is not None and deadline.at <= ended_before:
        reason = EndReason(deadline.cause)
    elif before.presence is Presence.NEVER_CONNECTED:
        reason = EndReason.NEVER_CONNECTED
    else:
        reason = EndReason.USER_OR_ADMIN
    return _closed(before, Ending(reason, ended_after, ended_before), DetailType.ENDED)


def _unwatched(before: Remembered, sight: _Sight) -> _Found:
    """Close the life of a session that a changed filter took out of view; nothing is claimed of its end."""
    last = before.missed.at if before.missed else sight.listing.observed_at
    ending = Ending(EndReason.UNWATCHED, _last_seen(before, sight.watch), last)
    return _closed(before, ending, DetailType.UNWATCHED)


def _closed(before: Remembered, ending: Ending, detail_type: DetailType) -> _Found:
    after = replace(before, missed=None, ending=ending, sequence=before.sequence + 1)
    return after, (Change(detail_type),)


def _turned(before: Remembered, presence: Presence, observed_at: datetime) -> Remembered:
    connected, disconnected = used(before, observed_at)
    return replace(
        before,
        presence=presence,
        presence_since=observed_at,
        connected_seconds=connected,
        disconnected_seconds=disconnected,
        # Abandoned counts from the first observation of a session that nobody was seen connected to.
        clocks_from=before.clocks_from if presence is Presence.NEVER_CONNECTED else None,
    )


def _with_warnings(after: Remembered, changes: tuple[Change, ...], sight: _Sight) -> _Found:
    """Add the thresholds that were crossed, each once, and number the changes."""
    observed_at, policy, running = sight.listing.observed_at, sight.policy, sight.watch.running
    deadline = deadline_of(after, running=running)
    if deadline.at is not None:
        if deadline.cause is Cause.MAX_DURATION:
            warned, period = after.max_duration_warned, _lifetime(after)
        else:
            warned, period = after.disconnect_timeout_warned, _timeout(after)
        left = (deadline.at - observed_at) / MINUTE
        crossed = [
            threshold
            for threshold in policy.expiring_minutes
            if left <= threshold < period and (warned is None or threshold < warned)
        ]
        if crossed:
            tightest = min(crossed)
            changes += (Change(DetailType.EXPIRING, tightest),)
            if deadline.cause is Cause.MAX_DURATION:
                after = replace(after, max_duration_warned=tightest)
            else:
                after = replace(after, disconnect_timeout_warned=tightest)
    deserted_since = None
    if running and after.presence is Presence.DISCONNECTED:
        deserted_since, period = _clock(after), _timeout(after)
    elif running and after.presence is Presence.NEVER_CONNECTED:
        deserted_since, period = (
            max(after.first_seen, after.clocks_from or after.first_seen),
            _lifetime(after),
        )
    if deserted_since is not None:
        deserted_for = (observed_at - deserted_since) / MINUTE
        crossed = [
            threshold
            for threshold in policy.abandoned_minutes
            if deserted_for >= threshold < period
            and (after.abandoned_warned is None or threshold > after.abandoned_warned)
        ]
        if crossed:
            changes += (Change(DetailType.ABANDONED, max(crossed)),)
            after = replace(after, abandoned_warned=max(crossed))
    return (replace(after, sequence=after.sequence + len(changes)) if changes else after), changes


# A threshold that is not shorter than its whole period says nothing: "an hour left" of one that lasts an
# hour. These are the periods in minutes; one that is not known is longer than any.
def _lifetime(remembered: Remembered) -> float:
    start, maximum = remembered.session.start_time, remembered.session.max_expiration_time
    return (maximum - start) / MINUTE if start and maximum else inf


def _timeout(remembered: Remembered) -> float:
    return inf if remembered.disconnect_timeout is None else remembered.disconnect_timeout / 60


def _out_of_view(before: Remembered, listing: Listing, policy: Policy) -> bool:
    """Return whether the filters, not its end, keep a session out of the listing.

    The type of the call that listed it decides; AWS's own record does only where there was none.
    """
    if not policy.wants(before.session.scope):
        return True
    types = listing.authentication_types
    return types is not None and _type_of(before) not in types


def _is_refused(before: Remembered, listing: Listing) -> bool:
    """Return whether the call that would list a session is one that AppStream does not take."""
    refused = listing.refused.get(before.session.scope, frozenset())
    listed_as = _type_of(before)
    return listed_as in refused or (None in refused and listed_as not in set(AuthenticationType))


def hash_mark(user_id: str, mode: UserIdMode) -> bool | None:
    """Return what tells a hashed user id from a plain one, where its form does not."""
    if mode is UserIdMode.HASH:
        return True
    return False if len(user_id) == HASH_DIGITS and _HASHED.fullmatch(user_id) else None


def is_hashed(user_id: str, mark: bool | None) -> bool:
    """Return whether a stored user id is a hash; the first release marked none."""
    return bool(len(user_id) == HASH_DIGITS and _HASHED.fullmatch(user_id)) if mark is None else mark


def _type_of(before: Remembered) -> str:
    return before.listed_as or before.session.authentication_type
