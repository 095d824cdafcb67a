"""How an event reads: its models, its id, its line for people, its JSON Schema.

Plain data in, plain data out. This module words what the comparison found and decides nothing; it
knows no AWS client, no environment, no logger and no clock. Consumers depend on these models only.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from json import dumps
from typing import Annotated, Any, NamedTuple, assert_never

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, ValidationError, WithJsonSchema
from pydantic.alias_generators import to_camel

from session_auditor.comparison import Change, Deadline, Transition, used
from session_auditor.coverage import FILTERED, AuditChange
from session_auditor.model import (
    Cause,
    ConnectionState,
    DetailType,
    EndReason,
    Event,
    Gap,
    Presence,
    Scope,
    TargetId,
)
from session_auditor.model import Time as StoredTime

SOURCE = "appstream.auditor"
SCHEMA_VERSION = 1
SUMMARY_LIMIT = 200
# Whoever reads the line may paste it into Slack, HTML, a shell or a spreadsheet; chat programs render
# brackets, asterisks and the like. “ and ” are ours alone: a user id stands in them.
_HARMLESS = str.maketrans(
    {"<": "(", ">": ")", "[": "(", "]": ")", "&": "+", "\\": "/"} | dict.fromkeys('"`*~|“”', "'")
)
# A mention, and what makes a link of an address. An @ inside a word is a mail address.
_MENTION = re.compile(r"(?<!\w)@|@(?!\w)")
_LINK = re.compile(r":+(?=//)")
# Prints nothing and yet counts as printable: default ignorable code points (Unicode), the empty Braille cell.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_PREVIOUS_CONNECTION = {
    Presence.UNKNOWN: "",
    Presence.NEVER_CONNECTED: ConnectionState.NOT_CONNECTED.value,
    Presence.DISCONNECTED: ConnectionState.NOT_CONNECTED.value,
    Presence.CONNECTED: ConnectionState.CONNECTED.value,
}
_CAUSES = {Cause.MAX_DURATION: "maximum duration", Cause.DISCONNECT_TIMEOUT: "disconnect timeout"}
_REASONS = {
    EndReason.SCOPE_GONE: "its stack or fleet is gone",
    EndReason.UNKNOWN: "for a reason that is not known",
    EndReason.MAX_DURATION: "maximum duration reached",
    EndReason.DISCONNECT_TIMEOUT: "disconnect timeout reached",
    EndReason.NEVER_CONNECTED: "nobody was seen connected",
    EndReason.USER_OR_ADMIN: "by its user or an administrator",
    EndReason.UNWATCHED: "a filter leaves it out",
}


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


Summary = Annotated[str, Field(max_length=SUMMARY_LIMIT, pattern=r'^[^<>&"\\`\x00-\x1f\x7f]*$')]


class SessionData(_Part):
    """What every event of a session says."""

    session: SessionPart
    previous: PreviousPart
    deadline: DeadlinePart
    usage: UsagePart
    summary: Summary


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


class AuditData(_Part):
    """A scope could not be covered since then, or can be again; both names are empty for a whole target."""

    stack_name: str
    fleet_name: str
    reason: str
    since: Time
    summary: Summary


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


class AuditDetail(_Part):
    """Audit Degraded and Audit Recovered."""

    metadata: Metadata
    data: AuditData


DETAILS: Mapping[DetailType, type[_Part]] = {
    DetailType.STARTED: StartedDetail,
    DetailType.CONNECTED: SessionDetail,
    DetailType.DISCONNECTED: SessionDetail,
    DetailType.RECONNECTED: SessionDetail,
    DetailType.EXPIRING: WarningDetail,
    DetailType.ABANDONED: WarningDetail,
    DetailType.ENDED: EndedDetail,
    DetailType.UNWATCHED: SessionDetail,
    DetailType.AUDIT_DEGRADED: AuditDetail,
    DetailType.AUDIT_RECOVERED: AuditDetail,
}


def json_schema(detail_type: DetailType) -> dict[str, Any]:
    """Give the JSON Schema of a detail-type's `detail`, as published in docs/schemas."""
    schema = DETAILS[detail_type].model_json_schema(by_alias=True, mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": detail_type.value}


def session_events(
    transition: Transition, target: TargetId, sweep_id: str, observed_at: datetime
) -> Iterator[Event]:
    """Word the changes of one session, in order, numbered on from its history."""
    after = transition.after
    first = after.sequence - len(transition.changes) + 1
    for sequence, change in enumerate(transition.changes, first):
        identity = (*target[1:], after.session.id, timestamp(after.first_seen), sequence, change.detail_type)
        metadata = Metadata(
            event_id=_event_id(identity),
            account_id=target.account_id,
            region=target.region,
            sweep_id=sweep_id,
            observed_at=observed_at,
            previous_observed_at=transition.previous_observed_at,
            sequence=sequence,
        )
        data = _session_data(transition, change, observed_at)
        yield _event(change.detail_type, metadata, data, target, after.session.scope)


def audit_event(change: AuditChange, target: TargetId, sweep_id: str, observed_at: datetime) -> Event:
    """Word a change of coverage; `sequence` is 1 when a scope degrades and 2 when it recovers."""
    gap = change.gap
    degraded = change.detail_type is DetailType.AUDIT_DEGRADED
    metadata = Metadata(
        event_id=_event_id((*target[1:], *gap.scope, timestamp(gap.since), change.detail_type)),
        account_id=target.account_id,
        region=target.region,
        sweep_id=sweep_id,
        observed_at=observed_at,
        previous_observed_at=change.previous_observed_at,
        sequence=1 if degraded else 2,
    )
    data = AuditData(
        stack_name=gap.scope.stack,
        fleet_name=gap.scope.fleet,
        reason=gap.reason,
        since=gap.since,
        summary=_cut(_audit_summary(gap, degraded=degraded), SUMMARY_LIMIT),
    )
    return _event(change.detail_type, metadata, data, target, gap.scope)


class Place(NamedTuple):
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
    """Return an event as it was committed; raises ValueError if it is not one of ours."""
    committed = _committed(detail)
    metadata, resources = committed.metadata, _resources(target, committed.place.scope)
    return Event(detail_type, metadata.event_id, metadata.observed_at, resources, detail)


def place_of(event: Event) -> Place:
    """Return what an event is of."""
    return _committed(event.detail).place


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
    def place(self) -> Place:
        subject = self.data.session if isinstance(self.data, _SessionData) else self.data
        scope = Scope(subject.stack_name, subject.fleet_name)
        return Place(subject.id, scope, self.metadata.sequence, subject.start_time or subject.since)


def _committed(detail: str) -> _Committed:
    try:
        return _Committed.model_validate_json(detail)
    except ValidationError:
        # The cause is cut off: it may quote a user id.
        raise ValueError("not an event of the auditor") from None


def harmless(text: str, limit: int) -> str:
    """Make text of unknown origin safe to print: one line, no markup, no control or format characters."""
    line = "".join(each for each in _INVISIBLE.sub("", text).translate(_HARMLESS) if each.isprintable())
    return _cut(_LINK.sub("", _MENTION.sub("", " ".join(line.split()))), limit)


def _cut(line: str, limit: int) -> str:
    # What is cut off must not leave the beginning of a mention.
    return line if len(line) <= limit else line[: limit - 3].rstrip("@") + "..."


def _event_id(identity: tuple[str | int, ...]) -> str:
    return sha256(dumps(identity).encode()).hexdigest()[:32]


def _event(
    detail_type: DetailType, metadata: Metadata, data: BaseModel, target: TargetId, scope: Scope
) -> Event:
    whole = DETAILS[detail_type].model_construct(metadata=metadata, data=data)
    # With “ in it Python would keep two bytes for every character, and a sweep may hold 100,000 events.
    detail = whole.model_dump_json(by_alias=True, ensure_ascii=True)
    return Event(detail_type, metadata.event_id, metadata.observed_at, _resources(target, scope), detail)


def _resources(target: TargetId, scope: Scope) -> tuple[str, ...]:
    place = f"arn:{target.partition}:appstream:{target.region}:{target.account_id}"
    stack = f"{place}:stack/{scope.stack}"
    # Of a stack whose fleets were never known there is no fleet to name, of a whole target neither.
    return (f"{place}:fleet/{scope.fleet}", stack) if scope.fleet else (stack,) if scope.stack else ()


def _session_data(transition: Transition, change: Change, observed_at: datetime) -> SessionData:
    before, after = transition.before, transition.after
    session = after.session
    deadline = transition.deadline
    until = after.ending.before if after.ending else observed_at
    connected, disconnected = used(after, until)
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
            connection_state=_PREVIOUS_CONNECTION[before.presence] if before else "",
        ),
        "deadline": DeadlinePart(
            at=deadline.at, cause=deadline.cause, minutes_left=_minutes_left(deadline, observed_at)
        ),
        "usage": UsagePart(
            age_seconds=_seconds(session.start_time or after.first_seen, until),
            connected_seconds=connected,
            disconnected_seconds=disconnected,
            disconnects=after.disconnects,
        ),
        "summary": _cut(_summary(transition, change, observed_at), SUMMARY_LIMIT),
    }
    match change.detail_type:
        case DetailType.STARTED:
            return StartedData(**parts, baseline=after.baseline)
        case DetailType.EXPIRING | DetailType.ABANDONED:
            return WarningData(**parts, threshold_minutes=change.threshold)
        case DetailType.ENDED if after.ending:
            ending = after.ending
            return EndedData(
                **parts, end_reason=ending.reason, ended_after=ending.after, ended_before=ending.before
            )
        case _:
            return SessionData(**parts)


