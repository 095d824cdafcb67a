"""Every fault that `doctor` knows, injected into a deployed stack: it reports that fault and no other.

All tests share one stack. It is healthy before and after each test.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from click.testing import CliRunner

from appstream_auditor.deployment import Deployment, find
from appstream_auditor.doctor.findings import Check, FindingRow, Level
from appstream_auditor.doctor.runner import examine, verdict
from appstream_auditor.errors import Exit
from appstream_auditor.main import cli
from sandbox.appstream.models import Fleet
from sandbox.cloud import CREDENTIALS, REGION, ROOT, LocalCloud, Stack, local_cloud
from sandbox.server import Answer, serving
from session_auditor.model import DetailType, Gap, KnownPolicies, Scope
from session_auditor.model import Fault as FleetFault
from session_auditor.table import StoredTarget, Table
from tests.shared.events import whole_life
from tests.shared.history import TARGET

NAME = "session-auditor"
URL = "https://hooks.slack.com/services/T0/B0/secret"
PATTERN = {
    "source": ["appstream.auditor"],
    "detail-type": ["AppStream Session Ended"],
    # A name that no sample can know.
    "detail": {"data": {"session": {"fleetName": ["render"]}}},
}
SETTINGS = {
    "SlackWebhook": "/notices/slack",
    "TeamsWebhook": "notices/teams",
    "NoticeEmail": "ops@example.com",
    "ChatTopic": "true",
    "PoliciesParameter": "/appstream/policies",
}
POLICIES = {"too-long": {"kind": "TOO_LONG", "minutes": [600]}}
DOCUMENT = json.dumps({"version": 1, "timeZone": "UTC", "policies": POLICIES})
MISSPELT = 'policies.after-hours.hours: no such hours "ofice"; known: office'
# The protocols that answer in XML.
QUERY = frozenset(["cloudformation", "sns"])
ILL = (Level.FAULT, Level.UNKNOWN)
Inject = Callable[["Patient"], None]


class Patient:
    """The deployed stack, and how it is made ill."""

    def __init__(self, cloud: LocalCloud, stack: Stack) -> None:
        self.cloud = cloud
        self.stack = stack
        self.client = cloud.client
        self.bus = stack.outputs["SessionBusName"]
        self.function = stack.outputs["AuditorFunctionName"]
        self.table = Table(stack.outputs["SessionsTableName"], TARGET, timedelta(days=90))
        self._nested: dict[str, dict[str, str]] = {}

    def of(self, channel: str, logical_id: str) -> str:
        """Return the physical id of something in a channel's stack."""
        if channel not in self._nested:
            stack = self.stack.resources[channel]
            found = self.client("cloudformation").describe_stack_resources(StackName=stack)["StackResources"]
            self._nested[channel] = {each["LogicalResourceId"]: each["PhysicalResourceId"] for each in found}
        return self._nested[channel][logical_id]

    def put(self, item: dict[str, Any]) -> None:
        self.client("dynamodb").put_item(TableName=self.table.name, Item=item)

    def target_item(self) -> dict[str, Any]:
        key = {"pk": self.table.partition, "sk": {"S": "TARGET"}}
        item: dict[str, Any] = self.client("dynamodb").get_item(TableName=self.table.name, Key=key)["Item"]
        return item

    def change_target(self, change: Callable[[StoredTarget], StoredTarget]) -> None:
        """Write the target's item anew, as a sweep would."""
        stored = change(self.table.read_target(self.target_item()))
        self.put(self.table.put_target(stored.version, stored)["Put"]["Item"])


class Raw:
    """The body of an answer, as botocore reads it."""

    def __init__(self, body: str) -> None:
        self.body = body.encode()

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.body


