"""The command through the demo's day: what it says is what AppStream itself would say, and what was told.

The day is played once; the questions are asked at its own times, with the clock of this process set to them.
"""

import csv
import fcntl
import io
import json
import os
import re
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from click.testing import CliRunner, Result

from appstream_auditor.deployment import DEFAULT_STACK
from appstream_auditor.main import cli
from sandbox.appstream.models import Fault, StreamingSession
from sandbox.cloud import CREDENTIALS, REGION, ROOT, LocalCloud, Stack, local_cloud
from sandbox.day import BEGIN, END, EXPIRED_PASSWORD, STEPS, opening, time_of_day
from sandbox.demo import deployed_auditor

MINUTE = timedelta(minutes=1)
PATH = f"{ROOT / 'layers' / 'session_auditor'}:{ROOT / 'cli'}"
COLOUR = re.compile("\x1b\\[[0-9;]*m")
# At each there is something else to see: a beginning, a blink, a lunch, a meeting, a last hour, an evening.
ASKED_AT = ("08:25", "10:17", "12:20", "14:50", "15:57", "17:40")
# Whoever is on for six hours violates it; on the fleet that works at night everybody would.
DOCUMENT = """\
{"version": 1, "timeZone": "UTC",
 "policies": {"too-long": {"kind": "TOO_LONG", "minutes": [360], "fleets": "!render"}}}
"""
POLICIES = "/appstream/policies"
PRICES = str(ROOT / "examples" / "prices.json")
HOSTILE = "=cmd|'\x1b[2J\u202e<script>"


@dataclass
class Day:
    """The local cloud with the day played in it up to `now`."""

    cloud: LocalCloud
    stack: Stack
    now: datetime = field(default_factory=lambda: time_of_day(BEGIN))

    def ask(self, *words: str, at: datetime | None = None) -> Result:
        with time_machine.travel(at or self.now, tick=False):
            return CliRunner().invoke(cli, [*words], catch_exceptions=False)

    def answer(self, *words: str, at: datetime | None = None) -> Any:
        asked = self.ask(*words, "-o", "json", at=at)
        assert asked.exit_code == 0, asked.output
        return json.loads(asked.stdout)


@dataclass
class Seen:
    """What AppStream had at a time of the day, read off the service itself, and what the command said."""

    sessions: list[StreamingSession]
    rows: list[dict[str, Any]]
    asked_now: list[dict[str, Any]]
    status: dict[str, Any]


@pytest.fixture(scope="module")
def environment() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def day(environment: pytest.MonkeyPatch) -> Iterator[Day]:
    with local_cloud() as cloud:
        for name, value in CREDENTIALS.items():
            environment.setenv(name.upper(), value)
        environment.setenv("AWS_ENDPOINT_URL", cloud.endpoint)
        environment.setenv("AWS_ENDPOINT_URL_APPSTREAM", cloud.appstream_endpoint)
        environment.setenv("AWS_REGION", REGION)
        cloud.client("ssm").put_parameter(Name=POLICIES, Value=DOCUMENT, Type="String")
        settings = {"Sweeps": "DISABLED", "PoliciesParameter": POLICIES}
        yield Day(cloud, cloud.deploy(settings, name=DEFAULT_STACK))


@pytest.fixture(scope="module")
def seen(day: Day, environment: pytest.MonkeyPatch) -> dict[str, Seen]:
    """Play the day; ask at six times."""
    appstream = day.cloud.appstream
    # The function reads its environment when it is imported.
    environment.delitem(sys.modules, "auditor", raising=False)
    auditor = deployed_auditor(day.cloud, day.stack)
    opening(appstream)
    steps, found = list(STEPS), {}
    end = time_of_day(END)
    while True:
        while steps and steps[0].at <= day.now:
            steps.pop(0).act(appstream)
        auditor.sweep(f"{day.now:%H%M}", lambda: day.now, lambda: 50.0)
        if f"{day.now:%H:%M}" in ASKED_AT:
            found[f"{day.now:%H:%M}"] = Seen(
                [replace(each) for each in appstream.sessions.values()],
                day.answer("sessions")["sessions"],
                day.answer("sessions", "--now")["sessions"],
                day.answer("status"),
            )
        if day.now == end:
            return found
        day.now += MINUTE


