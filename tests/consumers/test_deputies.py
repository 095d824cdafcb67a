"""No service acts for somebody else's account: roles and queues of the consumers name whom they serve."""

from pathlib import Path
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse

ROOT = Path(__file__).parents[2]
# A function gets its role from whoever may pass it (iam:PassRole), which is nobody of another account.
EXEMPT = {"lambda.amazonaws.com"}


def resources(consumer: str, kind: str) -> dict[str, dict[str, Any]]:
    template = yaml_parse((ROOT / "examples" / "consumers" / consumer / "template.yaml").read_text())
    return {name: each["Properties"] for name, each in template["Resources"].items() if each["Type"] == kind}


@pytest.mark.parametrize("consumer", ["jira", "servicenow", "pagerduty", "user-mail"])
class TestDeputies:
    """What a service may do for this account, it may do for this account alone."""

    def test_a_role_is_for_this_account(self, consumer: str) -> None:
        for name, role in resources(consumer, "AWS::IAM::Role").items():
            for statement in role["AssumeRolePolicyDocument"]["Statement"]:
                if statement["Principal"]["Service"] not in EXEMPT:
                    own = {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
                    assert statement.get("Condition") == own, name

    def test_a_queue_takes_what_rules_of_this_stack_send(self, consumer: str) -> None:
        rules = resources(consumer, "AWS::Events::Rule")
        policies = resources(consumer, "AWS::SQS::QueuePolicy")
        assert policies
        for name, policy in policies.items():
            for statement in policy["PolicyDocument"]["Statement"]:
                sources = statement["Condition"]["ArnEquals"]["aws:SourceArn"]
                named = [each["Fn::GetAtt"] for each in (sources if isinstance(sources, list) else [sources])]
                assert sorted(each[0] for each in named) == sorted(rules), name
