"""PagerDuty's side of the Events API v2, on 127.0.0.1: which incidents are open, and whom it would page.

Events are held to the schema that PagerDuty documents; what is not in it is refused too, though PagerDuty
would overlook it. It knows nothing of AWS.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import jsonschema

from sandbox.server import Answer, Post, serving

# One for each of PagerDuty's service regions; an account lives in one of them.
ORIGINS = {"us": "https://events.pagerduty.com", "eu": "https://events.eu.pagerduty.com"}
PATH = "/v2/enqueue"
ROUTING_KEY = "0123456789abcdef0123456789abcdef"
TEXT = {"type": "string", "minLength": 1, "maxLength": 1024}
# https://developer.pagerduty.com/docs/events-api-v2: send an alert event.
EVENT = jsonschema.Draft202012Validator(
    {
        "type": "object",
        "required": ["routing_key", "event_action"],
        "additionalProperties": False,
        "properties": {
            "routing_key": {"pattern": "^[A-Za-z0-9]{32}$"},
            "event_action": {"enum": ["trigger", "acknowledge", "resolve"]},
            "dedup_key": {"type": "string", "minLength": 1, "maxLength": 255},
            "client": TEXT,
            "client_url": TEXT,
            "payload": {
                "type": "object",
                "required": ["summary", "source", "severity"],
                "additionalProperties": False,
                "properties": {
                    "summary": TEXT,
                    "source": TEXT,
                    "severity": {"enum": ["critical", "error", "warning", "info"]},
                    "timestamp": {"type": "string", "format": "date-time"},
                    "component": TEXT,
                    "group": TEXT,
                    "class": TEXT,
                    "custom_details": {"type": "object"},
                },
            },
        },
        "if": {"properties": {"event_action": {"const": "trigger"}}},
        "then": {"required": ["payload"]},
        "else": {"required": ["dedup_key"]},
    },
    format_checker=jsonschema.FormatChecker(),
)

Event = dict[str, Any]


class PagerDuty:
    """A service: every event it took, the incidents that are open, and the pages it sent, by dedup_key."""

    url: str

    def __init__(self) -> None:
        self.received: SimpleQueue[Event] = SimpleQueue()
        self.incidents: dict[str, Event] = {}
        self.pages: list[str] = []
        self.outages: SimpleQueue[int] = SimpleQueue()
        self._lock = threading.Lock()

    def answer(self, post: Post) -> Answer:
        """Take the event, or say what is wrong with it."""
        with self._lock:
            if post.path != PATH:
                return Answer(404, "", {})
            if not self.outages.empty():
                return Answer(self.outages.get(), "", {})
            try:
                event = json.loads(post.body)
                EVENT.validate(event)
            except (ValueError, jsonschema.ValidationError) as error:
                return Answer(400, json.dumps({"status": "invalid event", "errors": [str(error)]}), {})
            if event.pop("routing_key") != ROUTING_KEY:
                return Answer(400, json.dumps({"status": "invalid event", "errors": ["routing_key"]}), {})
            self._take(event)
            return Answer(202, json.dumps({"status": "success", "dedup_key": event["dedup_key"]}), {})

    def _take(self, event: Event) -> None:
        """Open, add to, or close the incident that the dedup_key names; only a new one pages anybody."""
        key = event.setdefault("dedup_key", f"unnamed-{len(self.pages)}")
        if event["event_action"] == "resolve":
            self.incidents.pop(key, None)
        elif event["event_action"] == "trigger":
            if key not in self.incidents:
                self.pages.append(key)
            self.incidents[key] = event
        self.received.put(event)


@contextmanager
def pagerduty() -> Iterator[PagerDuty]:
    """Listen."""
    service = PagerDuty()
    with serving(service.answer) as service.url:
        yield service
