"""The stack: who reaches the function, what it may do, and that what is built runs."""

import re
import struct
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.consumers.user_mail.conftest import FOLDER, REGION, RESOURCES, ROOT, TEMPLATE, environment
from tests.shared.sam import SAM, run
from tests.shared.templates import as_list, parts

PARAMETERS: dict[str, Any] = TEMPLATE["Parameters"]


@pytest.mark.parametrize("name", PARAMETERS)
def test_each_parameter_is_described_bounded_used_and_in_one_group(name: str) -> None:
    parameter = PARAMETERS[name]
    assert parameter["Description"].endswith((".", "BusNameParameter"))
    assert parameter["Type"].startswith("AWS::SSM") or {"AllowedValues", "AllowedPattern"} & parameter.keys()
    assert {"Ref": name} in [*parts(RESOURCES), *parts(TEMPLATE["Conditions"])] or f"${{{name}}}" in str(
        RESOURCES
    )
    groups = TEMPLATE["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    assert [name in group["Parameters"] for group in groups].count(True) == 1
    default = parameter.get("Default")
    if default is not None and "AllowedPattern" in parameter:
        assert re.fullmatch(parameter["AllowedPattern"], default)


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("Domains", "example.com,mail.example.org", "example.com, example.org"),
        ("Domains", "example.com", "*"),
        ("Minutes", "60,15,5", "0"),
        ("From", "sessions@example.com", "Sessions <sessions@example.com>"),
        ("From", "a@example.com", "a@example.com\nBcc: b@example.com"),
        ("Identity", "example.com", "*"),
        ("Identity", "sessions@example.com", "example.com/../*"),
        ("Words", "Ends in {minutes} min: {why}", "Ends in {minute} min"),
        ("Words", "One line\nand another", "{stack.__class__}"),
        ("Subject", "{stack} ends", "{stack} ends\nBcc: b@example.com"),
        ("TimeZone", "Europe/Berlin", "Berlin; rm"),
    ],
)
def test_patterns(name: str, right: str, wrong: str) -> None:
    pattern = PARAMETERS[name]["AllowedPattern"]
    assert re.fullmatch(pattern, right)
    assert not re.fullmatch(pattern, wrong)


def test_only_stacks_and_fleets_that_ask_for_it_reach_the_function() -> None:
    (rule,) = [each for each in RESOURCES.values() if each["Type"] == "AWS::Events::Rule"]
    assert rule["Properties"]["EventPattern"] == {
        "source": ["appstream.auditor"],
        "detail-type": ["AppStream Session Expiring"],
        "detail": {
            "data": {
                "tags": {"mail-user": ["yes"]},
                "deadline": {"cause": {"Fn::Split": [",", {"Ref": "Causes"}]}},
            }
        },
    }


def test_it_may_mail_as_one_address_and_nothing_more() -> None:
    (policy,) = RESOURCES["MailRole"]["Properties"]["Policies"]
    statements = policy["PolicyDocument"]["Statement"]
    (sending,) = [each for each in statements if "ses:SendEmail" in as_list(each["Action"])]
    assert sending["Resource"] == {
        "Fn::Sub": "arn:${AWS::Partition}:ses:${AWS::Region}:${AWS::AccountId}:identity/${Identity}"
    }
    assert sending["Condition"] == {"StringEquals": {"ses:FromAddress": {"Ref": "From"}}}
    assert sorted(action for each in statements for action in as_list(each["Action"])) == [
        *(f"dynamodb:{each}" for each in ("DeleteItem", "GetItem", "PutItem", "UpdateItem")),
        *("logs:CreateLogStream", "logs:PutLogEvents"),
        "ses:SendEmail",
        *("sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"),
    ]
    assert not [each for each in statements if "*" in str(each["Resource"])]


def test_a_message_outlives_its_function_and_records_end() -> None:
    function, queue = (RESOURCES[name]["Properties"] for name in ("MailFunction", "Waiting"))
    assert queue["VisibilityTimeout"] >= 6 * function["Timeout"]
    (mapping,) = function["Events"].values()
    assert mapping["Properties"]["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert RESOURCES["Mailed"]["Properties"]["TimeToLiveSpecification"]["Enabled"]
    assert all(RESOURCES[name]["Properties"]["SqsManagedSseEnabled"] for name in ("Waiting", "DeadLetters"))


def test_its_variables_are_those_it_reads() -> None:
    source = (FOLDER / "user_mail" / "app.py").read_text()
    powertools = {"POWERTOOLS_SERVICE_NAME", "POWERTOOLS_LOG_LEVEL"}
    assert environment().keys() - powertools == set(re.findall(r'os\.environ\["([A-Z_]+)"\]', source))


def test_it_is_built_as_the_tickets_are() -> None:
    makefile = (FOLDER.parent / "tickets" / "Makefile").read_text()
    for theirs, ours in (("Tickets", "Mail"), ("R tickets", "R user_mail"), ("secretsmanager", "sesv2")):
        makefile = makefile.replace(theirs, ours)
    assert (FOLDER / "Makefile").read_text() == makefile


def test_it_installs_what_the_layer_does() -> None:
    layer = ROOT / "layers" / "session_auditor" / "requirements.txt"
    assert (FOLDER / "requirements.txt").read_text() == layer.read_text(), (
        "run `make examples/consumers/user-mail/requirements.txt`"
    )


def test_what_sam_builds_runs_on_the_runtime(tmp_path: Path) -> None:
    run(
        SAM,
        "build",
        "--template",
        FOLDER / "template.yaml",
        "--build-dir",
        tmp_path,
        "--cache-dir",
        tmp_path / "c",
    )
    built = tmp_path / "MailFunction"
    names = {path.name for path in built.iterdir()}
    assert {"user_mail", "aws_lambda_powertools", "boto3", "pydantic", "tzdata"} <= names
    assert not {"session_auditor", "moto", "bin"} & names
    libraries = list(built.rglob("*.so"))
    assert libraries
    assert all(struct.unpack("<H", each.read_bytes()[18:20])[0] == 183 for each in libraries), "EM_AARCH64"
    code = "import boto3; [boto3.client(each) for each in ('sqs', 'sesv2', 'dynamodb', 'sts')]"
    run(sys.executable, "-c", code, PYTHONPATH=str(built), AWS_DEFAULT_REGION=REGION)
