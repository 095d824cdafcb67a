"""The real template in the local cloud, end to end: nothing is simulated but AWS itself.

The local Scheduler fires the deployed function as a Lambda, and events reach the subscribers of the bus.
"""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sandbox.appstream.models import Fault, Fleet, StreamingSession
from sandbox.cloud import LocalCloud, LocalCloudError, Stack, Webhook, local_cloud, wait_for, webhook
from sandbox.server import Answer, Post, serving


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    with local_cloud() as cloud:
        yield cloud


@pytest.fixture(scope="module")
def hook() -> Iterator[Webhook]:
    with webhook() as hook:
        yield hook


@pytest.fixture(scope="module")
def deployed(cloud: LocalCloud, hook: Webhook) -> Stack:
    cloud.appstream.add_scope("office", Fleet("cad"))
    deployed = cloud.deploy({"UserIdMode": "hash", "LogLevel": "DEBUG", "ArchiveDays": "30"})
    cloud.subscribe_webhook(deployed.outputs["SessionBusName"], hook, {"source": ["appstream.auditor"]})
    return deployed


@pytest.fixture(autouse=True)
def _log(cloud: LocalCloud) -> Iterator[None]:
    yield
    # Shown with a test that fails: deliveries that did not arrive are told here only.
    print(cloud.log.read_text()[-4000:])


@pytest.fixture(scope="module")
def queue(cloud: LocalCloud, deployed: Stack) -> str:
    return cloud.subscribe_queue(deployed.outputs["SessionBusName"], "all", {"source": ["appstream.auditor"]})


def put_session(cloud: LocalCloud, session_id: str) -> None:
    cloud.appstream.sessions[session_id] = StreamingSession(
        session_id, "jane.doe@example.com", "office", "cad", instance_id="i-1"
    )


def test_the_schedule_fires_and_an_event_reaches_the_webhook(
    cloud: LocalCloud, hook: Webhook, deployed: Stack
) -> None:
    # The first sweep is a baseline; who comes after it is told, by whichever sweep the schedule asks for.
    assert invoke(cloud, deployed)["eventsPublished"] == {}
    put_session(cloud, "s-1")
    event = hook.received.get(timeout=100)
    assert event["detail-type"] == "AppStream Session Started"
    assert event["source"] == "appstream.auditor"
    assert event["detail"]["data"]["session"]["id"] == "s-1"
    assert len(event["detail"]["data"]["session"]["userId"]) == 32
    assert "jane" not in json.dumps(event)


def test_the_function_sums_its_sweep_up(cloud: LocalCloud, deployed: Stack, queue: str) -> None:
    put_session(cloud, "s-2")
    summary = invoke(cloud, deployed)
    assert summary["outcome"] in ("COMPLETED", "FENCED")
    assert summary["scopesListed"] == 1
    (event,) = wait_for(lambda: cloud.drain(queue), 90, f"s-2 in the queue after {summary}")
    assert event["detail"]["data"]["session"]["id"] == "s-2"


def test_a_scope_that_fails_is_summed_up_too(cloud: LocalCloud, deployed: Stack) -> None:
    fault = Fault("InternalServiceException", fleet_name="cad")
    cloud.appstream.faults.append(fault)
    try:
        assert invoke(cloud, deployed)["scopesFailed"] == 1
    finally:
        cloud.appstream.faults.remove(fault)


def test_consumers_find_the_bus_by_a_parameter(cloud: LocalCloud, deployed: Stack) -> None:
    parameter = cloud.client("ssm").get_parameter(Name="/appstream-session-auditor/session-auditor/bus-name")[
        "Parameter"
    ]
    assert parameter["Value"] == deployed.outputs["SessionBusName"]
    assert deployed.outputs["BusNameParameter"] == "/appstream-session-auditor/session-auditor/bus-name"


def test_the_bus_keeps_its_events_for_a_replay_if_asked_to(cloud: LocalCloud, deployed: Stack) -> None:
    (archive,) = cloud.client("events").list_archives()["Archives"]
    assert archive["EventSourceArn"] == deployed.outputs["SessionBusArn"]
    assert archive["RetentionDays"] == 30


