"""The audit log's template: the table is what the schemas say, the log is kept, and who may do what."""

import json
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse
from sqlglot import exp, parse_one

from sandbox.cloud import ROOT
from session_auditor.model import DetailType

TEMPLATE: dict[str, Any] = yaml_parse((ROOT / "examples/consumers/audit-log/template.yaml").read_text())
RESOURCES: dict[str, Any] = TEMPLATE["Resources"]
TABLE: dict[str, Any] = RESOURCES["EventsTable"]["Properties"]["TableInput"]
DESTINATION: dict[str, Any] = RESOURCES["LogStream"]["Properties"]["ExtendedS3DestinationConfiguration"]
QUERIES = [each["Properties"] for each in RESOURCES.values() if each["Type"] == "AWS::Athena::NamedQuery"]
TYPES = {"string": "string", "integer": "bigint", "boolean": "boolean"}


def published(detail_type: DetailType) -> dict[str, Any]:
    """Return the columns that a detail-type's schema asks for: a type by name, in lower case, or a struct."""
    name = detail_type.value.replace(" ", "-")
    schema = json.loads((ROOT / "docs" / "schemas" / f"{name}.json").read_text())

    def columns(part: dict[str, Any]) -> Any:
        if "$ref" in part:
            part = schema["$defs"][part["$ref"].rsplit("/", 1)[1]]
        if part["type"] != "object":
            return TYPES[part["type"]]
        if "properties" not in part:
            return f"map<string,{TYPES[part['additionalProperties']['type']]}>"
        return {name.lower(): columns(each) for name, each in part["properties"].items()}

    found: dict[str, Any] = columns(schema)
    return found


def merged(one: Any, other: Any) -> Any:
    """Join two structs; what both have has to be the same."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        assert one == other
        return one
    return one | {name: merged(one[name], each) if name in one else each for name, each in other.items()}


def struct(kind: exp.DataType) -> Any:
    """Read a type of Hive's."""
    if not kind.expressions or kind.is_type("map"):
        return kind.sql("hive").lower().replace(" ", "")
    return {each.name: struct(each.args["kind"]) for each in kind.expressions}


def divisions(query: str) -> list[exp.Div]:
    return list(parse_one(query, read="athena").find_all(exp.Div))


class TestTable:
    """What Athena reads is what the auditor writes."""

    (detail,) = (each["Type"] for each in TABLE["StorageDescriptor"]["Columns"] if each["Name"] == "detail")

    def test_detail_is_every_published_field_and_no_other(self) -> None:
        wanted: dict[str, Any] = {}
        for detail_type in DetailType:
            wanted = merged(wanted, published(detail_type))
        assert struct(exp.DataType.build(self.detail, dialect="hive")) == wanted

    def test_types_are_as_hive_writes_them(self) -> None:
        assert self.detail == self.detail.lower()
        assert not set(self.detail) & set(" \n\t")

    def test_the_rest_is_the_envelope(self) -> None:
        columns = {each["Name"]: each["Type"] for each in TABLE["StorageDescriptor"]["Columns"]}
        del columns["detail"]
        assert columns == {
            **dict.fromkeys(
                ["version", "id", "detail_type", "source", "account", "time", "region"], "string"
            ),
            "resources": "array<string>",
        }
        assert TABLE["StorageDescriptor"]["SerdeInfo"]["Parameters"] == {"mapping.detail_type": "detail-type"}

    def test_days_are_where_firehose_puts_them(self) -> None:
        prefix = DESTINATION["Prefix"]
        assert prefix == "events/day=!{partitionKeyFromQuery:day}/"
        location = TABLE["Parameters"]["storage.location.template"]["Fn::Sub"]
        assert location.replace("${!day}", "!{partitionKeyFromQuery:day}") == f"s3://${{LogBucket}}/{prefix}"
        assert [key["Name"] for key in TABLE["PartitionKeys"]] == ["day"]
        assert TABLE["Parameters"]["projection.day.range"] == {"Fn::Sub": "NOW-${RetentionDays}DAYS,NOW"}


