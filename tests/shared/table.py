"""The auditor's table in moto's DynamoDB, in this process."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from moto import mock_aws

from session_auditor import table as layout
from session_auditor.reading import TableReader
from session_auditor.snapshots import Snapshots
from tests.shared.aws import boto_client
from tests.shared.history import TARGET

PARTITION = "TARGET#123456789012#eu-west-1"


class Table:
    """A client of DynamoDB and the table `sessions` in it."""

    def __init__(self) -> None:
        self.dynamodb = boto_client("dynamodb")
        self.dynamodb.create_table(
            TableName="sessions",
            KeySchema=[
                {"AttributeName": "pk", "KeyType": "HASH"},
                {"AttributeName": "sk", "KeyType": "RANGE"},
            ],
            AttributeDefinitions=[
                {"AttributeName": "pk", "AttributeType": "S"},
                {"AttributeName": "sk", "AttributeType": "S"},
                {"AttributeName": "userId", "AttributeType": "S"},
            ],
            GlobalSecondaryIndexes=[
                {
                    "IndexName": "byUser",
                    "KeySchema": [
                        {"AttributeName": "userId", "KeyType": "HASH"},
                        {"AttributeName": "sk", "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "ALL"},
                }
            ],
            BillingMode="PAY_PER_REQUEST",
        )

    def snapshots(self, name: str = "sessions", **settings: Any) -> Snapshots:
        table = layout.Table(name, TARGET, timedelta(days=90))
        return Snapshots(self.dynamodb, table, TableReader(self.dynamodb, table, **settings))

    def items(self, prefix: str = PARTITION) -> list[dict[str, Any]]:
        """Every item whose partition begins so."""
        items = self.dynamodb.scan(TableName="sessions")["Items"]
        return [item for item in items if item["pk"]["S"].startswith(prefix)]

    def item(self, key: str) -> dict[str, Any]:
        found = {"pk": {"S": PARTITION}, "sk": {"S": key}}
        return self.dynamodb.get_item(TableName="sessions", Key=found)["Item"]  # type: ignore[no-any-return]

    def put(self, item: dict[str, Any]) -> None:
        self.dynamodb.put_item(TableName="sessions", Item=item)

    def delete(self, key: str) -> None:
        self.dynamodb.delete_item(TableName="sessions", Key={"pk": {"S": PARTITION}, "sk": {"S": key}})


@contextmanager
def table() -> Iterator[Table]:
    with mock_aws():
        yield Table()
