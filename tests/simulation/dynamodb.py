"""DynamoDB as the low-level client sees it: items, conditions, transactions, limits and write units.

It knows the operations and the simple expressions that the auditor may use, and refuses any other
loudly. It knows nothing of the auditor's items, of time beyond a number, or of faults: `aws` adds those.
Items are kept as they were sent, copied once on the way in; what it hands out must not be changed.
"""

import math
import re
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import cache
from importlib.metadata import distribution
from itertools import takewhile
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
BATCH_WRITES = 25
BATCH_READS = 100
TOKEN_SECONDS = 600
CONFLICT = "Transaction is ongoing for the item"


def validation(message: str) -> AwsError:
    """Return the error of a call that DynamoDB refuses as it stands."""
    return AwsError("ValidationException", message)


class Table:
    """One table with a string partition key and a string sort key.

    `locked` are the keys of items that a transaction of somebody else's holds: it is still running, so
    every write to them, and every check of them in a transaction, is refused as a conflict.
    """

    def __init__(self, partition: str, sort: str) -> None:
        self.partition = partition
        self.sort = sort
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

    def items(self) -> Iterable[Item]:
        """Return every item, in the order of the keys."""
        return (self.partitions[p][s] for p in sorted(self.order) for s in self.order[p])


class DynamoDB:
    """The tables of one account and the verbs of the low-level client."""

    def __init__(self) -> None:
        self.tables: dict[str, Table] = {}
        self.page_items = 1000
        self.unprocessed: Callable[[int], bool] = lambda _: False
        self.now = 0.0
        self.read_units = 0.0
        self.write_units = 0
        self.writes = 0
        self._tokens: dict[str, tuple[float, Any]] = {}

    def create_table(self, name: str, partition: str = "pk", sort: str = "sk") -> Table:
        """Create a table."""
        self.tables[name] = Table(partition, sort)
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
        backward = not params.get("ScanIndexForward", True)
        start = params.get("ExclusiveStartKey")
        if start is not None:
            last = table.key(start, alone=True)[1]
            keys = keys[: bisect_left(keys, last)] if backward else keys[bisect_right(keys, last) :]
        if backward:
            keys.reverse()
        limit = min(params.get("Limit", self.page_items), self.page_items)
        rows = table.partitions.get(partition, {})
        page: list[Item] = []
        total = 0
        for sort in keys:
            if len(page) == limit or total >= PAGE_BYTES:
                break
            page.append(rows[sort])
            total += table.sizes[partition, sort]
        self._spend_read(total, params.get("ConsistentRead", False))
        answer: dict[str, Any] = {"Items": page, "Count": len(page), "ScannedCount": len(page)}
        # As DynamoDB does: a page that is full carries a key even if nothing follows.
        if page and (len(page) == limit or len(page) < len(keys)):
            answer["LastEvaluatedKey"] = {name: page[-1][name] for name in (table.partition, table.sort)}
        return answer

    def batch_get_item(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """BatchGetItem, some of it perhaps left unprocessed."""
        wanted = [(name, key) for name, each in params["RequestItems"].items() for key in each["Keys"]]
        if len(wanted) > BATCH_READS:
            raise validation("Too many items requested for the BatchGetItem call")
        keys = [(name, self.table(name).key(key, alone=True)) for name, key in wanted]
        if len(set(keys)) < len(keys):
            raise validation("Provided list of item keys contains duplicates")
        found: dict[str, list[Item]] = {name: [] for name in params["RequestItems"]}
        left: dict[str, Any] = {}
        for number, ((name, raw), (_, key)) in enumerate(zip(wanted, keys, strict=True)):
            request = params["RequestItems"][name]
            if self.unprocessed(number):
                left.setdefault(name, {k: v for k, v in request.items() if k != "Keys"} | {"Keys": []})
                left[name]["Keys"].append(raw)
                continue
            item = self.table(name).get(key)
            self._spend_read(self.table(name).sizes.get(key, 0), request.get("ConsistentRead", False))
            if item is not None:
                found[name].append(item)
        return {"Responses": found, "UnprocessedKeys": left}

    # Writes

    def put_item(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """PutItem."""
        return self._one(params, self._prepare("Put", params))

    def update_item(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """UpdateItem."""
        return self._one(params, self._prepare("Update", params))

    def delete_item(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """DeleteItem."""
        return self._one(params, self._prepare("Delete", params))

    def _one(self, params: Mapping[str, Any], write: "Write") -> dict[str, Any]:
        old = write.old
        if write.conflicts:
            raise AwsError("TransactionConflictException", CONFLICT)
        if not write.holds:
            extra = {"Item": old} if old and _asks_for_old(params) else {}
            raise AwsError("ConditionalCheckFailedException", "The conditional request failed", extra)
        if write.problem is not None:
            raise write.problem
        self._apply(write, 1)
        returned = params.get("ReturnValues", "NONE")
        if returned == "ALL_OLD" and old is not None:
            return {"Attributes": old}
        if returned == "ALL_NEW":
            return {"Attributes": write.new}
        if returned not in {"NONE", "ALL_OLD"}:
            raise NotImplementedError(f"ReturnValues {returned}")
        return {}

    def transact_write_items(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """TransactWriteItems: all or nothing, with the reasons of a cancellation."""
        actions = params["TransactItems"]
        if not 1 <= len(actions) <= TRANSACTION_ACTIONS:
            raise validation(
                "1 validation error detected: Value at 'transactItems' failed to satisfy constraint: "
                f"Member must have length less than or equal to {TRANSACTION_ACTIONS}"
            )
        token = params.get("ClientRequestToken")
        if token is not None:
            at, same = self._tokens.get(token, (-math.inf, None))
            if self.now - at < TOKEN_SECONDS:
                if same != actions:
                    raise AwsError(
                        "IdempotentParameterMismatchException",
                        "The provided client token does not match the parameters of the original request",
                    )
                return {}
        writes = self._prepared(actions)
        if not all(write.holds and write.problem is None and not write.conflicts for write in writes):
            reasons = [
                _reason(write, body)
                for write, action in zip(writes, actions, strict=True)
                for body in action.values()
            ]
            codes = ", ".join(reason["Code"] for reason in reasons)
            raise AwsError(
                "TransactionCanceledException",
                f"Transaction cancelled, please refer cancellation reasons for specific reasons [{codes}]",
                {"CancellationReasons": reasons},
            )
        for write in writes:
            self._apply(write, 2)
        if token is not None:
            self._tokens[token] = (self.now, actions)
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

    def batch_write_item(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """BatchWriteItem: no conditions, some of it perhaps left unprocessed."""
        requests = [(name, request) for name, each in params["RequestItems"].items() for request in each]
        if not requests:
            raise validation(
                "1 validation error detected: Value '{}' at 'requestItems' failed to satisfy constraint: "
                "Member must have length greater than or equal to 1"
            )
        if len(requests) > BATCH_WRITES:
            raise validation("Too many items requested for the BatchWriteItem call")
        writes = []
        for name, request in requests:
            ((kind, body),) = request.items()
            write = self._prepare(kind.removesuffix("Request"), {"TableName": name} | body)
            if write.problem is not None:
                raise write.problem
            if write.conflicts:
                raise NotImplementedError("nobody documented what BatchWriteItem says of a conflict")
            writes.append(write)
        if len({(name, write.key) for (name, _), write in zip(requests, writes, strict=True)}) < len(writes):
            raise validation("Provided list of item keys contains duplicates")
        left: dict[str, list[Any]] = {}
        for number, ((name, request), write) in enumerate(zip(requests, writes, strict=True)):
            if self.unprocessed(number):
                left.setdefault(name, []).append(request)
            else:
                self._apply(write, 1)
        return {"UnprocessedItems": left}

    def _prepare(self, kind: str, body: Mapping[str, Any]) -> "Write":
        table = self.table(body["TableName"])
        key = table.key(body["Item"], alone=False) if kind == "Put" else table.key(body["Key"], alone=True)
        old = table.get(key)
        names, values = body.get("ExpressionAttributeNames", {}), body.get("ExpressionAttributeValues", {})
        condition = body.get("ConditionExpression")
        _expect_all_defined_and_used(names, values, condition, body.get("UpdateExpression"))
        holds = condition is None or compile_condition(condition)(old or {}, names, values)
        write = Write(table, key, old, old, holds)
        if not holds or kind == "ConditionCheck":
            return write
        if kind == "Put":
            write.new = {name: copied(value) for name, value in body["Item"].items()}
        elif kind == "Delete":
            write.new = None
        else:
            start = dict(old) if old is not None else dict(body["Key"])
            write.new = compile_update(body["UpdateExpression"])(start, names, values)
            if write.new[table.partition] is not start[table.partition] or (
                write.new[table.sort] is not start[table.sort]
            ):
                raise validation(
                    "One or more parameter values were invalid: Cannot update attribute of the key"
                )
        if write.new is not None and size(write.new) > ITEM_BYTES:
            write.problem = validation(
                "Item size to update has exceeded the maximum allowed size"
                if kind == "Update"
                else "Item size has exceeded the maximum allowed size"
            )
        return write

    def _apply(self, write: "Write", factor: int) -> None:
        sizes = write.table.sizes
        before = sizes.get(write.key, 0)
        if write.new is not write.old:
            write.table.put(write.key, write.new)
        touched = max(before, sizes.get(write.key, 0))
        self.write_units += factor * max(1, math.ceil(touched / 1024))
        self.writes += 1

    def _spend_read(self, bytes_read: int, consistent: bool) -> None:
        self.read_units += max(1, math.ceil(bytes_read / 4096)) * (1.0 if consistent else 0.5)


class Write:
    """One write or check on its way: what is there, what would be, and whether its condition holds."""

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


def _reason(write: Write, body: Mapping[str, Any]) -> dict[str, Any]:
    if write.conflicts:
        return {"Code": "TransactionConflict", "Message": CONFLICT}
    if not write.holds:
        reason: dict[str, Any] = {
            "Code": "ConditionalCheckFailed",
            "Message": "The conditional request failed",
        }
        return reason | ({"Item": write.old} if write.old and _asks_for_old(body) else {})
    if write.problem is not None:
        return {"Code": "ValidationError", "Message": write.problem.message}
    return {"Code": "None"}


def _asks_for_old(body: Mapping[str, Any]) -> bool:
    return bool(body.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD")


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
        "ReturnValuesOnConditionCheckFailure",
    ]
)
_ACTIONS = {
    "Put": _CONDITIONAL | {"Item"},
    "Update": _CONDITIONAL | {"Key", "UpdateExpression"},
    "Delete": _CONDITIONAL | {"Key"},
    "ConditionCheck": _CONDITIONAL | {"Key"},
}
_SINGLE = frozenset({"ReturnValues", "ReturnConsumedCapacity"})
_QUERY = frozenset(
    [
        "TableName",
        "KeyConditionExpression",
        "ExpressionAttributeNames",
        "ExpressionAttributeValues",
        "ConsistentRead",
        "Limit",
        "ExclusiveStartKey",
        "ScanIndexForward",
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
    "UpdateItem": (DynamoDB.update_item, _ACTIONS["Update"] | _SINGLE),
    "DeleteItem": (DynamoDB.delete_item, _ACTIONS["Delete"] | _SINGLE),
    "TransactWriteItems": (
        DynamoDB.transact_write_items,
        frozenset({"TransactItems", "ClientRequestToken", "ReturnConsumedCapacity"}),
    ),
    "BatchWriteItem": (DynamoDB.batch_write_item, frozenset({"RequestItems", "ReturnConsumedCapacity"})),
    "BatchGetItem": (DynamoDB.batch_get_item, frozenset({"RequestItems", "ReturnConsumedCapacity"})),
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


# Expressions, compiled once each

_TOKEN = re.compile(r"\s*(?:([#:]?[A-Za-z_][A-Za-z0-9_-]*)|(<>|<=|>=|[=<>(),.+-]))")
_WORDS = frozenset({"AND", "OR", "NOT", "SET", "REMOVE", "ADD", "DELETE", "BETWEEN", "IN"})
# DynamoDB's 573 reserved words, in the list that moto ships; importing moto for it would take a second.
_RESERVED = frozenset(
    Path(str(distribution("moto").locate_file("moto/dynamodb/parsing/reserved_keywords.txt")))
    .read_text()
    .upper()
    .split()
)


class _Tokens:
    """An expression as tokens, read from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[str] = []
        at, end = 0, len(text.rstrip())
        while at < end:
            match = _TOKEN.match(text, at)
            if match is None:
                raise validation(f"Invalid expression: Syntax error; token: {text[at : at + 10]!r}")
            self.tokens.append(match[1] or match[2])
            at = match.end()
        self.at = 0

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def word(self) -> str:
        return self.peek().upper()

    def next(self) -> str:
        token = self.peek()
        self.at += 1
        return token

    def expect(self, wanted: str) -> None:
        got = self.next()
        if got.upper() != wanted:
            raise validation(f"Invalid expression: Syntax error; token: {got!r}, near: {self.text!r}")


Operand = Callable[[Item, Names, Mapping[str, Value]], Value | None]


def _path(tokens: _Tokens) -> Callable[[Names], list[str]]:
    parts = []
    while True:
        part = tokens.next()
        if not part or not (part[0] == "#" or part[0].isalpha()) or part.upper() in _WORDS:
            raise validation(f"Invalid expression: Syntax error; token: {part!r}, near: {tokens.text!r}")
        if part.upper() in _RESERVED:
            raise validation(
                f"Invalid expression: Attribute name is a reserved keyword; reserved keyword: {part}"
            )
        parts.append(part)
        if tokens.peek() != ".":
            break
        tokens.next()

    def resolve(names: Names) -> list[str]:
        return [names[part] if part[0] == "#" else part for part in parts]

    return resolve


def _at(item: Item, path: Sequence[str]) -> Value | None:
    value: Value | None = item.get(path[0])
    for part in path[1:]:
        value = value["M"].get(part) if value is not None and "M" in value else None
    return value


def _operand(tokens: _Tokens) -> Operand:
    token = tokens.peek()
    if token.startswith(":"):
        tokens.next()
        return lambda _item, _names, values: values[token]
    path = _path(tokens)
    return lambda item, names, _: _at(item, path(names))


def _comparable(value: Value) -> tuple[str, Any]:
    ((kind, content),) = value.items()
    return kind, Decimal(content) if kind == "N" else content


def _compare(sign: str, left: Value | None, right: Value | None) -> bool:
    if left is None or right is None:
        return sign == "<>"
    (left_kind, a), (right_kind, b) = _comparable(left), _comparable(right)
    if sign == "=":
        return left_kind == right_kind and bool(a == b)
    if sign == "<>":
        return left_kind != right_kind or bool(a != b)
    if left_kind != right_kind:
        return False
    return bool({"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[sign])


@cache
def compile_condition(text: str) -> Condition:
    """Compile a ConditionExpression."""
    tokens = _Tokens(text)
    condition = _either(tokens)
    if tokens.peek():
        raise validation(f"Invalid ConditionExpression: Syntax error; token: {tokens.peek()!r}")
    return condition


def _either(tokens: _Tokens) -> Condition:
    parts = [_both(tokens)]
    while tokens.word() == "OR":
        tokens.next()
        parts.append(_both(tokens))
    return parts[0] if len(parts) == 1 else lambda *given: any(part(*given) for part in parts)


def _both(tokens: _Tokens) -> Condition:
    parts = [_negated(tokens)]
    while tokens.word() == "AND":
        tokens.next()
        parts.append(_negated(tokens))
    return parts[0] if len(parts) == 1 else lambda *given: all(part(*given) for part in parts)


def _negated(tokens: _Tokens) -> Condition:
    if tokens.word() == "NOT":
        tokens.next()
        inner = _negated(tokens)
        return lambda *given: not inner(*given)
    if tokens.peek() == "(":
        tokens.next()
        inner = _either(tokens)
        tokens.expect(")")
        return inner
    return _predicate(tokens)


def _predicate(tokens: _Tokens) -> Condition:
    function = tokens.peek()
    if function in {"attribute_exists", "attribute_not_exists"} and tokens.tokens[tokens.at + 1 :][:1] == [
        "("
    ]:
        tokens.next()
        tokens.next()
        path = _path(tokens)
        tokens.expect(")")
        wanted = function == "attribute_exists"
        return lambda item, names, _: (_at(item, path(names)) is not None) is wanted
    if function == "begins_with" and tokens.tokens[tokens.at + 1 :][:1] == ["("]:
        tokens.next()
        tokens.next()
        text = _operand(tokens)
        tokens.expect(",")
        start = _operand(tokens)
        tokens.expect(")")
        return lambda *given: _begins(text(*given), start(*given))
    left = _operand(tokens)
    sign = tokens.next()
    if sign not in {"=", "<>", "<", "<=", ">", ">="}:
        raise NotImplementedError(f"the simulated DynamoDB knows no {sign!r} in {tokens.text!r}")
    right = _operand(tokens)
    return lambda *given: _compare(sign, left(*given), right(*given))


def _begins(text: Value | None, start: Value | None) -> bool:
    return text is not None and start is not None and str(text.get("S", "\0")).startswith(start["S"])


Update = Callable[[Item, Names, Mapping[str, Value]], Item]


@cache
def compile_update(text: str) -> Update:
    """Compile an UpdateExpression of SET and REMOVE on attributes of the item itself."""
    tokens = _Tokens(text)
    sets: list[tuple[Callable[[Names], list[str]], Operand]] = []
    removes: list[Callable[[Names], list[str]]] = []
    seen: set[str] = set()
    while tokens.peek():
        clause = tokens.next().upper()
        if clause not in {"SET", "REMOVE"}:
            raise NotImplementedError(f"the simulated DynamoDB knows no {clause} in {text!r}")
        if clause in seen:
            raise validation(f'Invalid UpdateExpression: The "{clause}" section can only be used once;')
        seen.add(clause)
        while True:
            path = _path(tokens)
            if clause == "SET":
                tokens.expect("=")
                sets.append((path, _sum(tokens)))
            else:
                removes.append(path)
            if tokens.peek() != ",":
                break
            tokens.next()

    def update(item: Item, names: Names, values: Mapping[str, Value]) -> Item:
        targets = [path(names) for path, _ in sets] + [path(names) for path in removes]
        if any(len(target) > 1 for target in targets):
            raise NotImplementedError(f"the simulated DynamoDB updates no nested attributes: {text!r}")
        if len({target[0] for target in targets}) < len(targets):
            raise validation("Invalid UpdateExpression: Two document paths overlap with each other")
        new = dict(item)
        for path, operand in sets:
            value = operand(item, names, values)
            if value is None:
                raise validation(
                    "The provided expression refers to an attribute that does not exist in the item"
                )
            new[path(names)[0]] = copied(value)
        for path in removes:
            new.pop(path(names)[0], None)
        return new

    return update


def _sum(tokens: _Tokens) -> Operand:
    left = _term(tokens)
    sign = tokens.peek()
    if sign not in {"+", "-"}:
        return left
    tokens.next()
    right = _term(tokens)

    def total(item: Item, names: Names, values: Mapping[str, Value]) -> Value | None:
        a, b = left(item, names, values), right(item, names, values)
        if a is None or b is None:
            return None
        if "N" not in a or "N" not in b:
            raise validation(
                "Invalid UpdateExpression: Incorrect operand type for operator or function; operator: " + sign
            )
        one, other = Decimal(a["N"]), Decimal(b["N"])
        return {"N": format((one + other if sign == "+" else one - other).normalize(), "f")}

    return total


def _term(tokens: _Tokens) -> Operand:
    if tokens.peek() != "if_not_exists":
        return _operand(tokens)
    tokens.next()
    tokens.expect("(")
    path = _path(tokens)
    tokens.expect(",")
    default = _operand(tokens)
    tokens.expect(")")

    def found(item: Item, names: Names, values: Mapping[str, Value]) -> Value | None:
        value = _at(item, path(names))
        return value if value is not None else default(item, names, values)

    return found


@cache
def _used(*expressions: str) -> frozenset[str]:
    return frozenset(token for text in expressions for token in _Tokens(text).tokens if token[0] in "#:")


def _expect_all_defined_and_used(names: Names, values: Mapping[str, Value], *expressions: str | None) -> None:
    used = _used(*(text for text in expressions if text is not None))
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
    tokens = _Tokens(text)
    partition: str | None = None
    exact: str | None = None
    prefix = ""
    while True:
        starts = tokens.peek() == "begins_with"
        if starts:
            tokens.next()
            tokens.expect("(")
        path = _path(tokens)(names)
        tokens.expect("," if starts else "=")
        value = _operand(tokens)({}, names, values)
        if starts:
            tokens.expect(")")
        if value is None or "S" not in value:
            raise validation("Condition parameter type does not match schema type")
        if path == [table.sort] and starts:
            prefix = value["S"]
        elif path == [table.sort]:
            exact = value["S"]
        elif path == [table.partition] and not starts:
            partition = value["S"]
        else:
            raise validation("Query key condition not supported")
        if tokens.word() != "AND":
            break
        tokens.next()
    if tokens.peek():
        raise validation(f"Invalid KeyConditionExpression: Syntax error; token: {tokens.peek()!r}")
    if partition is None:
        raise validation("Query condition missed key schema element: " + table.partition)
    order = table.order.get(partition, [])
    if exact is not None:
        return partition, [exact] if exact in table.partitions.get(partition, {}) else []
    keys = order[bisect_left(order, prefix) :]
    return partition, list(takewhile(lambda sort: sort.startswith(prefix), keys)) if prefix else keys
