"""A stack of release 0.2 is updated in place: its table gets the index by user, and old items answer, too."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from appstream_auditor.deployment import DEFAULT_STACK
from appstream_auditor.main import cli
from sandbox.cloud import (
    ACCOUNT_ID,
    CREDENTIALS,
    DEPLOY_SECONDS,
    REGION,
    ROOT,
    LocalCloud,
    local_cloud,
    wait_for,
)

HISTORY = f"HISTORY#{ACCOUNT_ID}#{REGION}#2026-03-02"
# As release 0.1 wrote them, the second with UserIdMode=omit, and as release 0.2 does.
OLD: list[dict[str, Any]] = [
    {
        "pk": HISTORY,
        "sk": f"2026-03-02T{end}:00Z#{session_id}",
        "sessionId": session_id,
        "userId": user,
        "stackName": "office",
        "fleetName": "cad",
        "startTime": "2026-03-02T08:00:00Z",
        "endTime": f"2026-03-02T{end}:00Z",
        "endReason": "USER_OR_ADMIN",
        "connectedSeconds": 3600,
        "disconnectedSeconds": 60,
        "disconnects": 1,
        "expiresAt": 4102444800,
        **more,
    }
    for session_id, user, end, more in (
        ("s-1", "ann@example.com", "09:01", {}),
        ("s-2", "", "09:02", {}),
        ("s-3", "bob@example.com", "09:03", {"instanceId": "i-1", "authenticationType": "SAML"}),
    )
]


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    with local_cloud() as cloud, pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name.upper(), value)
        patch.setenv("AWS_ENDPOINT_URL", cloud.endpoint)
        patch.setenv("AWS_REGION", REGION)
        deploy_without_index(cloud)
        yield cloud


def deploy_without_index(cloud: LocalCloud) -> None:
    template = cloud._package(ROOT / "template.yaml")
    table = template["Resources"]["SessionsTable"]["Properties"]
    del table["GlobalSecondaryIndexes"]
    table["AttributeDefinitions"] = table["AttributeDefinitions"][:2]
    cloudformation = cloud.client("cloudformation")
    cloudformation.create_stack(
        StackName=DEFAULT_STACK,
        TemplateBody=json.dumps(template),
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        Parameters=[{"ParameterKey": "Sweeps", "ParameterValue": "DISABLED"}],
    )

    def created() -> bool:
        (stack,) = cloudformation.describe_stacks(StackName=DEFAULT_STACK)["Stacks"]
        return bool(stack["StackStatus"] == "CREATE_COMPLETE")

    wait_for(created, DEPLOY_SECONDS, "the stack of the last release")


def ask(*words: str) -> list[str]:
    asked = CliRunner().invoke(cli, [*words, "--since", "2026-03-01", "-o", "json"], catch_exceptions=False)
    assert asked.exit_code == 0, asked.output
    return [row["sessionId"] for row in json.loads(asked.stdout)["sessions"]]


def test_old_items_answer_before_and_after_the_update(cloud: LocalCloud) -> None:
    dynamodb = cloud.client("dynamodb")
    (name,) = dynamodb.list_tables()["TableNames"]
    for item in OLD:
        typed = {
            key: {"N": str(value)} if isinstance(value, int) else {"S": value} for key, value in item.items()
        }
        dynamodb.put_item(TableName=name, Item=typed)
    assert "GlobalSecondaryIndexes" not in dynamodb.describe_table(TableName=name)["Table"]
    # A newer command than the stack: without an index it reads day by day.
    assert ask("history", "--user", "ann@example.com") == ["s-1"]
    cloud.deploy({"Sweeps": "DISABLED"}, name=DEFAULT_STACK)
    assert dynamodb.list_tables()["TableNames"] == [name], "the table is the same one"
    (index,) = dynamodb.describe_table(TableName=name)["Table"]["GlobalSecondaryIndexes"]
    assert index["IndexName"] == "byUser"
    assert ask("history", "--user", "ann@example.com") == ["s-1"]
    assert ask("history", "--user", "bob@example.com") == ["s-3"]
    assert ask("history") == ["s-1", "s-2", "s-3"]