CONNECTION = {"CONNECTED": "CONNECTED", "DISCONNECTED": "NOT_CONNECTED", "NEVER_CONNECTED": "NOT_CONNECTED"}


def read(session: StreamingSession) -> dict[str, Any]:
    """What there is to know of a session, from the service's own state."""
    assert session.start_time
    assert session.max_expiration_time
    return {
        "sessionId": session.session_id,
        "userId": session.user_id,
        "stackName": session.stack_name,
        "fleetName": session.fleet_name,
        "connected": session.connection_state == "CONNECTED",
        "startTime": f"{session.start_time:%Y-%m-%dT%H:%M:%SZ}",
        "maxExpirationTime": f"{session.max_expiration_time:%Y-%m-%dT%H:%M:%SZ}",
        "instanceId": session.instance_id,
    }


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """The same of a row of the command."""
    known = {name: row[name] for name in ("sessionId", "userId", "stackName", "fleetName")}
    times = {name: row[name] for name in ("startTime", "maxExpirationTime", "instanceId")}
    assert CONNECTION[row["presence"]] == row["connectionState"]
    return {**known, "connected": row["presence"] == "CONNECTED", **times}


def too_long(session: StreamingSession, now: datetime) -> bool:
    """Whether a session violates the document, from the service's own state."""
    assert session.start_time
    return session.fleet_name != "render" and now - session.start_time >= timedelta(hours=6)


@pytest.mark.parametrize("moment", ASKED_AT)
class TestSixTimes:
    """The command and an independent reading of AppStream agree."""

    def test_who_is_on(self, seen: dict[str, Seen], moment: str) -> None:
        expected = sorted((read(each) for each in seen[moment].sessions), key=lambda each: each["sessionId"])
        for rows in (seen[moment].rows, seen[moment].asked_now):
            assert sorted(map(shown, rows), key=lambda each: each["sessionId"]) == expected

    def test_asked_now_it_says_the_same(self, seen: dict[str, Seen], moment: str) -> None:
        assert seen[moment].asked_now == seen[moment].rows

    def test_the_head_line(self, seen: dict[str, Seen], moment: str) -> None:
        (target,) = seen[moment].status["targets"]
        connected = sum(each.connection_state == "CONNECTED" for each in seen[moment].sessions)
        live = len(seen[moment].sessions)
        assert (target["live"], target["connected"], target["away"]) == (live, connected, live - connected)
        assert (target["faults"], target["sweptSecondsAgo"]) == ([], 0)
        now = time_of_day(moment)
        assert target["violating"] == sum(too_long(each, now) for each in seen[moment].sessions)

    def test_who_violates_a_policy(self, seen: dict[str, Seen], moment: str) -> None:
        now = time_of_day(moment)
        expected = {each.session_id for each in seen[moment].sessions if too_long(each, now)}
        for rows in (seen[moment].rows, seen[moment].asked_now):
            assert {row["sessionId"] for row in rows if row["policies"] == "too-long"} == expected


def test_a_fleet_that_cannot_join_its_domain_is_named_by_status(seen: dict[str, Seen]) -> None:
    named = {moment: each.status["targets"][0]["faultedFleets"] for moment, each in seen.items()}
    # Fleets are described every ten minutes.
    assert named.pop("14:50") == [
        {"fleetName": "cad", "codes": EXPIRED_PASSWORD[0], "since": "2026-03-02T14:28:00Z"}
    ]
    assert [*named.values()] == [[]] * 5


