"""Writes items in transactions: cut to DynamoDB's limits, fenced, one bad item not sinking its neighbours.

It knows how DynamoDB refuses a transaction, and nothing about what the items hold.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from session_auditor.aws_errors import error_code, table_in_reach
from session_auditor.errors import FencedError
from session_auditor.model import Snapshot, Target
from session_auditor.table import Action, StoredTarget, Table

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# TransactWriteItems takes 100 actions and 4 MB (API reference).
ACTIONS_LIMIT = 100
BYTES_LIMIT = 3_000_000
# Somebody else wrote the item, or is writing it right now. DynamoDB says so in the reasons of a transaction
# that it cancels, or in an exception of its own for a single write against another's transaction.
OVERTAKEN = frozenset(
    [
        "ConditionalCheckFailed",
        "ConditionalCheckFailedException",
        "TransactionConflict",
        "TransactionConflictException",
    ]
)
# The table is there and has too much to do, whatever botocore's own tries; DynamoDB, "Error handling".
_BUSY = frozenset(
    [
        "InternalServerError",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ThrottlingException",
        "TransactionInProgressException",
    ]
)


@dataclass(slots=True)
class Fence:
    """What a transaction has to find as the target's version, and the target's item that it puts there."""

    table: Table
    after: Snapshot
    version: int

    def put(self, *, changed: int = 0) -> Action:
        """Return the action that puts the target's item one version up.

        Other items change with it, unless it says which version was the last that `changed` any.
        """
        after, version = self.after, self.version + 1
        target = after.target or Target(first_begin=None)
        stored = StoredTarget(target, version, after.outbox, after.broken, after.parts, changed or version)
        return self.table.put_target(self.version, stored)


def batches(
    groups: Iterable[tuple[str, list[Action]]], actions_limit: int
) -> Iterator[dict[str, list[Action]]]:
    """Return groups of actions in batches that each fit a transaction; a group stays together.

    Takes no more groups than the next batch needs.
    """
    batch: dict[str, list[Action]] = {}
    actions = size = 0
    for key, group in groups:
        # A character is at most four bytes; what is counted twice only makes a batch smaller.
        group_size = 4 * len(str(group))
        if batch and (actions + len(group) > actions_limit or size + group_size > BYTES_LIMIT):
            yield batch
            batch, actions, size = {}, 0, 0
        batch[key] = group
        actions += len(group)
        size += group_size
    if batch:
        yield batch


def write(
    client: "DynamoDBClient", table_name: str, batch: Mapping[str, list[Action]], fence: Fence | None
) -> frozenset[str]:
    """Write a batch of groups in one transaction; leave out what breaks it and try the rest again.

    Returns the keys of the groups that could not be written; all of them while the table is busy. Raises
    FencedError when the target's item has another version than the fence expects.
    """
    if not batch:
        return frozenset()
    actions = [fence.put()] if fence else []
    owners: list[str | None] = [None] * len(actions)
    for key, group in batch.items():
        actions += group
        owners += [key] * len(group)
    with table_in_reach(table_name, "written"):
        try:
            client.transact_write_items(TransactItems=actions)  # type: ignore[arg-type]
        except ClientError as error:
            code = error_code(error)
            if code in _BUSY:
                return frozenset(batch)
            if code == "ValidationException":
                # It does not say which item is meant: halves find it.
                keys = list(batch)
                if len(keys) == 1:
                    return frozenset(keys)
                half = len(keys) // 2
                return write(client, table_name, {key: batch[key] for key in keys[:half]}, fence) | write(
                    client, table_name, {key: batch[key] for key in keys[half:]}, fence
                )
            if code in OVERTAKEN:
                if fence:
                    raise FencedError from None
                return frozenset(batch)
            if code != "TransactionCanceledException":
                raise
            reasons = _reasons(error)
            if fence and reasons[:1] and reasons[0] in OVERTAKEN:
                raise FencedError from None
            blamed = frozenset(
                owner for owner, reason in zip(owners, reasons, strict=False) if owner and reason != "None"
            )
            if not blamed:
                return frozenset(batch)
            rest = {key: batch[key] for key in batch if key not in blamed}
            return blamed | write(client, table_name, rest, fence)
    if fence:
        fence.version += 1
    return frozenset()


def _reasons(error: ClientError) -> list[str]:
    """Return what DynamoDB says of each action of a transaction that it cancelled, "None" if nothing."""
    reasons: Any = error.response.get("CancellationReasons")
    codes = [
        reason.get("Code") if isinstance(reason, dict) else None
        for reason in (reasons if isinstance(reasons, list) else ())
    ]
    return [code if isinstance(code, str) else "None" for code in codes]
