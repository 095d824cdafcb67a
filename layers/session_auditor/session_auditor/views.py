"""What people ask: who is on now, how many were on at once, for how long.

Plain data in, plain data out, for the command and the board alike, so that they agree. It adds nothing to
what the sweeps observed: a session is as it was when its scope was last listed, and `Row.seen` says when.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from fnmatch import fnmatchcase
from itertools import accumulate
from typing import Any, NamedTuple, assert_never

from session_auditor.clocks import MINUTE, clock_of, deadline_of
from session_auditor.model import (
    Cause,
    Deadline,
    DetailType,
    Gap,
    Globs,
    Life,
    Options,
    Presence,
    Remembered,
    Rule,
    Scope,
    Session,
    SessionType,
    Snapshot,
    Target,
)
from session_auditor.model import Fault as FleetFault
from session_auditor.rules import fire
from session_auditor.timeline import life_of

HOUR = timedelta(hours=1)
# Without a completed sweep for so many intervals nobody watches; an event that waits so long is not told.
INTERVALS_WITHOUT_SWEEP = 3
LONGEST_WAIT = timedelta(minutes=5)
_AWAY = frozenset([Presence.DISCONNECTED, Presence.NEVER_CONNECTED])


_EVERYTHING = Globs()


@dataclass(frozen=True, slots=True)
class Row:
    """A live session. `since` is when its presence was first observed, or when the latest hole was over.

    `seen` is when the last sweep began that listed it; None if that is not known. It is not `watched` while
    that is longer ago than a hole: nothing is claimed then of who is away. `abandoned` is the threshold of
    Abandoned that has fired, in minutes, 0 if none has. `remembered` has its clocks put off for holes.
    """

    remembered: Remembered
    session: Session
    presence: Presence
    since: datetime
    deadline: Deadline
    seen: datetime | None
    watched: bool
    abandoned: int = 0

    @property
    def start(self) -> datetime:
        """When it started, as far as that is known."""
        return self.session.start_time or self.remembered.first_seen

    @property
    def policies(self) -> tuple[str, ...]:
        """The names of the policies that it violates, each once."""
        return tuple(dict.fromkeys(each.policy for each in self.remembered.violations))

    def away(self, now: datetime) -> timedelta:
        """Return for how long nobody has been seen connected; nothing for who is, or may be."""
        if not self.watched or self.presence not in _AWAY:
            return timedelta()
        return max(timedelta(), now - self.since)


class Sort(StrEnum):
    """In which order rows are shown; URGENCY begins with what ends first among those whose user is away."""

    URGENCY = "urgency"
    AWAY = "away"
    ENDS = "ends"
    USER = "user"
    STARTED = "started"


@dataclass(frozen=True, slots=True)
class Filter:
    """Which rows are wanted; what is left at its default wants every row.

    `user` is a glob. `host` is an instance id or the address of an ENI. `abandoned` asks for those of which
    Abandoned was told, `policy`, a glob, for those that violate one of that name.
    """

    stacks: Globs = _EVERYTHING
    fleets: Globs = _EVERYTHING
    user: str = "*"
    host: str = ""
    presences: frozenset[Presence] = frozenset(Presence)
    abandoned: bool = False
    policy: str = ""
    away_longer_than: timedelta = timedelta()
    ends_within: timedelta | None = None

    def wants(self, row: Row, now: datetime) -> bool:
        """Return whether the row is wanted."""
        session, ends = row.session, row.deadline.at
        return (
            self.stacks.match(session.scope.stack)
            and self.fleets.match(session.scope.fleet)
            and fnmatchcase(session.user_id, self.user)
            and (not self.host or self.host in (session.instance_id, session.eni_private_ip_address))
            and row.presence in self.presences
            and (not self.abandoned or row.abandoned > 0)
            and (not self.policy or any(fnmatchcase(name, self.policy) for name in row.policies))
            and (not self.away_longer_than or row.away(now) > self.away_longer_than)
            and (self.ends_within is None or (ends is not None and ends - now <= self.ends_within))
        )


def live(snapshot: Snapshot, now: datetime, hole: timedelta) -> tuple[Row, ...]:
    """Return the sessions that are believed to live, by id. `hole` is that of the options."""
    scopes = _Scopes(snapshot.target)
    stored = sorted(snapshot.sessions.items())
    return tuple(scopes.row(each.remembered, now, hole) for _, each in stored if not each.remembered.ending)


class _Scopes:
    """What the target's item says of each scope: when it was listed last, when its latest hole was over."""

    def __init__(self, target: Target | None) -> None:
        gaps = target.gaps if target else ()
        self._listed = {gap.scope: gap.listed or gap.covered for gap in gaps}
        self._last_begin = target.last_begin if target else None
        self._hole_ends: dict[Scope | None, datetime] = {}
        for each in target.holes if target else ():
            self._hole_ends[each.scope] = max(each.end, self._hole_ends.get(each.scope, each.end))
        self._everywhere = self._hole_ends.get(None)

    def row(self, remembered: Remembered, now: datetime, hole: timedelta) -> Row:
        """Return a session's row, its clocks put off to the end of the latest hole of its scope."""
        scope = remembered.session.scope
        over = [end for end in (self._everywhere, self._hole_ends.get(scope)) if end]
        if over and max(over) > clock_of(remembered):
            remembered = replace(remembered, clocks_from=max(over))
        missed = remembered.missed.last_seen if remembered.missed else None
        listed = self._listed.get(scope, self._last_begin)
        seen = missed or remembered.unlisted_since or listed
        watched = seen is not None and now - seen <= hole
        return Row(
            remembered=remembered,
            session=remembered.session,
            presence=remembered.presence,
            since=clock_of(remembered),
            deadline=deadline_of(remembered, running=watched),
            seen=seen,
            watched=watched,
            abandoned=remembered.fired.get(Rule.ABANDONED, 0) if remembered.presence in _AWAY else 0,
        )


