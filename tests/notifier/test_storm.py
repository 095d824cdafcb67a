"""Many events at once, and a channel that is down: on a simulated clock, at the vendors' own rates."""

import json
import re
from collections import Counter
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import pytest

from sandbox.vendors import slack, teams
from session_auditor.model import DetailType
from tests.notifier.channel import ROOT, Line, line
from tests.shared.notices import envelope

EXPIRIES = 10_000
# A batch of a thousand is a message.
A_STORMS_MESSAGES = 10
VIOLATIONS, THEIR_MESSAGES = 3_000, 3


def counted(headings: list[str]) -> int:
    """How many events these headings tell of."""
    digests = [re.search(r": ([0-9,]+) sessions", heading) for heading in headings]
    return sum(int(found[1].replace(",", "")) if found else 1 for found in digests)


def drained(received: SimpleQueue[dict[str, Any]]) -> list[dict[str, Any]]:
    return [received.get() for _ in range(received.qsize())]


def heading_in_teams(message: dict[str, Any]) -> str:
    return str(message["attachments"][0]["content"]["fallbackText"])


def named(messages: list[dict[str, Any]]) -> Counter[str]:
    """Whom messages name, and how often."""
    return Counter(re.findall(r"user[0-9]+@", json.dumps(messages, ensure_ascii=False)))


def storm(channel: Line) -> None:
    """Put 10,000 expiries on the bus within a minute, on twenty fleets."""
    for second in range(60):
        numbers = range(second * EXPIRIES // 60, (second + 1) * EXPIRIES // 60)
        channel.send(*[envelope(number, fleet=f"fleet-{number % 20}") for number in numbers])
        channel.wait(1)


class Clock:
    """What time a vendor has: that of the channel, once there is one."""

    def __init__(self) -> None:
        self.channel: Line | None = None

    def __call__(self) -> float:
        return self.channel.now if self.channel else 0.0


def stand(channel: Line, messages: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return what was told within two minutes of the first event."""
    storm(channel)
    channel.wait(60)
    assert channel.waiting == {}
    assert channel.dead == []
    told = messages()
    assert len(told) == A_STORMS_MESSAGES
    return told


def test_a_storm_reaches_slack(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    with slack.slack(1.0, clock) as hook, line(monkeypatch, "slack") as channel:
        clock.channel = channel
        channel.secrets["/notices/webhook"] = hook.url
        told = stand(channel, lambda: drained(hook.received))
    assert counted([each["text"] for each in told]) == EXPIRIES
    # Ten of each batch, and nobody twice.
    assert set(named(told).values()) == {1}
    assert len(named(told)) == 10 * A_STORMS_MESSAGES


def test_a_storm_reaches_teams(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    with teams.teams(clock) as hook, line(monkeypatch, "teams") as channel:
        clock.channel = channel
        channel.secrets["/notices/webhook"] = hook.url
        told = stand(channel, lambda: drained(hook.received))
    assert counted([heading_in_teams(each) for each in told]) == EXPIRIES
    assert set(named(told).values()) == {1}


@pytest.mark.parametrize("kind", ["mail", "chat"])
def test_a_storm_reaches_a_topic(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    with line(monkeypatch, kind) as channel:
        told = stand(channel, lambda: channel.published)
    assert counted([each["Subject"] for each in told]) == EXPIRIES
    assert set(named(told).values()) == {1}


def test_a_document_that_everybody_violates_is_a_few_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    with slack.slack(1.0, clock) as hook, line(monkeypatch, "slack") as channel:
        clock.channel = channel
        channel.secrets["/notices/webhook"] = hook.url
        for number in range(VIOLATIONS):
            channel.send(envelope(number, DetailType.POLICY_VIOLATED, policy=f"policy-{number % 2}"))
        channel.wait(120)
        assert (channel.waiting, channel.dead) == ({}, [])
        told = drained(hook.received)
    assert len(told) == THEIR_MESSAGES
    assert counted([each["text"] for each in told]) == VIOLATIONS
    for message in told:
        words = message["attachments"][0]["blocks"][0]["text"]["text"].splitlines()
        assert words[:2] == ["1,000 on stack office, fleet cad", "policy-0 500, policy-1 500"]
        assert words[2].endswith(" and 990 more")


@pytest.mark.parametrize("events", [6, 12, 30])
@pytest.mark.parametrize("kind", ["slack", "teams"])
def test_many_single_messages_go_at_the_vendors_pace(
    monkeypatch: pytest.MonkeyPatch, kind: str, events: int
) -> None:
    """Three of each detail-type are a message each; the last is told soon after the window."""
    clock = Clock()
    vendor = slack.slack(1.0, clock) if kind == "slack" else teams.teams(clock)
    with vendor as hook, line(monkeypatch, kind) as channel:
        clock.channel = channel
        channel.secrets["/notices/webhook"] = hook.url
        kinds = [each for each in DetailType for _ in range(3)][:events]
        channel.send(*[envelope(number, each) for number, each in enumerate(kinds)])
        channel.wait(100)
        assert channel.waiting == {}
        assert (hook.received.qsize(), hook.refused.qsize()) == (events, 0)


def test_batches_that_share_a_storm_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lambda may gather in several batches at once, each with a part: then there are more messages."""
    clock = Clock()
    with slack.slack(1.0, clock) as hook, line(monkeypatch, "slack") as channel:
        clock.channel = channel
        channel.secrets["/notices/webhook"] = hook.url
        channel.send(*[envelope(number) for number in range(40)])
        waiting = list(channel.waiting.values())
        for part in range(5):
            channel.invoke(waiting[part::5])
        told = drained(hook.received)
    assert channel.waiting == {}
    assert counted([each["text"] for each in told]) == 40
    assert len(told) == 5


def test_the_docs_say_how_many_messages_a_storm_is() -> None:
    notices = " ".join((ROOT / "docs" / "notices.md").read_text().split())
    assert f"10,000 expiries within a minute are {A_STORMS_MESSAGES} messages" in notices
    assert f"{VIOLATIONS:,} violations within a minute are {THEIR_MESSAGES} messages" in notices


def test_a_channel_that_was_down_for_half_an_hour_gets_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    with slack.slack(1.0, clock) as hook, line(monkeypatch, "slack") as channel:
        clock.channel = channel
        channel.secrets["/notices/webhook"] = hook.url
        for minute in range(30):
            channel.send(*[envelope(minute * 10 + number, minute=minute) for number in range(10)])
            for _ in range(10):
                hook.outages.put(503)
            channel.wait(60)
        while not hook.outages.empty():
            hook.outages.get()
        channel.wait(15 * 60)
        assert channel.waiting == {}
        assert channel.dead == []
        told = drained(hook.received)
    assert counted([each["text"] for each in told]) == 300
