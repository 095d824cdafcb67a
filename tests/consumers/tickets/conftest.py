"""The real handler between a queue and a vendor: moto for AWS, a local server for ServiceNow or Jira."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType
from typing import Any

import boto3
import pytest
import time_machine
import urllib3
from moto import mock_aws
from samtranslator.yaml_helper import yaml_parse

from sandbox.vendors.jira import API, LocalJira
from sandbox.vendors.servicenow import CLOSED, RESOLVED, TABLE, LocalServiceNow
from sandbox.vendors.ticketing import PASSWORD, USERNAME, serving
from tests.consumers.tickets.events import ROOT

BEGIN = 1_772_445_600.0
REGION = "eu-west-1"
FUNCTION = ROOT / "examples" / "consumers" / "tickets" / "tickets"
VENDORS = ["servicenow", "jira"]
TRIES = 10
CREDENTIALS = json.dumps({"username": USERNAME, "password": PASSWORD})


@cache
def template(vendor: str) -> dict[str, Any]:
    parsed: dict[str, Any] = yaml_parse(
        (ROOT / "examples" / "consumers" / vendor / "template.yaml").read_text()
    )
    return parsed


@dataclass(frozen=True)
class Shown:
    """A ticket as the vendor keeps it."""

    id: str
    lines: list[str]
    open: bool

    @property
    def marks(self) -> list[str]:
        """The events that it was told of, in order, each as often as it was."""
        return [line for line in self.lines if line.startswith("Event ")]


def tickets(vendor: LocalServiceNow | LocalJira) -> list[Shown]:
    if isinstance(vendor, LocalJira):
        return [
            Shown(id_, vendor.text(id_), issue["status"] != "Done") for id_, issue in vendor.issues.items()
        ]
    return [
        Shown(
            id_,
            "\n".join([incident["description"], *vendor.notes[id_]]).split("\n"),
            incident["state"] not in (RESOLVED, CLOSED),
        )
        for id_, incident in vendor.incidents.items()
    ]


@dataclass(frozen=True)
class Context:
    """What Lambda tells the handler, as far as it asks."""

    aws_request_id: str
    until: float
    function_name: str = "tickets"
    invoked_function_arn: str = f"arn:aws:lambda:{REGION}:123456789012:function:tickets"
    memory_limit_in_mb: int = 512

    def get_remaining_time_in_millis(self) -> int:
        return int((self.until - time.time()) * 1000)


@dataclass
class Consumer:
    """A stack of one vendor: its queues, its table, its function, and the vendor."""

    name: str
    vendor: LocalServiceNow | LocalJira
    clock: time_machine.Traveller
    app: ModuleType
    sqs: Any
    secrets: Any
    table: Any
    queue: str
    dead_letters: str
    batch_size: int
    seconds: int
    invocations: int = 0
    most_tries: int = 0
    failures: list[str] = field(default_factory=list)

    def reset(self) -> None:
        """Forget everything, on both sides; the clock goes on, so that no secret is remembered."""
        self.clock.shift(3600)
        self.vendor.reset()
        self.forget_all()
        for queue in (self.queue, self.dead_letters):
            self.sqs.purge_queue(QueueUrl=queue)
        self.set_secret(CREDENTIALS)
        self.failures = []
        self.most_tries = 0

    def set_secret(self, text: str) -> None:
        """Store the credentials of the vendor."""
        self.secrets.put_secret_value(SecretId="credentials", SecretString=text)

    def create(self) -> tuple[str, str]:
        """How the vendor is asked for a ticket."""
        return "POST", TABLE if self.name == "servicenow" else f"{API}/issue"

    def comment(self, ticket: str) -> tuple[str, str]:
        """How the vendor is asked to add a comment."""
        return (
            ("PATCH", f"{TABLE}/{ticket}")
            if self.name == "servicenow"
            else ("POST", f"{API}/issue/{ticket}/comment")
        )

    def end(self, ticket: str) -> tuple[str, str]:
        """How the vendor is asked to close a ticket; for ServiceNow the same as a comment."""
        if self.name == "servicenow":
            return "PATCH", f"{TABLE}/{ticket}"
        return "POST", f"{API}/issue/{ticket}/transitions"

    def send(self, *bodies: Any) -> None:
        """Put events into the queue, as the rule does."""
        for body in bodies:
            text = body if isinstance(body, str) else json.dumps(body)
            self.sqs.send_message(QueueUrl=self.queue, MessageBody=text)

    def invoke(self, batch_size: int = 0, app: ModuleType | None = None) -> int:
        """Hand out one batch, as an event source mapping does; return the number of messages in it.

        A function that takes longer than its time limit has not said which messages failed: none is deleted.
        `app` is another container of the function, if it is not the first.
        """
        received = self.sqs.receive_message(
            QueueUrl=self.queue, MaxNumberOfMessages=batch_size or self.batch_size, AttributeNames=["All"]
        ).get("Messages", [])
        if not received:
            return 0
        self.invocations += 1
        tries = [int(each["Attributes"]["ApproximateReceiveCount"]) for each in received]
        self.most_tries = max(self.most_tries, *tries)
        context = Context(f"request-{self.invocations}", time.time() + self.seconds)
        response = (app or self.app).handler({"Records": [record(each) for each in received]}, context)
        if context.get_remaining_time_in_millis() <= 0:
            return len(received)
        self.failures = [each["itemIdentifier"] for each in response["batchItemFailures"]]
        for each in received:
            if each["MessageId"] not in self.failures:
                self.sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=each["ReceiptHandle"])
        return len(received)

    def work(self) -> None:
        """Hand out messages until none is visible."""
        while self.invoke():
            pass

    def work_for(self, seconds: int, step: int = 15) -> None:
        """Let time pass, and messages come again in it."""
        for _ in range(0, seconds, step):
            self.work()
            self.clock.shift(step)
        self.work()

    def deliver(self, *bodies: Any) -> None:
        """Put events into the queue and see to them, one after the other."""
        for body in bodies:
            self.send(body)
            self.work()

    def forget_events(self) -> None:
        """Lose what idempotency remembers, so that an event that comes again looks new."""
        for item in self.table.scan()["Items"]:
            if not item["id"].startswith("episode#"):
                self.table.delete_item(Key={"id": item["id"]})

    def forget_all(self) -> None:
        """Lose the table."""
        for item in self.table.scan()["Items"]:
            self.table.delete_item(Key={"id": item["id"]})

    def given_up(self) -> list[str]:
        """Return the bodies of the dead letters."""
        received = self.sqs.receive_message(QueueUrl=self.dead_letters, MaxNumberOfMessages=10)
        return [each["Body"] for each in received.get("Messages", [])]


def record(message: dict[str, Any]) -> dict[str, Any]:
    """Write a message as Lambda hands it to a function."""
    attributes = message["Attributes"]
    names = (
        "ApproximateReceiveCount",
        "SentTimestamp",
        "SenderId",
        "ApproximateFirstReceiveTimestamp",
    )
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": {name: attributes[name] for name in names},
        "messageAttributes": {},
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": f"arn:aws:sqs:{REGION}:123456789012:waiting",
        "awsRegion": REGION,
    }


def environment(vendor: str, url: str, parameters: dict[str, str]) -> dict[str, str]:
    """Return the function's variables as its template sets them."""
    parsed = template(vendor)
    given = {"ServiceNowUrl": url, "JiraUrl": url, "Project": "OPS", **parameters}
    values = {name: str(each.get("Default", "")) for name, each in parsed["Parameters"].items()} | given
    variables = parsed["Resources"]["TicketsFunction"]["Properties"]["Environment"]["Variables"]
    return {
        name: str(values.get(each["Ref"], each["Ref"]) if isinstance(each, dict) else each)
        for name, each in variables.items()
    }