class Coming(NamedTuple):
    """What will be told of a session, and when, if nothing happens to it; `threshold` in minutes."""

    at: datetime
    detail_type: SessionType
    threshold: int = 0
    cause: Cause = Cause.NONE


def coming(row: Row, now: datetime, options: Options) -> tuple[Coming, ...]:
    """Return what the rules will find due of a live session until its end, if nothing happens to it."""
    remembered, (ends, cause) = row.remembered, row.deadline
    # Abandoned counts from the first observation, where nobody was ever seen connected.
    alone = remembered.clocks_from or remembered.first_seen
    since = {row.since, max(remembered.first_seen, alone)}
    moments = {now, *(at + each * MINUTE for at in since for each in options.abandoned_minutes)}
    if ends:
        moments |= {ends - each * MINUTE for each in options.expiring_minutes}
    found: list[Coming] = []
    for at in sorted(each for each in moments if now <= each and (ends is None or each < ends)):
        remembered, changes = fire(remembered, at, options, running=row.watched)
        for change in changes:
            expiring = change.detail_type is DetailType.EXPIRING
            found.append(Coming(at, change.detail_type, change.threshold, cause if expiring else Cause.NONE))
    if ends:
        found.append(Coming(max(ends, now), DetailType.ENDED, cause=cause))
    return tuple(found)


def ordered(rows: Iterable[Row], by: Sort, now: datetime) -> tuple[Row, ...]:
    """Return the rows in an order; rows that are equal in it stay in the order of their ids."""
    return tuple(sorted(sorted(rows, key=lambda row: row.session.id), key=ranking(by, now)))


