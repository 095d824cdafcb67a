"""The template keeps its promises: least privilege, nothing undescribed, and what it builds is what runs."""

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tomllib
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile
from zoneinfo import available_timezones

import pytest
from cfnlint.helpers import REGIONS
from cfnlint.schema import PROVIDER_SCHEMA_MANAGER
from hypothesis import given, settings
from hypothesis import strategies as st
from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

from sandbox.cloud import zipped
from session_auditor.settings.auditor import AuditorSettings
from session_auditor.settings.notifier import Channel
from tests.shared.sam import SAM, run
from tests.shared.templates import as_list, made, parts, refused_by

ROOT = Path(__file__).parents[2]
TEMPLATE: dict[str, Any] = yaml_parse((ROOT / "template.yaml").read_text())
PARAMETERS: dict[str, Any] = TEMPLATE["Parameters"]
RESOURCES: dict[str, Any] = TEMPLATE["Resources"]
FUNCTIONS = sorted((ROOT / "functions").glob("*/*.py"))
MAKING_CLIENTS = [*FUNCTIONS, ROOT / "layers/session_auditor/session_auditor/auditors.py"]
SERVICES = {"sts"} | {
    service for path in MAKING_CLIENTS for service in re.findall(r'client\(\s*"(\w+)"', path.read_text())
}
PSEUDO = {
    "AWS::AccountId": "123456789012",
    "AWS::Region": "eu-west-1",
    "AWS::StackName": "session-auditor",
    "AWS::Partition": "aws",
}
# What the services take, as botocore's models say. CloudFormation shortens the other names that it makes up.
LONGEST_NAMES = {
    ("AWS::Events::EventBus", "Name"): 256,
    ("AWS::Events::Archive", "ArchiveName"): 48,
    ("AWS::SSM::Parameter", "Name"): 1011,
}
LONGEST_STACK_NAME = 128
# Names are as long as services take or CloudFormation makes them: stack, logical id, 13 characters.
# An ARN has 60 more before its name.
LONGEST_IN_POLICY: dict[str, int] = {
    "AWS::Partition": 10,
    "AWS::Region": 14,
    "AWS::AccountId": 12,
    "AWS::StackName": LONGEST_STACK_NAME,
    "SessionBus": LONGEST_STACK_NAME,
    "SweepSchedules": 64,
    "SessionsTable.Arn": 60 + LONGEST_STACK_NAME + 28,
    "AuditorFunction.Arn": 60 + 64,
    "FailedSweeps.Arn": 60 + 80,
    "UndeliveredSweeps.Arn": 60 + 80,
    "Id": 36,
    "NotifierFunction.Arn": 60 + 64,
    "DispatcherFunction.Arn": 60 + 64,
    "SweepsDue": 36,
    "NotifierFunctionWaiting": 36,
    "Undelivered.Arn": 60 + 80,
    "Topic": 60 + LONGEST_STACK_NAME + 20,
    "Webhook": PARAMETERS["SlackWebhook"]["MaxLength"],
}
LAMBDA_ENVIRONMENT = 4096
# Variables with a name or an ARN that CloudFormation makes of the stack's name, and how long that can be.
MADE = {
    "TABLE_NAME": LONGEST_STACK_NAME + 28,
    "EVENT_BUS_NAME": LONGEST_STACK_NAME,
    "POWERTOOLS_SERVICE_NAME": LONGEST_STACK_NAME,
    "USER_ID_SECRET_ARN": 255,
}
DEFAULTS = {name: str(each["Default"]) for name, each in PARAMETERS.items()}


def of_type(kind: str) -> dict[str, Any]:
    return {name: each["Properties"] for name, each in RESOURCES.items() if each["Type"] == kind}


CHANNELS = {
    name: each
    for name, each in of_type("AWS::CloudFormation::Stack").items()
    if "Channel" in each.get("Parameters", {})
}


