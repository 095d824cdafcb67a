"""`appstream-auditor`: the command line. Each command asks, and shows what it was answered.

What is asked for is read from the auditor's table, so that no question costs a sweep anything.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import BinaryIO, NoReturn

import botocore
import click
from rich.console import Console
from rich.text import Text

from appstream_auditor.answers import (
    DegradedScope,
    EventRow,
    FaultedFleet,
    HistoryAnswer,
    LifeRow,
    SessionRow,
    SessionsAnswer,
    StatusAnswer,
    StatusRow,
    SumRow,
    life_row,
    status_row,
)
from appstream_auditor.deployment import Deployment, sign_in
from appstream_auditor.doctor.findings import DoctorAnswer, FindingRow
from appstream_auditor.doctor.report import report as doctor_report
from appstream_auditor.doctor.runner import examine, verdict
from appstream_auditor.end import end as end_command
from appstream_auditor.errors import Exit, QuestionError, asking
from appstream_auditor.explain import answer_of, explained, shown
from appstream_auditor.history import (
    Asked,
    Grouping,
    life_columns,
    money_notes,
    past_of,
    prices_in,
    sum_columns,
    summed,
)
from appstream_auditor.parameters import (
    ABANDONED,
    STATES,
    Moment,
    Span,
    globs,
    moment_of,
    month_of,
    presences,
)
from appstream_auditor.policies import policies
from appstream_auditor.printing import (
    Output,
    counted,
    harmless,
    print_csv,
    print_json,
    table,
    to_errors,
    to_terminal,
)
from appstream_auditor.probe.calls import client_of
from appstream_auditor.probe.looking import CALLS_LIMIT, SCOPES_LIMIT, observe
from appstream_auditor.probe.observations import Stop
from appstream_auditor.probe.report import probe_answer, report
from appstream_auditor.questions import Question, asks, now, of_targets, patience
from appstream_auditor.sessions import columns as session_columns
from appstream_auditor.sessions import from_appstream, from_table, notes_of
from appstream_auditor.sessions import shown as sessions_shown
from appstream_auditor.targets import NAMED, Place, place_cells
from appstream_auditor.what_if import what_if
from session_auditor import __version__
from session_auditor.model import Globs
from session_auditor.stories import moment
from session_auditor.views import Fault, Filter, Sort, live
from session_auditor.views import status as status_of
from session_auditor.wording import zone_name

# The table is a sweep's work, which comes once a minute.
WATCH_SECONDS = 15


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Ask the session auditor who is on in AppStream, since when, and until when.

    Commands ask with your own AWS credentials. Only `end` changes anything.

    \b
    Exit codes:
      0  all is well
      1  a fault was found, or there is no such session
      2  a mistake in the command line, or no such stack or table
      3  AWS refused, is out of reach, or one of several regions was
    """


@cli.command()
@of_targets
@asks
def status(question: Question) -> Exit:
    """Sum up who is on, and whether the audit works, in one line.

    Ends with 1 when no sweep was completed within three intervals, when a stack and fleet cannot be listed,
    or when an event has waited five minutes for the event bus: a check for your monitoring. Fleets of which
    AppStream names errors are named, and do not count: the audit works.

    Of a hub it sums up all targets, and has a line for each of them; of more than 20, for those at fault.

    \b
    Examples, of two regions, and of some accounts of a hub:
      appstream-auditor status --region eu-west-1 --region us-east-1
      appstream-auditor status --account 'render-*' --account 123456789012
    """

    def ask(deployment: Deployment) -> StatusRow:
        snapshot = deployment.reader.snapshot(deployment.reader.target_alone())
        found = status_of(snapshot, live(snapshot, now(), deployment.options.hole))
        interval = deployment.interval(snapshot.target, now())
        return status_row(deployment.named, found, found.faults(now(), interval), now())

    with patience("Reading the table ..."):
        targets = question.targets()
        rows, failures = targets.each(ask)
    match question.output:
        case Output.JSON:
            print_json(StatusAnswer(as_of=now(), targets=tuple(rows), failures=tuple(failures)))
        case Output.CSV:
            print_csv(rows, StatusRow)
        case Output.TABLE:
            for line in status_lines(rows, targets.place):
                to_terminal().print(harmless(line), soft_wrap=True)
    if failures:
        return Exit.OUT_OF_REACH
    return Exit.FAULT if any(row.faults for row in rows) else Exit.OK


