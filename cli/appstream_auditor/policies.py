"""`policies`: whether a document of policies is good, and what it would tell of, before it is in force.

`validate` asks nobody. `preview` asks the deployed function, which knows its settings, and shows its answer:
who violates what is decided there.
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO, NoReturn

import click
from botocore.exceptions import ClientError
from pydantic import ValidationError
from rich.console import RenderableType
from rich.text import Text

from appstream_auditor.answers import (
    PolicyRow,
    PreviewAnswer,
    PreviewRow,
    UnlistedScope,
    ValidateAnswer,
    policy_row,
    preview_row,
)
from appstream_auditor.deployment import Deployment
from appstream_auditor.errors import Exit, QuestionError, as_question_error, asking, is_denied
from appstream_auditor.printing import (
    Column,
    Output,
    counted,
    harmless,
    print_csv,
    print_json,
    table,
    to_errors,
    to_terminal,
)
from appstream_auditor.questions import Question, asks, now, patience
from session_auditor.aws_errors import error_code
from session_auditor.errors import PoliciesError
from session_auditor.model import PolicyKind
from session_auditor.policies import DOCUMENT_BYTES, read_document
from session_auditor.preview import ANSWER

# What is read of a file; the function takes a little more in one invocation, and a document is far smaller.
_FILE_BYTES = 1_000_000
# What an invocation takes beside the sweep: a cold start, and the way there and back.
_INVOKING_SECONDS = 20
_ERROR_TYPE_LENGTH = 64


@click.group("policies")
def policies() -> None:
    """Check a document of policies before it is in force.

    Such a document lies in the SSM parameter that the auditor's setting PoliciesParameter names. FILE
    is one, or - for standard input.
    """


@policies.command()
@click.argument("file", type=click.File("rb"))
@click.option(
    "-o",
    "--output",
    type=click.Choice([each.value for each in Output]),
    default=Output.TABLE.value,
    show_default=True,
    help="Form of the answer.",
)
def validate(*, file: BinaryIO, output: str) -> NoReturn:
    """Say whether a document is good, or what is wrong in it and where.

    Asks nobody, so it needs no credentials, and does not know what TagKeys and UserIdMode the auditor has:
    `policies preview` does. Ends with 1 if the document is wrong.

    \b
    Example, as a check before a document is stored:
      appstream-auditor policies validate policies.json
    """
    try:
        answer = validated(file)
    except QuestionError as problem:
        to_errors().print(f"Error: {problem}")
        sys.exit(problem.exit_code)
    match Output(output):
        case Output.JSON:
            print_json(answer)
        case Output.CSV:
            print_csv(answer.policies, PolicyRow)
        case Output.TABLE if not answer.error:
            console = to_terminal()
            console.print(table(policy_columns(answer.policies), console.width))
            number = "1 policy" if len(answer.policies) == 1 else f"{len(answer.policies)} policies"
            pairs = counted(answer.pairs, "pair")
            console.print(f"{number}, {pairs} of policy and threshold", style="dim", soft_wrap=True)
    sys.stdout.flush()
    sys.exit(_verdict(answer.error))


@policies.command()
@click.argument("file", type=click.File("rb"))
@asks
def preview(question: Question, *, file: BinaryIO) -> Exit:
    """Show what a document would tell of now, and write nothing.

    The auditor's function lists all sessions, as a sweep does, and answers which violations would begin and
    which would be over; of each policy it names 20 sessions. Nothing is stored, and nobody is told.

    This needs lambda:InvokeFunction on the auditor's function. The managed policy in the output
    ReaderPolicyArn does not give it on purpose: who may invoke the function may also start sweeps and put
    events on the bus again.

    Ends with 1 if the document is wrong, and with 3 if AWS refused, the function failed, or a stack and fleet
    could not be listed.
    """
    try:
        text = _text(file)
        with patience("Asking the auditor's function ..."):
            deployment = question.one()
            answer = previewed(deployment, text)
    except PoliciesError as error:
        answer = PreviewAnswer(
            as_of=now(), sessions=0, scopes_failed=0, unlisted=(), policies=(), error=str(error)
        )
    match question.output:
        case Output.JSON:
            print_json(answer)
        case Output.CSV:
            print_csv(answer.policies, PreviewRow)
        case Output.TABLE if not answer.error:
            console = to_terminal()
            for part in preview_shown(answer, console.width):
                console.print(part, soft_wrap=isinstance(part, Text))
    for note in _notes(answer):
        to_errors().print(Text(f"Note: {harmless(note)}", "yellow"))
    code = _verdict(answer.error)
    return Exit.OUT_OF_REACH if answer.scopes_failed and code is Exit.OK else code


def _notes(answer: PreviewAnswer) -> Iterator[str]:
    """Say what could not be listed, so that its sessions are in no count."""
    for each in answer.unlisted:
        yield f"stack {each.stack_name}, fleet {each.fleet_name} could not be listed: {each.reason}"
    if more := answer.scopes_failed - len(answer.unlisted):
        yield f"{more} more could not be listed"


def _verdict(error: str) -> Exit:
    if not error:
        return Exit.OK
    to_errors().print(f"Error: {harmless(error)}")
    return Exit.FAULT


def validated(file: BinaryIO) -> ValidateAnswer:
    """Return the policies of a document, or what is wrong in it; raise QuestionError if it cannot be read."""
    try:
        document = read_document(_text(file))
    except PoliciesError as error:
        return ValidateAnswer(policies=(), pairs=0, error=str(error))
    rows = tuple(policy_row(policy) for policy in document.policies.values())
    return ValidateAnswer(policies=rows, pairs=sum(row.pairs for row in rows), error="")


def _text(file: BinaryIO) -> str:
    """Return what is in a file; raise PoliciesError if it is no text, QuestionError if it cannot be read."""
    try:
        content = file.read(_FILE_BYTES + 1)
    except OSError as error:
        raise QuestionError(f"FILE cannot be read ({error.strerror})", Exit.USAGE) from None
    if len(content) > _FILE_BYTES:
        raise PoliciesError(
            f"document: has more than {_FILE_BYTES} bytes; at most {DOCUMENT_BYTES} fit, so leave out what is"
            " not needed"
        )
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise PoliciesError(f"document: no UTF-8 at byte {error.start + 1}; save it as UTF-8") from None


def previewed(deployment: Deployment, text: str) -> PreviewAnswer:
    """Return what the function answers of a document; raise PoliciesError and QuestionError."""
    answer = _invoked(deployment, {"preview": text})
    match answer:
        case {"error": str(error)}:
            raise PoliciesError(error)
    try:
        found = ANSWER.validate_python(answer)
    except ValidationError:
        raise QuestionError(
            "the function's answer cannot be understood: it is of another release than this command; "
            "update the older of them"
        ) from None
    rows = tuple(preview_row(deployment.target_id, name, each) for name, each in found.policies.items())
    unlisted = tuple(
        UnlistedScope(stack_name=each.stack_name, fleet_name=each.fleet_name, reason=each.reason)
        for each in found.unlisted
    )
    return PreviewAnswer(
        as_of=now(),
        sessions=found.sessions,
        scopes_failed=found.scopes_failed,
        unlisted=unlisted,
        policies=rows,
        error="",
    )


def _invoked(deployment: Deployment, event: dict[str, str]) -> Any:
    """Return the answer of the auditor's function; raise QuestionError."""
    if not deployment.stack_name:
        raise QuestionError(
            "the function is found by its stack: leave out --table, and name the stack with --stack-name",
            Exit.USAGE,
        )
    if "PoliciesParameter" not in deployment.parameters:
        # It would not understand what it is asked, and sweep.
        raise QuestionError(
            f"the auditor of stack {deployment.stack_name} is of a release without policies: deploy a newer",
            Exit.USAGE,
        )
    name = deployment.outputs["AuditorFunctionName"]
    with asking("lambda"):
        client = deployment.patient_client("lambda", deployment.settings.sweep_time_limit + _INVOKING_SECONDS)
        try:
            answer = client.invoke(
                FunctionName=name, InvocationType="RequestResponse", Payload=json.dumps(event)
            )
        except ClientError as error:
            raise _refusal(error, name) from None
        payload = answer["Payload"].read()
    try:
        said = json.loads(payload)
    except (ValueError, RecursionError):
        said = None
    if "FunctionError" in answer:
        kind = said.get("errorType") if isinstance(said, dict) else None
        why = harmless(kind[:_ERROR_TYPE_LENGTH]) if isinstance(kind, str) and kind else "no reason given"
        raise QuestionError(f"the function {name} failed ({why}): look into its log")
    return said


