"""Microsoft Teams' side of a Workflows webhook, on 127.0.0.1: takes what Teams shows, and refuses the rest.

Cards are held to the part of the Adaptive Cards schema 1.5 that a message without actions needs; a field or a
value that it does not know is refused, since Teams drops it, or the whole card, without a word. What it says
no to it says as Workflows does, and keeps. It knows nothing of AWS.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

from sandbox.server import Answer, Post, serving

PATH = "/powerautomate/automations/direct/workflows/local/triggers/manual/paths/invoke"
# https://learn.microsoft.com: a message has about 28 KB at most, and a webhook takes four requests a second.
BYTES_LIMIT = 28_000
A_SECOND = 4
CARD = "application/vnd.microsoft.card.adaptive"
STYLES = frozenset(["default", "emphasis", "good", "attention", "warning", "accent"])
SIZES = frozenset(["default", "small", "medium", "large", "extraLarge"])
WEIGHTS = frozenset(["default", "lighter", "bolder"])
# By type: the fields that it must have and that it may have, each with what it may be.
Check = Callable[[Any], bool]
Message = dict[str, Any]


class CardError(ValueError):
    """Teams would not show the card; the text is what Workflows would answer."""


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _one_of(names: frozenset[str]) -> Check:
    # The schema takes enumerations in any case.
    known = {name.lower() for name in names}
    return lambda value: isinstance(value, str) and value.lower() in known


def _many(check: Check) -> Check:
    return lambda value: isinstance(value, list) and bool(value) and all(check(each) for each in value)


def _element(value: Any) -> bool:
    if not isinstance(value, dict) or value.get("type") not in ELEMENTS:
        return False
    needed, possible = ELEMENTS[value["type"]]
    fields = value.keys() - {"type"}
    return (
        needed.keys() <= fields
        and fields <= needed.keys() | possible.keys()
        and all((needed | possible)[name](value[name]) for name in fields)
    )


ELEMENTS: Mapping[str, tuple[dict[str, Check], dict[str, Check]]] = {
    "Container": ({"items": _many(_element)}, {"style": _one_of(STYLES), "bleed": _flag}),
    "RichTextBlock": ({"inlines": _many(_element)}, {}),
    "TextRun": (
        {"text": _text},
        {"weight": _one_of(WEIGHTS), "size": _one_of(SIZES), "isSubtle": _flag},
    ),
}


class Teams:
    """A webhook: what it took, what it refused, and the answers with which to refuse what comes next."""

    url: str

    def __init__(self, clock: Callable[[], float]) -> None:
        self.received: SimpleQueue[Message] = SimpleQueue()
        self.refused: SimpleQueue[tuple[int, str]] = SimpleQueue()
        self.outages: SimpleQueue[tuple[int, str]] = SimpleQueue()
        self._clock = clock
        self._lock = threading.Lock()
        self._taken_at: list[float] = []

    def answer(self, post: Post) -> Answer:
        """Accept the message, or say why not as Workflows does."""
        with self._lock:
            status, code = self._judge(post)
            if status == 202:
                return Answer(202, "", {})
            self.refused.put((status, code))
        text = json.dumps({"error": {"code": code, "message": "as simulated"}})
        return Answer(status, text, {"Retry-After": "2"} if status == 429 else {})

    def _judge(self, post: Post) -> tuple[int, str]:
        now = self._clock()
        if post.path != PATH:
            return 404, "WorkflowNotFound"
        if not self.outages.empty():
            return self.outages.get()
        self._taken_at = [at for at in self._taken_at if now - at < 1]
        if len(self._taken_at) >= A_SECOND:
            return 429, "TooManyRequests"
        if len(post.body) > BYTES_LIMIT:
            return 413, "RequestEntityTooLarge"
        if post.headers.get_content_type() != "application/json":
            return 400, "InvalidRequestContent"
        try:
            message = json.loads(post.body)
            check(message)
        except ValueError as error:
            return 400, str(error) if isinstance(error, CardError) else "InvalidRequestContent"
        self._taken_at.append(now)
        self.received.put(message)
        return 202, ""


def check(message: Any) -> None:
    """Raise CardError unless Teams would show the message, and everything that is in it."""
    if not isinstance(message, dict) or message.keys() != {"type", "attachments"}:
        raise CardError("InvalidRequestContent")
    if message["type"] != "message" or len(message["attachments"]) != 1:
        raise CardError("InvalidRequestContent")
    (attachment,) = message["attachments"]
    if attachment.keys() != {"contentType", "content"} or attachment["contentType"] != CARD:
        raise CardError("InvalidAttachment")
    card = attachment["content"]
    if card.keys() != {"$schema", "type", "version", "fallbackText", "msteams", "body"}:
        raise CardError("InvalidCard")
    known = (card["type"], card["version"], card["msteams"]) == ("AdaptiveCard", "1.5", {"width": "Full"})
    if not known or not _text(card["fallbackText"]) or not _many(_element)(card["body"]):
        raise CardError("InvalidCard")


@contextmanager
def teams(clock: Callable[[], float] = time.monotonic) -> Iterator[Teams]:
    """Listen; `clock` tells the seconds by which requests are limited."""
    hook = Teams(clock)
    with serving(hook.answer) as url:
        hook.url = url + PATH
        yield hook
