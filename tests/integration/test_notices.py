"""Slack, chat and mail are told by the template's own rules: what arrives is valid, and reads like a message.

The rules, the transformers, the rate, the retries and the dead-letter queue are those of template.yaml.
"""

import json
from collections.abc import Callable, Iterator
from functools import partial
from http.client import HTTPConnection
from typing import Any

import pytest

from sandbox.cloud import LocalCloud, Stack, local_cloud, wait_for
from sandbox.vendors.slack import ORIGIN, PATH, WEBHOOK_URL, Message, PayloadError, Slack, check, slack
from session_auditor.model import DetailType, Event, Scope
from tests.integration.events import HOSTILE, put, whole_life

SECOND = 0.05
JANE = "jane.doe@example.com"
PLACE = "on stack office, fleet cad"
ABANDONED = (
    f"The session of “{JANE}” {PLACE} is abandoned: nobody was seen connected for 15 min; "
    "it ends at 09:03 UTC (disconnect timeout)"
)
OF_TARGET = "Nothing of account 123456789012, region eu-west-1 could be listed"
Tell = Callable[..., None]


@pytest.fixture(scope="module")
def hook() -> Iterator[Slack]:
    with slack(SECOND) as hook:
        yield hook


@pytest.fixture(scope="module")
def cloud(hook: Slack) -> Iterator[LocalCloud]:
    with local_cloud({ORIGIN: hook.url}, SECOND) as cloud:
        yield cloud


@pytest.fixture(scope="module")
def deployed(cloud: LocalCloud) -> Stack:
    return cloud.deploy(
        {
            "SlackWebhookUrl": WEBHOOK_URL,
            "GoodEvents": "AppStream Session Started,AppStream Session Ended,AppStream Session Unwatched",
            "WarningEvents": "AppStream Session Disconnected, AppStream Session Expiring",
            "NoticeStacks": "office,lab",
            "NoticeFleets": "cad",
            "ChatTopic": "true",
            "NoticeEmail": "ops@example.com",
        },
        disabled=["ScheduleV2"],
    )


@pytest.fixture(scope="module")
def tell(cloud: LocalCloud, deployed: Stack) -> Tell:
    return partial(put, cloud, deployed)


@pytest.fixture(autouse=True)
def _log(cloud: LocalCloud) -> Iterator[None]:
    yield
    print(cloud.log.read_text()[-4000:])


def received(hook: Slack) -> Message:
    return hook.received.get(timeout=20)


def words(message: Message) -> tuple[str, str]:
    section, context = message["attachments"][0]["blocks"]
    return section["text"]["text"], context["elements"][0]["text"]


@pytest.mark.parametrize(
    ("detail_type", "colour", "summary"),
    [
        (DetailType.STARTED, "good", f"User “{JANE}” started a session {PLACE}"),
        (
            DetailType.DISCONNECTED,
            "warning",
            f"User “{JANE}” disconnected {PLACE}; the session ends at 09:03 UTC (disconnect timeout)",
        ),
        (
            DetailType.EXPIRING,
            "warning",
            f"The session of “{JANE}” {PLACE} ends in 15 min, at 09:03 UTC (disconnect timeout)",
        ),
        (
            DetailType.ABANDONED,
            "danger",
            ABANDONED,
        ),
    ],
)
def test_a_message_says_who_where_what_since_when_and_until_when(
    tell: Tell, hook: Slack, detail_type: DetailType, colour: str, summary: str
) -> None:
    event = whole_life()[detail_type]
    tell(event)
    message = received(hook)
    assert message["text"] == f"{detail_type.value} {PLACE}"
    assert message["attachments"][0]["color"] == colour
    assert message["attachments"][0]["blocks"][0]["block_id"] == event.event_id
    ends = (
        "2026-03-02T18:00:00Z at the latest (MAX_DURATION)"
        if detail_type is DetailType.STARTED
        else "2026-03-02T09:03:00Z at the latest (DISCONNECT_TIMEOUT)"
    )
    assert words(message) == (summary, f"Session since 2026-03-02T08:00:30Z, until {ends}")


def test_what_cannot_be_listed_is_told_and_when_it_can_again(tell: Tell, hook: Slack) -> None:
    life = whole_life()
    tell(life[DetailType.AUDIT_DEGRADED], life[DetailType.AUDIT_RECOVERED])
    degraded, recovered = received(hook), received(hook)
    assert degraded["text"] == "AppStream Audit Degraded in account 123456789012, region eu-west-1"
    assert [each["attachments"][0]["color"] for each in (degraded, recovered)] == ["danger", "good"]
    assert words(degraded)[0] == (
        f"Sessions {PLACE} could not be listed since 2026-03-02 08:56 UTC: ThrottlingException"
    )
    assert words(recovered)[1] == "What happened there since 2026-03-02T08:56:00Z is told now"


def of_target(event: Event) -> Event:
    """Make it an audit event of the whole target, which has no stack and no fleet."""
    detail = json.loads(event.detail)
    detail["data"] |= {"stackName": "", "fleetName": "", "summary": OF_TARGET}
    return event._replace(detail=json.dumps(detail))


