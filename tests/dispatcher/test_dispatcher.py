"""The dispatcher's function with moto's SQS and DynamoDB, minute by minute on a still clock."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.util import module_from_spec, spec_from_file_location
from io import StringIO
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import pytest
import time_machine

from session_auditor.directory import Branch, Member
from session_auditor.errors import SettingsError, SnapshotError
from session_auditor.hub import Hub
from session_auditor.messages import read_message
from session_auditor.model import WHOLE_TARGET, AuthenticationMode, Gap, Target, TargetId
from session_auditor.table import StoredTarget
from session_auditor.table import Table as Layout
from tests.shared import table
from tests.shared.aws import Context, Wire, boto_client, client_error, raising, session

DISPATCHER = Path(__file__).parents[2] / "functions" / "dispatcher" / "dispatcher.py"
START = datetime(2026, 3, 2, 14, 0, 5, tzinfo=UTC)
OWN = TargetId("aws", "123456789012", "eu-west-1")
A, B = "111111111111", "222222222222"
UNIT = "ou-ab12-12345678"
LISTED = f'{{"{UNIT}": {{"members": {{"{B}": {{}}}}, "asked": "2026-03-02T14:00:00Z"}}}}'
ROLE = "arn:aws:iam::999999999999:role/list-accounts"


@dataclass
class Post:
    """The function, with what it reads and writes."""

    function: ModuleType
    wire: Wire
    traveller: time_machine.Traveller
    log: StringIO
    metrics: Callable[[], str]
    table: table.Table
    started: datetime = START
    minutes: int = 0
    sent: list[dict[str, Any]] = field(default_factory=list)

    def minute(self, late: float = 0, context: Context | None = None) -> dict[str, Any]:
        """Invoke it for the next minute, so many seconds late."""
        scheduled = self.started + timedelta(minutes=self.minutes)
        self.minutes += 1
        self.traveller.move_to(scheduled + timedelta(seconds=late))
        event = {"scheduledTime": f"{scheduled:%Y-%m-%dT%H:%M:%SZ}"}
        answer: dict[str, Any] = self.function.handler(event, context or Context(50, "dispatcher"))
        self.sent = [
            entry
            for parameters in self.wire.parameters("SendMessageBatch")
            for entry in parameters["Entries"]
        ]
        return answer

    def calls(self) -> Counter[str]:
        """The calls since the last time, by operation."""
        calls = Counter(self.wire.operations())
        self.wire.calls.clear()
        return calls

    def dues(self, account: str, region: str = "eu-west-1") -> list[datetime]:
        """When a target was asked to be swept, of what was sent since the calls were counted."""
        messages = [read_message(entry["MessageBody"]) for entry in self.sent]
        return [each.due for each in messages if each and each[:2] == (account, region)]

    def has_swept(self, target: TargetId = OWN, **fields: Any) -> None:
        """Put the item of a target that was swept just now into the table."""
        at = self.started + timedelta(minutes=self.minutes)
        known = Target(
            at,
            last_begin=fields.pop("last_begin", at - timedelta(seconds=30)),
            last_end=fields.pop("last_end", at - timedelta(seconds=28)),
            authentication=fields.pop("authentication", AuthenticationMode.UNFILTERED),
            **fields,
        )
        layout = Layout("sessions", target, timedelta())
        self.table.put(layout.put_target(0, StoredTarget(known, 1, (), (), 0, 0))["Put"]["Item"])

    def logged(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.getvalue().splitlines()]

    def said(self, message: str) -> list[dict[str, Any]]:
        """The lines of the log that begin so."""
        return [line for line in self.logged() if line["message"].startswith(message)]


Posts = Callable[..., AbstractContextManager[Post]]


@pytest.fixture
def post(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Posts:
    @contextmanager
    def loaded(**environment: str) -> Iterator[Post]:
        with table.table() as here:
            queue = boto_client("sqs").create_queue(QueueName="sweeps")["QueueUrl"]
            variables = {
                "TABLE_NAME": "sessions",
                "QUEUE_URL": queue,
                "TARGET_ACCOUNT_ID": OWN.account_id,
                "TARGET_REGION": OWN.region,
                "POWERTOOLS_SERVICE_NAME": "session-auditor",
                "POWERTOOLS_METRICS_NAMESPACE": "AppStreamSessionAuditor",
                "AWS_ACCESS_KEY_ID": "testing",
                "AWS_SECRET_ACCESS_KEY": "testing",
                "AWS_DEFAULT_REGION": "eu-west-1",
            }
            for name, value in (variables | environment).items():
                monkeypatch.setenv(name, value)
            # To make one takes longer than most tests.
            monkeypatch.setattr(boto3, "Session", lambda **_: session())
            spec = spec_from_file_location("dispatcher", DISPATCHER)
            assert spec
            assert spec.loader
            function = module_from_spec(spec)
            spec.loader.exec_module(function)
            log = StringIO()
            for handler in function.logger.handlers:
                handler.setStream(log)
            with time_machine.travel(START, tick=False) as traveller:
                wire = Wire(monkeypatch)
                yield Post(function, wire, traveller, log, lambda: capsys.readouterr().out, here)

    return loaded


def counted(printed: str) -> dict[str, float]:
    """The metrics of the last invocation, in CloudWatch's embedded format."""
    said = json.loads(printed.splitlines()[-1])
    assert said["service"] == "session-auditor"
    named = said["_aws"]["CloudWatchMetrics"][0]["Metrics"]
    return {each["Name"]: said[each["Name"]][0] for each in named}


