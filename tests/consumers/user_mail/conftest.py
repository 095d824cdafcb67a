"""The real handler between a queue and SES, both moto's, as the template describes it; and events for it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import pytest
import time_machine
from moto import mock_aws
from moto.ses.models import ses_backends
from samtranslator.yaml_helper import yaml_parse

from session_auditor.model import DetailType, Facts, Fleet
from tests.shared.aws import Context
from tests.shared.events import envelope
from tests.shared.history import PATIENT, History, at, session

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "examples" / "consumers" / "user-mail"
TEMPLATE: dict[str, Any] = yaml_parse((FOLDER / "template.yaml").read_text())
RESOURCES: dict[str, Any] = TEMPLATE["Resources"]
REGION, ACCOUNT = "eu-west-1", "123456789012"
GIVEN = {
    "Domains": "example.com",
    "From": "sessions@example.com",
    "Identity": "example.com",
    "TimeZone": "Europe/Berlin",
}
USER = "jane.doe@example.com"
# A quarter of an hour before the session reaches its ten hours.
NOW = at(585)


def expiring(user_id: str = USER, session_id: str = "s-1", tag: str = "yes") -> dict[str, Any]:
    """Return what the auditor itself tells fifteen minutes before the end, of a stack with the tag."""
    history = History(replace(PATIENT, tag_keys=("mail-user",)))
    facts = Facts({"cad": Fleet(3600)}, {"office": {"mail-user": tag}})
    history.observe(0, facts=facts)
    for minute in (1, 584, 585):
        history.observe(minute, session(session_id=session_id, user_id=user_id), facts=facts)
    told = [each for each in history.events if each.detail_type is DetailType.EXPIRING]
    return envelope(told[-1])


@dataclass
class Consumer:
    """The queue, the function, SES, and the dead letters."""

    app: ModuleType
    clock: time_machine.Traveller
    sqs: Any
    table: Any
    waiting: str
    dead_letters: str
    purged: datetime = NOW

    def reset(self) -> None:
        """Forget everything; it is a quarter of an hour before the end."""
        # A queue is purged once a minute at most.
        self.purged += timedelta(days=1)
        self.clock.move_to(self.purged)
        for queue in (self.waiting, self.dead_letters):
            self.sqs.purge_queue(QueueUrl=queue)
        self.clock.move_to(NOW)
        for item in self.table.scan()["Items"]:
            self.table.delete_item(Key={"id": item["id"]})
        self._sent.clear()

    @property
    def mails(self) -> list[Any]:
        """What SES took."""
        return list(self._sent)

    @property
    def _sent(self) -> list[Any]:
        sent: list[Any] = ses_backends[ACCOUNT][REGION].sent_messages
        return sent

    def send(self, *events: Any) -> None:
        """Put events into the queue, as the rule does."""
        for each in events:
            self.sqs.send_message(
                QueueUrl=self.waiting, MessageBody=each if isinstance(each, str) else json.dumps(each)
            )

    def work(self, seconds: int = 0) -> None:
        """Hand out messages for so long, as an event source mapping does."""
        for _ in range(0, seconds + 1, 15):
            while received := self._received():
                context = Context(RESOURCES["MailFunction"]["Properties"]["Timeout"], "mail")
                answer = self.app.handler({"Records": [record(each) for each in received]}, context)
                failed = {each["itemIdentifier"] for each in answer["batchItemFailures"]}
                for each in received:
                    if each["MessageId"] not in failed:
                        self.sqs.delete_message(QueueUrl=self.waiting, ReceiptHandle=each["ReceiptHandle"])
                # What is hidden for no time at all is there a moment later.
                self.clock.shift(1)
            self.clock.shift(15)

    def given_up(self) -> list[Any]:
        """Return the dead letters."""
        answer = self.sqs.receive_message(QueueUrl=self.dead_letters, MaxNumberOfMessages=10)
        return [each["Body"] for each in answer.get("Messages", [])]

    def _received(self) -> list[Any]:
        size = RESOURCES["MailFunction"]["Properties"]["Events"]["Waiting"]["Properties"]["BatchSize"]
        answer = self.sqs.receive_message(
            QueueUrl=self.waiting, MaxNumberOfMessages=size, AttributeNames=["All"]
        )
        found: list[Any] = answer.get("Messages", [])
        return found


def record(message: dict[str, Any]) -> dict[str, Any]:
    """Write a message as Lambda hands it to a function."""
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message["Attributes"],
        "messageAttributes": {},
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": f"arn:aws:sqs:{REGION}:{ACCOUNT}:waiting",
        "awsRegion": REGION,
    }


def environment(**made: str) -> dict[str, str]:
    """Return the function's variables as the template sets them, with its parameters' defaults."""
    values = (
        {name: str(each.get("Default", "")) for name, each in TEMPLATE["Parameters"].items()} | GIVEN | made
    )
    variables = RESOURCES["MailFunction"]["Properties"]["Environment"]["Variables"]
    return {name: values.get(each["Ref"], each["Ref"]) for name, each in variables.items()}


@pytest.fixture
def consumer(stack: Consumer) -> Consumer:
    """The stack as if it were new."""
    stack.reset()
    return stack


@pytest.fixture(scope="module")
def stack() -> Iterator[Consumer]:
    with (
        pytest.MonkeyPatch.context() as monkeypatch,
        mock_aws(),
        time_machine.travel(NOW, tick=False) as clock,
    ):
        for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
            monkeypatch.setenv(f"AWS_{name}", "testing")
        monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
        aws: Any = boto3.Session(region_name=REGION)
        sqs, ses = aws.client("sqs"), aws.client("ses")
        ses.verify_domain_identity(Domain=GIVEN["Identity"])
        dead_letters = sqs.create_queue(QueueName="dead-letters")["QueueUrl"]
        attributes = sqs.get_queue_attributes(QueueUrl=dead_letters, AttributeNames=["QueueArn"])[
            "Attributes"
        ]
        queue, table = RESOURCES["Waiting"]["Properties"], RESOURCES["Mailed"]["Properties"]
        redrive = queue["RedrivePolicy"] | {"deadLetterTargetArn": attributes["QueueArn"]}
        settings = {
            "VisibilityTimeout": str(queue["VisibilityTimeout"]),
            "RedrivePolicy": json.dumps(redrive),
        }
        waiting = sqs.create_queue(QueueName="waiting", Attributes=settings)["QueueUrl"]
        keys = {key: table[key] for key in ("KeySchema", "AttributeDefinitions", "BillingMode")}
        mailed = aws.resource("dynamodb").create_table(TableName="mailed", **keys)
        for name, value in environment(Mailed="mailed", Waiting=waiting).items():
            monkeypatch.setenv(name, value)
        yield Consumer(loaded(), clock, sqs, mailed, waiting, dead_letters)


def loaded() -> ModuleType:
    """Load the function as a container does: with an environment and state of its own."""
    spec = spec_from_file_location("user_mail.app", FOLDER / "user_mail" / "app.py")
    assert spec
    assert spec.loader
    app = module_from_spec(spec)
    spec.loader.exec_module(app)
    return app
