"""The life of a session: how one observation after another becomes changes.

AWS lists a session as CONNECTED or NOT_CONNECTED, and NOT_CONNECTED means two things: its user has never
connected yet, or has left. Only our own history tells them apart, so each session has a presence:

    presence before    listed CONNECTED              listed NOT_CONNECTED          listed without a state
    ---------------    --------------------------    --------------------------    ----------------------
    (first seen)       CONNECTED        Started      NEVER_CONNECTED  Started      UNKNOWN        Started
    UNKNOWN            CONNECTED        (silent)     NEVER_CONNECTED  (silent)     as before
    NEVER_CONNECTED    CONNECTED        Connected    as before                     as before
    CONNECTED          as before                     DISCONNECTED     Disconnected as before
    DISCONNECTED       CONNECTED        Reconnected  as before                     as before

A life ends when the session is EXPIRED, or missing from whole listings (`miss`). Then `end` says why; a
life whose session a filter took out of view is closed by `unwatch`, which claims nothing.

Plain data in, plain data out: one session and what is known of its scope. Which session is seen, missing or
out of view is decided in `comparison`, which thresholds are crossed in `rules`.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import assert_never

from session_auditor.clocks import deadline_of, used
from session_auditor.coverage import Watch
from session_auditor.model import (
    Change,
    ClearReason,
    ConnectionState,
    DetailType,
    Ending,
    EndReason,
    Listing,
    Miss,
    Presence,
    Remembered,
    Rule,
    SessionType,
)
from session_auditor.violations import cleared_by

# Pages have no snapshot isolation, so one miss proves nothing; nor do two sweeps at once.
MISSING_FOR = timedelta(seconds=30)
NEVER_SEEN_CONNECTED = frozenset([Presence.UNKNOWN, Presence.NEVER_CONNECTED])

# A session's state after an observation, and the changes that led there; None if nothing has changed.
Found = tuple[Remembered, tuple[Change, ...]]


def first_presence(connection_state: str) -> Presence:
    """Return the presence of a session that was never seen before."""
    match connection_state:
        case ConnectionState.CONNECTED:
            return Presence.CONNECTED
        case ConnectionState.NOT_CONNECTED:
            return Presence.NEVER_CONNECTED
        case _:
            # AWS may leave the state out, or add values.
            return Presence.UNKNOWN


def observe(before: Remembered, connection_state: str, observed_at: datetime) -> Found:
    """Return what it means that a live session is listed with this connection state."""
    connected = connection_state == ConnectionState.CONNECTED
    if not connected and connection_state != ConnectionState.NOT_CONNECTED:
        # A missing or unknown state is no transition.
        return before, ()
    match before.presence:
        case Presence.UNKNOWN:
            # AWS did not tell the connection until now, so history begins here: this is no transition.
            presence = Presence.CONNECTED if connected else Presence.NEVER_CONNECTED
            return _turned(before, presence, observed_at), ()
        case Presence.NEVER_CONNECTED if connected:
            return _turned(before, Presence.CONNECTED, observed_at), (Change(DetailType.CONNECTED),)
        case Presence.DISCONNECTED if connected:
            return _turned(before, Presence.CONNECTED, observed_at), (Change(DetailType.RECONNECTED),)
        case Presence.CONNECTED if not connected:
            left = _turned(before, Presence.DISCONNECTED, observed_at)
            # A new disconnect resets what counts from a disconnect.
            fired = dict(left.fired)
            for rule in (Rule.DISCONNECT_TIMEOUT, Rule.ABANDONED):
                fired.pop(rule, None)
            left = replace(left, disconnects=left.disconnects + 1, fired=fired)
            return left, (Change(DetailType.DISCONNECTED),)
        case Presence.NEVER_CONNECTED | Presence.DISCONNECTED | Presence.CONNECTED:
            return before, ()
        case _:
            assert_never(before.presence)


def miss(before: Remembered, listing: Listing, watch: Watch) -> Found | None:
    """Return what it means that a session is missing from a whole listing of its scope.

    It has ended if it is missing for half a minute, or from one listing and is past its deadline. The first
    miss is remembered; the ones between say nothing new.
    """
    last_seen = last_seen_of(before, watch)
    missed = before.missed or Miss(
        last_seen,
        at=listing.observed_at,
        begin=listing.begin,
        hole=watch.hole_after(last_seen),
    )
    deadline = deadline_of(before)
    overdue = deadline.at is not None and deadline.at <= listing.observed_at
    if overdue or listing.begin - (missed.begin or missed.at) >= MISSING_FOR:
        return end(before, listing, last_seen, missed.at, hole=missed.hole)
    return None if before.missed else (replace(before, missed=missed), ())


def last_seen_of(before: Remembered, watch: Watch) -> datetime:
    """Return the earliest that a session can have ended: when it was last listed, as far as that is known."""
    if before.missed:
        return before.missed.last_seen
    # A scope that was never covered whole leaves the session's own start.
    return watch.covered or before.session.start_time or before.first_seen


def end(
    before: Remembered, listing: Listing, ended_after: datetime, ended_before: datetime, *, hole: bool
) -> Found:
    """Close a life, and say why it ended as far as its history tells: the first reason that fits.

    `hole` if there was one between `ended_after` and `ended_before`.
    """
    deadline = deadline_of(before)
    unwatched = before.baseline or not before.watched
    if before.session.scope not in listing.scopes:
        reason = EndReason.SCOPE_GONE
    elif hole or (unwatched and before.presence in NEVER_SEEN_CONNECTED):
        reason = EndReason.UNKNOWN
    elif deadline.at is not None and deadline.at <= ended_before:
        reason = EndReason(deadline.cause)
    elif before.presence is Presence.NEVER_CONNECTED:
        reason = EndReason.NEVER_CONNECTED
    else:
        reason = EndReason.USER_OR_ADMIN
    return _closed(before, Ending(reason, ended_after, ended_before), DetailType.ENDED)


def unwatch(before: Remembered, listing: Listing, watch: Watch) -> Found:
    """Close the life of a session that a filter took out of view; nothing is claimed about its end."""
    last = before.missed.at if before.missed else listing.observed_at
    ending = Ending(EndReason.UNWATCHED, last_seen_of(before, watch), last)
    return _closed(before, ending, DetailType.UNWATCHED)


def _closed(before: Remembered, ending: Ending, detail_type: SessionType) -> Found:
    """Close a life, and before that whatever it violates."""
    unwatched = ending.reason is EndReason.UNWATCHED
    reason = ClearReason.UNWATCHED if unwatched else ClearReason.ENDED
    cleared = tuple(cleared_by(violation, reason) for violation in before.violations)
    return replace(before, missed=None, ending=ending, violations=()), (*cleared, Change(detail_type))


def _turned(before: Remembered, presence: Presence, observed_at: datetime) -> Remembered:
    usage = used(before, observed_at)
    return replace(
        before,
        presence=presence,
        presence_since=observed_at,
        connected_seconds=usage.connected,
        disconnected_seconds=usage.disconnected,
        never_connected_seconds=usage.never_connected,
        # Abandoned counts from the first observation of a session that nobody was seen connected to.
        clocks_from=before.clocks_from if presence is Presence.NEVER_CONNECTED else None,
    )
