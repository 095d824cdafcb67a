"""A probe's answer: as JSON, and as text for a terminal of 80 columns or for a block of code in an issue."""

from datetime import date
from textwrap import fill

from appstream_auditor.answers import Answer
from appstream_auditor.probe.findings import QUESTIONS, Question, Verdict, findings
from appstream_auditor.probe.observations import Observations, Operation, Stop
from session_auditor import __version__

WIDTH = 79
INDENT = "    "
_ENDINGS = {
    Stop.DONE: [],
    Stop.THROTTLED: ["It ended early, because AWS throttled it. Try again later."],
    Stop.CALLS_USED_UP: ["It ended early, because its calls were used up. Allow more with --calls."],
    Stop.CREDENTIALS: ["It ended early, because the credentials have expired. Log in and try again."],
    Stop.OUT_OF_REACH: ["It ended early, because AWS could not be reached. Try again."],
}


class Evidence(Answer):
    """A count that a finding rests on."""

    what: str
    count: int


class ProbeFinding(Answer):
    """An answer to one question. `needs` says what would answer it if it is OPEN."""

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
        calls=seen.calls,
        calls_limit=seen.calls_limit,
        stacks=seen.stacks,
        stacks_asked=seen.stacks_asked,
        scopes=seen.scopes,
        scopes_asked=seen.scopes_asked,
        scopes_with_sessions=seen.scopes_with_sessions,
        sessions=seen.sessions,
        problems=tuple(
            ProbeProblem(operation=operation, code=code, times=times)
            for (operation, code), times in sorted(seen.problems.items())
        ),
        findings=tuple(
            ProbeFinding(
                question=question,
                text=QUESTIONS[question].text,
                verdict=judged.verdict,
                sentence=judged.sentence,
                needs=judged.needs,
                evidence=tuple(Evidence(what=what, count=count) for what, count in judged.evidence.items()),
            )
            for question, judged in findings(seen).items()
        ),
    )


def report(answer: ProbeAnswer) -> str:
    """Return the report as text."""
    made = (
        f"appstream-auditor {answer.version} probe, {answer.day}, partition {answer.partition}, "
        f"botocore {answer.botocore_version}"
    )
    asked = (
        f"Asked {answer.stacks_asked} of {answer.stacks} stacks and {answer.scopes_asked} of {answer.scopes} "
        f"pairs of stack and fleet, with {answer.calls} of at most {answer.calls_limit} calls. Sessions: "
        f"{answer.sessions}, in {answer.scopes_with_sessions} of these pairs."
    )
    head = [
        made,
        asked,
        *_ENDINGS[answer.stop],
        *(f"{each.operation} failed with {each.code}: {each.times}" for each in answer.problems),
        "Counts only: no name, no id, no account, no region.",
    ]
    chapters = [_chapter(number, each) for number, each in enumerate(answer.findings, 1)]
    return "\n\n".join(["\n".join(map(_wrapped, head)), *chapters])


def _chapter(number: int, finding: ProbeFinding) -> str:
    lines = [f"{number}. {finding.text}", _wrapped(f"{finding.verdict}. {finding.sentence}", INDENT)]
    if counts := "; ".join(f"{each.what}: {each.count}" for each in finding.evidence if each.count):
        lines.append(_wrapped(counts, INDENT))
    if finding.verdict is Verdict.OPEN:
        lines.append(_wrapped(f"To answer it, {finding.needs}.", INDENT))
    return "\n".join(lines)


def _wrapped(text: str, indent: str = "") -> str:
    return fill(text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
