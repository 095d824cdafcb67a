"""The events of a life in short, so that it can be told from the first to the last after they are gone.

Plain data in, plain data out. A timeline is text on the session's own item, to which a sweep only adds:

    0s60,3600d60,4500a60:15,7020t60:5,7200e60

Each entry says how many seconds after the session was first seen something was observed, what (a letter),
how many seconds before that was looked last, the threshold in minutes, and the policy. Of many events the
first 8 and the last 24 are kept; `+12` stands for twelve that are not.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple

from session_auditor.clocks import used
from session_auditor.model import Cause, Change, DetailType, Life, Remembered, SessionType

FIRST, LAST = 8, 24
# The most that a timeline says is left out: what is written has to be readable, whatever an item said before.
COUNTED = 999_999_999
# Two letters for Expiring: what would have ended the session is not in its detail-type.
_LETTERS: dict[tuple[SessionType, Cause], str] = {
    (DetailType.STARTED, Cause.NONE): "s",
    (DetailType.CONNECTED, Cause.NONE): "c",
    (DetailType.DISCONNECTED, Cause.NONE): "d",
    (DetailType.RECONNECTED, Cause.NONE): "r",
    (DetailType.EXPIRING, Cause.MAX_DURATION): "m",
    (DetailType.EXPIRING, Cause.DISCONNECT_TIMEOUT): "t",
    (DetailType.ABANDONED, Cause.NONE): "a",
    (DetailType.ENDED, Cause.NONE): "e",
    (DetailType.UNWATCHED, Cause.NONE): "u",
    (DetailType.POLICY_VIOLATED, Cause.NONE): "v",
    (DetailType.POLICY_CLEARED, Cause.NONE): "x",
}
_MEANINGS = {letter: meaning for meaning, letter in _LETTERS.items()}
_ENTRY = re.compile(r"(-?\d+)([a-z])(\d*)(?::(\d+))?(?::([A-Za-z][\w-]*))?")
_POLICY = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")


class Entry(NamedTuple):
    """An event of a life, observed `at`; nobody had looked since `since`, None if that is not known."""

    sequence: int
    detail_type: SessionType
    at: datetime
    since: datetime | None
    threshold: int = 0
    cause: Cause = Cause.NONE
    policy: str = ""


def noted(
    after: Remembered,
    changes: tuple[Change, ...],
    cause: Cause,
    observed_at: datetime,
    since: datetime | None,
) -> Remembered:
    """Number the changes of a session, and note them in its timeline.

    `cause` is that of its deadline; `since` is when the last sweep began that covered its scope.
    """
    if not changes:
        return after
    at = _seconds(after.first_seen, observed_at)
    window = "" if since is None else max(0, _seconds(since, observed_at))
    entries = [each for each in after.timeline.split(",") if each]
    if not entries and after.sequence:
        # Told by a release that kept no timeline.
        entries = [f"+{min(after.sequence, COUNTED)}"]
    for change in changes:
        letter = _LETTERS[
            change.detail_type, cause if change.detail_type is DetailType.EXPIRING else Cause.NONE
        ]
        threshold = f":{change.threshold}" if change.threshold else ""
        entries.append(f"{at}{letter}{window}{threshold}{_policy(change)}")
    return replace(after, sequence=after.sequence + len(changes), timeline=",".join(_within_bounds(entries)))


def entries_of(timeline: str, first_seen: datetime) -> Iterator[Entry]:
    """Return the events that a timeline tells of, in order; sequence numbers show where some are left out."""
    sequence = 0
    for text in timeline.split(","):
        if text.startswith("+"):
            sequence += int(text)
        elif found := _ENTRY.fullmatch(text):
            sequence += 1
            seconds, letter, window, threshold, policy = found.groups()
            # A letter that a newer release added counts, and cannot be told.
            if letter in _MEANINGS:
                detail_type, cause = _MEANINGS[letter]
                try:
                    at = first_seen + timedelta(seconds=int(seconds))
                    since = at - timedelta(seconds=int(window)) if window else None
                except OverflowError:
                    # No sweep wrote it: somebody changed the item by hand.
                    continue
                yield Entry(sequence, detail_type, at, since, int(threshold or 0), cause, policy or "")


def life_of(remembered: Remembered, until: datetime) -> Life:
    """Return what is kept of a session that is over, or what there would be to keep if it was over then."""
    session, ending = remembered.session, remembered.ending
    usage = used(remembered, until)
    return Life(
        session_id=session.id,
        scope=session.scope,
        start=session.start_time or remembered.first_seen,
        first_seen=remembered.first_seen,
        end=ending.before if ending else None,
        ended_after=ending.after if ending else None,
        reason=ending.reason if ending else None,
        user_id=session.user_id,
        instance_id=session.instance_id,
        authentication_type=session.authentication_type,
        fleet_type=remembered.fleet_type,
        instance_type=remembered.instance_type,
        max_sessions=remembered.max_sessions,
        connected_seconds=usage.connected,
        disconnected_seconds=usage.disconnected,
        never_connected_seconds=usage.never_connected,
        disconnects=remembered.disconnects,
        events=remembered.sequence,
        timeline=remembered.timeline,
    )


def _policy(change: Change) -> str:
    # An item that was changed by hand may hold any name; a timeline has to be readable.
    name = change.violation.policy if change.violation else ""
    return f":{name}" if _POLICY.fullmatch(name) else ""


def _within_bounds(entries: list[str]) -> list[str]:
    """Leave out what is neither among the first nor among the last; say how many that are."""
    earlier = entries[:1] if entries[0].startswith("+") else []
    rest = entries[len(earlier) :]
    left_out = sum(int(each) for each in rest if each.startswith("+"))
    events = [each for each in rest if not each.startswith("+")]
    if len(events) > FIRST + LAST:
        left_out += len(events) - FIRST - LAST
        events = events[:FIRST] + events[-LAST:]
    if left_out:
        events.insert(FIRST, f"+{min(left_out, COUNTED)}")
    return earlier + events


def _seconds(start: datetime, end: datetime) -> int:
    return int((end - start).total_seconds())
