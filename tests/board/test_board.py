"""The board's function: which page an event asks for, what it reads for it, and what it never says."""

import gc
import importlib
import io
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from html import unescape
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import time_machine

from sandbox.cloud import ROOT
from session_auditor import table as layout
from session_auditor.model import (
    WHOLE_TARGET,
    EndReason,
    Fault,
    Gap,
    Life,
    Options,
    Presence,
    Remembered,
    Session,
)
from session_auditor.plan import SessionsPlan, TargetPlan, Write
from session_auditor.policies import read_document
from tests.shared.aws import Wire, client_error, raising
from tests.shared.history import AWAY, SCOPE, TARGET, History, at, session
from tests.shared.hub import (
    LONELY,
    OFFICE,
    PARAMETERS,
    RENDER,
    SWEPT,
    HubTable,
    every_target,
    swept_at,
    target_id,
)
from tests.shared.hub import NOW as HUB_NOW
from tests.shared.table import Table
from tests.shared.table import table as mocked_table

ENVIRONMENT = {
    "TABLE_NAME": "sessions",
    "TARGET_ACCOUNT_ID": TARGET.account_id,
    "TARGET_REGION": TARGET.region,
    "POWERTOOLS_SERVICE_NAME": "board",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
}
ENDPOINT = "arn:aws:lambda:eu-west-1:123456789012:function:board"
CONTEXT: Any = SimpleNamespace(invoked_function_arn=ENDPOINT)
NOW = at(20.5)
USER = "jane.doe@example.com"


@pytest.fixture
def table() -> Iterator[Table]:
    """A table as twenty minutes of an office leave it, and one session that ended an hour before.

    Both sessions violate a policy, and another fleet does not come up.
    """
    policies = {"too-long": {"kind": "TOO_LONG", "minutes": [15]}}
    text = json.dumps({"version": 1, "timeZone": "UTC", "policies": policies})
    with mocked_table() as table:
        history = History(options=Options(), timeout=3600, policies=read_document(text))
        history.observe(0)
        for minute in range(1, 21):
            left = session("CONNECTED" if minute < 3 else AWAY, "left", user_id=USER)
            history.observe(minute, session(session_id="at-work", user_id="kim@example.com"), left)
        snapshots = table.snapshots()
        empty = snapshots.load(at(20))
        writes = {name: Write(each.remembered) for name, each in history.snapshot.sessions.items()}
        snapshot, _ = snapshots.commit(empty, SessionsPlan(history.target, writes), lambda: 60.0)
        target = replace(history.target, faults=(Fault("gis", at(7), "DOMAIN_JOIN_ERROR", 1),))
        snapshots.commit_target(snapshot, TargetPlan(target, frozenset([SCOPE]), ()))
        life = Life(
            session_id="ended",
            scope=SCOPE,
            start=at(-90),
            first_seen=at(-90),
            end=at(-40),
            ended_after=at(-41),
            reason=EndReason.USER_OR_ADMIN,
            user_id=USER,
            fleet_type="ON_DEMAND",
            events=2,
            timeline="0s60,3000e60",
        )
        put = layout.Table("sessions", TARGET, timedelta(days=90)).put_history(life, at(-40), NOW)
        table.put(put["Put"]["Item"])
        yield table