class TestSessions:
    """Who is on: in what order, for how long, until when, and only who is asked for."""

    def test_who_forgot_a_session_comes_first(self, seen: dict[str, Seen]) -> None:
        first, *others = seen["14:50"].rows
        assert (first["userId"], first["presence"]) == ("farid@example.com", "DISCONNECTED")
        assert (first["awaySeconds"], first["abandonedMinutes"]) == (50 * 60, 15)
        assert (first["endsAt"], first["endsInSeconds"]) == ("2026-03-02T15:00:00Z", 600)
        assert first["cause"] == "DISCONNECT_TIMEOUT"
        assert {row["presence"] for row in others} == {"CONNECTED"}
        ends = [row["endsAt"] for row in others]
        assert ends == sorted(ends)

    @pytest.mark.parametrize(
        ("words", "users"),
        [
            pytest.param(["--user", "night.*"], ["night.shift"], id="a glob"),
            pytest.param(["--user", "night.shift@example.com"], ["night.shift"], id="a user"),
            pytest.param(["--host", "i-2c5e7c32"], [], id="a host that is not"),
            pytest.param(["--stack", "lab"], ["night.shift"], id="a stack"),
            pytest.param(["--fleet", "!render"], [], id="not a fleet"),
            pytest.param(["--state", "away"], [], id="a state"),
            pytest.param(["--state", "abandoned"], [], id="what was told of"),
            pytest.param(["--ends-within", "1m"], [], id="who ends soon"),
        ],
    )
    @pytest.mark.usefixtures("seen")
    def test_filters_from_the_table_and_from_appstream(
        self, day: Day, words: list[str], users: list[str]
    ) -> None:
        for source in ([], ["--now"]):
            rows = day.answer("sessions", *words, *source)["sessions"]
            assert [row["userId"].removesuffix("@example.com") for row in rows] == users

    @pytest.mark.usefixtures("seen")
    def test_a_host_is_asked_for_by_its_id(self, day: Day) -> None:
        (row,) = day.answer("sessions")["sessions"]
        (found,) = day.answer("sessions", "--now", "--host", row["instanceId"])["sessions"]
        assert found == row

    @pytest.mark.usefixtures("seen")
    def test_a_name_that_nobody_has_is_no_empty_office(self, day: Day) -> None:
        asked = day.ask("sessions", "--fleet", "RENDER")
        assert asked.exit_code == 0
        assert "0 of 1 session match; names are matched whole, in upper and lower case" in asked.stdout

    @pytest.mark.usefixtures("seen")
    def test_a_user_is_never_asked_for_without_a_type(self, day: Day) -> None:
        # The simulated AppStream refuses it, as the real one does; each scope and type is one call.
        before = day.cloud.appstream.calls["describe_sessions"]
        day.answer("sessions", "--now", "--user", "night.shift@example.com")
        assert day.cloud.appstream.calls["describe_sessions"] - before == 3 * 4

    @pytest.mark.usefixtures("seen")
    def test_while_nobody_sweeps_it_says_so_and_claims_nothing(self, day: Day) -> None:
        later = day.ask("sessions", at=day.now + timedelta(minutes=30))
        assert later.exit_code == 0
        assert "connected?" in later.stdout
        assert "the last sweep ended 30m ago; `appstream-auditor doctor` tells why" in later.stderr
        status = day.ask("status", at=day.now + timedelta(minutes=30))
        assert (status.exit_code, "swept 1800 s ago" in status.stdout) == (1, True)

    @pytest.mark.usefixtures("seen")
    def test_a_region_that_fails_does_not_hide_the_others(self, day: Day) -> None:
        asked = day.ask("sessions", "--region", REGION, "--region", "us-east-1")
        assert asked.exit_code == 3
        assert "night.shift@example.com" in asked.stdout
        assert asked.stdout.startswith("REGION")
        assert "us-east-1: no stack appstream-session-auditor in us-east-1" in asked.stderr
        answer = json.loads(
            day.ask("sessions", "--region", REGION, "--region", "us-east-1", "-o", "json").stdout
        )
        assert [each["region"] for each in answer["failures"]] == ["us-east-1"]

    @pytest.mark.usefixtures("seen")
    def test_a_scope_that_appstream_does_not_list_is_said(self, day: Day) -> None:
        fault = Fault("OperationNotPermittedException", fleet_name="render")
        day.cloud.appstream.faults.append(fault)
        try:
            asked = day.ask("sessions", "--now")
        finally:
            day.cloud.appstream.faults.remove(fault)
        assert asked.exit_code == 3
        assert "stack lab, fleet render could not be listed: OperationNotPermittedException" in asked.stderr

    @pytest.mark.usefixtures("seen")
    def test_a_hostile_name_reaches_no_terminal_and_no_spreadsheet(self, day: Day) -> None:
        appstream = day.cloud.appstream
        appstream.sessions["hostile"] = StreamingSession("hostile-1", HOSTILE, "lab", "render")
        try:
            shown_as, cells = day.ask("sessions", "--now"), day.ask("sessions", "--now", "-o", "csv")
        finally:
            del appstream.sessions["hostile"]
        assert all(each.isprintable() or each == "\n" for each in shown_as.stdout)
        assert "=cmd|'" in shown_as.stdout
        (row,) = [
            each for each in csv.DictReader(io.StringIO(cells.stdout)) if each["sessionId"] == "hostile-1"
        ]
        assert row["userId"].startswith("'=cmd")
        assert row["userId"].isprintable()