class Wire:
    """A deployment some of whose operations are answered on the wire, before anything is sent."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.answers: dict[str, tuple[int, str, str]] = {}
        handler: Any = self._answered
        deployment.aws.events.register("before-send", handler)

    def answer(self, operation: str, *, status: int, body: str, code: str = "") -> None:
        """Answer an operation, named as botocore names it: service.Operation."""
        self.answers[operation] = (status, body, code)

    def deny(self, operation: str) -> None:
        in_xml = operation.split(".", maxsplit=1)[0] in QUERY
        code, message = (
            "AccessDenied" if in_xml else "AccessDeniedException",
            "User jane.doe is not authorized",
        )
        body = (
            f"<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
            if in_xml
            else json.dumps({"__type": code, "message": message})
        )
        self.answer(operation, status=403, body=body, code=code)

    def _answered(self, request: AWSPreparedRequest, event_name: str, **_: Any) -> AWSResponse | None:
        operation = event_name.removeprefix("before-send.")
        if operation not in self.answers:
            return None
        status, body, code = self.answers[operation]
        headers = HTTPHeaders()
        headers["Content-Type"] = "text/xml" if operation.split(".")[0] in QUERY else "application/json"
        headers["x-amzn-ErrorType"] = code
        return AWSResponse(request.url, status, headers, Raw(body))


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    with local_cloud(second=0.01) as cloud, pytest.MonkeyPatch.context() as patch:
        cloud.appstream.add_scope("office", Fleet("cad"))
        patch.setenv("AWS_ENDPOINT_URL", cloud.endpoint)
        patch.setenv("AWS_REGION", REGION)
        patch.setenv("APPSTREAM_AUDITOR_STACK", NAME)
        for name, value in CREDENTIALS.items():
            patch.setenv(name.upper(), value)
        yield cloud


def without_schedule(cloud: LocalCloud, stack: Stack, state: str = "ENABLED") -> None:
    """Keep the schedule from sweeping while a test looks, and leave it as it is otherwise."""
    scheduler = cloud.client("scheduler")
    where = {
        "Name": stack.resources["AuditorFunctionSweep"],
        "GroupName": stack.resources["SweepSchedules"],
    }
    found = scheduler.get_schedule(**where)
    kept = {name: found[name] for name in ("Target", "FlexibleTimeWindow")}
    scheduler.update_schedule(**where, **kept, ScheduleExpression="rate(365 days)", State=state)


@pytest.fixture(scope="module")
def patient(cloud: LocalCloud) -> Patient:
    cloud.client("ssm").put_parameter(Name="/notices/slack", Value=URL, Type="SecureString")
    cloud.client("ssm").put_parameter(Name="/appstream/policies", Value=DOCUMENT, Type="String")
    cloud.client("secretsmanager").create_secret(Name="notices/teams", SecretString=URL)
    stack = cloud.deploy(SETTINGS)
    without_schedule(cloud, stack)
    patient = Patient(cloud, stack)
    cloud.client("lambda").invoke(FunctionName=patient.function)
    cloud.subscribe_queue(patient.bus, "pages", PATTERN)
    cloud.subscribe_topic(patient.of("Chat", "Topic"), "chat")
    return patient


@pytest.fixture(scope="module")
def deployment(patient: Patient) -> Deployment:
    return find(None, REGION, NAME, None)


@pytest.fixture(scope="module")
def wire(patient: Patient) -> Wire:
    return Wire(find(None, REGION, NAME, None))


@pytest.fixture
def overheard(wire: Wire) -> Iterator[Wire]:
    """A deployment that is answered by the test, for the operations that it names."""
    yield wire
    wire.answers.clear()


@pytest.fixture(scope="module")
def everything(deployment: Deployment) -> set[tuple[str, Check]]:
    return {(row.channel, row.check) for row in examine(deployment, now())}


def now() -> datetime:
    return datetime.now(UTC)


def faults(deployment: Deployment, at: datetime) -> list[FindingRow]:
    found = list(examine(deployment, at))
    assert [row for row in found if row.level is Level.UNKNOWN] == []
    return [row for row in found if row.level is Level.FAULT]


def doctor(*options: str) -> tuple[int, list[dict[str, Any]]]:
    """Type the command; return its exit code and what it found wrong."""
    done = CliRunner().invoke(cli, ["doctor", "-o", "json", *options])
    found = json.loads(done.stdout)["findings"]
    return done.exit_code, [row for row in found if row["level"] in ILL]


def test_a_healthy_stack_has_no_fault(patient: Patient) -> None:
    assert doctor() == (Exit.OK, [])
    shown = CliRunner().invoke(cli, ["doctor"])
    assert shown.exit_code == Exit.OK
    lines = shown.stdout.splitlines()
    assert lines[-1].startswith("0 faults, 0 unknown, ")
    assert "ok       schedule" in shown.stdout
    assert all(line.startswith(("ok ", "note ")) for line in lines[:-1])
    # Nothing secret, and nobody's address.
    assert "secret" not in shown.stdout
    assert "@" not in shown.stdout


def test_it_runs_as_a_program(patient: Patient) -> None:
    program = [sys.executable, "-m", "appstream_auditor", "doctor"]
    paths = ":".join(str(ROOT / each) for each in ("cli", "layers/session_auditor"))
    done = subprocess.run(
        program, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (Exit.OK, "")
    assert done.stdout.startswith("ok ")


def set_schedule(state: str) -> Inject:
    return lambda patient: without_schedule(patient.cloud, patient.stack, state)


def no_concurrency(patient: Patient) -> None:
    patient.client("lambda").put_function_concurrency(
        FunctionName=patient.function, ReservedConcurrentExecutions=0
    )


def some_concurrency(patient: Patient) -> None:
    patient.client("lambda").delete_function_concurrency(FunctionName=patient.function)


def degrade(patient: Patient) -> None:
    gap = Gap(Scope("office", "cad"), now(), None, "ThrottlingException", announced=True)
    patient.change_target(lambda stored: stored._replace(target=replace(stored.target, gaps=(gap,))))


def recover(patient: Patient) -> None:
    patient.change_target(lambda stored: stored._replace(target=replace(stored.target, gaps=())))


def keep_an_event(patient: Patient) -> None:
    event = whole_life()[DetailType.AUDIT_DEGRADED]
    patient.change_target(lambda stored: stored._replace(outbox=(event,)))


def publish_it(patient: Patient) -> None:
    patient.change_target(lambda stored: stored._replace(outbox=()))


def refuse_an_event(patient: Patient) -> None:
    put = patient.table.put_refused(whole_life()[DetailType.ENDED], "MalformedDetail", now())
    patient.client("dynamodb").put_item(**put["Put"])


def take_it_back(patient: Patient) -> None:
    patient.client("dynamodb").delete_item(**patient.table.delete_refused(whole_life()[DetailType.ENDED]))


def break_an_item(patient: Patient) -> None:
    patient.put({"pk": patient.table.partition, "sk": {"S": "SESSION#s-1"}, "schema": {"N": "99"}})


def delete_it(patient: Patient) -> None:
    key = {"pk": patient.table.partition, "sk": {"S": "SESSION#s-1"}}
    patient.client("dynamodb").delete_item(TableName=patient.table.name, Key=key)


def disable_the_rule(patient: Patient) -> None:
    patient.client("events").disable_rule(Name="to-pages", EventBusName=patient.bus)


def enable_the_rule(patient: Patient) -> None:
    patient.client("events").enable_rule(Name="to-pages", EventBusName=patient.bus)


def write_rule(name: str, pattern: dict[str, Any]) -> Inject:
    return lambda patient: patient.client("events").put_rule(
        Name=name, EventBusName=patient.bus, EventPattern=json.dumps(pattern)
    )


def delete_rule(name: str) -> Inject:
    return lambda patient: patient.client("events").delete_rule(Name=name, EventBusName=patient.bus)


def set_alarm(channel: str, name: str, state: str) -> Inject:
    def inject(patient: Patient) -> None:
        alarm = patient.of(channel, name) if channel else patient.stack.resources[name]
        patient.client("cloudwatch").set_alarm_state(AlarmName=alarm, StateValue=state, StateReason="a test")

    return inject


def delete_the_alarm(patient: Patient) -> None:
    patient.client("cloudwatch").delete_alarms(AlarmNames=[patient.stack.resources["EventsPending"]])


def make_it_again(patient: Patient) -> None:
    patient.client("cloudwatch").put_metric_alarm(
        AlarmName=patient.stack.resources["EventsPending"],
        Namespace="AppStreamSessionAuditor",
        MetricName="OldestPendingAge",
        Statistic="Maximum",
        Period=180,
        EvaluationPeriods=1,
        Threshold=300,
        ComparisonOperator="GreaterThanThreshold",
    )


def send_letter(output: str, body: dict[str, Any], **attributes: str) -> Inject:
    told = {name: {"DataType": "String", "StringValue": text} for name, text in attributes.items()}
    return lambda patient: patient.client("sqs").send_message(
        QueueUrl=patient.stack.outputs[output], MessageBody=json.dumps(body), MessageAttributes=told
    )


def purge(output: str) -> Inject:
    return lambda patient: patient.client("sqs").purge_queue(QueueUrl=patient.stack.outputs[output])


def set_trigger(*, enabled: bool) -> Inject:
    return lambda patient: patient.client("lambda").update_event_source_mapping(
        UUID=patient.of("Teams", "NotifierFunctionWaiting"), Enabled=enabled
    )


def store_url(url: str, **options: str) -> Inject:
    return lambda patient: patient.client("ssm").put_parameter(
        Name="/notices/slack", Value=url, Type="SecureString", Overwrite=True, **options
    )


def delete_url(patient: Patient) -> None:
    patient.client("ssm").delete_parameter(Name="/notices/slack")


def delete_secret(patient: Patient) -> None:
    # It can be restored for a while, and cannot be read.
    patient.client("secretsmanager").delete_secret(SecretId="notices/teams", RecoveryWindowInDays=7)


def restore_secret(patient: Patient) -> None:
    patient.client("secretsmanager").restore_secret(SecretId="notices/teams")


def unsubscribe(channel: str) -> Inject:
    def inject(patient: Patient) -> None:
        sns = patient.client("sns")
        topic = patient.of(channel, "Topic")
        for each in sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]:
            sns.unsubscribe(SubscriptionArn=each["SubscriptionArn"])

    return inject


def store_policies(kind: Literal["String", "SecureString"] = "String") -> Inject:
    return lambda patient: patient.client("ssm").put_parameter(
        Name="/appstream/policies", Value=DOCUMENT, Type=kind, Overwrite=True
    )


def delete_policies(patient: Patient) -> None:
    patient.client("ssm").delete_parameter(Name="/appstream/policies")


def apply_policies(text: str, problem: str = "") -> Inject:
    """Let the table say which policies are in force, and why the newest are not, as a sweep would."""

    def inject(patient: Patient) -> None:
        patient.put(patient.table.put_policies(KnownPolicies(text, problem))["Put"]["Item"])

    return inject


def subscribe(channel: str) -> Inject:
    return lambda patient: patient.client("sns").subscribe(
        TopicArn=patient.of(channel, "Topic"), Protocol="email", Endpoint="ops@example.com"
    )


RECORD = {"requestPayload": {}, "responsePayload": {"errorType": "Sandbox.Timedout", "errorMessage": "jane"}}


@pytest.mark.parametrize(
    ("inject", "mend", "channel", "check", "words"),
    [
        pytest.param(
            *(set_schedule("DISABLED"), set_schedule("ENABLED"), "", Check.SCHEDULE),
            "the schedule is disabled, though the parameter Sweeps is ENABLED",
            id="schedule disabled",
        ),
        pytest.param(
            *(no_concurrency, some_concurrency, "", Check.CONCURRENCY),
            "AuditorFunction is switched off: its reserved concurrency is 0",
            id="concurrency 0",
        ),
        pytest.param(
            *(degrade, recover, "", Check.COVERAGE),
            "stack office, fleet cad cannot be listed completely since",
            id="a stack and fleet degraded",
        ),
        pytest.param(
            *(keep_an_event, publish_it, "", Check.PENDING_EVENTS),
            "1 event waiting for the event bus, the oldest for",
            id="an event pending",
        ),
        pytest.param(
            *(apply_policies(DOCUMENT, MISSPELT), apply_policies(DOCUMENT), "", Check.POLICIES),
            f"the newest policies are not applied, the last good ones stay in force: {MISSPELT}",
            id="policies that are wrong",
        ),
        pytest.param(
            *(apply_policies("", MISSPELT), apply_policies(DOCUMENT), "", Check.POLICIES),
            f"the newest policies are not applied, none are in force: {MISSPELT}",
            id="policies that never were good",
        ),
        pytest.param(
            *(delete_policies, store_policies(), "", Check.POLICIES_PARAMETER),
            "/appstream/policies, which should hold the policies, does not exist",
            id="no parameter of policies",
        ),
        pytest.param(
            *(store_policies("SecureString"), store_policies(), "", Check.POLICIES_PARAMETER),
            "/appstream/policies is encrypted, so the auditor cannot read the policies in it",
            id="policies that are encrypted",
        ),
        pytest.param(
            *(set_alarm("", "PoliciesNotApplied", "ALARM"), set_alarm("", "PoliciesNotApplied", "OK")),
            *("", Check.ALARMS, "the alarm PoliciesNotApplied is on"),
            id="the alarm of policies on",
        ),
        pytest.param(
            *(refuse_an_event, take_it_back, "", Check.REFUSED_EVENTS),
            "the event bus refused 1 event for good: MalformedDetail",
            id="an event refused",
        ),
        pytest.param(
            *(break_an_item, delete_it, "", Check.UNREADABLE_ITEMS),
            "1 item of the table cannot be read, so those sessions are not watched",
            id="an item that cannot be read",
        ),
        pytest.param(
            *(disable_the_rule, enable_the_rule, "", Check.RULES),
            "the rule to-pages is disabled",
            id="a rule disabled",
        ),
        pytest.param(
            *(write_rule("idle", PATTERN), delete_rule("idle"), "", Check.RULE_TARGETS),
            "the rule idle has no target",
            id="a rule without a target",
        ),
        pytest.param(
            *(
                write_rule("to-pages", PATTERN | {"source": ["appstream.audit"]}),
                write_rule("to-pages", PATTERN),
            ),
            *("", Check.RULE_PATTERNS),
            "the pattern of the rule to-pages matches no event",
            id="a pattern of another source",
        ),
        pytest.param(
            write_rule("to-pages", PATTERN | {"detail-type": ["AppStream Session ended"]}),
            *(write_rule("to-pages", PATTERN), "", Check.RULE_PATTERNS),
            "the pattern of the rule to-pages matches no event",
            id="a detail-type misspelt",
        ),
        pytest.param(
            *(set_alarm("", "FailedSweep", "ALARM"), set_alarm("", "FailedSweep", "OK"), "", Check.ALARMS),
            "the alarm FailedSweep is on",
            id="an alarm on",
        ),
        pytest.param(
            set_alarm("Mail", "NoticesWaiting", "ALARM"),
            *(set_alarm("Mail", "NoticesWaiting", "OK"), "Mail", Check.ALARMS),
            "the alarm NoticesWaiting is on",
            id="an alarm of a channel on",
        ),
        pytest.param(
            *(delete_the_alarm, make_it_again, "", Check.ALARMS),
            "the alarm EventsPending was deleted",
            id="an alarm deleted",
        ),
        pytest.param(
            *(
                send_letter("FailedSweepsQueueUrl", RECORD),
                purge("FailedSweepsQueueUrl"),
                "",
                Check.DEAD_LETTERS,
            ),
            "1 dead letter in FailedSweeps (sweeps that raised an error): Sandbox.Timedout",
            id="a sweep that failed",
        ),
        pytest.param(
            send_letter("UndeliveredSweepsQueueUrl", {}, ERROR_CODE="AccessDenied", ERROR_MESSAGE="jane"),
            *(purge("UndeliveredSweepsQueueUrl"), "", Check.DEAD_LETTERS),
            "UndeliveredSweeps (sweeps that the scheduler could not start): AccessDenied",
            id="a sweep that could not be asked for",
        ),
        pytest.param(
            send_letter("SlackUndeliveredQueueUrl", {"detail": "jane"}, reason="HTTP 410: no_service"),
            *(purge("SlackUndeliveredQueueUrl"), "Slack", Check.DEAD_LETTERS),
            "Undelivered (events that did not reach people): HTTP 410: no_service",
            id="an event that Slack refused",
        ),
        pytest.param(
            *(set_trigger(enabled=False), set_trigger(enabled=True), "Teams", Check.TRIGGER),
            "the trigger of the channel's function is disabled",
            id="a trigger disabled",
        ),
        pytest.param(
            *(delete_url, store_url(URL), "Slack", Check.WEBHOOK),
            "/notices/slack, which should hold the webhook's URL, does not exist",
            id="no such parameter",
        ),
        pytest.param(
            *(delete_secret, restore_secret, "Teams", Check.WEBHOOK),
            "notices/teams, which should hold the webhook's URL, does not exist",
            id="a secret that is deleted",
        ),
        pytest.param(
            *(
                store_url(URL, KeyId="alias/ours"),
                store_url(URL, KeyId="alias/aws/ssm"),
                "Slack",
                Check.WEBHOOK,
            ),
            "/notices/slack is encrypted with a key that the channel's function may not use",
            id="another key",
        ),
        pytest.param(
            *(store_url("hooks.slack.com/services/T0"), store_url(URL), "Slack", Check.WEBHOOK_URL),
            "/notices/slack holds no URL that begins with https://",
            id="no URL",
        ),
        pytest.param(
            *(unsubscribe("Mail"), subscribe("Mail"), "Mail", Check.SUBSCRIPTION),
            "nobody is subscribed",
            id="nobody gets mail",
        ),
        pytest.param(
            *(unsubscribe("Chat"), subscribe("Chat"), "Chat", Check.SUBSCRIPTION),
            "no chat channel is subscribed",
            id="no chat listens",
        ),
    ],
)
def test_a_fault_is_named_until_it_is_mended(
    patient: Patient,
    deployment: Deployment,
    *,
    inject: Inject,
    mend: Inject,
    channel: str,
    check: Check,
    words: str,
) -> None:
    inject(patient)
    found = list(examine(deployment, now()))
    mend(patient)
    (fault,) = (row for row in found if row.level in ILL)
    assert verdict(found) is Exit.FAULT
    assert (fault.channel, fault.check, fault.level) == (channel, check, Level.FAULT)
    assert words in fault.sentence
    assert fault.remedy
    # Whatever people wrote or are called stays where it is.
    assert "jane" not in str(fault)


def test_a_fault_ends_the_command_with_1(patient: Patient) -> None:
    no_concurrency(patient)
    code, (fault,) = doctor()
    some_concurrency(patient)
    assert code == Exit.FAULT
    assert fault["check"] == "CONCURRENCY"
    assert fault["remedy"].startswith("aws lambda delete-function-concurrency")


def test_a_fleet_with_errors_is_no_fault_of_the_audit(patient: Patient, deployment: Deployment) -> None:
    errors = tuple(FleetFault(f"fleet-{number:02}", now(), "DOMAIN_JOIN_ERROR", 1) for number in range(12))
    patient.change_target(lambda stored: stored._replace(target=replace(stored.target, faults=errors)))
    found = [row for row in examine(deployment, now()) if row.check is Check.FLEETS]
    ended = doctor()
    patient.change_target(lambda stored: stored._replace(target=replace(stored.target, faults=())))
    assert ended == (Exit.OK, [])
    assert {row.level for row in found} == {Level.NOTE}
    assert [row.sentence.split(" since ")[0] for row in found[:2]] == [
        "AppStream names errors of fleet fleet-00",
        "AppStream names errors of fleet fleet-01",
    ]
    assert found[0].sentence.endswith(": DOMAIN_JOIN_ERROR")
    assert (len(found), found[-1].sentence) == (11, "and 2 more")
    assert all(row.remedy for row in found)


def test_no_sweep_for_three_intervals_is_a_fault(deployment: Deployment) -> None:
    # However long ago the sweep before this test was.
    (fault,) = faults(deployment, now() + timedelta(hours=2))
    assert fault.check is Check.LAST_SWEEP
    assert re.fullmatch(r"completed 2h 0\dm ago", fault.sentence)


def test_a_throttled_function_is_a_fault(patient: Patient, deployment: Deployment) -> None:
    # A metric cannot be taken back: an hour ago is soon enough to be over.
    then = now() - timedelta(hours=1)
    patient.client("cloudwatch").put_metric_data(
        Namespace="AWS/Lambda",
        MetricData=[
            {
                "MetricName": "Throttles",
                "Dimensions": [{"Name": "FunctionName", "Value": patient.of("Slack", "NotifierFunction")}],
                "Timestamp": then,
                "Value": 3,
            }
        ],
    )
    (fault,) = faults(deployment, then + timedelta(minutes=5))
    assert (fault.channel, fault.check) == ("Slack", Check.THROTTLING)
    assert fault.sentence == "Lambda throttled NotifierFunction 3 times in the last 15m"
    assert faults(deployment, now()) == []


def test_an_item_of_the_target_that_cannot_be_read_is_one_fault(patient: Patient) -> None:
    item = patient.target_item()
    patient.put(item | {"schema": {"N": "99"}})
    code, found = doctor()
    patient.put(item)
    assert code == Exit.FAULT
    (fault,) = (row for row in found if row["level"] == "FAULT")
    assert fault["check"] == Check.UNREADABLE_ITEMS
    assert {row["check"] for row in found if row["level"] == "UNKNOWN"} == {
        *(Check.LAST_SWEEP, Check.COVERAGE, Check.FLEETS, Check.POLICIES, Check.PENDING_EVENTS)
    }


EVERYWHERE = ["", "Slack", "Teams", "Mail", "Chat"]
OF_THE_TABLE = [
    *(Check.LAST_SWEEP, Check.COVERAGE, Check.FLEETS, Check.POLICIES),
    *(Check.UNREADABLE_ITEMS, Check.PENDING_EVENTS, Check.REFUSED_EVENTS),
]


@pytest.mark.parametrize(
    ("service", "operation", "needs", "unknown"),
    [
        ("cloudformation", "DescribeStacks", "cloudformation:DescribeStacks", {("", Check.STACK)}),
        ("scheduler", "GetSchedule", "scheduler:GetSchedule", {("", Check.SCHEDULE)}),
        (
            *("lambda", "GetFunctionConfiguration", "lambda:GetFunctionConfiguration"),
            {(channel, Check.FUNCTION) for channel in EVERYWHERE},
        ),
        (
            *("lambda", "GetFunctionConcurrency", "lambda:GetFunctionConcurrency"),
            {(channel, Check.CONCURRENCY) for channel in EVERYWHERE},
        ),
        (
            *("cloudwatch", "GetMetricStatistics", "cloudwatch:GetMetricStatistics"),
            {(channel, Check.THROTTLING) for channel in EVERYWHERE},
        ),
        ("dynamodb", "Query", "dynamodb:Query", {("", check) for check in OF_THE_TABLE}),
        (
            *("sqs", "GetQueueAttributes", "sqs:GetQueueAttributes"),
            {(channel, Check.DEAD_LETTERS) for channel in EVERYWHERE},
        ),
        (
            *("cloudwatch", "DescribeAlarms", "cloudwatch:DescribeAlarms"),
            {(channel, Check.ALARMS) for channel in EVERYWHERE},
        ),
        (
            *("eventbridge", "ListRules", "events:ListRules"),
            {("", check) for check in (Check.RULES, Check.RULE_TARGETS, Check.RULE_PATTERNS)},
        ),
        ("eventbridge", "ListTargetsByRule", "events:ListTargetsByRule", {("", Check.RULE_TARGETS)}),
        ("eventbridge", "TestEventPattern", "events:TestEventPattern", {("", Check.RULE_PATTERNS)}),
        (
            *("lambda", "GetEventSourceMapping", "lambda:GetEventSourceMapping"),
            {(channel, Check.TRIGGER) for channel in EVERYWHERE[1:]},
        ),
        (
            *("ssm", "DescribeParameters", "ssm:DescribeParameters"),
            {("Slack", Check.WEBHOOK), ("", Check.POLICIES_PARAMETER)},
        ),
        ("ssm", "GetParameter", "ssm:GetParameter", {("Slack", Check.WEBHOOK_URL)}),
        (
            *("secrets-manager", "DescribeSecret", "secretsmanager:DescribeSecret"),
            {("Teams", Check.WEBHOOK)},
        ),
        (
            *("secrets-manager", "GetSecretValue", "secretsmanager:GetSecretValue"),
            {("Teams", Check.WEBHOOK_URL)},
        ),
        (
            *("sns", "ListSubscriptionsByTopic", "sns:ListSubscriptionsByTopic"),
            {("Mail", Check.SUBSCRIPTION), ("Chat", Check.SUBSCRIPTION)},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and ":" in value else "",
)
def test_what_may_not_be_asked_is_unknown_and_hides_nothing(
    overheard: Wire,
    everything: set[tuple[str, Check]],
    *,
    service: str,
    operation: str,
    needs: str,
    unknown: set[tuple[str, Check]],
) -> None:
    overheard.deny(f"{service}.{operation}")
    found = list(examine(overheard.deployment, now()))
    assert {(row.channel, row.check) for row in found} == everything
    assert {(row.channel, row.check) for row in found if row.level in ILL} == unknown
    for row in found:
        if row.level in ILL:
            assert (row.level, row.sentence, row.needs) == (
                Level.UNKNOWN,
                f"your credentials may not {needs}",
                needs,
            )
            assert row.remedy


def test_without_the_stacks_parts_the_table_is_examined_all_the_same(overheard: Wire) -> None:
    overheard.deny("cloudformation.DescribeStackResources")
    found = list(examine(overheard.deployment, now()))
    assert {row.level for row in found} == {Level.OK, Level.NOTE, Level.UNKNOWN}
    assert {row.needs for row in found} == {"", "cloudformation:DescribeStackResources"}
    levels = {row.check: row.level for row in found if not row.channel}
    assert {levels[check] for check in OF_THE_TABLE} == {Level.OK}
    assert levels[Check.RULE_PATTERNS] is Level.OK


def test_dead_letters_are_counted_where_their_reasons_may_not_be_read(
    patient: Patient, overheard: Wire
) -> None:
    overheard.deny("sqs.ReceiveMessage")
    send_letter("FailedSweepsQueueUrl", RECORD)(patient)
    (fault,) = faults(overheard.deployment, now())
    purge("FailedSweepsQueueUrl")(patient)
    assert fault.sentence.endswith("the reason is unknown, needs sqs:ReceiveMessage")


@pytest.mark.parametrize(
    ("service", "operation", "body", "check", "words"),
    [
        pytest.param(
            *("lambda", "GetFunctionConfiguration", {"State": "Failed"}, Check.FUNCTION),
            "cannot be invoked (State Failed)",
            id="a function that failed",
        ),
        pytest.param(
            *("lambda", "GetFunctionConfiguration"),
            *({"State": "Active", "LastUpdateStatus": "Failed"}, Check.FUNCTION),
            "failed, so older code or settings run",
            id="an update of a function that failed",
        ),
        pytest.param(
            *("cloudformation", "DescribeStacks"),
            "<DescribeStacksResponse><DescribeStacksResult><Stacks><member><StackStatus>UPDATE_ROLLBACK_FAILED"
            "</StackStatus></member></Stacks></DescribeStacksResult></DescribeStacksResponse>",
            *(Check.STACK, "is UPDATE_ROLLBACK_FAILED"),
            id="a stack that failed",
        ),
        pytest.param(
            *("sns", "ListSubscriptionsByTopic"),
            "<ListSubscriptionsByTopicResponse><ListSubscriptionsByTopicResult><Subscriptions><member>"
            "<SubscriptionArn>PendingConfirmation</SubscriptionArn><Endpoint>ops@example.com</Endpoint></member>"
            "</Subscriptions></ListSubscriptionsByTopicResult></ListSubscriptionsByTopicResponse>",
            *(Check.SUBSCRIPTION, "1 subscription not confirmed"),
            id="mail that is not confirmed",
        ),
    ],
)
def test_what_the_local_cloud_cannot_be_brought_to_is_answered_on_the_wire(
    overheard: Wire, *, service: str, operation: str, body: Any, check: Check, words: str
) -> None:
    text = body if isinstance(body, str) else json.dumps(body)
    overheard.answer(f"{service}.{operation}", status=200, body=text)
    found = faults(overheard.deployment, now())
    assert {row.check for row in found} == {check}
    assert all(words in row.sentence and "@" not in row.sentence for row in found)


def test_what_was_deleted_by_hand_is_a_fault(overheard: Wire) -> None:
    code = "ResourceNotFoundException"
    overheard.answer("scheduler.GetSchedule", status=404, body='{"Message": "gone"}', code=code)
    (fault,) = faults(overheard.deployment, now())
    assert (fault.check, fault.sentence) == (
        Check.SCHEDULE,
        "a resource that this check looks at was deleted",
    )


def test_rules_that_aws_manages_are_its_own_matter(overheard: Wire) -> None:
    rule = {
        "Name": "Events-Archive-auditor",
        "State": "DISABLED",
        "ManagedBy": "prod.vhs.events.aws.internal",
    }
    overheard.answer("eventbridge.ListRules", status=200, body=json.dumps({"Rules": [rule]}))
    (found,) = (row for row in examine(overheard.deployment, now()) if row.check is Check.RULES)
    assert (found.level, found.sentence) == (
        Level.NOTE,
        "the bus has no rule, so nobody receives the events",
    )


def test_a_table_that_is_gone_is_a_fault(deployment: Deployment) -> None:
    found = faults(replace(deployment, table_name="gone"), now())
    assert {row.check for row in found} == set(OF_THE_TABLE)


@pytest.mark.parametrize(
    ("status", "code", "exit_code", "needs"),
    [
        pytest.param(400, "AccessDeniedException", Exit.OK, {"dynamodb:Query"}, id="denied"),
        pytest.param(400, "ValidationException", Exit.OUT_OF_REACH, {""}, id="refused for another reason"),
    ],
)
def test_what_is_unknown_decides_the_exit_code_only_if_it_was_not_denied(
    patient: Patient,
    monkeypatch: pytest.MonkeyPatch,
    *,
    status: int,
    code: str,
    exit_code: Exit,
    needs: set[str],
) -> None:
    with serving(lambda _: Answer(status, json.dumps({"__type": code}), {})) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", url)
        ended, found = doctor()
    assert ended == exit_code
    assert {row["needs"] for row in found} == needs
    assert {row["check"] for row in found} == set(OF_THE_TABLE)


def test_a_table_alone_can_be_examined(patient: Patient) -> None:
    done = CliRunner().invoke(cli, ["doctor", "-o", "csv", "--table", patient.table.name])
    assert done.exit_code == Exit.OK
    assert len(done.stdout.splitlines()) == 3 + len(OF_THE_TABLE)
    assert "only the table is examined" in done.stdout
    assert CliRunner().invoke(cli, ["doctor", "--table", "gone"]).exit_code == Exit.USAGE


def actions(patient: Patient) -> set[str]:
    iam = patient.client("iam")
    arn = patient.stack.outputs["ReaderPolicyArn"]
    version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    policy = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
    return {
        action
        for statement in policy["Statement"]
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    }


def test_readers_may_ask_all_but_the_webhooks_urls(patient: Patient) -> None:
    asked: set[str] = set()

    def note(model: Any, **_: Any) -> None:
        asked.add(f"{model.service_model.signing_name.replace('monitoring', 'cloudwatch')}:{model.name}")

    deployment = find(None, REGION, NAME, None)
    deployment.aws.events.register("before-call", note)
    send_letter("FailedSweepsQueueUrl", RECORD)(patient)
    assert len(faults(deployment, now())) == 1
    purge("FailedSweepsQueueUrl")(patient)
    secrets = {"ssm:GetParameter", "secretsmanager:GetSecretValue"}
    # Other commands ask AppStream itself.
    others = {action for action in actions(patient) if action.startswith("appstream:")}
    assert asked - secrets == actions(patient) - others
    assert secrets <= asked


def test_a_paused_audit_is_a_fault_of_its_own(patient: Patient) -> None:
    patient.cloud.deploy(SETTINGS | {"Sweeps": "DISABLED"})
    code, (fault,) = doctor()
    patient.cloud.deploy(SETTINGS | {"Sweeps": "ENABLED"})
    assert code == Exit.FAULT
    assert (fault["check"], fault["sentence"]) == (
        Check.SCHEDULE,
        "the audit is paused by the parameter Sweeps",
    )
    assert fault["remedy"].startswith("set Sweeps=ENABLED and deploy")


def test_it_is_healthy_at_the_end(patient: Patient) -> None:
    assert doctor() == (Exit.OK, [])
