"""Every consumer keeps the contract: only published fields, a way out for what cannot be delivered, a README.

Templates are found by themselves: the auditor's own, and every one in examples/consumers.
"""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cfnlint.helpers import REGIONS
from cfnlint.schema import PROVIDER_SCHEMA_MANAGER
from samtranslator.yaml_helper import yaml_parse

from session_auditor.contract import SOURCE
from session_auditor.model import DetailType
from tests.shared.sam import SAM, run
from tests.shared.templates import refused_by

ROOT = Path(__file__).parents[2]
CONSUMERS = sorted((ROOT / "examples" / "consumers").glob("*/template.yaml"))
NOTIFIER = ROOT / "functions" / "notifier" / "template.yaml"
TEMPLATES = [ROOT / "template.yaml", NOTIFIER, *CONSUMERS]
SCHEMAS = {
    detail_type.value: json.loads(
        (ROOT / "docs" / "schemas" / f"{detail_type.value.replace(' ', '-')}.json").read_text()
    )
    for detail_type in DetailType
}
# What EventBridge itself puts around the detail.
ENVELOPE = {"version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail"}
RULE_EVENTS = ("EventBridgeRule", "CloudWatchEvent")


def name_of(template: Path) -> str:
    return "auditor" if template.parent == ROOT else template.parent.name


each_template = pytest.mark.parametrize("template", TEMPLATES, ids=name_of)
each_readme = pytest.mark.parametrize(
    "readme", sorted((ROOT / "examples" / "consumers").glob("*/README.md")), ids=lambda path: path.parent.name
)
each_consumer = pytest.mark.parametrize("template", CONSUMERS, ids=name_of)


# EventBridge's guide has API destinations there, cfn-lint's copy of CloudFormation's registry has none.
DOUBTFUL = {"ap-southeast-5", "ca-west-1", "il-central-1"}


class Rule(NamedTuple):
    """A rule on the bus: what it matches, and where it sends that."""

    name: str
    pattern: Mapping[str, Any]
    targets: list[Mapping[str, Any]]


@cache
def read(template: Path) -> dict[str, Any]:
    parsed: dict[str, Any] = yaml_parse(template.read_text())
    return parsed


def branches(value: Any) -> list[Any]:
    """What a value can be: either side of an Fn::If, however deep; nothing for AWS::NoValue."""
    if isinstance(value, dict):
        if value == {"Ref": "AWS::NoValue"}:
            return []
        if "Fn::If" in value:
            return [each for side in value["Fn::If"][1:] for each in branches(side)]
    return [value]


def rules(template: Path) -> Iterator[Rule]:
    for name, resource in read(template)["Resources"].items():
        properties = resource.get("Properties", {})
        if resource["Type"] == "AWS::Events::Rule" and "EventPattern" in properties:
            targets = [each for target in properties["Targets"] for each in branches(target)]
            for pattern in branches(properties["EventPattern"]):
                yield Rule(name, pattern, targets)
        if resource["Type"].startswith("AWS::Serverless::"):
            for event in properties.get("Events", {}).values():
                if event["Type"] in RULE_EVENTS:
                    yield Rule(name, event["Properties"]["Pattern"], [event["Properties"]])


RULES = [
    pytest.param(rule, id=f"{name_of(template)} {rule.name}")
    for template in TEMPLATES
    for rule in rules(template)
]


def alternatives(pattern: Any, path: tuple[str, ...] = ()) -> list[frozenset[tuple[str, ...]]]:
    """The fields that a pattern looks at; several sets of them where it holds an $or."""
    if not isinstance(pattern, dict) or pattern.keys() & {"Fn::If", "Ref", "Fn::Split"}:
        return [frozenset([path])]
    found: list[frozenset[tuple[str, ...]]] = [frozenset()]
    for key, value in pattern.items():
        inner = (
            [fields for each in value for fields in alternatives(each, path)]
            if key == "$or"
            else alternatives(value, (*path, key))
        )
        found = [left | right for left in found for right in inner]
    return found


def has(detail_type: str, path: tuple[str, ...]) -> bool:
    """Whether an event of the detail-type has the field."""
    if path[0] != "detail":
        return path[0] in ENVELOPE
    schema = part = SCHEMAS[detail_type]
    for name in path[1:]:
        if "$ref" in part:
            part = schema["$defs"][part["$ref"].rsplit("/", 1)[-1]]
        # Of tags there is a field for each name in TagKeys.
        part = part.get("properties", {}).get(name) or part.get("additionalProperties") or {}
        if not part:
            return False
    return True


