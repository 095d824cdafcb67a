"""How the snapshot lies in the table: keys, items, and what can be read of an item.

It knows DynamoDB's form of an item and no client. Whatever an item holds, reading it either succeeds or
raises ItemError; nothing else.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import count
from typing import Any, NamedTuple, TypeVar

from pydantic import TypeAdapter

from session_auditor import states
from session_auditor.contract import committed_event, origin_of, timestamp
from session_auditor.errors import ItemError
from session_auditor.model import (
    NAME_BYTES,
    WHOLE_TARGET,
    DetailType,
    EndReason,
    Event,
    Facts,
    Fault,
    Gap,
    Hole,
    KnownPolicies,
    Life,
    Scope,
    Stored,
    Target,
    TargetId,
    Timeline,
)

# Written with every item but those of sessions, whose form `states` knows: read and translated likewise.
TARGET_SCHEMA = 1
TARGET_KEY = "TARGET"
SCOPES_KEY = "SCOPES"
FLEETS_KEY = "FLEETS"
POLICIES_KEY = "POLICIES"
# The items of a target's partition that are of no session.
BESIDE = frozenset([TARGET_KEY, SCOPES_KEY, FLEETS_KEY, POLICIES_KEY])
SESSION_PREFIX = "SESSION#"
# What does not fit an item lies in further ones: TARGET#1, SCOPES#1, FLEETS#1 and so on. An item may have
# 400 KB.
PART_BYTES = 250_000
# Gaps and holes that lie on the target's own item, which every sweep and every transaction writes.
INLINE_BYTES = 25_000
# Gaps, scopes and facts are written in one transaction of at most 4 MB. A scope whose gap doesn't fit reads
# as never covered.
PARTS_BYTES = 1_700_000
FACTS_BYTES = 400_000
PARTS_LIMIT = 40

# The index of ended sessions by user, and what it needs of an item.
BY_USER, USER_KEY = "byUser", "userId"
# The most that DynamoDB takes as a partition key.
USER_KEY_BYTES = 2_048

_TARGET = TypeAdapter(Target)
_TIMELINE = TypeAdapter(Timeline)
_SCOPES = TypeAdapter(tuple[Scope, ...])
_FACTS = TypeAdapter(Facts)
_POLICIES = TypeAdapter(KnownPolicies)

_ZERO = {"N": "0"}
Item = Mapping[str, Any]
Action = dict[str, dict[str, Any]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Rest:
    """Gaps, holes and faults that lie beside the target's item."""

    gaps: tuple[Gap, ...] = ()
    holes: tuple[Hole, ...] = ()
    faults: tuple[Fault, ...] = ()


_REST = TypeAdapter(_Rest)


class StoredTarget(NamedTuple):
    """The target's item; `broken` entries of its outbox are no events, `parts` counts the further items.

    `changed` is the version of the last write that changed any other item; 0 if that is not known.
    """

    target: Target
    version: int
    outbox: tuple[Event, ...]
    broken: tuple[Any, ...]
    parts: int
    changed: int


class RefusedEvent(NamedTuple):
    """An event that EventBridge refused for good, with the error code."""

    event: Event
    error_code: str


