"""A channel without AWS: the real function, its queue and the event source mapping on a simulated clock.

The queue hides, repeats and batches as SQS and Lambda do; the vendors are the sandbox's, by real requests.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from io import StringIO
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import pytest
import time_machine

from sandbox.vendors import topic
from tests.shared.aws import Context, Wire

ROOT = Path(__file__).parents[2]
NOTIFIER = ROOT / "functions" / "notifier" / "notifier.py"
START = 1_772_460_000.0  # 2026-03-02T14:00:00Z
WINDOW, BATCH, AT_ONCE = 60.0, 1_000, 2
TIME_LIMIT = 120.0
# Six times the function's time limit, and the window.
VISIBILITY = 6 * TIME_LIMIT + WINDOW
TOPIC = "arn:aws:sns:eu-west-1:123456789012:notices"


session = cache(boto3.Session)


@dataclass
class Queued:
    """A message in the queue."""

    id: str
    body: str
    sent: float
    visible_at: float
    receives: int = 0


@dataclass
class Line:
    """The function of one channel with its queue, its dead letters, and a clock."""

    wire: Wire
    traveller: time_machine.Traveller
    function: ModuleType
    log: StringIO
    now: float = START
    waiting: dict[str, Queued] = field(default_factory=dict)
    dead: list[tuple[str, str]] = field(default_factory=list)
    published: list[dict[str, Any]] = field(default_factory=list)
    secrets: dict[str, str] = field(default_factory=dict)
    invocations: int = 0
    opened: float | None = None
    chat: bool = False
    numbers: Iterator[int] = field(default_factory=count)

    def clock(self) -> float:
        """Return the time, in seconds."""
        return self.now

    def send(self, *events: Any) -> None:
        """Put events into the queue, as a rule does."""
        for event in events:
            number = f"m-{next(self.numbers)}"
            body = event if isinstance(event, str) else json.dumps(event)
            self.waiting[number] = Queued(number, body, self.now, self.now)

    def pause(self, seconds: float) -> None:
        """Let time pass within an invocation."""
        self.now += seconds
        self.traveller.move_to(self.now)

    def wait(self, seconds: float) -> None:
        """Let time pass; batches are taken when they are full, or their window is over."""
        end = self.now + seconds
        while self.now < end:
            self.now += 1
            self.traveller.move_to(self.now)
            for _ in range(AT_ONCE):
                visible = [each for each in self.waiting.values() if each.visible_at <= self.now]
                # A window opens with the first message.
                self.opened = (self.now if self.opened is None else self.opened) if visible else None
                if self.opened is not None and (self.now - self.opened >= WINDOW or len(visible) >= BATCH):
                    self.invoke(visible[:BATCH])
                    self.opened = None

    def invoke(self, taken: Iterable[Queued] | None = None, context: Context | None = None) -> dict[str, Any]:
        """Let Lambda call the function with these messages, or with all."""
        batch = list(self.waiting.values() if taken is None else taken)
        self.invocations += 1
        for each in batch:
            each.receives += 1
            each.visible_at = self.now + VISIBILITY
        answer: dict[str, Any] = self.function.handler(
            {"Records": [record(each) for each in batch]}, context or Context(TIME_LIMIT, "notifier", 256)
        )
        kept = {each["itemIdentifier"] for each in answer["batchItemFailures"]}
        for each in batch:
            if each.id not in kept:
                del self.waiting[each.id]
        return answer

    def hide(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """ChangeMessageVisibilityBatch."""
        assert 1 <= len(parameters["Entries"]) <= 10
        for entry in parameters["Entries"]:
            assert 0 <= entry["VisibilityTimeout"] <= 43_200
            self.waiting[entry["ReceiptHandle"]].visible_at = self.now + entry["VisibilityTimeout"]
        return {"Successful": [{"Id": entry["Id"]} for entry in parameters["Entries"]]}

    def bury(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """SendMessageBatch to the dead-letter queue."""
        assert 1 <= len(parameters["Entries"]) <= 10
        for entry in parameters["Entries"]:
            self.dead.append((entry["MessageBody"], entry["MessageAttributes"]["reason"]["StringValue"]))
        return {"Successful": [{"Id": entry["Id"]} for entry in parameters["Entries"]]}

    def publish(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """SNS's Publish."""
        topic.check(parameters, chat=self.chat)
        self.published.append(dict(parameters))
        return {"MessageId": "m"}

    def parameter(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """SSM's GetParameter."""
        assert parameters["WithDecryption"]
        return {"Parameter": {"Value": self.secrets[parameters["Name"]], "Type": "SecureString"}}

    def secret(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Secrets Manager's GetSecretValue."""
        return {"SecretString": self.secrets[parameters["SecretId"]]}


def record(each: Queued) -> dict[str, Any]:
    """A message as Lambda hands it on."""
    return {
        "messageId": each.id,
        "receiptHandle": each.id,
        "body": each.body,
        "attributes": {
            "ApproximateReceiveCount": str(each.receives),
            "SentTimestamp": str(int(each.sent * 1000)),
        },
    }


@contextmanager
def line(monkeypatch: pytest.MonkeyPatch, channel: str, **environment: str) -> Iterator[Line]:
    """Load the function for a channel, as a new container does."""
    variables = {
        "CHANNEL": channel,
        "QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/123456789012/events",
        "DEAD_LETTERS_URL": "https://sqs.eu-west-1.amazonaws.com/123456789012/dead",
        "WEBHOOK": "/notices/webhook" if channel in {"slack", "teams"} else "",
        "TOPIC_ARN": TOPIC if channel in {"mail", "chat"} else "",
        "POWERTOOLS_SERVICE_NAME": "notifier",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "eu-west-1",
    }
    for name, value in (variables | environment).items():
        monkeypatch.setenv(name, value)
    # To make one takes longer than most tests.
    monkeypatch.setattr(boto3, "Session", session)
    spec = spec_from_file_location("notifier", NOTIFIER)
    assert spec
    assert spec.loader
    function = module_from_spec(spec)
    spec.loader.exec_module(function)
    log = StringIO()
    for handler in function.logger.handlers:
        handler.setStream(log)
    wire = Wire(monkeypatch)
    with time_machine.travel(START, tick=False) as traveller:
        line = Line(wire, traveller, function, log, chat=channel == "chat")
        wire.answers |= {
            "ChangeMessageVisibilityBatch": line.hide,
            "SendMessageBatch": line.bury,
            "Publish": line.publish,
            "GetParameter": line.parameter,
            "GetSecretValue": line.secret,
        }
        function.__dict__["pause"] = line.pause
        yield line
