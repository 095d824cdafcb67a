"""`appstream-auditor`: the command line. Each command asks, and shows what it was answered.

It is the only place with a clock. What is asked for is read from the auditor's table, so that no question
costs a sweep anything.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import wraps
from typing import Any, NoReturn, TypeVar

import click
from rich.text import Text

from appstream_auditor.answers import (
    DoctorAnswer,
    Failure,
    FindingRow,
    Level,
    StatusAnswer,
    StatusRow,
    status_row,
)
from appstream_auditor.deployment import DEFAULT_STACK, Deployment, find
from appstream_auditor.doctor import examine, verdict
from appstream_auditor.errors import Exit, QuestionError, reading
from appstream_auditor.printing import (
    Output,
    harmless,
    print_csv,
    print_json,
    to_errors,
    to_terminal,
    zone_of,
)
from session_auditor import __version__
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


_STYLES = {Level.OK: "green", Level.FAULT: "bold red", Level.UNKNOWN: "yellow"}


@cli.command()
@asks
def doctor(question: Question) -> Exit:
    """Examine the deployment, and say of each fault what it is and what to do.

    Ends with 1 when a fault is found. What your credentials may not ask is unknown, which is no fault;
    whatever else AWS does not answer ends with 3, unless a fault is found.
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
            for row in rows:
                place = f"{row.region}  " if len(question.regions) > 1 else ""
                to_terminal().print(Text(place).append(_finding(row)), soft_wrap=True)
            number = {level: sum(row.level is level for row in rows) for level in Level}
            faults = "1 fault" if number[Level.FAULT] == 1 else f"{number[Level.FAULT]} faults"
            to_terminal().print(f"{faults}, {number[Level.UNKNOWN]} unknown, {number[Level.OK]} in order")
    code = verdict(rows)
    return Exit.OUT_OF_REACH if failures and code is Exit.OK else code


def _finding(row: FindingRow) -> Text:
    name = f"{row.channel} {row.check}".strip().replace("_", " ").lower()
    remedy = f" -> {row.remedy}" if row.remedy else ""
    return Text.assemble(
        (f"{row.level.lower():8}", _STYLES[row.level]), harmless(f"{name:24} {row.sentence}{remedy}")
    )
