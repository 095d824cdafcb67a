"""The contract with consumers: the models of the events, their ids, their JSON Schemas.

Plain data in, plain data out. What an event is about was found by the comparison; its line for people comes
from `wording`. Consumers depend on these models only.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from json import dumps
from typing import Annotated, Any, NamedTuple, assert_never

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel

from session_auditor.clocks import used
from session_auditor.comparison import Transition
from session_auditor.coverage import AuditChange
from session_auditor.faults import FaultChange
from session_auditor.model import (
    Cause,
    Change,
    ClearReason,
    ConnectionState,
    DetailType,
    EndReason,
    Event,
    Facts,
    Options,
    PolicyKind,
    Presence,
    Scope,
    Session,
    TargetId,
)
from session_auditor.model import Time as StoredTime
from session_auditor.wording import (
    SUMMARY_LIMIT,
    audit_summary,
    fleet_summary,
    minutes_left,
    seconds_between,
    summary,
)

SOURCE = "appstream.auditor"
SCHEMA_VERSION = 1


def timestamp(time: datetime | None) -> str:
    """Write a time as ISO 8601 in UTC with Z, to the second; "" for None."""
    return f"{time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='seconds')}Z" if time else ""


_TIME_PATTERN = r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z"
Time = Annotated[
    datetime,
    PlainSerializer(timestamp, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": f"^{_TIME_PATTERN}$"}),
]
TimeOrEmpty = Annotated[
    datetime | None,
    BeforeValidator(lambda time: time or None),
    PlainSerializer(timestamp, return_type=str),
    WithJsonSchema({"type": "string", "pattern": f"^({_TIME_PATTERN})?$"}),
]
Count = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True, hide_input_in_errors=True
    )


class Metadata(_Part):
    """Where an event comes from, and its place in its session's history."""

    event_id: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    schema_version: int = SCHEMA_VERSION
    account_id: str
    region: str
    sweep_id: str
    observed_at: Time
    previous_observed_at: TimeOrEmpty
    sequence: Annotated[int, Field(ge=1)]


class SessionPart(_Part):
    """The session as AWS listed it; what AWS left out is empty."""

    id: str
    user_id: str
    stack_name: str
    fleet_name: str
    state: str
    connection_state: str
    authentication_type: str
    start_time: TimeOrEmpty
    max_expiration_time: TimeOrEmpty
    instance_id: str
    eni_id: str
    eni_private_ip_address: str
    instance_drain_status: str


class PreviousPart(_Part):
    """What was known before; empty for a session that was not."""

    state: str
    connection_state: str


class DeadlinePart(_Part):
    """When the session will be ended, and by what; whole minutes, rounded down."""

    at: TimeOrEmpty
    cause: Cause
    minutes_left: Count


class UsagePart(_Part):
    """How the session was used, as far as it was observed."""

    age_seconds: Count
    connected_seconds: Count
    disconnected_seconds: Count
    disconnects: Count


class FleetPart(_Part):
    """What DescribeFleets says of the fleet; "" and 0 where it is not known."""

    instance_type: str
    fleet_type: str
    platform: str
    max_sessions_per_instance: Count


Tags = Annotated[
    dict[str, str],
    WithJsonSchema(
        {
            "type": "object",
            "description": "A field for each name in the setting TagKeys",
            "additionalProperties": {"type": "string"},
        }
    ),
]


class PolicyPart(_Part):
    """Which policy is violated, since when as far as that is known, and by how much; texts for people."""

    name: str
    kind: PolicyKind
    since: Time
    limit: str
    actual: str


Line = Annotated[str, Field(max_length=SUMMARY_LIMIT, pattern=r'^[^<>&"\\`\x00-\x1f\x7f]*$')]


class SessionData(_Part):
    """What every event of a session says."""

    session: SessionPart
    previous: PreviousPart
    deadline: DeadlinePart
    usage: UsagePart
    fleet: FleetPart
    tags: Tags
    summary: Line


class StartedData(SessionData):
    """A session was seen for the first time; `baseline` if it was there before the audit was."""

    baseline: bool


class WarningData(SessionData):
    """A threshold was crossed, in minutes."""

    threshold_minutes: Annotated[int, Field(ge=1)]


class EndedData(SessionData):
    """A session ended, after it was last seen and before its end was."""

    end_reason: Annotated[
        EndReason,
        WithJsonSchema(
            {"type": "string", "enum": [each for each in EndReason if each != EndReason.UNWATCHED]}
        ),
    ]
    ended_after: Time
    ended_before: Time


class ViolatedData(SessionData):
    """A session does what a policy forbids; the threshold is in minutes, 0 where the kind has none."""

    policy: PolicyPart
    threshold_minutes: Count


