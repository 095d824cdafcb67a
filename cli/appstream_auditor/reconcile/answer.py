"""What `reconcile` answers: models for -o json, lines and columns for people."""

from collections.abc import Iterator, Sequence
from datetime import date, datetime, tzinfo
from enum import StrEnum
from typing import NamedTuple

from appstream_auditor.answers import Answer, Failure, Named, OfTarget, Time
from appstream_auditor.printing import Column, counted
from appstream_auditor.reconcile.matching import Ours, Outside, Reconciled, View
from appstream_auditor.reconcile.usage_report import ReportRow
from appstream_auditor.targets import Place, place_columns
from session_auditor.model import UserIdMode
from session_auditor.stories import span
from session_auditor.wording import in_zone


class Finding(StrEnum):
    """What is wrong with a session: theirs only, ours only, or the times differ."""

    MISSED = "MISSED"
    EXTRA = "EXTRA"
    DIFFERENT = "DIFFERENT"


class ReconciledSession(OfTarget):
    """A session that report and history do not agree on.

    `sessionId` and the first times are the report's, of an EXTRA one ours; `our…` are empty if it was missed.
    """

    finding: Finding
    session_id: str
    user_id: str
    stack_name: str
    fleet_name: str
    started_at: Time
    ended_at: Time | None
    our_session_id: str
    our_started_at: Time | None
    our_ended_at: Time | None


class ReconciledDay(OfTarget):
    """A day of one target. Percentages are of the sessions matched and missed; null if there are none.

    `expectedPercent` is what sweeps every `intervalSeconds` could have seen: a session counts by its length,
    in intervals, and at most once. `rows` are those of the report; `brokenLines` are none. `repeatedRows` and
    those below `outside…` are neither matched nor missed.
    """

    report: str
    rows: int
    broken_lines: int
    repeated_rows: int
    outside_filters: int
    outside_target: int
    outside_day: int
    outside_audit: int
    matched: int
    matched_by_id: int
    matched_by_start: int
    users_compared: bool
    missed: int
    extra: int
    different: int
    coverage_percent: float | None
    expected_percent: float | None
    interval_seconds: int


class ReconcileAnswer(Answer):
    """The answer of `reconcile`, of a UTC day; `sessions` are those of which something is wrong."""

    as_of: Time
    day: date
    targets: tuple[ReconciledDay, ...]
    failures: tuple[Failure, ...]
    sessions: tuple[ReconciledSession, ...]


def reconciled_day(target: Named, report: str, broken: int, view: View, found: Reconciled) -> ReconciledDay:
    """Return the figures of a target's day."""
    return ReconciledDay(
        account_id=target.id.account_id,
        region=target.id.region,
        account_name=target.account_name,
        report=report,
        rows=found.rows,
        broken_lines=broken,
        repeated_rows=found.repeated,
        outside_filters=found.outside.get(Outside.FILTERED, 0),
        outside_target=found.outside.get(Outside.OTHER_TARGET, 0),
        outside_day=found.outside.get(Outside.OTHER_DAY, 0),
        outside_audit=found.outside.get(Outside.BEFORE_AUDIT, 0),
        matched=found.matched,
        matched_by_id=found.matched_by_id,
        matched_by_start=found.matched_by_start,
        users_compared=view.options.user_id_mode is UserIdMode.PLAIN,
        missed=len(found.missed),
        extra=len(found.extra),
        different=len(found.differing),
        coverage_percent=_percent(found.coverage),
        expected_percent=_percent(found.expected_coverage),
        interval_seconds=int(view.interval.total_seconds()),
    )


def _percent(part: float | None) -> float | None:
    return None if part is None else round(100 * part, 2)


class Entry(NamedTuple):
    """A session of which something is wrong, as the report has it, or else our history; and `ours`."""

    target: Named
    finding: Finding
    session: ReportRow | Ours
    ours: Ours | None


def entries(target: Named, found: Reconciled) -> Iterator[Entry]:
    """Return the sessions of which something is wrong: missed, extra, different; each by start."""
    for row in sorted(found.missed, key=lambda row: row.start):
        yield Entry(target, Finding.MISSED, row, None)
    for ours in sorted(found.extra, key=lambda ours: ours.start):
        yield Entry(target, Finding.EXTRA, ours, ours)
    for row, ours in sorted(found.differing, key=lambda pair: pair.row.start):
        yield Entry(target, Finding.DIFFERENT, row, ours)


