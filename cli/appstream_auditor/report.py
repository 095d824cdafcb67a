"""How a probe's answer reads in a terminal of 80 columns, or in a block of code of an issue."""

from textwrap import fill
from typing import assert_never

from appstream_auditor.answers import ProbeAnswer, ProbeFinding
from appstream_auditor.findings import Verdict
from appstream_auditor.observations import Stop

WIDTH = 79
INDENT = "    "


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