def status_lines(rows: Sequence[StatusRow], place: Place) -> Iterator[str]:
    """Return a line for each target, below their sum; of many targets only for those at fault."""
    if place is Place.NOTHING:
        yield from map(_line, rows)
        return
    yield _sum(rows)
    told = rows if len(rows) <= NAMED else [row for row in rows if row.faults]
    for row, cell in zip(told[:NAMED], place_cells(told, place), strict=False):
        yield f"{cell}: {_line(row)}"
    if len(told) > NAMED:
        yield f"and {len(told) - NAMED} more targets at fault; -o json and -o csv have all"


def _sum(rows: Sequence[StatusRow]) -> str:
    def of(fault: Fault) -> int:
        return sum(fault in row.faults for row in rows)

    overdue, degraded, waiting = of(Fault.NO_SWEEP), of(Fault.DEGRADED), of(Fault.EVENTS_WAIT)
    violating = sum(row.violating for row in rows)
    return (
        f"{counted(len(rows), 'target')}, {overdue} overdue, {degraded} degraded"
        f"{f', {waiting} with events that wait' if waiting else ''}: "
        f"{sum(row.live for row in rows)} live, {sum(row.connected for row in rows)} connected, "
        f"{sum(row.away for row in rows)} away, {sum(row.abandoned for row in rows)} abandoned"
        f"{f', {violating} violating' if violating else ''}"
    )


def _line(row: StatusRow) -> str:
    scopes = "scope" if len(row.degraded) == 1 else "scopes"
    names = ", ".join(map(_degraded, row.degraded[:3]))
    swept = "never swept" if row.swept_seconds_ago is None else f"swept {row.swept_seconds_ago} s ago"
    waiting = f", {row.pending_events} events wait" if row.pending_events else ""
    violating = f"{row.violating} violating, " if row.violating else ""
    return (
        f"{row.live} live, {row.connected} connected, {row.away} away, {row.abandoned} abandoned, {violating}"
        f"{len(row.degraded)} degraded {scopes}{f' ({names})' if names else ''}, {swept}{waiting}"
        f"{_fleets(row.faulted_fleets)}"
    )


def _degraded(scope: DegradedScope) -> str:
    # Without a stack, it is the whole target that cannot be read.
    where = f"{scope.stack_name}/{scope.fleet_name}" if scope.stack_name else "all"
    return f"{where}: {scope.reason}"


def _fleets(faulted: Sequence[FaultedFleet]) -> str:
    if not faulted:
        return ""
    shown = ", ".join(f"{each.fleet_name} ({each.codes})" for each in faulted[:3])
    more = f" and {len(faulted) - 3} more" if len(faulted) > 3 else ""
    fleets = counted(len(faulted), "fleet")
    return f"; no fault of the audit, but AppStream names errors of {fleets}: {shown}{more}"


def footer(answer: SessionsAnswer, zone: tzinfo | None) -> str:
    """Return how many of how many are shown, in which time zone, and what to try if there are none."""
    number = f"{len(answer.sessions)} of {counted(answer.total, 'session')}"
    name, now = zone_name(answer.as_of.astimezone(zone)), moment(answer.as_of, zone, answer.as_of)
    times = f"times in {name}, as of {now}"
    if answer.sessions or not answer.total:
        return f"{number}, {times}"
    return f"{number} match; names are matched whole, in upper and lower case, and * stands for anything"


def filters(command: Callable[..., Exit]) -> Callable[..., Exit]:
    """Give a command the filters that sessions and their history share."""
    stack = click.option("--stack", "stacks", multiple=True, help="Stack, or a glob; ! before one excludes.")
    fleet = click.option("--fleet", "fleets", multiple=True, help="Fleet, likewise.")
    user = click.option("--user", default="*", help="User id, or a glob such as 'ann*'.")
    return stack(fleet(user(command)))