def ranking(by: Sort, now: datetime) -> Callable[[Row], Any]:
    """Return the key by which rows are sorted into an order."""
    match by:
        case Sort.URGENCY:
            return lambda row: (row.presence not in _AWAY, _ends(row))
        case Sort.AWAY:
            return lambda row: -row.away(now)
        case Sort.ENDS:
            return _ends
        case Sort.USER:
            return lambda row: row.session.user_id
        case Sort.STARTED:
            return _started
        case _:
            assert_never(by)


def _ends(row: Row) -> tuple[bool, float]:
    at = row.deadline.at
    return at is None, at.timestamp() if at else 0.0


def _started(row: Row) -> tuple[bool, float]:
    at = row.session.start_time
    return at is None, at.timestamp() if at else 0.0


def totals(rows: Iterable[Row]) -> Mapping[Presence, int]:
    """Return how many rows there are of each presence, those of which there are none, too."""
    counted = Counter(row.presence for row in rows)
    return {presence: counted[presence] for presence in Presence}


class Fault(StrEnum):
    """What is wrong with the audit itself: nobody looks, not everywhere, or nobody is told."""

    NO_SWEEP = "NO_SWEEP"
    DEGRADED = "DEGRADED"
    EVENTS_WAIT = "EVENTS_WAIT"


@dataclass(frozen=True, slots=True)
class Status:
    """A target at a glance. `swept` is when its last completed sweep ended.

    `violating` counts the sessions that violate a policy. `faulted` are the fleets of which AppStream names
    errors, by name; that is no fault of the audit. `degraded` are the gaps that were told of and last.
    `pending` counts the events that the bus has not taken; the oldest has waited since `waiting`.
    """

    totals: Mapping[Presence, int]
    abandoned: int
    swept: datetime | None
    violating: int = 0
    faulted: tuple[FleetFault, ...] = ()
    degraded: tuple[Gap, ...] = ()
    pending: int = 0
    waiting: datetime | None = None

    @property
    def live(self) -> int:
        """How many sessions are believed to live."""
        return sum(self.totals.values())

    @property
    def away(self) -> int:
        """Of how many nobody is connected."""
        return sum(self.totals[presence] for presence in _AWAY)

    def faults(self, now: datetime, interval: timedelta) -> tuple[Fault, ...]:
        """Return what is wrong; `interval` is that of the sweeps."""
        late = self.swept is None or now - self.swept > INTERVALS_WITHOUT_SWEEP * interval
        waits = self.waiting is not None and now - self.waiting >= LONGEST_WAIT
        found = {Fault.NO_SWEEP: late, Fault.DEGRADED: bool(self.degraded), Fault.EVENTS_WAIT: waits}
        return tuple(fault for fault, is_found in found.items() if is_found)


def status(snapshot: Snapshot, rows: Sequence[Row]) -> Status:
    """Return a target at a glance; `rows` are those of the snapshot."""
    target = snapshot.target
    pending = [*snapshot.outbox, *(event for stored in snapshot.sessions.values() for event in stored.outbox)]
    return Status(
        totals=totals(rows),
        abandoned=sum(1 for row in rows if row.abandoned),
        swept=target.last_end if target else None,
        violating=sum(1 for row in rows if row.policies),
        faulted=tuple(sorted(target.faults, key=lambda fault: fault.fleet)) if target else (),
        degraded=tuple(gap for gap in (target.gaps if target else ()) if gap.announced and gap.failing),
        pending=len(pending),
        waiting=min((event.observed_at for event in pending), default=None),
    )


def life(row: Row, now: datetime) -> Life:
    """Return the life of a session that is believed to live, used until it was last seen."""
    return life_of(row.remembered, row.seen or now)


def lives(snapshot: Snapshot, rows: Iterable[Row], now: datetime) -> tuple[Life, ...]:
    """Return the lives in the snapshot: those of its `rows`, and those whose end is still to be published."""
    return (*(life(row, now) for row in rows), *ended_lives(snapshot))


