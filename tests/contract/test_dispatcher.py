"""The dispatcher's template, the auditor's and a spoke's agree with each other, and with the code."""

import re
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse

from sandbox.cloud import ROOT
from session_auditor.directory import ACCOUNT, PARENT, REGION
from session_auditor.messages import VOID_AFTER
from session_auditor.settings.auditor import AuditorSettings
from session_auditor.settings.dispatcher import DispatcherSettings
from session_auditor.settings.hub import SWEEP_EVERY
from tests.shared.sam import SAM, run
from tests.shared.templates import as_list, made, parts

TEMPLATE: dict[str, Any] = yaml_parse((ROOT / "functions" / "dispatcher" / "template.yaml").read_text())
AUDITOR: dict[str, Any] = yaml_parse((ROOT / "template.yaml").read_text())
SPOKE: dict[str, Any] = yaml_parse((ROOT / "spoke.yaml").read_text())
PARAMETERS, RESOURCES = TEMPLATE["Parameters"], TEMPLATE["Resources"]
DEFAULTS = {name: str(each["Default"]) for name, each in AUDITOR["Parameters"].items()}
FUNCTION = RESOURCES["DispatcherFunction"]["Properties"]


def statements(policy: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every statement of a policy, whatever it depends on, by its name; the last of a name."""
    return {each["Sid"]: each for each in parts(policy) if isinstance(each, dict) and "Sid" in each}


def actions(policy: dict[str, Any]) -> list[str]:
    return sorted(
        action
        for each in parts(policy)
        if isinstance(each, dict) and "Sid" in each
        for action in as_list(each["Action"])
    )


class TestWhenThereIsOne:
    """The default deployment has no dispatcher and no queue of targets."""

    @pytest.mark.parametrize(
        ("given", "dispatched"),
        [
            pytest.param({}, False, id="the default"),
            pytest.param({"SweepEvery": "180"}, False, id="seldom"),
            pytest.param({"SweepEvery": "30"}, True, id="every 30 seconds"),
            pytest.param({"SweepEvery": "15"}, True, id="every 15 seconds"),
            pytest.param({"Targets": "123456789012"}, True, id="targets"),
            pytest.param({"Targets": "r-ab12", "SweepEvery": "120"}, True, id="targets, seldom"),
        ],
    )
    def test_it_takes_the_place_of_the_alarm(self, given: dict[str, str], dispatched: bool) -> None:
        either = made(AUDITOR, DEFAULTS | given) & {"Dispatcher", "NoCompletedSweep"}
        assert either == ({"Dispatcher"} if dispatched else {"NoCompletedSweep"})

    def test_the_auditors_own_schedule_rests_then(self) -> None:
        (schedule,) = AUDITOR["Resources"]["AuditorFunction"]["Properties"]["Events"].values()
        assert schedule["Properties"]["State"] == {"Fn::If": ["Dispatch", "DISABLED", {"Ref": "Sweeps"}]}

    def test_channels_say_account_and_region_where_there_are_targets(self) -> None:
        channels = [
            each["Properties"]["Parameters"]
            for each in AUDITOR["Resources"].values()
            if "Channel" in each.get("Properties", {}).get("Parameters", {})
        ]
        several = {"Fn::If": ["SweepTargets", "true", "false"]}
        table = {"Fn::If": ["SweepTargets", {"Ref": "SessionsTable"}, ""]}
        assert [(each["SeveralTargets"], each["HubTable"]) for each in channels] == [(several, table)] * 4


class TestTemplate:
    """What is nested."""

    def test_it_is_given_all_that_it_asks_for_as_wide_as_it_is(self) -> None:
        properties = AUDITOR["Resources"]["Dispatcher"]["Properties"]
        assert properties["TemplateURL"] == "functions/dispatcher/template.yaml"
        given = properties["Parameters"]
        assert given.keys() == PARAMETERS.keys()
        for name in PARAMETERS.keys() & AUDITOR["Parameters"].keys() - {"SpokeRole"}:
            assert given[name] == {"Ref": name}
            for bound in ("AllowedValues", "AllowedPattern", "Default"):
                if bound in PARAMETERS[name]:
                    assert PARAMETERS[name][bound] == AUDITOR["Parameters"][name].get(bound), name

    def test_the_function_takes_what_the_template_gives(self) -> None:
        variables = FUNCTION["Environment"]["Variables"]
        names = {name for name in variables if not name.startswith("POWERTOOLS_")}
        assert names == {name.upper() for name in DispatcherSettings.model_fields}
        given = {
            name: PARAMETERS[each["Ref"]]["Default"]
            for name, each in variables.items()
            if isinstance(each, dict) and "Default" in PARAMETERS.get(each["Ref"], {})
        }
        physical = {"TABLE_NAME": "sessions", "QUEUE_URL": "https://sqs/sweeps"}
        own = {"TARGET_ACCOUNT_ID": "123456789012", "TARGET_REGION": "eu-west-1"}
        for every in PARAMETERS["SweepEvery"]["AllowedValues"]:
            settings = DispatcherSettings.from_environment(
                {**given, **physical, **own, "SWEEP_EVERY": str(every)}
            )
            assert settings.wanted.accounts == ("123456789012",)
        assert tuple(sorted(PARAMETERS["SweepEvery"]["AllowedValues"])) == SWEEP_EVERY
        assert [int(each) for each in AUDITOR["Mappings"]["Schedules"]] == list(SWEEP_EVERY)

    def test_the_patterns_are_those_of_the_code(self) -> None:
        each = f"({ACCOUNT}|{PARENT})"
        assert PARAMETERS["Targets"]["AllowedPattern"] == f"^({each}(, ?{each})*)?$"
        assert PARAMETERS["TargetRegions"]["AllowedPattern"] == f"^({REGION}(, ?{REGION})*)?$"
        assert PARAMETERS["ExcludedAccounts"]["AllowedPattern"] == f"^({ACCOUNT}(, ?{ACCOUNT})*)?$"

    def test_the_longest_settings_fit_what_lambda_takes(self) -> None:
        """4 KB in all, names included; names and ARNs that CloudFormation makes have 255 at most."""
        variables = FUNCTION["Environment"]["Variables"]
        given = [each["Ref"] for each in variables.values() if isinstance(each, dict)]
        longest = sum(AUDITOR["Parameters"].get(name, {}).get("MaxLength", 20) for name in given)
        assert len("".join(variables)) + longest + 3 * 255 <= 4096

    def test_its_minute_is_the_schedulers(self) -> None:
        (schedule,) = FUNCTION["Events"].values()
        properties = schedule["Properties"]
        assert (schedule["Type"], properties["ScheduleExpression"]) == ("ScheduleV2", "rate(1 minute)")
        assert properties["Input"] == '{"scheduledTime": "<aws.scheduler.scheduled-time>"}'
        assert properties["State"] == {"Ref": "Sweeps"}
        assert properties["RetryPolicy"] == {"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60}

    def test_messages_are_kept_no_longer_than_they_are_of_use(self) -> None:
        """They wait for up to a minute until they are due, and are void a minute later."""
        queue = RESOURCES["Due"]["Properties"]
        assert queue["MessageRetentionPeriod"] == 180 > 60 + VOID_AFTER.total_seconds()
        assert queue["SqsManagedSseEnabled"]
        # Lambda refuses a queue whose messages come again while the function may run.
        assert queue["VisibilityTimeout"] == {"Ref": "SweepTimeLimit"}
        assert AUDITOR["Resources"]["AuditorFunction"]["Properties"]["Timeout"] == {"Ref": "SweepTimeLimit"}

    def test_the_auditor_is_asked_through_the_queue(self) -> None:
        mapping = RESOURCES["SweepsDue"]
        assert mapping["DependsOn"] == "AuditorPolicy", "it is refused while the role may not receive"
        properties = mapping["Properties"]
        assert properties["FunctionName"] == {"Ref": "AuditorFunction"}
        assert properties["EventSourceArn"] == {"Fn::GetAtt": ["Due", "Arn"]}
        assert properties["ScalingConfig"] == {"MaximumConcurrency": 20}
        assert properties["FunctionResponseTypes"] == ["ReportBatchItemFailures"]

    def test_its_role_may_do_what_it_does_and_no_more(self) -> None:
        role = RESOURCES["DispatcherRole"]["Properties"]["Policies"]
        assert actions(role) == [
            "dynamodb:BatchGetItem",
            "dynamodb:PutItem",
            "dynamodb:Query",
            "logs:CreateLogStream",
            "logs:PutLogEvents",
            "organizations:ListAccountsForParent",
            "organizations:ListOrganizationalUnitsForParent",
            "sqs:SendMessage",
            "sts:AssumeRole",
        ]
        named = statements(role)
        assert [sid for sid, each in named.items() if each["Resource"] == "*"] == ["ListAccounts"]
        keys = {
            sid: each["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"]
            for sid, each in named.items()
            if "Condition" in each
        }
        assert keys == {"ReadTargets": ["TARGET#*"], "KeepAccounts": ["HUB#*"]}

    def test_the_auditor_may_do_more_only_with_it(self) -> None:
        policy = RESOURCES["AuditorPolicy"]["Properties"]
        assert policy["Roles"] == [{"Ref": "AuditorRole"}]
        assert actions(policy) == [
            "appstream:DescribeSessions",
            "appstream:ListAssociatedFleets",
            "sqs:DeleteMessage",
            "sqs:GetQueueAttributes",
            "sqs:ReceiveMessage",
            "sts:AssumeRole",
        ]
        assume = statements(policy)["ReadOtherAccounts"]
        assert assume["Resource"] == {"Fn::Sub": "arn:${AWS::Partition}:iam::*:role/${SpokeRole}"}
        conditional = [
            each["Fn::If"][0] for each in policy["PolicyDocument"]["Statement"] if "Fn::If" in each
        ]
        assert conditional == ["SweepOthers", "SweepOthers"]

    def test_one_alarm_says_that_targets_are_not_swept_or_that_nobody_asks(self) -> None:
        alarms = {name: each for name, each in RESOURCES.items() if each["Type"] == "AWS::CloudWatch::Alarm"}
        assert list(alarms) == ["TargetsOverdue"]
        alarm = alarms["TargetsOverdue"]["Properties"]
        assert alarm["TreatMissingData"] == "breaching"
        assert alarm["Period"] * alarm["EvaluationPeriods"] == 300
        assert alarm["ActionsEnabled"] == {"Fn::If": ["Sweep", True, False]}
        assert alarm["Dimensions"] == [{"Name": "service", "Value": {"Ref": "AuditorStack"}}]
        variables = FUNCTION["Environment"]["Variables"]
        assert variables["POWERTOOLS_SERVICE_NAME"] == {"Ref": "AuditorStack"}
        assert variables["POWERTOOLS_METRICS_NAMESPACE"] == alarm["Namespace"]
        code = (ROOT / "functions" / "dispatcher" / "dispatcher.py").read_text()
        assert f'name="{alarm["MetricName"]}"' in code

    @pytest.mark.parametrize("options", [[], ["--lint"]], ids=["validate", "validate --lint"])
    def test_sam_takes_it(self, options: list[str]) -> None:
        run(SAM, "validate", *options, "--template", ROOT / "functions" / "dispatcher" / "template.yaml")

    def test_everything_is_described(self) -> None:
        assert all(each["Description"].endswith(".") for each in PARAMETERS.values())
        assert all(each["Description"].endswith(".") for each in TEMPLATE["Outputs"].values())


class TestSpoke:
    """The role in an account that lets the hub read."""

    ROLE = SPOKE["Resources"]["Spoke"]["Properties"]

    def test_service_managed_stack_sets_take_it(self) -> None:
        """They take no transform; and a role is all there is, so that it can be deployed in any region."""
        assert "Transform" not in SPOKE
        assert {each["Type"] for each in SPOKE["Resources"].values()} == {"AWS::IAM::Role"}

    def test_it_reads_what_the_auditor_reads_and_nothing_else(self) -> None:
        assert actions(self.ROLE["Policies"]) == [
            "appstream:DescribeFleets",
            "appstream:DescribeSessions",
            "appstream:DescribeStacks",
            "appstream:ListAssociatedFleets",
            "tag:GetResources",
        ]
        auditors = actions(AUDITOR["Resources"]["AuditorRole"]["Properties"]["Policies"])
        assert set(actions(self.ROLE["Policies"])) >= {
            each for each in auditors if each.startswith("appstream:")
        }
        everywhere = [as_list(each["Action"]) for each in parts(self.ROLE) if self.is_everywhere(each)]
        assert everywhere == [["appstream:DescribeFleets", "appstream:DescribeStacks", "tag:GetResources"]]

    @staticmethod
    def is_everywhere(value: Any) -> bool:
        return isinstance(value, dict) and value.get("Resource") == "*"

    def test_it_trusts_the_auditors_role_by_its_name_alone(self) -> None:
        (trust,) = self.ROLE["AssumeRolePolicyDocument"]["Statement"]
        # A role's own ARN would be kept as its id, which another deployment of the hub does not have.
        assert trust["Principal"] == {"AWS": {"Fn::Sub": "arn:${AWS::Partition}:iam::${HubAccount}:root"}}
        assert trust["Condition"]["ArnLike"] == {
            "aws:PrincipalArn": {"Fn::Sub": "arn:${AWS::Partition}:iam::${HubAccount}:role/${HubRole}"}
        }
        asked = trust["Condition"]["StringEquals"]["Fn::If"]
        assert asked == [
            "AskForExternalId",
            {"sts:ExternalId": {"Ref": "ExternalId"}},
            {"Ref": "AWS::NoValue"},
        ]

    def test_the_hub_and_its_spokes_have_the_same_defaults(self) -> None:
        name = SPOKE["Parameters"]["SpokeRole"]["Default"]
        assert name == AUDITOR["Parameters"]["SpokeRole"]["Default"] == PARAMETERS["SpokeRole"]["Default"]
        assert name == AuditorSettings.model_fields["spoke_role"].default
        assert SPOKE["Parameters"]["HubRole"]["Default"] == "appstream-session-auditor-AuditorRole-*"
        assert "AuditorRole" in AUDITOR["Resources"]
        assert AUDITOR["Outputs"]["AuditorRoleName"]["Value"] == {"Ref": "AuditorRole"}

    @pytest.mark.parametrize("name", ["hub", "*", "a" * 64])
    def test_names_of_roles(self, name: str) -> None:
        assert re.fullmatch(SPOKE["Parameters"]["HubRole"]["AllowedPattern"], name)

    @pytest.mark.parametrize("given", ["", "4fb1-a:b", "x" * 128])
    def test_what_a_spoke_asks_for_the_hub_can_say(self, given: str) -> None:
        assert re.fullmatch(SPOKE["Parameters"]["ExternalId"]["AllowedPattern"], given)
        asked = AUDITOR["Parameters"]["ExternalId"]
        assert re.fullmatch(asked["AllowedPattern"], given)
        assert len(given) <= asked["MaxLength"]

    def test_everything_is_described(self) -> None:
        assert all(each["Description"].endswith(".") for each in SPOKE["Parameters"].values())