@cli.command()
@filters
@click.option("--host", default="", help="Instance id, or private IP address.")
@click.option("--policy", default="", help="Who violates a policy: its name, or a glob such as '*'.")
@click.option("--state", "states", multiple=True, type=click.Choice(list(STATES)), help="Repeatable.")
@click.option("--away-longer-than", type=Span(), default="0", help="Nobody connected for longer.")
@click.option("--ends-within", type=Span(), help="Ends within, such as 2h; a bare number is minutes.")
@click.option(
    "--sort", type=click.Choice([each.value for each in Sort]), default=Sort.URGENCY.value, show_default=True
)
@click.option("--now", "ask_appstream", is_flag=True, help="Ask AppStream itself, not the table.")
@click.option("--watch", is_flag=True, help=f"Show it anew every {WATCH_SECONDS} seconds, until Ctrl-C.")
@of_targets
@asks
def sessions(
    question: Question,
    *,
    stacks: tuple[str, ...],
    fleets: tuple[str, ...],
    user: str,
    host: str,
    policy: str,
    states: tuple[str, ...],
    away_longer_than: timedelta,
    ends_within: timedelta | None,
    sort: str,
    ask_appstream: bool,
    watch: bool,
) -> Exit:
    """List who is on now, the most urgent first.

    First those whose user is away, by when they end; then the others. What a sweep found is up to a minute
    old; --now asks AppStream itself. A span of time is 90s, 15m, 2h or 7d; a bare number is minutes.

    \b
    Examples: who is on a fleet, is away, violates a policy, is on a host
      appstream-auditor sessions --fleet cad
      appstream-auditor sessions --state away --away-longer-than 15m
      appstream-auditor sessions --policy after-hours
      appstream-auditor sessions --host i-0123456789abcdef0 --now
    """
    wanted = Filter(
        stacks=globs(stacks),
        fleets=globs(fleets),
        user=user,
        host=host,
        presences=presences(states),
        abandoned=ABANDONED in states,
        policy=policy,
        away_longer_than=away_longer_than,
        ends_within=ends_within,
    )
    ask = from_appstream if ask_appstream else from_table

    def look() -> tuple[SessionsAnswer, Place, Exit]:
        with patience("Asking AppStream ..." if ask_appstream else "Reading the table ..."):
            targets = question.targets()
            found, failures = targets.each(lambda deployment: ask(deployment, wanted, now))
        as_of = now()
        answer = SessionsAnswer(
            as_of=as_of,
            total=sum(each.total for each in found),
            sessions=sessions_shown(found, Sort(sort), as_of),
            notes=tuple(notes_of(found, targets.place)),
            failures=tuple(failures),
        )
        whole = not failures and all(each.whole for each in found)
        return answer, targets.place, Exit.OK if whole else Exit.OUT_OF_REACH

    def show(answer: SessionsAnswer, place: Place, console: Console) -> None:
        columns = session_columns(answer.sessions, answer.as_of, question.zone, place=place)
        console.print(table(columns, console.width))
        console.print(footer(answer, question.zone), style="dim", soft_wrap=True)
        for note in answer.notes[:NAMED]:
            to_errors().print(Text(f"Note: {harmless(note)}", "yellow"))
        if len(answer.notes) > NAMED:
            to_errors().print(Text(f"Note: {len(answer.notes) - NAMED} more are in -o json", "yellow"))

    if watch:
        return watched(look, show)
    answer, place, code = look()
    match question.output:
        case Output.JSON:
            print_json(answer)
        case Output.CSV:
            print_csv(answer.sessions, SessionRow)
        case Output.TABLE:
            show(answer, place, to_terminal())
    return code


def watched(
    look: Callable[[], tuple[SessionsAnswer, Place, Exit]],
    show: Callable[[SessionsAnswer, Place, Console], None],
) -> Exit:
    """Show an answer anew, until somebody presses Ctrl-C."""
    console = to_terminal()
    try:
        while True:
            answer, place, _ = look()
            console.clear()
            show(answer, place, console)
            time.sleep(WATCH_SECONDS)
    except KeyboardInterrupt:
        return Exit.OK


