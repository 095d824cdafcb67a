"""Reads the table: a target's snapshot, and the events that EventBridge refused.

Whoever asks the table reads it here; nothing is written. It decides nothing about sessions.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from session_auditor.aws_errors import table_in_reach
from session_auditor.contract import timestamp
from session_auditor.errors import ItemError, SnapshotError
from session_auditor.model import NO_POLICIES, Facts, Fleet, Life, Scope, Snapshot, Stored, UserIdMode
from session_auditor.states import SCHEMA
from session_auditor.table import (
    BESIDE,
    BY_USER,
    FLEETS_KEY,
    POLICIES_KEY,
    SCOPES_KEY,
    SESSION_PREFIX,
    TARGET_KEY,
    TARGET_SCHEMA,
    RefusedEvent,
    Table,
)
from session_auditor.user_ids import hash_mark, is_hashed

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Item = Mapping[str, Any]
T = TypeVar("T")


class TableReader:
    """The table as it is read. Every method raises SnapshotError when it is out of reach."""

    def __init__(
        self,
        client: "DynamoDBClient",
        table: Table,
        *,
        user_id_mode: UserIdMode = UserIdMode.PLAIN,
        user_id: Callable[[str], str] = str,
    ) -> None:
        self._client = client
        self._table = table
        self._user_id_mode = user_id_mode
        self._user_id = user_id

    def target_alone(self) -> Snapshot:
        """Read the target's own item alone: a snapshot without sessions and scopes."""
        with table_in_reach(self._table.name, "read"):
            found = self._items("pk = :pk AND sk = :sk", {":sk": {"S": TARGET_KEY}})
            item = next((item for item in found if _key(item) == TARGET_KEY), None)
            return self._target(item) if item else Snapshot()

    def snapshot(self, target: Snapshot) -> Snapshot:
        """Read the snapshot, whole and consistent; broken and newer session items are left alone.

        `target` is the target's item, which was read first, so that a commit since then is noticed.
        """
        sessions: dict[str, Stored] = {}
        beside: dict[str, Item] = {}
        unreadable: set[str] = set()
        left_alone: set[str] = set()
        # An older release, deployed over this one, sweeps on and does not look at what it cannot read.
        older_swept = target.target is not None and target.target.sessions_schema < SCHEMA
        with table_in_reach(self._table.name, "read"):
            for item in self._items("pk = :pk", {}):
                key = _key(item)
                if key.split("#")[0] in BESIDE:
                    beside[key] = item
                    continue
                session_id = key.removeprefix(SESSION_PREFIX)
                try:
                    sessions[session_id] = self._in_mode(self._table.read_session(item))
                    if older_swept and self._table.is_of_this_release(item):
                        left_alone.add(session_id)
                except ItemError:
                    unreadable.add(session_id)
        sessions |= {session_id: _unlisted(sessions[session_id]) for session_id in left_alone}
        snapshot = self._with_parts(target, beside, unreadable)
        return replace(
            snapshot, sessions=sessions, unreadable=frozenset(unreadable), left_alone=bool(left_alone)
        )

    def refused(self) -> list[RefusedEvent]:
        """Read the events that EventBridge refused; what can't be read is left alone."""
        found = []
        with table_in_reach(self._table.name, "read"):
            for item in self._items("pk = :pk", {":pk": self._table.refused_partition}):
                try:
                    found.append(self._table.read_refused(item))
                except ItemError:
                    continue
        return found

    def history(self, day: date) -> Iterator[Life]:
        """Read the sessions that ended on a day, in UTC; what can't be read is left out."""
        with table_in_reach(self._table.name, "read"):
            yield from self._lives("pk = :pk", {":pk": self._table.history_partition(day)})

    def history_of(self, user_id: str, since: datetime, until: datetime) -> Iterator[Life]:
        """Read the ended sessions of a user, as the table names users, from `since` to before `until`."""
        between = {":since": {"S": timestamp(since)}, ":until": {"S": timestamp(until)}}
        with table_in_reach(self._table.name, "read"):
            yield from self._lives(
                "userId = :user AND sk BETWEEN :since AND :until",
                {":user": {"S": user_id}, **between},
                IndexName=BY_USER,
            )

    def _lives(self, condition: str, values: Mapping[str, Any], **index: Any) -> Iterator[Life]:
        # No sweep depends on it, and an index cannot be read consistently.
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table.name,
            KeyConditionExpression=condition,
            ExpressionAttributeValues=values,
            **index,
        )
        for page in pages:
            for item in page["Items"]:
                try:
                    yield self._table.read_history(item)
                except ItemError:
                    continue

    def _with_parts(self, snapshot: Snapshot, beside: Mapping[str, Item], unreadable: set[str]) -> Snapshot:
        """Add what lies in items beside the target's own; the keys of those that can't be read are noted.

        Without a part of the gaps no scope reads as covered: that part may be the one that says it was not.
        """
        scopes: set[Scope] = set()
        for some in self._parts(SCOPES_KEY, self._table.read_scopes, beside, unreadable):
            scopes |= some
        fleets: dict[str, Fleet] = {}
        stack_tags: dict[str, Mapping[str, str]] = {}
        for facts in self._parts(FLEETS_KEY, self._table.read_facts, beside, unreadable):
            fleets |= facts.fleets
            stack_tags |= facts.stack_tags
        policies = NO_POLICIES
        if POLICIES_KEY in beside:
            try:
                policies = self._table.read_policies(beside[POLICIES_KEY])
            except ItemError:
                unreadable.add(POLICIES_KEY)
        target = snapshot.target
        for number in range(1, snapshot.parts + 1):
            key = f"{TARGET_KEY}#{number}"
            if key not in beside:
                scopes.clear()
                continue
            try:
                target = self._table.read_rest(beside[key], target) if target else None
            except ItemError:
                unreadable.add(key)
                scopes.clear()
        return replace(
            snapshot,
            target=target,
            scopes=frozenset(scopes),
            facts=Facts(fleets, stack_tags),
            policies=policies,
        )

    @staticmethod
    def _parts(
        key: str, read: Callable[[Item], tuple[T, int]], beside: Mapping[str, Item], unreadable: set[str]
    ) -> Iterator[T]:
        """Return what the items `key`, `key#1` and so on hold, as many as the first says."""
        number = parts = 0
        while number <= parts:
            name = f"{key}#{number}" if number else key
            number += 1
            if name in beside:
                try:
                    some, more = read(beside[name])
                except ItemError:
                    unreadable.add(name)
                else:
                    yield some
                    parts = max(parts, more)

    def _in_mode(self, stored: Stored) -> Stored:
        """Bring a user id that was stored before the mode was switched into the mode of now."""
        remembered, user_id = stored.remembered, stored.remembered.session.user_id
        if not user_id or self._user_id_mode is UserIdMode.PLAIN:
            return stored
        if self._user_id_mode is UserIdMode.HASH and is_hashed(user_id, remembered.user_id_hashed):
            return stored
        session = replace(remembered.session, user_id=self._user_id(user_id))
        mark = hash_mark(session.user_id, self._user_id_mode)
        return replace(
            stored, remembered=replace(remembered, session=session, user_id_hashed=mark), rewrite=True
        )

    def _items(self, condition: str, values: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table.name,
            KeyConditionExpression=condition,
            ExpressionAttributeValues={":pk": self._table.partition, **values},
            ConsistentRead=True,
        )
        for page in pages:
            yield from page["Items"]

    def _target(self, item: Item) -> Snapshot:
        try:
            target, version, outbox, broken, parts, changed = self._table.read_target(item)
        except ItemError:
            raise SnapshotError(
                f"the target's item in table {self._table.name} is broken or of a newer release than this "
                f"one (schema {TARGET_SCHEMA}): deploy that release, or delete the item {TARGET_KEY}, "
                "which begins with a new baseline"
            ) from None
        return Snapshot(target, version, outbox, broken=broken, parts=parts, changed=changed)


def _unlisted(stored: Stored) -> Stored:
    """Note that nobody is known to have looked at a session since it last changed."""
    before = stored.remembered
    since = before.unlisted_since or max(before.first_seen, before.presence_since)
    return replace(stored, remembered=replace(before, unlisted_since=since))


def _key(item: Any) -> str:
    """Return the sort key of an item; "" if it has none that can be read."""
    try:
        key = item["sk"]["S"]
    except (LookupError, TypeError):
        return ""
    return key if isinstance(key, str) else ""
