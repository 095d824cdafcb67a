"""What the command answers with `-o json`: models whose schemas are published in docs/schemas/command.

Plain data, made from `views`. Fields may be added; none is renamed, removed or given another meaning. A text
that is not known is empty, a time that is not known is null.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, NamedTuple, assert_never

from pydantic import BaseModel, ConfigDict, PlainSerializer, WithJsonSchema
from pydantic.alias_generators import to_camel

from appstream_auditor.timeouts import Verdict
from session_auditor.contract import timestamp
from session_auditor.model import Cause, DetailType, EndReason, Life, PolicyKind, Presence, TargetId
from session_auditor.policies import Draining, OutsideHours, Policy, TooLong, TooManySessions
from session_auditor.preview import Previewed
from session_auditor.views import Fault, Row, Status

Time = Annotated[
    datetime,
    PlainSerializer(timestamp, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


class Answer(BaseModel):
    """A part of an answer."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)


class Named(NamedTuple):
    """A target, and the name of its account; "" if that is not known."""

    id: TargetId
    account_name: str = ""

    @property
    def words(self) -> str:
        """What people call it."""
        return f"{self.account_name or self.id.account_id} {self.id.region}"


class OfTarget(Answer):
    """What is said of one target."""

    account_id: str
    region: str
    account_name: str


class Failure(OfTarget):
    """A target that could not be asked, and why; without an account, all of a region."""

    reason: str


class DegradedScope(Answer):
    """A stack and fleet that cannot be listed whole; both names are empty for a whole target."""

    stack_name: str
    fleet_name: str
    reason: str
    since: Time


class FaultedFleet(Answer):
    """A fleet of which AppStream names errors; `codes` have commas between."""

    fleet_name: str
    codes: str
    since: Time


class StatusRow(OfTarget):
    """One target at a glance; times in seconds. `violating` sessions violate a policy.

    `faultedFleets` are no fault of the audit.
    """

    live: int
    connected: int
    away: int
    abandoned: int
    violating: int
    faulted_fleets: tuple[FaultedFleet, ...]
    degraded: tuple[DegradedScope, ...]
    swept_at: Time | None
    swept_seconds_ago: int | None
    pending_events: int
    oldest_pending_seconds: int
    faults: tuple[Fault, ...]


class StatusAnswer(Answer):
    """The answer of `status`."""

    as_of: Time
    targets: tuple[StatusRow, ...]
    failures: tuple[Failure, ...]


def status_row(target: Named, status: Status, faults: Sequence[Fault], now: datetime) -> StatusRow:
    """Return a target at a glance."""
    return StatusRow(
        account_id=target.id.account_id,
        region=target.id.region,
        account_name=target.account_name,
        live=status.live,
        connected=status.totals[Presence.CONNECTED],
        away=status.away,
        abandoned=status.abandoned,
        violating=status.violating,
        faulted_fleets=tuple(
            FaultedFleet(fleet_name=fault.fleet, codes=fault.codes, since=fault.since)
            for fault in status.faulted
        ),
        degraded=tuple(
            DegradedScope(
                stack_name=gap.scope.stack, fleet_name=gap.scope.fleet, reason=gap.reason, since=gap.since
            )
            for gap in status.degraded
        ),
        swept_at=status.swept,
        swept_seconds_ago=_seconds(status.swept, now),
        pending_events=status.pending,
        oldest_pending_seconds=_seconds(status.waiting, now) or 0,
        faults=tuple(faults),
    )


class ViolationRow(Answer):
    """A policy that a session violates; `limit` and `actual` are texts as in the event."""

    policy: str
    kind: PolicyKind
    threshold_minutes: int
    since: Time
    limit: str
    actual: str


class SessionRow(OfTarget):
    """A live session; seconds are whole. `watched` is false while its stack and fleet are not listed.

    `policies` names those that it violates, with commas between; `violations` says how.
    """

    session_id: str
    user_id: str
    stack_name: str
    fleet_name: str
    presence: Presence
    since: Time
    away_seconds: int
    abandoned_minutes: int
    ends_at: Time | None
    ends_in_seconds: int | None
    cause: Cause
    state: str
    connection_state: str
    authentication_type: str
    start_time: Time | None
    max_expiration_time: Time | None
    instance_id: str
    eni_private_ip_address: str
    instance_drain_status: str
    seen_at: Time | None
    watched: bool
    policies: str
    violations: tuple[ViolationRow, ...]


class SessionsAnswer(Answer):
    """The answer of `sessions`: those that were asked for, of `total`."""

    as_of: Time
    total: int
    sessions: tuple[SessionRow, ...]
    notes: tuple[str, ...]
    failures: tuple[Failure, ...]


