"""Slack's side of an incoming webhook, on 127.0.0.1: takes what Slack would take, and refuses the rest.

Blocks are held to slack_sdk's own models, messages to the limits that Slack documents. What it says no to it
says in Slack's words, and keeps. It knows nothing of AWS.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

from slack_sdk.errors import SlackObjectFormationError
from slack_sdk.models.attachments import BlockAttachment
from slack_sdk.models.blocks import Block

from sandbox.server import Answer, Post, serving

PATH = "/services/T00000000/B00000000/local"
# https://docs.slack.dev: messages are cut off after this many characters, and hold this many blocks and
# attachments; a webhook takes one message a second.
TEXT_LIMIT, BLOCKS_LIMIT, ATTACHMENTS_LIMIT = 40_000, 50, 100
KNOWN = frozenset(["text", "blocks", "attachments", "mrkdwn"])

Message = dict[str, Any]


class PayloadError(ValueError):
    """Slack would not take the payload; the text is what it would answer."""


class Slack:
    """A webhook: what it took, what it refused, and the statuses with which to refuse what comes next."""

    url: str

    def __init__(self, second: float, clock: Callable[[], float]) -> None:
        self.received: SimpleQueue[Message] = SimpleQueue()
        self.refused: SimpleQueue[tuple[int, str]] = SimpleQueue()
        self.outages: SimpleQueue[int] = SimpleQueue()
        self.second = second
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at = 0.0

    def answer(self, post: Post) -> Answer:
        """Take the message, or say why not in Slack's words."""
        with self._lock:
            status, text = self._judge(post)
            if status != 200:
                self.refused.put((status, text))
        return Answer(status, text, {"Retry-After": "1"} if status == 429 else {})

    def _judge(self, post: Post) -> tuple[int, str]:
        now = self._clock()
        if post.path != PATH:
            return 404, "no_service"
        if not self.outages.empty():
            return self.outages.get(), "outage"
        if now < self._free_at:
            return 429, "rate_limited"
        self._free_at = now + self.second
        if post.headers.get_content_type() != "application/json":
            return 400, "invalid_payload"
        try:
            message = json.loads(post.body)
            check(message)
        except ValueError as error:
            return 400, str(error) if isinstance(error, PayloadError) else "invalid_payload"
        self.received.put(message)
        return 200, "ok"


def check(message: Any) -> None:
    """Raise PayloadError unless Slack would take the message, and show everything that is in it."""
    if not isinstance(message, dict) or message.keys() - KNOWN:
        raise PayloadError("invalid_payload")
    text = message.get("text")
    if not isinstance(text, str) or not text.strip():
        raise PayloadError("no_text")
    if len(text) > TEXT_LIMIT:
        raise PayloadError("msg_too_long")
    attachments = message.get("attachments", [])
    if len(attachments) > ATTACHMENTS_LIMIT:
        raise PayloadError("too_many_attachments")
    check_blocks(message.get("blocks", []))
    for attachment in attachments:
        if not isinstance(attachment, dict) or attachment.keys() - {"color", "blocks"}:
            raise PayloadError("invalid_attachments")
        check_blocks(attachment["blocks"])
        try:
            BlockAttachment(
                blocks=Block.parse_all(attachment["blocks"]), color=attachment.get("color")
            ).validate_json()
        except SlackObjectFormationError as error:
            raise PayloadError(f"invalid_attachments: {error}") from error


def check_blocks(blocks: Any) -> None:
    """Raise PayloadError unless each is a block of Slack's, within its limits, and nothing but that."""
    if not isinstance(blocks, list) or len(blocks) > BLOCKS_LIMIT:
        raise PayloadError("invalid_blocks")
    for given in blocks:
        block = Block.parse(given)
        if block is None:
            raise PayloadError("invalid_blocks")
        try:
            # The models leave out what they do not know: only what comes out as it went in is all known.
            understood = block.to_dict()
        except SlackObjectFormationError as error:
            raise PayloadError(f"invalid_blocks: {error}") from error
        if understood != given or not all(text_objects(given)):
            raise PayloadError("invalid_blocks")


def text_objects(part: Any) -> Iterator[bool]:
    """Say of every text object whether Slack would take it: 1 to 3,000 characters."""
    if isinstance(part, Mapping):
        if part.get("type") in ("plain_text", "mrkdwn"):
            yield 1 <= len(part["text"]) <= 3_000
        for each in part.values():
            yield from text_objects(each)
    elif isinstance(part, list):
        for each in part:
            yield from text_objects(each)


@contextmanager
def slack(second: float = 1.0, clock: Callable[[], float] = time.monotonic) -> Iterator[Slack]:
    """Listen; `second` is how long a second of Slack's takes on the `clock`."""
    hook = Slack(second, clock)
    with serving(hook.answer) as url:
        hook.url = url + PATH
        yield hook
