"""The two stacks: least privilege, nothing undescribed, alike but for the vendor, and what is built runs."""

import re
import struct
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from sandbox.vendors.jira import LocalJira
from sandbox.vendors.servicenow import LocalServiceNow
from tests.consumers.tickets.conftest import REGION, TRIES, VENDORS, deployed, environment, template, tickets
from tests.consumers.tickets.events import ROOT, event, violation
from tests.shared.sam import SAM, run
from tests.shared.templates import as_list, parts
from tickets.vendor import ANSWER_SECONDS, CONNECT_SECONDS

TEMPLATES = {vendor: template(vendor) for vendor in VENDORS}
FOLDER = ROOT / "examples" / "consumers"
PARAMETERS = [
    pytest.param(vendor, name, id=f"{vendor}-{name}")
    for vendor in VENDORS
    for name in TEMPLATES[vendor]["Parameters"]
]


@pytest.fixture(params=VENDORS)
def resources(request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = TEMPLATES[request.param]["Resources"]
    return found


@pytest.mark.parametrize(("vendor", "name"), PARAMETERS)
class TestParameters:
    """What an administrator is asked."""

    def test_each_is_described_bounded_used_and_in_one_group(self, vendor: str, name: str) -> None:
        whole = TEMPLATES[vendor]
        parameter = whole["Parameters"][name]
        assert parameter["Description"].endswith((".", "service-now.com"))
        assert (
            parameter["Type"].startswith("AWS::SSM") or {"AllowedValues", "AllowedPattern"} & parameter.keys()
        )
        assert {"Ref": name} in [*parts(whole["Resources"]), *parts(whole["Conditions"])]
        groups = whole["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
        assert [name in group["Parameters"] for group in groups].count(True) == 1

    def test_each_default_is_within_its_bounds(self, vendor: str, name: str) -> None:
        parameter = TEMPLATES[vendor]["Parameters"][name]
        default = parameter.get("Default")
        if default is not None and "AllowedPattern" in parameter:
            assert re.fullmatch(parameter["AllowedPattern"], default)
        assert default is None or default in parameter.get("AllowedValues", [default])


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize(
    ("opened_by", "allowed"),
    [
        ("AppStream Session Expiring,AppStream Audit Degraded", True),
        ("AppStream Session Ended", False),
        ("AppStream Session Abandoned,", False),
    ],
)
def test_what_opens_a_ticket(vendor: str, opened_by: str, *, allowed: bool) -> None:
    pattern = TEMPLATES[vendor]["Parameters"]["OpenedBy"]["AllowedPattern"]
    assert bool(re.fullmatch(pattern, opened_by)) is allowed


def test_the_administrator_says_what_opens() -> None:
    with deployed("jira", {"OpenedBy": "AppStream Session Expiring,AppStream Audit Degraded"}) as consumer:
        consumer.deliver(event("Abandoned", 3))
        assert not tickets(consumer.vendor)
        consumer.deliver(event("Expiring", 4))
        (opened,) = tickets(consumer.vendor)
        assert opened.lines[0] == "Expiring number 4"


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_violation_opens_a_ticket_and_its_end_closes_it(vendor: str) -> None:
    violated, cleared = violation("Violated", 2), violation("Cleared", 4)
    # Whatever the reason is: of another session it is the session's end.
    ended = violation("Cleared", 6, "s-2")
    ended["detail"]["data"]["clearReason"] = "ENDED"
    with deployed(vendor, {"OpenedBy": "AppStream Session Policy Violated"}) as consumer:
        consumer.deliver(violated, violation("Violated", 3, policy="two-at-most"))
        consumer.deliver(event("Abandoned", 4), cleared, event("Reconnected", 5))
        consumer.deliver(violation("Violated", 5, "s-2"), ended, event("Ended", 7, "s-2"))
        # The policy was taken out and is back: of the same violation there is no second ticket.
        again = violation("Violated", 8)
        consumer.deliver(again)
        resolved, other, over = tickets(consumer.vendor)
    assert (resolved.open, other.open, over.open) == (False, True, False)
    assert "Policy: too-long" in resolved.lines
    assert "Policy: two-at-most" in other.lines
    marks = [f"Event {each['detail']['metadata']['eventId']}" for each in (violated, cleared, again)]
    assert resolved.marks == marks
    assert len(over.marks) == 2


def test_the_administrator_says_what_an_incident_is_like() -> None:
    chosen = {"EndState": "7", "CloseCode": "User error", "CallerId": "a" * 32, "Category": "software"}
    with deployed("servicenow", chosen) as consumer:
        consumer.deliver(event("Abandoned", 3), event("Ended", 4))
        assert isinstance(consumer.vendor, LocalServiceNow)
        (incident,) = consumer.vendor.incidents.values()
        assert (
            incident.items()
            >= {
                "state": "7",
                "close_code": "User error",
                "close_notes": "Ended number 4",
                "caller_id": "a" * 32,
                "category": "software",
                "urgency": "3",
            }.items()
        )
        assert "assignment_group" not in incident


def test_the_administrator_says_what_an_issue_is_like() -> None:
    chosen = {"IssueType": "Incident", "DoneTransition": "Finish", "Resolution": "Won't Do"}
    with deployed("jira", chosen) as consumer:
        consumer.deliver(event("Abandoned", 3), event("Ended", 4))
        assert isinstance(consumer.vendor, LocalJira)
        (issue,) = consumer.vendor.issues.values()
        assert issue["issuetype"] == {"name": "Incident"}
        assert (issue["status"], issue["resolution"]) == ("Done", "Won't Do")


@pytest.mark.parametrize(
    ("vendor", "parameter", "url"),
    [
        ("servicenow", "ServiceNowUrl", "http://example.service-now.com"),
        ("jira", "JiraUrl", "http://example.atlassian.net"),
        ("jira", "JiraUrl", "https://example.atlassian.net/jira"),
    ],
)
def test_credentials_travel_encrypted_and_to_one_place(vendor: str, parameter: str, url: str) -> None:
    pattern = TEMPLATES[vendor]["Parameters"][parameter]["AllowedPattern"]
    assert not re.fullmatch(pattern, url)
    assert re.fullmatch(pattern, "https://example.com")


def test_the_stacks_differ_in_the_vendor_alone() -> None:
    shared = []
    for vendor in VENDORS:
        resources = deepcopy(TEMPLATES[vendor]["Resources"])
        properties = resources["TicketsFunction"]["Properties"]
        variables = properties["Environment"]["Variables"]
        properties["Environment"] = {
            name: value
            for name, value in variables.items()
            if name != "TICKET_SYSTEM" and not name.startswith(vendor.upper())
        }
        del properties["Description"], resources["EventsGivenUp"]["Properties"]["AlarmDescription"]
        shared.append(resources)
    assert shared[0] == shared[1]


class TestDelivery:
    """From the bus to the function, and to the dead letters."""

    def test_the_rule_lets_through_what_the_function_understands(self, resources: dict[str, Any]) -> None:
        rule = resources["TicketsRule"]["Properties"]
        assert rule["EventPattern"] == {
            "source": ["appstream.auditor"],
            "detail-type": [{"anything-but": ["AppStream Session Started"]}],
        }
        assert rule["EventBusName"] == {"Ref": "BusName"}
        (target,) = rule["Targets"]
        assert "DeadLetterConfig" in target

    def test_only_the_rule_may_send(self, resources: dict[str, Any]) -> None:
        (statement,) = resources["QueuePolicy"]["Properties"]["PolicyDocument"]["Statement"]
        assert statement["Principal"] == {"Service": "events.amazonaws.com"}
        assert statement["Condition"] == {
            "ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": ["TicketsRule", "Arn"]}}
        }

    def test_a_message_outlives_its_function(self, resources: dict[str, Any]) -> None:
        function, queue = (resources[name]["Properties"] for name in ("TicketsFunction", "Waiting"))
        assert queue["VisibilityTimeout"] >= 6 * function["Timeout"]
        assert queue["RedrivePolicy"]["maxReceiveCount"] == TRIES
        assert resources["DeadLetters"]["Properties"]["MessageRetentionPeriod"] == 1_209_600
        assert all(
            resources[name]["Properties"]["SqsManagedSseEnabled"] for name in ("Waiting", "DeadLetters")
        )

    def test_nobody_waits_behind_another_message(self, resources: dict[str, Any]) -> None:
        (mapping,) = resources["TicketsFunction"]["Properties"]["Events"].values()
        assert mapping["Properties"]["BatchSize"] == 1

    def test_failures_are_reported_message_by_message(self, resources: dict[str, Any]) -> None:
        (mapping,) = resources["TicketsFunction"]["Properties"]["Events"].values()
        assert mapping["Properties"]["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        assert "ReservedConcurrentExecutions" not in str(resources)

    def test_dead_letters_raise_an_alarm(self, resources: dict[str, Any]) -> None:
        alarm = resources["EventsGivenUp"]["Properties"]
        assert alarm["Dimensions"] == [
            {"Name": "QueueName", "Value": {"Fn::GetAtt": ["DeadLetters", "QueueName"]}}
        ]
        assert alarm["AlarmActions"]["Fn::If"][0] == "HasAlarmTopic"


class TestFunction:
    """The function, its environment and its permissions."""

    def test_it_may_do_what_it_does_and_nothing_more(self, resources: dict[str, Any]) -> None:
        (policy,) = resources["TicketsRole"]["Properties"]["Policies"]
        statements = policy["PolicyDocument"]["Statement"]
        assert sorted(action for each in statements for action in as_list(each["Action"])) == [
            "dynamodb:DeleteItem",
            "dynamodb:GetItem",
            "dynamodb:PutItem",
            "dynamodb:UpdateItem",
            "logs:CreateLogStream",
            "logs:PutLogEvents",
            "secretsmanager:GetSecretValue",
            "sqs:ChangeMessageVisibility",
            "sqs:DeleteMessage",
            "sqs:GetQueueAttributes",
            "sqs:ReceiveMessage",
        ]
        assert not [each for each in statements if "*" in str(each["Resource"])]

    def test_nothing_has_a_name_of_its_own(self, resources: dict[str, Any]) -> None:
        named = {"TableName", "FunctionName", "QueueName", "RoleName", "LogGroupName", "AlarmName", "Name"}
        assert not {
            (name, key) for name, each in resources.items() for key in named & each["Properties"].keys()
        }

    def test_records_end(self, resources: dict[str, Any]) -> None:
        table = resources["Episodes"]["Properties"]
        assert table["TimeToLiveSpecification"] == {"AttributeName": "expiration", "Enabled": True}

    def test_the_table_has_a_key_of_dynamodbs(self, resources: dict[str, Any]) -> None:
        """SSEEnabled would mean the key aws/dynamodb, and KMS bills its use."""
        assert "SSESpecification" not in resources["Episodes"]["Properties"]

    @pytest.mark.parametrize("vendor", VENDORS)
    def test_its_variables_are_those_it_reads(self, vendor: str) -> None:
        source = "".join(path.read_text() for path in (FOLDER / "tickets" / "tickets").glob("*.py"))
        read = set(re.findall(r'os\.environ\["([A-Z_]+)"\]', source))
        fields = re.search(r"fields = \((.*?)\)", source)
        assert fields
        read |= {f"SERVICENOW_{name.upper()}" for name in re.findall(r'"(\w+)"', fields[1])}
        other = "JIRA_" if vendor == "servicenow" else "SERVICENOW_"
        powertools = {"POWERTOOLS_SERVICE_NAME", "POWERTOOLS_LOG_LEVEL"}
        assert set(environment(vendor, "https://example.com", {})) - powertools == {
            name for name in read if not name.startswith(other)
        }

    def test_an_event_has_time_to_end(self, resources: dict[str, Any]) -> None:
        # As a rule an event takes up to six requests.
        seconds = 6 * (CONNECT_SECONDS + ANSWER_SECONDS)
        assert seconds < resources["TicketsFunction"]["Properties"]["Timeout"]


@pytest.fixture(scope="module", params=VENDORS)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp(request.param)
    path = FOLDER / request.param / "template.yaml"
    run(SAM, "build", "--template", path, "--build-dir", folder / "out", "--cache-dir", folder / "cache")
    return folder / "out" / "TicketsFunction"


class TestSam:
    """What the SAM CLI builds; tests/contract asks it what it says of the templates."""

    def test_it_holds_the_package_and_what_it_needs(self, built: Path) -> None:
        names = {path.name for path in built.iterdir()}
        assert {"tickets", "aws_lambda_powertools", "boto3", "botocore", "pydantic", "urllib3"} <= names
        assert not {"session_auditor", "moto", "pytest", "bin"} & names

    def test_it_is_made_for_the_runtime(self, built: Path) -> None:
        libraries = list(built.rglob("*.so"))
        assert libraries
        for library in libraries:
            assert struct.unpack("<H", library.read_bytes()[18:20])[0] == 183, "EM_AARCH64"
            assert "cpython-313-aarch64" in library.name or ".abi3." in library.name

    def test_its_clients_can_be_made_from_it(self, built: Path) -> None:
        code = (
            "import boto3; [boto3.client(each) for each in ('sqs', 'secretsmanager', 'sts')]; "
            "boto3.resource('dynamodb'); print(boto3.__file__)"
        )
        printed = run(sys.executable, "-c", code, PYTHONPATH=str(built), AWS_DEFAULT_REGION=REGION)
        assert printed.startswith(str(built))

    def test_what_it_installs_is_what_is_locked(self) -> None:
        exported = run(
            *(ROOT / ".venv/bin/uv", "export", "--quiet", "--locked", "--only-group", "tickets"),
            *("--no-emit-project", "--no-annotate", "--no-header"),
        )
        requirements = (FOLDER / "tickets" / "requirements.txt").read_text()
        assert requirements == exported, "run `make build` and commit what changes"