class TestMessages:
    """Which targets are asked for, and when."""

    def test_without_targets_the_own_one_alone(self, post: Posts) -> None:
        with post() as here:
            here.minute()
            (due,) = here.dues(OWN.account_id)
            # Of the next minute, since a schedule is kept within one.
            assert timedelta(minutes=1) <= due - START < timedelta(minutes=2)
            (entry,) = here.sent
            assert entry["DelaySeconds"] == (due - START).total_seconds()
            assert entry["MessageGroupId"] == "123456789012#eu-west-1"
            assert json.loads(entry["MessageBody"]) == {
                "account": OWN.account_id,
                "region": OWN.region,
                "due": f"{due:%Y-%m-%dT%H:%M:%SZ}",
            }
            assert here.calls() == {"BatchGetItem": 1, "SendMessageBatch": 1}
            queued = boto_client("sqs").get_queue_attributes(
                QueueUrl=here.function.settings.queue_url, AttributeNames=["All"]
            )["Attributes"]
            assert queued["ApproximateNumberOfMessagesDelayed"] == "1"

    @pytest.mark.parametrize("late", [[0, 0, 0, 0], [0, 50, 3, 59], [30, 31, 30.5, 29]])
    def test_the_minutes_follow_one_another_however_late_they_are_kept(
        self, post: Posts, late: list[float]
    ) -> None:
        with post(SWEEP_EVERY="15") as here:
            here.has_swept()
            for seconds in late:
                here.minute(late=seconds)
            dues = here.dues(OWN.account_id)
            assert [later - earlier for earlier, later in pairwise(dues)] == [timedelta(seconds=15)] * 15

    @pytest.mark.parametrize("late", [0, 30, 59.9])
    def test_however_late_the_schedule_is_kept_no_sweep_is(self, post: Posts, late: float) -> None:
        with post(SWEEP_EVERY="15") as here:
            here.has_swept()
            here.minute(late)
            asked = here.function.now()
            appears = [asked + timedelta(seconds=entry["DelaySeconds"]) for entry in here.sent]
            assert appears == here.dues(OWN.account_id)
            assert len(appears) == 4

    @pytest.mark.parametrize(
        "event",
        [
            pytest.param({}, id="no time"),
            pytest.param({"scheduledTime": "<aws.scheduler.scheduled-time>"}, id="no scheduler"),
            pytest.param({"scheduledTime": 5}, id="a number"),
            pytest.param({"scheduledTime": "2036-01-01T00:00:00Z"}, id="another time"),
        ],
    )
    def test_who_asks_by_hand_means_the_minute_from_now_on(self, post: Posts, event: Any) -> None:
        with post(TARGETS=f"{A},{B}") as here:
            here.function.handler(event, Context(50, "dispatcher"))
            here.minute()
            for account in (A, B):
                assert timedelta() <= here.dues(account)[0] - START < timedelta(minutes=1)

    def test_below_a_minute_once_it_is_settled_how_to_list(self, post: Posts) -> None:
        with post(SWEEP_EVERY="30") as here:
            here.minute()
            assert len(here.sent) == 1
            here.has_swept(authentication=AuthenticationMode.UNKNOWN)
            here.minute()
            assert len(here.sent) == 2
            here.has_swept()
            here.minute()
            assert len(here.sent) == 4
        with post(SWEEP_EVERY="30", AUTHENTICATION_TYPES="API") as here:
            here.minute()
            assert len(here.sent) == 2

    def test_slow_targets_are_asked_less_often_and_that_is_said(self, post: Posts) -> None:
        with post(TARGETS=f"{A},{B}") as here:
            here.has_swept(TargetId("aws", A, "eu-west-1"), last_end=START + timedelta(seconds=10))
            for _ in range(4):
                here.minute()
            assert (len(here.dues(A)), len(here.dues(B))) == (2, 4)
            (line, *_) = here.said("targets swept less often")
            assert line["targets"] == [f"{A} eu-west-1: every 120 seconds"]

    def test_idle_targets_every_fourth_minute(self, post: Posts) -> None:
        with post() as here:
            here.has_swept(idle_since=START - timedelta(days=1))
            for _ in range(8):
                here.minute()
            assert len(here.sent) == 2
            assert here.said("targets swept less often") == []

    def test_accounts_times_regions(self, post: Posts) -> None:
        with post(TARGETS=f"{A}, {B}", TARGET_REGIONS="eu-west-1,us-east-1", EXCLUDED_ACCOUNTS=B) as here:
            here.minute()
            assert Counter(entry["MessageGroupId"] for entry in here.sent) == {
                f"{A}#eu-west-1": 1,
                f"{A}#us-east-1": 1,
            }


