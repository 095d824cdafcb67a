"""AWS on this machine: ministack, with what it lacks, run as a program in ministack's place.

It adds Connection, ApiDestination, Archive, and transforms and updates of nested templates to CloudFormation,
to API destinations their rate, retries and dead-letter queues, to Lambda's queues their batching windows, and
to IAM what our policies name. Whatever it is told comes from the deployed template. It knows ministack's
insides, whose version is pinned, and no consumer.
"""

import json
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit, urlunsplit
from urllib.request import Request

import boto3
from ministack import app
from ministack.core import iam_actions, iam_evaluator
from ministack.services import eventbridge, lambda_svc, sqs
from ministack.services.cloudformation import engine, provisioners

# Where the servers are that stand for the vendors, by the origin that templates name.
VENDORS: Mapping[str, str] = json.loads(os.environ.get("SANDBOX_VENDORS", "{}"))
# How long a second of delivery takes, so that a rate of one a second and a window of twenty take less time.
SECOND = float(os.environ.get("SANDBOX_SECOND", "1"))
# What is tried again beside 5xx (EventBridge User Guide, API destinations); the rest is given up at once.
RETRIED = frozenset([401, 407, 409, 429])
LONGEST_PAUSE = 60


@dataclass(frozen=True)
class Delivery:
    """An event on its way to an API destination, with the target that sends it there."""

    request: Request
    event: Mapping[str, Any]
    rule_arn: str
    target: Mapping[str, Any]
    begin: float = field(default_factory=time.monotonic)


class Destination:
    """Delivers to one API destination, one event after the other, no faster than its rate."""

    def __init__(self, rate: int) -> None:
        self._pause = SECOND / rate
        self._next = 0.0
        self._deliveries: SimpleQueue[Delivery] = SimpleQueue()
        self.deliver = self._deliveries.put
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            delivery = self._deliveries.get()
            if problem := self._attempt(delivery):
                bury(delivery, *problem)

    def _attempt(self, delivery: Delivery) -> tuple[int, str] | None:
        """Try until it is delivered; else give the number of retries and why it is given up."""
        if not is_json(delivery.request.data):
            return 0, "the input transformer made no JSON"
        policy = delivery.target.get("RetryPolicy", {})
        retries = int(policy.get("MaximumRetryAttempts", 185))
        age = int(policy.get("MaximumEventAgeInSeconds", 86_400)) * SECOND
        for retry in range(retries + 1):
            time.sleep(max(0.0, self._next - time.monotonic()))
            status, wait = send(delivery.request)
            self._next = time.monotonic() + self._pause
            if 200 <= status < 300:
                return None
            if status not in RETRIED and status < 500:
                return retry, f"HTTP {status}"
            if time.monotonic() - delivery.begin > age:
                return retry, f"HTTP {status}, MaximumEventAgeInSeconds"
            time.sleep(SECOND * (wait or min(2**retry, LONGEST_PAUSE)))
        return retries, f"HTTP {status}, MaximumRetryAttempts"


def is_json(body: Any) -> bool:
    """Return whether a vendor could read the body."""
    try:
        json.loads(body)
    except ValueError:
        return False
    return True


def send(request: Request) -> tuple[int, int]:
    """Return the status, 599 if nobody answered in 5 s, and the seconds that the answer asks to wait."""
    try:
        with eventbridge._http_open(request) as answer:
            return answer.status, 0
    except HTTPError as error:
        return error.code, int(error.headers.get("Retry-After", 0))
    except (URLError, TimeoutError, ConnectionError):
        return 599, 0


def bury(delivery: Delivery, retries: int, why: str) -> None:
    """Put the event, as it was on the bus, into the target's dead-letter queue, if it has one."""
    queue_arn = delivery.target.get("DeadLetterConfig", {}).get("Arn")
    eventbridge.logger.warning("EventBridge -> %s: given up (%s)", delivery.target["Arn"], why)
    if not queue_arn:
        return
    client = boto3.client(
        "sqs",
        region_name=queue_arn.split(":")[3],
        endpoint_url=os.environ["AWS_ENDPOINT_URL"],
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106 - the local cloud knows no secrets
    )
    told = {
        "RULE_ARN": delivery.rule_arn,
        "TARGET_ARN": delivery.target["Arn"],
        "ERROR_MESSAGE": why,
        "RETRY_ATTEMPTS": str(retries),
    }
    client.send_message(
        QueueUrl=client.get_queue_url(QueueName=queue_arn.split(":")[-1])["QueueUrl"],
        MessageBody=json.dumps(delivery.event),
        MessageAttributes={
            name: {"DataType": "String", "StringValue": value} for name, value in told.items()
        },
    )