def _summary(transition: Transition, change: Change, observed_at: datetime) -> str:
    before, after, deadline = transition.before, transition.after, transition.deadline
    # A line opens with our own word: a spreadsheet would run a user id that opens with "=".
    name = harmless(after.session.user_id, 60)
    user, whose = (f"User “{name}”", f"The session of “{name}”") if name else ("A user", "A session")
    place = _place(after.session.scope)
    ends = _ends(deadline, observed_at)
    match change.detail_type:
        case DetailType.STARTED if after.baseline:
            return f"{user} has a session {place} that began before the audit"
        case DetailType.STARTED:
            return f"{user} started a session {place}"
        case DetailType.CONNECTED:
            return f"{user} connected {place}"
        case DetailType.DISCONNECTED:
            return f"{user} disconnected {place}" + (f"; the session ends at {ends}" if ends else "")
        case DetailType.RECONNECTED:
            # Who was away before a hole and after it may have been there in between.
            if before is None or before.clocks_from is not None:
                return f"{user} reconnected {place}"
            away = _duration(_seconds(before.presence_since, observed_at))
            return f"{user} reconnected {place} after {away}"
        case DetailType.EXPIRING:
            minutes = _duration(_minutes_left(deadline, observed_at) * 60)
            return f"{whose} {place} ends in {minutes}, at {ends}"
        case DetailType.ABANDONED:
            minutes = _duration(change.threshold * 60)
            left = f"; it ends at {ends}" if ends else ""
            return f"{whose} {place} is abandoned: nobody was seen connected for {minutes}{left}"
        case DetailType.ENDED:
            reason = _REASONS[after.ending.reason] if after.ending else ""
            return f"{whose} {place} has ended: {reason}"
        case DetailType.UNWATCHED:
            return f"{whose} {place} is not audited any more: {_REASONS[EndReason.UNWATCHED]}"
        case DetailType.AUDIT_DEGRADED | DetailType.AUDIT_RECOVERED:
            raise ValueError("an audit event is of no session")
        case _:
            assert_never(change.detail_type)


