"""`sessions` and `status`: who violates a policy, which fleets fail, from items that are put in the table."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from click.testing import CliRunner, Result
from jsonschema import Draft202012Validator

from appstream_auditor.main import cli
from sandbox.command import SCHEMAS
from session_auditor import table as layout
from session_auditor.model import Fault, PolicyKind, Presence, Remembered, Stored, Target, Violation
from session_auditor.table import StoredTarget
from tests.shared.history import TARGET, at, session
from tests.shared.table import Table
from tests.shared.table import table as mocked_table

LAYOUT = layout.Table("sessions", TARGET, timedelta(days=90))
NOW = at(600)
LATE = Violation("after-hours", PolicyKind.OUTSIDE_HOURS, 0, at(540), "mon-fri 07:00-17:00", "17:01 UTC", "")
LONG = Violation("too-long", PolicyKind.TOO_LONG, 540, at(541), "540", "540", "")
LONGER = replace(LONG, threshold=590)


def remembered(user: str, *violations: Violation) -> Remembered:
    return Remembered(
        session(session_id=f"{user}-1", user_id=f"{user}@example.com"),
        *(at(1), False, Presence.CONNECTED, at(1)),
        violations=violations,
    )


class Desk:
    """A table, and somebody who asks of it."""

    def __init__(self, table: Table) -> None:
        self.table = table

    def put(self, *sessions: Remembered, faults: tuple[Fault, ...] = ()) -> None:
        target = Target(at(0), NOW, NOW, faults=faults)
        self.table.put(LAYOUT.put_target(0, StoredTarget(target, 1, (), (), 0, 1))["Put"]["Item"])
        for each in sessions:
            self.table.put(LAYOUT.put_session(0, Stored(each, (), 1))["Put"]["Item"])

    def ask(self, *words: str) -> Result:
        with time_machine.travel(NOW, tick=False):
            return CliRunner().invoke(cli, [*words, "--table", "sessions"], catch_exceptions=False)

    def answer(self, *words: str) -> Any:
        found = json.loads(self.ask(*words, "-o", "json").stdout)
        Draft202012Validator(json.loads((SCHEMAS / f"{words[0]}.json").read_text())).validate(found)
        return found


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    with mocked_table() as table:
        monkeypatch.setenv("AWS_REGION", TARGET.region)
        yield Desk(table)


class TestViolations:
    """Who violates a policy."""

    @pytest.fixture(autouse=True)
    def office(self, desk: Desk) -> None:
        desk.put(remembered("ann", LATE, LONG, LONGER), remembered("bob"), remembered("kim", LONG))

    def test_a_column_names_the_policies(self, desk: Desk) -> None:
        head, *rows = desk.ask("sessions").stdout.splitlines()
        assert "POLICY" in head
        place = head.index("POLICY")
        names = {row.split()[0]: row[place:].split("  ")[0].strip() for row in rows[:3]}
        assert names == {
            "ann@example.com": "after-hours, too-long",
            "bob@example.com": "",
            "kim@example.com": "too-long",
        }

    def test_there_is_none_where_nobody_violates_one(self, desk: Desk) -> None:
        assert "POLICY" not in desk.ask("sessions", "--user", "bob*").stdout

    @pytest.mark.parametrize("columns", ["60", "80"])
    def test_it_stays_where_there_is_little_room(
        self, desk: Desk, columns: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", columns)
        lines = desk.ask("sessions").stdout.splitlines()
        assert "POLICY" in lines[0]
        assert all(len(line.rstrip()) <= int(columns) for line in lines)

    @pytest.mark.parametrize(
        ("policy", "users"),
        [("after-hours", ["ann"]), ("too-long", ["ann", "kim"]), ("*", ["ann", "kim"]), ("nothing", [])],
    )
    def test_a_filter(self, desk: Desk, policy: str, users: list[str]) -> None:
        found = desk.answer("sessions", "--policy", policy)["sessions"]
        assert [row["userId"].split("@")[0] for row in found] == users

    def test_as_json_and_as_csv(self, desk: Desk) -> None:
        (row,) = desk.answer("sessions", "--policy", "after-hours")["sessions"]
        assert row["policies"] == "after-hours,too-long"
        assert [(each["policy"], each["thresholdMinutes"]) for each in row["violations"]] == [
            ("after-hours", 0),
            ("too-long", 540),
            ("too-long", 590),
        ]
        assert row["violations"][0] == {
            "policy": "after-hours",
            "kind": "OUTSIDE_HOURS",
            "thresholdMinutes": 0,
            "since": "2026-03-02T17:00:00Z",
            "limit": "mon-fri 07:00-17:00",
            "actual": "17:01 UTC",
        }
        rows = list(csv.DictReader(io.StringIO(desk.ask("sessions", "-o", "csv").stdout)))
        assert [each["policies"] for each in rows] == ["after-hours,too-long", "", "too-long"]

    def test_status_counts_the_sessions(self, desk: Desk) -> None:
        asked = desk.ask("status")
        assert (asked.exit_code, ", 2 violating, " in asked.stdout) == (0, True)
        (target,) = desk.answer("status")["targets"]
        assert (target["violating"], target["faultedFleets"]) == (2, [])


class TestFleets:
    """Fleets of which AppStream names errors."""

    def faults(self, number: int) -> tuple[Fault, ...]:
        return tuple(Fault(f"fleet-{each}", at(5), "DOMAIN_JOIN_ERROR", 1) for each in range(number))

    def test_status_names_them_and_calls_the_audit_well(self, desk: Desk) -> None:
        desk.put(faults=self.faults(1))
        asked = desk.ask("status")
        assert asked.exit_code == 0
        assert asked.stdout == (
            "0 live, 0 connected, 0 away, 0 abandoned, 0 degraded scopes, swept 0 s ago; "
            "no fault of the audit, but AppStream names errors of 1 fleet: fleet-0 (DOMAIN_JOIN_ERROR)\n"
        )
        (target,) = desk.answer("status")["targets"]
        assert target["faultedFleets"] == [
            {"fleetName": "fleet-0", "codes": "DOMAIN_JOIN_ERROR", "since": "2026-03-02T08:05:00Z"}
        ]
        assert target["faults"] == []

    def test_of_many_it_names_three(self, desk: Desk) -> None:
        desk.put(faults=self.faults(5))
        assert desk.ask("status").stdout.endswith("fleet-2 (DOMAIN_JOIN_ERROR) and 2 more\n")

    def test_whatever_they_are_called(self, desk: Desk) -> None:
        desk.put(faults=(Fault("cad\x1b[2J", at(5), "X\u202e", 1),))
        assert desk.ask("status").stdout.rstrip("\n").isprintable()

    def test_without_any_the_line_says_nothing_of_them(self, desk: Desk) -> None:
        desk.put()
        line = desk.ask("status").stdout
        assert line == "0 live, 0 connected, 0 away, 0 abandoned, 0 degraded scopes, swept 0 s ago\n"