Api = Callable[[dict[str, Any]], Any]
DESTINATIONS: dict[str, Destination] = {}
invoke_other_target: Callable[..., None] = eventbridge._invoke_target


def invoke_target(target: Mapping[str, Any], event: Any, rule: Mapping[str, Any], view: Any = None) -> None:
    """Stand in for ministack's own, which sends to API destinations at once and only once."""
    if ":api-destination/" not in target["Arn"]:
        invoke_other_target(target, event, rule, view)
        return
    view = view or eventbridge._pattern_event_view(event)
    name = target["Arn"].split("/")[1]
    destination = eventbridge._api_destinations[name]
    connection_name = destination["ConnectionArn"].split("/")[1]
    connection = eventbridge._connections[connection_name]
    payload = (
        eventbridge._apply_input_transformer(target["InputTransformer"], rule, view)
        if "InputTransformer" in target
        else json.dumps(view.event_with_detail())
    )
    parts = eventbridge._build_api_destination_request(
        destination, connection, target.get("HttpParameters", {}), payload
    )
    headers = parts["headers"] | eventbridge._connection_auth_headers(connection, connection_name)
    request = Request(local(parts["url"]), parts["body"].encode(), headers, method=parts["method"])  # noqa: S310
    if name not in DESTINATIONS:
        DESTINATIONS[name] = Destination(int(destination["InvocationRateLimitPerSecond"]))
    DESTINATIONS[name].deliver(Delivery(request, view.event_with_detail(), rule["Arn"], target))


def local(url: str) -> str:
    """Return the address on this machine that stands for the URL; raise ValueError if there is none."""
    parts = urlsplit(url)
    origin = urlunsplit((parts.scheme, parts.netloc, "", "", ""))
    if origin in VENDORS:
        return VENDORS[origin] + url.removeprefix(origin)
    if parts.hostname != "127.0.0.1":
        raise ValueError(f"nobody stands for {origin} here")
    return url


def resource(create: Api, delete: Api, arn: str, **renamed: str) -> dict[str, Any]:
    """Make a CloudFormation resource of two calls of EventBridge; `arn` is where the answer has it."""

    def provision(
        logical_id: str, properties: Mapping[str, Any], stack_name: str
    ) -> tuple[str, dict[str, str]]:
        name = f"{stack_name}-{logical_id}"
        # CloudFormation hands the numbers of parameters on as text.
        parameters = {
            renamed.get(key, key): int(value) if str(value).isdecimal() else value
            for key, value in properties.items()
        }
        status, _, body = create({renamed["Name"]: name} | parameters)
        answer = json.loads(body)
        if status >= 400:
            raise ValueError(f"{logical_id}: {answer}")
        return name, {"Arn": answer[arn]}

    return {"create": provision, "delete": lambda name, _properties: delete({renamed["Name"]: name})}


def create_api_destination(parameters: dict[str, Any]) -> Any:
    """Refuse an endpoint beyond this machine when the stack is made, not when the first event is lost."""
    local(parameters["InvocationEndpoint"])
    return eventbridge._create_api_destination(parameters)


receive_at_once: Callable[[str, int], list[Any]] = sqs._receive_messages_for_esm


