"""An evening on which everybody goes home, as `normal` tells it: what a channel gets, counted and read."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from sandbox.vendors import slack
from session_auditor.model import Options, Scope, Session
from tests.notifier.channel import line
from tests.shared.events import envelope
from tests.shared.history import AWAY, History, at, session
from tests.shared.matching import Matcher, matching
from tests.shared.notices import patterns

# Fleets by the minutes of their disconnect timeout, each with half of the users.
FLEETS = {15: Scope("office", "quarter"), 60: Scope("office", "hour")}
USERS = 1_500
# Minutes from the first sweep: between these two they leave, most of them early.
LEAVE, GONE, DAY = 60, 150, 260
# Some stay at work on each fleet until their sessions reach the maximum.
LATE, MAXIMUM = 20, 240


def leaves(number: int) -> float:
    """The minute in which a user goes home."""
    share = (number - LATE) / (USERS // len(FLEETS) - LATE)
    return LEAVE + (GONE - LEAVE) * share**2


def on(fleet: Scope, timeout: int, minute: int) -> Iterator[Session]:
    """Who has a session on a fleet in a minute; AWS ends it a timeout after its user went."""
    for number in range(USERS // len(FLEETS)):
        late = number < LATE
        gone = None if late else leaves(number)
        if minute >= MAXIMUM if late else gone is not None and minute >= gone + timeout:
            continue
        yield session(
            AWAY if gone is not None and minute >= gone else "CONNECTED",
            f"{fleet.fleet}-{number}",
            scope=fleet,
            user_id=f"{'late' if late else 'home'}{number}@{fleet.fleet}.example.com",
            start_time=at(-360),
            max_expiration_time=at(MAXIMUM if late else 600),
        )


def evening() -> Iterator[list[dict[str, Any]]]:
    """Play it through the core; return the events of each minute as the bus has them."""
    histories = {timeout: History(Options(), timeout * 60) for timeout in FLEETS}
    for minute in range(DAY):
        events = []
        for timeout, fleet in FLEETS.items():
            history = histories[timeout]
            before = len(history.events)
            history.observe(minute, *on(fleet, timeout, minute), scopes=frozenset([fleet]))
            events += [envelope(event) for event in history.events[before:]]
        yield events


@pytest.fixture
def matches() -> Iterator[Matcher]:
    with matching() as matches:
        yield matches


def test_who_goes_home_is_no_news(monkeypatch: pytest.MonkeyPatch, matches: Matcher) -> None:
    pattern = patterns()["normal"]
    known: dict[tuple[Any, ...], bool] = {}

    def wanted(event: dict[str, Any]) -> bool:
        data = event["detail"]["data"]
        # What the pattern looks at.
        looks = (
            *(event["detail-type"], data["deadline"]["cause"]),
            *(data["session"]["connectionState"], data.get("thresholdMinutes")),
        )
        if looks not in known:
            known[looks] = matches(pattern, event)
        return known[looks]

    day = list(evening())
    happened = Counter(event["detail-type"] for events in day for event in events)
    notices = [[event for event in events if wanted(event)] for events in day]
    with slack.slack(second=0) as hook, line(monkeypatch, "slack") as channel:
        channel.secrets["/notices/webhook"] = hook.url
        for events in notices:
            channel.send(*events)
            channel.wait(60)
        channel.wait(120)
        assert not channel.waiting
        assert not channel.dead
        messages = [hook.received.get() for _ in range(hook.received.qsize())]
    assert happened["AppStream Session Disconnected"] == USERS - LATE * len(FLEETS)
    assert happened["AppStream Session Ended"] == USERS
    # An hour, a quarter and five minutes before those who stay are cut off; and not a word of the others.
    assert [message["text"] for message in messages] == ["AppStream Session Expiring: 40 sessions"] * 3
    assert not any("home" in str(message) for message in messages)
    for message in messages:
        lines = message["attachments"][0]["blocks"][0]["text"]["text"].splitlines()
        assert lines[:2] == ["20 on stack office, fleet hour", "20 on stack office, fleet quarter"]
        assert lines[2].endswith(" and 30 more")
        assert len(lines) == 3
    # What sets them apart is when they were seen, and when the sessions end.
    remarks = [message["attachments"][0]["blocks"][1]["elements"][0]["text"] for message in messages]
    assert len(set(remarks)) == 3
    assert all(
        remark.endswith("; at the latest they end at 2026-03-02 12:00 UTC (MAX_DURATION)")
        for remark in remarks
    )
