"""The board's function: which page an event asks for, what it reads for it, and what it never says."""

import gc
import importlib
import io
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import time_machine

from sandbox.cloud import ROOT
from session_auditor import table as layout
from session_auditor.model import EndReason, Fault, Life, Options
from session_auditor.plan import SessionsPlan, TargetPlan, Write
from session_auditor.policies import read_document
from tests.shared.aws import Wire, client_error, raising
from tests.shared.history import AWAY, SCOPE, TARGET, History, at, session
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
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(str(ROOT / "functions" / "board"))
    monkeypatch.delitem(sys.modules, "board", raising=False)
    board = importlib.import_module("board")
    # The function has its process to itself; the tests have not.
    gc.enable()
    gc.unfreeze()
    return board


def ask(board: ModuleType, widget: dict[str, Any] | None = None, **event: Any) -> str:
    context = {"theme": "light", "width": 1_200} | (widget or {})
    with time_machine.travel(NOW, tick=False):
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


def test_zones(board: ModuleType) -> None:
    assert board.zone_of("+02:00") == timezone(timedelta(hours=2))
    assert board.zone_of("") is UTC
    assert board.day_of("2026-03-02", replace(board.place_of({}, ""), now=NOW)) == datetime(2026, 3, 2)  # noqa: DTZ001 - a day
