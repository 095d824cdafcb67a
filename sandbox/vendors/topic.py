"""What stands behind a topic: SNS's limits on what is published, and Amazon Q's on a custom notification.

Both as they are documented; a field that is not is refused, since Amazon Q drops a notification silently.
"""

import json
from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator

# https://docs.aws.amazon.com/sns: a subject is printable ASCII, at most 100 characters; a message has 256 KB.
SUBJECT_LIMIT, MESSAGE_LIMIT = 100, 262_144
TEXT = {"type": "string", "minLength": 1}
# https://docs.aws.amazon.com/chatbot: the schema of custom notifications, version 1.0, as far as it is used.
NOTIFICATION = Draft202012Validator(
    {
        "type": "object",
        "required": ["version", "source", "content"],
        "additionalProperties": False,
        "properties": {
            "version": {"const": "1.0"},
            "source": {"const": "custom"},
            "id": TEXT,
            "content": {
                "type": "object",
                "required": ["description"],
                "additionalProperties": False,
                "properties": {
                    "textType": {"const": "client-markdown"},
                    "title": TEXT | {"maxLength": 250},
                    "description": TEXT | {"maxLength": 8_000},
                    "nextSteps": {"type": "array", "items": TEXT},
                    "keywords": {"type": "array", "items": TEXT},
                },
            },
            "metadata": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "threadId": TEXT,
                    "summary": TEXT,
                    "eventType": TEXT,
                    "relatedResources": {"type": "array", "items": TEXT},
                    "additionalContext": {"type": "object", "additionalProperties": {"type": "string"}},
                },
            },
        },
    }
)


class PublishError(ValueError):
    """SNS would not take it, or Amazon Q would not show it."""


def check(published: Mapping[str, Any], *, chat: bool) -> None:
    """Raise PublishError unless SNS takes the call and, if it is for a chat, Amazon Q Developer shows it."""
    subject, message = published["Subject"], published["Message"]
    if not (subject.isascii() and subject.isprintable() and 1 <= len(subject) <= SUBJECT_LIMIT):
        raise PublishError("Invalid parameter: Subject")
    if not 1 <= len(message.encode()) <= MESSAGE_LIMIT:
        raise PublishError("Invalid parameter: Message")
    if chat:
        for problem in NOTIFICATION.iter_errors(json.loads(message)):
            raise PublishError(problem.message)
