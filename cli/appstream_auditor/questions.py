"""What the commands share: the options that say where a question goes and in which form, and the exit code.

It is the only place with a clock.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import wraps
from typing import Any, NoReturn, TypeVar

import click

from appstream_auditor.answers import Failure
from appstream_auditor.deployment import DEFAULT_STACK, Deployment, find
from appstream_auditor.errors import Exit, QuestionError, reading
from appstream_auditor.printing import Output, to_errors, zone_of
from appstream_auditor.targets import Targets, of_accounts

# As a shell says of a program that was interrupted.
INTERRUPTED = 130

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
    accounts: tuple[str, ...] = ()

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
                failures.append(
                    Failure(account_id="", region=region or "", account_name="", reason=str(problem))
                )
        return answers, failures

    def targets(self) -> Targets:
        """Return the targets of each region's deployment that are asked for; raise QuestionError."""
        deployments, failures = self.everywhere(_targets_of)
        found = of_accounts((target for targets in deployments for target in targets), self.accounts)
        if deployments and not found:
            raise QuestionError(
                f"no account matches --account {' '.join(self.accounts)}; `appstream-auditor status` lists "
                "them, and names are matched whole, in upper and lower case",
                Exit.USAGE,
            )
        return Targets(found, tuple(failures), len(self.regions))

    def one(self) -> Deployment:
        """Return the one deployment that is asked; raise QuestionError."""
        if len(self.regions) > 1:
            raise QuestionError("this command asks one region at a time", Exit.USAGE)
        return find(self.profile, self.regions[0] if self.regions else None, self.stack_name, self.table_name)


def _targets_of(deployment: Deployment) -> tuple[Deployment, ...]:
    targets = deployment.targets()
    if not targets:
        raise QuestionError(
            "no account is known yet below the units and roots of Targets: they are listed within minutes of "
            "a deployment, and `appstream-auditor doctor` tells what keeps the auditor from it",
            Exit.FAULT,
        )
    return targets


def of_targets(command: Callable[..., Exit]) -> Callable[..., Exit]:
    """Give a command that asks of targets the option that names some of them."""
    return click.option(
        "--account",
        "accounts",
        multiple=True,
        help="Of a hub: account by number or name, or a glob; repeatable.",
    )(command)


def asks(command: Callable[..., Exit]) -> Callable[..., NoReturn]:
    """Give a command the options that all share, its Question as the first argument, and its exit code."""

    @click.option("--profile", help="AWS profile to ask with.")
    @click.option(
        "--region",
        "regions",
        multiple=True,
        envvar="AWS_REGION",
        help="AWS region of the auditor; repeatable.",
    )
    @click.option(
        "--stack-name",
        default=DEFAULT_STACK,
        show_default=True,
        envvar="APPSTREAM_AUDITOR_STACK",
        help="CloudFormation stack of the auditor.",
    )
    @click.option("--table", "table_name", help="Its DynamoDB table, instead of the stack.")
    @click.option(
        "-o",
        "--output",
        type=click.Choice([each.value for each in Output]),
        default=Output.TABLE.value,
        show_default=True,
        help="Form of the answer.",
    )
    @click.option("--utc", is_flag=True, help="Show times in UTC, not in your zone.")
    @wraps(command)
    def asked(
        *,
        profile: str | None,
        regions: tuple[str, ...],
        stack_name: str,
        table_name: str | None,
        output: str,
        utc: bool,
        accounts: tuple[str, ...] = (),
        **options: Any,
    ) -> NoReturn:
        zone = zone_of(utc=utc)
        question = Question(profile, regions, stack_name, table_name, Output(output), zone, accounts)
        try:
            with reading():
                code = command(question, **options)
            # A reader that is gone, such as head, is noticed here, where Click ends quietly.
            sys.stdout.flush()
        except QuestionError as problem:
            to_errors().print(f"Error: {problem}")
            code = problem.exit_code
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        sys.exit(code)

    return asked


def now() -> datetime:
    """Return the time, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


@contextmanager
def patience(words: str) -> Iterator[Callable[[str], None]]:
    """Say what takes so long, on a terminal; give a function that says how far it is."""
    with to_errors().status(words) as status:
        yield lambda more: status.update(f"{words} {more}")
