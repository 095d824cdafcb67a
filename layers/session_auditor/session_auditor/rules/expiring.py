"""Expiring: a session will be ended soon, by its maximum duration or by the disconnect timeout."""

from datetime import datetime
from typing import assert_never

from session_auditor.clocks import MINUTE, deadline_of, minutes_of_life, minutes_of_timeout
from session_auditor.model import Cause, DetailType, Due, Options, Remembered, Rule


def due(remembered: Remembered, now: datetime, options: Options, running: bool) -> Due | None:
    """Return the smallest threshold before the deadline that was crossed and is new.

    Each cause remembers its own: who comes back and leaves again is warned again. A threshold that is not
    shorter than the whole period says nothing: "an hour left" of a session that lasts an hour.
    """
    deadline = deadline_of(remembered, running=running)
    if deadline.at is None:
        return None
    match deadline.cause:
        case Cause.MAX_DURATION:
            rule, period = Rule.MAX_DURATION, minutes_of_life(remembered)
        case Cause.DISCONNECT_TIMEOUT:
            rule, period = Rule.DISCONNECT_TIMEOUT, minutes_of_timeout(remembered)
        case Cause.NONE:
            return None
        case _:
            assert_never(deadline.cause)
    left = (deadline.at - now) / MINUTE
    fired = remembered.fired.get(rule)
    crossed = [
        threshold
        for threshold in options.expiring_minutes
        if left <= threshold < period and (fired is None or threshold < fired)
    ]
    return Due(rule, DetailType.EXPIRING, min(crossed)) if crossed else None
