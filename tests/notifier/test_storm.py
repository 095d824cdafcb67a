"""Many events at once, and a channel that is down: on a simulated clock, at the vendors' own rates."""

import re
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import pytest

from sandbox.vendors import slack, teams
from tests.notifier.channel import Line, line
from tests.unit.test_notices import envelope

EXPIRIES = 10_000


def counted(headings: list[str]) -> int:
    """How many events these headings tell of."""
    digests = [re.search(r": ([0-9,]+) sessions", heading) for heading in headings]
    return sum(int(found[1].replace(",", "")) if found else 1 for found in digests)


def drained(received: SimpleQueue[dict[str, Any]], heading: Callable[[dict[str, Any]], str]) -> list[str]:
    return [heading(received.get()) for _ in range(received.qsize())]


def heading_in_teams(message: dict[str, Any]) -> str:
    return str(message["attachments"][0]["content"]["fallbackText"])


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


def told_of_a_storm(channel: Line, heading: Callable[[], list[str]]) -> list[str]:
    """Return what was told within two minutes of the first event."""
    storm(channel)
    channel.wait(60)
    assert channel.waiting == {}
    assert channel.dead == []
    headings = heading()
    assert counted(headings) == EXPIRIES
    return headings


def test_a_storm_reaches_slack(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    with slack.slack(1.0, clock) as hook, line(monkeypatch, "slack") as channel:
        clock.channel = channel
        channel.secrets["/notices/webhook"] = hook.url
        headings = told_of_a_storm(channel, lambda: drained(hook.received, lambda each: str(each["text"])))
    assert len(headings) <= 24


def test_a_storm_reaches_teams(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    with teams.teams(clock) as hook, line(monkeypatch, "teams") as channel:
        clock.channel = channel
        channel.secrets["/notices/webhook"] = hook.url
        headings = told_of_a_storm(channel, lambda: drained(hook.received, heading_in_teams))
    assert len(headings) <= 24


@pytest.mark.parametrize("kind", ["mail", "chat"])
def test_a_storm_reaches_a_topic(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    with line(monkeypatch, kind) as channel:
        headings = told_of_a_storm(channel, lambda: [each["Subject"] for each in channel.published])
    assert len(headings) <= 24


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
        told = drained(hook.received, lambda each: str(each["text"]))
    assert counted(told) == 300