def test_slack_is_told_of_the_whole_target_whatever_the_filters(tell: Tell, hook: Slack) -> None:
    event = of_target(whole_life()[DetailType.AUDIT_DEGRADED])
    tell(event)
    message = received(hook)
    assert message["text"] == "AppStream Audit Degraded in account 123456789012, region eu-west-1"
    assert words(message)[0] == OF_TARGET


def test_an_audit_event_of_another_stack_or_fleet_is_not_told(tell: Tell, hook: Slack) -> None:
    for scope in (Scope("elsewhere", "cad"), Scope("office", "elsewhere")):
        tell(whole_life(scope)[DetailType.AUDIT_DEGRADED])
    tell(whole_life()[DetailType.ABANDONED])
    assert received(hook)["text"] == "AppStream Session Abandoned on stack office, fleet cad"


@pytest.mark.parametrize("user_id", HOSTILE)
def test_hostile_user_ids_arrive_as_plain_text(tell: Tell, hook: Slack, user_id: str) -> None:
    event = whole_life(user_id=user_id)[DetailType.ABANDONED]
    tell(event)
    message = received(hook)
    summary = json.loads(event.detail)["data"]["summary"]
    assert summary.isprintable()
    assert words(message)[0] == summary
    # Nothing of it stands where Slack would read markup.
    message["attachments"][0]["blocks"][0]["text"]["text"] = ""
    assert message == {
        "text": "AppStream Session Abandoned on stack office, fleet cad",
        "attachments": [
            {
                "color": "danger",
                "blocks": [
                    {
                        "type": "section",
                        "block_id": event.event_id,
                        "text": {"type": "plain_text", "emoji": False, "text": ""},
                    },
                    {
                        "type": "context",
                        "elements": [{"type": "plain_text", "emoji": False, "text": words(message)[1]}],
                    },
                ],
            }
        ],
    }


def test_only_what_the_parameters_name_is_told(tell: Tell, hook: Slack) -> None:
    elsewhere, wanted = whole_life(Scope("elsewhere", "cad")), whole_life(Scope("lab", "cad"))
    tell(*elsewhere.values())
    tell(wanted[DetailType.CONNECTED], wanted[DetailType.ABANDONED])
    # Deliveries to one destination keep their order here, so what was not wanted would have come before.
    assert received(hook)["text"] == "AppStream Session Abandoned on stack lab, fleet cad"
    assert hook.received.empty()


def test_a_repeat_can_be_told_by_its_id(tell: Tell, hook: Slack) -> None:
    event = whole_life()[DetailType.ENDED]
    tell(event, event)
    assert received(hook) == received(hook)


def test_slack_is_never_asked_faster_than_it_takes(tell: Tell, hook: Slack) -> None:
    tell(*[whole_life()[DetailType.STARTED]] * 10)
    assert all(received(hook) for _ in range(10))
    assert hook.refused.empty(), "too early would have been answered 429"


def test_an_outage_delays_a_message_and_does_not_lose_it(tell: Tell, hook: Slack) -> None:
    for status in (503, 429, 500):
        hook.outages.put(status)
    event = whole_life()[DetailType.ABANDONED]
    tell(event)
    assert received(hook)["attachments"][0]["blocks"][0]["block_id"] == event.event_id
    assert [hook.refused.get() for _ in range(3)] == [(503, "outage"), (429, "outage"), (500, "outage")]


def test_what_slack_refuses_for_good_is_kept_as_it_was(
    cloud: LocalCloud, deployed: Stack, tell: Tell, hook: Slack
) -> None:
    hook.outages.put(404)
    event = whole_life()[DetailType.ABANDONED]
    tell(event)

    def dead_letters() -> Any:
        return (
            cloud.client("sqs")
            .receive_message(
                QueueUrl=deployed.outputs["UndeliveredNoticesQueueUrl"], MessageAttributeNames=["All"]
            )
            .get("Messages")
        )

    (letter,) = wait_for(dead_letters, 20, "the dead letter")
    assert json.loads(letter["Body"])["detail"] == json.loads(event.detail)
    told = {name: each["StringValue"] for name, each in letter["MessageAttributes"].items()}
    assert "SlackDanger" in told["RULE_ARN"]
    assert told["ERROR_MESSAGE"] == "HTTP 404"
    assert hook.refused.get() == (404, "outage")


@pytest.fixture(scope="module")
def chat(cloud: LocalCloud, deployed: Stack) -> str:
    return cloud.subscribe_topic(deployed.resources["ChatNotices"], "chat")


@pytest.fixture(scope="module")
def mail(cloud: LocalCloud, deployed: Stack) -> str:
    return cloud.subscribe_topic(deployed.resources["MailNotices"], "mail")


