"""`reconcile` from the report in its bucket to its exit code: moto's S3 and DynamoDB, and our AppStream."""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from botocore.response import StreamingBody
from click.testing import CliRunner, Result
from jsonschema import Draft202012Validator

from appstream_auditor.main import cli
from appstream_auditor.reconcile.bucket import key_of
from sandbox import appstream
from sandbox.appstream.usage_reports import COLUMNS, report, row
from sandbox.cloud import ROOT
from sandbox.command import SCHEMAS
from session_auditor.model import EndReason, Life, Presence, Remembered, Scope, TargetId
from tests.shared.aws import Wire, boto_client, client_error, raising
from tests.shared.aws import session as aws_session
from tests.shared.history import START, TARGET, session
from tests.shared.hub import LONELY, OFFICE, PARAMETERS, SWEPT, HubTable, target_id
from tests.shared.table import table

BUCKET = "appstream-logs-eu-west-1-123456789012-ab12"
KEY = "sessions/schedule=DAILY/year=2026/month=03/day=02/daily-session-report-2026-03-02.csv"
DAY = "2026-03-02"
NEXT_MORNING = START + timedelta(days=1)
# What the tests themselves ask for.
SETTING_UP = {"CreateBucket", "CreateTable", "PutItem", "PutObject"}
HOSTILE = "=cmd|'\x1b[2J\u202e<script>"


def at(minute: float) -> datetime:
    return START + timedelta(minutes=minute)


def life(user: str, start: float = 1, end: float = 60) -> Life:
    return Life(
        session_id=f"{user}-1",
        scope=Scope("office", "cad"),
        start=at(start),
        first_seen=at(start),
        end=at(end),
        ended_after=at(end - 1),
        reason=EndReason.USER_OR_ADMIN,
        user_id=f"{user}@example.com",
    )


def said(user: str, start: float = 1, end: float = 60, **others: str) -> dict[str, str]:
    """A row of the report."""
    return row(f"{user}-1", at(start), at(end), user_id=f"{user}@example.com", **others)


# Two were seen; of two that were not, one took half an interval, and one was not looked at.
REPORT = [said("ann"), said("bob", 5, 90), said("cyd", 10, 10.5), said("dan", stack_name="lab")]


class Office:
    """An auditor's table with the history of a day, and the bucket with its report."""

    def __init__(self, wire: Wire, hub: HubTable) -> None:
        self.wire, self.hub = wire, hub
        self.s3 = boto_client("s3")
        self.s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        self.appstream.report_bucket = BUCKET
        self.deploy({"StackFilter": "office", "SweepEvery": "60"})
        hub.put(TARGET)
        for each in (life("ann"), life("bob", 5, 90)):
            hub.put_history(TARGET, each)
        self.store(report(REPORT))

    @property
    def appstream(self) -> appstream.AppStreamBackend:
        return appstream.appstream_backends["123456789012"]["eu-west-1"]

    def deploy(self, parameters: Mapping[str, str]) -> None:
        stack = {
            "StackName": "appstream-session-auditor",
            "StackStatus": "CREATE_COMPLETE",
            "Outputs": [{"OutputKey": "SessionsTableName", "OutputValue": "sessions"}],
            "Parameters": [
                {"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()
            ],
        }
        self.wire.answers["DescribeStacks"] = lambda _: {"Stacks": [stack]}

    def store(self, text: str, key: str = KEY) -> None:
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=text.encode())

    def ask(self, *words: str, now: datetime = NEXT_MORNING, typed: str | None = None) -> Result:
        with time_machine.travel(now, tick=False):
            return CliRunner().invoke(
                cli, ["reconcile", *words, "--utc"], input=typed, catch_exceptions=False
            )

    def answer(self, *words: str, **asked: Any) -> Any:
        found = json.loads(self.ask(*words, "-o", "json", **asked).stdout)
        Draft202012Validator(json.loads((SCHEMAS / "reconcile.json").read_text())).validate(found)
        return found