class TestSize:
    """Five hundred targets."""

    def test_five_hundred_targets_take_sixty_calls_a_minute(self, post: Posts) -> None:
        numbers = [f"{number:012d}" for number in range(250)]
        regions = "eu-west-1,us-east-1"
        with post(TARGETS=UNIT, TARGET_REGIONS=regions) as here:
            members = {number: Member(f"account {number}") for number in numbers}
            Hub(here.table.dynamodb, "sessions", OWN).keep({UNIT: Branch(members, START)})
            for number in numbers:
                for region in regions.split(","):
                    here.has_swept(TargetId("aws", number, region))
            # Moto looks at every message of the queue for each that is sent.
            here.wire.answers["SendMessageBatch"] = lambda _: {}
            here.calls()
            answer = here.minute()
            assert (answer["targets"], answer["messages"], answer["unsent"]) == (500, 500, 0)
            calls = here.calls()
            assert calls == {"Query": 1, "BatchGetItem": 5, "SendMessageBatch": 50}
            assert calls.total() <= 60
            assert counted(here.metrics()) == {"TargetsSwept": 500, "TargetsOverdue": 0}
            # Nothing is said of any target.
            assert len(here.logged()) == 1

    def test_no_second_has_more_than_a_few(self, post: Posts) -> None:
        with post(TARGETS=",".join(f"{number:012d}" for number in range(500))) as here:
            here.wire.answers["SendMessageBatch"] = lambda _: {}
            here.minute()
            seconds = Counter(entry["DelaySeconds"] for entry in here.sent)
            assert max(seconds.values()) <= 25
            assert [entry["DelaySeconds"] for entry in here.sent] == sorted(seconds.elements())


