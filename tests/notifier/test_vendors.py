"""The stand-ins for Slack and Teams refuse what those refuse; else no test that passes them proves much."""

import json
from http.client import HTTPConnection
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import pytest

from sandbox.vendors import teams, topic
from sandbox.vendors.slack import Message, PayloadError, check, slack
from session_auditor import channels
from session_auditor.notices import Notice, messages
from tests.shared.notices import envelope


def test_slack_takes_one_message_a_second() -> None:
    with slack(second=60) as hook:
        answers = [post(hook.url, {"text": "one"}), post(hook.url, {"text": "two"})]
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


def card(**changed: Any) -> dict[str, Any]:
    """A message that Teams takes, with some fields of its card changed."""
    (message,) = messages([Notice.of(envelope())], several_targets=False)
    body = channels.teams(message)
    body["attachments"][0]["content"] |= changed
    return body


def test_teams_takes_four_messages_a_second() -> None:
    with teams.teams(clock=lambda: 0.0) as workflow:
        answers = [post(workflow.url, card()) for _ in range(teams.A_SECOND + 1)]
    assert [status for status, _, _ in answers] == [202] * teams.A_SECOND + [429]
    assert answers[-1][2] == "2"


def test_teams_takes_28_kb() -> None:
    run = {"type": "TextRun", "text": "x" * teams.BYTES_LIMIT}
    with teams.teams(clock=count().__next__) as workflow:
        status, text, _ = post(workflow.url, card(body=[{"type": "RichTextBlock", "inlines": [run]}]))
        assert (status, json.loads(text)["error"]["code"]) == (413, "RequestEntityTooLarge")
        assert post(f"{workflow.url}/revoked", card())[0] == 404


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"body": []}, id="nothing in it"),
        pytest.param({"version": "9.9"}, id="a version it does not know"),
        pytest.param({"body": [{"type": "TextBlok", "text": "x"}]}, id="an element it does not know"),
        pytest.param(
            {"body": [{"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": ""}]}]},
            id="an empty text",
        ),
        pytest.param(
            {
                "body": [
                    {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": "x", "bold": True}]}
                ]
            },
            id="a field it does not know",
        ),
        pytest.param(
            {"body": [{"type": "Container", "style": "danger", "items": [{"type": "RichTextBlock"}]}]},
            id="a style it does not know",
        ),
        pytest.param({"fallbackText": ""}, id="nothing to show without cards"),
    ],
)
def test_teams_refuses_what_is_no_card(changed: dict[str, Any]) -> None:
    teams.check(card())
    with pytest.raises(teams.CardError, match="InvalidCard"):
        teams.check(card(**changed))


def published(subject: str = "subject", message: str = "message", **notification: Any) -> dict[str, str]:
    custom = {"version": "1.0", "source": "custom", "content": {"description": "text"}} | notification
    return {"Subject": subject, "Message": json.dumps(custom) if notification else message}


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(published(subject=""), id="no subject"),
        pytest.param(published(subject="x" * 101), id="a long subject"),
        pytest.param(published(subject="Büro"), id="a subject that is not ASCII"),
        pytest.param(published(subject="a\nb"), id="a subject of two lines"),
        pytest.param(published(message="x" * 262_145), id="a long message"),
        pytest.param(published(version="2.0"), id="a version that Amazon Q does not know"),
        pytest.param(published(content={"description": ""}), id="an empty text"),
        pytest.param(published(content={"description": "x", "text": "x"}), id="a field it does not know"),
        pytest.param(published(metadata={"additionalContext": {"a": None}}), id="a null"),
    ],
)
def test_a_topic_refuses_what_would_not_arrive(broken: dict[str, str]) -> None:
    topic.check(published(id="1"), chat=True)
    with pytest.raises(topic.PublishError):
        topic.check(broken, chat=broken["Message"].startswith("{"))


def post(url: str, message: Message) -> tuple[int, str, str | None]:
    parts = urlsplit(url)
    connection = HTTPConnection(parts.netloc, timeout=5)
    connection.request("POST", parts.path, json.dumps(message), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    status, text, wait = answer.status, answer.read().decode(), answer.headers["Retry-After"]
    connection.close()
    return status, text, wait
