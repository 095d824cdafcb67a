"""The life of a stack: docs/operate.md, command by command, as an administrator comes to it.

The tests are one story, in order. A change of a setting is an update of the stack, as `sam deploy` makes it
(tests/integration/test_deploy.py types that); every box of the document is run by the AWS CLI.
"""

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse

from sandbox.appstream.models import Fleet, StreamingSession
from sandbox.cloud import REGION, ROOT, LocalCloud, Stack, local_cloud, wait_for
from sandbox.vendors.slack import Slack, slack
from session_auditor.contract import committed_event
from session_auditor.model import DetailType
from session_auditor.table import Table
from tests.integration.shell import shell
from tests.shared.history import TARGET

OPERATE = (ROOT / "docs" / "operate.md").read_text()
BOXES = re.findall(r"```bash\n(.*?)```", OPERATE, re.DOTALL)
NAME = "appstream-session-auditor"
SECOND = 0.01
# What an administrator fills in.
VARIABLES = {"webhook_url": "", "rule": "to-all"}
Run = Callable[..., str]
Deploy = Callable[..., Stack]


@pytest.fixture(scope="module")
def hook() -> Iterator[Slack]:
    with slack(second=0) as hook:
        yield hook


@pytest.fixture(scope="module")
def former() -> Iterator[Slack]:
    """The webhook that is in use until another takes its place."""
    with slack(second=0) as former:
        VARIABLES["webhook_url"] = former.url
        yield former


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    with local_cloud(second=SECOND) as cloud:
        cloud.appstream.add_scope("office", Fleet("cad"))
        cloud.appstream.add_scope("lab", Fleet("render"))
        yield cloud


