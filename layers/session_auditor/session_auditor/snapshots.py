"""Keeps the snapshot in DynamoDB: one item a live session, one for the target, one for its scopes.

It knows the table's layout, versions and transactions, and decides nothing about sessions. All that a
sweep reads lies in one partition; history and refused events lie in others and never slow it down.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from session_auditor.comparison import hash_mark, is_hashed
from session_auditor.errors import MALFORMED, MALFORMED_ERRORS, error_code
from session_auditor.model import Event, Remembered, Scope, Snapshot, Stored, Target, UserIdMode
from session_auditor.table import (
    SCHEMA,
    SCOPES_KEY,
    SESSION_PREFIX,
    TARGET_KEY,
    Action,
    ItemError,
    RefusedEvent,
    StoredTarget,
    Table,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# TransactWriteItems takes 100 actions and 4 MB (API reference).
ACTIONS_LIMIT = 100
BYTES_LIMIT = 3_000_000
# How long a warm container may go without reading the whole table: bounds how long a change that was made
# by hand goes unseen.
KEPT_FOR = timedelta(hours=1)
# Somebody else wrote the item, or is writing it right now. DynamoDB says so in the reasons of a transaction
# that it cancels, or in an exception of its own for a single write against another's transaction.
_OVERTAKEN = frozenset(
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


class SnapshotError(RuntimeError):
    """The table is out of reach, or the target's own item cannot be read; the sweep cannot go on."""


class FencedError(RuntimeError):
    """Another sweep has committed since the snapshot was read; what this one compared is void."""


class Commit(NamedTuple):
    """The snapshot after a commit, and the ids of the sessions that could not be written this time."""

    snapshot: Snapshot
    uncommitted: frozenset[str]