def _refusal(error: ClientError, name: str) -> QuestionError:
    """Return what it means that Lambda did not invoke a function."""
    code = error_code(error)
    if is_denied(code):
        return QuestionError(
            f"your AWS credentials may not lambda:InvokeFunction on {name}, and ReaderPolicyArn does not "
            "allow it on purpose: ask somebody who deploys the auditor",
            needs="lambda:InvokeFunction",
        )
    if code == "ResourceNotFoundException":
        return QuestionError(
            f"the function {name} does not exist any more: `appstream-auditor doctor` says what to do"
        )
    if "TooManyRequests" in code or "Throttl" in code:
        return QuestionError(f"Lambda throttles {name} ({code}): try again in a minute")
    return as_question_error(error, "lambda")


def policy_columns(rows: Sequence[PolicyRow]) -> list[Column]:
    """Return the columns of a document's policies."""
    return [
        Column("NAME", [row.name for row in rows], rank=0),
        Column("KIND", [row.kind for row in rows], rank=1),
        Column("LIMIT", [row.limit for row in rows], rank=2),
        Column("HOURS", [row.hours for row in rows], rank=3),
    ]


def preview_shown(answer: PreviewAnswer, width: int) -> Iterator[RenderableType]:
    """Show what a document would tell of: counts, the sessions that are named, and what was looked at."""
    rows = answer.policies
    counts = [
        Column("POLICY", [row.name for row in rows], rank=0),
        Column("KIND", [row.kind for row in rows], rank=2),
        Column("VIOLATED", [str(row.violated) for row in rows], rank=1, right=True),
        Column("CLEARED", [str(row.cleared) for row in rows], rank=1, right=True),
    ]
    yield table(counts, width)
    named = [(row, session) for row in rows for session in row.sessions]
    if named:
        yield Text()
        yield table(_offenders(rows), width)
    more = sum(row.violated - len(row.sessions) for row in rows)
    if more > 0:
        yield Text(f"and {more} more", "dim")
    looked_at = counted(answer.sessions, "session")
    yield Text(f"looked at {looked_at}; nothing was written, so the policies in force are as before", "dim")


def _offenders(rows: Sequence[PreviewRow]) -> list[Column]:
    named = [(row, session) for row in rows for session in row.sessions]
    sessions = [session for _, session in named]

    def measured(value: Callable[[Any], str]) -> list[str]:
        units = {PolicyKind.TOO_LONG: " min", PolicyKind.DRAINING: " min"}
        return [value(session) + units.get(row.kind, "") for row, session in named]

    return [
        Column("POLICY", [row.name for row, _ in named], rank=0),
        Column("USER", [each.user_id or "(not known)" for each in sessions], rank=0, elastic=True),
        Column("STACK", [each.stack_name for each in sessions], rank=6),
        Column("FLEET", [each.fleet_name for each in sessions], rank=3),
        Column("SESSION", [each.session_id for each in sessions], rank=4, cut=8),
        Column("ACTUAL", measured(lambda each: each.actual), rank=1),
        Column("LIMIT", measured(lambda each: each.limit), rank=5),
    ]
