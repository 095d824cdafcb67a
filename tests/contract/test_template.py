"""The template keeps its promises: least privilege, nothing undescribed, and what it builds is what runs."""

import os
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse

from session_auditor.settings import Settings

ROOT = Path(__file__).parents[2]
SAM = ROOT / ".sam-venv" / "bin" / "sam"
TEMPLATE: dict[str, Any] = yaml_parse((ROOT / "template.yaml").read_text())
PARAMETERS: dict[str, Any] = TEMPLATE["Parameters"]
RESOURCES: dict[str, Any] = TEMPLATE["Resources"]
SERVICES = {"appstream", "dynamodb", "events", "secretsmanager", "sts"}
PSEUDO = {
    "AWS::AccountId": "123456789012",
    "AWS::Region": "eu-west-1",
    "AWS::StackName": "session-auditor",
    "AWS::Partition": "aws",
}


def of_type(kind: str) -> dict[str, Any]:
    return {name: each["Properties"] for name, each in RESOURCES.items() if each["Type"] == kind}


def parts(value: Any) -> Iterator[Any]:
    """Every value within a value."""
    yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from parts(each)


def resolve(value: Any, overrides: dict[str, str] | None = None) -> str:
    """A variable of the environment as CloudFormation sets it, with the parameters' defaults."""
    if not isinstance(value, dict):
        return str(value)
    ((function, argument),) = value.items()
    if function == "Ref":
        if argument in PARAMETERS:
            return str((overrides or {}).get(argument, PARAMETERS[argument]["Default"]))
        return PSEUDO.get(argument, f"physical-{argument}")
    assert function == "Fn::If"
    condition = TEMPLATE["Conditions"][argument[0]]["Fn::Equals"]
    return resolve(
        argument[1] if resolve(condition[0], overrides) == condition[1] else argument[2], overrides
    )


def statements(role: str = "AuditorRole") -> list[dict[str, Any]]:
    found = []
    for policy in RESOURCES[role]["Properties"]["Policies"]:
        document = policy["Fn::If"][1] if "Fn::If" in policy else policy
        found += document["PolicyDocument"]["Statement"]
    return found


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


