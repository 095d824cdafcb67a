"""People are told by the deployed template: from the bus by rule, queue and notifier to every channel.

What a channel does when it is slow, down or gone is tested on a simulated clock, in tests/notifier.
"""

import json
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import Any

import pytest

from sandbox.cloud import LocalCloud, Stack, local_cloud, wait_for
from sandbox.vendors.slack import Slack, slack
from sandbox.vendors.teams import Teams, teams
from session_auditor.model import DetailType, Event, Scope
from tests.shared.events import HOSTILE, put, whole_life
from tests.shared.notices import envelope, patterns

# A minute's window takes half a second.
SECOND = 0.01
PLACE = "on stack office, fleet cad"
OF_TARGET = "Nothing of account 123456789012, region eu-west-1 could be listed"
Tell = Callable[..., None]
Receive = Callable[[int], list[Any]]


@pytest.fixture(scope="module")
def hook() -> Iterator[Slack]:
    with slack(second=0) as hook:
        yield hook


@pytest.fixture(scope="module")
def workflow() -> Iterator[Teams]:
    # It takes four messages a second, which is another test's matter: here each request is a second later.
    with teams(clock=count().__next__) as workflow:
        yield workflow


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    with local_cloud(second=SECOND) as cloud:
        yield cloud


@pytest.fixture(scope="module")
def deployed(cloud: LocalCloud, hook: Slack, workflow: Teams) -> Stack:
    cloud.client("ssm").put_parameter(Name="/notices/slack", Value=hook.url, Type="SecureString")
    cloud.client("secretsmanager").create_secret(Name="notices/teams", SecretString=workflow.url)
    return cloud.deploy(
        {
            "Sweeps": "DISABLED",
            "SlackWebhook": "/notices/slack",
            "TeamsWebhook": "notices/teams",
            "NoticeEmail": "ops@example.com",
            "ChatTopic": "true",
            "Notices": "everything",
            "NoticeStacks": "*,!elsewhere",
            "NoticeFleets": "c*",
        }
    )


@pytest.fixture(scope="module")
def tell(cloud: LocalCloud, deployed: Stack) -> Tell:
    return partial(put, cloud, deployed)


@pytest.fixture(scope="module")
def chat(cloud: LocalCloud, deployed: Stack) -> Receive:
    queue = cloud.subscribe_topic(deployed.outputs["ChatTopicArn"], "chat")
    return partial(received, lambda: cloud.drain(queue))


@pytest.fixture(scope="module")
def mail(cloud: LocalCloud, deployed: Stack) -> Receive:
    # What is mailed is published to a topic of the nested stack.
    (topic,) = (
        each["TopicArn"]
        for each in cloud.client("sns").list_topics()["Topics"]
        if "-Mail-" in each["TopicArn"]
    )
    queue = cloud.subscribe_topic(topic, "mail")
    return partial(received, lambda: cloud.drain(queue, str))


@pytest.fixture(autouse=True)
def _log(cloud: LocalCloud) -> Iterator[None]:
    yield
    # Shown with a test that fails: deliveries that did not arrive are told here only.
    print(cloud.log.read_text()[-4000:])


def received(drain: Callable[[], list[Any]], number: int) -> list[Any]:
    messages: list[Any] = []

    def complete() -> bool:
        messages.extend(drain())
        return len(messages) >= number

    wait_for(complete, 30, f"{number} messages")
    return messages


def in_slack(hook: Slack, number: int) -> list[dict[str, Any]]:
    return [hook.received.get(timeout=30) for _ in range(number)]


def in_teams(workflow: Teams, number: int) -> list[dict[str, Any]]:
    posts = [workflow.received.get(timeout=30) for _ in range(number)]
    return [post["attachments"][0]["content"] for post in posts]


def test_a_life_is_told_in_every_channel(
    tell: Tell, hook: Slack, workflow: Teams, chat: Receive, mail: Receive
) -> None:
    life = whole_life()
    told = {
        f"{kind.value} {'on fleet cad' if 'Fleet' in kind else PLACE}": json.loads(event.detail)["data"][
            "summary"
        ]
        for kind, event in life.items()
    }
    tell(*life.values())
    assert {
        message["text"]: message["attachments"][0]["blocks"][0]["text"]["text"]
        for message in in_slack(hook, len(life))
    } == told
    assert {
        card["fallbackText"]: card["body"][1]["inlines"][0]["text"] for card in in_teams(workflow, len(life))
    } == told
    assert {each["content"]["title"]: each["content"]["description"] for each in chat(len(life))} == {
        heading: summary.replace("_", r"\_") for heading, summary in told.items()
    }
    letters = [letter.splitlines() for letter in mail(len(life))]
    assert {letter[0]: letter[2] for letter in letters} == told
    assert hook.refused.empty()
    assert workflow.refused.empty()