@pytest.fixture
def office(monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    for name, value in {"REGION": "eu-west-1", "ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    # To make a session anew, and to read what it has read, takes longer than a test.
    aws = aws_session()
    monkeypatch.setattr("boto3.Session", lambda **_: aws)
    appstream.register()
    with table() as items:
        wire = Wire(monkeypatch)
        yield Office(wire, HubTable(items))


def test_the_key_is_the_documented_one() -> None:
    assert key_of(START.date()) == KEY


def test_a_day_in_a_terminal(office: Office) -> None:
    asked = office.ask(DAY)
    assert (asked.exit_code, asked.stderr) == (0, "")
    assert [line.rstrip() for line in asked.stdout.splitlines()] == [
        "4 sessions in daily-session-report-2026-03-02.csv",
        "2 matched by session id, 1 missed, 0 extra, 0 off by more than 60 s",
        "not counted: 1 outside the auditor's filters",
        "coverage 66.7 %; sweeps every 60 s can be expected to see 83.3 %",
        "",
        "FINDING  USER              STARTED     ENDED  LASTED  STACK   FLEET  SESSION",
        "missed   cyd@example.com  08:10:00  08:10:30     30s  office  cad    cyd-1",
    ]
    assert office.ask("yesterday").stdout == asked.stdout


def test_the_same_for_programs(office: Office) -> None:
    answer = office.answer(DAY)
    (day,) = answer["targets"]
    assert (day["matched"], day["matchedById"], day["missed"], day["outsideFilters"]) == (2, 2, 1, 1)
    assert (day["coveragePercent"], day["expectedPercent"], day["intervalSeconds"]) == (66.67, 83.33, 60)
    (missed,) = answer["sessions"]
    assert (missed["finding"], missed["sessionId"], missed["ourEndedAt"]) == ("MISSED", "cyd-1", None)
    assert (missed["startedAt"], missed["endedAt"]) == ("2026-03-02T08:10:00Z", "2026-03-02T08:10:30Z")
    (cells,) = csv.DictReader(io.StringIO(office.ask(DAY, "-o", "csv").stdout))
    assert (cells["finding"], cells["userId"], cells["ourSessionId"]) == ("MISSED", "cyd@example.com", "")


@pytest.mark.parametrize(("per_cent", "code"), [("66.6", 0), ("66.7", 1)])
def test_it_ends_with_1_below_what_is_asked_for(office: Office, per_cent: str, code: int) -> None:
    assert office.ask(DAY, "--at-least", per_cent).exit_code == code


def test_of_an_empty_day_nothing_was_missed(office: Office) -> None:
    office.store(report([]))
    asked = office.ask(DAY, "--at-least", "100")
    assert (asked.exit_code, "coverage: there was no session to be seen" in asked.stdout) == (0, True)


def test_it_asks_for_no_more_than_its_page_says(office: Office) -> None:
    """The rest is what the managed policy for readers allows; ListBucket tells what is not there."""
    assert office.ask(DAY).exit_code == 0
    readers = {"DescribeStacks", "GetCallerIdentity", "Query"}
    asked = set(office.wire.operations()) - readers
    page = (ROOT / "docs" / "permissions.md").read_text()
    (policy,) = re.findall(r"### Usage reports\n.*?```json\n(.*?)```", page, re.DOTALL)
    allowed = {each["Action"].split(":")[1] for each in json.loads(policy)["Statement"]}
    assert asked - SETTING_UP == allowed - {"ListBucket"}


def test_what_is_extra_and_what_differs(office: Office) -> None:
    office.store("\ufeff" + report([said("ann", 1, 50), *REPORT[1:]]) + "broken\n")
    office.hub.put_history(TARGET, life("eve", 20, 40))
    asked = office.ask(DAY)
    assert "not counted: 1 outside the auditor's filters, 1 broken line" in asked.stdout
    assert [line.rstrip() for line in asked.stdout.splitlines()[-4:]] == [
        "FINDING    USER              STARTED     ENDED  LASTED  OURS          STACK   FLEET  SESSION",
        "missed     cyd@example.com  08:10:00  08:10:30     30s                office  cad    cyd-1",
        "extra      eve@example.com  08:20:00  08:40:00     20m                office  cad    eve-1",
        "different  ann@example.com  08:01:00  08:50:00     49m  end 09:00:00  office  cad    ann-1",
    ]


def test_sessions_that_ended_beside_the_day_or_live_were_seen(office: Office) -> None:
    def remembered(user: str) -> Remembered:
        seen = session(session_id=f"{user}-1", user_id=f"{user}@example.com")
        return Remembered(seen, at(1), baseline=False, presence=Presence.CONNECTED, presence_since=at(1))

    midnight = 16 * 60
    office.hub.put(TARGET, SWEPT, remembered("liv"))
    office.hub.put_history(TARGET, life("eve", 20, midnight + 1))
    office.hub.put_history(TARGET, life("max", -500, -midnight / 2 - 0.5))
    office.store(report([said("eve", 20, midnight - 0.5), said("max", -500, -midnight / 2), said("liv")]))
    (day,) = office.answer(DAY)["targets"]
    assert (day["matchedById"], day["missed"], day["different"]) == (3, 0, 2)


@pytest.mark.parametrize("mode", ["hash", "omit"])
def test_where_users_are_not_kept_it_says_how_sessions_were_matched(office: Office, mode: str) -> None:
    office.deploy({"StackFilter": "office", "UserIdMode": mode})
    office.store(
        report([each | {"user_session_id": f"other-{number}"} for number, each in enumerate(REPORT)])
    )
    asked = office.ask(DAY)
    way = "by stack, fleet, not by user, since the auditor does not keep user ids, and start"
    assert f"2 matched {way}, 1 missed" in asked.stdout


def test_sweeps_below_a_minute_are_expected_to_see_more(office: Office) -> None:
    office.deploy({"StackFilter": "office", "SweepEvery": "15"})
    (day,) = office.answer(DAY)["targets"]
    assert (day["intervalSeconds"], day["expectedPercent"]) == (15, 100)


def test_a_hostile_name_reaches_no_terminal_and_no_spreadsheet(office: Office) -> None:
    hostile = said("cyd") | {"user_id": HOSTILE, "user_session_id": HOSTILE}
    office.store(report([*REPORT[:2], hostile]))
    texts = [office.ask(DAY, "-o", form).stdout for form in ("table", "json", "csv")]
    assert all(each.isprintable() or each == "\n" for text in texts for each in text)
    (cells,) = csv.DictReader(io.StringIO(texts[-1]))
    assert (cells["userId"][:5], cells["sessionId"][:5]) == ("'=cmd", "'=cmd")


class TestNoReport:
    """What is missing is said, with what to do."""

    def failed(self, office: Office, **asked: Any) -> tuple[int, str]:
        done = office.ask(DAY, **asked)
        assert done.stdout == ""
        return done.exit_code, done.stderr

    def test_no_subscription(self, office: Office) -> None:
        office.appstream.report_bucket = None
        code, words = self.failed(office)
        assert (code, "no subscription to usage reports in eu-west-1" in words) == (2, True)
        assert "`aws appstream create-usage-report-subscription --region eu-west-1` makes one" in words

    def test_not_there_yet(self, office: Office) -> None:
        office.s3.delete_object(Bucket=BUCKET, Key=KEY)
        code, words = self.failed(office)
        assert (code, f"no report s3://{BUCKET}/{KEY}: try again after 2026-03-04 00:00 UTC" in words) == (
            3,
            True,
        )

    def test_nor_will_it_be(self, office: Office) -> None:
        office.s3.delete_object(Bucket=BUCKET, Key=KEY)
        code, words = self.failed(office, now=NEXT_MORNING + timedelta(days=1))
        assert (code, "try again" in words) == (3, False)
        assert "none for a day on which nobody starts a session" in words

    def test_appstream_could_not_write_it(self, office: Office) -> None:
        office.s3.delete_object(Bucket=BUCKET, Key=KEY)
        office.appstream.report_errors = ["ACCESS_DENIED"]
        assert "AppStream could not write any (ACCESS_DENIED)" in self.failed(office)[1]

    def test_its_bucket_is_gone(self, office: Office) -> None:
        office.s3.delete_object(Bucket=BUCKET, Key=KEY)
        office.s3.delete_bucket(Bucket=BUCKET)
        code, words = self.failed(office)
        assert (code, "does not exist any more: subscribe to reports anew" in words) == (3, True)

    @pytest.mark.parametrize(
        ("operation", "action"),
        [
            ("DescribeUsageReportSubscriptions", "appstream:DescribeUsageReportSubscriptions"),
            ("GetObject", f"s3:GetObject and s3:ListBucket for s3://{BUCKET}/{KEY}"),
        ],
    )
    def test_who_may_not_is_told_what_it_takes(self, office: Office, operation: str, action: str) -> None:
        office.wire.answers[operation] = raising(client_error("AccessDenied", operation))
        code, words = self.failed(office)
        assert (code, f"your AWS credentials may not {action}; docs/permissions.md has" in words) == (3, True)

    def test_a_connection_that_breaks_leaves_no_figures(self, office: Office) -> None:
        text = report(REPORT).encode()
        body = StreamingBody(io.BytesIO(text[:-10]), len(text))
        office.wire.answers["GetObject"] = lambda _: {"Body": body}
        code, words = self.failed(office)
        assert (code, "s3 cannot be asked (IncompleteReadError)" in words) == (3, True)

    def test_what_lies_there_is_none(self, office: Office) -> None:
        office.store("application_name,schedule\n")
        code, words = self.failed(office)
        assert (code, "is no daily sessions report: it lacks the columns user_session_id" in words) == (
            3,
            True,
        )

    @pytest.mark.parametrize(
        ("day", "sentence"),
        [
            ("2026-03-03", "2026-03-03 is not over in UTC"),
            ("soon\x1b", "is no day; such are 2026-03-02 and yesterday"),
            ("2025-11-01", "is too long ago: HistoryDays keeps sessions for 90 days"),
        ],
    )
    def test_a_day_that_has_none(self, office: Office, day: str, sentence: str) -> None:
        done = office.ask(day)
        assert (done.exit_code, done.stdout) == (2, "")
        assert sentence in " ".join(done.stderr.split())
        assert "\x1b" not in done.stderr


class TestAtHand:
    """A report at hand needs no bucket and no subscription."""

    @pytest.fixture(autouse=True)
    def no_bucket(self, office: Office) -> Iterator[None]:
        office.appstream.report_bucket = None
        yield
        assert not {"DescribeUsageReportSubscriptions", "GetObject"} & set(office.wire.operations())

    def test_a_file(self, office: Office, tmp_path: Path) -> None:
        path = tmp_path / "report.csv"
        path.write_text(report(REPORT))
        (day,) = office.answer(DAY, "--file", str(path))["targets"]
        assert (day["report"], day["matched"], day["missed"]) == (str(path), 2, 1)

    def test_standard_input_and_a_day_that_is_not_over(self, office: Office) -> None:
        (day,) = office.answer(DAY, "--file", "-", typed=report(REPORT), now=at(600))["targets"]
        assert (day["matched"], day["missed"]) == (2, 1)

    def test_another_file(self, office: Office) -> None:
        done = office.ask(DAY, "--file", "-", typed="a,b\n1,2\n")
        assert (done.exit_code, "is no daily sessions report: it lacks" in done.stderr) == (2, True)

    def test_a_report_of_another_account(self, office: Office) -> None:
        done = office.ask(DAY, "--file", "-", typed=report([said("ann", aws_account_id="999999999999")]))
        assert "not counted: 1 of another account or region" in done.stdout
        assert "coverage: there was no session to be seen" in done.stdout


class TestHub:
    """Of a hub each target has a report of its own, which is read in its own account alone."""

    @pytest.fixture(autouse=True)
    def hub(self, office: Office) -> None:
        office.deploy(PARAMETERS | {"TargetRegions": "eu-west-1"})
        office.hub.list_accounts()
        for which in (OFFICE, LONELY):
            office.hub.put(target_id(which))
            office.hub.put_history(target_id(which), life("ann"))

    def test_another_account_is_not_asked(self, office: Office) -> None:
        done = office.ask(DAY, "--account", LONELY)
        assert done.exit_code == 3
        assert (
            f"AppStream in account {LONELY} cannot be asked with credentials of 123456789012" in done.stderr
        )
        assert "give it with --file" in done.stderr

    def test_a_report_at_hand_says_itself_of_which_target_it_is(self, office: Office) -> None:
        text = report([said("ann", aws_account_id=OFFICE), said("bob", aws_account_id=OFFICE)])
        (day,) = office.answer(DAY, "--file", "-", typed=text)["targets"]
        assert (day["accountId"], day["accountName"], day["matched"], day["missed"]) == (
            OFFICE,
            "office",
            1,
            1,
        )

    def test_or_somebody_has_to(self, office: Office) -> None:
        text = report([said("ann")], [each for each in COLUMNS if each != "aws_account_id"])
        assert office.ask(DAY, "--file", "-", typed=text).exit_code == 2
        (day,) = office.answer(DAY, "--file", "-", "--account", "office", typed=text)["targets"]
        assert (day["accountId"], day["matched"]) == (OFFICE, 1)

    def test_both_of_two_targets(self, office: Office) -> None:
        """The hub's own account, in two regions."""
        office.deploy({"Targets": "123456789012", "TargetRegions": "eu-west-1,us-east-1"})
        office.hub.put(TargetId("aws", "123456789012", "us-east-1"))
        done = office.ask(DAY)
        assert (done.exit_code, done.stdout.startswith("eu-west-1:")) == (3, True)
        assert "has no subscription to usage reports in us-east-1" in done.stderr
        # What was seen too little of is the graver news.
        assert office.ask(DAY, "--at-least", "90").exit_code == 1
