"""What happened: compares the snapshot with a listing and says what changed.

Plain data in, plain data out. This module decides every rule about sessions and coverage; it knows
no AWS client, no environment, no logger and no clock, and does not word the events.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import inf
from typing import NamedTuple

from session_auditor.model import (
    AuthenticationMode,
    Cause,
    ConnectionState,
    DetailType,
    Ending,
    EndReason,
    Gap,
    Listing,
    Miss,
    Policy,
    Presence,
    Remembered,
    Scope,
    Session,
    SessionState,
    Snapshot,
    Target,
)

MINUTE = timedelta(minutes=1)
# A scope is announced as degraded when this many sweeps in a row could not cover it.
SWEEPS_UNTIL_DEGRADED = 2
# An item may have 400 KB at most, and an audit event takes about one.
AUDIT_OUTBOX_LIMIT = 200
# Ids kept as evidence that a call without AuthenticationType leaves sessions out; bounds the target's item.
EVIDENCE_LIMIT = 8


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


@dataclass(frozen=True, slots=True)
class Comparison:
    """The transitions to commit, and the ids that the filters no longer let us see.

    `returned` are sessions whose id came back while their end still waits to be published: they have to wait.
    """

    transitions: tuple[Transition, ...]
    forgotten: frozenset[str]
    returned: frozenset[str]


class AuditChange(NamedTuple):
    """A scope that became degraded, or recovered."""

    detail_type: DetailType
    gap: Gap
    previous_observed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Audit:
    """The target's next state and scopes, and the changes of its coverage."""

    target: Target
    scopes: frozenset[Scope]
    changes: tuple[AuditChange, ...]


def compare(snapshot: Snapshot, listing: Listing, policy: Policy) -> Comparison:
    """Tell what happened to every session between the snapshot and the listing."""
    previously = _Coverage(snapshot, listing.observed_at)
    transitions = []
    returned = set()
    for session_id, session in listing.sessions.items():
        if session_id in snapshot.unreadable:
            continue
        stored = snapshot.sessions.get(session_id)
        before = stored.remembered if stored else None
        if before and before.ending:
            if session.state != SessionState.EXPIRED:
                returned.add(session_id)
            continue
        previous_observed_at = previously.of(session.scope)
        if before is None:
            found = _appeared(session, snapshot.target, listing, policy)
        else:
            found = _seen_again(before, session, previous_observed_at, listing, policy)
        if found is not None:
            transitions.append(Transition(before, *found, previous_observed_at))
    forgotten = set()
    for session_id in snapshot.sessions.keys() - listing.sessions.keys():
        before = snapshot.sessions[session_id].remembered
        scope = before.session.scope
        # The end of a session is remembered only until its event is published.
        if before.ending:
            continue
        if _out_of_view(before.session, listing, policy):
            forgotten.add(session_id)
        elif scope not in listing.failed:
            found = _absent(before, previously.of(scope), listing)
            transitions.append(Transition(before, *found, previously.of(scope)))
    transitions.sort(key=lambda transition: transition.after.session.id)
    return Comparison(tuple(transitions), frozenset(forgotten), frozenset(returned))


