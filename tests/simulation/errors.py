"""What a simulated service raises: an error's code and message, without botocore around it."""

from collections.abc import Mapping
from typing import Any


class AwsError(Exception):
    """An error that an AWS service answers with; `extra` are the fields beside Error."""

    def __init__(
        self, code: str, message: str, extra: Mapping[str, Any] | None = None, status: int = 400
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.extra = dict(extra or {})
        self.status = status