def resolve(value: Any, overrides: dict[str, str] | None = None) -> str:
    """A variable of the environment as CloudFormation sets it, with the parameters' defaults."""
    if not isinstance(value, dict):
        return str(value)
    ((function, argument),) = value.items()
    if function == "Ref":
        if argument in PARAMETERS:
            return str((overrides or {}).get(argument, PARAMETERS[argument]["Default"]))
        return PSEUDO.get(argument, f"physical-{argument}")
    if function == "Fn::FindInMap":
        name, key, attribute = argument
        return str(TEMPLATE["Mappings"][name][resolve(key, overrides)][attribute])
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


def admitted(name: str) -> st.SearchStrategy[str]:
    """Whatever CloudFormation lets through as the parameter's value; of time zones those that there are."""
    parameter = PARAMETERS[name]
    if name == "TimeZone":
        zones = sorted(available_timezones())
        return st.sampled_from([each for each in zones if re.fullmatch(parameter["AllowedPattern"], each)])
    if "AllowedValues" in parameter:
        return st.sampled_from([str(each) for each in parameter["AllowedValues"]])
    if parameter["Type"] == "Number":
        least, most = parameter["MinValue"], parameter["MaxValue"]
        # Ref hands the text of a number on as it was typed.
        return st.one_of(
            st.integers(least, most).map(str),
            st.floats(least, most).map(str),
            st.floats(least, most).map("{:e}".format).filter(lambda text: least <= float(text) <= most),
        )
    return st.from_regex(parameter["AllowedPattern"], fullmatch=True).filter(
        lambda text: len(text) <= parameter.get("MaxLength", 4096)
    )