def session_row(target: Named, row: Row, now: datetime) -> SessionRow:
    """Return a live session."""
    session = row.session
    return SessionRow(
        account_id=target.id.account_id,
        region=target.id.region,
        account_name=target.account_name,
        session_id=session.id,
        user_id=session.user_id,
        stack_name=session.scope.stack,
        fleet_name=session.scope.fleet,
        presence=row.presence,
        since=row.since,
        away_seconds=int(row.away(now).total_seconds()),
        abandoned_minutes=row.abandoned,
        ends_at=row.deadline.at,
        ends_in_seconds=_seconds(now, row.deadline.at) if row.deadline.at else None,
        cause=row.deadline.cause,
        state=session.state,
        connection_state=session.connection_state,
        authentication_type=session.authentication_type,
        start_time=session.start_time,
        max_expiration_time=session.max_expiration_time,
        instance_id=session.instance_id,
        eni_private_ip_address=session.eni_private_ip_address,
        instance_drain_status=session.instance_drain_status,
        seen_at=row.seen,
        watched=row.watched,
        policies=",".join(row.policies),
        violations=tuple(
            ViolationRow(
                policy=each.policy,
                kind=each.kind,
                threshold_minutes=each.threshold,
                since=each.since,
                limit=each.limit,
                actual=each.actual,
            )
            for each in row.remembered.violations
        ),
    )


class LifeRow(OfTarget):
    """A session that was, or is: `endedAt` is null while it lives. Seconds are as observed, a lower bound.

    `maxSessionsPerInstance` is 0 where an instance takes one session, or that is not known.
    """

    session_id: str
    user_id: str
    stack_name: str
    fleet_name: str
    fleet_type: str
    instance_type: str
    max_sessions_per_instance: int
    instance_id: str
    authentication_type: str
    started_at: Time
    ended_at: Time | None
    end_reason: EndReason | None
    connected_seconds: int
    disconnected_seconds: int
    never_connected_seconds: int
    disconnects: int


def life_row(target: Named, life: Life) -> LifeRow:
    """Return a session that was, or is."""
    return LifeRow(
        account_id=target.id.account_id,
        region=target.id.region,
        account_name=target.account_name,
        session_id=life.session_id,
        user_id=life.user_id,
        stack_name=life.scope.stack,
        fleet_name=life.scope.fleet,
        fleet_type=life.fleet_type,
        instance_type=life.instance_type,
        max_sessions_per_instance=life.max_sessions,
        instance_id=life.instance_id,
        authentication_type=life.authentication_type,
        started_at=life.start,
        ended_at=life.end,
        end_reason=life.reason,
        connected_seconds=life.connected_seconds,
        disconnected_seconds=life.disconnected_seconds,
        never_connected_seconds=life.never_connected_seconds,
        disconnects=life.disconnects,
    )


class SumRow(OfTarget):
    """Sessions of a user, a fleet, a day or a month; the most at once, and when there first were so many.

    Nobody was connected for `aloneSeconds`, of these for `neverConnectedSeconds` before anybody ever was.
    With `--prices`, `aloneCost` is what those hours cost, and `avoidableCost` what of it would not have been
    charged without them; null without. `unpricedSessions` are in neither; `unpricedTypes` are their instance
    types, "" where it is not known what they ran on. Amounts are decimals, as text.
    """

    name: str
    sessions: int
    connected_seconds: int
    alone_seconds: int
    peak: int
    peak_at: Time | None
    never_connected_seconds: int
    currency: str
    alone_cost: Decimal | None
    avoidable_cost: Decimal | None
    unpriced_sessions: int | None
    unpriced_types: tuple[str, ...]


class HistoryAnswer(Answer):
    """The answer of `history`: sessions, or sums of them with `--by`.

    Before `auditedSince`, the first sweep, only those are counted that were still on then. `notes` say what
    amounts of money leave out.
    """

    since: Time
    until: Time
    audited_since: Time | None
    sessions: tuple[LifeRow, ...]
    sums: tuple[SumRow, ...]
    failures: tuple[Failure, ...]
    notes: tuple[str, ...] = ()


class WhatIfRow(OfTarget):
    """What a disconnect timeout would have meant for a fleet; null for what is not known.

    It would have saved at least `savedSeconds`, and cost at most `lostReturns` of the `returns` their
    session; null where `verdict` says that what was seen does not tell. That rests on so many `sessions`;
    `leftOut` are those whose timeline does not tell everything.
    """

    fleet_name: str
    present_timeout_seconds: int | None
    timeout_seconds: int
    verdict: Verdict
    saved_seconds: int | None
    lost_returns: int | None
    returns: int
    sessions: int
    left_out: int


class AdviceRow(OfTarget):
    """What follows for a fleet's disconnect timeout; `timeoutSeconds` is one to set, null without."""

    fleet_name: str
    timeout_seconds: int | None
    sentence: str


