"""The local cloud: ministack for most of AWS, moto's server for AppStream, and this project's template.

Everything listens on 127.0.0.1, on ports that were free, and ends with the context manager. It knows how
to package and deploy the template without the SAM CLI, and nothing of what the template is for.
"""

import io
import json
import logging
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from queue import SimpleQueue
from types import MappingProxyType
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer
from samtranslator.yaml_helper import yaml_parse

from sandbox import appstream
from sandbox.server import HOST, Answer, Post, serving

ROOT = Path(__file__).parents[1]
ACCOUNT_ID = "123456789012"
REGION = "eu-west-1"
PACKAGES = "packages"
# What moto answers, with our own AppStream; tags are asked of a service of their own.
OF_MOTO = frozenset(["appstream", "resourcegroupstaggingapi"])
START_SECONDS = 60
DEPLOY_SECONDS = 60
NOBODY: Mapping[str, str] = MappingProxyType({})
CREDENTIALS: Any = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}


class LocalCloudError(RuntimeError):
    """The local cloud did not do what was asked; the message holds what it said."""


@dataclass(frozen=True)
class Stack:
    """A deployed stack: its outputs, and physical ids by logical id."""

    outputs: Mapping[str, str]
    resources: Mapping[str, str]


@dataclass
class Webhook:
    """A web server that keeps what is posted to it."""

    url: str
    received: SimpleQueue[dict[str, Any]]