class TestLog:
    """What is written, how it is kept, and when it goes."""

    def test_it_is_compressed_a_line_an_event(self) -> None:
        assert DESTINATION["CompressionFormat"] == "GZIP"
        processors = [each["Type"] for each in DESTINATION["ProcessingConfiguration"]["Processors"]]
        assert processors == ["MetadataExtraction", "AppendDelimiterToRecord"]

    def test_it_outlives_the_stack(self) -> None:
        bucket = RESOURCES["LogBucket"]
        assert (bucket["DeletionPolicy"], bucket["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")

    def test_it_is_private_and_encrypted(self) -> None:
        bucket = RESOURCES["LogBucket"]["Properties"]
        assert list(bucket["PublicAccessBlockConfiguration"].values()) == [True] * 4
        (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert rule["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
        (statement,) = RESOURCES["LogBucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
        assert (statement["Effect"], statement["Action"]) == ("Deny", "s3:*")
        assert RESOURCES["LogStream"]["Properties"]["DeliveryStreamEncryptionConfigurationInput"]
        assert RESOURCES["UndeliveredEvents"]["Properties"]["SqsManagedSseEnabled"] is True

    def test_nothing_that_holds_user_ids_stays_for_ever(self) -> None:
        rules = RESOURCES["LogBucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
        expire = {rule["Prefix"]: rule["ExpirationInDays"] for rule in rules if "Prefix" in rule}
        retention = {"Ref": "RetentionDays"}
        assert expire == {"events/": retention, "errors/": retention, "results/": 7}
        written = {DESTINATION[key].split("/")[0] + "/" for key in ("Prefix", "ErrorOutputPrefix")}
        results = RESOURCES["AuditWorkGroup"]["Properties"]["WorkGroupConfiguration"]
        assert results["EnforceWorkGroupConfiguration"] is True
        location = results["ResultConfiguration"]["OutputLocation"]["Fn::Sub"]
        assert written | {location.removeprefix("s3://${LogBucket}/")} == expire.keys()


class TestPermissions:
    """Least privilege, and a place for what could not be delivered."""

    @pytest.mark.parametrize(
        ("role", "wanted"),
        [
            ("DeliverEventsRole", ["firehose:PutRecord", "firehose:PutRecordBatch"]),
            (
                "WriteLogRole",
                [
                    "logs:PutLogEvents",
                    "s3:AbortMultipartUpload",
                    "s3:GetBucketLocation",
                    "s3:GetObject",
                    "s3:ListBucket",
                    "s3:ListBucketMultipartUploads",
                    "s3:PutObject",
                ],
            ),
        ],
    )
    def test_a_role_may_do_what_it_does_and_nothing_more(self, role: str, wanted: list[str]) -> None:
        (policy,) = RESOURCES[role]["Properties"]["Policies"]
        statements = policy["PolicyDocument"]["Statement"]
        actions = [each["Action"] for each in statements]
        assert (
            sorted(action for each in actions for action in (each if isinstance(each, list) else [each]))
            == wanted
        )
        assert all(each["Resource"] != "*" for each in statements)

    def test_only_the_rule_writes_dead_letters_and_an_alarm_tells(self) -> None:
        (target,) = RESOURCES["EveryEvent"]["Properties"]["Targets"]
        assert target["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": ["UndeliveredEvents", "Arn"]}}
        (statement,) = RESOURCES["UndeliveredEventsPolicy"]["Properties"]["PolicyDocument"]["Statement"]
        assert statement["Condition"] == {
            "ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": ["EveryEvent", "Arn"]}}
        }
        alarm = RESOURCES["UndeliveredEvent"]["Properties"]
        assert alarm["Dimensions"] == [
            {"Name": "QueueName", "Value": {"Fn::GetAtt": ["UndeliveredEvents", "QueueName"]}}
        ]


class TestQueries:
    """The saved queries; what they answer is tested end to end."""

    def test_each_is_of_the_workgroup_and_the_database(self) -> None:
        assert len(QUERIES) == 3
        for query in QUERIES:
            assert query["WorkGroup"] == {"Ref": "AuditWorkGroup"}
            assert query["Database"] == {"Ref": "LogDatabase"}

    def test_the_readme_names_every_query(self) -> None:
        readme = (ROOT / "examples" / "consumers" / "audit-log" / "README.md").read_text()
        assert all(f"| {query['Name']} |" in readme for query in QUERIES)

    def test_a_quotient_is_not_a_decimal(self) -> None:
        # Trino gives a decimal quotient no more places than its operands have: 100 / 3600.0 would be 0.0.
        divisors = [each.expression.sql() for query in QUERIES for each in divisions(query["QueryString"])]
        assert len(divisors) == 5
        assert set(divisors) == {"3600e0"}