def matching(rule: Rule) -> set[str]:
    """The detail-types that a rule can match. Whatever a pattern looks at, an event has to have."""
    named = rule.pattern.get("detail-type")
    # A parameter or an operator may stand for any.
    plain = isinstance(named, list) and all(isinstance(each, str) for each in named)
    possible = set(named) if named and plain else set(SCHEMAS)
    matched = set()
    for fields in alternatives(rule.pattern):
        having = {each for each in possible if all(has(each, field) for field in fields)}
        assert having, f"no event has all of {sorted('.'.join(field) for field in fields)}"
        matched |= having
    assert not plain or matched == possible, f"never matched: {possible - matched}"
    return matched


@pytest.mark.parametrize("rule", RULES)
class TestRules:
    """What a rule of a consumer relies on."""

    def test_it_listens_to_the_auditor(self, rule: Rule) -> None:
        assert rule.pattern["source"] == [SOURCE]
        assert matching(rule) <= SCHEMAS.keys()

    def test_it_uses_fields_that_all_its_events_have(self, rule: Rule) -> None:
        matched = matching(rule)
        for target in rule.targets:
            for path in target.get("InputTransformer", {}).get("InputPathsMap", {}).values():
                field = tuple(path.removeprefix("$.").split("."))
                assert all(has(each, field) for each in matched), path

    def test_its_transformers_use_what_they_take(self, rule: Rule) -> None:
        for target in rule.targets:
            transformer = target.get("InputTransformer")
            if transformer:
                placeholders = set(re.findall(r"<([^<>]+)>", transformer["InputTemplate"]))
                assert placeholders == set(transformer["InputPathsMap"])

    def test_what_users_say_stands_by_itself(self, rule: Rule) -> None:
        """EventBridge escapes nothing inside a string; a user id may hold a quote, the summary may not."""
        for target in rule.targets:
            transformer = target.get("InputTransformer")
            if transformer:
                untrusted = {
                    name
                    for name, path in transformer["InputPathsMap"].items()
                    if path == "$.detail.data.session.userId"
                }
                strings = re.findall(r'"(?:[^"\\]|\\.)*"', transformer["InputTemplate"])
                assert not [each for each in strings for name in untrusted if f"<{name}>" in each]

    def test_what_it_cannot_deliver_is_kept(self, rule: Rule) -> None:
        assert rule.targets
        assert all("DeadLetterConfig" in target for target in rule.targets)