def _ends(deadline: Deadline, observed_at: datetime) -> str:
    if deadline.at is None:
        return ""
    day = "" if deadline.at.date() == observed_at.date() else f"{deadline.at:%Y-%m-%d} "
    return f"{day}{deadline.at:%H:%M} UTC ({_CAUSES[deadline.cause]})"


def _audit_summary(gap: Gap, *, degraded: bool) -> str:
    what = f"Sessions {_place(gap.scope)}" if gap.scope.stack else "Stacks and fleets"
    verb = "listed" if gap.scope.stack else "read"
    since = f"since {gap.since:%Y-%m-%d %H:%M} UTC"
    if degraded:
        return f"{what} could not be {verb} {since}: {harmless(gap.reason, 40)}"
    if gap.reason == FILTERED:
        return f"{what} are not audited any more; they had not been {verb} {since}"
    return f"{what} are {verb} again; they had not been {since}"


def _place(scope: Scope) -> str:
    return f"on stack {harmless(scope.stack, 32)}, fleet {harmless(scope.fleet, 32)}"


def _minutes_left(deadline: Deadline, observed_at: datetime) -> int:
    return _seconds(observed_at, deadline.at) // 60 if deadline.at else 0


def _seconds(start: datetime, end: datetime) -> int:
    return max(0, int((end - start).total_seconds()))


def _duration(seconds: int) -> str:
    hours, minutes = divmod(seconds // 60, 60)
    return f"{hours} h {minutes} min" if hours and minutes else f"{hours} h" if hours else f"{minutes} min"
