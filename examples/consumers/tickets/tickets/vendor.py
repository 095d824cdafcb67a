"""What both vendors have in common: a ticket as it was read, one way to ask, and what an answer means.

It knows HTTP, and no vendor. Neither an error's text nor its chain holds anything that was sent or answered.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any
from urllib.parse import urlencode

import urllib3

CONNECT_SECONDS, ANSWER_SECONDS = 3, 10
# SQS hides a message for 12 hours at most (ChangeMessageVisibility, API reference).
WAIT_LIMIT = 6 * 3600
# Worth another try though nothing was done: a password that is being changed, a limit of requests.
TRANSIENT = frozenset([401, 425, 429])
ID_LIMIT = 255

_pool = urllib3.PoolManager(
    timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=ANSWER_SECONDS), retries=False, maxsize=2
)


class State(Enum):
    """What can still be done with a ticket: all; only comments; nothing; nothing, for it is gone."""

    OPEN = auto()
    DONE = auto()
    SEALED = auto()
    GONE = auto()


@dataclass(frozen=True, slots=True)
class Ticket:
    """A ticket as the vendor shows it; `lines` are those of its description and its latest comments."""

    id: str
    state: State
    lines: frozenset[str]


class TryLaterError(Exception):
    """What was asked may do some other time: not before so many seconds, if the vendor says when.

    `undone` if the vendor certainly did nothing; else it may have done what it was asked.
    """

    def __init__(self, reason: str, after: int | None = None, *, undone: bool = False) -> None:
        super().__init__(reason)
        self.after = after
        self.undone = undone


class RefusedError(Exception):
    """The vendor refuses what was asked, and would again."""

    undone = True


class GoneError(RefusedError):
    """The vendor shows nothing under that address: it was deleted, is hidden, or never was."""


def ask(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: Any = None,
    form: Mapping[str, str] | None = None,
) -> Any:
    """Send a request with a body of JSON, or a form; return the answer's JSON, None if it is empty.

    Raises TryLaterError, RefusedError or GoneError for every other outcome.
    """
    sent = {"Accept": "application/json", **headers}
    content = None
    if body is not None:
        sent["Content-Type"] = "application/json"
        content = json.dumps(body)
    elif form is not None:
        sent["Content-Type"] = "application/x-www-form-urlencoded"
        content = urlencode(form)
    try:
        answer = _pool.request(method, url, body=content, headers=sent)
    except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError):
        raise TryLaterError("NOT_CONNECTED", undone=True) from None
    except urllib3.exceptions.HTTPError as error:
        raise TryLaterError(type(error).__name__) from None
    if answer.status in TRANSIENT or answer.status >= 500:
        after = answer.headers.get("Retry-After", "")
        raise TryLaterError(
            f"HTTP {answer.status}",
            min(int(after), WAIT_LIMIT) if after.isdecimal() and len(after) < 10 else None,
            undone=answer.status in TRANSIENT,
        )
    if answer.status == 404:
        raise GoneError("HTTP 404")
    if not 200 <= answer.status < 300:
        raise RefusedError(f"HTTP {answer.status}")
    try:
        return json.loads(answer.data) if answer.data else None
    except (ValueError, RecursionError):
        # A page for people, of an instance that sleeps or a proxy, or an answer that was cut off.
        raise TryLaterError("NOT_JSON") from None


def part(answer: Any, *path: str) -> Any:
    """Return what an answer holds under a path of names, None if any of them is missing."""
    for name in path:
        answer = answer.get(name) if isinstance(answer, dict) else None
    return answer


def text(answer: Any, *path: str) -> str:
    """Return a text of an answer; "" if it was left out, or is none."""
    found = part(answer, *path)
    # JSON may hold half a surrogate pair, which no request could carry.
    return found.encode(errors="replace").decode() if isinstance(found, str) else ""


def entries(answer: Any, *path: str) -> list[Any]:
    """Return a list of an answer, empty if it was left out, or is none."""
    found = part(answer, *path)
    return found if isinstance(found, list) else []


def ticket_id(answer: Any, name: str) -> str:
    """Return the id of a ticket. Raises TryLaterError without one: the ticket may be there nevertheless."""
    found = text(answer, name)
    if not 0 < len(found) <= ID_LIMIT:
        raise TryLaterError("NO_ID")
    return found