@dataclass(frozen=True, slots=True)
class Table:
    """The table of one target; ended sessions and refused events stay in it `history_for`."""

    name: str
    target_id: TargetId
    history_for: timedelta

    @property
    def partition(self) -> dict[str, str]:
        """The partition of all that a sweep reads."""
        return {"S": f"TARGET#{self._account_and_region}"}

    @property
    def refused_partition(self) -> dict[str, str]:
        """The partition of events that EventBridge refused."""
        return {"S": f"REFUSED#{self._account_and_region}"}

    @property
    def _account_and_region(self) -> str:
        return f"{self.target_id.account_id}#{self.target_id.region}"

    def read_session(self, item: Item) -> Stored:
        """Read a session's item; raise ItemError."""
        with _readable():
            version, outbox = self._versioned(item, states.SCHEMA)
            events = tuple(map(self._event, outbox))
            remembered = states.read_state(_text(item["state"]), _number(item["schema"]), events)
            if item["sk"]["S"] != SESSION_PREFIX + remembered.session.id:
                raise ItemError("another session's state")
            names = (remembered.session.id, *remembered.session.scope)
            if not all(0 < len(name.encode()) <= NAME_BYTES for name in names):
                raise ItemError("an id or a scope that AppStream cannot have")
            if any(origin_of(event).session_id != remembered.session.id for event in events):
                raise ItemError("another session's event")
            return Stored(remembered, events, version)

    def is_of_this_release(self, item: Item) -> bool:
        """Return whether a session's item, which was read, has the form that this release writes."""
        return _number(item["schema"]) == states.SCHEMA

    def read_target(self, item: Item) -> StoredTarget:
        """Read the target's item; raise ItemError. A broken entry of its outbox is kept as it is."""
        with _readable():
            target, version, entries = self._read(item, _TARGET)
            if target.last_begin and not target.first_begin:
                raise ItemError("a sweep before the first one")
            events, broken = [], []
            for entry in entries:
                try:
                    with _readable():
                        events.append(self._event(entry))
                except ItemError:
                    broken.append(entry)
            changed = max(0, min(_number(item.get("changed", _ZERO)), version))
            return StoredTarget(target, version, tuple(events), tuple(broken), _parts(item), changed)

    def read_scopes(self, item: Item) -> tuple[frozenset[Scope], int]:
        """Read the list of scopes, or a part of it, and how many parts there are; raise ItemError."""
        with _readable():
            return frozenset(self._read(item, _SCOPES)[0]), _parts(item)

    def read_facts(self, item: Item) -> tuple[Facts, int]:
        """Read what is known of fleets and stacks, or a part of it, likewise; raise ItemError."""
        with _readable():
            return self._read(item, _FACTS)[0], _parts(item)

    def read_policies(self, item: Item) -> KnownPolicies:
        """Read the last good document of policies; raise ItemError."""
        with _readable():
            return self._read(item, _POLICIES)[0]

    def read_rest(self, item: Item, target: Target) -> Target:
        """Add the gaps, holes and faults of a further item of the target; raise ItemError."""
        with _readable():
            rest, _, _ = self._read(item, _REST)
            return replace(
                target,
                gaps=target.gaps + rest.gaps,
                holes=target.holes + rest.holes,
                faults=target.faults + rest.faults,
            )

    def read_refused(self, item: Item) -> RefusedEvent:
        """Read an event that was refused; raise ItemError."""
        with _readable():
            detail_type = DetailType(_text(item["detailType"]))
            event = committed_event(self.target_id, detail_type, _text(item["detail"]))
            if item["sk"]["S"] != event.event_id:
                raise ItemError("another event's detail")
            return RefusedEvent(event, _text(item["errorCode"]))

    def put_session(self, version: int, after: Stored) -> Action:
        """Put a session's item over the version that was read (0: there was none)."""
        key = SESSION_PREFIX + after.remembered.session.id
        state = states.write_state(after.remembered, after.outbox)
        put = self._item(key, after.version, state, after.outbox, schema=states.SCHEMA)
        return {"Put": put | _condition(version)}

    def put_target(self, version: int, after: StoredTarget) -> Action:
        """Put the target's item over the version that was read (0: there was none)."""
        target = after.target
        if after.parts:
            own = tuple(gap for gap in target.gaps if gap.scope == WHOLE_TARGET)
            target = replace(target, gaps=own, holes=(), faults=())
        state = _json(_TARGET, target)
        put = self._item(TARGET_KEY, after.version, state, after.outbox, broken=after.broken)
        put["Item"]["changed"] = {"N": str(after.changed)}
        if after.parts:
            put["Item"]["parts"] = {"N": str(after.parts)}
        return {"Put": put | _condition(version)}

    def put_rest(self, target: Target, left_alone: Collection[str]) -> tuple[Target, dict[int, Action]]:
        """Put the gaps, holes and faults that do not fit the target's item, if so, into further items.

        Returns the target with the gaps that fit, too, and the puts by the number of their item; the items
        `left_alone`, by key, are not written over.
        """
        # What was announced must not be left out: it has to be taken back.
        gaps = sorted(target.gaps, key=lambda gap: not gap.announced)
        entries = [
            *(_Rest(faults=(fault,)) for fault in target.faults),
            *(_Rest(holes=(hole,)) for hole in target.holes),
            *(_Rest(gaps=(gap,)) for gap in gaps if gap.scope != WHOLE_TARGET),
        ]
        sizes = [len(_json(_REST, entry).encode()) for entry in entries]
        if sum(sizes) <= INLINE_BYTES:
            return target, {}
        own = tuple(gap for gap in target.gaps if gap.scope == WHOLE_TARGET)
        parts = [
            _Rest(
                gaps=tuple(gap for entry in part for gap in entry.gaps),
                holes=tuple(hole for entry in part for hole in entry.holes),
                faults=tuple(fault for entry in part for fault in entry.faults),
            )
            for part in _cut(entries, sizes)
        ]
        kept = replace(
            target,
            gaps=own + tuple(gap for part in parts for gap in part.gaps),
            holes=tuple(hole for part in parts for hole in part.holes),
            faults=tuple(fault for part in parts for fault in part.faults),
        )
        keys = ((number, f"{TARGET_KEY}#{number}") for number in count(1))
        free = ((number, key) for number, key in keys if key not in left_alone)
        return kept, {
            number: {"Put": self._item(key, 1, _json(_REST, part))}
            for part, (number, key) in zip(parts, free, strict=False)
        }

    def put_scopes(self, scopes: frozenset[Scope]) -> list[Action]:
        """Put the list of scopes, in as many items as it takes."""
        ordered = sorted(scopes)
        parts = _cut(ordered, [len(_json(_SCOPES, (scope,)).encode()) for scope in ordered]) or [[]]
        puts = [
            self._item(key, 1, _json(_SCOPES, tuple(part)))
            for number, part in enumerate(parts)
            for key in [f"{SCOPES_KEY}#{number}" if number else SCOPES_KEY]
        ]
        if len(puts) > 1:
            puts[0]["Item"]["parts"] = {"N": str(len(puts) - 1)}
        return [{"Put": put} for put in puts]

    def put_facts(self, facts: Facts) -> tuple[Facts, list[Action]]:
        """Put what is known of fleets and stacks into as many items as it takes.

        Returns what fitted, too: nothing depends on the rest.
        """
        entries = [
            *(Facts({name: fleet}) for name, fleet in facts.fleets.items()),
            *(Facts(stack_tags={name: tags}) for name, tags in facts.stack_tags.items()),
        ]
        sizes = [len(_json(_FACTS, entry).encode()) for entry in entries]
        parts = [
            Facts(
                {name: fleet for entry in part for name, fleet in entry.fleets.items()},
                {name: tags for entry in part for name, tags in entry.stack_tags.items()},
            )
            for part in _cut(entries, sizes, FACTS_BYTES)
        ] or [Facts()]
        kept = Facts(
            {name: fleet for part in parts for name, fleet in part.fleets.items()},
            {name: tags for part in parts for name, tags in part.stack_tags.items()},
        )
        keys = (f"{FLEETS_KEY}#{number}" if number else FLEETS_KEY for number in count())
        puts = [
            {"Put": self._item(key, 1, _json(_FACTS, part))} for key, part in zip(keys, parts, strict=False)
        ]
        puts[0]["Put"]["Item"]["parts"] = {"N": str(len(puts) - 1)}
        return kept, puts

    def put_policies(self, policies: KnownPolicies) -> Action:
        """Put the last good document of policies."""
        return {"Put": self._item(POLICIES_KEY, 1, _json(_POLICIES, policies))}

    def delete(self, key: str, version: int) -> Action:
        """Delete an item of the version that was read."""
        return {"Delete": {"TableName": self.name, "Key": self._key(key)} | _condition(version)}

    def history_partition(self, day: date) -> dict[str, str]:
        """The partition of the sessions that ended on a day, in UTC."""
        return {"S": f"{self._history_prefix}{day:%Y-%m-%d}"}

    @property
    def _history_prefix(self) -> str:
        return f"HISTORY#{self._account_and_region}#"

    def put_history(self, life: Life, end: datetime, now: datetime) -> Action:
        """Put what is kept of a session that ended then."""
        texts = {
            "pk": self.history_partition(end)["S"],
            "sk": f"{timestamp(end)}#{life.session_id}",
            "sessionId": life.session_id,
            "stackName": life.scope.stack,
            "fleetName": life.scope.fleet,
            "startTime": timestamp(life.start),
            "firstSeen": timestamp(life.first_seen),
            "endedAfter": timestamp(life.ended_after),
            "endTime": timestamp(end),
            "endReason": life.reason.value if life.reason else "",
            USER_KEY: life.user_id if len(life.user_id.encode()) <= USER_KEY_BYTES else "",
            "instanceId": life.instance_id,
            "authenticationType": life.authentication_type,
            "fleetType": life.fleet_type,
            "instanceType": life.instance_type,
            "timeline": life.timeline,
        }
        # DynamoDB refuses an empty text as the key of an index: the session would stay among the live ones.
        texts = {name: text for name, text in texts.items() if text}
        numbers = {
            "connectedSeconds": life.connected_seconds,
            "disconnectedSeconds": life.disconnected_seconds,
            "neverConnectedSeconds": life.never_connected_seconds,
            "disconnects": life.disconnects,
            "events": life.events,
        }
        if life.max_sessions:
            numbers["maxSessionsPerInstance"] = life.max_sessions
        return self._kept_aside(texts, numbers, now)

    def read_history(self, item: Item) -> Life:
        """Read what is kept of a session that is over; raise ItemError. Earlier releases kept less."""
        with _readable():
            texts = {name: _text(value) for name, value in item.items() if "S" in value}
            if not texts["pk"].startswith(self._history_prefix):
                raise ItemError("another target's")
            start = _time(texts["startTime"])
            ended_after = texts.get("endedAfter")
            return Life(
                session_id=texts["sessionId"],
                scope=Scope(texts["stackName"], texts["fleetName"]),
                start=start,
                first_seen=_time(texts["firstSeen"]) if "firstSeen" in texts else start,
                end=_time(texts["endTime"]),
                ended_after=_time(ended_after) if ended_after else None,
                reason=EndReason(texts["endReason"]),
                user_id=texts.get(USER_KEY, ""),
                instance_id=texts.get("instanceId", ""),
                authentication_type=texts.get("authenticationType", ""),
                fleet_type=texts.get("fleetType", ""),
                instance_type=texts.get("instanceType", ""),
                max_sessions=_number(item.get("maxSessionsPerInstance", _ZERO)),
                connected_seconds=_number(item["connectedSeconds"]),
                disconnected_seconds=_number(item["disconnectedSeconds"]),
                never_connected_seconds=_number(item.get("neverConnectedSeconds", _ZERO)),
                disconnects=_number(item["disconnects"]),
                events=_number(item.get("events", _ZERO)),
                timeline=_TIMELINE.validate_python(texts.get("timeline", "")),
            )

    def put_refused(self, event: Event, code: str, now: datetime) -> Action:
        """Put an event that EventBridge refused, with the error code."""
        texts = {
            "pk": self.refused_partition["S"],
            "sk": event.event_id,
            "detailType": event.detail_type.value,
            "detail": event.detail,
            "errorCode": code,
            "refusedAt": timestamp(now),
        }
        return self._kept_aside(texts, {}, now)

    def delete_refused(self, event: Event) -> dict[str, Any]:
        """Return the parameters that delete an event that was put back."""
        return {"TableName": self.name, "Key": {"pk": self.refused_partition, "sk": {"S": event.event_id}}}

    def _read(self, item: Item, state: TypeAdapter[T]) -> tuple[T, int, Sequence[Any]]:
        version, outbox = self._versioned(item, TARGET_SCHEMA)
        return state.validate_json(_text(item["state"])), version, outbox

    def _versioned(self, item: Item, schema: int) -> tuple[int, Sequence[Any]]:
        """Return the version and the outbox of an item; raise ItemError if a newer release wrote it."""
        if _number(item["schema"]) > schema:
            raise ItemError("written by a newer release")
        version = _number(item["version"])
        if version < 1:
            raise ItemError("no version")
        outbox = item.get("outbox", {"L": []})["L"]
        if not isinstance(outbox, list):
            raise ItemError("no outbox")
        return version, outbox

    def _event(self, entry: Any) -> Event:
        detail_type = DetailType(_text(entry["M"]["type"]))
        return committed_event(self.target_id, detail_type, _text(entry["M"]["detail"]))

    def _item(
        self,
        key: str,
        version: int,
        state: str,
        outbox: Sequence[Event] = (),
        *,
        schema: int = TARGET_SCHEMA,
        broken: Sequence[Any] = (),
    ) -> dict[str, Any]:
        item: dict[str, Any] = {
            **self._key(key),
            "schema": {"N": str(schema)},
            "version": {"N": str(version)},
            "state": {"S": state},
        }
        entries = [
            *broken,
            *({"M": {"type": {"S": event.detail_type}, "detail": {"S": event.detail}}} for event in outbox),
        ]
        if entries:
            item["outbox"] = {"L": entries}
        return {"TableName": self.name, "Item": item}

    def _key(self, key: str) -> dict[str, Any]:
        return {"pk": self.partition, "sk": {"S": key}}

    def _kept_aside(self, texts: Mapping[str, str], numbers: Mapping[str, int], now: datetime) -> Action:
        expires = {"expiresAt": int((now + self.history_for).timestamp())}
        item = {name: {"S": text} for name, text in texts.items()} | {
            name: {"N": str(number)} for name, number in {**numbers, **expires}.items()
        }
        return {"Put": {"TableName": self.name, "Item": item}}


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        # The cause is cut off: it may quote a user id.
        raise ItemError("the item cannot be read") from None


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


def _text(value: Any) -> str:
    text = value["S"]
    if not isinstance(text, str):
        raise ItemError("no text")
    return text


def _number(value: Any) -> int:
    # DynamoDB gives numbers as texts.
    text = value["N"]
    if not isinstance(text, str):
        raise ItemError("no number")
    return int(text)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _parts(item: Item) -> int:
    return max(0, min(_number(item.get("parts", {"N": "0"})), PARTS_LIMIT))


def _cut(entries: Sequence[T], sizes: Sequence[int], limit: int = PARTS_BYTES) -> list[list[T]]:
    """Cut entries of these bytes into parts that each fit an item; what is too much is left out."""
    parts: list[list[T]] = []
    total = size = 0
    for entry, more in zip(entries, sizes, strict=True):
        if more > PART_BYTES:
            continue
        total += more
        if total > limit:
            break
        if not parts or size + more > PART_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(entry)
        size += more
    return parts