class Snapshots:
    """The table as the sweep sees it. Every method raises SnapshotError when it is out of reach."""

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
        self._kept: Snapshot | None = None
        self._read_at = datetime.min.replace(tzinfo=UTC)
        self._wrote = False

    def load(self, now: datetime) -> Snapshot:
        """Read the snapshot, whole and consistent; broken and newer session items are left alone.

        The target's item comes first, so that a commit while the rest is read fences this sweep off. If it
        is the one that this container wrote last, the snapshot that was kept then is still the table's.
        """
        kept, self._kept, self._wrote = self._kept, None, False
        with self._in_reach("read"):
            found = self._items("pk = :pk AND sk = :sk", {":sk": {"S": TARGET_KEY}})
            item = next((item for item in found if _key(item) == TARGET_KEY), None)
            snapshot = self._target(item) if item else Snapshot()
            fresh = timedelta() <= now - self._read_at < KEPT_FOR
            if kept and fresh and (kept.version, kept.target) == (snapshot.version, snapshot.target):
                return kept
            self._read_at = now
            sessions: dict[str, Stored] = {}
            beside: dict[str, Mapping[str, Any]] = {}
            unreadable: set[str] = set()
            for item in self._items("pk = :pk", {}):
                key = _key(item)
                if key.split("#")[0] in {TARGET_KEY, SCOPES_KEY}:
                    beside[key] = item
                    continue
                session_id = key.removeprefix(SESSION_PREFIX)
                try:
                    sessions[session_id] = self._in_mode(self._table.read_session(item))
                except ItemError:
                    unreadable.add(session_id)
        snapshot = self._with_parts(snapshot, beside, unreadable)
        return replace(snapshot, sessions=sessions, unreadable=frozenset(unreadable))

    def _with_parts(
        self, snapshot: Snapshot, beside: Mapping[str, Mapping[str, Any]], unreadable: set[str]
    ) -> Snapshot:
        """Add what lies in items beside the target's own; the keys of those that can't be read are noted.

        Without a part of the gaps no scope reads as covered: that part may be the one that says it was not.
        """
        scopes: set[Scope] = set()
        number = parts = 0
        while number <= parts:
            key = f"{SCOPES_KEY}#{number}" if number else SCOPES_KEY
            number += 1
            if key in beside:
                try:
                    some, more = self._table.read_scopes(beside[key])
                except ItemError:
                    unreadable.add(key)
                else:
                    scopes |= some
                    parts = max(parts, more)
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
        return replace(snapshot, target=target, scopes=frozenset(scopes))

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

    def keep(self, snapshot: Snapshot) -> None:
        """Keep the snapshot of a completed sweep, so that the next one need not read it again.

        That is done by a sweep that found everything readable and wrote nothing but the target's item, so
        that what it read is what is there; and only if nothing but a commit can change the table from here
        on, which takes the target's version on: an outbox another sweep could clear.
        """
        waiting = snapshot.outbox or any(stored.outbox for stored in snapshot.sessions.values())
        self._kept = None if self._wrote or waiting or snapshot.unreadable else snapshot

    def commit(
        self,
        snapshot: Snapshot,
        target: Target,
        writes: Mapping[str, tuple[Remembered | None, tuple[Event, ...]]],
        time_left: Callable[[], float],
    ) -> Commit:
        """Write what is remembered of each session, with its outbox; None forgets the session.

        Every transaction is fenced: it takes the version of the target's item one up from the one that
        was read, so that whoever read before it can commit nothing after it. `target` is the state that
        the fence keeps. What `time_left()` seconds do not suffice for stays uncommitted. Raises FencedError.
        """
        sessions = dict(snapshot.sessions)
        written: dict[str, Stored | None] = {}

        def groups() -> Iterator[tuple[str, list[Action]]]:
            for session_id, (remembered, outbox) in writes.items():
                known = snapshot.sessions.get(session_id)
                version = known.version if known else 0
                if remembered is None:
                    written[session_id] = None
                    yield session_id, [self._table.delete(SESSION_PREFIX + session_id, version)]
                else:
                    # An id that comes back must not meet the versions of its earlier life: each begins with
                    # its own second, and a life is written far less often than once a second.
                    following = version + 1 if known else int(remembered.first_seen.timestamp())
                    after = written[session_id] = Stored(remembered, outbox, following)
                    yield session_id, [self._table.put_session(version, after)]

        fence = _Fence(self._table, replace(snapshot, target=target), snapshot.version)
        uncommitted: set[str] = set()
        for batch in _batches(groups(), ACTIONS_LIMIT - 1):
            uncommitted |= self._write(batch, fence) if time_left() > 0 else batch.keys()
        _apply(sessions, written, uncommitted)
        if fence.version != snapshot.version:
            snapshot = replace(snapshot, target=target, version=fence.version)
        return Commit(replace(snapshot, sessions=sessions), frozenset(uncommitted))

    def commit_target(
        self, snapshot: Snapshot, target: Target, outbox: tuple[Event, ...], scopes: frozenset[Scope]
    ) -> Snapshot:
        """Write the target's item, the last of a sweep, and what lies beside it. Raises FencedError."""
        whole, (target, rest) = target, self._table.put_rest(target, snapshot.unreadable)
        parts = max(rest, default=0)
        # What is left out must not read as covered.
        scopes -= {gap.scope for gap in whole.gaps} - {gap.scope for gap in target.gaps}
        known = snapshot.target
        as_before = (
            known is not None
            and snapshot.parts == parts
            and (known.gaps, known.holes) == (target.gaps, target.holes)
        )
        after = replace(snapshot, target=target, version=snapshot.version + 1, outbox=outbox, parts=parts)
        fence = _Fence(self._table, after, snapshot.version)
        beside = [] if as_before else list(rest.values())
        scopes_change = scopes != snapshot.scopes and not any(
            key.split("#")[0] == SCOPES_KEY for key in snapshot.unreadable
        )
        if scopes_change:
            beside += self._table.put_scopes(scopes)
        if beside:
            if not self._write({TARGET_KEY: beside}, fence):
                return replace(after, scopes=scopes) if scopes_change else after
            if rest and not as_before:
                raise SnapshotError(
                    f"table {self._table.name} cannot be written (too busy); "
                    "nothing is lost, the next sweep goes on"
                )
        with self._in_reach("written"):
            try:
                self._client.put_item(**fence.put()["Put"])
            except ClientError as error:
                if error_code(error) in _OVERTAKEN:
                    raise FencedError from None
                raise
        return after

    def clear(
        self, snapshot: Snapshot, accepted: frozenset[str], refused: Mapping[str, str], now: datetime
    ) -> Snapshot:
        """Take the events that EventBridge accepted or refused, by id, out of the outboxes.

        A refused event is first written to an item of its own with its error code. A session whose end is
        published moves to history in the same step. An item that somebody else wrote since keeps its outbox.
        """
        waiting = [*snapshot.outbox, *(event for each in snapshot.sessions.values() for event in each.outbox)]
        apart = [event for event in waiting if event.event_id in refused]
        not_apart = self._write_all(
            (event.event_id, [self._table.put_refused(event, refused[event.event_id], now)])
            for event in apart
        )
        settled = accepted | (refused.keys() - not_apart)
        sessions = dict(snapshot.sessions)
        written: dict[str, Stored | None] = {}

        def groups() -> Iterator[tuple[str, list[Action]]]:
            for session_id, stored in snapshot.sessions.items():
                rest = tuple(event for event in stored.outbox if event.event_id not in settled)
                if len(rest) == len(stored.outbox):
                    continue
                if stored.remembered.ending and not rest:
                    written[session_id] = None
                    yield (
                        session_id,
                        [
                            self._table.delete(SESSION_PREFIX + session_id, stored.version),
                            self._table.put_history(stored.remembered, stored.remembered.ending, now),
                        ],
                    )
                else:
                    after = written[session_id] = Stored(stored.remembered, rest, stored.version + 1)
                    yield session_id, [self._table.put_session(stored.version, after)]

        _apply(sessions, written, self._write_all(groups()))
        snapshot = replace(snapshot, sessions=sessions)
        rest = tuple(event for event in snapshot.outbox if event.event_id not in settled)
        if snapshot.target and rest != snapshot.outbox:
            put = _Fence(self._table, replace(snapshot, outbox=rest), snapshot.version).put()
            if not self._write({TARGET_KEY: [put]}, None):
                snapshot = replace(snapshot, version=snapshot.version + 1, outbox=rest)
        return snapshot

    def refused(self) -> list[RefusedEvent]:
        """Read the events that EventBridge refused; what can't be read is left alone."""
        found = []
        with self._in_reach("read"):
            for item in self._items("pk = :pk", {":pk": self._table.refused_partition}):
                try:
                    found.append(self._table.read_refused(item))
                except ItemError:
                    continue
        return found

    def forget_refused(self, event: Event) -> None:
        """Delete an event that was refused, once it is published."""
        with self._in_reach("written"):
            self._client.delete_item(**self._table.delete_refused(event))

    def _write_all(self, groups: Iterable[tuple[str, list[Action]]]) -> set[str]:
        """Write groups of actions, unfenced, in few transactions; give the keys of those that failed."""
        failed: set[str] = set()
        for batch in _batches(groups, ACTIONS_LIMIT):
            failed |= self._write(batch, None)
        return failed

    def _write(self, batch: Mapping[str, list[Action]], fence: "_Fence | None") -> frozenset[str]:
        """Write a batch of groups in one transaction; leave out what breaks it and try the rest again.

        Gives the keys of the groups that could not be written; all of them while the table is busy.
        """
        if not batch:
            return frozenset()
        self._wrote = True
        actions = [fence.put()] if fence else []
        owners: list[str | None] = [None] * len(actions)
        for key, group in batch.items():
            actions += group
            owners += [key] * len(group)
        with self._in_reach("written"):
            try:
                self._client.transact_write_items(TransactItems=actions)  # type: ignore[arg-type]
            except ClientError as error:
                code = error_code(error)
                if code in _BUSY:
                    return frozenset(batch)
                if code == "ValidationException":
                    keys = list(batch)
                    if len(keys) == 1:
                        return frozenset(keys)
                    half = len(keys) // 2
                    return self._write({key: batch[key] for key in keys[:half]}, fence) | self._write(
                        {key: batch[key] for key in keys[half:]}, fence
                    )
                if code in _OVERTAKEN:
                    if fence:
                        raise FencedError from None
                    return frozenset(batch)
                if code != "TransactionCanceledException":
                    raise
                reasons = _reasons(error)
                if fence and reasons[:1] and reasons[0] in _OVERTAKEN:
                    raise FencedError from None
                blamed = frozenset(
                    owner
                    for owner, reason in zip(owners, reasons, strict=False)
                    if owner and reason != "None"
                )
                if not blamed:
                    return frozenset(batch)
                return blamed | self._write({key: batch[key] for key in batch if key not in blamed}, fence)
        if fence:
            fence.version += 1
        return frozenset()

    def _items(self, condition: str, values: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table.name,
            KeyConditionExpression=condition,
            ExpressionAttributeValues={":pk": self._table.partition, **values},
            ConsistentRead=True,
        )
        for page in pages:
            yield from page["Items"]

    def _target(self, item: Mapping[str, Any]) -> Snapshot:
        try:
            target, version, outbox, broken, parts = self._table.read_target(item)
        except ItemError:
            raise SnapshotError(
                f"the target's item in table {self._table.name} is broken or of a newer release than this "
                f"one (schema {SCHEMA}): deploy that release, or delete the item {TARGET_KEY}, "
                "which begins with a new baseline"
            ) from None
        return Snapshot(target, version, outbox, broken=broken, parts=parts)

    @contextmanager
    def _in_reach(self, verb: str) -> Iterator[None]:
        try:
            yield
        except (ClientError, BotoCoreError, *MALFORMED_ERRORS) as error:
            reason = MALFORMED
            if isinstance(error, ClientError | BotoCoreError):
                reason = error_code(error)
            # The cause is cut off: its message may quote an item, and items hold user ids.
            raise SnapshotError(
                f"table {self._table.name} cannot be {verb} ({reason}); "
                "nothing is lost, the next sweep goes on"
            ) from None


