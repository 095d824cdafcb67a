"""Keeps the snapshot in DynamoDB: one item a live session, one for the target, one for its scopes.

It knows the table's layout, versions and transactions, and decides nothing about sessions. All that a
sweep reads lies in one partition; history and refused events lie in others and never slow it down.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from botocore.exceptions import BotoCoreError, ClientError
from pydantic import TypeAdapter

from session_auditor.comparison import used
from session_auditor.errors import error_code
from session_auditor.events import committed_event, timestamp
from session_auditor.model import (
    DetailType,
    Ending,
    Event,
    Remembered,
    Scope,
    Snapshot,
    Stored,
    Target,
    TargetId,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# Written with every item. An item of an older release reads as it is (what it lacks has a default) and
# takes this number when it is next written; one of a newer release is left alone.
SCHEMA = 1
# TransactWriteItems takes 100 actions and 4 MB (API reference).
ACTIONS_LIMIT = 100
BYTES_LIMIT = 3_000_000
# How long a warm container may go without reading the whole table: bounds how long a change that was made
# by hand goes unseen.
KEPT_FOR = timedelta(hours=1)
TARGET_KEY = "TARGET"
SCOPES_KEY = "SCOPES"
SESSION_PREFIX = "SESSION#"

_REMEMBERED = TypeAdapter(Remembered)
_TARGET = TypeAdapter(Target)
_SCOPES = TypeAdapter(tuple[Scope, ...])
# Somebody else wrote the item, or is writing it right now.
_OVERTAKEN = frozenset(["ConditionalCheckFailed", "ConditionalCheckFailedException", "TransactionConflict"])
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

T = TypeVar("T")
Action = dict[str, dict[str, Any]]


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
        self, client: "DynamoDBClient", table_name: str, target_id: TargetId, history_for: timedelta
    ) -> None:
        self._client = client
        self._table = table_name
        self._target_id = target_id
        self._history_for = history_for
        self._place = f"{target_id.account_id}#{target_id.region}"
        self._kept: Snapshot | None = None
        self._read_at = datetime.min.replace(tzinfo=UTC)
        self._wrote = False

    def load(self, now: datetime) -> Snapshot:
        """Read the snapshot, whole and consistent; broken and newer session items are left alone.

        The target's item comes first, so that a commit while the rest is read fences this sweep off. If it
        is the one that this container wrote last, the snapshot that was kept then is still the table's.
        """
        kept, self._kept, self._wrote = self._kept, None, False
        snapshot = Snapshot()
        sessions: dict[str, Stored] = {}
        unreadable: set[str] = set()
        with self._in_reach("read"):
            found = self._items("pk = :pk AND sk = :sk", {":sk": {"S": TARGET_KEY}})
            target = {item["sk"]["S"]: item for item in found}.get(TARGET_KEY)
            if target:
                snapshot = self._target(target)
            fresh = timedelta() <= now - self._read_at < KEPT_FOR
            if kept and fresh and (kept.version, kept.target) == (snapshot.version, snapshot.target):
                return kept
            self._read_at = now
            for item in self._items("pk = :pk", {}):
                key = item["sk"]["S"]
                try:
                    if key == SCOPES_KEY:
                        snapshot = replace(snapshot, scopes=frozenset(self._read(item, _SCOPES)[0]))
                    elif key != TARGET_KEY:
                        remembered, version, outbox = self._read(item, _REMEMBERED)
                        sessions[key.removeprefix(SESSION_PREFIX)] = Stored(remembered, outbox, version)
                except (LookupError, TypeError, ValueError):
                    unreadable.add(key.removeprefix(SESSION_PREFIX))
        return replace(snapshot, sessions=sessions, unreadable=frozenset(unreadable))

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
                    yield session_id, [self._delete(SESSION_PREFIX + session_id, version)]
                else:
                    # An id that comes back must not meet the versions of its earlier life: each begins with
                    # its own second, and a life is written far less often than once a second.
                    following = version + 1 if known else int(remembered.first_seen.timestamp())
                    after = written[session_id] = Stored(remembered, outbox, following)
                    yield session_id, [self._put_session(session_id, version, after)]

        fence = _Fence(snapshot.version, _json(_TARGET, target), snapshot.outbox)
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
        """Write the target's item, the last of a sweep, and changed scopes. Raises FencedError."""
        after = replace(snapshot, target=target, version=snapshot.version + 1, outbox=outbox)
        state = _json(_TARGET, target)
        if scopes != snapshot.scopes and SCOPES_KEY not in snapshot.unreadable:
            item = {"Put": self._item(SCOPES_KEY, 1, _json(_SCOPES, tuple(sorted(scopes))), ())}
            if not self._write({SCOPES_KEY: [item]}, _Fence(snapshot.version, state, outbox)):
                return replace(after, scopes=scopes)
        put = self._put(TARGET_KEY, snapshot.version, state, outbox)
        with self._in_reach("written"):
            try:
                self._client.put_item(**put["Put"])
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
            (event.event_id, [self._refused(event, refused[event.event_id], now)]) for event in apart
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
                            self._delete(SESSION_PREFIX + session_id, stored.version),
                            self._history(stored.remembered, stored.remembered.ending, now),
                        ],
                    )
                else:
                    after = written[session_id] = Stored(stored.remembered, rest, stored.version + 1)
                    yield session_id, [self._put_session(session_id, stored.version, after)]

        _apply(sessions, written, self._write_all(groups()))
        snapshot = replace(snapshot, sessions=sessions)
        rest = tuple(event for event in snapshot.outbox if event.event_id not in settled)
        if snapshot.target and rest != snapshot.outbox:
            put = self._put(TARGET_KEY, snapshot.version, _json(_TARGET, snapshot.target), rest)
            if not self._write({TARGET_KEY: [put]}, None):
                snapshot = replace(snapshot, version=snapshot.version + 1, outbox=rest)
        return snapshot

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
        actions = [self._put(TARGET_KEY, fence.version, fence.state, fence.outbox)] if fence else []
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
                if code != "TransactionCanceledException":
                    raise
                reasons = [
                    reason.get("Code", "None") for reason in error.response.get("CancellationReasons", [])
                ]
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
            TableName=self._table,
            KeyConditionExpression=condition,
            ExpressionAttributeValues={":pk": {"S": f"TARGET#{self._place}"}, **values},
            ConsistentRead=True,
        )
        for page in pages:
            yield from page["Items"]

    def _target(self, item: Mapping[str, Any]) -> Snapshot:
        try:
            target, version, outbox = self._read(item, _TARGET)
        except (LookupError, TypeError, ValueError):
            raise SnapshotError(
                f"the target's item in table {self._table} is broken or of a newer release than this "
                f"one (schema {SCHEMA}): deploy that release, or delete the item {TARGET_KEY}, "
                "which begins with a new baseline"
            ) from None
        return Snapshot(target, version, outbox)

    def _read(self, item: Mapping[str, Any], state: TypeAdapter[T]) -> tuple[T, int, tuple[Event, ...]]:
        if int(item["schema"]["N"]) > SCHEMA:
            raise ValueError("written by a newer release")
        outbox = tuple(
            committed_event(self._target_id, DetailType(entry["M"]["type"]["S"]), entry["M"]["detail"]["S"])
            for entry in item.get("outbox", {"L": []})["L"]
        )
        return state.validate_json(item["state"]["S"]), int(item["version"]["N"]), outbox

    def _put_session(self, session_id: str, version: int, after: Stored) -> Action:
        """Put a session's item over the version that was read (0: there was none)."""
        state = _json(_REMEMBERED, after.remembered)
        item = self._item(SESSION_PREFIX + session_id, after.version, state, after.outbox)
        return {"Put": item | _condition(version)}

    def _put(self, key: str, version: int, state: str, outbox: tuple[Event, ...]) -> Action:
        """Put an item of the target's partition over the version that was read (0: there was none)."""
        return {"Put": self._item(key, version + 1, state, outbox) | _condition(version)}

    def _item(self, key: str, version: int, state: str, outbox: tuple[Event, ...]) -> dict[str, Any]:
        item: dict[str, Any] = {
            **self._key(key),
            "schema": {"N": str(SCHEMA)},
            "version": {"N": str(version)},
            "state": {"S": state},
        }
        if outbox:
            item["outbox"] = {
                "L": [
                    {"M": {"type": {"S": event.detail_type}, "detail": {"S": event.detail}}}
                    for event in outbox
                ]
            }
        return {"TableName": self._table, "Item": item}

    def _delete(self, key: str, version: int) -> Action:
        return {"Delete": {"TableName": self._table, "Key": self._key(key)} | _condition(version)}

    def _key(self, key: str) -> dict[str, Any]:
        return {"pk": {"S": f"TARGET#{self._place}"}, "sk": {"S": key}}

    def _history(self, remembered: Remembered, ending: Ending, now: datetime) -> Action:
        session = remembered.session
        connected, disconnected = used(remembered, ending.before)
        texts = {
            "pk": f"HISTORY#{self._place}#{ending.before:%Y-%m-%d}",
            "sk": f"{timestamp(ending.before)}#{session.id}",
            "sessionId": session.id,
            "userId": session.user_id,
            "stackName": session.scope.stack,
            "fleetName": session.scope.fleet,
            "startTime": timestamp(session.start_time or remembered.first_seen),
            "endTime": timestamp(ending.before),
            "endReason": ending.reason.value,
        }
        numbers = {
            "connectedSeconds": connected,
            "disconnectedSeconds": disconnected,
            "disconnects": remembered.disconnects,
        }
        return self._kept_aside(texts, numbers, now)

    def _refused(self, event: Event, code: str, now: datetime) -> Action:
        texts = {
            "pk": f"REFUSED#{self._place}",
            "sk": event.event_id,
            "detailType": event.detail_type.value,
            "detail": event.detail,
            "errorCode": code,
            "refusedAt": timestamp(now),
        }
        return self._kept_aside(texts, {}, now)

    def _kept_aside(self, texts: Mapping[str, str], numbers: Mapping[str, int], now: datetime) -> Action:
        expires = {"expiresAt": int((now + self._history_for).timestamp())}
        item = {name: {"S": text} for name, text in texts.items()} | {
            name: {"N": str(number)} for name, number in {**numbers, **expires}.items()
        }
        return {"Put": {"TableName": self._table, "Item": item}}

    @contextmanager
    def _in_reach(self, verb: str) -> Iterator[None]:
        try:
            yield
        except (ClientError, BotoCoreError) as error:
            # The cause is cut off: its message may quote an item, and items hold user ids.
            raise SnapshotError(
                f"table {self._table} cannot be {verb} ({error_code(error)}); "
                "nothing is lost, the next sweep goes on"
            ) from None


@dataclass(slots=True)
class _Fence:
    """What a transaction has to find as the target's version, and puts there one version up."""

    version: int
    state: str
    outbox: tuple[Event, ...]


def _condition(version: int) -> dict[str, Any]:
    if version == 0:
        return {"ConditionExpression": "attribute_not_exists(pk)"}
    return {
        "ConditionExpression": "#version = :version",
        "ExpressionAttributeNames": {"#version": "version"},
        "ExpressionAttributeValues": {":version": {"N": str(version)}},
    }


def _json(adapter: TypeAdapter[T], state: T) -> str:
    return adapter.dump_json(state, exclude_defaults=True).decode()


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