class ClearedData(ViolatedData):
    """It does so no more: `policy` is as it was told of when it was violated."""

    clear_reason: ClearReason


class FleetData(_Part):
    """AppStream names errors of a fleet, or none any more; `codes` are those that were told last."""

    stack_name: str
    fleet_name: str
    since: Time
    codes: str
    fleet: FleetPart
    tags: Tags
    summary: Line


class AuditData(_Part):
    """A scope could not be covered since then, or can be again; both names are empty for a whole target."""

    stack_name: str
    fleet_name: str
    reason: str
    since: Time
    fleet: FleetPart
    tags: Tags
    summary: Line


class SessionDetail(_Part):
    """Connected, Disconnected, Reconnected and Unwatched."""

    metadata: Metadata
    data: SessionData


class StartedDetail(_Part):
    """Started."""

    metadata: Metadata
    data: StartedData


class WarningDetail(_Part):
    """Expiring and Abandoned."""

    metadata: Metadata
    data: WarningData


class EndedDetail(_Part):
    """Ended."""

    metadata: Metadata
    data: EndedData


class ViolatedDetail(_Part):
    """Policy Violated."""

    metadata: Metadata
    data: ViolatedData


class ClearedDetail(_Part):
    """Policy Cleared."""

    metadata: Metadata
    data: ClearedData


class FleetDetail(_Part):
    """Fleet Faulted and Fleet Recovered."""

    metadata: Metadata
    data: FleetData


class AuditDetail(_Part):
    """Audit Degraded and Audit Recovered."""

    metadata: Metadata
    data: AuditData


def detail_of(detail_type: DetailType) -> type[BaseModel]:
    """Return the model of a detail-type's `detail`."""
    match detail_type:
        case DetailType.STARTED:
            return StartedDetail
        case DetailType.CONNECTED | DetailType.DISCONNECTED | DetailType.RECONNECTED | DetailType.UNWATCHED:
            return SessionDetail
        case DetailType.EXPIRING | DetailType.ABANDONED:
            return WarningDetail
        case DetailType.ENDED:
            return EndedDetail
        case DetailType.POLICY_VIOLATED:
            return ViolatedDetail
        case DetailType.POLICY_CLEARED:
            return ClearedDetail
        case DetailType.FLEET_FAULTED | DetailType.FLEET_RECOVERED:
            return FleetDetail
        case DetailType.AUDIT_DEGRADED | DetailType.AUDIT_RECOVERED:
            return AuditDetail
        case _:
            assert_never(detail_type)


def is_closing(detail_type: DetailType) -> bool:
    """Return whether an event closes what others of a session's life, a gap or a fault have opened."""
    match detail_type:
        case (
            DetailType.ENDED | DetailType.UNWATCHED | DetailType.FLEET_RECOVERED | DetailType.AUDIT_RECOVERED
        ):
            return True
        case (
            DetailType.STARTED
            | DetailType.CONNECTED
            | DetailType.DISCONNECTED
            | DetailType.RECONNECTED
            | DetailType.EXPIRING
            | DetailType.ABANDONED
            | DetailType.POLICY_VIOLATED
            | DetailType.POLICY_CLEARED
            | DetailType.FLEET_FAULTED
            | DetailType.AUDIT_DEGRADED
        ):
            return False
        case _:
            assert_never(detail_type)


