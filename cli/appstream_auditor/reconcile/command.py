"""`reconcile`: reads a day's usage report and our history, and shows where they do not agree."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from itertools import chain, islice
from typing import BinaryIO, NamedTuple

import click
from rich.text import Text

from appstream_auditor.answers import Named
from appstream_auditor.deployment import Deployment
from appstream_auditor.errors import Exit, QuestionError
from appstream_auditor.parameters import utc_day_of
from appstream_auditor.printing import Output, harmless, print_csv, print_long_json, table, to_terminal
from appstream_auditor.questions import Question, asks, now, of_targets, patience
from appstream_auditor.reconcile.answer import (
    Entry,
    ReconcileAnswer,
    ReconciledDay,
    ReconciledSession,
    columns,
    entries,
    lines,
    reconciled_day,
    reconciled_session,
)
from appstream_auditor.reconcile.bucket import decoded, find_report
from appstream_auditor.reconcile.matching import DAY, Reconciled, View
from appstream_auditor.reconcile.matching import reconcile as matched
from appstream_auditor.reconcile.usage_report import ReportError, ReportRow, UsageReport
from appstream_auditor.targets import NAMED, Place, Targets, place_cells
from session_auditor.model import Life, Snapshot
from session_auditor.views import live, lives

_PROGRESS_ROWS = 10_000
_STDIN = "<stdin>"


class Compared(NamedTuple):
    """A day of one target, in figures and session by session."""

    target: Named
    figures: ReconciledDay
    found: Reconciled


class Source(NamedTuple):
    """A report and what it is called; its rows can be read once."""

    name: str
    report: UsageReport
    rows: Iterable[ReportRow]


@click.command()
@click.argument("day")
@click.option("--file", type=click.File("rb"), help="A report at hand, or - for standard input.")
@click.option(
    "--at-least",
    type=click.FloatRange(0, 100),
    help="End with 1 if fewer per cent of the sessions were seen.",
)
@of_targets
@asks
def reconcile(question: Question, *, day: str, file: BinaryIO | None, at_least: float | None) -> Exit:
    """Say how much of a day was seen, by AWS's own usage report of it.

    DAY is a day in UTC, such as 2026-03-02, or yesterday. The report is read from the bucket that AppStream
    writes usage reports to, or from --file, and its sessions are matched with those that the auditor saw. It
    lists what the auditor missed, what the report lacks, and times that differ by more than an interval.

    Coverage stands beside what sweeps at that interval can be expected to see: a session that is shorter
    than an interval may come and go between two.

    Of a hub, reports of other accounts than your own are read from --file alone. Ends with 2 without a
    subscription to usage reports, and with 3 without a report.

    \b
    Examples, one as a check for your monitoring, one of a report at hand:
      appstream-auditor reconcile yesterday --at-least 95
      appstream-auditor reconcile 2026-03-02 --file report.csv
    """
    asked_at = now()
    wanted = _day(day, asked_at, over=file is None)
    with patience("Reading report and history ...") as progress:
        targets = question.targets()
        given = _read(getattr(file, "name", _STDIN), decoded(file)) if file else None
        if given:
            targets, given = _of_one(targets, given)

        def ask(deployment: Deployment) -> Compared:
            return _compared(deployment, wanted, given, asked_at, progress)

        found, failures = targets.each(ask)
    days = [compared.figures for compared in found]
    wrong = (entry for compared in found for entry in entries(compared.target, compared.found))
    match question.output:
        case Output.JSON:
            answer = ReconcileAnswer(
                as_of=asked_at,
                day=wanted,
                targets=tuple(days),
                failures=tuple(failures),
                sessions=(),
            )
            print_long_json(answer, "sessions", map(reconciled_session, wrong))
        case Output.CSV:
            print_csv(map(reconciled_session, wrong), ReconciledSession)
        case Output.TABLE:
            _show(question, wanted, days, wrong, targets.place)
    if at_least is not None and any(_is_below(compared.found, at_least) for compared in found):
        return Exit.FAULT
    return Exit.OUT_OF_REACH if failures else Exit.OK


def _day(text: str, asked_at: datetime, *, over: bool) -> date:
    try:
        day = utc_day_of(text, asked_at)
    except ValueError:
        raise click.BadParameter(
            f"{harmless(text)} is no day; such are 2026-03-02 and yesterday", param_hint="DAY"
        ) from None
    if over and day >= asked_at.date():
        raise click.BadParameter(f"{day} is not over in UTC, so it has no report yet", param_hint="DAY")
    return day


def _read(name: str, text: Iterable[str], exit_code: Exit = Exit.USAGE) -> Source:
    """Return a report; raise QuestionError for what is none."""
    try:
        report = UsageReport(text)
    except ReportError as error:
        raise QuestionError(f"{harmless(name)} is no daily sessions report: {error}", exit_code) from None
    return Source(name, report, report)


def _of_one(targets: Targets, given: Source) -> tuple[Targets, Source]:
    """Return the one target that a report at hand is of, by its own words if several are asked for."""
    rows = iter(given.rows)
    first = list(islice(rows, 1))
    places = {(row.account_id, row.region) for row in first}
    own = [each for each in targets.found if (each.target_id.account_id, each.target_id.region) in places]
    found = own or targets.found
    if len(found) != 1:
        raise QuestionError(
            "the report names none of the auditor's targets: say with --account of which it is", Exit.USAGE
        )
    return replace(targets, found=tuple(found)), given._replace(rows=chain(first, rows))


def _compared(
    deployment: Deployment,
    day: date,
    given: Source | None,
    asked_at: datetime,
    progress: Callable[[str], None],
) -> Compared:
    """Return what became of the sessions of a day; raise QuestionError."""
    kept = deployment.settings.history_days
    if day < asked_at.date() - timedelta(days=kept):
        raise QuestionError(f"{day} is too long ago: HistoryDays keeps sessions for {kept} days", Exit.USAGE)
    snapshot = deployment.reader.snapshot(deployment.reader.target_alone())
    if given:
        source = given
    else:
        stored = find_report(deployment, day, asked_at)
        source = _read(stored.address, stored.lines, Exit.OUT_OF_REACH)
    view = View(
        target_id=deployment.target_id,
        day=day,
        # As often as the settings ask; an idle or slow target is swept less often.
        interval=timedelta(seconds=deployment.settings.sweep_every),
        options=deployment.options,
        audited_since=snapshot.target.first_begin if snapshot.target else None,
    )
    found = matched(_noted(source.rows, progress), _ours(deployment, snapshot, day, asked_at), view)
    figures = reconciled_day(deployment.named, source.name, source.report.broken, view, found)
    return Compared(deployment.named, figures, found)


def _noted(rows: Iterable[ReportRow], progress: Callable[[str], None]) -> Iterator[ReportRow]:
    for number, row in enumerate(rows, 1):
        if number % _PROGRESS_ROWS == 0:
            progress(f"{number} rows read")
        yield row


def _ours(deployment: Deployment, snapshot: Snapshot, day: date, asked_at: datetime) -> Iterator[Life]:
    """Return the sessions that ended on the day or on one beside it, and those that live."""
    rows = live(snapshot, asked_at, deployment.options.hole)
    yield from lives(snapshot, rows, asked_at)
    for each in (day, day - DAY, day + DAY):
        yield from deployment.reader.history(each)


def _is_below(found: Reconciled, at_least: float) -> bool:
    return 100 * found.matched < at_least * found.counted


def _show(
    question: Question, day: date, days: Sequence[ReconciledDay], wrong: Iterable[Entry], place: Place
) -> None:
    console = to_terminal()
    for figures, cell in zip(days, place_cells(days, place), strict=True):
        if place is not Place.NOTHING:
            console.print(harmless(f"{cell}:"), soft_wrap=True)
        for line in lines(figures):
            console.print(harmless(line), soft_wrap=True)
    rows = list(map(reconciled_session, islice(wrong, NAMED)))
    if rows:
        console.print()
        console.print(table(columns(rows, day, question.zone, place=place), console.width))
    more = sum(each.missed + each.extra + each.different for each in days) - len(rows)
    if more:
        console.print(Text(f"and {more} more; -o json and -o csv have all", "dim"))
