"""The board's template: its dashboard as CloudWatch reads it, its role, who may look, what it shares."""

import json
import re
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse

from sandbox.cloud import ROOT
from session_auditor.settings.board import BoardSettings

TEMPLATE: dict[str, Any] = yaml_parse((ROOT / "functions" / "board" / "template.yaml").read_text())
AUDITOR: dict[str, Any] = yaml_parse((ROOT / "template.yaml").read_text())
PARAMETERS, RESOURCES = TEMPLATE["Parameters"], TEMPLATE["Resources"]
ALARMS = [f"arn:aws:cloudwatch:eu-west-1:123456789012:alarm:auditor-{number}" for number in range(7)]
VALUES = {
    "AWS::Region": "eu-west-1",
    "BoardFunction.Arn": "arn:aws:lambda:eu-west-1:123456789012:function:board",
    "AuditorStack": "appstream-session-auditor",
}


@pytest.fixture(scope="module")
def body() -> dict[str, Any]:
    """The dashboard's body after substitution; the template has no conditions."""
    assert "Conditions" not in TEMPLATE
    text, values = RESOURCES["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    assert values == {"Alarms": {"Fn::Join": ['", "', {"Ref": "AlarmArns"}]}}
    known = VALUES | {"Alarms": '", "'.join(ALARMS)}
    filled = re.sub(r"\$\{([^}]+)\}", lambda name: known[name[1]], text)
    found: dict[str, Any] = json.loads(filled)
    return found


def test_its_widgets_are_what_cloudwatch_takes(body: dict[str, Any]) -> None:
    assert body.keys() == {"start", "widgets"}
    for widget in body["widgets"]:
        assert widget.keys() == {"type", "x", "y", "width", "height", "properties"}
        assert widget["x"] + widget["width"] <= 24
        assert 1 <= widget["height"] <= 1_000
    places = [
        (widget["x"] + column, widget["y"] + row)
        for widget in body["widgets"]
        for column in range(widget["width"])
        for row in range(widget["height"])
    ]
    assert len(places) == len(set(places)), "widgets lie on one another"
    assert len(json.dumps(body)) < 1_000_000


def test_the_custom_widget_calls_the_function(body: dict[str, Any]) -> None:
    (custom,) = [widget["properties"] for widget in body["widgets"] if widget["type"] == "custom"]
    assert custom["endpoint"] == VALUES["BoardFunction.Arn"]
    assert custom["updateOn"] == {"refresh": True, "resize": True, "timeRange": False}


def test_it_is_told_of_targets_as_the_auditor_is() -> None:
    for name in ("Targets", "TargetRegions", "ExcludedAccounts"):
        mine, its = PARAMETERS[name], AUDITOR["Parameters"][name]
        assert (mine["AllowedPattern"], mine["Default"]) == (its["AllowedPattern"], its["Default"])


def test_it_shows_every_alarm_of_the_audit(body: dict[str, Any]) -> None:
    (alarms,) = [widget["properties"] for widget in body["widgets"] if widget["type"] == "alarm"]
    assert alarms["alarms"] == ALARMS


def test_its_metrics_are_those_that_the_auditor_and_appstream_have(body: dict[str, Any]) -> None:
    drawn = [
        each
        for widget in body["widgets"]
        if widget["type"] == "metric"
        for each in widget["properties"]["metrics"]
    ]
    assert all(widget["properties"].get("region") for widget in body["widgets"] if widget["type"] == "metric")
    searched = [
        re.findall(r'\{AWS/AppStream,Fleet\} MetricName="(\w+)"', each[0].get("expression", ""))
        for each in drawn
        if isinstance(each[0], dict)
    ]
    # AppStream, fleet usage metrics of single-session and of multi-session fleets.
    assert [name for (name,) in searched] == [
        "InUseCapacity",
        "ActualCapacity",
        "ActiveUserSessionCapacity",
        "ActualUserSessionCapacity",
        "InsufficientCapacityError",
    ]
    emitted = set(
        re.findall(
            r'^        \("(\w+)", MetricUnit',
            (ROOT / "functions/auditor/auditor.py").read_text(),
            re.MULTILINE,
        )
    )
    own = [each for each in drawn if each[0] == "AppStreamSessionAuditor"]
    assert {each[1] for each in own} <= emitted
    assert all(each[2:4] == ["service", "appstream-session-auditor"] for each in own)


def test_its_role_reads_the_table_and_writes_its_log_and_nothing_else() -> None:
    (policy,) = RESOURCES["BoardRole"]["Properties"]["Policies"]
    allowed = {each["Sid"]: each["Action"] for each in policy["PolicyDocument"]["Statement"]}
    assert allowed == {
        "ReadTable": "dynamodb:Query",
        "WriteLogs": ["logs:CreateLogStream", "logs:PutLogEvents"],
    }
    assert all("*" not in json.dumps(each["Resource"]) for each in policy["PolicyDocument"]["Statement"])
    assert "ManagedPolicyArns" not in RESOURCES["BoardRole"]["Properties"]


def test_a_viewer_may_call_the_function_and_open_the_dashboard() -> None:
    statements = RESOURCES["ViewerPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    allowed = {each["Sid"]: (each["Action"], each["Resource"]) for each in statements}
    assert allowed["CallTheWidget"] == ("lambda:InvokeFunction", {"Fn::GetAtt": ["BoardFunction", "Arn"]})
    assert allowed["OpenTheDashboard"][0] == "cloudwatch:GetDashboard"
    assert set(allowed["DrawMetricsAndAlarms"][0]) == {
        "cloudwatch:DescribeAlarms",
        "cloudwatch:GetMetricData",
        "cloudwatch:ListDashboards",
        "cloudwatch:ListMetrics",
    }
    assert TEMPLATE["Outputs"]["ViewerPolicyArn"]["Value"] == {"Ref": "ViewerPolicy"}


def test_the_function_takes_what_the_template_gives() -> None:
    variables = RESOURCES["BoardFunction"]["Properties"]["Environment"]["Variables"]
    names = {name.upper() for name in BoardSettings.model_fields}
    assert {name for name in variables if not name.startswith("POWERTOOLS_")} == names
    given = {"TABLE_NAME": "sessions", "TARGET_ACCOUNT_ID": "123456789012", "TARGET_REGION": "eu-west-1"}
    for every in PARAMETERS["SweepEvery"]["AllowedValues"]:
        limit = str(PARAMETERS["SweepTimeLimit"]["MaxValue"])
        BoardSettings.from_environment(given | {"SWEEP_EVERY": str(every), "SWEEP_TIME_LIMIT": limit})


@pytest.mark.parametrize("name", ["SweepEvery", "SweepTimeLimit", "LogRetentionDays", "LogLevel"])
def test_what_the_auditor_has_too_has_the_same_bounds(name: str) -> None:
    both = [
        {key: each for key, each in made["Parameters"][name].items() if key != "Description"}
        for made in (TEMPLATE, AUDITOR)
    ]
    assert both[0] == both[1]


@pytest.mark.parametrize(("parameter", "resource"), [("TableName", "TableName"), ("AlarmArns", "AlarmArns")])
def test_it_finds_the_auditors_parts_by_the_names_that_the_auditor_writes(
    parameter: str, resource: str
) -> None:
    written = AUDITOR["Resources"][resource]["Properties"]["Name"]["Fn::Sub"]
    assert PARAMETERS[parameter]["Default"] == written.replace(
        "${AWS::StackName}", "appstream-session-auditor"
    )


def test_every_parameter_is_described_and_in_a_group() -> None:
    groups = TEMPLATE["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    assert [name for group in groups for name in group["Parameters"]] == list(PARAMETERS)
    assert all(each["Description"] for each in (*PARAMETERS.values(), *TEMPLATE["Outputs"].values()))