def ended_lives(snapshot: Snapshot) -> Iterator[Life]:
    """Return the lives whose end is still to be published, so that no history has them."""
    for each in snapshot.sessions.values():
        if each.remembered.ending:
            yield life_of(each.remembered, each.remembered.ending.before)


def once(found: Iterable[Life]) -> list[Life]:
    """Return each life once: one that ends while the table is read may be in its history, too."""
    return list({(each.session_id, each.first_seen): each for each in found}.values())


class Peak(NamedTuple):
    """The most sessions at once, and when there were first so many; `at` is None if there were none."""

    sessions: int
    at: datetime | None


def peak(lives: Iterable[Life], since: datetime, until: datetime) -> Peak:
    """Return the most sessions at once from `since` to before `until`; at its end a session is gone."""
    changes: Counter[datetime] = Counter()
    for life in lives:
        start, end = max(life.start, since), min(life.end or until, until)
        if start < end:
            changes[start] += 1
            changes[end] -= 1
    sessions, most = 0, Peak(0, None)
    for at in sorted(changes):
        sessions += changes[at]
        if sessions > most.sessions:
            most = Peak(sessions, at)
    return most


def by_hour(lives: Iterable[Life], since: datetime, until: datetime) -> Iterator[tuple[datetime, Peak]]:
    """Return the peak of every hour that begins from `since` to before `until`."""
    kept = sorted(lives, key=lambda life: life.start)
    # Wall clocks repeat an hour, or leave one out.
    hour = since.astimezone(UTC)
    while hour < until:
        end = min(hour + HOUR, until)
        yield hour, peak((life for life in kept if life.start < end), hour, end)
        kept = [life for life in kept if life.end is None or life.end > end]
        hour = end


# From when to when a session was on; None while it lives.
On = tuple[datetime, datetime | None]


def levels(on: Iterable[On], since: datetime, until: datetime, slots: int) -> list[int]:
    """Return how many sessions were on at the end of each of so many equal slots of a time."""
    changes = [0] * (slots + 1)
    slot = (until - since) / slots
    for start, end in on:
        # The first end of a slot at which it is on, and the first at which it is gone.
        begins = max(0, -((since - start) // slot) - 1)
        ends = slots if end is None else min(slots, max(0, -((since - end) // slot) - 1))
        if begins < ends:
            changes[begins] += 1
            changes[ends] -= 1
    return list(accumulate(changes[:slots]))


class By(StrEnum):
    """What sums are made for; a life belongs to the day and month in which it ended, or is now."""

    USER = "user"
    FLEET = "fleet"
    DAY = "day"
    MONTH = "month"


class Sums(NamedTuple):
    """How many lives, the seconds with somebody connected and with nobody, of these before anybody was."""

    lives: int
    connected_seconds: int
    alone_seconds: int
    never_connected_seconds: int


def sums(lives: Sequence[Life]) -> Sums:
    """Return the sums of lives."""
    return Sums(
        len(lives),
        sum(life.connected_seconds for life in lives),
        sum(life.alone_seconds for life in lives),
        sum(life.never_connected_seconds for life in lives),
    )


def grouped(
    lives: Iterable[Life], by: By, now: datetime, zone: tzinfo | None
) -> Mapping[str, Sequence[Life]]:
    """Return lives by user, by fleet, or by the day or month in that time zone (None: this machine's)."""
    gathered: defaultdict[str, list[Life]] = defaultdict(list)
    for life in lives:
        gathered[_name(life, by, now, zone)].append(life)
    return dict(sorted(gathered.items()))


def _name(life: Life, by: By, now: datetime, zone: tzinfo | None) -> str:
    match by:
        case By.USER:
            return life.user_id
        case By.FLEET:
            return life.scope.fleet
        case By.DAY:
            return f"{(life.end or now).astimezone(zone):%Y-%m-%d}"
        case By.MONTH:
            return f"{(life.end or now).astimezone(zone):%Y-%m}"
        case _:
            assert_never(by)