def audit(
    snapshot: Snapshot,
    listing: Listing,
    uncommitted: Mapping[Scope, str],
    policy: Policy,
) -> Audit:
    """Tell the target's next state, once it is known of which scopes changes were not committed, and why.

    A change that was not committed will be found again; as its scope counts as not covered until
    then, the window it is reported with stays true.
    """
    previously = _Coverage(snapshot, listing.observed_at)
    gaps: list[Gap] = []
    changes: list[AuditChange] = []

    def announce(detail_type: DetailType, gap: Gap) -> bool:
        if len(snapshot.outbox) + len(changes) >= AUDIT_OUTBOX_LIMIT:
            return False
        changes.append(AuditChange(detail_type, gap, previously.of(gap.scope)))
        return True

    for scope, failure in sorted(listing.failed.items()):
        known = previously.gaps.get(scope)
        if known is None or not (known.sweeps or known.announced):
            known = Gap(scope, listing.observed_at, previously.of(scope), failure.reason, sweeps=0)
        untried = 0 if failure.tried else known.untried + 1
        gap = replace(known, sweeps=known.sweeps + 1, reason=failure.reason, untried=untried)
        if gap.sweeps >= SWEEPS_UNTIL_DEGRADED and not gap.announced:
            gap = replace(gap, announced=announce(DetailType.AUDIT_DEGRADED, gap))
        gaps.append(gap)
    for scope in sorted((previously.gaps.keys() | uncommitted.keys()) - listing.failed.keys()):
        known = previously.gaps.get(scope)
        if not policy.wants(scope):
            continue
        if known and known.announced and not announce(DetailType.AUDIT_RECOVERED, known):
            covered = previously.of(scope) if scope in uncommitted else listing.begin
            gaps.append(replace(known, sweeps=0, untried=0, covered=covered))
        elif scope in uncommitted:
            reason = uncommitted[scope]
            gaps.append(Gap(scope, listing.observed_at, previously.of(scope), reason, sweeps=0))

    target = snapshot.target or Target(first_begin=listing.begin)
    mode, absent = _settle_authentication(target, listing)
    target = replace(
        target,
        last_begin=listing.begin,
        last_end=listing.observed_at,
        authentication=mode,
        absent_unfiltered=absent,
        gaps=tuple(gaps),
    )
    remembered = (stored.remembered for stored in snapshot.sessions.values())
    live = {each.session.scope for each in remembered if not each.ending}
    kept = {scope for scope in live if policy.wants(scope)}
    return Audit(target, listing.scopes | frozenset(listing.failed) | kept, tuple(changes))


def deadline_of(remembered: Remembered) -> Deadline:
    """Tell when the session will be ended: at its maximum or when its user stays away too long.

    A session that nobody ever connected to has no disconnect timeout.
    """
    maximum = remembered.session.max_expiration_time
    timeout = remembered.disconnect_timeout
    if remembered.presence is Presence.DISCONNECTED and timeout is not None:
        away_too_long = remembered.presence_since + timedelta(seconds=timeout)
        if maximum is None or away_too_long < maximum:
            return Deadline(away_too_long, Cause.DISCONNECT_TIMEOUT)
    return Deadline(maximum, Cause.MAX_DURATION) if maximum else Deadline(None, Cause.NONE)


def used(remembered: Remembered, until: datetime) -> tuple[int, int]:
    """Count the seconds connected and disconnected, as observed, until then."""
    current = max(0, int((until - remembered.presence_since).total_seconds()))
    return (
        remembered.connected_seconds + (current if remembered.presence is Presence.CONNECTED else 0),
        remembered.disconnected_seconds + (current if remembered.presence is Presence.DISCONNECTED else 0),
    )


class _Coverage:
    """When the last sweep that covered a scope began; never in the future, should clocks differ."""

    def __init__(self, snapshot: Snapshot, observed_at: datetime) -> None:
        self.gaps = {gap.scope: gap for gap in snapshot.target.gaps} if snapshot.target else {}
        self._scopes = snapshot.scopes
        self._last_begin = snapshot.target.last_begin if snapshot.target else None
        self._observed_at = observed_at

    def of(self, scope: Scope) -> datetime | None:
        if gap := self.gaps.get(scope):
            begin = gap.covered
        else:
            begin = self._last_begin if scope in self._scopes else None
        return min(begin, self._observed_at) if begin else None


_Found = tuple[Remembered, tuple[Change, ...]]


def _appeared(session: Session, target: Target | None, listing: Listing, policy: Policy) -> _Found | None:
    # Listed for the first time after its end: there was nothing to see, before and after.
    if session.state == SessionState.EXPIRED:
        return None
    # A scope that failed in the first sweep must not flood the bus when it recovers.
    baseline = target is None or (session.start_time is not None and session.start_time <= target.first_begin)
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
    )
    started = (Change(DetailType.STARTED),) if policy.baseline_events or not baseline else ()
    return _with_warnings(appeared, started, listing.observed_at, policy)