def test_nothing_listens_beyond_this_machine(cloud: LocalCloud, deployed: Stack) -> None:
    listening: dict[str, str] = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                listening[f"socket:[{fields[9]}]"] = fields[1].split(":")[0]
    addresses = set()
    for pid in {str(os.getpid())} | children(os.getpid()):
        for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
            with suppress(FileNotFoundError):
                addresses.add(listening.get(str(descriptor.readlink()), ""))
    assert addresses - {""} == {"0100007F"}, "127.0.0.1, in the byte order of /proc"


def children(pid: int) -> set[str]:
    """Return the ids of all processes below one."""
    found: set[str] = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields[1] == str(pid):
            found |= {stat.parent.name} | children(int(stat.parent.name))
    return found


def test_a_template_that_fails_says_why(cloud: LocalCloud, tmp_path: Path) -> None:
    broken = tmp_path / "template.yaml"
    broken.write_text(
        "Transform: AWS::Serverless-2016-10-31\n"
        "Resources: {Nonsense: {Type: 'AWS::Nonsense::Thing', Properties: {Name: x}}}\n"
    )
    with pytest.raises(LocalCloudError, match="AWS::Nonsense::Thing"):
        cloud.deploy({}, name="broken", template=broken)


IMPATIENT = """
Parameters: {Url: {Type: String}}
Resources:
  Connection:
    Type: AWS::Events::Connection
    Properties:
      AuthorizationType: API_KEY
      AuthParameters: {ApiKeyAuthParameters: {ApiKeyName: X-Key, ApiKeyValue: abc}}
  Destination:
    Type: AWS::Events::ApiDestination
    Properties:
      ConnectionArn: !GetAtt Connection.Arn
      HttpMethod: POST
      InvocationEndpoint: !Ref Url
      InvocationRateLimitPerSecond: 300
  Undelivered: {Type: AWS::SQS::Queue}
  Rule:
    Type: AWS::Events::Rule
    Properties:
      EventPattern: {source: [impatient]}
      Targets:
        - Id: broken
          Arn: !GetAtt Destination.Arn
          RetryPolicy: {MaximumRetryAttempts: 1, MaximumEventAgeInSeconds: 60}
          DeadLetterConfig: {Arn: !GetAtt Undelivered.Arn}
          InputTransformer:
            InputPathsMap: {said: $.detail.said}
            InputTemplate: '{"said": "<said>"}'
"""


def test_an_endpoint_beyond_this_machine_fails_the_stack(cloud: LocalCloud, tmp_path: Path) -> None:
    template = tmp_path / "template.yaml"
    template.write_text(IMPATIENT)
    with pytest.raises(LocalCloudError, match=r"nobody stands for https://events\.pagerduty\.com here"):
        cloud.deploy({"Url": "https://events.pagerduty.com/v2"}, name="outward", template=template)


def test_a_target_is_tried_as_often_as_its_template_says(cloud: LocalCloud, tmp_path: Path) -> None:
    template = tmp_path / "template.yaml"
    template.write_text(IMPATIENT)
    posts: list[Post] = []

    def out_of_order(post: Post) -> Answer:
        posts.append(post)
        return Answer(500, "", {})

    with serving(out_of_order) as url:
        stack = cloud.deploy({"Url": url}, name="impatient", template=template)
        letters = []
        for said in ("hello", 'a quote: "'):
            entry = {"Source": "impatient", "DetailType": "x", "Detail": json.dumps({"said": said})}
            cloud.client("events").put_events(Entries=[entry])
            letters += wait_for(lambda: cloud.drain(stack.resources["Undelivered"]), 20, "the dead letter")
    assert [letter["detail"] for letter in letters] == [{"said": "hello"}, {"said": 'a quote: "'}]
    # Once, and once more; what a transformer breaks is not even sent.
    assert [post.body for post in posts] == [b'{"said": "hello"}'] * 2
    assert {post.headers["X-Key"] for post in posts} == {"abc"}


def test_nothing_is_left_behind() -> None:
    before = children(os.getpid())
    with local_cloud() as cloud:
        assert cloud.client("sqs").list_queues()["ResponseMetadata"]["HTTPStatusCode"] == 200
        assert children(os.getpid()) - before
    assert children(os.getpid()) == before


def invoke(cloud: LocalCloud, deployed: Stack) -> dict[str, Any]:
    answer = cloud.client("lambda").invoke(
        FunctionName=deployed.outputs["AuditorFunctionName"], Payload=b"{}"
    )
    payload: dict[str, Any] = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, payload
    return payload
