"""What a ticket has to say: the fields of an event that it needs, the event's episode, the words.

An episode is all that the auditor tells of one session, of one violation of a policy, of one fault of a
fleet, or of one gap in its coverage: of a stack and fleet, or of a whole account and region. The first event
of a detail-type that opens tickets opens its ticket, and whatever follows is added. Ended, Unwatched, Policy
Cleared, Fleet Recovered or Audit Recovered closes it, whatever the reason; Reconnected does not, for the
session lives on.
Plain data in, plain data out: no AWS, no vendor, no clock. Of the auditor it knows docs/schemas alone.
"""

import json
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

TEXT_LIMIT = 256
# Far longer than any name or id of AppStream; fifty events of this size still fit an item of DynamoDB.
Text = Annotated[str, Field(max_length=1024)]


# Every detail-type is understood; only these are told apart.
CLOSING = frozenset(
    [
        "AppStream Session Ended",
        "AppStream Session Unwatched",
        "AppStream Session Policy Cleared",
        "AppStream Fleet Recovered",
        "AppStream Audit Recovered",
    ]
)


class _Part(BaseModel):
    # An error that quotes its input would carry user ids into logs.
    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True, hide_input_in_errors=True
    )


class Metadata(_Part):
    """Where an event comes from, and its place in its session's history."""

    event_id: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    account_id: Text
    region: Text
    observed_at: Text
    # Numbers of more than 38 digits can't be kept in DynamoDB.
    sequence: Annotated[int, Field(ge=1, le=10**15)]


class Session(_Part):
    """Which session it is; the user id is text of unknown origin."""

    id: Annotated[Text, Field(min_length=1)]
    user_id: Text
    stack_name: Text
    fleet_name: Text
    instance_id: Text


class SessionData(_Part):
    """What an event says of a session."""

    session: Session
    summary: Text


class Policy(_Part):
    """Which policy a session violates, since when and by how much."""

    name: Annotated[Text, Field(min_length=1)]
    since: Text
    limit: Text
    actual: Text


class ViolationData(_Part):
    """What an event says of a session that violates a policy, or does so no more; 0 without a threshold."""

    session: Session
    policy: Policy
    # Numbers of more than 38 digits can't be kept in DynamoDB.
    threshold_minutes: Annotated[int, Field(ge=0, le=10**15)]
    summary: Text


class FleetData(_Part):
    """What an event says of a fleet that has had errors since then."""

    fleet_name: Annotated[Text, Field(min_length=1)]
    since: Text
    codes: Annotated[str, Field(max_length=4096)]
    summary: Text


class AuditData(_Part):
    """What an event says of a gap since then; without names it is of the account and region."""

    stack_name: Text
    fleet_name: Text
    since: Text
    summary: Text


class Detail(_Part):
    """The `detail` of an event."""

    metadata: Metadata
    data: Annotated[ViolationData | SessionData | FleetData | AuditData, Field(union_mode="left_to_right")]


class Event(_Part):
    """An event as EventBridge delivers it, as far as a ticket needs it."""

    detail_type: Annotated[Text, Field(alias="detail-type", min_length=1)]
    detail: Detail

    @property
    def sequence(self) -> int:
        """Its place among the events of its episode."""
        return self.detail.metadata.sequence

    @property
    def closes(self) -> bool:
        """Whether the episode is over."""
        return self.detail_type in CLOSING

    @property
    def mark(self) -> str:
        """The line by which a ticket shows that it was told of this event."""
        return f"Event {self.detail.metadata.event_id}"

    @property
    def key(self) -> str:
        """Name the episode: the same for all of its events, of hex digits and a hyphen, safe in any query.

        Account and region are part of it, so equal names elsewhere are other episodes.
        """
        metadata, data = self.detail.metadata, self.detail.data
        match data:
            case ViolationData(policy=policy):
                # Cleared says since when as its Violated did; the same session may violate the policy again.
                violation = [policy.name, data.threshold_minutes, policy.since]
                identity = ["violation", data.session.id, *violation]
            case SessionData():
                identity = ["session", data.session.id]
            case FleetData():
                identity = ["fault", data.fleet_name, data.since]
            case AuditData():
                identity = ["gap", data.stack_name, data.fleet_name, data.since]
        text = json.dumps([metadata.account_id, metadata.region, *identity])
        return f"appstream-{sha256(text.encode()).hexdigest()[:32]}"


@dataclass(slots=True)
class Episode:
    """What is known of an episode, and what a worker adds to it while it holds the episode.

    `waiting` are the events that no ticket was told of; `told` those that it was told of by this worker.
    `opened` is the sequence of the event that opened the ticket, 0 without one. `attempted_at` is when
    a ticket was last asked for without knowing what became of it, in seconds of the epoch; 0 if never.
    """

    key: str
    waiting: tuple[Event, ...] = ()
    told: list[Event] = field(default_factory=list)
    ticket: str = ""
    opened: int = 0
    attempted_at: float = 0


def to_tell(episode: Episode, opened_by: frozenset[str]) -> list[Event]:
    """Return the events that the ticket lacks, in order; none as long as nothing opens one.

    The order of arrival does not count: an opening event that comes last brings along what followed it.
    """
    events = sorted(episode.waiting, key=lambda event: event.sequence)
    openings = [event.sequence for event in events if event.detail_type in opened_by]
    if episode.opened:
        openings.append(episode.opened)
    return [event for event in events if event.sequence >= min(openings)] if openings else []


def title(event: Event) -> str:
    """Head the ticket that the event opens, in one line."""
    return plain(event.detail.data.summary) or event.detail_type


def description(event: Event) -> list[str]:
    """Describe the ticket that the event opens, in lines of plain text."""
    metadata, data = event.detail.metadata, event.detail.data
    match data:
        case ViolationData(session=session, policy=policy):
            facts = _facts(session) | {
                "Policy": policy.name,
                "Limit": policy.limit,
                "Actual": policy.actual,
                "Since": policy.since,
            }
        case SessionData(session=session):
            facts = _facts(session)
        case FleetData():
            facts = {"Fleet": data.fleet_name, "Errors": data.codes.replace(",", ", "), "Since": data.since}
        case AuditData():
            facts = {
                "Stack": data.stack_name,
                "Fleet": data.fleet_name,
                "Not listed since": data.since,
            }
    facts |= {"Account": metadata.account_id, "Region": metadata.region}
    lines = [f"{name}: {plain(text)}" for name, text in facts.items() if text]
    return [title(event), *lines, *_signature(event)]


def comment(event: Event) -> list[str]:
    """Say what the event adds to the ticket, in lines of plain text."""
    return [title(event), *_signature(event)]


def plain(text: str) -> str:
    """Keep what prints, on one line: no text from outside can add a line, or a mark, of its own."""
    line = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return line if len(line) <= TEXT_LIMIT else f"{line[: TEXT_LIMIT - 3]}..."


def _facts(session: Session) -> dict[str, str]:
    return {
        "User": session.user_id,
        "Stack": session.stack_name,
        "Fleet": session.fleet_name,
        "Session": session.id,
        "Instance": session.instance_id,
    }


def _signature(event: Event) -> list[str]:
    return [f"Observed at {plain(event.detail.metadata.observed_at)}", event.mark]
