"""What the command answers with `-o json`: models whose schemas are published in docs/schemas/command.

Plain data, made from `views`. Fields may be added; none is renamed, removed or given another meaning. A text
that is not known is empty, a time that is not known is null.
"""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, PlainSerializer, WithJsonSchema
from pydantic.alias_generators import to_camel

from appstream_auditor.findings import Question, Verdict, findings
from appstream_auditor.observations import Observations, Operation, Stop
from session_auditor import __version__
from session_auditor.contract import timestamp
from session_auditor.model import Presence, TargetId
from session_auditor.views import Fault, Status

Time = Annotated[
    datetime,
    PlainSerializer(timestamp, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


class Answer(BaseModel):
    """A part of an answer."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)


class Failure(Answer):
    """A region that could not be asked, and why."""

    region: str
    reason: str


class DegradedScope(Answer):
    """A stack and fleet that cannot be listed whole; both names are empty for a whole target."""

    stack_name: str
    fleet_name: str
    reason: str
    since: Time


class StatusRow(Answer):
    """One target at a glance; times in seconds."""

    account_id: str
    region: str
    live: int
    connected: int
    away: int
    abandoned: int
    degraded: tuple[DegradedScope, ...]
    swept_at: Time | None
    swept_seconds_ago: int | None
    pending_events: int
    oldest_pending_seconds: int
    faults: tuple[Fault, ...]


class StatusAnswer(Answer):
    """The answer of `status`."""

    as_of: Time
    targets: tuple[StatusRow, ...]
    failures: tuple[Failure, ...]


class Evidence(Answer):
    """A count that a finding rests on."""

    what: str
    count: int


class ProbeFinding(Answer):
    """An answer to one question; where it is OPEN, `needs` says what would answer it."""

    question: Question
    text: str
    verdict: Verdict
    sentence: str
    needs: str
    evidence: tuple[Evidence, ...]


class ProbeProblem(Answer):
    """Calls that failed, by their error code."""

    operation: Operation
    code: str
    times: int


class ProbeAnswer(Answer):
    """The answer of `probe`. It names no account, region, stack, fleet, user, session or instance."""

    day: date
    version: str
    botocore_version: str
    partition: str
    stop: Stop
    calls: int
    calls_limit: int
    stacks: int
    stacks_asked: int
    scopes: int
    scopes_asked: int
    scopes_with_sessions: int
    sessions: int
    problems: tuple[ProbeProblem, ...]
    findings: tuple[ProbeFinding, ...]


def probe_answer(seen: Observations, *, partition: str, botocore_version: str, day: date) -> ProbeAnswer:
    """Return what a probe found."""
    return ProbeAnswer(
        day=day,
        version=__version__,
        botocore_version=botocore_version,
        partition=partition,
        stop=seen.stop,
        calls=seen.calls.made,
        calls_limit=seen.calls.limit,
        stacks=seen.looked.stacks,
        stacks_asked=seen.looked.stacks_asked,
        scopes=seen.looked.scopes,
        scopes_asked=seen.looked.scopes_asked,
        scopes_with_sessions=seen.looked.scopes_with_sessions,
        sessions=seen.looked.sessions,
        problems=tuple(
            ProbeProblem(operation=operation, code=code, times=times)
            for (operation, code), times in sorted(seen.problems.items())
        ),
        findings=tuple(
            ProbeFinding(
                question=each.question,
                text=each.text,
                verdict=each.judged.verdict,
                sentence=each.judged.sentence,
                needs=each.judged.needs,
                evidence=tuple(
                    Evidence(what=what, count=count) for what, count in each.judged.evidence.items()
                ),
            )
            for each in findings(seen)
        ),
    )


def status_row(target_id: TargetId, status: Status, faults: Sequence[Fault], now: datetime) -> StatusRow:
    """Return a target at a glance."""
    return StatusRow(
        account_id=target_id.account_id,
        region=target_id.region,
        live=status.live,
        connected=status.totals[Presence.CONNECTED],
        away=status.away,
        abandoned=status.abandoned,
        degraded=tuple(
            DegradedScope(
                stack_name=gap.scope.stack, fleet_name=gap.scope.fleet, reason=gap.reason, since=gap.since
            )
            for gap in status.degraded
        ),
        swept_at=status.swept,
        swept_seconds_ago=_seconds(status.swept, now),
        pending_events=status.pending,
        oldest_pending_seconds=_seconds(status.waiting, now) or 0,
        faults=tuple(faults),
    )


def _seconds(since: datetime | None, now: datetime) -> int | None:
    return None if since is None else max(0, int((now - since).total_seconds()))
