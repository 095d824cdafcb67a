"""What an event says to its user: to which address, and in which words; or why nothing is said.

Plain data in, plain data out. A user id comes from outside: it is an address only if it is exactly one plain
address of a domain that the administrator named.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

# RFC 5321 has 64 characters for a local part and 254 for an address. Quotes, comments, spaces and letters
# beyond ASCII are legal in some addresses, and are refused: what is left can be no list, name or header.
ADDRESS_LENGTH, LOCAL_LENGTH = 254, 64
_ATOM = r"[A-Za-z0-9_+'-]+"
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS = re.compile(rf"(?P<local>{_ATOM}(\.{_ATOM})*)@(?P<domain>{_LABEL}(\.{_LABEL})+)")
_PLACEHOLDER = re.compile(r"\{(minutes|time|stack|why)\}")
_WHY = {
    "MAX_DURATION": "it reaches its maximum duration",
    "DISCONNECT_TIMEOUT": "nobody is connected to it",
}


class Part(BaseModel):
    """A part of an event, of which only what is needed here is read."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel)


class Metadata(Part):
    """Which event it is."""

    event_id: str = Field(pattern="^[0-9a-f]{32}$")


class Session(Part):
    """Whose session it is, and where."""

    user_id: str
    stack_name: str


class Deadline(Part):
    """When the session ends, and by what."""

    at: AwareDatetime
    cause: Literal["MAX_DURATION", "DISCONNECT_TIMEOUT"]


class Data(Part):
    """What the event is about."""

    session: Session
    deadline: Deadline
    threshold_minutes: int


class Detail(Part):
    """The auditor's own part of the event."""

    metadata: Metadata
    data: Data


class Event(BaseModel):
    """AppStream Session Expiring, as EventBridge hands it on."""

    model_config = ConfigDict(frozen=True)

    detail_type: Literal["AppStream Session Expiring"] = Field(alias="detail-type")
    detail: Detail


@dataclass(frozen=True)
class Settings:
    """Whom to mail, when, and in which words."""

    domains: frozenset[str]
    minutes: frozenset[int]
    subject: str
    words: str
    zone: ZoneInfo


class Mail(NamedTuple):
    """What a user is told."""

    subject: str
    text: str


class Skipped(StrEnum):
    """Why nobody is mailed, which is no fault."""

    OTHER_THRESHOLD = "OTHER_THRESHOLD"
    NO_ADDRESS = "NO_ADDRESS"
    OTHER_DOMAIN = "OTHER_DOMAIN"


class TooLateError(Exception):
    """The session's end has passed: a warning of it would be wrong."""


def address_of(event: Event, settings: Settings) -> str | Skipped:
    """Return the one address to mail, or why there is none."""
    data = event.detail.data
    if data.threshold_minutes not in settings.minutes:
        return Skipped.OTHER_THRESHOLD
    found = _ADDRESS.fullmatch(data.session.user_id)
    if not found or len(found[0]) > ADDRESS_LENGTH or len(found["local"]) > LOCAL_LENGTH:
        return Skipped.NO_ADDRESS
    if found["domain"].lower() not in settings.domains:
        return Skipped.OTHER_DOMAIN
    return found[0]


def mail_of(event: Event, settings: Settings, now: datetime) -> Mail:
    """Return what the user is told now; raise TooLateError."""
    data = event.detail.data
    left = data.deadline.at - now
    if left <= timedelta():
        raise TooLateError
    values = {
        "minutes": str(max(1, int(left.total_seconds()) // 60)),
        "time": f"{data.deadline.at.astimezone(settings.zone):%H:%M %Z}",
        "stack": "".join(each for each in data.session.stack_name if each.isprintable()),
        "why": _WHY[data.deadline.cause],
    }
    return Mail(filled(settings.subject, values), filled(settings.words, values))


def filled(words: str, values: Mapping[str, str]) -> str:
    """Put values into words, in one pass: what was put in is not looked at again."""
    return _PLACEHOLDER.sub(lambda found: values[found[1]], words)
