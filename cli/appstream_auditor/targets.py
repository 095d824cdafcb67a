"""The targets that a question is asked of: accounts and regions of a hub, or of several deployments.

Each is asked on its own, so that one that fails does not hide the others.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TypeVar

from appstream_auditor.answers import Failure, Named, OfTarget
from appstream_auditor.deployment import Deployment
from appstream_auditor.errors import QuestionError, reading
from appstream_auditor.printing import Column, harmless, to_errors

# Targets that are asked at the same time.
WORKERS = 8
# Of many targets so many are named.
NAMED = 20

T = TypeVar("T")


class Place(StrEnum):
    """What a table says of the target of a row: nothing if there is but one."""

    NOTHING = ""
    REGION = "REGION"
    TARGET = "TARGET"


@dataclass(frozen=True)
class Targets:
    """The targets that are asked, each as its deployment; `regions` counts those that were asked for.

    `failures` are of deployments that could not be asked which targets they have.
    """

    found: tuple[Deployment, ...]
    failures: tuple[Failure, ...]
    regions: int

    @property
    def place(self) -> Place:
        """What a table has to say of the target of a row."""
        if len({each.target_id.account_id for each in self.found}) > 1:
            return Place.TARGET
        return Place.REGION if len(self.found) > 1 or self.regions > 1 else Place.NOTHING

    def each(self, ask: Callable[[Deployment], T]) -> tuple[list[T], list[Failure]]:
        """Ask each target; one that fails is said, and does not hide the others.

        Raises QuestionError where only one was to be asked, or each fails.
        """

        def asked(target: Deployment) -> T | QuestionError:
            try:
                with reading():
                    return ask(target)
            except QuestionError as problem:
                return problem

        answers: list[T] = []
        problems: list[tuple[Named, QuestionError]] = []
        with ThreadPoolExecutor(WORKERS) as pool:
            for target, answer in zip(self.found, pool.map(asked, self.found), strict=True):
                if isinstance(answer, QuestionError):
                    problems.append((target.named, answer))
                else:
                    answers.append(answer)
        if problems and not answers and not self.failures:
            raise problems[0][1]
        for named, problem in problems[:NAMED]:
            to_errors().print(f"{harmless(named.words)}: {problem}")
        if len(problems) > NAMED:
            to_errors().print(f"and {len(problems) - NAMED} more targets could not be asked")
        return answers, [*self.failures, *(failure(named, problem) for named, problem in problems)]


def failure(named: Named, problem: QuestionError) -> Failure:
    """Return why a target could not be asked."""
    return Failure(
        account_id=named.id.account_id,
        region=named.id.region,
        account_name=named.account_name,
        reason=str(problem),
    )


def of_accounts(targets: Iterable[Deployment], accounts: Sequence[str]) -> tuple[Deployment, ...]:
    """Return the targets of accounts with such an id or name, which may be globs; all without any."""

    def wanted(named: Named) -> bool:
        return any(
            fnmatchcase(text, glob) for glob in accounts for text in (named.id.account_id, named.account_name)
        )

    return tuple(target for target in targets if not accounts or wanted(target.named))


def place_cells(rows: Sequence[OfTarget], place: Place) -> list[str]:
    """Return which target each row is of, as far as that has to be said."""
    if place is Place.TARGET:
        return [f"{row.account_name or row.account_id} {row.region}" for row in rows]
    return [row.region for row in rows]


def place_columns(rows: Sequence[OfTarget], place: Place) -> list[Column]:
    """Return the column that says of which target a row is, if there has to be one."""
    if place is Place.NOTHING:
        return []
    return [Column(place.value, place_cells(rows, place), rank=1, elastic=place is Place.TARGET)]
