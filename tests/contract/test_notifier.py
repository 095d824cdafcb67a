"""The notifier's template and its function agree: levels and detail-types, settings, times, permissions."""

import re
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse

from sandbox.cloud import ROOT
from session_auditor.errors import SettingsError
from session_auditor.model import DetailType
from session_auditor.settings.notifier import TOPICS, Channel, NotifierSettings

TEMPLATE: dict[str, Any] = yaml_parse((ROOT / "functions" / "notifier" / "template.yaml").read_text())
PARAMETERS, RESOURCES = TEMPLATE["Parameters"], TEMPLATE["Resources"]
FUNCTION = RESOURCES["NotifierFunction"]["Properties"]
QUEUES = [name for name, each in RESOURCES.items() if each["Type"] == "AWS::SQS::Queue"]


@pytest.mark.parametrize("notices", ["quiet", "normal", "everything", *DetailType, ",".join(DetailType)])
def test_it_takes_every_level_and_detail_type(notices: str) -> None:
    assert re.fullmatch(PARAMETERS["Notices"]["AllowedPattern"], notices)


@pytest.mark.parametrize(
    "notices",
    ["", "loud", "Session Ended", "AppStream Session Expired", "AppStream Session Ended,", "normal,quiet"],
)
def test_it_takes_nothing_else(notices: str) -> None:
    assert not re.fullmatch(PARAMETERS["Notices"]["AllowedPattern"], notices)


def variables(channel: Channel, webhook: str) -> dict[str, str]:
    """The function's environment, with the parameters' defaults."""
    given = {name: str(each.get("Default", "")) for name, each in PARAMETERS.items()}
    given |= {"Channel": channel.value, "Webhook": webhook}
    resolved = {}
    for name, value in FUNCTION["Environment"]["Variables"].items():
        chosen = value
        if isinstance(value, dict) and "Fn::If" in value:
            condition, yes, no = value["Fn::If"]
            assert condition == "TellTopic"
            chosen = yes if channel in TOPICS else no
        reference = chosen["Ref"] if isinstance(chosen, dict) else ""
        resolved[name] = given.get(reference, f"physical {reference}") if reference else str(chosen)
    return resolved


@pytest.mark.parametrize("channel", Channel)
def test_the_function_takes_what_the_template_gives(channel: Channel) -> None:
    webhook = "" if channel in TOPICS else "/notices/webhook"
    settings = NotifierSettings.from_environment(variables(channel, webhook))
    assert settings.channel is channel
    assert settings.wants("any", "fleet", ["any=tag"])
    assert settings.wants("any", "fleet", [])


@pytest.mark.parametrize("channel", [each for each in Channel if each not in TOPICS])
def test_without_a_webhook_the_error_names_the_variable(channel: Channel) -> None:
    with pytest.raises(SettingsError, match="WEBHOOK should be the name"):
        NotifierSettings.from_environment(variables(channel, ""))


def test_every_channel_is_to_be_had() -> None:
    assert PARAMETERS["Channel"]["AllowedValues"] == [each.value for each in Channel]


def test_a_message_stays_hidden_while_it_is_processed() -> None:
    """Six times the function's time limit and the window (Lambda, using Lambda with Amazon SQS)."""
    longest = max(PARAMETERS["DigestSeconds"]["AllowedValues"])
    assert RESOURCES["Waiting"]["Properties"]["VisibilityTimeout"] >= 6 * FUNCTION["Timeout"] + longest


def test_events_wait_for_a_day_and_dead_letters_stay_for_fourteen() -> None:
    days = {name: RESOURCES[name]["Properties"]["MessageRetentionPeriod"] / 86_400 for name in QUEUES}
    assert days == {"Waiting": 1, "Undelivered": 14}


def test_more_than_ten_at_once_have_a_window() -> None:
    properties = FUNCTION["Events"]["Waiting"]["Properties"]
    assert properties["BatchSize"] == {"Fn::If": ["AtOnce", 10, 1000]}
    assert properties["MaximumBatchingWindowInSeconds"] == {"Ref": "DigestSeconds"}
    assert {each for each in PARAMETERS["DigestSeconds"]["AllowedValues"] if each < 1} == {0}


def test_no_parameter_is_a_secret() -> None:
    assert not any(each.get("NoEcho") for each in PARAMETERS.values())


def test_its_role_may_do_what_it_does_and_no_more() -> None:
    policies = RESOURCES["NotifierRole"]["Properties"]["Policies"]
    always = policies[0]
    (condition, accounts, nothing), (_, publish, read) = (each["Fn::If"] for each in policies[1:])
    assert (condition, nothing) == ("NameAccounts", {"Ref": "AWS::NoValue"})
    actions = [
        action
        for policy in (always, accounts, publish, read)
        for statement in policy["PolicyDocument"]["Statement"]
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    ]
    assert sorted(actions) == [
        "dynamodb:Query",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
        "secretsmanager:GetSecretValue",
        "sns:Publish",
        "sqs:ChangeMessageVisibility",
        "sqs:DeleteMessage",
        "sqs:GetQueueAttributes",
        "sqs:ReceiveMessage",
        "sqs:SendMessage",
        "ssm:GetParameter",
    ]
    resources = [
        statement["Resource"]
        for policy in (always, accounts, publish, read)
        for statement in policy["PolicyDocument"]["Statement"]
    ]
    assert "*" not in resources
    # Names of accounts, and nothing of a session.
    (query,) = accounts["PolicyDocument"]["Statement"]
    assert query["Condition"] == {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["HUB#*"]}}