def test_many_are_told_as_one(tell: Tell, hook: Slack, workflow: Teams, chat: Receive, mail: Receive) -> None:
    ended = [
        whole_life(user_id=f"user{number}@example.com", session_id=f"s-{number}")[DetailType.ENDED]
        for number in range(4)
    ]
    tell(*ended)
    (message,), (card,), (notification,), (letter,) = (
        in_slack(hook, 1),
        in_teams(workflow, 1),
        chat(1),
        mail(1),
    )
    heading = "AppStream Session Ended: 4 sessions"
    assert message["text"] == card["fallbackText"] == notification["content"]["title"] == heading
    assert letter.splitlines()[0] == heading
    assert message["attachments"][0]["blocks"][0]["text"]["text"].splitlines()[0] == f"4 {PLACE}"


def test_only_what_the_parameters_name_is_told(
    tell: Tell, hook: Slack, workflow: Teams, chat: Receive, mail: Receive
) -> None:
    for scope in (Scope("elsewhere", "cad"), Scope("office", "gis"), Scope("lab", "cad")):
        tell(whole_life(scope)[DetailType.AUDIT_DEGRADED])
    heading = "AppStream Audit Degraded on stack lab, fleet cad"
    assert [message["text"] for message in in_slack(hook, 1)] == [heading]
    assert [card["fallbackText"] for card in in_teams(workflow, 1)] == [heading]
    assert [each["content"]["title"] for each in chat(1)] == [heading]
    assert [letter.splitlines()[0] for letter in mail(1)] == [heading]


def of_target(event: Event) -> Event:
    """Make it an audit event of the whole target, which has no stack and no fleet."""
    detail = json.loads(event.detail)
    detail["data"] |= {"stackName": "", "fleetName": "", "summary": OF_TARGET}
    return event._replace(detail=json.dumps(detail))


def test_the_whole_target_is_told_of_whatever_the_filters(
    tell: Tell, hook: Slack, workflow: Teams, chat: Receive, mail: Receive
) -> None:
    tell(of_target(whole_life()[DetailType.AUDIT_DEGRADED]))
    heading = "AppStream Audit Degraded in account 123456789012, region eu-west-1"
    assert in_slack(hook, 1)[0]["text"] == in_teams(workflow, 1)[0]["fallbackText"] == heading
    assert chat(1)[0]["content"]["description"] == OF_TARGET
    assert mail(1)[0].splitlines()[2] == OF_TARGET


@pytest.mark.parametrize("user_id", HOSTILE)
def test_what_a_user_is_called_arrives_as_plain_text(
    tell: Tell, hook: Slack, workflow: Teams, mail: Receive, user_id: str
) -> None:
    event = whole_life(user_id=user_id)[DetailType.ABANDONED]
    summary = json.loads(event.detail)["data"]["summary"]
    tell(event)
    (message,), (card,), (letter,) = in_slack(hook, 1), in_teams(workflow, 1), mail(1)
    text = message["attachments"][0]["blocks"][0]["text"]
    assert text == {"type": "plain_text", "emoji": False, "text": summary}
    assert card["body"][1] == {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": summary}]}
    assert letter.splitlines()[2] == summary
    # Nothing of it stands anywhere else.
    assert message["text"] == card["fallbackText"] == f"AppStream Session Abandoned {PLACE}"


def test_what_cannot_be_told_is_a_dead_letter_of_its_channel(
    cloud: LocalCloud, deployed: Stack, tell: Tell, hook: Slack, workflow: Teams
) -> None:
    event = whole_life()[DetailType.AUDIT_DEGRADED]
    hook.outages.put(410)
    tell(event)
    assert in_teams(workflow, 1)

    def dead_letters() -> Any:
        return (
            cloud.client("sqs")
            .receive_message(
                QueueUrl=deployed.outputs["SlackUndeliveredQueueUrl"], MessageAttributeNames=["All"]
            )
            .get("Messages")
        )

    (letter,) = wait_for(dead_letters, 30, "the dead letter")
    assert json.loads(letter["Body"])["detail"] == json.loads(event.detail)
    assert letter["MessageAttributes"]["reason"]["StringValue"] == "HTTP 410: outage"


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
        pytest.param(DetailType.FLEET_FAULTED, {}, "quiet", id="a fleet"),
        pytest.param(DetailType.FLEET_RECOVERED, {}, "quiet", id="a fleet again"),
        pytest.param(DetailType.POLICY_VIOLATED, {}, "quiet", id="a policy"),
        pytest.param(DetailType.POLICY_CLEARED, {}, "quiet", id="a policy no more"),
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
