"""DynamoDB as the low-level client sees it: items, conditions, transactions, limits and write units.

It knows the operations and the expressions that the auditor uses, and refuses any other loudly. It knows
nothing of the auditor's items, of time, or of faults: `aws` adds those.
Items are kept as they were sent, copied once on the way in; what it hands out must not be changed.
"""

import math
import re
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from tests.simulation.errors import AwsError

Value = Mapping[str, Any]
Item = dict[str, Any]
Names = Mapping[str, str]
Condition = Callable[[Item, Names, Mapping[str, Value]], bool]

# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
ITEM_BYTES = 400 * 1024
SORT_KEY_BYTES = 1024
PARTITION_KEY_BYTES = 2048
PAGE_BYTES = 1024 * 1024
TRANSACTION_ACTIONS = 100
TRANSACTION_BYTES = 4 * 1024 * 1024
NONE: Mapping[str, tuple[str, str]] = {}
# The table of template.yaml has this index.
BY_USER = {"byUser": ("userId", "sk")}
CONFLICT = "Transaction is ongoing for the item"


def validation(message: str) -> AwsError:
    """Return the error of a call that DynamoDB refuses as it stands."""
    return AwsError("ValidationException", message)


class Table:
    """One table with a string partition key and a string sort key.

    `locked` are the keys of items that a transaction of somebody else's holds: it is still running, so
    every write to them, and every check of them in a transaction, is refused as a conflict. `indexes` are its
    global secondary ones, with all attributes, by name: the attributes of their keys.
    """

    def __init__(self, partition: str, sort: str, indexes: Mapping[str, tuple[str, str]] = NONE) -> None:
        self.partition = partition
        self.sort = sort
        self.indexes = indexes
        self.locked: set[tuple[str, str]] = set()
        self.partitions: dict[str, dict[str, Item]] = {}
        self.sizes: dict[tuple[str, str], int] = {}
        self.order: dict[str, list[str]] = {}

    def key(self, attributes: Mapping[str, Value], *, alone: bool) -> tuple[str, str]:
        """Return the key in the attributes; they are nothing but the key if `alone`."""
        if alone and len(attributes) != 2:
            raise validation("The provided key element does not match the schema")
        key = []
        for name, limit in ((self.partition, PARTITION_KEY_BYTES), (self.sort, SORT_KEY_BYTES)):
            value = attributes.get(name)
            if value is None:
                raise validation(
                    "The provided key element does not match the schema"
                    if alone
                    else f"One or more parameter values were invalid: Missing the key {name} in the item"
                )
            text = value.get("S")
            if not isinstance(text, str):
                raise validation(
                    "The provided key element does not match the schema"
                    if alone
                    else f"One or more parameter values were invalid: Type mismatch for key {name} "
                    f"expected: S actual: {next(iter(value))}"
                )
            if not text:
                raise validation(
                    "One or more parameter values are not valid. The AttributeValue for a key attribute "
                    f"cannot contain an empty string value. Key: {name}"
                )
            if len(text.encode()) > limit:
                which = "hashkey" if name == self.partition else "rangekey"
                raise validation(
                    f"One or more parameter values were invalid: Size of {which} has exceeded the maximum "
                    f"size limit of{limit} bytes"
                )
            key.append(text)
        return key[0], key[1]

    def get(self, key: tuple[str, str]) -> Item | None:
        """Return the item at the key."""
        return self.partitions.get(key[0], {}).get(key[1])

    def put(self, key: tuple[str, str], item: Item | None) -> None:
        """Store the item at the key; None removes what is there."""
        rows = self.partitions.setdefault(key[0], {})
        order = self.order.setdefault(key[0], [])
        if item is None:
            if rows.pop(key[1], None) is not None:
                del order[bisect_left(order, key[1])]
                del self.sizes[key]
            return
        if key[1] not in rows:
            insort(order, key[1])
        rows[key[1]] = item
        self.sizes[key] = size(item)

    def check_index_keys(self, item: Mapping[str, Value]) -> None:
        """Refuse an item whose attributes can't be the key of an index."""
        for index, names in self.indexes.items():
            for name in names:
                ((kind, text),) = item.get(name, {"S": "absent"}).items()
                if kind != "S":
                    raise validation(
                        f"One or more parameter values were invalid: Type mismatch for Index Key {name} "
                        f"Expected: S Actual: {kind} IndexName: {index}"
                    )
                if not text:
                    raise validation(
                        "One or more parameter values are not valid. A value specified for a secondary index "
                        "key is not supported. The AttributeValue for a key attribute cannot contain an "
                        f"empty string value. IndexName: {index}, IndexKey: {name}"
                    )
                limit = PARTITION_KEY_BYTES if name == names[0] else SORT_KEY_BYTES
                if len(text.encode()) > limit:
                    raise validation(f"Size of the key {name} of index {index} is above {limit} bytes")

    def index_units(self, old: Item | None, new: Item | None) -> int:
        """Return the write units that the indexes take for a write: single ones, in a transaction, too."""
        units = 0
        for names in self.indexes.values():
            # An item without the key is not in the index.
            gone = old if old and all(name in old for name in names) else None
            come = new if new and all(name in new for name in names) else None
            if gone and come and all(gone[name] == come[name] for name in names):
                units += 0 if gone == come else max(_kilobytes(gone), _kilobytes(come))
            else:
                units += sum(_kilobytes(item) for item in (gone, come) if item)
        return units

    def items(self) -> Iterable[Item]:
        """Return every item, in the order of the keys."""
        return (self.partitions[p][s] for p in sorted(self.order) for s in self.order[p])