# What stacks of their own find, by the parameters that hold it and the last word of their names.
FOUND_BY = {"BusName": "bus-name", "TableName": "table-name", "AlarmArns": "alarm-arns"}


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
        # CloudFormation would show the pattern.
        assert ("AllowedPattern" in parameter) is ("ConstraintDescription" in parameter)
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
            ("StackFilter", "Buero Nord,!*(alt)", '"prod"'),
            ("AuthenticationTypes", "API,SAML", "api"),
            ("ExpiringMinutes", "", "0"),
            ("AbandonedMinutes", "15, 60,7000", "15,,60"),
            ("AlarmTopicArn", "arn:aws-us-gov:sns:us-gov-west-1:123456789012:ops", "ops"),
            (
                "AlarmTopicArn",
                "arn:aws-eusc:sns:eusc-de-east-1:123456789012:ops",
                "arn:aws:sqs:eu-west-1:1:ops",
            ),
            ("SlackWebhook", "/notices/slack", "https://hooks.slack.com/services/T0/B0/a1"),
            ("TeamsWebhook", "notices/teams-2", "https://prod.logic.azure.com:443/workflows/1?sig=x"),
            ("NoticeEmail", "ops@example.com", "ops"),
            ("NoticeStacks", "office,!lab-*", "office;lab"),
            ("NoticeFleets", "Buero Nord", 'office"'),
            ("NoticeTags", "department=sales,!notify=off", "notify=off;"),
            ("TimeZone", "Europe/Berlin", "Berlin"),
            ("TimeZone", "America/Argentina/Buenos_Aires", "../Berlin"),
            ("TimeZone", "Etc/GMT+3", "Europe/"),
            ("TimeZone", "UTC", "right/Europe/Berlin"),
            ("Targets", "", "all"),
            ("Targets", "123456789012, r-ab12,ou-ab12-12345678", "12345678901"),
            ("TargetRegions", "eu-west-1,eusc-de-east-1", "Ireland"),
            ("ExcludedAccounts", "123456789012,210987654321", "ou-ab12-12345678"),
            ("SpokeRole", "AppStreamSessionAuditorSpoke", "arn:aws:iam::123456789012:role/spoke"),
            ("ExternalId", "4fb1-a:b", "a"),
            ("OrganizationsRole", "arn:aws:iam::123456789012:role/hub/accounts", "accounts"),
        ],
    )
    def test_patterns(self, name: str, right: str, wrong: str) -> None:
        pattern = PARAMETERS[name]["AllowedPattern"]
        assert re.fullmatch(pattern, right)
        assert not re.fullmatch(pattern, wrong)

    def test_every_city_of_the_time_zones_is_taken(self) -> None:
        pattern, most = PARAMETERS["TimeZone"]["AllowedPattern"], PARAMETERS["TimeZone"]["MaxLength"]
        cities = {each for each in available_timezones() if "/" in each}
        assert len(cities) > 400
        assert [each for each in cities if not re.fullmatch(pattern, each) or len(each) > most] == []

    def test_they_are_asked_in_the_order_of_their_groups(self) -> None:
        groups = TEMPLATE["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
        assert list(PARAMETERS) == [name for group in groups for name in group["Parameters"]]

    def test_what_to_set_first_is_asked_first_and_stands_in_samconfig(self) -> None:
        first, *_ = TEMPLATE["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
        offered = re.findall(r'^    # "(\w+)=', (ROOT / "samconfig.toml").read_text(), re.MULTILINE)
        assert first["Parameters"] == offered
        assert len(offered) == 3


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
        assert set(self.variables) - powertools == {name.upper() for name in AuditorSettings.model_fields}

    def test_its_defaults_are_those_of_the_settings(self) -> None:
        settings = AuditorSettings.from_environment(
            {name: resolve(each) for name, each in self.variables.items()}
        )
        bare = {
            name: str(each)
            for name, each in self.variables.items()
            if name in ("TABLE_NAME", "EVENT_BUS_NAME")
        }
        defaults = AuditorSettings.from_environment(
            bare | {"TARGET_ACCOUNT_ID": "123456789012", "TARGET_REGION": "eu-west-1"}
        )
        assert settings.options == defaults.options.__class__(
            stacks=settings.stack_filter, fleets=settings.fleet_filter
        )
        assert settings.workers == defaults.workers

    @settings(max_examples=300, deadline=None)
    @given(
        values=st.fixed_dictionaries(
            {
                part["Ref"]: admitted(part["Ref"])
                for part in parts(variables)
                if isinstance(part, dict) and part.get("Ref") in PARAMETERS
            }
            | {"UserIdMode": admitted("UserIdMode")}
        )
    )
    def test_what_the_parameters_admit_the_settings_take(self, values: dict[str, str]) -> None:
        AuditorSettings.from_environment(
            {name: resolve(each, values) for name, each in self.variables.items()}
        )

    def test_the_longest_values_fit_what_lambda_takes(self) -> None:
        bounded = {
            name: "x"
            * max([len(str(value)) for value in each.get("AllowedValues", [])] + [each.get("MaxLength", 0)])
            for name, each in PARAMETERS.items()
            if each["Type"] == "String"
        }
        assert all(
            bounded[part["Ref"]]
            for part in parts(self.variables)
            if isinstance(part, dict) and part.get("Ref") in bounded
        )
        # Names and ARNs that CloudFormation makes; the parameters of type Number are as short as their ends.
        named = {name: "x" * length for name, length in MADE.items()}
        values = {name: resolve(each, bounded) for name, each in self.variables.items()} | named
        assert len("".join([*values.keys(), *values.values()])) <= LAMBDA_ENVIRONMENT

    @pytest.mark.parametrize(
        "name",
        [
            pytest.param(part["Ref"], id=part["Ref"])
            for part in parts(variables)
            if isinstance(part, dict) and "MaxValue" in PARAMETERS.get(str(part.get("Ref")), {})
        ],
    )
    def test_the_ends_of_each_range_are_taken(self, name: str) -> None:
        for end in (PARAMETERS[name]["MinValue"], PARAMETERS[name]["MaxValue"]):
            environment = {each: resolve(value, {name: str(end)}) for each, value in self.variables.items()}
            AuditorSettings.from_environment(environment)

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
            "ssm:GetParameter",
            "tag:GetResources",
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
            "tag:GetResources",
            "xray:PutTraceSegments",
            "xray:PutTelemetryRecords",
        }

    def test_tags_and_policies_are_read_only_where_they_are_asked_for(self) -> None:
        actions = {"ReadTags": "tag:GetResources", "ApplyPolicies": "ssm:GetParameter"}
        conditional = {
            each["Fn::If"][0]: each["Fn::If"][1]["PolicyDocument"]["Statement"][0]["Action"]
            for each in RESOURCES["AuditorRole"]["Properties"]["Policies"]
            if "Fn::If" in each
        }
        assert actions.items() <= conditional.items()
        assert PARAMETERS["TagKeys"]["Default"] == PARAMETERS["PoliciesParameter"]["Default"] == ""

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

    def test_it_can_be_paused_without_an_alarm(self) -> None:
        (schedule,) = RESOURCES["AuditorFunction"]["Properties"]["Events"].values()
        assert schedule["Properties"]["State"] == {"Fn::If": ["Dispatch", "DISABLED", {"Ref": "Sweeps"}]}
        assert PARAMETERS["Sweeps"]["AllowedValues"] == ["ENABLED", "DISABLED"]
        assert TEMPLATE["Conditions"]["Sweep"] == {"Fn::Equals": [{"Ref": "Sweeps"}, "ENABLED"]}
        alarm = RESOURCES["NoCompletedSweep"]["Properties"]
        assert alarm["ActionsEnabled"] == {"Fn::If": ["Sweep", True, False]}

    def test_it_runs_where_the_layer_was_built_for(self) -> None:
        runtime = TEMPLATE["Globals"]["Function"]
        assert (runtime["Runtime"], runtime["Architectures"]) == ("python3.13", ["arm64"])
        layer = RESOURCES["AuditorLayer"]["Properties"]
        assert (layer["CompatibleRuntimes"], layer["CompatibleArchitectures"]) == (["python3.13"], ["arm64"])

    def test_no_concurrency_is_reserved(self) -> None:
        assert "ReservedConcurrentExecutions" not in str(TEMPLATE)


def longest(value: dict[str, Any]) -> str:
    """What a function of CloudFormation gives in the policy for readers, at its longest."""
    ((_, argument),) = value.items()
    if "Fn::Sub" not in value:
        return "x" * LONGEST_IN_POLICY[".".join(as_list(argument))]
    text: str = as_list(argument)[0]
    return re.sub(r"\$\{([^}]+)\}", lambda found: "x" * LONGEST_IN_POLICY[str(found[1])], text)


def dispatcher_parts() -> list[dict[str, Any]]:
    dispatcher = yaml_parse((ROOT / "functions" / "dispatcher" / "template.yaml").read_text())
    parts: list[dict[str, Any]] = dispatcher["Outputs"]["Parts"]["Value"]["Fn::Join"][1]
    return parts


class TestReaders:
    """The policy for people who ask. tests/integration/test_doctor.py compares it with what doctor asks."""

    policy = RESOURCES["ReaderPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    actions = sorted(action for each in policy for action in as_list(each["Action"]))

    def test_they_may_change_nothing_and_read_no_secret(self) -> None:
        verbs = {"Describe", "Get", "List", "Query", "Receive", "Test"}
        assert {re.findall("[A-Z][a-z]+", each.split(":")[1])[0] for each in self.actions} == verbs
        assert not any("GetSecretValue" in each or "ssm:Get" in each for each in self.actions)
        assert all(each["Effect"] == "Allow" for each in self.policy)
        assert not any("*" in each for each in self.actions)

    def test_they_may_list_what_the_auditor_lists(self) -> None:
        listing = {each for each in self.actions if each.startswith("appstream:")}
        audited = [action for each in statements() for action in as_list(each["Action"])]
        assert listing == {each for each in audited if each.startswith("appstream:")}

    def test_every_resource_only_where_aws_knows_no_other(self) -> None:
        everywhere = [as_list(each["Action"]) for each in self.policy if each["Resource"] == "*"]
        assert everywhere == [
            [
                "appstream:DescribeFleets",
                "appstream:DescribeStacks",
                "cloudwatch:GetMetricStatistics",
                "events:ListRules",
                "events:TestEventPattern",
                "ssm:DescribeParameters",
            ]
        ]

    def test_each_nested_stack_names_what_is_its_own(self) -> None:
        named = [each for each in parts(self.policy) if isinstance(each, dict) and "Fn::If" in each]
        assert named == [self.conditional(f"Tell{name}", name) for name in CHANNELS] + [
            self.conditional("Dispatch", "Dispatcher")
        ]

    def test_with_the_longest_names_iam_takes_it(self) -> None:
        """IAM takes 6,144 characters of a managed policy, without white space (IAM, quotas)."""
        notifier = yaml_parse((ROOT / "functions" / "notifier" / "template.yaml").read_text())
        *of_each, last = notifier["Outputs"]["Parts"]["Value"]["Fn::Join"][1]
        _, topic, secret = last["Fn::If"]
        reads, *rest = self.policy
        own = [each for each in reads["Resource"]["Fn::Split"][1]["Fn::Join"][1] if "Fn::If" not in each]
        own += dispatcher_parts()
        for name in CHANNELS:
            own += [*of_each, secret if f"{name}Webhook" in PARAMETERS else topic]
        document = [reads | {"Resource": [longest(each) for each in own]}, *rest]
        assert len(json.dumps(document, separators=(",", ":"))) < 6144

    def conditional(self, condition: str, name: str) -> dict[str, Any]:
        return {"Fn::If": [condition, {"Fn::GetAtt": [name, "Outputs.Parts"]}, {"Ref": "AWS::NoValue"}]}

    def test_they_may_take_no_message_of_a_sweep(self) -> None:
        parts = dispatcher_parts()
        assert "sqs:ReceiveMessage" in self.actions
        assert not any("Due" in as_list(each["Fn::GetAtt"]) for each in parts if "Fn::GetAtt" in each)


class TestResources:
    """What keeps the data, and who is told."""

    def test_names_are_made_by_cloudformation(self) -> None:
        named = {
            "TableName",
            "FunctionName",
            "QueueName",
            "LayerName",
            "RoleName",
            "ManagedPolicyName",
            "LogGroupName",
            "AlarmName",
            "ArchiveName",
            "Name",
        }
        found = {
            (name, key)
            for name, each in RESOURCES.items()
            for key in named & each.get("Properties", {}).keys()
        }
        # Others have to find the bus and what parameters hold; a name made for an archive may be too long.
        parameters = {(name, "Name") for name in FOUND_BY}
        assert found == {("SessionBus", "Name"), *parameters, ("Archive", "ArchiveName")}
        assert RESOURCES["SessionBus"]["Properties"]["Name"] == {"Ref": "AWS::StackName"}

    @pytest.mark.parametrize("stack_name", ["aws-audit", "SSM", "a" * LONGEST_STACK_NAME])
    @pytest.mark.parametrize("parameter", FOUND_BY)
    def test_what_others_find_has_a_name_that_ssm_takes(self, parameter: str, stack_name: str) -> None:
        name = RESOURCES[parameter]["Properties"]["Name"]["Fn::Sub"].replace("${AWS::StackName}", stack_name)
        assert name == f"/appstream-session-auditor/{stack_name}/{FOUND_BY[parameter]}"
        assert not re.match(r"/?(aws|ssm)", name, re.IGNORECASE)
        assert len(name) <= LONGEST_NAMES["AWS::SSM::Parameter", "Name"]

    @pytest.mark.parametrize(
        ("kind", "key"), LONGEST_NAMES, ids=[kind.removeprefix("AWS::") for kind, _ in LONGEST_NAMES]
    )
    def test_the_longest_name_of_a_stack_makes_no_name_too_long(self, kind: str, key: str) -> None:
        for name, resource in of_type(kind).items():
            written = resource[key]
            text = written.get("Fn::Sub", "${AWS::StackName}")
            text, values = text if isinstance(text, list) else (text, {})
            for placeholder, value in values.items():
                assert value == {"Fn::Select": [2, {"Fn::Split": ["/", {"Ref": "AWS::StackId"}]}]}, "a UUID"
                text = text.replace(f"${{{placeholder}}}", "0" * 36)
            text = text.replace("${AWS::StackName}", "a" * LONGEST_STACK_NAME)
            assert "$" not in text
            assert len(text) <= LONGEST_NAMES[kind, key], name

    def test_every_alarm_is_named_to_the_board(self) -> None:
        (comma, arns) = RESOURCES["AlarmArns"]["Properties"]["Value"]["Fn::Join"]
        assert comma == ","
        # One is there only with policies, and the dispatcher's stands in for one.
        named = [branch for each in arns for branch in (each["Fn::If"][1:] if "Fn::If" in each else [each])]
        assert sorted(each["Fn::GetAtt"] for each in named if "Fn::GetAtt" in each) == sorted(
            [
                ["Dispatcher", "Outputs.TargetsOverdueArn"],
                *([name, "Arn"] for name in of_type("AWS::CloudWatch::Alarm")),
            ]
        )

    def test_the_table_is_kept(self) -> None:
        table = RESOURCES["SessionsTable"]
        assert (table["DeletionPolicy"], table["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")
        properties = table["Properties"]
        assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
        assert "SSESpecification" not in properties, "DynamoDB's own key costs nothing, any other does"
        assert properties["TimeToLiveSpecification"] == {"AttributeName": "expiresAt", "Enabled": True}
        assert properties["BillingMode"] == "PAY_PER_REQUEST"

    def test_nobody_but_the_auditor_gets_on_the_bus(self) -> None:
        assert "Policy" not in RESOURCES["SessionBus"]["Properties"], "it would replace the one below"
        (policy,) = of_type("AWS::Events::EventBusPolicy").values()
        assert policy["EventBusName"] == {"Ref": "SessionBus"}
        statement = policy["Statement"]
        assert (statement["Effect"], statement["Principal"]) == ("Deny", "*")
        assert statement["Action"] == "events:PutEvents"
        assert statement["Resource"] == {"Fn::GetAtt": ["SessionBus", "Arn"]}
        # Negated, so that whoever has no ARN is denied, too; services, whom nobody allows anything, are not.
        assert statement["Condition"] == {
            "ArnNotEquals": {"aws:PrincipalArn": {"Fn::GetAtt": ["AuditorRole", "Arn"]}},
            "BoolIfExists": {"aws:PrincipalIsAWSService": "false"},
        }

    def test_queues_are_encrypted(self) -> None:
        assert len(of_type("AWS::SQS::Queue")) == 2
        assert all(queue["SqsManagedSseEnabled"] for queue in of_type("AWS::SQS::Queue").values())

    def test_logs_end(self) -> None:
        assert [logs["RetentionInDays"] for logs in of_type("AWS::Logs::LogGroup").values()] == [
            {"Ref": "LogRetentionDays"}
        ]

    @pytest.mark.parametrize("name", of_type("AWS::CloudWatch::Alarm"))
    def test_alarms(self, name: str) -> None:
        alarm = of_type("AWS::CloudWatch::Alarm")[name]
        assert alarm["AlarmDescription"].endswith(".")
        assert alarm["TreatMissingData"] == ("missing" if name == "NoCompletedSweep" else "notBreaching")
        assert len(alarm["AlarmDescription"]) <= 1024
        assert alarm["AlarmActions"]["Fn::If"][0] == "HasAlarmTopic"
        if alarm["Namespace"] == "AppStreamSessionAuditor":
            assert f'"{alarm["MetricName"]}"' in (ROOT / "functions/auditor/auditor.py").read_text()
            assert alarm["Dimensions"] == [{"Name": "service", "Value": {"Ref": "AWS::StackName"}}]

    def test_whoever_watches_is_told_of_what_matters(self) -> None:
        alarms = of_type("AWS::CloudWatch::Alarm").values()
        assert {alarm["MetricName"] for alarm in alarms} == {
            "SweepCompleted",
            "NumberOfMessagesSent",
            "OldestPendingAge",
            "EventsRefused",
            "ItemsUnreadable",
            "PoliciesNotApplied",
            "Errors",
        }

    def test_that_nobody_watches_is_told_after_five_minutes_and_not_before_the_first_sweep(self) -> None:
        alarm = RESOURCES["NoCompletedSweep"]["Properties"]
        assert alarm["Period"] * alarm["EvaluationPeriods"] == 300
        assert alarm["TreatMissingData"] == "missing", "breaching fires before there is a function"
        assert alarm["InsufficientDataActions"] == alarm["AlarmActions"]

    @pytest.mark.parametrize("name", ["EventsPending", "ItemsUnreadable"])
    def test_what_lasts_is_looked_at_as_seldom_as_sweeps_can_be(self, name: str) -> None:
        """Else the alarm would go on and off between two sweeps."""
        alarm = RESOURCES[name]["Properties"]
        assert alarm["Statistic"] == "Maximum"
        assert alarm["Period"] >= max(PARAMETERS["SweepEvery"]["AllowedValues"])

    def test_what_to_do_about_unreadable_items_is_said(self) -> None:
        description = RESOURCES["ItemsUnreadable"]["Properties"]["AlarmDescription"]
        assert "deploy the newer one again" in description
        assert "delete it" in description

    def test_the_costs_count_every_alarm_and_no_key_of_kms(self) -> None:
        there = [RESOURCES[name] for name in made(TEMPLATE, DEFAULTS)]
        alarms = [each for each in there if each["Type"] == "AWS::CloudWatch::Alarm"]
        metrics = re.findall(r'\("\w+", MetricUnit\.', (ROOT / "functions/auditor/auditor.py").read_text())
        cost = f"CloudWatch is {len(metrics)} metrics and {len(alarms)} alarms"
        assert cost in " ".join((ROOT / "docs/cost.md").read_text().split())
        # 0.30 dollars a metric, 0.10 an alarm and 0.03 for logs.
        total = f"{0.30 * len(metrics) + 0.10 * len(alarms) + 0.03:.2f}"
        for document in ("docs/cost.md", "docs/performance.md"):
            tables = re.findall(
                r"^\| 1?[0,]+0 \|(?: [\d.]+ \|){4} ([\d.]+) \|", (ROOT / document).read_text(), re.MULTILINE
            )
            assert set(tables) == {total}, document
        assert "KmsMasterKeyId" not in str(RESOURCES)

    def test_outputs_are_described(self) -> None:
        assert all(output["Description"].endswith(".") for output in TEMPLATE["Outputs"].values())


class TestNotices:
    """Who is told: nobody, until it is asked for; and then only of what the parameters say."""

    def test_without_parameters_nobody_is_told(self) -> None:
        assert made(TEMPLATE, DEFAULTS) == {
            *("AuditorFunction", "AuditorRole", "AuditorLayer", "AuditorLogs", "SweepSchedules"),
            *("SessionsTable", "SessionBus", *FOUND_BY, "FailedSweeps", "UndeliveredSweeps"),
            *("NoCompletedSweep", "FailedSweep", "UndeliveredSweep", "EventsPending", "EventsRefused"),
            *("FunctionErrors", "ItemsUnreadable", "OnlyTheAuditor", "ReaderPolicy"),
        }
        for parameter in ("SlackWebhook", "TeamsWebhook", "NoticeEmail"):
            assert PARAMETERS[parameter]["Default"] == ""
        off = {"ChatTopic": "false", "SchemaRegistry": "false", "ArchiveDays": 0}
        assert {name: PARAMETERS[name]["Default"] for name in off} == off

    @pytest.mark.parametrize("name", CHANNELS)
    def test_a_channel_is_the_notifiers_template_with_what_it_asks_for(self, name: str) -> None:
        properties = CHANNELS[name]
        assert properties["TemplateURL"] == "functions/notifier/template.yaml"
        asked = yaml_parse((ROOT / properties["TemplateURL"]).read_text())["Parameters"]
        given = properties["Parameters"]
        assert given.keys() <= asked.keys()
        needed = {each for each, parameter in asked.items() if "Default" not in parameter}
        assert needed <= given.keys()
        # Whatever both have goes through, as wide as it is here.
        for each in asked.keys() & PARAMETERS.keys():
            assert given[each] == {"Ref": each}
            for bound in ("AllowedValues", "AllowedPattern", "Default"):
                if bound in asked[each]:
                    assert asked[each][bound] == PARAMETERS[each].get(bound), f"{each}: {bound}"
        assert TEMPLATE["Resources"][name]["Condition"] == f"Tell{name}"

    def test_every_channel_has_one(self) -> None:
        assert sorted(each["Parameters"]["Channel"] for each in CHANNELS.values()) == sorted(Channel)

    def test_a_nested_template_may_be_expanded(self) -> None:
        """CloudFormation asks for it where a nested template has a transform."""
        configured = tomllib.loads((ROOT / "samconfig.toml").read_text())
        capabilities = configured["default"]["deploy"]["parameters"]["capabilities"].split()
        assert capabilities == ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]


class TestRules:
    """What a deployment is refused for, before anything is made."""

    def test_what_a_region_lacks_is_said(self) -> None:
        for region in REGIONS:
            known = "AWS::EventSchemas::Registry" in PROVIDER_SCHEMA_MANAGER.get_resource_types(region)
            values = {**DEFAULTS, "AWS::Region": region, "SchemaRegistry": "true"}
            refused = refused_by(TEMPLATE["Rules"], values)
            assert ["SchemaRegistry" in each for each in refused] == [True][known:], region

    def test_regions_of_no_targets_are_refused(self) -> None:
        elsewhere = DEFAULTS | {"AWS::Region": "eu-west-1", "TargetRegions": "us-east-1"}
        assert refused_by(TEMPLATE["Rules"], elsewhere) == [
            "TargetRegions are those of Targets, which is empty."
        ]
        assert not refused_by(TEMPLATE["Rules"], elsewhere | {"Targets": "123456789012"})

    @pytest.mark.parametrize("region", REGIONS)
    def test_what_is_not_asked_for_is_not_refused(self, region: str) -> None:
        assert not refused_by(TEMPLATE["Rules"], {**DEFAULTS, "AWS::Region": region})

    def test_a_region_that_nobody_knows_yet_is_let_through(self) -> None:
        everything = DEFAULTS | {
            "SchemaRegistry": "true",
            "AWS::Region": "eusc-de-east-2",
        }
        assert not refused_by(TEMPLATE["Rules"], everything)

    def test_the_transform_hands_them_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
        template = yaml_parse((ROOT / "template.yaml").read_text())
        for resource in template["Resources"].values():
            for key in {"CodeUri", "ContentUri"} & resource.get("Properties", {}).keys():
                resource["Properties"][key] = "s3://packages/package.zip"
        assert transform(template, {}, ManagedPolicies())["Rules"] == TEMPLATE["Rules"]


class ManagedPolicies:
    """What SAM would ask IAM for."""

    def load(self) -> dict[str, str]:
        return {}


@pytest.fixture(scope="module")
def layer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("built")
    run(SAM, "build", "--build-dir", built / "out", "--cache-dir", built / "cache")
    assert [path.name for path in (built / "out" / "AuditorFunction").iterdir()] == ["auditor.py"]
    return built / "out" / "AuditorLayer" / "python"


class TestSam:
    """What the SAM CLI says of the template, and what it builds."""

    @pytest.mark.parametrize("options", [[], ["--lint"]], ids=["validate", "validate --lint"])
    def test_the_template_is_valid(self, options: list[str]) -> None:
        run(SAM, "validate", *options)

    def test_the_layer_holds_the_package_and_what_it_needs(self, layer: Path) -> None:
        folders = {path.name for path in layer.iterdir()}
        needed = {"session_auditor", "aws_lambda_powertools", "boto3", "botocore", "pydantic", "tzdata"}
        assert needed <= folders
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

    def test_time_zones_are_read_from_it(self, layer: Path) -> None:
        """Whatever the runtime has: here it has none."""
        code = "import sys, zoneinfo; print(zoneinfo.ZoneInfo(sys.argv[1]), sys.modules['tzdata'].__file__)"
        zones = {"PYTHONPATH": str(layer), "PYTHONTZPATH": ""}
        printed = run(sys.executable, "-c", code, "Europe/Berlin", **zones)
        assert printed.startswith(f"Europe/Berlin {layer}")

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


def test_a_package_of_the_local_cloud_holds_every_file_but_bytecode(tmp_path: Path) -> None:
    (tmp_path / "rooms").mkdir()
    for name in ("function.py", "board.css", "rooms/page.html", "function.pyc"):
        (tmp_path / name).write_text(name)
    with ZipFile(BytesIO(zipped(tmp_path, ""))) as package:
        assert sorted(package.namelist()) == ["board.css", "function.py", "rooms/page.html"]