@pytest.fixture
def board(table: Table, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return loaded(monkeypatch)


def loaded(monkeypatch: pytest.MonkeyPatch, **environment: str) -> ModuleType:
    for name, value in (ENVIRONMENT | environment).items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(str(ROOT / "functions" / "board"))
    monkeypatch.delitem(sys.modules, "board", raising=False)
    board = importlib.import_module("board")
    # The function has its process to itself; the tests have not.
    gc.enable()
    gc.unfreeze()
    return board


def ask(board: ModuleType, widget: dict[str, Any] | None = None, *, now: datetime = NOW, **event: Any) -> str:
    context = {"theme": "light", "width": 1_200} | (widget or {})
    with time_machine.travel(now, tick=False):
        page = board.handler(event | {"widgetContext": context}, CONTEXT)
    assert isinstance(page, str)
    return page


def test_the_console_is_told_what_it_is(board: ModuleType) -> None:
    assert "from the session auditor's table" in board.handler({"describe": True}, CONTEXT)["markdown"]


def test_without_a_view_it_shows_who_is_on(board: ModuleType) -> None:
    page = ask(board)
    assert page.startswith('<div class="asa light">')
    assert (page.count(USER), page.count("kim@example.com")) == (2, 2)
    assert f'endpoint="{ENDPOINT}"' in page


def test_it_takes_the_consoles_theme_and_width(board: ModuleType) -> None:
    page = ask(board, {"theme": "dark", "width": 300})
    assert page.startswith('<div class="asa dark">')
    assert "Address" not in page


@pytest.mark.parametrize(
    ("offset", "ends"), [("+00:00", "09:03"), ("+05:30", "14:33"), ("-08:00", "01:03"), ("nonsense", "09:03")]
)
def test_times_are_the_readers(board: ModuleType, offset: str, ends: str) -> None:
    assert f">{ends}<" in ask(board, {"timezone": {"label": "Local", "offsetISO": offset}})


def test_a_search_is_what_was_typed(board: ModuleType) -> None:
    page = ask(board, {"forms": {"all": {"user": " JANE ", "state": "away"}}}, view="live")
    assert "kim@example.com" not in page
    assert 'value="JANE"' in page
    assert '<option value="away" selected>' in page


def test_a_fleet(board: ModuleType) -> None:
    assert "2 live, 1 connected; most at once in 24 hours: 2" in ask(board, view="fleet", fleet="cad")
    assert "0 live, 0 connected" in ask(board, view="fleet", fleet="nothing")


def test_who_violates_a_policy_and_which_fleet_fails(board: ModuleType) -> None:
    page = ask(board)
    assert page.count("<b>too-long</b>") == 2
    for each in (page, ask(board, view="fleet", fleet="gis")):
        assert "since 08:07: DOMAIN_JOIN_ERROR." in each
    assert "DOMAIN_JOIN_ERROR" not in ask(board, view="fleet", fleet="cad")
    assert "violates policy too-long since 08:15: it has lasted for 15 min" in ask(
        board, view="explain", session="left"
    )
    assert "kim@example.com" in ask(board, {"forms": {"all": {"state": "violating"}}}, view="live")


def test_a_user_has_what_is_on_and_what_ended(board: ModuleType, table: Table, wire: Wire) -> None:
    wire.calls.clear()
    page = ask(board, view="user", user=USER)
    assert "user or administrator" in page
    assert "kim@example.com" not in page
    assert [call["IndexName"] for call in wire.parameters("Query") if "IndexName" in call] == ["byUser"]


@pytest.fixture
def wire(board: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Wire:
    return Wire(monkeypatch)


def test_the_life_of_a_session_live_or_ended(board: ModuleType) -> None:
    assert "disconnected since 08:03; ends at 09:03" in ask(board, view="explain", session="left")
    ended = ask(board, view="explain", session="ended", ended="2026-03-02")
    assert "ended between 07:19 and 07:20 (user or administrator)" in ended
    assert "This session is over, or not known." in ask(board, view="explain", session="gone", ended="soon")


@pytest.mark.parametrize(
    "event",
    [
        {"view": 7},
        {"view": "nothing"},
        {"view": "user"},
        {"view": "user", "user": ["ann"]},
        {"view": "explain"},
        {"view": "explain", "session": "left", "ended": "31.12."},
        {"view": "fleet", "fleet": None},
        {"widgetContext": None},
        {"widgetContext": {"theme": 1, "width": "wide", "timezone": "UTC", "forms": {"all": "x"}}},
    ],
)
def test_an_odd_event_is_a_page_too(board: ModuleType, event: dict[str, Any]) -> None:
    with time_machine.travel(NOW, tick=False):
        assert board.handler(event, CONTEXT).startswith('<div class="asa')


def test_a_table_out_of_reach_is_a_sentence_with_what_to_do(board: ModuleType, wire: Wire) -> None:
    wire.answers["Query"] = raising(client_error("AccessDeniedException", "Query"))
    page = ask(board, view="user", user=USER)
    assert "The auditor&#x27;s table cannot be read (AccessDeniedException)." in page
    assert "appstream-auditor doctor says what to do." in page
    assert "Traceback" not in page


@pytest.mark.parametrize("view", ["live", "user", "explain", "fleet"])
def test_its_log_names_nobody(board: ModuleType, view: str, monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr(board.logger.registered_handler, "stream", log)
    ask(board, {"forms": {"all": {"user": USER}}}, view=view, user=USER, session="left", fleet="cad")
    said = log.getvalue()
    assert [json.loads(line)["view"] for line in said.splitlines()] == [view]
    assert USER not in said
    assert "left" not in said


def test_it_writes_nothing(board: ModuleType, wire: Wire) -> None:
    for view in ("live", "user", "explain", "fleet"):
        ask(board, view=view, user=USER, session="left", fleet="cad")
    assert set(wire.operations()) == {"Query"}


class TestHub:
    """The board of a hub: the accounts render-farm and office below a unit, and one by its number."""

    @pytest.fixture
    def hub(self) -> Iterator[HubTable]:
        with mocked_table() as table:
            hub = HubTable(table)
            hub.list_accounts()
            for each in every_target():
                hub.put(each)
            left, at_work = session(AWAY, "left", user_id=USER), session(session_id="at-work", user_id="kim")
            hub.put(target_id(OFFICE), SWEPT, remembered(left, Presence.DISCONNECTED))
            hub.put(target_id(LONELY, "us-east-1"), SWEPT, remembered(at_work, Presence.CONNECTED))
            yield hub

    @pytest.fixture
    def board(self, hub: HubTable, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
        variables = {"TARGETS": PARAMETERS["Targets"], "TARGET_REGIONS": PARAMETERS["TargetRegions"]}
        return loaded(monkeypatch, TABLE_NAME=hub.name, **variables)

    def ask(self, board: ModuleType, searched: str = "", **event: Any) -> str:
        forms = {"all": {"account": searched, "state": "everybody"}}
        return ask(board, {"forms": forms}, now=HUB_NOW, **event)

    def test_the_first_page_is_of_all_targets(self, board: ModuleType) -> None:
        page = self.ask(board)
        assert tiles(page) == {
            "live": "2",
            "connected": "1",
            "away": "1",
            "abandoned": "0",
            "targets": "6",
            "overdue": "0",
            "degraded": "0",
        }
        first, second = page.split("<tbody>")[2].split("<tr>")[1:3]
        assert first.startswith("<td>office eu-west-1</td>")
        assert second.startswith("<td>333333333333 us-east-1</td>")
        assert 'class="fault"' not in page

    @pytest.mark.parametrize(
        ("account", "users"),
        [
            pytest.param(" OFF", (1, 0), id="part of a name"),
            pytest.param("3333", (0, 1), id="part of a number"),
            pytest.param("render", (0, 0), id="nobody is on there"),
            pytest.param("", (1, 1), id="all"),
        ],
    )
    def test_a_search_by_account(self, board: ModuleType, account: str, users: tuple[int, int]) -> None:
        page = self.ask(board, account)
        assert (page.count(f">{USER}<"), page.count(">kim<")) == users
        assert f'value="{account.strip()}"' in page

    def test_what_is_wrong_says_where(self, board: ModuleType, hub: HubTable) -> None:
        gap = Gap(WHOLE_TARGET, at(500), None, "AssumeRole AccessDenied", announced=True)
        hub.put(target_id(RENDER), replace(swept_at(499), gaps=(gap,), faults=(Fault("gis", at(7), "E", 1),)))
        hub.spoil(target_id(LONELY))
        page = self.ask(board)
        assert (tiles(page)["overdue"], tiles(page)["degraded"]) == ("2", "1")
        assert "render-farm eu-west-1: The last sweep ended 1h 41m ago" in page
        assert "render-farm eu-west-1: No stack could be read since 16:20: AssumeRole AccessDenied." in page
        assert "333333333333 eu-west-1: The last sweep is still to come" in page
        assert "render-farm eu-west-1: AppStream names errors of fleet" in page

    def test_one_that_is_idle_is_swept_every_fourth_minute(self, board: ModuleType, hub: HubTable) -> None:
        idle = replace(swept_at(590), idle_since=HUB_NOW - timedelta(days=2))
        hub.put(target_id(RENDER), idle)
        assert tiles(self.ask(board))["overdue"] == "0"

    def test_each_action_leads_to_its_target(self, board: ModuleType) -> None:
        actions = [json.loads(unescape(each)) for each in re.findall(r">(\{[^<]+)</cwdb", self.ask(board))]
        of_office = {"account": OFFICE, "region": "eu-west-1"}
        assert {"view": "user", "user": USER, **of_office} in actions
        assert {"view": "explain", "session": "left", **of_office} in actions
        assert {"view": "fleet", "fleet": "cad", **of_office} in actions

    def test_pages_are_of_one_target(self, board: ModuleType) -> None:
        of_office = {"account": OFFICE, "region": "eu-west-1"}
        fleet = self.ask(board, view="fleet", fleet="cad", **of_office)
        assert "Fleet cad, office eu-west-1" in fleet
        assert "1 live, 0 connected" in fleet
        assert "Target" not in fleet
        assert f"User {USER}, office eu-west-1" in self.ask(board, view="user", user=USER, **of_office)
        assert "disconnected since" in self.ask(board, view="explain", session="left", **of_office)

    @pytest.mark.parametrize("where", [{}, {"account": "999999999999", "region": "eu-west-1"}])
    def test_a_target_that_is_none_of_the_hubs(self, board: ModuleType, where: dict[str, str]) -> None:
        page = self.ask(board, view="user", user=USER, **where)
        assert "none of the hub&#x27;s is named" in page
        assert 'class="fault"' in page

    def test_before_the_first_list_there_is_nobody(self, board: ModuleType, hub: HubTable) -> None:
        hub.list_accounts({})
        assert tiles(self.ask(board))["targets"] == "2"

    def test_it_writes_nothing_and_only_queries(
        self, board: ModuleType, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wire = Wire(monkeypatch)
        self.ask(board)
        assert set(wire.operations()) == {"Query"}

    def test_a_table_out_of_reach_is_a_sentence(
        self, board: ModuleType, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wire = Wire(monkeypatch)
        wire.answers["Query"] = raising(client_error("AccessDeniedException", "Query"))
        assert "cannot be read (AccessDeniedException)" in self.ask(board)


def remembered(seen: Session, presence: Presence) -> Remembered:
    return Remembered(seen, at(1), baseline=False, presence=presence, presence_since=at(595))


def tiles(page: str) -> dict[str, str]:
    return {name: number for number, name in re.findall(r"<b>([0-9,]+)</b><span>(\w+)</span>", page)}


def test_zones(board: ModuleType) -> None:
    assert board.zone_of("+02:00") == timezone(timedelta(hours=2))
    assert board.zone_of("") is UTC
    assert board.day_of("2026-03-02", replace(board.place_of({}, ""), now=NOW)) == datetime(2026, 3, 2)  # noqa: DTZ001 - a day
