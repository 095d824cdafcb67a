"""What the clocks of a session say: since when, for how long, until when.

Plain data in, plain data out; the time is an argument. Nothing is kept that ticks, so a session on which
nothing happens is never written.
"""

from datetime import datetime, timedelta
from math import inf
from typing import NamedTuple

from session_auditor.model import Cause, Deadline, Presence, Remembered

MINUTE = timedelta(minutes=1)


def clock_of(remembered: Remembered) -> datetime:
    """Return since when its presence counts: anew after a hole, because nothing is claimed of a hole."""
    since, hole_end = remembered.presence_since, remembered.clocks_from
    return since if hole_end is None else max(since, hole_end)


def start_of(remembered: Remembered) -> datetime:
    """Return when the session started; where AWS gave no start, when it was first seen."""
    return remembered.session.start_time or remembered.first_seen


def deadline_of(remembered: Remembered, *, running: bool = True) -> Deadline:
    """Return when the session will be ended: at its maximum, or when its user stays away too long.

    A session that nobody ever connected to has no disconnect timeout, nor has one whose clock is not
    `running`.
    """
    maximum = remembered.session.max_expiration_time
    timeout = remembered.disconnect_timeout
    if running and remembered.presence is Presence.DISCONNECTED and timeout is not None:
        away_too_long = _later(clock_of(remembered), timeout)
        if away_too_long is not None and (maximum is None or away_too_long < maximum):
            return Deadline(away_too_long, Cause.DISCONNECT_TIMEOUT)
    return Deadline(maximum, Cause.MAX_DURATION) if maximum else Deadline(None, Cause.NONE)


class Usage(NamedTuple):
    """Seconds with somebody connected, after a disconnect, and before anybody ever was."""

    connected: int
    disconnected: int
    never_connected: int


def used(remembered: Remembered, until: datetime) -> Usage:
    """Return how the session was used until then, as observed."""
    current = max(0, int((until - clock_of(remembered)).total_seconds()))
    presence = remembered.presence
    return Usage(
        remembered.connected_seconds + (current if presence is Presence.CONNECTED else 0),
        remembered.disconnected_seconds + (current if presence is Presence.DISCONNECTED else 0),
        remembered.never_connected_seconds + (current if presence is Presence.NEVER_CONNECTED else 0),
    )


def minutes_of_life(remembered: Remembered) -> float:
    """Return how long the session may last at most, in minutes; without end if that is not known."""
    start, maximum = remembered.session.start_time, remembered.session.max_expiration_time
    return (maximum - start) / MINUTE if start and maximum else inf


def minutes_of_timeout(remembered: Remembered) -> float:
    """Return how long its user may stay away, in minutes; without end if that is not known."""
    return inf if remembered.disconnect_timeout is None else remembered.disconnect_timeout / 60


def _later(time: datetime, seconds: int) -> datetime | None:
    try:
        return time + timedelta(seconds=seconds)
    except OverflowError:
        return None