def receive_in_windows(queue_url: str, most: int) -> list[Any]:
    """Stand in for ministack's own, which hands a function the first message without waiting for others."""
    window = SECOND * max(
        (
            int(mapping["MaximumBatchingWindowInSeconds"])
            for _, _, mapping in lambda_svc._iter_all_esms()
            if mapping["EventSourceArn"].rpartition(":")[-1] == queue_url.rpartition("/")[-1]
        ),
        default=0,
    )
    now = time.time()
    visible = [each["visible_at"] for each in sqs._queues[queue_url]["messages"] if each["visible_at"] <= now]
    if visible and len(visible) < most and (left := min(visible) + window - now) > 0:
        timer = threading.Timer(left, lambda_svc.esm_wake.set)
        timer.daemon = True
        timer.start()
        return []
    return receive_at_once(queue_url, most)


resolve_condition_key: Callable[[str, Any], Any] = iam_evaluator._resolve_condition_key


def resolve_principal_arn(key: str, context: Any) -> Any:
    """Stand in for ministack's own, which takes a session of a role for the principal; IAM takes the role."""
    value = resolve_condition_key(key, context)
    if key.lower() != "aws:principalarn":
        return value
    return re.sub(r":sts:(.*):assumed-role/([^/]+)/.*", r":iam:\1:role/\2", value)


extract_iam_action: Callable[..., str | None] = iam_actions.extract_iam_action


def extract_permission(*request: Any) -> str | None:
    """Stand in for ministack's own: SQS asks for the permission of one message, however many there are."""
    action = extract_iam_action(*request)
    return action.removesuffix("Batch") if action and action.startswith("sqs:") else action


request_tags: Callable[..., dict[str, Any]] = iam_actions.request_tag_context


def request_context(service: str, action: str, body: bytes, parameters: Any) -> dict[str, Any]:
    """Stand in for ministack's own, which does not tell policies the sources of events that are put."""
    context = request_tags(service, action, body, parameters)
    if action == "events:PutEvents":
        context["events:source"] = ",".join({str(each["Source"]) for each in json.loads(body)["Entries"]})
    return context


provision: Callable[..., tuple[str, dict[str, Any]]] = provisioners._provision_resource
update: Callable[..., tuple[str, dict[str, Any]]] = provisioners._update_resource
# What Fn::GetAtt gives of the resources of nested stacks, by type and physical id.
ATTRIBUTES: dict[tuple[str, str], dict[str, Any]] = {}


def provision_nested(kind: str, *rest: Any) -> tuple[str, dict[str, Any]]:
    """Make a resource of a nested stack, and keep its attributes."""
    made, attributes = provision(kind, *rest)
    ATTRIBUTES[kind, made] = attributes
    return made, attributes


def update_nested(kind: str, made: str, *rest: Any) -> tuple[str, dict[str, Any]]:
    """Stand in for ministack's own, which forgets the attributes of what a nested stack leaves unchanged."""
    updated, attributes = update(kind, made, *rest)
    ATTRIBUTES[kind, updated] = attributes or ATTRIBUTES.get((kind, updated), {})
    return updated, ATTRIBUTES[kind, updated]


if __name__ == "__main__":
    iam_actions.request_tag_context = request_context
    iam_actions.extract_iam_action = extract_permission
    iam_evaluator._resolve_condition_key = resolve_principal_arn
    provisioners._provision_resource = provision_nested
    provisioners._update_resource = update_nested
    sqs._receive_messages_for_esm = receive_in_windows
    eventbridge._invoke_target = invoke_target
    provisioners._RESOURCE_HANDLERS |= {
        "AWS::Events::Connection": resource(
            eventbridge._create_connection, eventbridge._delete_connection, "ConnectionArn", Name="Name"
        ),
        "AWS::Events::ApiDestination": resource(
            create_api_destination, eventbridge._delete_api_destination, "ApiDestinationArn", Name="Name"
        ),
        "AWS::Events::Archive": resource(
            *(eventbridge._create_archive, eventbridge._delete_archive, "ArchiveArn"),
            Name="ArchiveName",
            SourceArn="EventSourceArn",
        ),
        # Nothing here tries what it forbids.
        "AWS::Events::EventBusPolicy": {
            "create": lambda logical_id, _properties, _stack: (logical_id, {}),
            "delete": lambda _id, _properties: None,
        },
    }
    parse = engine._parse_template
    # It transforms the outermost template alone; this is what it reads a nested one with.
    engine._parse_template = lambda body: engine._apply_transforms(parse(body))
    app.main()
