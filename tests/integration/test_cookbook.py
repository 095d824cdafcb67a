"""What the rules cookbook says to type and to deploy works as it stands there."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.cloud import ROOT, LocalCloud, Stack, local_cloud, wait_for
from tests.integration.shell import shell
from tests.shared.events import put, whole_life

RULES = ROOT / "examples" / "consumers" / "rules"
README = (RULES / "README.md").read_text()
TRY, ADD = (box for box in re.findall(r"```\n(.*?)```", README, re.DOTALL) if "aws events" in box)
(TEMPLATE,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    with local_cloud() as cloud:
        yield cloud


@pytest.fixture(scope="module")
def auditor(cloud: LocalCloud) -> Stack:
    return cloud.deploy({"Sweeps": "DISABLED"}, name="appstream-session-auditor")


def test_a_pattern_can_be_tried(cloud: LocalCloud, tmp_path: Path) -> None:
    assert '"Result": true' in shell(cloud, TRY, tmp_path, RULES)
    other = TRY.replace("matches.json", "does-not-match.json")
    assert '"Result": false' in shell(cloud, other, tmp_path, RULES)


def test_one_can_be_added_by_hand(cloud: LocalCloud, auditor: Stack, tmp_path: Path) -> None:
    shell(cloud, ADD, tmp_path, RULES)
    events = cloud.client("events")
    bus = auditor.outputs["SessionBusName"]
    (target,) = events.list_targets_by_rule(Rule="ended-early", EventBusName=bus)["Targets"]
    assert target["Arn"] == "arn:aws:sns:eu-west-1:123456789012:sessions"


def test_the_template_deploys_as_it_stands_and_delivers(
    cloud: LocalCloud, auditor: Stack, tmp_path: Path
) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(TEMPLATE)
    stack = cloud.deploy({}, name="ended-early", template=path)
    queue = cloud.subscribe_topic(stack.resources["Sessions"], "sessions")
    put(cloud, auditor, *whole_life().values())
    (event,) = wait_for(lambda: cloud.drain(queue), 30, "the event")
    assert event["detail"]["data"]["endReason"] == "USER_OR_ADMIN"
