"""How a message reads in each channel: valid there, plain where words may be hostile, within every limit."""

import json
from typing import Any

import pytest

from sandbox.vendors import slack, teams, topic
from session_auditor import channels
from session_auditor.model import DetailType
from session_auditor.notices import Message, Notice, messages
from tests.shared.notices import envelope

# What a user may be called, and a fleet, were its name not AWS's to check.
HOSTILE = [
    "jane.doe@example.com",
    "<!channel> <@U1> *bold* _it_ `code` [x](https://evil.example)",
    "@here & <https://evil.example|Reset your password>",
    "x" * 128,
    "“bob” has ended: by its user. eve",
    "\u202egnp.exe\n\t\u3164",
    "\U0001f600" * 64,
]


def single(user: str = "jane.doe@example.com", kind: DetailType = DetailType.EXPIRING) -> Message:
    (message,) = messages([Notice.of(envelope(1, kind, user=user))], several_targets=True)
    return message


def digest(
    user: str = "jane.doe@example.com", kind: DetailType = DetailType.EXPIRING, *, length: int = 5
) -> Message:
    """The longest there is: of many fleets of long names, and many users, policies and errors."""
    events = [
        envelope(
            number,
            kind,
            stack="s" * length,
            fleet=f"{number}-".ljust(length, "f"),
            user=f"{number} {user}",
            policy=f"p{number % 20}".ljust(40, "-"),
            codes=",".join(f"CODE_{number % 20}_{each}".ljust(60, "X") for each in range(20)),
        )
        for number in range(1_000)
    ]
    (message,) = messages(map(Notice.of, events), several_targets=True)
    return message


EVERY = [
    *(pytest.param(single(user), id=f"single {number}") for number, user in enumerate(HOSTILE)),
    *(pytest.param(digest(user), id=f"digest {number}") for number, user in enumerate(HOSTILE)),
    *(pytest.param(single(kind=kind), id=kind.value) for kind in DetailType),
    *(pytest.param(digest(kind=kind, length=128), id=f"long names, {kind.value}") for kind in DetailType),
]


@pytest.mark.parametrize("message", EVERY)
def test_slack_takes_it(message: Message) -> None:
    body = channels.slack(message)
    slack.check(body)
    # Nothing is cut off.
    assert body["attachments"][0]["blocks"][0]["text"]["text"] == "\n".join(message.lines)


@pytest.mark.parametrize("message", EVERY)
def test_teams_takes_it(message: Message) -> None:
    body = channels.teams(message)
    teams.check(body)
    assert len(json.dumps(body).encode()) < teams.BYTES_LIMIT


@pytest.mark.parametrize("message", EVERY)
def test_sns_takes_it(message: Message) -> None:
    subject, text = channels.mail(message)
    topic.check({"Subject": subject, "Message": text}, chat=False)


@pytest.mark.parametrize("message", EVERY)
def test_amazon_q_takes_it(message: Message) -> None:
    subject, _ = channels.mail(message)
    text = json.dumps(channels.amazon_q(message), ensure_ascii=False)
    topic.check({"Subject": subject, "Message": text}, chat=True)


@pytest.mark.parametrize("user", HOSTILE)
def test_words_of_users_stand_in_plain_text_alone(user: str) -> None:
    for message in (single(user), digest(user)):
        body = channels.slack(message)
        texts = [*of_type(body, "mrkdwn"), body["text"]]
        assert not any("jane" in each or "evil" in each or "bob" in each for each in texts)
        assert not [*of_type(channels.teams(message), "TextBlock")]


def of_type(part: Any, kind: str) -> list[str]:
    if isinstance(part, list):
        return [text for each in part for text in of_type(each, kind)]
    if isinstance(part, dict):
        here = [str(part["text"])] if part.get("type") == kind else []
        return here + [text for each in part.values() for text in of_type(each, kind)]
    return []


def test_slack_shows_the_tone_of_a_message_as_a_bar() -> None:
    colours = {kind: channels.slack(single(kind=kind))["attachments"][0]["color"] for kind in DetailType}
    assert colours[DetailType.EXPIRING] == "warning"
    assert colours[DetailType.ABANDONED] == colours[DetailType.AUDIT_DEGRADED] == "danger"
    assert colours[DetailType.ENDED] == colours[DetailType.AUDIT_RECOVERED] == "good"
    assert (colours[DetailType.FLEET_FAULTED], colours[DetailType.FLEET_RECOVERED]) == ("danger", "good")
    assert (colours[DetailType.POLICY_VIOLATED], colours[DetailType.POLICY_CLEARED]) == ("warning", "good")


def test_a_fleet_and_a_policy_read_alike_in_slack_and_teams() -> None:
    for message, lines in (
        (single(kind=DetailType.FLEET_FAULTED), ["Fleet cad has errors: DOMAIN_JOIN_ERROR_ACCESS_DENIED"]),
        (
            single(kind=DetailType.POLICY_VIOLATED),
            ["The session of “jane.doe@example.com” on stack office, fleet cad ends soon"],
        ),
    ):
        body, card = channels.slack(message), channels.teams(message)["attachments"][0]["content"]
        assert body["text"] == card["fallbackText"] == message.heading
        assert body["attachments"][0]["blocks"][0]["text"]["text"].splitlines() == lines
        assert [line["inlines"][0]["text"] for line in card["body"][1:-1]] == lines
    told = channels.slack(digest(kind=DetailType.POLICY_VIOLATED))["attachments"][0]["blocks"][0]["text"]
    assert f"{'p0'.ljust(40, '-')} 50, " in told["text"]


def test_a_repeat_in_slack_has_the_same_block_id() -> None:
    for message in (single(), digest()):
        section, _ = channels.slack(message)["attachments"][0]["blocks"]
        assert section["block_id"] == message.notices[0].event_id


def test_a_mail_says_it_all() -> None:
    subject, text = channels.mail(single())
    assert subject == text.splitlines()[0]
    assert text.splitlines() == [
        "AppStream Session Expiring on stack office, fleet cad, account 123456789012, region eu-west-1",
        "",
        "The session of “jane.doe@example.com” on stack office, fleet cad ends soon",
        "",
        "Session since 2026-03-02 08:30 UTC, until 2026-03-02 15:00 UTC at the latest (MAX_DURATION)",
        f"Id {1:032x}.",
    ]
    assert channels.mail(digest())[1].endswith(f"Id {0:032x} and 999 more.")


def test_amazon_q_has_a_thread_for_each_session_and_for_each_scope() -> None:
    def thread(message: Message) -> str:
        return str(channels.amazon_q(message)["metadata"]["threadId"])

    assert thread(single()) == "123456789012/eu-west-1/s-1"
    assert thread(single(kind=DetailType.AUDIT_DEGRADED)) == "123456789012/eu-west-1/office/cad"
    assert thread(single(kind=DetailType.FLEET_FAULTED)) == "123456789012/eu-west-1//cad"
    assert thread(single(kind=DetailType.POLICY_VIOLATED)) == "123456789012/eu-west-1/s-1"
    assert thread(digest()) == f"{0:032x}"


def test_amazon_q_renders_no_markdown_of_a_name() -> None:
    description = channels.amazon_q(single("_eve_"))["content"]["description"]
    assert "“\\_eve\\_”" in description
