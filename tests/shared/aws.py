"""Stands in for single AWS operations at botocore's API-call level; the clients stay real."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import boto3
import botocore.client
import pytest
from botocore.exceptions import ClientError

Answer = Callable[[dict[str, Any]], dict[str, Any]]


def client_error(code: str, operation: str = "Operation", **extra: Any) -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": "for jane.doe@example.com"}} | extra,  # type: ignore[arg-type]
        operation,
    )


def raising(error: Exception) -> Answer:
    """Answer with an error."""

    def answer(_: dict[str, Any]) -> dict[str, Any]:
        raise error

    return answer


@cache
def session() -> Any:
    """The session of all clients; to make one, and to read what it has read, takes longer than most tests."""
    return boto3.Session(
        aws_access_key_id="testing", aws_secret_access_key="testing", region_name="eu-west-1"
    )


def boto_client(service: str) -> Any:
    return session().client(service)


@dataclass
class Context:
    """What Lambda tells a function of its invocation."""

    seconds: float
    function_name: str
    memory_limit_in_mb: int = 512
    aws_request_id: str = "00000000-0000-4000-8000-000000000000"

    @property
    def invoked_function_arn(self) -> str:
        return f"arn:aws:lambda:eu-west-1:123456789012:function:{self.function_name}"

    def get_remaining_time_in_millis(self) -> int:
        return int(self.seconds * 1000)


class Wire:
    """Answers operations by name and keeps the calls; what has no answer goes on to whoever is below."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers: dict[str, Answer] = {}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        below = vars(botocore.client.BaseClient)["_make_api_call"]

        def make_api_call(client: Any, operation: str, parameters: dict[str, Any]) -> Any:
            self.calls.append((operation, parameters))
            answer = self.answers.get(operation)
            return answer(parameters) if answer else below(client, operation, parameters)

        monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", make_api_call)

    def operations(self) -> list[str]:
        return [operation for operation, _ in self.calls]

    def parameters(self, operation: str) -> list[dict[str, Any]]:
        return [parameters for each, parameters in self.calls if each == operation]