class LocalCloud:
    """AWS on this machine: clients for its services, and the way to deploy a template into it.

    `log` is what ministack prints; it says there, and nowhere else, that a target could not be reached.
    """

    def __init__(
        self,
        endpoint: str,
        appstream_endpoint: str,
        log: Path,
        account_id: str = ACCOUNT_ID,
        region: str = REGION,
    ) -> None:
        self.endpoint = endpoint
        self.appstream_endpoint = appstream_endpoint
        self.log = log
        self.account_id = account_id
        self.region = region
        # Twelve digits are the key of an account.
        keys = CREDENTIALS if account_id == ACCOUNT_ID else CREDENTIALS | {"aws_access_key_id": account_id}
        self._aws: Any = boto3.Session(region_name=region, **keys)
        self._clients: dict[str, Any] = {}

    def elsewhere(self, account_id: str, region: str = REGION) -> "LocalCloud":
        """Return the same cloud as another account has it, or another region."""
        return LocalCloud(self.endpoint, self.appstream_endpoint, self.log, account_id, region)

    @property
    def endpoints(self) -> Mapping[str, str]:
        """The environment in which ordinary clients find this cloud."""
        return _endpoints(self.endpoint, self.appstream_endpoint)

    @property
    def appstream(self) -> appstream.AppStreamBackend:
        """The state of AppStream, to put sessions in place and to make calls fail."""
        return appstream.appstream_backends[self.account_id][self.region]

    def owner(self, access_key: str) -> str:
        """Return the account that an access key belongs to: twelve digits are one, STS knows roles' keys."""
        if re.fullmatch(r"[0-9]{12}", access_key):
            return access_key
        if access_key == CREDENTIALS["aws_access_key_id"]:
            return ACCOUNT_ID
        account: str = self.client("sts").get_access_key_info(AccessKeyId=access_key)["Account"]
        return account

    def client(self, service: str) -> Any:
        """Return an ordinary client of the service, the same one every time."""
        if service not in self._clients:
            # To make one takes a tenth of a second, and whoever waits asks twenty times a second.
            endpoint = self.appstream_endpoint if service in OF_MOTO else self.endpoint
            config = Config(retries={"mode": "standard", "total_max_attempts": 2})
            self._clients[service] = self._aws.client(service, endpoint_url=endpoint, config=config)
        return self._clients[service]

    def deploy(
        self,
        parameters: Mapping[str, str],
        name: str = "session-auditor",
        template: Path = ROOT / "template.yaml",
        capability: str = "CAPABILITY_IAM",
    ) -> Stack:
        """Package a template and create the stack, or update it if it is there.

        The layer holds the package alone: a local function runs on this very Python, which has the rest.
        Raises LocalCloudError with what CloudFormation said.
        """
        cloudformation = self.client("cloudformation")
        write = cloudformation.update_stack if self._stack(name) else cloudformation.create_stack
        try:
            write(
                StackName=name,
                TemplateBody=json.dumps(self._package(template)),
                Capabilities=[capability, "CAPABILITY_AUTO_EXPAND"],
                Parameters=[
                    {"ParameterKey": key, "ParameterValue": each} for key, each in parameters.items()
                ],
            )
        except ClientError as error:
            raise LocalCloudError(f"stack {name} cannot be deployed: {error}") from error

        def settled() -> dict[str, Any] | None:
            stack = self._stack(name)
            return stack if stack and not stack["StackStatus"].endswith("IN_PROGRESS") else None

        stack = wait_for(settled, DEPLOY_SECONDS, f"stack {name} to settle")
        if stack["StackStatus"] not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
            events = cloudformation.describe_stack_events(StackName=name)["StackEvents"]
            reasons = [
                f"{each['LogicalResourceId']}: {each.get('ResourceStatusReason', '')}"
                for each in events
                if "FAILED" in each["ResourceStatus"]
            ]
            raise LocalCloudError(f"stack {name} is {stack['StackStatus']}: {'; '.join(reasons)}")
        resources = cloudformation.describe_stack_resources(StackName=name)["StackResources"]
        return Stack(
            {each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", [])},
            {each["LogicalResourceId"]: each["PhysicalResourceId"] for each in resources},
        )

    def _stack(self, name: str) -> dict[str, Any] | None:
        try:
            (stack,) = self.client("cloudformation").describe_stacks(StackName=name)["Stacks"]
        except ClientError:
            return None
        found: dict[str, Any] = stack
        return None if found["StackStatus"] == "DELETE_COMPLETE" else found

    def _package(self, template: Path) -> dict[str, Any]:
        """Upload whatever a template names by its path; return the template that names it where it is."""
        packaged: dict[str, Any] = deepcopy(parsed(template.read_text()))
        for resource in packaged["Resources"].values():
            properties = resource.get("Properties", {})
            for key in {"CodeUri", "ContentUri"} & properties.keys():
                below = "python" if key == "ContentUri" else ""
                folder = (template.parent / properties[key]).resolve()
                properties[key] = f"s3://{PACKAGES}/{self._upload(folder.name, zipped(folder, below))}"
            if resource["Type"] == "AWS::CloudFormation::Stack":
                nested = self._package(template.parent / properties["TemplateURL"])
                key = self._upload("template.json", json.dumps(nested).encode())
                properties["TemplateURL"] = f"{self.endpoint}/{PACKAGES}/{key}"
        return packaged

    def _upload(self, name: str, content: bytes) -> str:
        key = f"{sha256(content).hexdigest()}/{name}"
        self.client("s3").put_object(Bucket=PACKAGES, Key=key, Body=content)
        return key

    def subscribe_webhook(self, bus_name: str, webhook: Webhook, pattern: Mapping[str, Any]) -> None:
        """Have a rule on the bus post what matches to the webhook, as an API destination does."""
        events = self.client("events")
        connection = events.create_connection(
            Name="webhook",
            AuthorizationType="API_KEY",
            AuthParameters={"ApiKeyAuthParameters": {"ApiKeyName": "x-token", "ApiKeyValue": "local"}},
        )
        destination = events.create_api_destination(
            Name="webhook",
            ConnectionArn=connection["ConnectionArn"],
            InvocationEndpoint=webhook.url,
            HttpMethod="POST",
        )
        self._rule(bus_name, "to-webhook", destination["ApiDestinationArn"], pattern)

    def subscribe_queue(self, bus_name: str, name: str, pattern: Mapping[str, Any]) -> str:
        """Have a rule on the bus send what matches to a new queue; return the queue's URL."""
        url, arn = self._queue(name)
        self._rule(bus_name, f"to-{name}", arn, pattern)
        return url

    def subscribe_topic(self, topic_arn: str, name: str) -> str:
        """Have a topic send what is published to a new queue, as it is; return the queue's URL."""
        url, arn = self._queue(name)
        self.client("sns").subscribe(
            TopicArn=topic_arn, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"}
        )
        return url

    def drain(self, queue_url: str, parse: Callable[[str], Any] = json.loads) -> list[Any]:
        """Take every message out of a queue; return their bodies, parsed."""
        sqs = self.client("sqs")
        bodies = []
        while messages := sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                bodies.append(parse(message["Body"]))
                sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])
        return bodies

    def _queue(self, name: str) -> tuple[str, str]:
        sqs = self.client("sqs")
        url: str = sqs.create_queue(QueueName=name)["QueueUrl"]
        return url, sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"][
            "QueueArn"
        ]

    def _rule(self, bus_name: str, name: str, target_arn: str, pattern: Mapping[str, Any]) -> None:
        events = self.client("events")
        events.put_rule(Name=name, EventBusName=bus_name, EventPattern=json.dumps(pattern))
        role = f"arn:aws:iam::{ACCOUNT_ID}:role/{name}"
        events.put_targets(
            Rule=name, EventBusName=bus_name, Targets=[{"Id": name, "Arn": target_arn, "RoleArn": role}]
        )


@cache
def parsed(text: str) -> Any:
    """Parse a template once: that of the notifier is nested four times."""
    return yaml_parse(text)