class TestTemplates:
    """What an administrator meets."""

    @each_template
    def test_every_dead_letter_queue_has_an_alarm(self, template: Path) -> None:
        resources = read(template)["Resources"]
        watched = {
            dimension["Value"]["Fn::GetAtt"][0]
            for each in resources.values()
            if each["Type"] == "AWS::CloudWatch::Alarm"
            for dimension in each["Properties"].get("Dimensions", [])
            if dimension["Name"] == "QueueName"
        }
        assert dead_letter_queues(resources) <= watched
        assert dead_letter_queues(resources)

    @each_template
    def test_an_alarm_on_a_queue_speaks_of_each_message(self, template: Path) -> None:
        """What a redrive moves is not counted as sent.

        Either an alarm speaks of the function that failed until then, or that on the queue stays on and says
        what to do.
        """
        resources = read(template)["Resources"]
        redriven = {
            queue
            for each in resources.values()
            for queue in re.findall(r"\w+", json.dumps(each.get("Properties", {}).get("RedrivePolicy", "")))
        }
        for alarm in resources.values():
            properties = alarm.get("Properties", {})
            if alarm["Type"] == "AWS::CloudWatch::Alarm" and properties["Namespace"] == "AWS/SQS":
                (dimension,) = properties["Dimensions"]
                queue = dimension["Value"]["Fn::GetAtt"][0]
                watched = properties["MetricName"], properties["Statistic"]
                if queue not in dead_letter_queues(resources):
                    # What only passes through speaks when it does not.
                    assert watched == ("ApproximateAgeOfOldestMessage", "Maximum")
                elif queue in redriven and not any(
                    each.get("Properties", {}).get("Namespace") == "AWS/Lambda" for each in resources.values()
                ):
                    assert watched == ("ApproximateNumberOfMessagesVisible", "Maximum")
                    assert "purge" in properties["AlarmDescription"]
                else:
                    assert watched == ("NumberOfMessagesSent", "Sum")

    @each_template
    def test_what_is_retained_is_not_left_by_a_first_deployment_that_fails(self, template: Path) -> None:
        for name, resource in read(template)["Resources"].items():
            assert resource.get("DeletionPolicy") in (None, "Delete", "RetainExceptOnCreate"), name

    @pytest.mark.parametrize(
        "template",
        [template for template in TEMPLATES if "AWS::Events::ApiDestination" in template.read_text()],
        ids=name_of,
    )
    def test_where_there_are_no_api_destinations_a_rule_says_so(self, template: Path) -> None:
        parsed = read(template)
        defaults = {name: str(each.get("Default", "x")) for name, each in parsed["Parameters"].items()}
        for region in set(REGIONS) - DOUBTFUL:
            types = set(PROVIDER_SCHEMA_MANAGER.get_resource_types(region))
            refused = refused_by(parsed["Rules"], defaults | {"AWS::Region": region})
            assert bool(refused) is not ({"AWS::Events::ApiDestination", "AWS::Events::Connection"} <= types)
        # Regions come that nobody knows yet.
        assert not refused_by(parsed["Rules"], defaults | {"AWS::Region": "eusc-de-east-2"})

    @each_template
    def test_no_secret_is_a_parameter(self, template: Path) -> None:
        """`sam deploy --guided` asks for one without its default, again and again."""
        assert not [name for name, each in read(template)["Parameters"].items() if each.get("NoEcho")]

    @each_template
    @pytest.mark.parametrize("partition", ["aws", "aws-cn", "aws-us-gov", "aws-iso-b", "aws-eusc"])
    def test_an_arn_of_any_partition_is_taken(self, template: Path, partition: str) -> None:
        arns = {
            "AlarmTopicArn": f"arn:{partition}:sns:eusc-de-east-1:123456789012:ops",
            "ForwardBusArn": f"arn:{partition}:events:eusc-de-east-1:123456789012:event-bus/sessions",
            "SecretArn": f"arn:{partition}:secretsmanager:eusc-de-east-1:123456789012:secret:jira-a1B2c3",
        }
        for name, parameter in read(template)["Parameters"].items():
            if name.endswith("Arn"):
                assert re.fullmatch(parameter["AllowedPattern"], arns[name])

    @each_template
    def test_every_parameter_is_described(self, template: Path) -> None:
        for name, parameter in read(template).get("Parameters", {}).items():
            assert parameter.get("Description"), name

    @each_consumer
    def test_it_has_a_readme(self, template: Path) -> None:
        assert (template.parent / "README.md").read_text().startswith("# ")

    @each_consumer
    def test_it_finds_the_bus_by_the_auditors_parameter(self, template: Path) -> None:
        parameter = read(template)["Parameters"]["BusName"]
        assert parameter["Type"] == "AWS::SSM::Parameter::Value<String>"
        name = read(ROOT / "template.yaml")["Resources"]["BusName"]["Properties"]["Name"]["Fn::Sub"]
        stack = next(iter(tomllib.loads((ROOT / "samconfig.toml").read_text())["default"]["global"].values()))
        assert parameter["Default"] == name.replace("${AWS::StackName}", stack["stack_name"])

    @each_readme
    def test_a_readme_names_no_other_parameter(self, readme: Path) -> None:
        named = re.findall(r"[`\s](/[^`]*?bus-name)", readme.read_text())
        own = re.compile(r"/appstream-session-auditor/[^/]+/bus-name")
        assert all(own.fullmatch(each) for each in named), named

    # What `validate --lint` finds, cfn-lint has found by then: `make lint` comes first.
    @pytest.mark.parametrize("template", [NOTIFIER, *CONSUMERS], ids=name_of)
    def test_sam_takes_it(self, template: Path) -> None:
        run(SAM, "validate", "--template", template)

    # What has a function is built by tests/consumers, which looks at the package as well.
    @pytest.mark.parametrize(
        "template",
        [NOTIFIER, *(each for each in CONSUMERS if "Function:" not in each.read_text())],
        ids=name_of,
    )
    def test_sam_builds_it(self, template: Path, tmp_path: Path) -> None:
        run(SAM, "build", "--template", template, "--build-dir", tmp_path, "--cache-dir", tmp_path / "cache")


def dead_letter_queues(resources: Mapping[str, Any]) -> set[str]:
    """The logical ids of queues that receive what others could not: by redrive, target or destination."""

    def named(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            for key, each in value.items():
                if key in ("DeadLetterConfig", "OnFailure", "RedrivePolicy", "DeadLetterQueue"):
                    yield from re.findall(r"\w+", json.dumps(each))
                else:
                    yield from named(each)
        elif isinstance(value, list):
            for each in value:
                yield from named(each)

    queues = {name for name, each in resources.items() if each["Type"] == "AWS::SQS::Queue"}
    return queues & set(named(resources))