@cli.command()
@filters
@click.option("--since", type=Moment(), default="1d", show_default=True, help="Begin of the time asked for.")
@click.option("--until", type=Moment(), help="Its end; now without it.")
@click.option("--month", help="A whole month instead, such as 2026-03.")
@click.option("--by", type=click.Choice([each.value for each in Grouping]), help="Sums instead of sessions.")
@click.option("--prices", "file", type=click.File("rb"), metavar="FILE", help="Prices: sums in money, too.")
@of_targets
@asks
def history(
    question: Question,
    *,
    stacks: tuple[str, ...],
    fleets: tuple[str, ...],
    user: str,
    since: str,
    until: str | None,
    month: str | None,
    by: str | None,
    file: BinaryIO | None,
) -> Exit:
    """List the sessions that were on in a time, or sums of them.

    Sums count the sessions that ended in that time, or still live, and the most that were on at once. Hours
    are as observed: a lower bound. With --prices, sums say what the hours with nobody connected cost, and how
    much of that was avoidable. A time is 2026-03-02, 2026-03-02T08:00, today, yesterday, or 7d for a week
    ago, in this machine's time zone; 08:00 is today's.

    \b
    Examples: a user since yesterday, hours by fleet, how many at once today
      appstream-auditor history --user ann@example.com --since yesterday
      appstream-auditor history --month 2026-03 --by fleet
      appstream-auditor history --since today --by hour
    """
    asked_at = now()
    try:
        begin = moment_of(since, asked_at, question.zone)
        end = moment_of(until, asked_at, question.zone) if until else asked_at
        if month:
            begin, end = month_of(month, question.zone)
    except ValueError:
        raise click.BadParameter(f"{month} is no month; such is 2026-03", param_hint="--month") from None
    if begin >= end:
        raise click.BadParameter("it has to be before --until", param_hint="--since")
    asked = Asked(begin, end, user, globs(stacks), globs(fleets))
    prices = prices_in(file, Grouping(by) if by else None) if file else None

    def ask(deployment: Deployment) -> tuple[list[LifeRow], list[SumRow], datetime | None]:
        found, audited_since, _ = past_of(deployment, asked, asked_at, progress)
        if by:
            grouping, zone = Grouping(by), question.zone
            sums = summed(deployment.named, found, asked, grouping, now=asked_at, zone=zone, prices=prices)
            return [], sums, audited_since
        return [life_row(deployment.named, life) for life in found], [], audited_since

    with patience("Reading the history ...") as progress:
        targets = question.targets()
        answers, failures = targets.each(ask)
    lives = tuple(row for some, _, _ in answers for row in some)
    sums = tuple(row for _, some, _ in answers for row in some)
    audited_since = max((since for _, _, since in answers if since), default=None)
    match question.output:
        case Output.JSON:
            answer = HistoryAnswer(
                since=begin,
                until=end,
                audited_since=audited_since,
                sessions=lives,
                sums=sums,
                failures=tuple(failures),
                notes=money_notes(sums),
            )
            print_json(answer)
        case Output.CSV:
            print_csv(sums, SumRow) if by else print_csv(lives, LifeRow)
            for note in money_notes(sums):
                to_errors().print(f"Note: {harmless(note)}")
        case Output.TABLE:
            columns = (
                sum_columns(sums, Grouping(by), asked_at, question.zone, place=targets.place)
                if by
                else life_columns(lives, asked_at, question.zone, place=targets.place)
            )
            console = to_terminal()
            console.print(table(columns, console.width))
            if not by:
                to_terminal().print(counted(len(lives), "session"), style="dim")
            for note in money_notes(sums):
                console.print(harmless(note), style="dim")
            if audited_since and begin < audited_since:
                at = moment(audited_since, question.zone, asked_at)
                began = (
                    "the audit began" if len(targets.found) == 1 else "the audit of the newest target began"
                )
                words = f"Note: {began} at {at}; of before, it knows only who was still on then."
                to_errors().print(Text(words, "yellow"))
    return Exit.OUT_OF_REACH if failures else Exit.OK


