"""Which sessions of a usage report the auditor saw: report rows and lives in, what became of each out.

Plain data. Whether a report's session ids are those of describe_sessions is not documented, so sessions are
matched by id first, and then one to one by stack, fleet, user and start.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from operator import attrgetter
from typing import NamedTuple

from appstream_auditor.reconcile.usage_report import ReportRow
from session_auditor.model import AuthenticationType, EndReason, Life, Options, Scope, TargetId, UserIdMode

DAY = timedelta(days=1)
# Starts that are so near are of one session, if nothing else contradicts; those that agree go first.
START_TOLERANCES = (timedelta(seconds=2), timedelta(seconds=180))
# Ours ends when a sweep misses it, so not before theirs, but for clocks that differ.
_EARLY = timedelta(hours=1)


class Ours(NamedTuple):
    """A session of our history, in short; `end` is None while it lives.

    `watched` unless a filter closed it. `ended` if no report but the day's can have its end.
    """

    session_id: str
    scope: Scope
    user_id: str
    start: datetime
    end: datetime | None
    watched: bool
    ended: bool


class Outside(StrEnum):
    """Why a session that was not seen is not missed either."""

    FILTERED = "FILTERED"
    OTHER_TARGET = "OTHER_TARGET"
    OTHER_DAY = "OTHER_DAY"
    BEFORE_AUDIT = "BEFORE_AUDIT"


@dataclass(frozen=True)
class View:
    """What the auditor could see of a UTC day: whose sessions, since when, and how often it looked."""

    target_id: TargetId
    day: date
    interval: timedelta
    options: Options
    audited_since: datetime | None

    @property
    def begin(self) -> datetime:
        """When the day begins."""
        return datetime.combine(self.day, time(), UTC)

    @property
    def end(self) -> datetime:
        """When the next day begins."""
        return self.begin + DAY

    def is_elsewhere(self, row: ReportRow) -> bool:
        """Return whether a row says that it is of another account or region."""
        return (row.account_id or self.target_id.account_id, row.region or self.target_id.region) != (
            self.target_id.account_id,
            self.target_id.region,
        )

    def outside(self, row: ReportRow) -> Outside | None:
        """Return why a session was out of view; None if it was in it."""
        stacks, fleets = self.options.stacks, self.options.fleets
        if (
            not stacks.match(row.scope.stack)
            or not fleets.match(row.scope.fleet)
            or self._is_of_other_type(row)
        ):
            return Outside.FILTERED
        # Our history was read of this day and of those beside it.
        if not self.begin - DAY <= row.end < self.end + DAY:
            return Outside.OTHER_DAY
        if self.audited_since and row.end <= self.audited_since:
            return Outside.BEFORE_AUDIT
        return None

    def _is_of_other_type(self, row: ReportRow) -> bool:
        types = self.options.authentication_types
        # Reports have no word of their own for AWS_AD, so any word may stand for it.
        if types is None or AuthenticationType.AWS_AD in types:
            return False
        return row.authentication_type in set(AuthenticationType) - types

    def may_be_reported(self, life: Life) -> bool:
        """Return whether a life may be in the day's report, as far as its times tell."""
        return life.start < self.end + START_TOLERANCES[-1] and (
            life.end is None or life.end > self.begin - _EARLY
        )

    def ours(self, life: Life, scope: Scope) -> Ours:
        """Return a life in short, with a scope that is kept already."""
        watched = life.reason is not EndReason.UNWATCHED
        ended = False
        if watched and life.end:
            # Nearer to midnight it may be in the report beside this one.
            earliest = life.ended_after or life.end - self.interval
            ended = self.begin <= earliest - self.interval and life.end + self.interval <= self.end
        user_id = sys.intern(life.user_id)
        return Ours(life.session_id, scope, user_id, life.start, life.end, watched, ended)

    def differ(self, row: ReportRow, ours: Ours) -> bool:
        """Return whether start or end differ by more than an interval."""
        if abs(row.start - ours.start) > self.interval:
            return True
        if not ours.watched:
            # A filter closed it; nothing is claimed of its end.
            return False
        return ours.end is None or abs(row.end - ours.end) > self.interval

    def chance(self, row: ReportRow) -> float:
        """Return how likely it is that a sweep falls into a session, from 0 to 1."""
        return min(1.0, (row.end - row.start) / self.interval)


class Pair(NamedTuple):
    """A session of the report, and what our history says of it."""

    row: ReportRow
    ours: Ours


@dataclass(frozen=True)
class Reconciled:
    """What became of the sessions of a report; `rows` counts what could be read, `repeated` ids among them.

    `expected` is how many of those matched and missed polling could have seen: the sum of their chances.
    """

    rows: int
    repeated: int
    matched_by_id: int
    matched_by_start: int
    outside: Mapping[Outside, int]
    missed: Sequence[ReportRow]
    extra: Sequence[Ours]
    differing: Sequence[Pair]
    expected: float

    @property
    def matched(self) -> int:
        """How many sessions were seen."""
        return self.matched_by_id + self.matched_by_start

    @property
    def counted(self) -> int:
        """How many sessions there were to be seen."""
        return self.matched + len(self.missed)

    @property
    def coverage(self) -> float | None:
        """The part of the sessions that was seen, from 0 to 1; None if there were none."""
        return self.matched / self.counted if self.counted else None

    @property
    def expected_coverage(self) -> float | None:
        """The part of the sessions that polling could have seen, from 0 to 1; None if there were none."""
        return self.expected / self.counted if self.counted else None


