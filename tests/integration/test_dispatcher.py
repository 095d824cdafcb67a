"""The dispatcher in the local cloud: deployed with a setting, gone with it, and sweeps by message in between.

The local Scheduler does not put the time of a schedule into what it sends, so the minute is the one in which
it arrives. The local Organizations has neither pages nor the state of an account; moto's has both, and
tests/unit/test_organizations.py asks it.
"""

import json
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

import pytest

from sandbox import appstream
from sandbox.appstream.models import Fleet, StreamingSession
from sandbox.cloud import ACCOUNT_ID, REGION, ROOT, LocalCloud, Stack, local_cloud, wait_for

ELSEWHERE = "us-east-1"
STACK = "session-auditor"
TARGETS: Mapping[str, str] = {
    "Targets": ACCOUNT_ID,
    "TargetRegions": f"{REGION},{ELSEWHERE}",
    "SweepEvery": "15",
    "AuthenticationTypes": "API",
}


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    with local_cloud() as cloud:
        for region in (REGION, ELSEWHERE):
            appstream.appstream_backends[ACCOUNT_ID][region].add_scope("office", Fleet("cad"))
        yield cloud


@pytest.fixture(scope="module")
def deployed(cloud: LocalCloud) -> Stack:
    return cloud.deploy(TARGETS)


def schedules(cloud: LocalCloud) -> dict[str, str]:
    """Which functions have a schedule, and whether it is enabled."""
    scheduler = cloud.client("scheduler")
    found = {}
    for each in scheduler.list_schedules()["Schedules"]:
        schedule = scheduler.get_schedule(Name=each["Name"], GroupName=each["GroupName"])
        target = schedule["Target"]["Arn"]
        found["dispatcher" if "Dispatcher" in target else "auditor"] = schedule["State"]
    return found


def put_session(region: str, session_id: str) -> None:
    appstream.appstream_backends[ACCOUNT_ID][region].sessions[session_id] = StreamingSession(
        session_id, "jane.doe@example.com", "office", "cad", authentication_type="API", instance_id="i-1"
    )


def swept(cloud: LocalCloud, deployed: Stack) -> set[str]:
    """The targets that were swept, as the table's keys name them."""
    items = cloud.client("dynamodb").scan(TableName=deployed.outputs["SessionsTableName"])["Items"]
    return {each["pk"]["S"] for each in items if each["sk"]["S"] == "TARGET"}


def ask(cloud: LocalCloud, deployed: Stack) -> dict[str, Any]:
    """Ask for this minute's sweeps by hand; what was due in it already is swept at once."""
    answer = cloud.client("lambda").invoke(FunctionName=deployed.outputs["DispatcherFunctionName"])
    payload: dict[str, Any] = json.loads(answer["Payload"].read())
    assert "errorMessage" not in payload, payload
    return payload


def test_the_auditors_own_schedule_rests(cloud: LocalCloud, deployed: Stack) -> None:
    assert schedules(cloud) == {"auditor": "DISABLED", "dispatcher": "ENABLED"}


def test_the_auditor_takes_messages_from_the_queue(cloud: LocalCloud, deployed: Stack) -> None:
    (mapping,) = cloud.client("lambda").list_event_source_mappings()["EventSourceMappings"]
    assert mapping["FunctionArn"].endswith(deployed.outputs["AuditorFunctionName"])
    assert mapping["ScalingConfig"] == {"MaximumConcurrency": 20}
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    queue = cloud.client("sqs").get_queue_url(QueueName=mapping["EventSourceArn"].rpartition(":")[2])
    attributes = cloud.client("sqs").get_queue_attributes(QueueUrl=queue["QueueUrl"], AttributeNames=["All"])[
        "Attributes"
    ]
    assert attributes["MessageRetentionPeriod"] == "180"
    assert attributes["VisibilityTimeout"] == "50"


def test_an_alarm_of_its_own_takes_the_place_of_the_other(cloud: LocalCloud, deployed: Stack) -> None:
    alarms = cloud.client("cloudwatch").describe_alarms()["MetricAlarms"]
    (overdue,) = [each for each in alarms if each["MetricName"] == "TargetsOverdue"]
    assert overdue["Dimensions"] == [{"Name": "service", "Value": STACK}]
    assert not [each for each in alarms if each["MetricName"] == "SweepCompleted"]
    named = cloud.client("ssm").get_parameter(Name=f"/appstream-session-auditor/{STACK}/alarm-arns")
    assert overdue["AlarmArn"] in named["Parameter"]["Value"].split(",")


def test_targets_are_swept_by_message_and_told_of_with_their_region(
    cloud: LocalCloud, deployed: Stack
) -> None:
    queue = cloud.subscribe_queue(
        deployed.outputs["SessionBusName"], "all", {"source": ["appstream.auditor"]}
    )
    answer = ask(cloud, deployed)
    assert answer["targets"] == 2
    assert answer["messages"] == 8
    keys = {f"TARGET#{ACCOUNT_ID}#{region}" for region in (REGION, ELSEWHERE)}
    wait_for(lambda: swept(cloud, deployed) == keys, 90, "both targets to be swept")
    put_session(REGION, "s-here")
    put_session(ELSEWHERE, "s-there")
    told: dict[str, tuple[str, str]] = {}

    def both() -> bool:
        for event in cloud.drain(queue):
            detail = event["detail"]
            told[detail["data"]["session"]["id"]] = (event["detail-type"], detail["metadata"]["region"])
        return len(told) == 2

    # The rest of the minute's messages, fifteen seconds apart; another minute if the first was nearly over.
    ask(cloud, deployed)
    wait_for(both, 90, "both sessions to be told of")
    assert told == {
        "s-here": ("AppStream Session Started", REGION),
        "s-there": ("AppStream Session Started", ELSEWHERE),
    }


def test_a_spoke_has_the_role_that_the_auditor_asks_for(cloud: LocalCloud, deployed: Stack) -> None:
    """Whom it lets in is only read here: the local cloud does not know `aws:PrincipalArn` of a role."""
    spoke = cloud.deploy({"HubAccount": ACCOUNT_ID, "ExternalId": "4fb1"}, "spoke", ROOT / "spoke.yaml")
    name = spoke.outputs["SpokeRoleArn"].rpartition("/")[2]
    function = cloud.client("lambda").get_function_configuration(
        FunctionName=deployed.outputs["AuditorFunctionName"]
    )
    assert function["Environment"]["Variables"]["SPOKE_ROLE"] == name
    (trust,) = cloud.client("iam").get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Condition"]["StringEquals"] == {"sts:ExternalId": "4fb1"}
    (pattern,) = trust["Condition"]["ArnLike"].values()
    # The default is of a stack with the README's name; here it has another.
    role = deployed.outputs["AuditorRoleName"].replace(STACK, "appstream-session-auditor")
    assert fnmatchcase(f"arn:aws:iam::{ACCOUNT_ID}:role/{role}", pattern)


def test_without_targets_all_is_as_it_was(cloud: LocalCloud, deployed: Stack) -> None:
    """The last test of the file: it takes the dispatcher away again."""
    back = cloud.deploy(dict.fromkeys(("Targets", "TargetRegions"), "") | {"SweepEvery": "60"})
    assert "Dispatcher" not in back.resources
    assert "DispatcherFunctionName" not in back.outputs
    assert schedules(cloud) == {"auditor": "ENABLED"}
    assert cloud.client("lambda").list_event_source_mappings()["EventSourceMappings"] == []
    assert back.outputs["SessionsTableName"] == deployed.outputs["SessionsTableName"]