@cli.command()
@click.argument("session")
@of_targets
@asks
def explain(question: Question, *, session: str) -> Exit:
    """Tell the life of a session, live or ended, and what will happen next.

    SESSION is its id, or the beginning of it. An ended session is looked for day by day, from today back, so
    an old one takes a while; of a hub, --account makes that shorter.
    """
    with patience("Looking for the session ...") as progress:
        targets, asked_at = question.targets(), now()
        target, told = explained(targets.found, session, asked_at, progress)
    answer = answer_of(target, told, asked_at)
    match question.output:
        case Output.JSON:
            print_json(answer)
        case Output.CSV:
            print_csv(answer.timeline, EventRow)
        case Output.TABLE:
            if targets.place is not Place.NOTHING:
                to_terminal().print(harmless(target.words), soft_wrap=True)
            for line in shown(told, asked_at, question.zone):
                to_terminal().print(line, soft_wrap=True)
    return Exit.OK


@cli.command("probe")
@click.option("--profile", help="AWS profile to ask with.")
@click.option("--region", envvar="AWS_REGION", help="AWS region of the AppStream stacks.")
@click.option("--stack", default="*", show_default=True, help="AppStream stacks to look at, as a glob.")
@click.option(
    "--scopes",
    type=click.IntRange(1, 1000),
    default=SCOPES_LIMIT,
    show_default=True,
    help="At most so many pairs of stack and fleet; those in use go first.",
)
@click.option(
    "--calls",
    type=click.IntRange(1, 10_000),
    default=CALLS_LIMIT,
    show_default=True,
    help="At most so many calls.",
)
@click.option(
    "-o",
    "--output",
    type=click.Choice([Output.TABLE.value, Output.JSON.value]),
    default=Output.TABLE.value,
    show_default=True,
    help="Form of the report.",
)
def probe_command(
    *, profile: str | None, region: str | None, stack: str, scopes: int, calls: int, output: str
) -> NoReturn:
    """Find out how AppStream behaves where its documentation is silent.

    Needs no deployed auditor, and makes calls that only read, one after the other. The report holds counts
    and no name, id, account or region, so that it can be posted. Ends with 3 when AWS refused a part of it,
    or throttled it.
    """
    try:
        aws = sign_in(profile, region)
        with asking("appstream"):
            partition = aws.get_partition_for_region(aws.region_name)
            client = client_of(aws)
        seen = observe(client, Globs((stack,)), scopes, calls, time.monotonic)
    except QuestionError as problem:
        to_errors().print(f"Error: {problem}")
        sys.exit(problem.exit_code)
    answer = probe_answer(seen, partition=partition, botocore_version=botocore.__version__, day=now().date())
    match Output(output):
        case Output.JSON:
            print_json(answer)
        case _:
            to_terminal().print(report(answer), soft_wrap=True)
    whole = seen.stop in (Stop.DONE, Stop.CALLS_USED_UP) and not seen.problems
    sys.exit(Exit.OK if whole else Exit.OUT_OF_REACH)


@cli.command()
@asks
def doctor(question: Question) -> Exit:
    """Check whether the auditor works, and say of each fault what to do.

    Of a hub the dispatcher is checked, too, and every target, as far as the table tells.

    Ends with 1 if there is a fault. What your credentials may not check is unknown, which is no fault. Ends
    with 3 if there is no fault, but AWS did not answer for another reason.
    """
    with to_errors().status("Examining the auditor ..."):
        examined, failures = question.everywhere(lambda deployment: list(examine(deployment, now())))
    rows = [row for found in examined for row in found]
    match question.output:
        case Output.JSON:
            print_json(DoctorAnswer(as_of=now(), findings=tuple(rows), failures=tuple(failures)))
        case Output.CSV:
            print_csv(rows, FindingRow)
        case Output.TABLE:
            console = to_terminal()
            for line in doctor_report(rows, console.width, regions=len(question.regions) > 1):
                console.print(line, soft_wrap=True)
    code = verdict(rows)
    return Exit.OUT_OF_REACH if failures and code is Exit.OK else code


cli.add_command(end_command)
cli.add_command(policies)
cli.add_command(what_if)