def test_chat_gets_a_custom_notification_a_thread_for_each_session(
    cloud: LocalCloud, tell: Tell, chat: str
) -> None:
    event = whole_life()[DetailType.ABANDONED]
    tell(event)
    (notification,) = wait_for(lambda: cloud.drain(chat), 20, "the notification")
    assert notification == {
        "version": "1.0",
        "source": "custom",
        "id": event.event_id,
        "content": {
            "textType": "client-markdown",
            "title": "AppStream Session Abandoned",
            "description": ABANDONED,
            "nextSteps": ["Deadline 2026-03-02T09:03:00Z (DISCONNECT_TIMEOUT)"],
            "keywords": ["office", "cad"],
        },
        "metadata": {
            "threadId": "123456789012/eu-west-1/s-1",
            "summary": ABANDONED,
            "eventType": "AppStream Session Abandoned",
            "relatedResources": list(event.resources),
            "additionalContext": {
                "began": "2026-03-02T08:00:30Z",
                "deadline": "2026-03-02T09:03:00Z",
                "cause": "DISCONNECT_TIMEOUT",
            },
        },
    }


def test_chat_has_a_thread_for_each_scope_that_cannot_be_listed(
    cloud: LocalCloud, tell: Tell, chat: str
) -> None:
    life = whole_life()
    tell(life[DetailType.AUDIT_DEGRADED], life[DetailType.AUDIT_RECOVERED])
    notifications = wait_for(lambda: cloud.drain(chat), 20, "the notifications")
    threads = [each["metadata"]["threadId"] for each in notifications]
    assert threads == ["123456789012/eu-west-1/office/cad"] * 2


@pytest.mark.parametrize("user_id", HOSTILE)
def test_hostile_user_ids_break_neither_chat_nor_mail(
    cloud: LocalCloud, tell: Tell, chat: str, mail: str, user_id: str
) -> None:
    event = whole_life(user_id=user_id)[DetailType.ENDED]
    summary = json.loads(event.detail)["data"]["summary"]
    tell(event)
    (notification,) = wait_for(lambda: cloud.drain(chat), 20, "the notification")
    assert notification["content"]["description"] == summary
    (letter,) = wait_for(lambda: cloud.drain(mail, str), 20, "the mail")
    assert letter.splitlines() == [
        f'"{summary}."',
        '"Session since 2026-03-02T08:00:30Z, until 2026-03-02T18:00:00Z at the latest (MAX_DURATION)."',
        f'"AppStream Session Ended, id {event.event_id}."',
    ]


def test_chat_and_mail_are_told_of_the_whole_target_whatever_the_filters(
    cloud: LocalCloud, tell: Tell, chat: str, mail: str
) -> None:
    tell(of_target(whole_life()[DetailType.AUDIT_DEGRADED]))
    (notification,) = wait_for(lambda: cloud.drain(chat), 20, "the notification")
    assert notification["content"]["description"] == OF_TARGET
    assert notification["content"]["keywords"] == ["123456789012", "eu-west-1"]
    assert notification["metadata"]["threadId"] == "123456789012/eu-west-1//"
    (letter,) = wait_for(lambda: cloud.drain(mail, str), 20, "the mail")
    assert letter.splitlines()[0] == f'"{OF_TARGET}."'


def test_slack_takes_one_message_a_second() -> None:
    """The stand-in holds to its rate: else the test above would prove nothing."""
    with slack(second=60) as hook:
        answers = [post(hook, {"text": "one"}), post(hook, {"text": "two"})]
    assert answers == [(200, "ok", None), (429, "rate_limited", "1")]
    assert hook.received.qsize() == 1


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        pytest.param({"text": ""}, "no_text", id="no text"),
        pytest.param({"text": "x", "colour": "red"}, "invalid_payload", id="a field Slack does not know"),
        pytest.param(
            {"text": "x", "blocks": [{"type": "sectoin"}]}, "invalid_blocks", id="a block it does not know"
        ),
        pytest.param(
            {"text": "x", "blocks": [{"type": "section", "text": {"type": "plain_text", "text": ""}}]},
            "invalid_blocks",
            id="an empty text",
        ),
        pytest.param(
            {
                "text": "x",
                "blocks": [{"type": "section", "text": {"type": "plain_text", "text": "x" * 3001}}],
            },
            "invalid_blocks",
            id="a text too long",
        ),
        pytest.param(
            {"text": "x", "blocks": [{"type": "divider"}] * 51}, "invalid_blocks", id="too many blocks"
        ),
        pytest.param(
            {"text": "x", "attachments": [{"color": "reddish", "blocks": [{"type": "divider"}]}]},
            "invalid_attachments",
            id="a colour it does not know",
        ),
    ],
)
def test_slack_refuses_what_is_not_a_message(message: Message, answer: str) -> None:
    with pytest.raises(PayloadError, match=f"^{answer}"):
        check(message)


def post(hook: Slack, message: Message) -> tuple[int, str, str | None]:
    connection = HTTPConnection(hook.url.removeprefix("http://"), timeout=5)
    connection.request("POST", PATH, json.dumps(message), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    status, text, wait = answer.status, answer.read().decode(), answer.headers["Retry-After"]
    connection.close()
    return status, text, wait