def reconcile(rows: Iterable[ReportRow], lives: Iterable[Life], view: View) -> Reconciled:
    """Return what became of each session of a report; rows are kept, and lives that have none.

    What was seen is matched, even if the filters of now leave it out.
    """
    theirs: dict[str, ReportRow] = {}
    total = elsewhere = 0
    for row in rows:
        total += 1
        if view.is_elsewhere(row):
            elsewhere += 1
        else:
            theirs[row.session_id] = row
    same, different, others = _by_id(theirs, lives, view)
    by_id = len(same) + len(different)
    left = [row for row in theirs.values() if row.session_id not in same and row.session_id not in different]
    # Where ids are the same, those of other days have rows in other reports.
    candidates = [ours for ours in others.values() if not by_id or ours.ended]
    differing = [Pair(theirs[session_id], ours) for session_id, ours in different.items()]
    others.clear()
    paired, unreported = one_to_one(left, candidates, by_user=view.options.user_id_mode is UserIdMode.PLAIN)
    outside: Counter[Outside] = Counter({Outside.OTHER_TARGET: elsewhere})
    missed: list[ReportRow] = []
    expected = sum(map(view.chance, theirs.values()))
    for row, ours in zip(left, paired, strict=True):
        if ours:
            differing += [Pair(row, ours)] if view.differ(row, ours) else []
        elif why := view.outside(row):
            outside[why] += 1
            expected -= view.chance(row)
        else:
            missed.append(row)
    return Reconciled(
        rows=total,
        repeated=total - elsewhere - len(theirs),
        matched_by_id=by_id,
        matched_by_start=sum(map(bool, paired)),
        outside=+outside,
        missed=missed,
        extra=[ours for ours in unreported if ours.ended],
        differing=differing,
        expected=expected,
    )


def _by_id(
    theirs: Mapping[str, ReportRow], lives: Iterable[Life], view: View
) -> tuple[set[str], dict[str, Ours], dict[str, Ours]]:
    """Return the ids of which a life agrees, the lives of other matched ids, and those without a row.

    An id has several lives if a filter closed one of them, or if it ends while the table is read.
    """
    same: set[str] = set()
    different: dict[str, Ours] = {}
    others: dict[str, Ours] = {}
    # Thousands of sessions have the same few scopes: each is kept once.
    scopes: dict[Scope, Scope] = {}
    for life in lives:
        row, scope = theirs.get(life.session_id), scopes.setdefault(life.scope, life.scope)
        ours = view.ours(life, scope)
        if row is None:
            if view.may_be_reported(life) and (ours.watched or life.session_id not in others):
                others[life.session_id] = ours
        elif row.session_id not in same:
            if view.differ(row, ours):
                different[row.session_id] = ours
            else:
                same.add(row.session_id)
                different.pop(row.session_id, None)
    return same, different, others


def one_to_one(
    rows: list[ReportRow], ours: list[Ours], *, by_user: bool
) -> tuple[list[Ours | None], list[Ours]]:
    """Return for each row the one of ours that it is, or None, and those of ours that are no row's.

    They have the same stack, fleet and user, and start within 180 s. User ids are no help where ours are
    hashed or left out. Both lists are put in order.
    """
    for name in ("start", *(["user_id"] if by_user else []), "scope"):
        # To sort by what is there takes no memory; keys of several parts would.
        rows.sort(key=attrgetter(name))
        ours.sort(key=attrgetter(name))
    paired: list[Ours | None] = [None] * len(rows)
    for tolerance in START_TOLERANCES:
        ours = _pair(rows, ours, paired, tolerance, by_user=by_user)
    return paired, ours


def _pair(
    rows: Sequence[ReportRow],
    ours: Sequence[Ours],
    paired: list[Ours | None],
    tolerance: timedelta,
    *,
    by_user: bool,
) -> list[Ours]:
    """Pair as many as there can be of the rows that are alone; return what is left of ours."""

    def place(each: ReportRow | Ours) -> tuple[Scope, str]:
        return each.scope, each.user_id if by_user else ""

    left, number = [], 0
    for each in ours:
        here, earliest = place(each), each.start - tolerance
        # A row that is too early for this one is so for those to come.
        while number < len(rows) and (
            paired[number] or (place(rows[number]), rows[number].start) < (here, earliest)
        ):
            number += 1
        if (
            number < len(rows)
            and place(rows[number]) == here
            and rows[number].start <= each.start + tolerance
        ):
            paired[number] = each
        else:
            left.append(each)
    return left
