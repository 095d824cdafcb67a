"""Names an error of AWS by its code, never by its message, which may hold anything, user ids included."""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ProxyConnectionError,
    ReadTimeoutError,
    SSLError,
)
from botocore.parsers import ResponseParserError

from session_auditor.errors import SnapshotError

# Errors that pass by themselves: too many calls, or AWS's own trouble (API references, common errors).
_PASSING = (
    "Throttl",
    "TooManyRequests",
    "RequestLimitExceeded",
    "Internal",
    "ServiceUnavailable",
    "RequestTimeout",
)

# What an answer that does not have the model's form raises, in botocore's parser or where it is read.
MALFORMED_ERRORS = (
    ResponseParserError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
MALFORMED = "MALFORMED_ANSWER"
_SILENCE = frozenset(
    error.__name__
    for error in (
        ConnectionClosedError,
        ConnectTimeoutError,
        EndpointConnectionError,
        ProxyConnectionError,
        ReadTimeoutError,
        SSLError,
    )
)


def error_code(error: ClientError | BotoCoreError) -> str:
    """Return the code of an error that AWS answered, or the kind of one that botocore met on the way."""
    if isinstance(error, ClientError):
        code = error.response.get("Error", {}).get("Code")
        return code[:128] if isinstance(code, str) and code.isprintable() else "ClientError"
    return type(error).__name__


def is_silence(code: str) -> bool:
    """Return whether an error, by its code, is one of botocore's that nothing answered."""
    return code in _SILENCE


def is_refusal(error: ClientError | BotoCoreError) -> bool:
    """Return whether AWS answered that it will not do this, so that it would not do it later either."""
    if not isinstance(error, ClientError) or any(word in error_code(error) for word in _PASSING):
        return False
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return not (isinstance(status, int) and (status >= 500 or status == 429))


@contextmanager
def table_in_reach(name: str, verb: str) -> Iterator[None]:
    """Raise SnapshotError for whatever DynamoDB answers that the caller does not handle itself."""
    try:
        yield
    except (ClientError, BotoCoreError, *MALFORMED_ERRORS) as error:
        reason = error_code(error) if isinstance(error, ClientError | BotoCoreError) else MALFORMED
        # The cause is cut off: its message may quote an item, and items hold user ids.
        raise SnapshotError(
            f"table {name} cannot be {verb} ({reason}); nothing is lost, the next sweep goes on", reason
        ) from None