def reconciled_session(entry: Entry) -> ReconciledSession:
    """Return a session of which something is wrong."""
    target, finding, session, ours = entry
    return ReconciledSession(
        account_id=target.id.account_id,
        region=target.id.region,
        account_name=target.account_name,
        finding=finding,
        session_id=session.session_id,
        user_id=session.user_id,
        stack_name=session.scope.stack,
        fleet_name=session.scope.fleet,
        started_at=session.start,
        ended_at=session.end,
        our_session_id=ours.session_id if ours else "",
        our_started_at=ours.start if ours else None,
        our_ended_at=ours.end if ours else None,
    )


def lines(day: ReconciledDay) -> Iterator[str]:
    """Return the figures of a day in sentences."""
    yield f"{counted(day.rows, 'session')} in {day.report.rpartition('/')[-1]}"
    yield (
        f"{day.matched} matched{_method(day)}, {day.missed} missed, {day.extra} extra, "
        f"{day.different} off by more than {day.interval_seconds} s"
    )
    outside = {
        "outside the auditor's filters": day.outside_filters,
        "of another account or region": day.outside_target,
        "of another day": day.outside_day,
        "over before the audit began": day.outside_audit,
        "repeated": day.repeated_rows,
    }
    left_out = [f"{number} {what}" for what, number in outside.items() if number]
    left_out += [f"{counted(day.broken_lines, 'broken line')}"] if day.broken_lines else []
    if left_out:
        yield f"not counted: {', '.join(left_out)}"
    if day.coverage_percent is None:
        yield "coverage: there was no session to be seen"
    else:
        yield (
            f"coverage {day.coverage_percent:.1f} %; sweeps every {day.interval_seconds} s "
            f"can be expected to see {day.expected_percent:.1f} %"
        )


def _method(day: ReconciledDay) -> str:
    users = "user" if day.users_compared else "not by user, since the auditor does not keep user ids,"
    ways = {
        "by session id": day.matched_by_id,
        f"by stack, fleet, {users} and start": day.matched_by_start,
    }
    used = [(way, number) for way, number in ways.items() if number]
    if len(used) < 2:
        return "".join(f" {way}" for way, _ in used)
    return f" ({', '.join(f'{number} {way}' for way, number in used)})"


def columns(
    rows: Sequence[ReconciledSession], day: date, zone: tzinfo | None, *, place: Place
) -> list[Column]:
    """Return the columns of the sessions of which something is wrong."""

    def at(time: datetime | None) -> str:
        if time is None:
            return ""
        local = in_zone(time, zone)
        return f"{local:%H:%M:%S}" if local.date() == day else f"{local:%Y-%m-%d %H:%M:%S}"

    def ours(row: ReconciledSession) -> str:
        """Say which of our times are others."""
        if row.finding is not Finding.DIFFERENT:
            return ""
        times = {"start": (row.started_at, row.our_started_at), "end": (row.ended_at, row.our_ended_at)}
        return ", ".join(
            f"{name} {at(our) or 'to come'}" for name, (their, our) in times.items() if their != our
        )

    different = any(row.finding is Finding.DIFFERENT for row in rows)
    found = [
        Column("FINDING", [row.finding.lower() for row in rows], rank=0),
        Column("USER", [row.user_id or "(not known)" for row in rows], rank=0, elastic=True),
        Column("STARTED", [at(row.started_at) for row in rows], rank=0, right=True),
        Column("ENDED", [at(row.ended_at) for row in rows], rank=1, right=True),
        Column("LASTED", [_lasted(row) for row in rows], rank=2, right=True),
        *([Column("OURS", [ours(row) for row in rows], rank=1)] if different else []),
        Column("STACK", [row.stack_name for row in rows], rank=6),
        Column("FLEET", [row.fleet_name for row in rows], rank=4),
        Column("SESSION", [row.session_id for row in rows], rank=5, cut=8),
    ]
    return [*place_columns(rows, place), *found]


def _lasted(row: ReconciledSession) -> str:
    return span(row.ended_at - row.started_at) if row.ended_at else ""
