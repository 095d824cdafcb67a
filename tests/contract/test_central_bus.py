"""The central bus takes what the organization's auditors forward, and nothing else."""

from typing import Any

from samtranslator.yaml_helper import yaml_parse

from sandbox.cloud import ROOT
from session_auditor.contract import SOURCE
from tests.shared.templates import parts

FOLDER = ROOT / "examples" / "consumers" / "central-bus"
FORWARDER: dict[str, Any] = yaml_parse((FOLDER / "template.yaml").read_text())
BUS: dict[str, Any] = yaml_parse((FOLDER / "bus.yaml").read_text())


def test_every_event_is_forwarded_as_it_is() -> None:
    rule = FORWARDER["Resources"]["Forward"]["Properties"]
    assert rule["EventPattern"] == {"source": [SOURCE]}
    (target,) = rule["Targets"]
    assert target["Arn"] == {"Ref": "ForwardBusArn"}
    assert not {"Input", "InputPath", "InputTransformer"} & target.keys()


def test_its_role_may_put_events_on_that_bus_alone() -> None:
    (policy,) = FORWARDER["Resources"]["ForwardRole"]["Properties"]["Policies"]
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert (statement["Action"], statement["Resource"]) == ("events:PutEvents", {"Ref": "ForwardBusArn"})


def test_the_bus_takes_the_auditors_source_from_the_organization() -> None:
    policy = BUS["Resources"]["OnlyTheOrganization"]["Properties"]["Statement"]
    assert (policy["Effect"], policy["Action"]) == ("Allow", "events:PutEvents")
    assert policy["Condition"] == {
        "StringEquals": {"aws:PrincipalOrgID": {"Ref": "OrganizationId"}, "events:source": SOURCE}
    }


def test_an_auditors_bus_takes_no_others_events() -> None:
    """So the central bus is one of its own: the auditor's denies everybody but its function's role."""
    auditor = yaml_parse((ROOT / "template.yaml").read_text())["Resources"]["OnlyTheAuditor"]["Properties"]
    assert auditor["Statement"]["Effect"] == "Deny"


def test_service_managed_stack_sets_take_both() -> None:
    """They take neither transforms nor nested stacks."""
    for template in (FORWARDER, BUS):
        assert "Transform" not in template
        assert "AWS::CloudFormation::Stack" not in list(parts(template))
