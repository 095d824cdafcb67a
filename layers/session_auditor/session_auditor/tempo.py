"""When a target is swept: how often, and at which seconds of a minute.

Plain data in, plain data out. Intervals are whole seconds that divide twelve minutes, so that the times of a
longer interval are among those of a shorter one: a target that changes its interval waits for no longer than
the new one.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import NamedTuple

from session_auditor.model import WHOLE_TARGET, AuthenticationMode, Target, TargetId

# Seconds.
MINUTE = 60
# A slow target is asked no less often: a missed sweep and a long one stay within the minutes of a hole.
SLOWEST = 120
# Of a target without sessions, or that cannot be read, for a day: below the five minutes of a hole.
IDLE = 240
COMMON_MULTIPLE = 720
IDLE_AFTER = timedelta(days=1)
INTERVALS_TO_OVERDUE = 3
# Why a target is overdue, where the table has no error code.
NOTHING_KNOWN, UNKNOWN = "NOTHING_KNOWN", "UNKNOWN"


class Pace(StrEnum):
    """Why a target is swept as often as it is."""

    ASKED = "ASKED"
    # Below a minute only once it is known how to list: until then each scope costs five listings.
    UNSETTLED = "UNSETTLED"
    # Nor where nothing can be read: a target that hangs until it is given up keeps a worker from the others.
    UNREADABLE = "UNREADABLE"
    SLOW = "SLOW"
    IDLE = "IDLE"


class Tempo(NamedTuple):
    """The seconds between two sweeps of a target, and why."""

    seconds: int
    pace: Pace


def tempo(target: Target | None, sweep_every: int, now: datetime, *, types_given: bool) -> Tempo:
    """Return how often a target is swept; `sweep_every` in seconds, as the settings ask.

    `types_given` if the settings name the authentication types. `target` is None if nothing is known of it.
    """
    seconds, pace = sweep_every, Pace.ASKED
    settled = types_given or (target and target.authentication is not AuthenticationMode.UNKNOWN)
    if seconds < MINUTE and not settled:
        seconds, pace = MINUTE, Pace.UNSETTLED
    if target is None:
        return Tempo(seconds, pace)
    if target.idle_since and now - target.idle_since >= IDLE_AFTER:
        return Tempo(IDLE, Pace.IDLE)
    if seconds < MINUTE and _unreadable(target):
        return Tempo(MINUTE, Pace.UNREADABLE)
    while seconds < SLOWEST and 2 * _duration(target) > seconds:
        seconds, pace = min(2 * seconds, SLOWEST), Pace.SLOW
    return Tempo(seconds, pace)


def _duration(target: Target) -> float:
    """Return the seconds that the last sweep took; 0 if it listed nothing, since it has no begin then."""
    if _unreadable(target) or not (target.last_begin and target.last_end):
        return 0
    return (target.last_end - target.last_begin).total_seconds()


def due_times(target_id: TargetId, seconds: int, begin: datetime) -> Iterator[datetime]:
    """Return the times of the minute from `begin` at which a target is due that is swept so often.

    They follow from account and region, so that hundreds of targets do not begin in the same second.
    """
    name = f"{target_id.account_id}#{target_id.region}"
    phase = int.from_bytes(sha256(name.encode()).digest()[:8]) % COMMON_MULTIPLE
    first = int(begin.timestamp())
    for second in range(first + (phase - first) % seconds, first + MINUTE, seconds):
        yield datetime.fromtimestamp(second, UTC)


def late_after(seconds: int) -> timedelta:
    """Return the interval that counts where people ask whether a sweep is late: a minute at least."""
    return timedelta(seconds=max(MINUTE, seconds))


def is_overdue(target: Target | None, seconds: int, now: datetime) -> bool:
    """Return whether the last sweep that listed anything of a target began too long ago."""
    if target is None or target.last_begin is None:
        return True
    return now - target.last_begin > INTERVALS_TO_OVERDUE * timedelta(seconds=seconds)


def why_overdue(target: Target | None) -> str:
    """Return why a target was not swept, as far as the table says: an error code, or one of ours."""
    if target is None:
        return NOTHING_KNOWN
    reasons = [gap.reason for gap in target.gaps if gap.scope == WHOLE_TARGET]
    return reasons[0] if reasons else UNKNOWN


def _unreadable(target: Target) -> bool:
    return any(gap.scope == WHOLE_TARGET for gap in target.gaps)
