"""What can go wrong between a question and its answer, each as one sentence that says what to do.

A sentence names permissions, stacks and error codes, and quotes no message of AWS: those may hold anything.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    InvalidRegionError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
    UnknownRegionError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError

from session_auditor.aws_errors import error_code
from session_auditor.errors import SnapshotError

_DENIED = frozenset(["AccessDenied", "AccessDeniedException", "AuthorizationError", "UnauthorizedOperation"])
_EXPIRED = frozenset(["ExpiredToken", "ExpiredTokenException", "RequestExpired"])
_UNKNOWN = frozenset(
    [
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    ]
)
LOG_IN = "log in again (aws sso login), or name another profile with --profile"


class Exit(IntEnum):
    """What the command ends with, for scripts and monitors."""

    OK = 0
    FAULT = 1
    USAGE = 2
    OUT_OF_REACH = 3


class QuestionError(Exception):
    """A question that cannot be answered; `needs` is the IAM action that was denied, if that is why."""

    def __init__(self, sentence: str, exit_code: Exit = Exit.OUT_OF_REACH, needs: str = "") -> None:
        super().__init__(sentence)
        self.exit_code = exit_code
        self.needs = needs


@contextmanager
def asking(service: str) -> Iterator[None]:
    """Raise a QuestionError for what AWS refuses, or botocore on the way; `service` as IAM names it."""
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        # The cause is cut off: its message may quote what was asked for.
        raise as_question_error(error, service) from None


def as_question_error(error: ClientError | BotoCoreError, service: str) -> QuestionError:
    """Return what an error means for whoever asked."""
    match error:
        case ClientError():
            return refusal(error_code(error), f"{service}:{error.operation_name}")
        case ProfileNotFound():
            return QuestionError("no such profile in your AWS configuration: look at --profile", Exit.USAGE)
        case UnknownRegionError() | InvalidRegionError():
            return QuestionError("no such region: look at --region; such is eu-west-1", Exit.USAGE)
        case NoRegionError():
            return QuestionError(
                "no region: say --region, such as --region eu-west-1, or set AWS_REGION", Exit.USAGE
            )
        case NoCredentialsError() | PartialCredentialsError():
            return QuestionError(
                "no AWS credentials: log in (aws sso login), or name a profile with --profile"
            )
        case SSOError() | TokenRetrievalError() | UnauthorizedSSOTokenError():
            return QuestionError(f"the AWS credentials have expired: {LOG_IN}")
        case BotoConnectionError() | HTTPClientError():
            return QuestionError(
                f"{service} cannot be reached ({error_code(error)}): "
                "look at --region, and whether this machine reaches AWS"
            )
        case _:
            return QuestionError(f"{service} cannot be asked ({error_code(error)})")


def is_denied(code: str) -> bool:
    """Return whether the credentials may not do what was asked."""
    return code in _DENIED


def is_about_credentials(code: str) -> bool:
    """Return whether AWS takes no question at all with these credentials."""
    return code in _EXPIRED | _UNKNOWN


def refusal(code: str, action: str) -> QuestionError:
    """Return what it means that AWS refused an IAM action with this code."""
    if code in _DENIED:
        return QuestionError(
            f"your AWS credentials may not {action}; the managed policy in the stack's output "
            "ReaderPolicyArn allows all that this command asks for",
            needs=action,
        )
    if code in _EXPIRED:
        return QuestionError(f"the AWS credentials have expired: {LOG_IN}")
    if code in _UNKNOWN:
        return QuestionError(f"AWS does not know these credentials ({code}): {LOG_IN}")
    # The code may also name what went wrong on the way to AWS.
    return QuestionError(f"{action} failed ({code})")


@contextmanager
def reading() -> Iterator[None]:
    """Raise a QuestionError for a table that cannot be read."""
    try:
        yield
    except SnapshotError as error:
        if not error.reason:
            raise QuestionError(str(error)) from None
        if error.reason == "ResourceNotFoundException":
            raise QuestionError("no such table there: look at --table and --region", Exit.USAGE) from None
        raise refusal(error.reason, "dynamodb:Query") from None
