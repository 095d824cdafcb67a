"""Calls AppStream: each call once, each counted, and each refusal by its code.

It knows nothing of what the answers mean. The first throttle ends a probe: the auditor needs the same quota.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from appstream_auditor.errors import QuestionError, as_question_error, is_about_credentials, is_denied
from appstream_auditor.probe.observations import (
    Operation,
    Stop,
)
from session_auditor import USER_AGENT
from session_auditor.aws_errors import MALFORMED, MALFORMED_ERRORS, error_code, is_refusal
from session_auditor.topology import NOT_FOUND

if TYPE_CHECKING:
    from mypy_boto3_appstream import AppStreamClient

CUT = "CUT_SHORT"
OTHER_CODE = "ANOTHER_CODE"
# botocore must not repeat a call: a repeated one would not be counted, and a throttle would not be seen.
_CONFIG = Config(
    connect_timeout=5,
    read_timeout=20,
    retries={"total_max_attempts": 1},
    user_agent_extra=f"{USER_AGENT} md/command",
)
_THROTTLED = ("Throttl", "TooManyRequests", "RequestLimitExceeded")
# Errors common to all services (API reference), without those that end a probe. A code that is neither here
# nor in AppStream's model is text of unknown origin, and not shown.
_COMMON_CODES = frozenset(
    [
        "AccessDenied",
        "AccessDeniedException",
        "IncompleteSignature",
        "InternalFailure",
        "InternalServerException",
        "InvalidAction",
        "InvalidParameterException",
        "NotAuthorized",
        "OptInRequired",
        "SerializationException",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "UnknownOperationException",
        "ValidationError",
        "ValidationException",
    ]
)


class CallError(Exception):
    """A call failed; `final` if AWS would refuse it again."""

    def __init__(self, code: str, *, final: bool = False) -> None:
        super().__init__(code)
        self.code = code
        self.final = final


class ScopeError(CallError):
    """A scope that may not be listed, or does not exist any more."""


class StopError(Exception):
    """The probe has to end; `problem` is reported if it was the first call."""

    def __init__(self, stop: Stop, problem: QuestionError | None = None) -> None:
        super().__init__(stop)
        self.stop = stop
        self.problem = problem


def client_of(aws: boto3.Session) -> "AppStreamClient":
    """Return a client that makes each call once."""
    return aws.client("appstream", config=_CONFIG)


class Asker:
    """Makes the calls, counts them, and says what a refusal means."""

    def __init__(self, client: "AppStreamClient", limit: int) -> None:
        self._operations: Mapping[Operation, Callable[..., Any]] = {
            Operation.DESCRIBE_STACKS: client.describe_stacks,
            Operation.DESCRIBE_FLEETS: client.describe_fleets,
            Operation.LIST_ASSOCIATED_FLEETS: client.list_associated_fleets,
            Operation.DESCRIBE_SESSIONS: client.describe_sessions,
        }
        model: Any = client.meta.service_model
        self.session_shape: Any = model.shape_for("Session")
        self._codes = _COMMON_CODES | {shape.error_code or shape.name for shape in model.error_shapes}
        self.limit = limit
        self.made = 0
        self.unknown_fields: int | None = None
        # botocore drops fields that its model does not know, so they are counted before it parses.
        client.meta.events.register("before-parse.appstream.DescribeSessions", self._count_unknown_fields)

    def ask(self, operation: Operation, **parameters: Any) -> Mapping[str, Any]:
        """Return one answer; raise CallError, or StopError if no further call should be made."""
        if self.made >= self.limit:
            raise StopError(Stop.CALLS_USED_UP)
        self.made += 1
        try:
            answer: Mapping[str, Any] = self._operations[operation](**parameters)
        except (ClientError, BotoCoreError) as error:
            # The cause is cut off: its message may quote what was asked for.
            self._refuse(error)
        except MALFORMED_ERRORS:
            raise CallError(MALFORMED) from None
        return answer

    def pages(
        self, operation: Operation, limit: int, key: str, **parameters: Any
    ) -> Iterator[tuple[list[Any], Mapping[str, Any]]]:
        """Return the items of each page, with its answer; raise CallError where the pages break off."""
        token: Any = None
        for _ in range(limit):
            answer = self.ask(operation, **parameters, **({"NextToken": token} if token else {}))
            items = answer.get(key)
            if not isinstance(items, list):
                raise CallError(MALFORMED)
            yield items, answer
            last, token = token, answer.get("NextToken")
            if not token:
                return
            if token == last:
                raise CallError(MALFORMED)
        raise CallError(CUT)

    def _refuse(self, error: ClientError | BotoCoreError) -> NoReturn:
        code = error_code(error)
        if not isinstance(error, ClientError):
            raise StopError(Stop.OUT_OF_REACH, as_question_error(error, "appstream")) from None
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if status == 429 or any(word in code for word in _THROTTLED):
            raise StopError(Stop.THROTTLED) from None
        if is_about_credentials(code):
            raise StopError(Stop.CREDENTIALS, as_question_error(error, "appstream")) from None
        shown = code if code in self._codes else OTHER_CODE
        if is_denied(code) or code == NOT_FOUND:
            raise ScopeError(shown, final=True) from None
        raise CallError(shown, final=is_refusal(error)) from None

    def _count_unknown_fields(self, response_dict: Mapping[str, Any], **_: Any) -> None:
        try:
            sessions = json.loads(response_dict["body"])["Sessions"]
            unknown = sum(len(each.keys() - self.session_shape.members.keys()) for each in sessions)
        except MALFORMED_ERRORS:
            # An error, or another protocol than JSON.
            return
        self.unknown_fields = (self.unknown_fields or 0) + unknown
