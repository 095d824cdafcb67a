"""Reads what the table says of many targets, and keeps a hub's lists of accounts in it.

It knows how DynamoDB reads items by the hundred; what follows from them is decided elsewhere.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from session_auditor.aws_errors import table_in_reach
from session_auditor.directory import Branch, Directory
from session_auditor.errors import ItemError
from session_auditor.model import Target, TargetId
from session_auditor.table import TARGET_KEY, Table

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# The most that BatchGetItem takes (API reference). It may leave some of them out when it is busy.
KEYS_LIMIT = 100
TRIES = 3
DIRECTORY_KEY = "TARGETS"
DIRECTORY_SCHEMA = 1
_DIRECTORY = TypeAdapter(dict[str, Branch])


class Hub:
    """A hub's own items, and those of its targets. Every method raises SnapshotError; see there."""

    def __init__(self, client: "DynamoDBClient", table_name: str, own: TargetId) -> None:
        self._client = client
        self._name = table_name
        self._key = {
            "pk": {"S": f"HUB#{own.account_id}#{own.region}"},
            "sk": {"S": DIRECTORY_KEY},
        }

    def directory(self) -> Directory:
        """Read the last good lists of accounts; none if there are none, or none that can be read."""
        # Whoever may ask of the table may make this call, and needs no other.
        with table_in_reach(self._name, "read"):
            found = self._client.query(
                TableName=self._name,
                KeyConditionExpression="pk = :pk AND sk = :sk",
                ExpressionAttributeValues={f":{name}": value for name, value in self._key.items()},
            )
        item = next(iter(found["Items"]), {})
        try:
            if int(item["schema"]["N"]) > DIRECTORY_SCHEMA:
                return {}
            return _DIRECTORY.validate_json(item["state"]["S"])
        except (LookupError, TypeError, ValueError):
            # They are asked for again, and written over: nothing else depends on what is here.
            return {}

    def keep(self, directory: Directory) -> None:
        """Write the lists of accounts."""
        state = _DIRECTORY.dump_json(dict(directory), exclude_defaults=True).decode()
        with table_in_reach(self._name, "written"):
            self._client.put_item(
                TableName=self._name,
                Item={**self._key, "schema": {"N": str(DIRECTORY_SCHEMA)}, "state": {"S": state}},
            )

    def swept(self, targets: Sequence[TargetId]) -> dict[TargetId, Target | None]:
        """Read what the table says of targets; None of one that was never swept or that cannot be read.

        What DynamoDB leaves out again and again is not in the answer.
        """
        found: dict[TargetId, Target | None] = {}
        for start in range(0, len(targets), KEYS_LIMIT):
            found |= self._swept(targets[start : start + KEYS_LIMIT])
        return found

    def _swept(self, targets: Sequence[TargetId]) -> dict[TargetId, Target | None]:
        tables = {each: Table(self._name, each, timedelta()) for each in targets}
        by_key = {table.partition["S"]: table for table in tables.values()}
        waiting: Sequence[Mapping[str, Any]] = [
            {"pk": table.partition, "sk": {"S": TARGET_KEY}} for table in tables.values()
        ]
        found: dict[TargetId, Target | None] = dict.fromkeys(targets)
        with table_in_reach(self._name, "read"):
            for _ in range(TRIES):
                request: Any = {
                    "Keys": waiting,
                    "ProjectionExpression": "pk, #schema, version, #state",
                    "ExpressionAttributeNames": {"#schema": "schema", "#state": "state"},
                }
                answer = self._client.batch_get_item(RequestItems={self._name: request})
                for item in answer["Responses"].get(self._name, []):
                    table = by_key[item["pk"]["S"]]
                    found[table.target_id] = _target(table, item)
                left: Any = answer.get("UnprocessedKeys", {})
                waiting = left[self._name]["Keys"] if self._name in left else []
                if not waiting:
                    return found
        left_out = {key["pk"]["S"] for key in waiting}
        return {each: target for each, target in found.items() if tables[each].partition["S"] not in left_out}


def _target(table: Table, item: Mapping[str, Any]) -> Target | None:
    try:
        return table.read_target(item).target
    except ItemError:
        return None