class WhatIfAnswer(Answer):
    """The answer of `what-if`, by the sessions that ended from `since` to before `until`."""

    since: Time
    until: Time
    timeouts: tuple[WhatIfRow, ...]
    advice: tuple[AdviceRow, ...]
    notes: tuple[str, ...]
    failures: tuple[Failure, ...]


class EventRow(Answer):
    """An event of a life, observed `at`; nobody had looked since `since`, null if that is not known."""

    sequence: int
    detail_type: DetailType
    at: Time
    since: Time | None
    threshold_minutes: int
    cause: Cause
    policy: str


class ComingRow(Answer):
    """What will be told of a live session if nothing happens to it."""

    detail_type: DetailType
    at: Time
    threshold_minutes: int
    cause: Cause


class ExplainAnswer(Answer):
    """The answer of `explain`: a session, what was told of it, and what will be.

    `events` counts all that were told; of a long life the first 8 and the last 24 are in `timeline`.
    """

    as_of: Time
    session: LifeRow
    live: SessionRow | None
    first_seen_at: Time
    ended_after: Time | None
    events: int
    timeline: tuple[EventRow, ...]
    coming: tuple[ComingRow, ...]


class Outcome(StrEnum):
    """What became of a session that was ended; UNKNOWN if AppStream could not be asked in the end."""

    GONE = "GONE"
    STILL_LISTED = "STILL_LISTED"
    UNKNOWN = "UNKNOWN"


class EndAnswer(OfTarget):
    """The answer of `end`: AppStream took the call `calledAt`; what became of it was seen at `seenAt`.

    `userId` and `connectionState` are as AppStream listed them just before the call.
    """

    session_id: str
    user_id: str
    stack_name: str
    fleet_name: str
    connection_state: str
    reason: str
    called_at: Time
    outcome: Outcome
    seen_at: Time


class PolicyRow(Answer):
    """A policy of a document. `limit` and `hours` are texts for people; `pairs` counts its thresholds."""

    name: str
    kind: PolicyKind
    limit: str
    hours: str
    pairs: int


class ValidateAnswer(Answer):
    """The answer of `policies validate`: the policies of a document; or what is wrong in it, as `error`."""

    policies: tuple[PolicyRow, ...]
    pairs: int
    error: str


def policy_row(policy: Policy) -> PolicyRow:
    """Return a policy of a document."""
    limit, hours = _limit(policy), policy.hours.text if isinstance(policy, OutsideHours) else ""
    return PolicyRow(
        name=policy.name, kind=policy.kind, limit=limit, hours=hours, pairs=len(policy.thresholds)
    )


def _limit(policy: Policy) -> str:
    match policy:
        case OutsideHours():
            grace = int(policy.grace.total_seconds()) // 60
            return f"{grace} min of grace" if grace else ""
        case TooManySessions():
            return f"{policy.limit} at once"
        case TooLong() | Draining():
            return f"{', '.join(map(str, policy.thresholds))} min"
        case _:
            assert_never(policy)


class OffenderRow(Answer):
    """A session that would violate a policy; `limit` and `actual` are texts as in the event."""

    session_id: str
    user_id: str
    stack_name: str
    fleet_name: str
    threshold_minutes: int
    limit: str
    actual: str


class PreviewRow(Answer):
    """How many violations of a policy would begin and be over; `sessions` are the first that begin one."""

    account_id: str
    region: str
    name: str
    kind: PolicyKind
    violated: int
    cleared: int
    sessions: tuple[OffenderRow, ...]


class UnlistedScope(Answer):
    """A stack and fleet that could not be listed, and why: nothing is known of its sessions."""

    stack_name: str
    fleet_name: str
    reason: str


class PreviewAnswer(Answer):
    """The answer of `policies preview`, of so many sessions; or what is wrong in the document, as `error`.

    `scopesFailed` counts the stacks and fleets that could not be listed; `unlisted` are the first of them.
    """

    as_of: Time
    sessions: int
    scopes_failed: int
    unlisted: tuple[UnlistedScope, ...]
    policies: tuple[PreviewRow, ...]
    error: str


def preview_row(target_id: TargetId, name: str, previewed: Previewed) -> PreviewRow:
    """Return what would be told of a policy."""
    return PreviewRow(
        account_id=target_id.account_id,
        region=target_id.region,
        name=name,
        kind=previewed.kind,
        violated=previewed.violated,
        cleared=previewed.cleared,
        sessions=tuple(
            OffenderRow(
                session_id=each.session_id,
                user_id=each.user_id,
                stack_name=each.stack_name,
                fleet_name=each.fleet_name,
                threshold_minutes=each.threshold_minutes,
                limit=each.limit,
                actual=each.actual,
            )
            for each in previewed.sessions
        ),
    )


def _seconds(since: datetime | None, now: datetime) -> int | None:
    return None if since is None else max(0, int((now - since).total_seconds()))