@pytest.fixture(scope="module")
def run(cloud: LocalCloud, former: Slack, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run the box of the document that has these words, after the first one; return what it printed."""
    home = tmp_path_factory.mktemp("home")

    def box(words: str) -> str:
        script = next(each for each in BOXES if words in each)
        ran.add(script)
        return shell(cloud, f"{BOXES[0]}\n{script}", home, ROOT, **VARIABLES)

    return box


ran: set[str] = {BOXES[0]}


@pytest.fixture(scope="module")
def deploy(cloud: LocalCloud) -> Deploy:
    """Deploy with the settings so far and those that are given, as samconfig.toml keeps them."""
    settings = {"Notices": "everything", "ArchiveDays": "30", "Sweeps": "DISABLED"}

    def update(**changed: str) -> Stack:
        settings.update(changed)
        return cloud.deploy(settings, name=NAME)

    return update


@pytest.fixture(scope="module")
def stack(run: Run, deploy: Deploy) -> Stack:
    run("put-parameter")
    return deploy(SlackWebhook="/appstream/slack-webhook", NoticeEmail="ops@example.com")


@pytest.fixture(scope="module")
def bus(cloud: LocalCloud, stack: Stack) -> Callable[[], list[dict[str, Any]]]:
    """What the bus has delivered since it was asked the last time."""
    url = cloud.subscribe_queue(stack.outputs["SessionBusName"], "all", {"source": ["appstream.auditor"]})
    return lambda: cloud.drain(url)


@pytest.fixture(autouse=True)
def _log(cloud: LocalCloud) -> Iterator[None]:
    yield
    print(cloud.log.read_text()[-4000:])


def sweep(run: Run) -> dict[str, Any]:
    """Make a sweep by hand; what the CLI adds follows the function's answer."""
    answer: dict[str, Any]
    answer, _ = json.JSONDecoder().raw_decode(run('"$(output AuditorFunctionName)" /dev/stdout'))
    return answer


def start(cloud: LocalCloud, session_id: str, stack: str, fleet: str) -> None:
    cloud.appstream.sessions[session_id] = StreamingSession(session_id, "jane.doe@example.com", stack, fleet)


def told(bus: Callable[[], list[dict[str, Any]]], number: int = 1) -> list[str]:
    events: list[dict[str, Any]] = []

    def complete() -> bool:
        events.extend(bus())
        return len(events) >= number

    wait_for(complete, 30, f"{number} events")
    return [event["detail-type"].removeprefix("AppStream ") for event in events]


def test_the_first_sweep_is_silent_and_the_next_ones_tell(
    cloud: LocalCloud, run: Run, stack: Stack, former: Slack, bus: Callable[[], list[dict[str, Any]]]
) -> None:
    start(cloud, "s-1", "office", "cad")
    first = sweep(run)
    assert (first["outcome"], first["scopesListed"], first["sessionsSeen"]) == ("COMPLETED", 2, 1)
    assert first["eventsPublished"] == {}
    start(cloud, "s-2", "lab", "render")
    assert sweep(run)["eventsPublished"] == {"AppStream Session Started": 1}
    assert told(bus) == ["Session Started"]
    assert former.received.get(timeout=30)["text"] == "AppStream Session Started on stack lab, fleet render"


def test_a_rotated_webhook_needs_no_deployment(
    cloud: LocalCloud, run: Run, former: Slack, hook: Slack, bus: Callable[[], list[dict[str, Any]]]
) -> None:
    VARIABLES["webhook_url"] = hook.url
    run("--overwrite")
    former.outages.put(404)
    start(cloud, "s-3", "lab", "render")
    sweep(run)
    assert told(bus) == ["Session Started"]
    assert hook.received.get(timeout=30)["text"] == "AppStream Session Started on stack lab, fleet render"


def test_it_can_be_paused_and_goes_on(cloud: LocalCloud, run: Run, deploy: Deploy, stack: Stack) -> None:
    def alarms() -> dict[str, bool]:
        described = cloud.client("cloudwatch").describe_alarms()["MetricAlarms"]
        return {each["AlarmName"].split("-")[-2]: each["ActionsEnabled"] for each in described}

    assert run("list-schedules").split()[-1] == "DISABLED"
    assert alarms()["NoCompletedSweep"] is False
    deploy(Sweeps="ENABLED")
    assert run("list-schedules").split()[-1] == "ENABLED"
    assert alarms()["NoCompletedSweep"] is True
    deploy(Sweeps="DISABLED")
    assert run("list-schedules").split()[-1] == "DISABLED"
    assert alarms()["NoCompletedSweep"] is False
    assert all(enabled for name, enabled in alarms().items() if name != "NoCompletedSweep")


def test_a_filter_that_changes_closes_what_was_told(
    cloud: LocalCloud, run: Run, deploy: Deploy, hook: Slack, bus: Callable[[], list[dict[str, Any]]]
) -> None:
    bus()
    deploy(StackFilter="*,!lab")
    assert sweep(run)["scopesListed"] == 1
    assert told(bus, 2) == ["Session Unwatched"] * 2
    deploy(StackFilter="*")
    assert sweep(run)["scopesListed"] == 2
    assert told(bus, 2) == ["Session Started"] * 2
    assert [hook.received.get(timeout=30)["text"].split(" on ")[0] for _ in range(4)] == [
        *["AppStream Session Unwatched"] * 2,
        *["AppStream Session Started"] * 2,
    ]


def test_an_alarm_is_shown_with_what_it_means(cloud: LocalCloud, run: Run, stack: Stack) -> None:
    name = stack.resources["EventsPending"]
    cloud.client("cloudwatch").set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="a test")
    shown = run("StateValue!='OK'").splitlines()
    assert any(line.startswith(f"{name}\tALARM\tEvents wait too long for the event bus.") for line in shown)


def test_alarms_can_be_sent_to_a_topic(cloud: LocalCloud, run: Run, stack: Stack) -> None:
    run("create-topic")
    topics = [each["TopicArn"] for each in cloud.client("sns").list_topics()["Topics"]]
    assert f"arn:aws:sns:{REGION}:123456789012:operations" in topics


def test_dead_letters_say_why_and_can_be_purged(
    cloud: LocalCloud, run: Run, stack: Stack, hook: Slack, bus: Callable[[], list[dict[str, Any]]]
) -> None:
    for _ in range(2):
        hook.outages.put(410)
    del cloud.appstream.sessions["s-3"]
    start(cloud, "s-4", "office", "cad")
    sweep(run)
    queue = stack.outputs["SlackUndeliveredQueueUrl"]

    def letters() -> bool:
        sqs = cloud.client("sqs")
        found = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["ApproximateNumberOfMessages"])
        return bool(int(found["Attributes"]["ApproximateNumberOfMessages"]))

    wait_for(letters, 30, "the dead letter")
    printed = run("--message-attribute-names All")
    assert '"HTTP 410: outage"' in printed
    assert "s-4" in printed
    run("purge-queue")
    assert not letters()
    while not hook.outages.empty():
        hook.outages.get()
    bus()