@pytest.mark.usefixtures("seen")
class TestTerminal:
    """As it looks: as wide as the terminal, coloured there and nowhere else."""

    @staticmethod
    def typed(columns: int, *words: str, **variables: str) -> str:
        """Run the command in a terminal of so many columns; return what it showed."""
        ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        environment = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
        done = subprocess.run(
            [sys.executable, "-m", "appstream_auditor", *words],
            env=environment | {"TERM": "xterm", "PYTHONPATH": PATH} | variables,
            stdout=theirs,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        os.close(theirs)
        assert done.returncode == 0, done.stderr.decode()
        shown = b""
        # Linux says EIO where nobody holds the other end any more.
        with suppress(OSError):
            while part := os.read(ours, 65_536):
                shown += part
        os.close(ours)
        return shown.decode()

    @pytest.mark.parametrize("columns", [60, 80, 120])
    @pytest.mark.usefixtures("day")
    def test_it_is_as_wide_as_the_terminal(self, columns: int) -> None:
        plain = [COLOUR.sub("", line) for line in self.typed(columns, "sessions").splitlines()]
        assert all(len(line) <= columns for line in plain)
        assert plain[0].startswith("USER")
        assert ("HOST" in plain[0]) is (columns == 120)

    @pytest.mark.parametrize("form", ["table", "json", "csv"])
    @pytest.mark.usefixtures("day")
    def test_a_reader_that_is_gone_is_no_error(self, form: str) -> None:
        program = f"{sys.executable} -m appstream_auditor history -o {form} | true"
        done = subprocess.run(
            ["/bin/bash", "-c", program],
            env=os.environ | {"PYTHONPATH": PATH},
            capture_output=True,
            text=True,
            check=True,
        )
        assert "Traceback" not in done.stderr
        assert "BrokenPipe" not in done.stderr

    @pytest.mark.usefixtures("day")
    def test_colours_go_where_nobody_wants_them(self) -> None:
        assert COLOUR.search(self.typed(80, "explain", "night"))
        plain = self.typed(80, "sessions", NO_COLOR="1")
        assert not re.search("\x1b\\[[0-9;]*3[0-9]m", plain)

    def test_it_watches_until_somebody_stops_it(self, day: Day, monkeypatch: pytest.MonkeyPatch) -> None:
        looked = 0

        def sleep(seconds: float) -> None:
            nonlocal looked
            looked += 1
            if looked == 2:
                raise KeyboardInterrupt

        monkeypatch.setattr(time, "sleep", sleep)
        asked = day.ask("sessions", "--watch")
        assert (asked.exit_code, asked.stdout.count("1 of 1 session, times in ")) == (0, 2)


@pytest.mark.usefixtures("seen")
class TestHistory:
    """Who was on: by user, by fleet, and how many at once, as the day's script has it."""

    def test_what_a_user_had(self, day: Day) -> None:
        (row,) = day.answer("history", "--user", "farid@example.com")["sessions"]
        assert (row["sessionId"], row["fleetType"], row["disconnects"]) == ("farid-0830", "ON_DEMAND", 1)
        assert (row["startedAt"], row["endedAt"]) == ("2026-03-02T08:30:00Z", "2026-03-02T15:00:00Z")
        assert (row["connectedSeconds"], row["disconnectedSeconds"]) == (5.5 * 3600, 3600)
        assert row["endReason"] == "DISCONNECT_TIMEOUT"

    def test_by_fleet(self, day: Day) -> None:
        sums = {row["name"]: row for row in day.answer("history", "--by", "fleet")["sums"]}
        sessions = {"cad": 5, "gis": 6, "render": 4}
        assert {name: row["sessions"] for name, row in sums.items()} == sessions
        # lucia, alice, chiara, elena and the kiosk, to which nobody ever came.
        assert (sums["gis"]["peak"], sums["gis"]["peakAt"]) == (5, "2026-03-02T09:30:00Z")

    def test_what_was_before_the_audit_is_not_claimed(self, day: Day) -> None:
        assert "the audit began at 07:58; of before, it knows only who" in day.ask("history", "--utc").stderr
        assert day.answer("history")["auditedSince"] == "2026-03-02T07:58:00Z"
        assert not day.ask("history", "--since", "08:00", "--utc").stderr

    def test_a_session_that_nobody_came_to(self, day: Day) -> None:
        (row,) = day.answer("history", "--user", "kiosk*")["sessions"]
        assert (row["connectedSeconds"], row["neverConnectedSeconds"]) == (0, 70 * 60)
        assert row["endReason"] == "NEVER_CONNECTED"

    def test_how_many_at_once_by_hour(self, day: Day) -> None:
        sums = day.answer("history", "--by", "hour", "--since", "2026-03-02T08:00Z", "--utc")["sums"]
        peaks = {row["name"][-5:]: row["peak"] for row in sums}
        assert (peaks["08:00"], peaks["09:00"], peaks["16:00"], peaks["17:00"]) == (9, 13, 9, 9)

    def test_a_month_and_a_day_that_is_over(self, day: Day) -> None:
        (march,) = day.answer("history", "--month", "2026-03", "--by", "month", "--utc")["sums"]
        assert (march["name"], march["sessions"]) == ("2026-03", 15)
        before = day.answer("history", "--since", "2026-02-01", "--until", "2026-02-02")
        assert before["sessions"] == []

    def test_what_the_hours_with_nobody_cost(self, day: Day) -> None:
        """An hour costs 1.00 running and 0.20 stopped: bruno and deniz 38 min each, farid 60, jonas 2 ..."""
        answer = day.answer("history", "--by", "fleet", "--prices", PRICES)
        assert {
            row["name"]: (
                row["aloneSeconds"] // 60,
                row["neverConnectedSeconds"] // 60,
                row["aloneCost"],
                row["avoidableCost"],
                row["unpricedSessions"],
            )
            for row in answer["sums"]
        } == {
            "cad": (138, 2, "2.3000", "1.8400", 0),
            "gis": (115, 70, "1.9167", "1.5333", 0),
            "render": (0, 0, "0.0000", "0.0000", 0),
        }
        assert any("discounts" in note for note in answer["notes"])

    @pytest.mark.parametrize(
        "words",
        [
            ["--prices", PRICES],
            ["--prices", PRICES, "--by", "hour"],
            ["--prices", str(ROOT / "README.md"), "--by", "user"],
            ["--prices", str(ROOT / "no-such-file.json"), "--by", "user"],
            ["--since", "soon"],
            ["--month", "2026-3"],
            ["--since", "today", "--until", "yesterday"],
            ["--by", "week"],
        ],
    )
    def test_what_it_does_not_understand(self, day: Day, words: list[str]) -> None:
        assert day.ask("history", *words).exit_code == 2


@pytest.mark.usefixtures("seen")
class TestWhatIf:
    """What another timeout than an hour would have meant: lunches, a blink, one session forgotten."""

    def test_by_hand(self, day: Day) -> None:
        found = day.answer("what-if", "--disconnect-timeout", "5,15,30,60")
        figures = [
            (row["fleetName"], row["timeoutSeconds"] // 60, row["savedSeconds"], row["lostReturns"])
            for row in found["timeouts"]
            if row["verdict"] == "JUDGED"
        ]
        # Each a window of a minute less: of 38, 38 and 60 min; of 29, 12 and 4.
        assert figures == [
            ("cad", 5, 60 * (32 + 32 + 54), 2),
            ("cad", 15, 60 * (22 + 22 + 44), 2),
            ("cad", 30, 60 * (7 + 7 + 29), 2),
            ("gis", 5, 60 * (23 + 6), 2),
            ("gis", 15, 60 * 13, 1),
            ("gis", 30, 0, 0),
        ]
        # For ten minutes nobody saw that fleet; who began before it cannot be told of.
        assert {row["fleetName"]: (row["sessions"], row["leftOut"]) for row in found["timeouts"]} == {
            "cad": (5, 0),
            "gis": (6, 0),
            "render": (0, 3),
        }
        assert [row["timeoutSeconds"] for row in found["advice"]] == [None] * 3
        assert found["notes"][0].startswith("3 of 14 sessions left out")

    def test_as_it_reads(self, day: Day) -> None:
        lines = day.ask("what-if", "--disconnect-timeout", "15", "--fleet", "cad").stdout.splitlines()
        head, row, advice, *_ = lines
        assert head == "FLEET     NOW  TIMEOUT   SAVED  LOST  RETURNS  SESSIONS"
        assert row == "cad    60 min   15 min  1h 28m     2        2         5"
        assert advice == (
            "cad: leave 60 min: shorter ones that save hours would have lost 1 % of the returns or more "
            "(by 5 sessions and 2 returns, which is little to go by)"
        )


@pytest.mark.usefixtures("seen")
class TestExplain:
    """The life of a session, live or ended."""

    def test_a_life_that_is_over_as_it_reads(self, day: Day) -> None:
        asked = day.ask("explain", "farid", "--utc")
        assert asked.exit_code == 0
        assert asked.stdout.splitlines() == FARID.splitlines()

    def test_one_that_lasts(self, day: Day) -> None:
        answer = day.answer("explain", "night.shift-0600")
        assert answer["live"]["presence"] == "CONNECTED"
        assert (answer["timeline"], answer["events"]) == ([], 0)
        assert [(each["detailType"], each["at"]) for each in answer["coming"]] == [
            ("AppStream Session Expiring", "2026-03-02T19:00:00Z"),
            ("AppStream Session Expiring", "2026-03-02T19:45:00Z"),
            ("AppStream Session Expiring", "2026-03-02T19:55:00Z"),
            ("AppStream Session Ended", "2026-03-02T20:00:00Z"),
        ]

    def test_a_user_is_no_session(self, day: Day) -> None:
        asked = day.ask("explain", "farid@example.com")
        assert (asked.exit_code, "sessions --user farid@example.com" in asked.stderr) == (2, True)

    def test_no_such_session(self, day: Day) -> None:
        asked = day.ask("explain", "nobody")
        assert (asked.exit_code, asked.stdout) == (1, "")
        assert "no session nobody is live, or ended within 90 days" in asked.stderr


FARID = """\
“farid@example.com” on stack office, fleet cad
session farid-0830, SAML, i-fa5f2c07, on-demand
ended between 14:59 and 15:00 (disconnect timeout)
connected 5h 30m, nobody 1h 00m, 1 disconnect

08:30  Started       after 08:29
14:00  Disconnected  after 13:59
14:15  Abandoned     nobody connected for 15 min
14:30  Violated      too-long, 360 min
14:45  Expiring      15 min before its end (disconnect timeout)
14:55  Expiring      5 min before its end (disconnect timeout)
15:00  Cleared       too-long, 360 min
15:00  Ended         disconnect timeout
"""


@pytest.mark.usefixtures("seen")
class TestPreview:
    """A document is previewed by the deployed function, which writes nothing."""

    @staticmethod
    def items(day: Day) -> list[Any]:
        table = day.stack.outputs["SessionsTableName"]
        found = day.cloud.client("dynamodb").scan(TableName=table, ConsistentRead=True)["Items"]
        return sorted(found, key=lambda item: str((item["pk"], item["sk"])))

    def test_it_says_who_would_be_told_of_and_leaves_everything_as_it_is(
        self, day: Day, tmp_path: Path
    ) -> None:
        everywhere = tmp_path / "policies.json"
        everywhere.write_text(DOCUMENT.replace(', "fleets": "!render"', ""))
        before = self.items(day)
        (found,) = day.answer("policies", "preview", str(everywhere))["policies"]
        assert (found["name"], found["violated"], found["cleared"]) == ("too-long", 1, 0)
        assert [each["userId"] for each in found["sessions"]] == ["night.shift@example.com"]
        assert self.items(day) == before

    def test_what_the_settings_do_not_know_is_said_by_the_function(self, day: Day, tmp_path: Path) -> None:
        tagged = tmp_path / "policies.json"
        tagged.write_text(DOCUMENT.replace('"fleets": "!render"', '"tags": {"team": "sales"}'))
        assert day.ask("policies", "validate", str(tagged)).exit_code == 0
        asked = day.ask("policies", "preview", str(tagged))
        assert (asked.exit_code, asked.stdout) == (1, "")
        assert asked.stderr.startswith("Error: policies.too-long.tags")


@pytest.mark.usefixtures("seen")
class TestWithoutItsStack:
    """With the table alone, and without any."""

    def test_a_table_is_enough(self, day: Day) -> None:
        asked = day.ask("status", "--table", day.stack.outputs["SessionsTableName"])
        assert (asked.exit_code, asked.stdout.split(",")[0]) == (0, "1 live")

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["--stack-name", "nothing"], "no stack nothing in eu-west-1 of account 123456789012"),
            (["--table", "nothing"], "no such table there: look at --table and --region"),
        ],
    )
    def test_no_such_thing(self, day: Day, words: list[str], said: str) -> None:
        asked = day.ask("status", *words)
        assert (asked.exit_code, said in asked.stderr) == (2, True)


@pytest.mark.usefixtures("seen")
def test_a_session_is_ended_by_hand_and_told_of_as_ended(day: Day, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the last test: it ends the only session that the day has left."""
    (row,) = day.answer("sessions")["sessions"]
    monkeypatch.setattr(time, "sleep", lambda _: None)
    done = day.answer("end", row["sessionId"], "--yes", "--reason", "the end of the day")
    assert (done["outcome"], done["userId"]) == ("GONE", "night.shift@example.com")
    assert not day.cloud.appstream.sessions
    auditor = deployed_auditor(day.cloud, day.stack)
    for _ in range(2):
        day.now += MINUTE
        auditor.sweep(f"{day.now:%H%M}", lambda: day.now, lambda: 50.0)
    assert day.answer("explain", row["sessionId"])["session"]["endReason"] == "USER_OR_ADMIN"