def zipped(folder: Path, below: str) -> bytes:
    """Return a package of everything in a folder but bytecode."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as package:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                # A file's time would make every upload another one.
                entry = zipfile.ZipInfo(str(Path(below) / path.relative_to(folder)))
                entry.external_attr = 0o644 << 16
                package.writestr(entry, path.read_bytes())
    return content.getvalue()


@contextmanager
def local_cloud(
    vendors: Mapping[str, str] = NOBODY, second: float = 1.0, *, iam: bool = False
) -> Iterator[LocalCloud]:
    """Start the local cloud; whatever happens, nothing of it is left behind.

    `vendors` names the local servers that stand for the vendors' origins in templates; `second` is how long
    a second of the delivery to them takes. With `iam`, what roles and policies do not allow is refused.
    """
    appstream.register()
    appstream.appstream_backends.reset()
    # One line a request would drown what the demo and the tests have to say.
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with ExitStack() as stack:
        state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="local-cloud-")))
        moto = ThreadedMotoServer(HOST, 0, verbose=False)
        moto.start()
        stack.callback(moto.stop)
        host, moto_port = moto.get_host_and_port()
        appstream_endpoint = f"http://{host}:{moto_port}"
        port = _free_port()
        endpoint = f"http://{HOST}:{port}"
        log = state / "ministack.log"
        output = stack.enter_context(log.open("w"))
        process = subprocess.Popen(
            [sys.executable, "-P", str(ROOT / "sandbox" / "aws.py")],
            env=_ministack_environment(port, state, appstream_endpoint)
            | {
                "SANDBOX_VENDORS": json.dumps(dict(vendors)),
                "SANDBOX_SECOND": str(second),
                "AUTH": str(iam).lower(),
            },
            cwd=state,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        stack.callback(_stop, process)

        def ready() -> bool:
            if process.poll() is not None:
                raise LocalCloudError(f"ministack ended with {process.returncode}: {log.read_text()[-2000:]}")
            connection = HTTPConnection(HOST, port, timeout=2)
            try:
                connection.request("GET", "/_ministack/health")
                return connection.getresponse().status == HTTPStatus.OK
            except OSError:
                return False
            finally:
                connection.close()

        wait_for(ready, START_SECONDS, "ministack to answer")
        cloud = LocalCloud(endpoint, appstream_endpoint, log)
        stack.enter_context(appstream.accounts_by_key(cache(cloud.owner)))
        cloud.client("s3").create_bucket(
            Bucket=PACKAGES, CreateBucketConfiguration={"LocationConstraint": REGION}
        )
        yield cloud


@contextmanager
def webhook() -> Iterator[Webhook]:
    """Listen for posts on a free port of 127.0.0.1."""
    received: SimpleQueue[dict[str, Any]] = SimpleQueue()

    def answer(post: Post) -> Answer:
        received.put(json.loads(post.body))
        return Answer(200, "ok", {})

    with serving(answer) as url:
        yield Webhook(url, received)


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Ask until the condition gives something true; raise LocalCloudError after so many seconds."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise LocalCloudError(f"waited {seconds} seconds for {what}")
        pause.wait(0.05)
    return found


def _ministack_environment(port: int, state: Path, appstream_endpoint: str) -> dict[str, str]:
    # Its own defaults listen on every interface and keep state between runs.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return inherited | {
        "BIND_HOST": HOST,
        "MINISTACK_HOST": HOST,
        "GATEWAY_PORT": str(port),
        "STATE_DIR": str(state),
        "TMPDIR": str(state),
        "MINISTACK_ACCOUNT_ID": ACCOUNT_ID,
        "MINISTACK_REGION": REGION,
        "LOG_LEVEL": "WARNING",
        # Left alone it opens a port of its own for IoT, on every interface.
        "IOT_MTLS_ENABLED": "0",
        "LAMBDA_EXECUTOR": "local",
        "DOCKER_HOST": "unix:///nonexistent",
        # Functions inherit these: their clients are ordinary ones.
        **_endpoints(f"http://{HOST}:{port}", appstream_endpoint),
    }


def _endpoints(endpoint: str, appstream_endpoint: str) -> Mapping[str, str]:
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ENDPOINT_URL_APPSTREAM": appstream_endpoint,
        "AWS_ENDPOINT_URL_RESOURCE_GROUPS_TAGGING_API": appstream_endpoint,
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End ministack and the functions it runs: they share a process group of their own."""
    for kill in (process.terminate, process.kill):
        kill()
        try:
            process.wait(10)
            break
        except subprocess.TimeoutExpired:
            continue
    with suppress(ProcessLookupError):
        os.killpg(process.pid, 9)