class TestDiscovery:
    """Whom Organizations names."""

    @staticmethod
    def lists(here: Post, *accounts: str) -> None:
        records = [{"Id": each, "Name": f"name of {each}", "State": "ACTIVE"} for each in accounts]
        here.wire.answers["ListAccountsForParent"] = lambda _: {"Accounts": records}
        here.wire.answers["ListOrganizationalUnitsForParent"] = lambda _: {"OrganizationalUnits": []}

    def test_what_is_found_counts_from_the_next_minute(self, post: Posts) -> None:
        with post(TARGETS=UNIT) as here:
            self.lists(here, A, B)
            assert here.minute()["targets"] == 0
            assert here.minute()["targets"] == 2

    def test_organizations_is_asked_every_fifteen_minutes(self, post: Posts) -> None:
        with post(TARGETS=UNIT) as here:
            self.lists(here, A)
            for _ in range(31):
                here.minute()
            assert here.calls()["ListAccountsForParent"] == 3

    def test_a_failed_list_drops_nobody(self, post: Posts) -> None:
        with post(TARGETS=UNIT) as here:
            self.lists(here, A, B)
            here.minute()
            here.wire.answers["ListAccountsForParent"] = raising(client_error("AccessDeniedException"))
            for _ in range(60):
                assert here.minute()["targets"] == 2
            (line, *_) = here.said("accounts not listed")
            assert (line["parent"], line["reason"]) == (UNIT, "AccessDeniedException")
            assert "jane.doe" not in here.log.getvalue()

    def test_a_parent_of_which_nothing_is_known_is_overdue(self, post: Posts) -> None:
        """Without targets none would be overdue, and nobody would hear of it."""
        with post(TARGETS=UNIT) as here:
            here.wire.answers["ListAccountsForParent"] = raising(client_error("AccessDeniedException"))
            for _ in range(3):
                answer = here.minute()
                assert (answer["targets"], answer["overdue"]) == (0, 1)
            (line, *_) = here.said("nothing is known of the accounts below")
            assert line["parents"] == [UNIT]
            self.lists(here, A)
            assert here.minute()["overdue"] == 0

    def test_a_failed_list_takes_no_place(self, post: Posts) -> None:
        """What an earlier list left, if only a newer release can read it, stays."""
        with post(TARGETS=UNIT) as here:
            hub = Hub(here.table.dynamodb, "sessions", OWN)
            hub.keep({UNIT: Branch({A: Member("a")}, START)})
            (item,) = here.table.items("HUB#")
            newer = item | {"schema": {"N": "2"}}
            here.table.dynamodb.put_item(TableName="sessions", Item=newer)
            here.wire.answers["ListAccountsForParent"] = raising(client_error("AccessDeniedException"))
            here.minute()
            assert here.table.items("HUB#") == [newer]

    def test_who_left_is_dropped_after_two_lists(self, post: Posts) -> None:
        with post(TARGETS=UNIT) as here:
            self.lists(here, A, B)
            here.minute()
            self.lists(here, A)
            assert [here.minute()["targets"] for _ in range(31)] == [2] * 30 + [1]

    def test_another_container_finds_the_list_in_the_table(self, post: Posts) -> None:
        with post(TARGETS=UNIT) as here:
            self.lists(here, A)
            here.minute()
            assert Hub(here.table.dynamodb, "sessions", OWN).directory() == {
                UNIT: Branch({A: Member(f"name of {A}")}, START)
            }

    @pytest.mark.parametrize(
        "item",
        [
            pytest.param({"schema": {"N": "2"}, "state": {"S": LISTED}}, id="newer"),
            pytest.param({"schema": {"N": "1"}, "state": {"S": "no JSON"}}, id="broken"),
            pytest.param({"state": {"L": []}}, id="no text"),
        ],
    )
    def test_a_list_that_cannot_be_read_is_asked_for_again(self, post: Posts, item: dict[str, Any]) -> None:
        with post(TARGETS=UNIT) as here:
            self.lists(here, A)
            key = {"pk": {"S": "HUB#123456789012#eu-west-1"}, "sk": {"S": "TARGETS"}}
            here.table.put(key | item)
            assert [here.minute()["targets"], here.minute()["targets"]] == [0, 1]

    def test_a_table_that_takes_no_list_stops_nothing(self, post: Posts) -> None:
        with post(TARGETS=f"{UNIT},{A}") as here:
            self.lists(here, B)
            here.wire.answers["PutItem"] = raising(client_error("ThrottlingException"))
            assert here.minute()["messages"] == 1
            assert here.said("accounts not kept")

    def test_a_role_of_the_management_account_is_assumed(self, post: Posts) -> None:
        with post(TARGETS=UNIT, ORGANIZATIONS_ROLE=ROLE) as here:
            self.lists(here, A)
            here.minute()
            (assumed,) = here.wire.parameters("AssumeRole")
            assert assumed["RoleArn"] == ROLE
            assert here.minute()["targets"] == 1

    def test_a_role_that_cannot_be_assumed_stops_nothing(self, post: Posts) -> None:
        with post(TARGETS=f"{UNIT},{A}", ORGANIZATIONS_ROLE=ROLE) as here:
            here.wire.answers["AssumeRole"] = raising(client_error("AccessDenied"))
            assert here.minute()["messages"] == 1
            (line,) = here.said("role for Organizations not assumed")
            assert line["reason"] == "AccessDenied"

    def test_numbers_alone_need_no_organizations(self, post: Posts) -> None:
        with post(TARGETS=A) as here:
            here.minute()
            assert here.calls() == {"BatchGetItem": 1, "SendMessageBatch": 1}