@pytest.fixture(scope="module", params=VENDORS)
def stack(request: pytest.FixtureRequest) -> Iterator[Consumer]:
    """The stack of one vendor, with the defaults of its parameters."""
    with deployed(request.param, {}) as consumer:
        yield consumer


@pytest.fixture
def consumer(stack: Consumer) -> Consumer:
    """The stack as if it were new."""
    stack.reset()
    return stack


@contextmanager
def deployed(name: str, parameters: dict[str, str]) -> Iterator[Consumer]:
    """Make what the template describes, as far as the function needs it, and the function itself."""
    described = template(name)["Resources"]
    function = described["TicketsFunction"]["Properties"]
    mapping = function["Events"]["Waiting"]["Properties"]
    queue, table = described["Waiting"]["Properties"], described["Episodes"]["Properties"]
    local = LocalServiceNow() if name == "servicenow" else LocalJira()
    variables = {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_LAMBDA_FUNCTION_NAME": "tickets",
    }
    with (
        pytest.MonkeyPatch.context() as monkeypatch,
        mock_aws(),
        serving(local) as vendor,
        time_machine.travel(BEGIN) as clock,
    ):
        for variable, value in variables.items():
            monkeypatch.setenv(variable, value)
        aws: Any = boto3.Session(region_name=REGION)
        sqs = aws.client("sqs")
        dead_letters = sqs.create_queue(QueueName="dead-letters")["QueueUrl"]
        attributes = sqs.get_queue_attributes(QueueUrl=dead_letters, AttributeNames=["QueueArn"])[
            "Attributes"
        ]
        redrive = queue["RedrivePolicy"] | {"deadLetterTargetArn": attributes["QueueArn"]}
        waiting = sqs.create_queue(
            QueueName="waiting",
            Attributes={
                "VisibilityTimeout": str(queue["VisibilityTimeout"]),
                "RedrivePolicy": json.dumps(redrive),
            },
        )["QueueUrl"]
        episodes = aws.resource("dynamodb").create_table(
            TableName="episodes",
            **{key: table[key] for key in ("KeySchema", "AttributeDefinitions", "BillingMode")},
        )
        secrets = aws.client("secretsmanager")
        secret = secrets.create_secret(Name="credentials", SecretString=CREDENTIALS)["ARN"]
        given = {"SecretArn": secret, **parameters}
        made = {"TABLE_NAME": "episodes", "QUEUE_URL": waiting}
        for variable, value in (environment(name, vendor.url, given) | made).items():
            monkeypatch.setenv(variable, value)
        yield Consumer(
            name,
            vendor,
            clock,
            load_app(),
            sqs,
            secrets,
            episodes,
            waiting,
            dead_letters,
            batch_size=mapping["BatchSize"],
            seconds=function["Timeout"],
        )


def load_app() -> ModuleType:
    """Load the function as a container does: with an environment and state of its own."""
    spec = spec_from_file_location("tickets.app", FUNCTION / "app.py")
    assert spec
    assert spec.loader
    app = module_from_spec(spec)
    spec.loader.exec_module(app)
    return app


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for a vendor that does not answer for less than the ten seconds of the function."""
    timeout = urllib3.Timeout(connect=5, read=2)
    monkeypatch.setattr("tickets.vendor._pool", urllib3.PoolManager(timeout=timeout, retries=False))


@pytest.fixture
def patient(impatient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for a vendor for a minute of real time: while it answers, another worker does all of its work.

    It comes after the impatience of the tests around it, which would have the last word otherwise.
    """
    pool = urllib3.PoolManager(timeout=urllib3.Timeout(60), retries=False, maxsize=2)
    monkeypatch.setattr("tickets.vendor._pool", pool)
