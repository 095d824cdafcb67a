"""What the command answers with `-o json`: models whose schemas are published in docs/schemas/command.

Plain data, made from `views`. Fields may be added; none is renamed, removed or given another meaning. A text
that is not known is empty, a time that is not known is null.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, PlainSerializer, WithJsonSchema
from pydantic.alias_generators import to_camel

from session_auditor.contract import timestamp
from session_auditor.model import Presence, TargetId
from session_auditor.views import Fault, Status

Time = Annotated[
    datetime,
    PlainSerializer(timestamp, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


class Answer(BaseModel):
    """A part of an answer."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)


class Failure(Answer):
    """A region that could not be asked, and why."""

    region: str
    reason: str


class DegradedScope(Answer):
    """A stack and fleet that cannot be listed whole; both names are empty for a whole target."""

    stack_name: str
    fleet_name: str
    reason: str
    since: Time


class StatusRow(Answer):
    """One target at a glance; times in seconds."""

    account_id: str
    region: str
    live: int
    connected: int
    away: int
    abandoned: int
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


class Check(StrEnum):
    """What `doctor` looks at."""

    CREDENTIALS = "CREDENTIALS"
    STACK = "STACK"
    SCHEDULE = "SCHEDULE"
    FUNCTION = "FUNCTION"
    CONCURRENCY = "CONCURRENCY"
    THROTTLING = "THROTTLING"
    LAST_SWEEP = "LAST_SWEEP"
    COVERAGE = "COVERAGE"
    PENDING_EVENTS = "PENDING_EVENTS"
    UNREADABLE_ITEMS = "UNREADABLE_ITEMS"
    REFUSED_EVENTS = "REFUSED_EVENTS"
    RULES = "RULES"
    RULE_TARGETS = "RULE_TARGETS"
    RULE_PATTERNS = "RULE_PATTERNS"
    ALARMS = "ALARMS"
    ALARM_TOPIC = "ALARM_TOPIC"
    DEAD_LETTERS = "DEAD_LETTERS"
    TRIGGER = "TRIGGER"
    WEBHOOK = "WEBHOOK"
    WEBHOOK_URL = "WEBHOOK_URL"
    SUBSCRIPTION = "SUBSCRIPTION"


class Level(StrEnum):
    """What a check found; UNKNOWN if it could not ask."""

    OK = "OK"
    FAULT = "FAULT"
    UNKNOWN = "UNKNOWN"


class FindingRow(Answer):
    """What one check found. `channel` is empty for the auditor itself; `needs` is the action denied."""

    account_id: str
    region: str
    channel: str
    check: Check
    level: Level
    sentence: str
    remedy: str
    needs: str


class DoctorAnswer(Answer):
    """The answer of `doctor`."""

    as_of: Time
    findings: tuple[FindingRow, ...]
    failures: tuple[Failure, ...]


def status_row(target_id: TargetId, status: Status, faults: Sequence[Fault], now: datetime) -> StatusRow:
    """Return a target at a glance."""
    return StatusRow(
        account_id=target_id.account_id,
        region=target_id.region,
        live=status.live,
        connected=status.totals[Presence.CONNECTED],
        away=status.away,
        abandoned=status.abandoned,
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


def _seconds(since: datetime | None, now: datetime) -> int | None:
    return None if since is None else max(0, int((now - since).total_seconds()))