class TestFaults:
    """What SQS and DynamoDB may answer."""

    @staticmethod
    def answers(post: Post, *failures: dict[str, dict[str, Any]]) -> None:
        """Have SQS fail the entries of these ids, try by try."""
        tries = iter(failures)

        def answer(parameters: dict[str, Any]) -> dict[str, Any]:
            failed = next(tries, {})
            assert failed.keys() <= {entry["Id"] for entry in parameters["Entries"]}
            return {"Failed": [{"Id": each, **failed[each]} for each in failed]}

        post.wire.answers["SendMessageBatch"] = answer

    def test_what_sqs_does_not_take_is_sent_again(self, post: Posts) -> None:
        with post(TARGETS=f"{A},{B}") as here:
            internal = {"Code": "InternalError", "SenderFault": False}
            self.answers(here, {"0": internal, "1": internal}, {"1": internal})
            assert here.minute()["unsent"] == 0
            sent = [
                [entry["Id"] for entry in parameters["Entries"]]
                for parameters in here.wire.parameters("SendMessageBatch")
            ]
            assert sent == [["0", "1"], ["0", "1"], ["1"]]

    def test_three_times_and_no_more(self, post: Posts) -> None:
        with post(TARGETS=f"{A},{B}") as here:
            internal = {"Code": "InternalError", "SenderFault": False}
            self.answers(here, *[{"0": internal}] * 5)
            assert here.minute()["unsent"] == 1
            assert here.calls()["SendMessageBatch"] == 3
            (line,) = here.said("sweeps not asked for")
            assert line["errorCodes"] == {"InternalError": 1}

    def test_what_sqs_refuses_is_not_sent_again(self, post: Posts) -> None:
        with post(TARGETS=f"{A},{B}") as here:
            self.answers(here, {"0": {"Code": "InvalidParameterValue", "SenderFault": True}})
            assert here.minute()["unsent"] == 1
            assert here.calls()["SendMessageBatch"] == 1

    def test_a_call_that_fails_is_no_other_calls(self, post: Posts) -> None:
        with post(TARGETS=",".join(f"{number:012d}" for number in range(30))) as here:
            answers = iter([client_error("ServiceUnavailable")])

            def answer(_: dict[str, Any]) -> dict[str, Any]:
                for error in answers:
                    raise error
                return {}

            here.wire.answers["SendMessageBatch"] = answer
            assert here.minute()["unsent"] == 10

    def test_it_stops_before_its_time_is_up(self, post: Posts) -> None:
        with post(TARGETS=f"{A},{B}") as here:
            assert here.minute(context=Context(15, "dispatcher"))["unsent"] == 2
            (line,) = here.said("sweeps not asked for")
            assert line["errorCodes"] == {"DEADLINE": 2}

    def test_what_dynamodb_leaves_out_is_asked_for_again(self, post: Posts) -> None:
        with post(TARGETS=f"{A},{B}") as here:
            asked: list[int] = []

            def answer(parameters: dict[str, Any]) -> dict[str, Any]:
                keys = parameters["RequestItems"]["sessions"]["Keys"]
                asked.append(len(keys))
                return {
                    "Responses": {"sessions": []},
                    "UnprocessedKeys": {"sessions": {"Keys": keys[1:]}} if keys[1:] else {},
                }

            here.wire.answers["BatchGetItem"] = answer
            assert here.minute()["overdue"] == 2
            assert asked == [2, 1]

    def test_of_what_stays_out_nothing_is_said_and_it_is_swept(self, post: Posts) -> None:
        with post(TARGETS=f"{A},{B}", SWEEP_EVERY="15") as here:
            here.wire.answers["BatchGetItem"] = lambda parameters: {
                "Responses": {},
                "UnprocessedKeys": parameters["RequestItems"],
            }
            answer = here.minute()
            assert (answer["messages"], answer["overdue"]) == (2, 0)
            assert here.calls()["BatchGetItem"] == 3

    def test_with_the_table_out_of_reach_it_raises(self, post: Posts) -> None:
        with post() as here:
            here.wire.answers["BatchGetItem"] = raising(client_error("ResourceNotFoundException"))
            with pytest.raises(SnapshotError, match="table sessions cannot be read"):
                here.minute()

    @pytest.mark.parametrize(
        ("variable", "value", "sentence"),
        [
            ("TARGETS", "ou-1", "TARGETS should be accounts, organizational units and roots"),
            ("TARGETS", "12345678901", "TARGETS should be accounts"),
            ("TARGET_REGIONS", "Ireland", "TARGET_REGIONS should be AWS regions"),
            ("EXCLUDED_ACCOUNTS", UNIT, "EXCLUDED_ACCOUNTS should be accounts of twelve digits"),
            ("SWEEP_EVERY", "45", "SWEEP_EVERY should be 180, 120, 60, 30 or 15 seconds"),
            ("ORGANIZATIONS_ROLE", "list-accounts", "ORGANIZATIONS_ROLE should be the ARN of a role"),
        ],
    )
    def test_a_setting_that_is_wrong_is_named(
        self, post: Posts, variable: str, value: str, sentence: str
    ) -> None:
        with pytest.raises(SettingsError, match=sentence), post(**{variable: value}):
            pytest.fail("it started")