class TestParameters:
    """What an administrator is asked."""

    @pytest.mark.parametrize("name", PARAMETERS)
    def test_each_is_described_bounded_used_and_in_one_group(self, name: str) -> None:
        parameter = PARAMETERS[name]
        assert parameter["Description"].endswith((".", "prod-test"))
        assert "Default" in parameter
        if parameter["Type"] == "Number":
            assert "AllowedValues" in parameter or {"MinValue", "MaxValue"} <= parameter.keys()
        else:
            assert "AllowedValues" in parameter or "AllowedPattern" in parameter
        used = [RESOURCES, TEMPLATE["Globals"], TEMPLATE["Conditions"]]
        assert {"Ref": name} in [part for each in used for part in parts(each)]
        groups = TEMPLATE["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
        assert [name in group["Parameters"] for group in groups].count(True) == 1

    @pytest.mark.parametrize("name", PARAMETERS)
    def test_each_default_is_within_its_bounds(self, name: str) -> None:
        parameter = PARAMETERS[name]
        default = parameter["Default"]
        if "AllowedValues" in parameter:
            assert default in parameter["AllowedValues"]
        if "AllowedPattern" in parameter:
            assert re.fullmatch(parameter["AllowedPattern"], str(default))
        if "MinValue" in parameter:
            assert parameter["MinValue"] <= default <= parameter["MaxValue"]

    @pytest.mark.parametrize(
        ("name", "right", "wrong"),
        [
            ("StackFilter", "prod-*,!prod-test", "prod;drop"),
            ("AuthenticationTypes", "API,SAML", "api"),
            ("ExpiringMinutes", "", "0"),
            ("AbandonedMinutes", "15, 60,7000", "15,,60"),
            ("AlarmTopicArn", "arn:aws-us-gov:sns:us-gov-west-1:123456789012:ops", "ops"),
            (
                "SlackWebhookUrl",
                "https://hooks.slack.com/services/T0/B0/a1",
                "https://example.com/services/T0/B0/a1",
            ),
            ("NoticeEmail", "ops@example.com", "ops"),
            ("GoodEvents", "AppStream Session Started, AppStream Session Ended", "Started"),
            ("NoticeStacks", "office,lab-1", "office;lab"),
        ],
    )
    def test_patterns(self, name: str, right: str, wrong: str) -> None:
        pattern = PARAMETERS[name]["AllowedPattern"]
        assert re.fullmatch(pattern, right)
        assert not re.fullmatch(pattern, wrong)


class TestFunction:
    """The function, its environment and its permissions."""

    variables = RESOURCES["AuditorFunction"]["Properties"]["Environment"]["Variables"]

    def test_its_environment_is_what_the_settings_read(self) -> None:
        powertools = {name for name in self.variables if name.startswith("POWERTOOLS_")}
        assert powertools == {
            "POWERTOOLS_SERVICE_NAME",
            "POWERTOOLS_METRICS_NAMESPACE",
            "POWERTOOLS_LOG_LEVEL",
        }
        assert set(self.variables) - powertools == {name.upper() for name in Settings.model_fields}

    def test_its_defaults_are_those_of_the_settings(self) -> None:
        settings = Settings.from_environment({name: resolve(each) for name, each in self.variables.items()})
        bare = {
            name: str(each)
            for name, each in self.variables.items()
            if name in ("TABLE_NAME", "EVENT_BUS_NAME")
        }
        defaults = Settings.from_environment(
            bare | {"TARGET_ACCOUNT_ID": "123456789012", "TARGET_REGION": "eu-west-1"}
        )
        assert settings.policy == defaults.policy.__class__(
            stacks=settings.stack_filter, fleets=settings.fleet_filter
        )
        assert settings.workers == defaults.workers

    def test_hashing_gives_it_the_secret(self) -> None:
        variable = self.variables["USER_ID_SECRET_ARN"]
        assert resolve(variable) == ""
        assert resolve(variable, {"UserIdMode": "hash"}) == "physical-UserIdSecret"

    def test_it_may_do_what_it_does_and_nothing_more(self) -> None:
        assert sorted(action for each in statements() for action in as_list(each["Action"])) == [
            "appstream:DescribeFleets",
            "appstream:DescribeSessions",
            "appstream:DescribeStacks",
            "appstream:ListAssociatedFleets",
            "dynamodb:DeleteItem",
            "dynamodb:PutItem",
            "dynamodb:Query",
            "events:PutEvents",
            "logs:CreateLogStream",
            "logs:PutLogEvents",
            "secretsmanager:GetSecretValue",
            "sqs:SendMessage",
            "xray:PutTelemetryRecords",
            "xray:PutTraceSegments",
        ]

    def test_every_resource_only_where_aws_knows_no_other(self) -> None:
        everywhere = {
            action
            for each in statements()
            if "*" in as_list(each["Resource"])
            for action in as_list(each["Action"])
        }
        assert everywhere == {
            "appstream:DescribeStacks",
            "appstream:DescribeFleets",
            "xray:PutTraceSegments",
            "xray:PutTelemetryRecords",
        }

    def test_it_publishes_as_the_auditor_only(self) -> None:
        (publish,) = (each for each in statements() if each["Action"] == "events:PutEvents")
        assert publish["Condition"] == {"StringEquals": {"events:source": "appstream.auditor"}}

    def test_failed_and_undelivered_sweeps_are_kept_and_not_repeated(self) -> None:
        properties = RESOURCES["AuditorFunction"]["Properties"]
        invocation = properties["EventInvokeConfig"]
        assert (invocation["MaximumRetryAttempts"], invocation["MaximumEventAgeInSeconds"]) == (0, 60)
        assert invocation["DestinationConfig"]["OnFailure"]["Type"] == "SQS"
        (schedule,) = properties["Events"].values()
        assert schedule["Type"] == "ScheduleV2"
        assert schedule["Properties"]["RetryPolicy"] == {
            "MaximumRetryAttempts": 0,
            "MaximumEventAgeInSeconds": 60,
        }
        assert {"GroupName", "DeadLetterConfig"} <= schedule["Properties"].keys()

    def test_it_runs_where_the_layer_was_built_for(self) -> None:
        runtime = TEMPLATE["Globals"]["Function"]
        assert (runtime["Runtime"], runtime["Architectures"]) == ("python3.13", ["arm64"])
        layer = RESOURCES["AuditorLayer"]["Properties"]
        assert (layer["CompatibleRuntimes"], layer["CompatibleArchitectures"]) == (["python3.13"], ["arm64"])

    def test_no_concurrency_is_reserved(self) -> None:
        assert "ReservedConcurrentExecutions" not in str(TEMPLATE)


class TestResources:
    """What keeps the data, and who is told."""

    def test_names_are_made_by_cloudformation(self) -> None:
        named = {
            "TableName",
            "FunctionName",
            "QueueName",
            "LayerName",
            "RoleName",
            "LogGroupName",
            "AlarmName",
            "Name",
        }
        found = {
            (name, key)
            for name, each in RESOURCES.items()
            for key in named & each.get("Properties", {}).keys()
        }
        assert found == {("SessionBus", "Name"), ("BusName", "Name")}, "others have to find these two"
        assert RESOURCES["SessionBus"]["Properties"]["Name"] == {"Ref": "AWS::StackName"}
        assert RESOURCES["BusName"]["Properties"]["Name"] == {"Fn::Sub": "/${AWS::StackName}/bus-name"}

    def test_the_table_is_kept(self) -> None:
        table = RESOURCES["SessionsTable"]
        assert (table["DeletionPolicy"], table["UpdateReplacePolicy"]) == ("Retain", "Retain")
        properties = table["Properties"]
        assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
        assert properties["SSESpecification"] == {"SSEEnabled": True}
        assert properties["TimeToLiveSpecification"] == {"AttributeName": "expiresAt", "Enabled": True}
        assert properties["BillingMode"] == "PAY_PER_REQUEST"

    def test_only_the_auditors_events_get_on_the_bus(self) -> None:
        (statement,) = RESOURCES["SessionBus"]["Properties"]["Policy"]["Statement"]
        assert (statement["Effect"], statement["Action"]) == ("Deny", "events:PutEvents")
        assert statement["Condition"] == {"StringNotEquals": {"events:source": "appstream.auditor"}}

    def test_queues_are_encrypted(self) -> None:
        assert len(of_type("AWS::SQS::Queue")) == 3
        assert all(queue["SqsManagedSseEnabled"] for queue in of_type("AWS::SQS::Queue").values())

    def test_logs_end(self) -> None:
        assert [logs["RetentionInDays"] for logs in of_type("AWS::Logs::LogGroup").values()] == [
            {"Ref": "LogRetentionDays"}
        ]

    @pytest.mark.parametrize("name", of_type("AWS::CloudWatch::Alarm"))
    def test_alarms(self, name: str) -> None:
        alarm = of_type("AWS::CloudWatch::Alarm")[name]
        assert alarm["AlarmDescription"].endswith(".")
        assert alarm["TreatMissingData"] == ("breaching" if name == "NoCompletedSweep" else "notBreaching")
        assert alarm["AlarmActions"]["Fn::If"][0] == "HasAlarmTopic"
        if alarm["Namespace"] == "AppStreamSessionAuditor":
            assert f'"{alarm["MetricName"]}"' in (ROOT / "functions/auditor/app.py").read_text()
            assert alarm["Dimensions"] == [{"Name": "service", "Value": {"Ref": "AWS::StackName"}}]

    def test_whoever_watches_is_told_of_what_matters(self) -> None:
        alarms = of_type("AWS::CloudWatch::Alarm").values()
        assert {alarm["MetricName"] for alarm in alarms} == {
            "SweepCompleted",
            "ApproximateNumberOfMessagesVisible",
            "OldestPendingAge",
            "EventsRefused",
            "Errors",
        }
        assert RESOURCES["NoCompletedSweep"]["Properties"]["Period"] == 300

    def test_outputs_are_described(self) -> None:
        assert all(output["Description"].endswith(".") for output in TEMPLATE["Outputs"].values())


class TestNotices:
    """Who is told: nobody, until it is asked for; and then only of what the parameters say."""

    def test_without_parameters_nobody_is_told(self) -> None:
        unconditional = {name for name, each in RESOURCES.items() if "Condition" not in each}
        assert unconditional == {
            *("AuditorFunction", "AuditorRole", "AuditorLayer", "AuditorLogs", "SweepSchedules"),
            *("SessionsTable", "SessionBus", "BusName", "FailedSweeps", "UndeliveredSweeps"),
            *("NoCompletedSweep", "FailedSweep", "UndeliveredSweep", "EventsPending", "EventsRefused"),
            "FunctionErrors",
        }
        for parameter in ("SlackWebhookUrl", "NoticeEmail"):
            assert PARAMETERS[parameter]["Default"] == ""
        off = {"ChatTopic": "false", "SchemaRegistry": "false", "ArchiveDays": 0}
        assert {name: PARAMETERS[name]["Default"] for name in off} == off

    def test_the_webhook_is_a_secret_and_stands_in_one_place(self) -> None:
        assert PARAMETERS["SlackWebhookUrl"]["NoEcho"] is True
        users = [name for name, each in RESOURCES.items() if {"Ref": "SlackWebhookUrl"} in parts(each)]
        assert users == ["SlackDestination"]
        assert {"Ref": "SlackWebhookUrl"} not in list(parts(TEMPLATE["Outputs"]))

    def test_rules_may_post_to_slack_and_nothing_more(self) -> None:
        assert statements("SlackRole") == [
            {
                "Effect": "Allow",
                "Action": "events:InvokeApiDestination",
                "Resource": {"Fn::GetAtt": ["SlackDestination", "Arn"]},
            }
        ]

    def test_topics_and_their_dead_letters_are_open_to_eventbridge_alone(self) -> None:
        policies = [*of_type("AWS::SNS::TopicPolicy").values(), *of_type("AWS::SQS::QueuePolicy").values()]
        granted = [each["PolicyDocument"]["Statement"] for each in policies]
        assert [(each["Principal"], each["Action"]) for (each,) in granted] == [
            ({"Service": "events.amazonaws.com"}, "sns:Publish"),
            ({"Service": "events.amazonaws.com"}, "sns:Publish"),
            ({"Service": "events.amazonaws.com"}, "sqs:SendMessage"),
        ]
        rules = "arn:${AWS::Partition}:events:${AWS::Region}:${AWS::AccountId}:rule/${SessionBus}/*"
        assert granted[-1][0]["Condition"] == {"ArnLike": {"aws:SourceArn": {"Fn::Sub": rules}}}

    def test_slack_gets_one_message_a_second_for_an_hour_at_most(self) -> None:
        destination = RESOURCES["SlackDestination"]["Properties"]
        assert destination["InvocationRateLimitPerSecond"] == 1
        targets = [
            target
            for rule in of_type("AWS::Events::Rule").values()
            for target in rule["Targets"]
            if target.get("Arn") == {"Fn::GetAtt": ["SlackDestination", "Arn"]}
        ]
        assert len(targets) == 5
        for target in targets:
            assert target["RetryPolicy"]["MaximumEventAgeInSeconds"] <= 3600
            assert target["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": ["UndeliveredNotices", "Arn"]}}