def json_schema(detail_type: DetailType) -> dict[str, Any]:
    """Return the JSON Schema of a detail-type's `detail`, as published in docs/schemas."""
    schema = detail_of(detail_type).model_json_schema(by_alias=True, mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": detail_type.value}


class Occasion(NamedTuple):
    """What the events of one sweep have in common."""

    target: TargetId
    sweep_id: str
    observed_at: datetime
    facts: Facts
    options: Options


def session_events(transition: Transition, occasion: Occasion) -> Iterator[Event]:
    """Return the events of one session's changes, in order, numbered on from its history."""
    after, target = transition.after, occasion.target
    first = after.sequence - len(transition.changes) + 1
    for sequence, change in enumerate(transition.changes, first):
        identity = (*target[1:], after.session.id, timestamp(after.first_seen), sequence, change.detail_type)
        metadata = _metadata(occasion, identity, sequence, transition.previous_observed_at)
        data = _session_data(transition, change, occasion)
        yield _event(change.detail_type, metadata, data, target, after.session.scope)


def fleet_event(change: FaultChange, occasion: Occasion) -> Event:
    """Return the event of a fleet's fault; `sequence` counts from 1 within one fault."""
    fault, target = change.fault, occasion.target
    scope = Scope("", fault.fleet)
    identity = (*target[1:], fault.fleet, timestamp(fault.since), fault.sequence, change.detail_type)
    metadata = _metadata(occasion, identity, fault.sequence, change.previous_observed_at)
    data = FleetData(
        stack_name="",
        fleet_name=fault.fleet,
        since=fault.since,
        codes=fault.codes,
        **_facts(occasion, scope),
        summary=fleet_summary(change, time_zone=occasion.options.time_zone),
    )
    return _event(change.detail_type, metadata, data, target, scope)


def audit_event(change: AuditChange, occasion: Occasion) -> Event:
    """Return the event of a change of coverage; `sequence` is 1 when a scope degrades, 2 when it recovers."""
    gap, target = change.gap, occasion.target
    identity = (*target[1:], *gap.scope, timestamp(gap.since), change.detail_type)
    sequence = 2 if is_closing(change.detail_type) else 1
    metadata = _metadata(occasion, identity, sequence, change.previous_observed_at)
    data = AuditData(
        stack_name=gap.scope.stack,
        fleet_name=gap.scope.fleet,
        reason=gap.reason,
        since=gap.since,
        **_facts(occasion, gap.scope),
        summary=audit_summary(change, time_zone=occasion.options.time_zone),
    )
    return _event(change.detail_type, metadata, data, target, gap.scope)


def _metadata(
    occasion: Occasion, identity: tuple[str | int, ...], sequence: int, previous: datetime | None
) -> Metadata:
    return Metadata(
        event_id=_event_id(identity),
        account_id=occasion.target.account_id,
        region=occasion.target.region,
        sweep_id=occasion.sweep_id,
        observed_at=occasion.observed_at,
        previous_observed_at=previous,
        sequence=sequence,
    )


def _facts(occasion: Occasion, scope: Scope) -> dict[str, Any]:
    """Return what is known of a scope's fleet, and the tags that are asked for."""
    fleet, tags = occasion.facts.fleet(scope.fleet), occasion.facts.tags(scope)
    return {
        "fleet": FleetPart(
            instance_type=fleet.instance_type,
            fleet_type=fleet.type,
            platform=fleet.platform,
            max_sessions_per_instance=fleet.max_sessions,
        ),
        "tags": {key: tags.get(key, "") for key in occasion.options.tag_keys},
    }


class Origin(NamedTuple):
    """Which session an event is of ("" for an audit event), in which scope, and its number there.

    `began` is when that life of the session, or that gap of the scope, began.
    """

    session_id: str
    scope: Scope
    sequence: int
    began: str

    @property
    def subject(self) -> tuple[str, ...]:
        """What events in order are of: the session, or the scope."""
        return (self.session_id,) if self.session_id else self.scope


def committed_event(target: TargetId, detail_type: DetailType, detail: str) -> Event:
    """Return an event as it was committed; raise ValueError if it is not one of ours."""
    committed = _committed(detail)
    metadata, resources = committed.metadata, _resources(target, committed.origin.scope)
    return Event(detail_type, metadata.event_id, metadata.observed_at, resources, detail)


def origin_of(event: Event) -> Origin:
    """Return what an event is of."""
    return _committed(event.detail).origin


def session_of(event: Event) -> Session:
    """Return the session that an event tells of, as it was then; raise ValueError if it is none of ours."""
    try:
        said = _Told.model_validate_json(event.detail).data.session
        times = [time and time.astimezone(UTC) for time in (said.start_time, said.max_expiration_time)]
    except (OverflowError, ValidationError):
        # The cause is cut off: it may quote a user id.
        raise ValueError("not an event of a session") from None
    fields = said.model_dump(exclude={"stack_name", "fleet_name", "start_time", "max_expiration_time"})
    scope = Scope(said.stack_name, said.fleet_name)
    return Session(scope=scope, start_time=times[0], max_expiration_time=times[1], **fields)


class _ToldData(_Part):
    session: SessionPart


class _Told(_Part):
    data: _ToldData


class _Subject(_Part):
    id: str = ""
    stack_name: str
    fleet_name: str
    start_time: str = ""
    since: str = ""


class _SessionData(_Part):
    session: _Subject


class _CommittedMetadata(_Part):
    event_id: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    observed_at: StoredTime
    sequence: Annotated[int, Field(ge=1)]


class _Committed(_Part):
    """What is read of an event that was committed; the rest of it is passed on as it is."""

    metadata: _CommittedMetadata
    data: _SessionData | _Subject

    @property
    def origin(self) -> Origin:
        subject = self.data.session if isinstance(self.data, _SessionData) else self.data
        scope = Scope(subject.stack_name, subject.fleet_name)
        return Origin(subject.id, scope, self.metadata.sequence, subject.start_time or subject.since)


def _committed(detail: str) -> _Committed:
    try:
        return _Committed.model_validate_json(detail)
    except ValidationError:
        # The cause is cut off: it may quote a user id.
        raise ValueError("not an event of the auditor") from None


def _event_id(identity: tuple[str | int, ...]) -> str:
    return sha256(dumps(identity).encode()).hexdigest()[:32]


def _event(
    detail_type: DetailType, metadata: Metadata, data: BaseModel, target: TargetId, scope: Scope
) -> Event:
    whole = detail_of(detail_type).model_construct(metadata=metadata, data=data)
    # With “ in it Python would keep two bytes for every character, and a sweep may hold 100,000 events.
    detail = whole.model_dump_json(by_alias=True, ensure_ascii=True)
    return Event(detail_type, metadata.event_id, metadata.observed_at, _resources(target, scope), detail)


def _resources(target: TargetId, scope: Scope) -> tuple[str, ...]:
    prefix = f"arn:{target.partition}:appstream:{target.region}:{target.account_id}"
    # Of a stack whose fleets were never known there is no fleet to name, of a whole target neither; a fleet's
    # own fault is of no stack.
    named = (("fleet", scope.fleet), ("stack", scope.stack))
    return tuple(f"{prefix}:{kind}/{name}" for kind, name in named if name)


def _session_data(transition: Transition, change: Change, occasion: Occasion) -> SessionData:
    before, after = transition.before, transition.after
    session, observed_at = after.session, occasion.observed_at
    deadline = transition.deadline
    until = after.ending.before if after.ending else observed_at
    usage = used(after, until)
    parts: dict[str, Any] = {
        "session": SessionPart(
            id=session.id,
            user_id=session.user_id,
            stack_name=session.scope.stack,
            fleet_name=session.scope.fleet,
            state=session.state,
            connection_state=session.connection_state,
            authentication_type=session.authentication_type,
            start_time=session.start_time,
            max_expiration_time=session.max_expiration_time,
            instance_id=session.instance_id,
            eni_id=session.eni_id,
            eni_private_ip_address=session.eni_private_ip_address,
            instance_drain_status=session.instance_drain_status,
        ),
        "previous": PreviousPart(
            state=before.session.state if before else "",
            connection_state=_previous_connection(before.presence) if before else "",
        ),
        "deadline": DeadlinePart(
            at=deadline.at, cause=deadline.cause, minutes_left=minutes_left(deadline, observed_at)
        ),
        "usage": UsagePart(
            age_seconds=seconds_between(session.start_time or after.first_seen, until),
            connected_seconds=usage.connected,
            disconnected_seconds=usage.disconnected,
            disconnects=after.disconnects,
        ),
        **_facts(occasion, session.scope),
        "summary": summary(transition, change, observed_at, time_zone=occasion.options.time_zone),
    }
    match change.detail_type:
        case DetailType.STARTED:
            return StartedData(**parts, baseline=after.baseline)
        case DetailType.EXPIRING | DetailType.ABANDONED:
            return WarningData(**parts, threshold_minutes=change.threshold)
        case DetailType.ENDED:
            if after.ending is None:
                raise ValueError("a life that goes on has no end")
            ending = after.ending
            return EndedData(
                **parts, end_reason=ending.reason, ended_after=ending.after, ended_before=ending.before
            )
        case DetailType.POLICY_VIOLATED:
            return ViolatedData(**parts, **_policy(change))
        case DetailType.POLICY_CLEARED:
            if change.clear_reason is None:
                raise ValueError("a violation that goes on is not cleared")
            return ClearedData(**parts, **_policy(change), clear_reason=change.clear_reason)
        case DetailType.CONNECTED | DetailType.DISCONNECTED | DetailType.RECONNECTED | DetailType.UNWATCHED:
            return SessionData(**parts)
        case _:
            assert_never(change.detail_type)


def _policy(change: Change) -> dict[str, Any]:
    violation = change.violation
    if violation is None:
        raise ValueError("no violation")
    part = PolicyPart(
        name=violation.policy,
        kind=violation.kind,
        since=violation.since,
        limit=violation.limit,
        actual=violation.actual,
    )
    return {"policy": part, "threshold_minutes": violation.threshold}


def _previous_connection(presence: Presence) -> str:
    match presence:
        case Presence.UNKNOWN:
            return ""
        case Presence.NEVER_CONNECTED | Presence.DISCONNECTED:
            return ConnectionState.NOT_CONNECTED
        case Presence.CONNECTED:
            return ConnectionState.CONNECTED
        case _:
            assert_never(presence)