@dataclass(slots=True)
class _Fence:
    """What a transaction has to find as the target's version, and the target's item that it puts there."""

    table: Table
    after: Snapshot
    version: int

    def put(self) -> Action:
        """Put the target's item one version up."""
        after = self.after
        target = after.target or Target(first_begin=None)
        stored = StoredTarget(target, self.version + 1, after.outbox, after.broken, after.parts)
        return self.table.put_target(self.version, stored)


def _key(item: Any) -> str:
    """Return the sort key of an item; "" if it has none that can be read."""
    try:
        key = item["sk"]["S"]
    except (LookupError, TypeError):
        return ""
    return key if isinstance(key, str) else ""


def _reasons(error: ClientError) -> list[str]:
    """Return what DynamoDB says of each action of a transaction that it cancelled, "None" if nothing."""
    reasons: Any = error.response.get("CancellationReasons")
    codes = [
        reason.get("Code") if isinstance(reason, dict) else None
        for reason in (reasons if isinstance(reasons, list) else ())
    ]
    return [code if isinstance(code, str) else "None" for code in codes]


def _apply(sessions: dict[str, Stored], written: Mapping[str, Stored | None], failed: Iterable[str]) -> None:
    for session_id in written.keys() - set(failed):
        stored = written[session_id]
        if stored is None:
            del sessions[session_id]
        else:
            sessions[session_id] = stored


def _batches(
    groups: Iterable[tuple[str, list[Action]]], actions_limit: int
) -> Iterator[dict[str, list[Action]]]:
    """Cut into transactions; a group of actions stays together. Takes no more than the next one needs."""
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
