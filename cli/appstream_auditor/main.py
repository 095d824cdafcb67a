"""`appstream-auditor`: the command line. Each command asks, and shows what it was answered.

It is the only place with a clock. What is asked for is read from the auditor's table, so that no question
costs a sweep anything.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import wraps
from typing import Any, NoReturn, TypeVar

import botocore
import click

from appstream_auditor.answers import Failure, StatusAnswer, StatusRow, probe_answer, status_row
from appstream_auditor.deployment import DEFAULT_STACK, Deployment, find, sign_in
from appstream_auditor.errors import Exit, QuestionError, asking, reading
from appstream_auditor.observations import Stop
from appstream_auditor.printing import (
    Output,
    print_csv,
    print_json,
    to_errors,
    to_terminal,
    zone_of,
)
from appstream_auditor.probe import CALLS_LIMIT, SCOPES_LIMIT, client_of, observe
from appstream_auditor.report import report
from session_auditor import __version__
from session_auditor.model import Globs
from session_auditor.views import status as status_of

T = TypeVar("T")


@dataclass(frozen=True)
class Question:
    """Where a question goes, and in which form its answer is shown."""

    profile: str | None
    regions: tuple[str, ...]
    stack_name: str
    table_name: str | None
    output: Output
    zone: tzinfo | None

    def everywhere(self, ask: Callable[[Deployment], T]) -> tuple[list[T], list[Failure]]:
        """Ask in each region; a region that fails is said, and does not hide the others.

        Raises QuestionError where only one was to be asked.
        """
        answers, failures = [], []
        for region in self.regions or (None,):
            try:
                with reading():
                    answers.append(ask(find(self.profile, region, self.stack_name, self.table_name)))
            except QuestionError as problem:
                if len(self.regions) < 2:
                    raise
                to_errors().print(f"{region}: {problem}")
                failures.append(Failure(region=region or "", reason=str(problem)))
        return answers, failures

    def one(self) -> Deployment:
        """Return the one deployment that is asked; raise QuestionError."""
        if len(self.regions) > 1:
            raise QuestionError("this command asks one region at a time", Exit.USAGE)
        return find(self.profile, self.regions[0] if self.regions else None, self.stack_name, self.table_name)


def asks(command: Callable[..., Exit]) -> Callable[..., NoReturn]:
    """Give a command the options that all share, its Question as the first argument, and its exit code."""

    @click.option("--profile", help="AWS profile to ask with.")
    @click.option(
        "--region",
        "regions",
        multiple=True,
        envvar="AWS_REGION",
        help="AWS region of the auditor; may be repeated.",
    )
    @click.option(
        "--stack-name",
        default=DEFAULT_STACK,
        show_default=True,
        envvar="APPSTREAM_AUDITOR_STACK",
        help="CloudFormation stack of the auditor.",
    )
    @click.option("--table", "table_name", help="Its DynamoDB table, where the stack cannot be described.")
    @click.option(
        "-o",
        "--output",
        type=click.Choice([each.value for each in Output]),
        default=Output.TABLE.value,
        show_default=True,
        help="Form of the answer.",
    )
    @click.option("--utc", is_flag=True, help="Show times in UTC, not in this machine's zone.")
    @wraps(command)
    def asked(
        *,
        profile: str | None,
        regions: tuple[str, ...],
        stack_name: str,
        table_name: str | None,
        output: str,
        utc: bool,
        **options: Any,
    ) -> NoReturn:
        question = Question(profile, regions, stack_name, table_name, Output(output), zone_of(utc=utc))
        try:
            with reading():
                code = command(question, **options)
        except QuestionError as problem:
            to_errors().print(f"Error: {problem}")
            code = problem.exit_code
        sys.exit(code)

    return asked


def now() -> datetime:
    """Return the time, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Ask the session auditor who is on, since when, and until when.

    Exit codes: 0; 1 a fault was found, or there is no such session; 2 usage, or no such stack or table; 3 AWS
    refused or is out of reach, or one of several regions was.
    """


@cli.command()
@asks
def status(question: Question) -> Exit:
    """Sum up who is on, and whether the audit works, in one line.

    Ends with 1 when no sweep was completed within three intervals, when a stack and fleet cannot be listed,
    or when an event has waited five minutes for the event bus.
    """

    def ask(deployment: Deployment) -> StatusRow:
        snapshot = deployment.reader.snapshot(deployment.reader.target_alone())
        found = status_of(snapshot, now(), deployment.policy.hole)
        return status_row(deployment.target_id, found, found.faults(now(), deployment.interval), now())

    rows, failures = question.everywhere(ask)
    match question.output:
        case Output.JSON:
            print_json(StatusAnswer(as_of=now(), targets=tuple(rows), failures=tuple(failures)))
        case Output.CSV:
            print_csv(rows, StatusRow)
        case Output.TABLE:
            for row in rows:
                place = f"{row.region}: " if len(question.regions) > 1 else ""
                to_terminal().print(place + _line(row), soft_wrap=True)
    if failures:
        return Exit.OUT_OF_REACH
    return Exit.FAULT if any(row.faults for row in rows) else Exit.OK


def _line(row: StatusRow) -> str:
    scopes = "scope" if len(row.degraded) == 1 else "scopes"
    names = ", ".join(f"{each.stack_name}/{each.fleet_name}" for each in row.degraded[:3])
    swept = "never swept" if row.swept_seconds_ago is None else f"swept {row.swept_seconds_ago} s ago"
    waiting = f", {row.pending_events} events wait" if row.pending_events else ""
    return (
        f"{row.live} live, {row.connected} connected, {row.away} away, {row.abandoned} abandoned, "
        f"{len(row.degraded)} degraded {scopes}{f' ({names})' if names else ''}, {swept}{waiting}"
    )


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
