"""The notifier's template in the local cloud: from the bus by rule and queue to Slack and to a topic."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse

from sandbox.cloud import ROOT, LocalCloud, Stack, local_cloud, wait_for
from sandbox.vendors.slack import PATH, Slack, slack
from session_auditor.model import DetailType
from tests.integration.events import put, whole_life
from tests.unit.test_notices import envelope

TEMPLATE = ROOT / "functions" / "notifier" / "template.yaml"
AUDITS = {DetailType.AUDIT_DEGRADED.value, DetailType.AUDIT_RECOVERED.value}


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    with local_cloud() as cloud:
        yield cloud


@pytest.fixture(scope="module")
def hook() -> Iterator[Slack]:
    with slack(second=0) as hook:
        yield hook


@pytest.fixture(scope="module")
def auditor(cloud: LocalCloud) -> Stack:
    return cloud.deploy({}, disabled=["ScheduleV2"])


def deploy(cloud: LocalCloud, auditor: Stack, channel: str, **parameters: str) -> Stack:
    layer = next(value for name, value in auditor.resources.items() if name.startswith("AuditorLayer"))
    given = {"Channel": channel, "BusName": auditor.outputs["SessionBusName"], "Layer": layer}
    return cloud.deploy(given | parameters, name=channel, template=TEMPLATE)


@pytest.fixture(scope="module")
def in_slack(cloud: LocalCloud, auditor: Stack, hook: Slack) -> Stack:
    cloud.client("ssm").put_parameter(
        Name="/notices/slack", Value=hook.url + PATH, Type="SecureString", Overwrite=True
    )
    return deploy(cloud, auditor, "slack", Webhook="/notices/slack")


@pytest.fixture(scope="module")
def letters(cloud: LocalCloud, auditor: Stack) -> str:
    stack = deploy(cloud, auditor, "mail", Email="ops@example.com", Notices="everything", NoticeFleets="cad")
    return cloud.subscribe_topic(stack.outputs["TopicArn"], "letters")


@pytest.fixture(autouse=True)
def _log(cloud: LocalCloud) -> Iterator[None]:
    yield
    # Shown with a test that fails: deliveries that did not arrive are told here only.
    print(cloud.log.read_text()[-4000:])


def test_a_life_is_told_to_each_as_it_asked(
    cloud: LocalCloud, auditor: Stack, in_slack: Stack, letters: str, hook: Slack
) -> None:
    life = whole_life()
    put(cloud, auditor, *life.values())
    told: list[str] = []

    def all_letters() -> bool:
        told.extend(cloud.drain(letters, str))
        return len(told) >= len(life)

    wait_for(all_letters, 60, "the letters")
    heads = {letter.splitlines()[0].split(" on stack")[0] for letter in told}
    assert heads == {each.value for each in DetailType}
    # Slack's level is normal: the user was gone when it expired, and it was abandoned for a quarter.
    messages = [hook.received.get(timeout=30) for _ in AUDITS]
    assert {message["text"].split(" on stack")[0] for message in messages} == AUDITS
    assert hook.refused.empty()


def test_what_cannot_be_told_is_a_dead_letter(
    cloud: LocalCloud, auditor: Stack, in_slack: Stack, hook: Slack
) -> None:
    event = whole_life()[DetailType.AUDIT_DEGRADED]
    hook.outages.put(410)
    put(cloud, auditor, event)
    queue = in_slack.outputs["UndeliveredQueueUrl"]
    (letter,) = wait_for(lambda: cloud.drain(queue), 60, "the dead letter")
    assert letter["detail"] == json.loads(event.detail)


def patterns() -> dict[str, dict[str, Any]]:
    """Return the rule's pattern by the level of Notices."""
    pattern = yaml_parse(TEMPLATE.read_text())["Resources"]["Events"]["Properties"]["EventPattern"]
    _, quiet, rest = pattern["Fn::If"]
    _, normal, rest = rest["Fn::If"]
    _, everything, _ = rest["Fn::If"]
    return {"quiet": quiet, "normal": normal, "everything": everything}


def changed(event: dict[str, Any], **data: Any) -> dict[str, Any]:
    event["detail"]["data"] |= {name: value for name, value in data.items() if name != "connection"}
    if "connection" in data:
        event["detail"]["data"]["session"]["connectionState"] = data["connection"]
    return event


AT_WORK = {"deadline": {"cause": "MAX_DURATION"}, "connection": "CONNECTED"}
GONE = {"deadline": {"cause": "DISCONNECT_TIMEOUT"}, "connection": "NOT_CONNECTED"}


@pytest.mark.parametrize(
    ("kind", "data", "least"),
    [
        pytest.param(DetailType.AUDIT_DEGRADED, {}, "quiet", id="audit"),
        pytest.param(DetailType.EXPIRING, AT_WORK, "normal", id="who is at work is about to be cut off"),
        pytest.param(DetailType.EXPIRING, GONE, "everything", id="who went home is about to be ended"),
        pytest.param(
            DetailType.EXPIRING,
            AT_WORK | {"connection": "NOT_CONNECTED"},
            "everything",
            id="who is away is about to be cut off",
        ),
        pytest.param(DetailType.ABANDONED, {"thresholdMinutes": 60}, "normal", id="abandoned for an hour"),
        pytest.param(DetailType.ABANDONED, {"thresholdMinutes": 15}, "everything", id="for a quarter"),
        pytest.param(DetailType.STARTED, {}, "everything", id="started"),
    ],
)
def test_a_level_tells_what_it_says(
    cloud: LocalCloud, kind: DetailType, data: dict[str, Any], least: str
) -> None:
    around = {"id": "1", "account": "123456789012", "region": "eu-west-1", "time": "2026-03-02T14:00:00Z"}
    event = json.dumps(changed(envelope(1, kind), **data) | around)
    events = cloud.client("events")
    told = [
        level
        for level, pattern in patterns().items()
        if events.test_event_pattern(EventPattern=json.dumps(pattern), Event=event)["Result"]
    ]
    levels = ["quiet", "normal", "everything"]
    assert told == levels[levels.index(least) :]
