"""A probe's answer: as JSON, and as text for a terminal of 80 columns or for a block of code in an issue."""

from datetime import date
from textwrap import fill
from typing import assert_never

from appstream_auditor.answers import Answer
from appstream_auditor.probe.findings import Question, Verdict, findings
from appstream_auditor.probe.observations import Observations, Operation, Stop
from session_auditor import __version__

WIDTH = 79
INDENT = "    "


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


def report(answer: ProbeAnswer) -> str:
    """Return the report as text."""
    looked = (
        f"Asked: {answer.stacks_asked} of {answer.stacks} stacks, {answer.scopes_asked} of {answer.scopes} "
        f"pairs of stack and fleet; {answer.scopes_with_sessions} of these have sessions, {answer.sessions} "
        "in all. "
        f"{answer.calls} calls of at most {answer.calls_limit}. {_ending(answer.stop)}"
    )
    made = (
        f"appstream-auditor {answer.version} probe, {answer.day}, partition {answer.partition}, "
        f"botocore {answer.botocore_version}"
    )
    head = [
        made,
        looked,
        "Counts only: no name, no id, no account, no region.",
    ]
    failed = [f"{each.operation} failed with {each.code}: {each.times}" for each in answer.problems]
    chapters = [_chapter(number, each) for number, each in enumerate(answer.findings, 1)]
    return "\n\n".join(["\n".join(_wrapped(each.strip()) for each in [*head, *failed]), *chapters])


def _chapter(number: int, finding: ProbeFinding) -> str:
    lines = [f"{number}. {finding.text}", _wrapped(f"{finding.verdict}. {finding.sentence}", INDENT)]
    counts = "; ".join(f"{each.what}: {each.count}" for each in finding.evidence if each.count)
    if counts:
        lines.append(_wrapped(counts, INDENT))
    if finding.verdict is Verdict.OPEN:
        lines.append(_wrapped(f"To answer it, {finding.needs}.", INDENT))
    return "\n".join(lines)


def _wrapped(text: str, indent: str = "") -> str:
    return fill(text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


def _ending(stop: Stop) -> str:
    match stop:
        case Stop.DONE:
            return ""
        case Stop.THROTTLED:
            return "It ended early: AWS throttled it."
        case Stop.CALLS_USED_UP:
            return "It ended early: its calls were used up (--calls)."
        case Stop.CREDENTIALS:
            return "It ended early: the credentials have expired."
        case Stop.OUT_OF_REACH:
            return "It ended early: AWS could not be reached."
        case _:
            assert_never(stop)
