"""What another disconnect timeout would have meant: hours saved, and returns that would have come too late.

Plain data in, plain data out. A sweep sees a disconnect and a return up to an interval late, so an absence is
known between two bounds. What is counted never flatters a short timeout: hours by the least that an absence
can have lasted, returns by the most. Each absence is judged on its own: whoever returned too late would have
begun another session, so of that one only the time beyond the timeout is saved.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from appstream_auditor.printing import counted
from session_auditor.model import DetailType, EndReason, Life
from session_auditor.stories import hours
from session_auditor.timeline import Entry, entries_of

# A timeout is advised that would have lost fewer than one return in so many; fewer returns say little.
LOST_OF = 100


class Absence(NamedTuple):
    """A time after a disconnect with nobody connected; it lasted between `least` and `most` seconds.

    Somebody `returned`, or else the session ended; `timed_out` if the disconnect timeout ended it.
    """

    least: int
    most: int
    returned: bool
    timed_out: bool = False


class Verdict(StrEnum):
    """Whether what was seen tells anything of a timeout, and why it does not.

    A longer one than now cannot be judged: sessions were ended that would have lasted on. Nor can one that is
    shorter than now, if sessions were ended by a shorter one still in the time asked for.
    """

    JUDGED = "JUDGED"
    AS_NOW = "AS_NOW"
    LONGER_THAN_NOW = "LONGER_THAN_NOW"
    NOW_NOT_KNOWN = "NOW_NOT_KNOWN"
    NO_SESSION = "NO_SESSION"
    WAS_SHORTER = "WAS_SHORTER"


class Outcome(NamedTuple):
    """What a timeout of so many seconds would have saved at least, in seconds, and lost at most, in returns.

    Both are None unless it could be judged.
    """

    timeout: int
    verdict: Verdict
    saved: int | None = None
    lost: int | None = None


class Judgement(NamedTuple):
    """What several timeouts would have meant for a fleet; `now` is the one that it has, in seconds.

    It rests on so many `sessions`, to which somebody returned so many times; `left_out` are those whose
    timeline does not tell everything.
    """

    now: int | None
    sessions: int
    left_out: int
    returns: int
    outcomes: tuple[Outcome, ...]


class Advice(NamedTuple):
    """What to do with a fleet's timeout, as a sentence; `timeout` is one to set, in seconds."""

    timeout: int | None
    sentence: str


def absences(life: Life, hole: timedelta) -> tuple[Absence, ...] | None:
    """Return the absences of a life that is over; None if its timeline does not tell all of them.

    It does not if entries are missing, if there was a hole, or if the session was not seen from its start:
    whoever was first seen disconnected may have been there before.
    """
    entries = tuple(entries_of(life.timeline, life.first_seen))
    if life.end is None or life.ended_after is None or not _tells_all(life, entries, hole):
        return None
    found = []
    left: Entry | None = None
    for entry in entries:
        if entry.detail_type is DetailType.DISCONNECTED:
            left = entry
        elif entry.detail_type is DetailType.RECONNECTED and left and left.since and entry.since:
            most = _seconds(left.since, entry.at)
            found.append(Absence(_seconds(left.at, entry.since), most, returned=True))
            left = None
    if left and left.since:
        least, most = _seconds(left.at, life.ended_after), _seconds(left.since, life.end)
        timed_out = life.reason is EndReason.DISCONNECT_TIMEOUT
        found.append(Absence(least, most, returned=False, timed_out=timed_out))
    return tuple(found)


def judged(lives: Iterable[Life], timeouts: Sequence[int], now: int | None, hole: timedelta) -> Judgement:
    """Return what each of the timeouts, in seconds, would have meant for the lives of a fleet that are over.

    `now` is the timeout that the fleet has, None if that is not known.
    """
    told = [absences(life, hole) for life in lives]
    whole = [each for each in told if each is not None]
    seen = [absence for each in whole for absence in each]
    left_out = len(told) - len(whole)
    return Judgement(
        now=now,
        sessions=len(whole),
        left_out=left_out,
        returns=sum(each.returned for each in seen),
        outcomes=tuple(
            _outcome(seen, timeout, now) if whole else Outcome(timeout, Verdict.NO_SESSION)
            for timeout in sorted(set(timeouts))
        ),
    )


def advised(judgement: Judgement) -> Advice:
    """Return what follows from a judgement: the shortest timeout that loses hardly any return, if any."""
    now, returns = judgement.now, judgement.returns
    little = "" if returns >= LOST_OF else ", which is little to go by"
    rests_on = f"(by {counted(judgement.sessions, 'session')} and {counted(returns, 'return')}{little})"
    if now is None:
        return Advice(None, "no advice: its present timeout is not known")
    if not judgement.sessions:
        return Advice(None, "no advice: no session tells all that happened to it")
    known = [each for each in judgement.outcomes if each.saved is not None and each.lost is not None]
    if not known:
        return Advice(None, "no advice: none of these timeouts can be judged by what was seen")
    for timeout, _, saved, lost in known:
        if saved and lost is not None and (lost == 0 or lost * LOST_OF < returns):
            return Advice(
                timeout,
                f"{minutes(timeout)} instead of {minutes(now)} would have saved {hours(saved)} or more, and "
                f"lost {f'{lost} returns or fewer' if lost else 'no return'} {rests_on}",
            )
    if not any(each.saved for each in known):
        return Advice(None, f"leave {minutes(now)}: a shorter one would have saved nothing {rests_on}")
    return Advice(
        None,
        f"leave {minutes(now)}: shorter ones that save hours would have lost 1 % of the returns or more "
        f"{rests_on}",
    )


def minutes(seconds: int) -> str:
    """Return a timeout as people say it; AWS takes it in seconds."""
    whole, rest = divmod(seconds, 60)
    return f"{seconds} s" if rest else f"{whole} min"


def _tells_all(life: Life, entries: Sequence[Entry], hole: timedelta) -> bool:
    if [each.sequence for each in entries] != list(range(1, life.events + 1)) or not entries:
        return False
    first = entries[0]
    from_its_start = (
        first.detail_type is DetailType.STARTED and first.since is not None and first.at - first.since <= hole
    )
    # Clocks start anew after a hole, so its seconds are missing.
    no_hole = life.end is not None and life.connected_seconds + life.alone_seconds == _seconds(
        life.first_seen, life.end
    )
    return from_its_start and no_hole and all(each.since for each in entries)


def _outcome(seen: Sequence[Absence], timeout: int, now: int | None) -> Outcome:
    if now is None:
        return Outcome(timeout, Verdict.NOW_NOT_KNOWN)
    if timeout >= now:
        return Outcome(timeout, Verdict.AS_NOW if timeout == now else Verdict.LONGER_THAN_NOW)
    if any(each.timed_out and each.most <= timeout for each in seen):
        return Outcome(timeout, Verdict.WAS_SHORTER)
    # What lasted longer than the timeout of now was seen with another one, and would not last so long today.
    saved = sum(max(0, min(each.least, now) - timeout) for each in seen)
    lost = sum(each.returned and each.most > timeout for each in seen)
    return Outcome(timeout, Verdict.JUDGED, saved, lost)


def _seconds(start: datetime, end: datetime) -> int:
    return int((end - start).total_seconds())