def test_who_has_not_confirmed_is_listed(run: Run, stack: Stack) -> None:
    assert "ops@example.com" in run("list-subscriptions")


def test_the_archive_is_replayed_to_one_rule(
    cloud: LocalCloud, run: Run, stack: Stack, bus: Callable[[], list[dict[str, Any]]]
) -> None:
    bus()
    run("start-replay")
    replayed = wait_for(bus, 30, "events that are replayed")
    assert all(event["replay-name"].startswith("missed-") for event in replayed)

    def completed() -> bool:
        (replay,) = cloud.client("events").list_replays()["Replays"]
        return bool(replay["State"] == "COMPLETED")

    wait_for(completed, 30, "the replay")


def test_a_refused_event_is_put_back(
    cloud: LocalCloud, run: Run, stack: Stack, bus: Callable[[], list[dict[str, Any]]]
) -> None:
    start(cloud, "s-5", "office", "cad")
    sweep(run)
    started = wait_for(lambda: [each for each in bus() if "s-5" in str(each)], 30, "the event")[0]
    detail = json.dumps(started["detail"])
    event = committed_event(TARGET, DetailType(started["detail-type"]), detail)
    table = Table(stack.outputs["SessionsTableName"], TARGET, timedelta(days=90))
    refused = table.put_refused(event, "MalformedDetail", datetime.now(UTC))
    cloud.client("dynamodb").put_item(**refused["Put"])
    assert run("begins_with(pk, :refused)").split() == [event.event_id, "MalformedDetail"]
    answer, _ = json.JSONDecoder().raw_decode(run('{"republish": "all"}'))
    assert answer["republished"] == [event.event_id]
    assert told(bus) == ["Session Started"]
    assert run("begins_with(pk, :refused)").strip() in ("", "None")


def test_the_table_is_restored(cloud: LocalCloud, run: Run, stack: Stack) -> None:
    run("restore-table-to-point-in-time")
    dynamodb = cloud.client("dynamodb")
    table = stack.outputs["SessionsTableName"]
    before = dynamodb.scan(TableName=table)["Items"]
    for item in before:
        dynamodb.delete_item(TableName=table, Key={"pk": item["pk"], "sk": item["sk"]})
    run("put-item")
    assert dynamodb.scan(TableName=table)["Count"] == len(before)
    assert sweep(run)["outcome"] == "COMPLETED"
    assert dynamodb.list_tables()["TableNames"] == [table]


def test_a_users_sessions_are_found(run: Run, stack: Stack) -> None:
    # s-3 has ended, and its end needed two sweeps.
    sweep(run)
    assert "#s-3" in run("userId = :user")


def test_it_is_deleted_but_for_its_table_and_deployed_again(
    cloud: LocalCloud, run: Run, deploy: Deploy, stack: Stack
) -> None:
    events = cloud.client("events")
    # The consumer of this story goes first.
    events.remove_targets(Rule="to-all", EventBusName=NAME, Ids=["to-all"])
    events.delete_rule(Name="to-all", EventBusName=NAME)
    table = run("delete-stack").split()[-1]
    assert table == stack.outputs["SessionsTableName"]
    assert [each["Name"] for each in events.list_event_buses()["EventBuses"]] == ["default"]
    dynamodb = cloud.client("dynamodb")
    assert dynamodb.list_tables()["TableNames"] == [table]
    # AWS gives the new stack another table; the local cloud makes the same name of the same stack, and would
    # adopt what lies there. Without it, a deployment is a first one.
    dynamodb.delete_table(TableName=table)
    deploy()
    first = sweep(run)
    assert (first["outcome"], first["eventsPublished"]) == ("COMPLETED", {})
    assert first["sessionsSeen"] == 4


def test_every_box_was_run() -> None:
    """All but the last one, which deletes what is left."""
    left = [box for box in BOXES[1:] if box not in ran]
    assert left == [box for box in BOXES if "delete-parameter" in box]


def test_every_alarm_is_explained() -> None:
    templates = [ROOT / "template.yaml", ROOT / "functions" / "notifier" / "template.yaml"]
    for template in templates:
        for name, resource in yaml_parse(template.read_text())["Resources"].items():
            if resource["Type"] == "AWS::CloudWatch::Alarm":
                assert re.search(rf"^\| {name}[ ,]", OPERATE, re.MULTILINE), name
