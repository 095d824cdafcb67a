"""What the command says of a hub: from a stack with `Targets`, and items that are put in its table."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from click.testing import CliRunner, Result
from jsonschema import Draft202012Validator

from appstream_auditor.main import cli
from sandbox.command import SCHEMAS
from session_auditor.model import (
    WHOLE_TARGET,
    EndReason,
    Facts,
    Fleet,
    Gap,
    Life,
    Presence,
    Remembered,
)
from tests.shared.aws import Wire, boto_client
from tests.shared.history import SCOPE, at, session
from tests.shared.hub import (
    LONELY,
    NOW,
    OFFICE,
    PARAMETERS,
    RENDER,
    SWEPT,
    HubTable,
    every_target,
    swept_at,
    target_id,
)
from tests.shared.table import table

NAME = "appstream-session-auditor"


def deploy(parameters: Mapping[str, str]) -> None:
    """A stack whose only truth are its parameters, and the output with the table's name."""
    template = {
        "Parameters": {name: {"Type": "String"} for name in parameters},
        "Resources": {"Queue": {"Type": "AWS::SQS::Queue"}},
        "Outputs": {"SessionsTableName": {"Value": "sessions"}},
    }
    given = [{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()]
    client = boto_client("cloudformation")
    client.create_stack(StackName=NAME, TemplateBody=json.dumps(template), Parameters=given)


def remembered(user: str, left: float | None = None) -> Remembered:
    presence = Presence.CONNECTED if left is None else Presence.DISCONNECTED
    seen = session(session_id=f"{user}-1", user_id=f"{user}@example.com")
    return Remembered(seen, at(1), baseline=False, presence=presence, presence_since=at(left or 1))


def life(user: str, end: float) -> Life:
    return Life(
        session_id=f"{user}-0",
        scope=SCOPE,
        start=at(1),
        first_seen=at(1),
        end=at(end),
        ended_after=at(end - 1),
        reason=EndReason.USER_OR_ADMIN,
        user_id=f"{user}@example.com",
        events=2,
        timeline="0s60,3540e60",
    )


class Desk:
    """A hub's table, and somebody who asks of it."""

    def __init__(self, hub: HubTable) -> None:
        self.hub = hub

    def ask(self, *words: str) -> Result:
        with time_machine.travel(NOW, tick=False):
            return CliRunner().invoke(cli, [*words, "--utc"], catch_exceptions=False)

    def answer(self, *words: str) -> Any:
        found = json.loads(self.ask(*words, "-o", "json").stdout)
        Draft202012Validator(json.loads((SCHEMAS / f"{words[0]}.json").read_text())).validate(found)
        return found


@pytest.fixture
def empty(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """A table without any item; nothing is deployed."""
    for name, value in {"REGION": "eu-west-1", "ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    with table() as items:
        yield Desk(HubTable(items))


@pytest.fixture
def desk(empty: Desk) -> Desk:
    """Six targets: ann and bob are on in the first account, kim in the last, who has left."""
    deploy(PARAMETERS)
    empty.hub.list_accounts()
    for each in every_target():
        empty.hub.put(each)
    empty.hub.put(target_id(RENDER), SWEPT, remembered("ann"))
    empty.hub.put(target_id(RENDER, "us-east-1"), SWEPT, remembered("bob"))
    empty.hub.put(target_id(LONELY), SWEPT, remembered("kim", left=580))
    return empty


class TestStatus:
    """All targets at a glance."""

    def test_it_sums_up_and_has_a_line_for_each(self, desk: Desk) -> None:
        asked = desk.ask("status")
        assert asked.exit_code == 0
        first, *lines = asked.stdout.splitlines()
        assert first == "6 targets, 0 overdue, 0 degraded: 3 live, 2 connected, 1 away, 0 abandoned"
        assert [line.split(": ")[0] for line in lines] == [
            "render-farm eu-west-1",
            "render-farm us-east-1",
            "office eu-west-1",
            "office us-east-1",
            "333333333333 eu-west-1",
            "333333333333 us-east-1",
        ]

    def test_one_that_is_overdue_or_degraded_is_a_fault(self, desk: Desk) -> None:
        gap = Gap(WHOLE_TARGET, at(500), None, "AssumeRole AccessDenied", announced=True)
        desk.hub.put(target_id(OFFICE), replace(swept_at(499), gaps=(gap,)))
        desk.hub.put(target_id(LONELY, "us-east-1"), swept_at(596))
        asked = desk.ask("status")
        assert asked.exit_code == 1
        assert asked.stdout.startswith("6 targets, 2 overdue, 1 degraded: ")
        assert "1 degraded scope (all: AssumeRole AccessDenied), swept " in asked.stdout
        faults = {
            each["accountId"] + each["region"]: each["faults"] for each in desk.answer("status")["targets"]
        }
        assert {name for name, found in faults.items() if found} == {
            OFFICE + "eu-west-1",
            LONELY + "us-east-1",
        }
        assert faults[OFFICE + "eu-west-1"] == ["NO_SWEEP", "DEGRADED"]

    def test_one_that_was_never_swept_is_overdue(self, desk: Desk) -> None:
        desk.hub.list_accounts({OFFICE: "office", "444444444444": "new"})
        asked = desk.ask("status")
        assert asked.exit_code == 1
        assert "new eu-west-1: 0 live, 0 connected, 0 away, 0 abandoned, 0 degraded scopes, never swept" in (
            asked.stdout
        )

    def test_one_that_is_idle_is_swept_every_fourth_minute(self, desk: Desk) -> None:
        idle = replace(swept_at(590), idle_since=NOW - timedelta(days=2))
        desk.hub.put(target_id(OFFICE), idle)
        assert desk.ask("status").exit_code == 0
        desk.hub.put(target_id(OFFICE), replace(idle, last_begin=at(587), last_end=at(587)))
        assert desk.ask("status").exit_code == 1

    def test_of_many_only_those_at_fault_have_a_line(self, desk: Desk) -> None:
        desk.hub.list_accounts({f"{number:012}": f"account-{number}" for number in range(15)})
        for number in range(15):
            desk.hub.put(target_id(f"{number:012}"))
            if number:
                desk.hub.put(target_id(f"{number:012}", "us-east-1"))
        first, *lines = desk.ask("status").stdout.splitlines()
        assert first.startswith("32 targets, 1 overdue, 0 degraded: ")
        assert [line.split(": ")[0] for line in lines] == ["account-0 us-east-1"]

    def test_of_many_at_fault_it_names_twenty(self, desk: Desk) -> None:
        desk.hub.list_accounts({f"{number:012}": f"account-{number}" for number in range(15)})
        lines = desk.ask("status").stdout.splitlines()
        assert len(lines) == 1 + 20 + 1
        assert lines[-1] == "and 10 more targets at fault; -o json and -o csv have all"

    def test_one_that_cannot_be_read_does_not_hide_the_others(self, desk: Desk) -> None:
        desk.hub.spoil(target_id(OFFICE))
        asked = desk.ask("status")
        assert asked.exit_code == 3
        assert asked.stdout.startswith("5 targets, 0 overdue, 0 degraded: 3 live")
        assert "office eu-west-1: the target's item in table sessions is broken" in asked.stderr
        (failed,) = desk.answer("status")["failures"]
        assert (failed["accountId"], failed["accountName"], failed["region"]) == (
            OFFICE,
            "office",
            "eu-west-1",
        )

    def test_as_csv_each_has_account_and_region(self, desk: Desk) -> None:
        rows = list(csv.DictReader(io.StringIO(desk.ask("status", "-o", "csv").stdout)))
        assert [(row["accountId"], row["accountName"]) for row in rows][::2] == [
            (RENDER, "render-farm"),
            (OFFICE, "office"),
            (LONELY, ""),
        ]

    def test_an_account_may_be_called_anything(self, desk: Desk) -> None:
        desk.hub.list_accounts({OFFICE: "of\x1b[2Jfice\u202e"})
        asked = desk.ask("status")
        assert asked.stdout.replace("\n", "").isprintable()


class TestSessions:
    """Who is on, in all targets."""

    def test_a_column_names_the_target_and_the_order_is_one(self, desk: Desk) -> None:
        head, *rows = desk.ask("sessions").stdout.splitlines()
        assert head.startswith("TARGET")
        assert [row.split("  ")[0].strip() for row in rows[:3]] == [
            "333333333333 eu-west-1",
            "render-farm eu-west-1",
            "render-farm us-east-1",
        ]
        assert rows[3].startswith("3 of 3 sessions")

    @pytest.mark.parametrize(
        ("accounts", "users"),
        [
            pytest.param(["render-farm"], ["ann", "bob"], id="a name"),
            pytest.param(["render*"], ["ann", "bob"], id="a glob of names"),
            pytest.param([LONELY], ["kim"], id="a number"),
            pytest.param(["render*", LONELY], ["kim", "ann", "bob"], id="two"),
            pytest.param(["office"], [], id="where nobody is on"),
        ],
    )
    def test_of_some_accounts(self, desk: Desk, accounts: list[str], users: list[str]) -> None:
        words = [word for each in accounts for word in ("--account", each)]
        found = desk.answer("sessions", *words)["sessions"]
        assert [row["userId"].split("@")[0] for row in found] == users

    def test_an_account_that_there_is_not(self, desk: Desk) -> None:
        asked = desk.ask("sessions", "--account", "Render-Farm")
        assert asked.exit_code == 2
        assert "no account matches --account Render-Farm" in asked.stderr

    def test_of_one_account_the_region_is_enough(self, desk: Desk) -> None:
        assert desk.ask("sessions", "--account", RENDER).stdout.startswith("REGION")

    def test_what_has_to_be_said_names_the_target(self, desk: Desk) -> None:
        desk.hub.put(target_id(OFFICE), swept_at(560))
        asked = desk.ask("sessions")
        assert "Note: office eu-west-1: the last sweep ended 40m ago" in asked.stderr

    def test_appstream_itself_is_not_asked_in_other_accounts(self, desk: Desk) -> None:
        asked = desk.ask("sessions", "--now", "--account", LONELY)
        assert asked.exit_code == 3
        assert (
            f"AppStream in account {LONELY} cannot be asked with credentials of 123456789012" in asked.stderr
        )


class TestHistory:
    """Who was on, in all targets."""

    @pytest.fixture(autouse=True)
    def past(self, desk: Desk) -> None:
        desk.hub.put_history(target_id(OFFICE), life("eve", 60))
        desk.hub.put_history(target_id(RENDER), life("eve", 70))

    @pytest.mark.parametrize("user", [[], ["--user", "eve@example.com"]], ids=["by day", "by user"])
    def test_each_session_once_with_its_target(self, desk: Desk, user: list[str]) -> None:
        found = desk.answer("history", *user)["sessions"]
        ended = [(row["accountName"], row["sessionId"]) for row in found if row["endedAt"]]
        assert sorted(ended) == [("office", "eve-0"), ("render-farm", "eve-0")]
        assert desk.ask("history", *user).stdout.startswith("TARGET")

    def test_before_the_audit_of_a_target_little_is_known_of_it(self, desk: Desk) -> None:
        desk.hub.put(target_id(LONELY), replace(SWEPT, first_begin=at(590)))
        asked = desk.ask("history")
        assert "Note: the audit of the newest target began at 17:50; of before, it knows only" in asked.stderr

    def test_sums_are_of_a_target(self, desk: Desk) -> None:
        sums = desk.answer("history", "--by", "user", "--account", "*e*")["sums"]
        assert [(row["accountName"], row["region"], row["name"]) for row in sums] == [
            ("render-farm", "eu-west-1", "ann@example.com"),
            ("render-farm", "eu-west-1", "eve@example.com"),
            ("render-farm", "us-east-1", "bob@example.com"),
            ("office", "eu-west-1", "eve@example.com"),
        ]
        assert desk.ask("history", "--by", "user").stdout.startswith("TARGET")


class TestWhatIf:
    """What other timeouts would have meant, in all targets."""

    # Thirty days of six targets would be many pages.
    WORDS = ("what-if", "--disconnect-timeout", "15,60", "--since", "2026-03-02")

    @pytest.fixture(autouse=True)
    def past(self, desk: Desk) -> None:
        """Who came back after twenty minutes in one account, and was ended after an hour in another."""
        fleets = Facts({SCOPE.fleet: Fleet(3600)})
        for account_id in (OFFICE, RENDER):
            desk.hub.put_facts(target_id(account_id), fleets)
        back = replace(life("eve", 60), timeline="0s60,600d60,1800r60,3540e60", events=4)
        desk.hub.put_history(
            target_id(OFFICE), replace(back, connected_seconds=39 * 60, disconnected_seconds=20 * 60)
        )
        gone = replace(life("joe", 81), timeline="0s60,1200d60,4800e60", events=3)
        desk.hub.put_history(
            target_id(RENDER), replace(gone, connected_seconds=20 * 60, disconnected_seconds=60 * 60)
        )
        desk.hub.put_history(target_id(LONELY), life("old", 60))

    def test_each_target_for_itself(self, desk: Desk) -> None:
        found = desk.answer(*self.WORDS)
        assert [
            (row["accountId"], row["timeoutSeconds"], row["verdict"], row["savedSeconds"], row["lostReturns"])
            for row in found["timeouts"]
        ] == [
            (RENDER, 900, "JUDGED", 44 * 60, 0),
            (RENDER, 3600, "AS_NOW", None, None),
            (OFFICE, 900, "JUDGED", 4 * 60, 1),
            (OFFICE, 3600, "AS_NOW", None, None),
            (LONELY, 900, "NO_SESSION", None, None),
            (LONELY, 3600, "NO_SESSION", None, None),
        ]
        assert [(row["accountId"], row["timeoutSeconds"]) for row in found["advice"]] == [
            (RENDER, 900),
            (OFFICE, None),
            (LONELY, None),
        ]
        assert found["notes"][0].startswith("1 of 3 sessions left out, because not all is known")

    def test_a_column_names_the_target_and_so_does_the_advice(self, desk: Desk) -> None:
        lines = desk.ask(*self.WORDS).stdout.splitlines()
        assert lines[0].split() == [
            "TARGET",
            "FLEET",
            "NOW",
            "TIMEOUT",
            "SAVED",
            "LOST",
            "RETURNS",
            "SESSIONS",
        ]
        assert (
            "render-farm eu-west-1 cad: 15 min instead of 60 min would have saved 0h 44m or more, and lost "
            "no return (by 1 session and 0 returns, which is little to go by)"
        ) in lines

    def test_some_accounts_fleets_and_times(self, desk: Desk) -> None:
        def sessions(*words: str) -> list[tuple[str, int]]:
            found = desk.answer(*self.WORDS, *words)["timeouts"]
            return [(row["accountId"], row["sessions"]) for row in found][::2]

        assert sessions("--account", "office") == [(OFFICE, 1)]
        assert sessions("--fleet", "!c*") == []
        assert sessions("--since", "2026-03-02T09:10Z") == [(RENDER, 1)]
        assert sessions("--until", "2026-03-02T09:10Z", "--account", "*e*") == [(OFFICE, 1)]

    def test_as_csv_with_what_has_to_be_said_beside_it(self, desk: Desk) -> None:
        asked = desk.ask(*self.WORDS, "-o", "csv")
        first, *_ = csv.DictReader(io.StringIO(asked.stdout))
        assert (first["fleetName"], first["savedSeconds"], first["leftOut"]) == ("cad", "2640", "0")
        assert "Note: SAVED is at least, LOST at most" in asked.stderr


class TestExplain:
    """The life of a session in any target."""

    def test_one_that_lives(self, desk: Desk) -> None:
        asked = desk.ask("explain", "kim")
        assert asked.stdout.splitlines()[:2] == [
            "333333333333 eu-west-1",
            "“kim@example.com” on stack office, fleet cad",
        ]
        assert desk.answer("explain", "bob-1")["session"]["region"] == "us-east-1"

    def test_one_that_ended(self, desk: Desk) -> None:
        desk.hub.put_history(target_id(OFFICE), life("eve", 60))
        assert desk.answer("explain", "eve")["session"]["accountName"] == "office"

    def test_a_beginning_in_two_targets(self, desk: Desk) -> None:
        desk.hub.put(target_id(OFFICE), SWEPT, remembered("anna"))
        asked = desk.ask("explain", "ann")
        assert (asked.exit_code, "2 sessions begin with 'ann'" in asked.stderr) == (2, True)
        assert desk.answer("explain", "ann", "--account", "office")["session"]["sessionId"] == "anna-1"

    @pytest.mark.parametrize("live", [True, False])
    def test_an_id_in_two_targets(self, desk: Desk, *, live: bool) -> None:
        for account_id in (RENDER, OFFICE):
            if live:
                desk.hub.put(target_id(account_id), SWEPT, remembered("eve"))
            else:
                desk.hub.put_history(target_id(account_id), life("eve", 60))
        asked = desk.ask("explain", "eve-1" if live else "eve-0")
        assert (asked.exit_code, "is in several targets: say --account" in asked.stderr) == (2, True)


def test_before_the_first_list_of_accounts_there_is_nothing_to_ask(empty: Desk) -> None:
    deploy(PARAMETERS | {"Targets": "r-ab12"})
    asked = empty.ask("status")
    assert asked.exit_code == 1
    assert "no account is known yet below the units and roots of Targets" in asked.stderr


@pytest.mark.parametrize(
    ("parameters", "targets"),
    [
        pytest.param({}, ["123456789012"], id="no hub"),
        pytest.param({"SweepEvery": "15"}, ["123456789012"], id="one target, more often"),
        pytest.param({"Targets": f"{OFFICE}, {LONELY}"}, [OFFICE, LONELY], id="accounts by number"),
        pytest.param(
            {"Targets": f"{OFFICE},{LONELY}", "ExcludedAccounts": LONELY}, [OFFICE], id="less one of them"
        ),
    ],
)
def test_without_units_and_roots_no_list_is_read(
    empty: Desk, monkeypatch: pytest.MonkeyPatch, parameters: dict[str, str], targets: list[str]
) -> None:
    deploy(parameters)
    wire = Wire(monkeypatch)
    found = empty.answer("status")["targets"]
    assert [row["accountId"] for row in found] == targets
    partitions = [call["ExpressionAttributeValues"][":pk"]["S"] for call in wire.parameters("Query")]
    assert {each.split("#")[0] for each in partitions} == {"TARGET"}


@pytest.mark.parametrize(("swept", "code"), [(598, 0), (596, 1)], ids=["two minutes ago", "four"])
def test_one_target_that_is_swept_each_15_seconds_is_late_after_three_minutes(
    empty: Desk, swept: float, code: int
) -> None:
    deploy({"SweepEvery": "15", "AuthenticationTypes": "SAML"})
    empty.hub.put(target_id("123456789012"), swept_at(swept))
    assert empty.ask("status").exit_code == code
