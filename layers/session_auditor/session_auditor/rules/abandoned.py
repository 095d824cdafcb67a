"""Abandoned: a machine runs and nobody has been seen connected to it for too long."""

from datetime import datetime
from typing import assert_never

from session_auditor.clocks import MINUTE, clock_of, minutes_of_life, minutes_of_timeout
from session_auditor.model import DetailType, Due, Options, Presence, Remembered, Rule


def due(remembered: Remembered, now: datetime, options: Options, running: bool) -> Due | None:
    """Return the largest threshold of minutes without a user that was crossed and is new.

    A threshold that is not shorter than the whole period says nothing: the session is ended first. Who comes
    back and leaves again may be abandoned again.
    """
    if not running:
        return None
    match remembered.presence:
        case Presence.CONNECTED | Presence.UNKNOWN:
            return None
        case Presence.DISCONNECTED:
            since, period = clock_of(remembered), minutes_of_timeout(remembered)
        case Presence.NEVER_CONNECTED:
            # From the first observation, not from its start: before that, nobody looked.
            since = max(remembered.first_seen, remembered.clocks_from or remembered.first_seen)
            period = minutes_of_life(remembered)
        case _:
            assert_never(remembered.presence)
    alone = (now - since) / MINUTE
    fired = remembered.fired.get(Rule.ABANDONED)
    crossed = [
        threshold
        for threshold in options.abandoned_minutes
        if alone >= threshold < period and (fired is None or threshold > fired)
    ]
    return Due(Rule.ABANDONED, DetailType.ABANDONED, max(crossed)) if crossed else None