def _seen_again(
    before: Remembered,
    session: Session,
    previous_observed_at: datetime | None,
    listing: Listing,
    policy: Policy,
) -> _Found | None:
    observed_at = listing.observed_at
    if session.state == SessionState.EXPIRED:
        last_seen = _last_seen(before, previous_observed_at)
        return _end(replace(before, session=session), listing, last_seen, observed_at)
    timeout = listing.disconnect_timeouts.get(session.scope.fleet, before.disconnect_timeout)
    after = before
    # Nearly every session of nearly every sweep is as it was: a copy of each would cost more than the rest.
    if (before.session, before.missed, before.disconnect_timeout) != (session, None, timeout):
        after = replace(before, session=session, missed=None, disconnect_timeout=timeout)
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
    after, changes = _with_warnings(after, changes, observed_at, policy)
    return (after, changes) if after is not before else None


def _absent(before: Remembered, previous_observed_at: datetime | None, listing: Listing) -> _Found:
    last_seen = _last_seen(before, previous_observed_at)
    deadline = deadline_of(before)
    if before.missed:
        return _end(before, listing, last_seen, before.missed.at)
    if deadline.at is not None and deadline.at <= listing.observed_at:
        return _end(before, listing, last_seen, listing.observed_at)
    # Pages have no snapshot isolation, so one miss proves nothing.
    return replace(before, missed=Miss(last_seen, listing.observed_at)), ()


def _last_seen(before: Remembered, previous_observed_at: datetime | None) -> datetime:
    if before.missed:
        return before.missed.last_seen
    # A scope that was never covered whole leaves the session's own start as the earliest end.
    return previous_observed_at or before.session.start_time or before.first_seen


def _end(before: Remembered, listing: Listing, ended_after: datetime, ended_before: datetime) -> _Found:
    deadline = deadline_of(before)
    if before.session.scope not in listing.scopes:
        reason = EndReason.SCOPE_GONE
    elif deadline.at is not None and deadline.at <= ended_before:
        reason = EndReason(deadline.cause)
    elif before.presence is Presence.NEVER_CONNECTED:
        reason = EndReason.NEVER_CONNECTED
    else:
        reason = EndReason.USER_OR_ADMIN
    ended = replace(
        before, missed=None, ending=Ending(reason, ended_after, ended_before), sequence=before.sequence + 1
    )
    return ended, (Change(DetailType.ENDED),)


def _turned(before: Remembered, presence: Presence, observed_at: datetime) -> Remembered:
    connected, disconnected = used(before, observed_at)
    return replace(
        before,
        presence=presence,
        presence_since=observed_at,
        connected_seconds=connected,
        disconnected_seconds=disconnected,
    )


def _with_warnings(
    after: Remembered, changes: tuple[Change, ...], observed_at: datetime, policy: Policy
) -> _Found:
    """Add the thresholds that were crossed, each once, and number the changes."""
    deadline = deadline_of(after)
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
    if after.presence is Presence.DISCONNECTED:
        deserted_since, period = after.presence_since, _timeout(after)
    elif after.presence is Presence.NEVER_CONNECTED:
        # Nobody watched a baseline session before its first observation: someone may have been connected.
        started = None if after.baseline else after.session.start_time
        deserted_since, period = started or after.first_seen, _lifetime(after)
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


def _out_of_view(session: Session, listing: Listing, policy: Policy) -> bool:
    """Tell whether the filters, not its end, keep a session out of the listing."""
    if not policy.wants(session.scope):
        return True
    types = listing.authentication_types
    return (
        types is not None and session.authentication_type != "" and session.authentication_type not in types
    )


def _settle_authentication(target: Target, listing: Listing) -> tuple[AuthenticationMode, tuple[str, ...]]:
    if target.authentication is not AuthenticationMode.UNKNOWN:
        return target.authentication, ()
    absent = listing.evidence.absent_unfiltered
    # Once may be chance: the session can have come between the two listings.
    if absent.intersection(target.absent_unfiltered):
        return AuthenticationMode.BY_TYPE, ()
    if listing.evidence.unfiltered_lists_others and not absent:
        return AuthenticationMode.UNFILTERED, ()
    # A sweep that did not see a session at all takes nothing back.
    unseen = set(target.absent_unfiltered) - listing.sessions.keys()
    return AuthenticationMode.UNKNOWN, tuple(sorted(absent | unseen)[:EVIDENCE_LIMIT])