def run(*command: str | Path, **environment: str) -> str:
    assert SAM.exists(), "`make test` sets the SAM CLI up in .sam-venv"
    environment = {**os.environ, "SAM_CLI_TELEMETRY": "0", "AWS_DEFAULT_REGION": "eu-west-1"} | environment
    environment["PATH"] = f"{ROOT / '.venv' / 'bin'}:{environment['PATH']}"
    done = subprocess.run(
        [str(each) for each in command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def layer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("built")
    run(SAM, "build", "--build-dir", built / "out", "--cache-dir", built / "cache")
    assert [path.name for path in (built / "out" / "AuditorFunction").iterdir()] == ["app.py"]
    return built / "out" / "AuditorLayer" / "python"


class TestSam:
    """What the SAM CLI says of the template, and what it builds."""

    @pytest.mark.parametrize("options", [[], ["--lint"]], ids=["validate", "validate --lint"])
    def test_the_template_is_valid(self, options: list[str]) -> None:
        run(SAM, "validate", *options)

    def test_the_layer_holds_the_package_and_what_it_needs(self, layer: Path) -> None:
        folders = {path.name for path in layer.iterdir()}
        assert {"session_auditor", "aws_lambda_powertools", "boto3", "botocore", "pydantic"} <= folders
        assert not {"moto", "pytest", "bin"} & folders
        described = {path.name for path in (layer / "botocore" / "data").iterdir() if path.is_dir()}
        assert described == SERVICES

    def test_the_layer_is_made_for_the_runtime(self, layer: Path) -> None:
        libraries = list(layer.rglob("*.so"))
        assert libraries
        for library in libraries:
            machine = struct.unpack("<H", library.read_bytes()[18:20])[0]
            assert machine == 183, "EM_AARCH64"
            assert "cpython-313-aarch64" in library.name or ".abi3." in library.name

    def test_clients_can_be_made_from_it(self, layer: Path) -> None:
        code = "import boto3, sys; [boto3.client(each) for each in sys.argv[1:]]; print(boto3.__file__)"
        printed = run(sys.executable, "-c", code, *SERVICES, PYTHONPATH=str(layer))
        assert printed.startswith(str(layer))

    def test_it_carries_bytecode_if_this_machine_can_make_it(self, layer: Path) -> None:
        compiled = layer / "session_auditor" / "__pycache__" / "sweep.cpython-313.pyc"
        environment = {**os.environ, "PYENV_VERSION": "3.13"}
        python = shutil.which("python3.13")
        able = python and not subprocess.run([python, "-c", ""], env=environment, check=False).returncode
        assert compiled.exists() == bool(able)
        if able:
            flags = struct.unpack("<I", compiled.read_bytes()[4:8])[0]
            assert flags == 0b01, "by hash and unchecked: the date of a file in a layer says nothing"

    def test_what_it_installs_is_what_is_locked(self) -> None:
        exported = run(
            *(ROOT / ".venv/bin/uv", "export", "--quiet", "--locked", "--only-group", "layer"),
            *("--no-emit-project", "--no-annotate", "--no-header"),
        )
        requirements = (ROOT / "layers/session_auditor/requirements.txt").read_text()
        assert requirements == exported, "run `make build` and commit what changes"