class DynamoDB:
    """The tables of one account and the verbs of the low-level client."""

    def __init__(self) -> None:
        self.tables: dict[str, Table] = {}
        self.page_items = 1000
        self.read_units = 0.0
        self.write_units = 0
        self.writes = 0

    def create_table(
        self,
        name: str,
        partition: str = "pk",
        sort: str = "sk",
        indexes: Mapping[str, tuple[str, str]] = NONE,
    ) -> Table:
        """Create a table."""
        self.tables[name] = Table(partition, sort, indexes)
        return self.tables[name]

    def call(self, operation: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out one operation of the API."""
        verb, allowed = _OPERATIONS.get(operation, (None, frozenset()))
        if verb is None:
            raise NotImplementedError(f"the simulated DynamoDB knows no {operation}")
        _allow(operation, params, allowed)
        before = self.read_units + self.write_units
        answer = verb(self, params)
        if params.get("ReturnConsumedCapacity", "NONE") != "NONE":
            spent = {
                "TableName": params.get("TableName", ""),
                "CapacityUnits": self.read_units + self.write_units - before,
            }
            answer["ConsumedCapacity"] = spent if "TableName" in params else [self._only_table(spent)]
        return answer

    def _only_table(self, spent: dict[str, Any]) -> dict[str, Any]:
        (name,) = self.tables
        return spent | {"TableName": name}

    def table(self, name: str) -> Table:
        """Return the table or raise as DynamoDB does."""
        table = self.tables.get(name)
        if table is None:
            raise AwsError("ResourceNotFoundException", "Requested resource not found")
        return table

    # Reads

    def get_item(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """GetItem."""
        table = self.table(params["TableName"])
        key = table.key(params["Key"], alone=True)
        item = table.get(key)
        self._spend_read(table.sizes.get(key, 0), params.get("ConsistentRead", False))
        return {"Item": item} if item is not None else {}

    def query(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Query one partition, page by page."""
        table = self.table(params["TableName"])
        names, values = (
            params.get("ExpressionAttributeNames", {}),
            params.get("ExpressionAttributeValues", {}),
        )
        partition, keys = _selected(table, params["KeyConditionExpression"], names, values)
        start = params.get("ExclusiveStartKey")
        if start is not None:
            last = table.key(start, alone=True)[1]
            keys = keys[bisect_right(keys, last) :]
        rows = table.partitions.get(partition, {})
        page: list[Item] = []
        total = 0
        for sort in keys:
            if len(page) == self.page_items or total >= PAGE_BYTES:
                break
            page.append(rows[sort])
            total += table.sizes[partition, sort]
        self._spend_read(total, params.get("ConsistentRead", False))
        answer: dict[str, Any] = {"Items": page, "Count": len(page), "ScannedCount": len(page)}
        # As DynamoDB does: a page that is full carries a key even if nothing follows.
        if page and (len(page) == self.page_items or len(page) < len(keys)):
            answer["LastEvaluatedKey"] = {name: page[-1][name] for name in (table.partition, table.sort)}
        return answer

    # Writes

    def put_item(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """PutItem."""
        return self._one(self._prepare("Put", params))

    def delete_item(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """DeleteItem."""
        return self._one(self._prepare("Delete", params))

    def _one(self, write: "Write") -> dict[str, Any]:
        if write.conflicts:
            raise AwsError("TransactionConflictException", CONFLICT)
        if not write.holds:
            raise AwsError("ConditionalCheckFailedException", "The conditional request failed")
        if write.problem is not None:
            raise write.problem
        self._apply(write, 1)
        return {}

    def transact_write_items(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """TransactWriteItems: all or nothing, with the reasons of a cancellation."""
        actions = params["TransactItems"]
        if not 1 <= len(actions) <= TRANSACTION_ACTIONS:
            raise validation(
                "1 validation error detected: Value at 'transactItems' failed to satisfy constraint: "
                f"Member must have length less than or equal to {TRANSACTION_ACTIONS}"
            )
        writes = self._prepared(actions)
        if not all(write.holds and write.problem is None and not write.conflicts for write in writes):
            reasons = [_reason(write) for write in writes]
            codes = ", ".join(reason["Code"] for reason in reasons)
            raise AwsError(
                "TransactionCanceledException",
                f"Transaction cancelled, please refer cancellation reasons for specific reasons [{codes}]",
                {"CancellationReasons": reasons},
            )
        for write in writes:
            self._apply(write, 2)
        return {}

    def _prepared(self, actions: Sequence[Mapping[str, Any]]) -> list["Write"]:
        writes = []
        seen = set()
        for action in actions:
            if len(action) != 1:
                raise validation("TransactItems can only contain one of Check, Put, Update or Delete")
            ((kind, body),) = action.items()
            _allow(kind, body, _ACTIONS[kind])
            write = self._prepare(kind, body)
            at_key = (body["TableName"], write.key)
            if at_key in seen:
                raise validation("Transaction request cannot include multiple operations on one item")
            if kind == "Put" and write.problem is not None:
                raise write.problem
            seen.add(at_key)
            writes.append(write)
        if sum(size(write.new) for write in writes if write.new is not None) > TRANSACTION_BYTES:
            raise validation("Collection size of items in the transaction exceeded")
        return writes

    def _prepare(self, kind: str, body: Mapping[str, Any]) -> "Write":
        table = self.table(body["TableName"])
        key = table.key(body["Item"], alone=False) if kind == "Put" else table.key(body["Key"], alone=True)
        old = table.get(key)
        names, values = body.get("ExpressionAttributeNames", {}), body.get("ExpressionAttributeValues", {})
        condition = body.get("ConditionExpression")
        _expect_all_defined_and_used(names, values, condition or "")
        holds = condition is None or compile_condition(condition)(old or {}, names, values)
        write = Write(table, key, old, old, holds)
        if not holds:
            return write
        write.new = None
        if kind == "Put":
            table.check_index_keys(body["Item"])
            write.new = {name: copied(value) for name, value in body["Item"].items()}
            if size(write.new) > ITEM_BYTES:
                write.problem = validation("Item size has exceeded the maximum allowed size")
        return write

    def _apply(self, write: "Write", factor: int) -> None:
        sizes = write.table.sizes
        before = sizes.get(write.key, 0)
        self.write_units += write.table.index_units(write.old, write.new)
        if write.new is not write.old:
            write.table.put(write.key, write.new)
        touched = max(before, sizes.get(write.key, 0))
        self.write_units += factor * max(1, math.ceil(touched / 1024))
        self.writes += 1

    def _spend_read(self, bytes_read: int, consistent: bool) -> None:
        self.read_units += max(1, math.ceil(bytes_read / 4096)) * (1.0 if consistent else 0.5)


class Write:
    """One write on its way: what is there, what would be, and whether its condition holds."""

    __slots__ = ("holds", "key", "new", "old", "problem", "table")

    def __init__(
        self, table: Table, key: tuple[str, str], old: Item | None, new: Item | None, holds: bool
    ) -> None:
        self.table = table
        self.key = key
        self.old = old
        self.new = new
        self.holds = holds
        self.problem: AwsError | None = None

    @property
    def conflicts(self) -> bool:
        """Whether another's transaction holds the item."""
        return self.key in self.table.locked


def _reason(write: Write) -> dict[str, Any]:
    if write.conflicts:
        return {"Code": "TransactionConflict", "Message": CONFLICT}
    if not write.holds:
        return {"Code": "ConditionalCheckFailed", "Message": "The conditional request failed"}
    if write.problem is not None:
        return {"Code": "ValidationError", "Message": write.problem.message}
    return {"Code": "None"}


def _allow(what: str, params: Mapping[str, Any], allowed: frozenset[str]) -> None:
    if not params.keys() <= allowed:
        raise NotImplementedError(
            f"the simulated DynamoDB knows no {sorted(params.keys() - allowed)} of {what}"
        )


_CONDITIONAL = frozenset(
    [
        "TableName",
        "ConditionExpression",
        "ExpressionAttributeNames",
        "ExpressionAttributeValues",
    ]
)
_ACTIONS = {
    "Put": _CONDITIONAL | {"Item"},
    "Delete": _CONDITIONAL | {"Key"},
}
_SINGLE = frozenset({"ReturnConsumedCapacity"})
_QUERY = frozenset(
    [
        "TableName",
        "KeyConditionExpression",
        "ExpressionAttributeNames",
        "ExpressionAttributeValues",
        "ConsistentRead",
        "ExclusiveStartKey",
        "ReturnConsumedCapacity",
    ]
)
_OPERATIONS: dict[str, tuple[Callable[[DynamoDB, Mapping[str, Any]], dict[str, Any]], frozenset[str]]] = {
    "GetItem": (
        DynamoDB.get_item,
        frozenset({"TableName", "Key", "ConsistentRead", "ReturnConsumedCapacity"}),
    ),
    "Query": (DynamoDB.query, _QUERY),
    "PutItem": (DynamoDB.put_item, _ACTIONS["Put"] | _SINGLE),
    "DeleteItem": (DynamoDB.delete_item, _ACTIONS["Delete"] | _SINGLE),
    "TransactWriteItems": (
        DynamoDB.transact_write_items,
        # botocore makes a token for each call of its own; nothing here sends one twice.
        frozenset({"TransactItems", "ClientRequestToken", "ReturnConsumedCapacity"}),
    ),
}


# Values


def copied(value: Value) -> Item:
    """Copy an attribute value, so that what its sender does to it later changes nothing here."""
    ((kind, content),) = value.items()
    if kind == "S":
        if not isinstance(content, str):
            raise TypeError(f"an attribute of type S holds {type(content).__name__}")
        return {"S": content}
    if kind == "N":
        return {"N": _number(content)}
    if kind == "M":
        return {"M": {name: copied(each) for name, each in content.items()}}
    if kind == "L":
        return {"L": [copied(each) for each in content]}
    if kind in {"SS", "NS", "BS"}:
        if not content:
            raise validation("One or more parameter values were invalid: An string set  may not be empty")
        return {kind: list(content)}
    return {kind: content}


_PLAIN_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,37}").fullmatch


def _number(text: str) -> str:
    if _PLAIN_NUMBER(text):
        return text
    try:
        number = Decimal(text)
        return format(number.normalize(), "f") if number else "0"
    except ArithmeticError:
        raise validation(f"The parameter cannot be converted to a numeric value: {text}") from None


def size(item: Mapping[str, Value]) -> int:
    """Return an item's size in bytes, as DynamoDB counts it."""
    return sum(_bytes(name) + _size(value) for name, value in item.items())


def _kilobytes(item: Item) -> int:
    return math.ceil(size(item) / 1024)


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _size(value: Value) -> int:
    ((kind, content),) = value.items()
    match kind:
        case "S":
            return _bytes(content)
        case "N":
            return (len(content) + 1) // 2 + 1
        case "B":
            return len(content)
        case "M":
            return 3 + len(content) + size(content)
        case "L":
            return 3 + len(content) + sum(map(_size, content))
        case "SS" | "NS" | "BS":
            return sum(_size({kind[0]: each}) for each in content)
        case _:
            return 1


# Expressions, compiled once each: attribute_not_exists(a) or a = :b; in a query a = :b AND c = :d.

_TOKEN = re.compile(r"\s*(?:([#:]?[A-Za-z_][A-Za-z0-9_]*)|([=()]))")
# DynamoDB's 573 reserved words, in the list that moto ships; importing moto for it would take a second.
_RESERVED = frozenset(
    Path(str(distribution("moto").locate_file("moto/dynamodb/parsing/reserved_keywords.txt")))
    .read_text()
    .upper()
    .split()
)


@cache
def _tokens(text: str) -> tuple[str, ...]:
    tokens = []
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            raise validation(f"Invalid expression: Syntax error; token: {text[at : at + 10]!r}")
        tokens.append(match[1] or match[2])
        at = match.end()
    return tuple(tokens)


def _checked(name: str) -> str:
    """Return the name of an attribute, or the placeholder of one."""
    if name.upper() in _RESERVED:
        raise validation(
            f"Invalid expression: Attribute name is a reserved keyword; reserved keyword: {name}"
        )
    return name


def _comparable(value: Value) -> tuple[str, Any]:
    ((kind, content),) = value.items()
    return kind, Decimal(content) if kind == "N" else content


@cache
def compile_condition(text: str) -> Condition:
    """Compile a ConditionExpression."""
    match _tokens(text):
        case ("attribute_not_exists", "(", path, ")"):
            name = _checked(path)
            return lambda item, names, _: names.get(name, name) not in item
        case (path, "=", value) if value.startswith(":"):
            name = _checked(path)

            def equals(item: Item, names: Names, values: Mapping[str, Value]) -> bool:
                found = item.get(names.get(name, name))
                return found is not None and _comparable(found) == _comparable(values[value])

            return equals
        case _:
            raise validation(f"Invalid ConditionExpression: Syntax error, or unknown here: {text!r}")


def _expect_all_defined_and_used(names: Names, values: Mapping[str, Value], text: str) -> None:
    used = {token for token in _tokens(text) if token[0] in "#:"}
    undefined = used - names.keys() - values.keys()
    if undefined:
        raise validation(
            "Invalid expression: An expression attribute name or value used in it is not defined: "
            + ", ".join(sorted(undefined))
        )
    unused = (names.keys() | values.keys()) - used
    if unused:
        raise validation(f"Value provided unused in expressions: keys: {{{', '.join(sorted(unused))}}}")


def _selected(table: Table, text: str, names: Names, values: Mapping[str, Value]) -> tuple[str, list[str]]:
    """Return the partition and the sort keys that a KeyConditionExpression selects, in order."""
    _expect_all_defined_and_used(names, values, text)
    asked: dict[str, str] = {}
    rest = _tokens(text)
    while rest:
        path, sign, value, *more = rest
        if sign != "=" or "S" not in values[value]:
            raise validation("Condition parameter type does not match schema type")
        asked[names.get(path, _checked(path))] = values[value]["S"]
        rest = tuple(more[1:]) if more[:1] == ["AND"] else tuple(more)
    if table.partition not in asked:
        raise validation("Query condition missed key schema element: " + table.partition)
    if not asked.keys() <= {table.partition, table.sort}:
        raise validation("Query key condition not supported")
    partition = asked[table.partition]
    if table.sort in asked:
        sort = asked[table.sort]
        return partition, [sort] if sort in table.partitions.get(partition, {}) else []
    return partition, list(table.order.get(partition, []))