class TestReport:
    """What is counted and said."""

    def test_overdue_targets_are_counted_and_twenty_named(self, post: Posts) -> None:
        numbers = [f"{number:012d}" for number in range(30)]
        with post(TARGETS=",".join(numbers)) as here:
            gap = Gap(WHOLE_TARGET, START, None, "AccessDenied")
            here.has_swept(TargetId("aws", numbers[0], "eu-west-1"), last_begin=None, gaps=(gap,))
            for number in numbers[1:5]:
                here.has_swept(TargetId("aws", number, "eu-west-1"))
            here.minute()
            assert counted(here.metrics()) == {"TargetsSwept": 4, "TargetsOverdue": 26}
            (line,) = here.said("targets overdue")
            assert len(line["targets"]) == 20
            assert line["more"] == 6
            assert line["targets"][:2] == [
                f"{numbers[0]} eu-west-1: AccessDenied",
                f"{numbers[5]} eu-west-1: NOTHING_KNOWN",
            ]

    def test_a_target_is_overdue_after_three_of_its_own_intervals(self, post: Posts) -> None:
        with post() as here:
            ago = timedelta(minutes=11)
            here.has_swept(last_begin=START - ago, last_end=START - ago)
            assert here.minute()["overdue"] == 1
            here.has_swept(last_begin=START - ago, last_end=START - ago, idle_since=START - timedelta(days=2))
            assert here.minute()["overdue"] == 0

    def test_an_item_that_cannot_be_read_is_no_reason_to_stop(self, post: Posts) -> None:
        with post(TARGETS=f"{A},{B}") as here:
            broken = Layout("sessions", TargetId("aws", A, "eu-west-1"), timedelta())
            here.table.put(
                {
                    "pk": broken.partition,
                    "sk": {"S": "TARGET"},
                    "schema": {"N": "99"},
                    "version": {"N": "1"},
                    "state": {"S": "jane.doe@example.com"},
                }
            )
            answer = here.minute()
            assert (answer["messages"], answer["overdue"]) == (2, 2)
            assert "jane.doe" not in here.log.getvalue()
