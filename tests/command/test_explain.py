"""The life of a session as `explain` tells it, from items that are put in the table."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, timedelta

import boto3
import pytest

from appstream_auditor.deployment import Deployment
from appstream_auditor.errors import Exit, QuestionError
from appstream_auditor.explain import explained, shown
from session_auditor import table as layout
from session_auditor.model import (
    Cause,
    Change,
    DetailType,
    EndReason,
    Life,
    PolicyKind,
    Presence,
    Remembered,
    Stored,
    Violation,
)
from session_auditor.timeline import noted
from tests.shared.history import SCOPE, TARGET, at, session
from tests.shared.table import Table
from tests.shared.table import table as mocked_table

LAYOUT = layout.Table("sessions", TARGET, timedelta(days=90))
NOW = at(600)


class Desk:
    """A table, and somebody who asks."""

    def __init__(self, table: Table) -> None:
        self.table = table
        aws = boto3.Session("test", "test", region_name=TARGET.region)
        self.deployment = Deployment(aws, TARGET, "sessions")

    def put(self, life: Life) -> None:
        assert life.end
        self.table.put(LAYOUT.put_history(life, life.end, NOW)["Put"]["Item"])

    def put_live(self, remembered: Remembered) -> None:
        self.table.put(LAYOUT.put_session(0, Stored(remembered, (), 1))["Put"]["Item"])

    def explain(self, session_id: str) -> list[str]:
        _, told = explained([self.deployment], session_id, NOW, lambda _: None)
        return [line.plain for line in shown(told, NOW, UTC)]


@pytest.fixture
def desk() -> Iterator[Desk]:
    with mocked_table() as table:
        yield Desk(table)


def ended(session_id: str, minute: int = 60, timeline: str = "0s60,3540e60", events: int = 2) -> Life:
    return Life(
        session_id=session_id,
        scope=SCOPE,
        start=at(1),
        first_seen=at(1),
        end=at(minute),
        ended_after=at(minute - 1),
        reason=EndReason.USER_OR_ADMIN,
        user_id="jane.doe@example.com",
        connected_seconds=3540,
        events=events,
        timeline=timeline,
    )


LIVE = Remembered(
    session(session_id="live-1"), at(1), baseline=False, presence=Presence.CONNECTED, presence_since=at(1)
)


def test_a_life_that_is_over(desk: Desk) -> None:
    desk.put(ended("over-1"))
    assert desk.explain("over") == [
        "“jane.doe@example.com” on stack office, fleet cad",
        "session over-1",
        "ended between 08:59 and 09:00 (user or administrator)",
        "connected 0h 59m, nobody 0h 00m, 0 disconnects",
        "",
        "08:01  Started       after 08:00",
        "09:00  Ended         user or administrator",
    ]


def test_a_life_that_is_over_tells_of_policies(desk: Desk) -> None:
    desk.put(ended("over-1", timeline="0s60,1800v60:30:too-long,3540x60:30:too-long,3540e60", events=4))
    assert desk.explain("over")[5:] == [
        "08:01  Started       after 08:00",
        "08:31  Violated      too-long, 30 min",
        "09:00  Cleared       too-long, 30 min",
        "09:00  Ended         user or administrator",
    ]


def test_a_live_one_says_what_it_violates_now_whatever_that_is_called(desk: Desk) -> None:
    late = Violation("late\x1b[2J", PolicyKind.OUTSIDE_HOURS, 0, at(400), "mon-fri\u202e", "14:40 UTC", "")
    desk.put_live(replace(LIVE, violations=(late,)))
    lines = desk.explain("live-1")
    assert lines[3] == "violates policy late\N{REPLACEMENT CHARACTER}[2J since 14:40: outside mon-fri"
    assert all(line.isprintable() for line in lines)


def test_one_of_an_earlier_release_says_that_nothing_was_kept(desk: Desk) -> None:
    desk.put(ended("over-1", timeline="", events=0))
    assert desk.explain("over")[5:] == [
        f"{' ' * 21}what was told of it was not kept: it ended under an earlier release"
    ]


def test_one_that_an_earlier_release_began_says_how_many_are_missing(desk: Desk) -> None:
    desk.put(ended("over-1", timeline="+3,1800d60,3540e60", events=5))
    assert desk.explain("over")[5:] == [
        "                     3 events that are not kept",
        "08:31  Disconnected  after 08:30",
        "09:00  Ended         user or administrator",
    ]


def test_a_long_life_has_its_first_and_its_last_events(desk: Desk) -> None:
    remembered = LIVE
    for minute in range(40):
        left, back = Change(DetailType.DISCONNECTED), Change(DetailType.RECONNECTED)
        change = (back if minute % 2 else left) if minute else Change(DetailType.STARTED)
        remembered = noted(remembered, (change,), Cause.NONE, at(1 + minute), at(minute))
    desk.put_live(remembered)
    lines = desk.explain("live-1")
    events = lines[lines.index("") + 1 :]
    events = events[: events.index("")]
    assert len(events) == 8 + 1 + 24
    assert events[8] == "                     8 events that are not kept"
    assert (events[0][:14], events[-1][:12]) == ("08:01  Started", "08:40  Recon")


def test_one_that_was_there_before_the_audit(desk: Desk) -> None:
    desk.put_live(replace(LIVE, baseline=True))
    assert "08:01                first seen; it was there before the audit" in desk.explain("live-1")


def test_the_latest_life_of_an_id_that_came_back(desk: Desk) -> None:
    desk.put(ended("over-1", 60))
    desk.put(ended("over-1", 90, timeline="0s60,5340e60"))
    assert desk.explain("over-1")[2] == "ended between 09:29 and 09:30 (user or administrator)"


@pytest.mark.parametrize("lives", [["live-1", "live-2"], ["over-1", "over-2"]])
def test_a_beginning_that_several_have(desk: Desk, lives: list[str]) -> None:
    for name in lives:
        if name.startswith("live"):
            desk.put_live(replace(LIVE, session=session(session_id=name)))
        else:
            desk.put(ended(name))
    with pytest.raises(QuestionError, match="begin with") as caught:
        desk.explain(lives[0][:-1])
    assert caught.value.exit_code is Exit.USAGE
    assert desk.explain(lives[0])


def test_nobody_of_that_name(desk: Desk) -> None:
    with pytest.raises(QuestionError, match="is live, or ended within 90 days") as caught:
        desk.explain("nobody")
    assert caught.value.exit_code is Exit.FAULT
