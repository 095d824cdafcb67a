"""What a check finds, and the JSON of `doctor`. It asks AWS nothing.

A finding holds no secret, no user id and no message of AWS, because a message may quote either.
"""

from dataclasses import dataclass
from enum import StrEnum

from appstream_auditor.answers import Answer, Failure, Time


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
    FLEETS = "FLEETS"
    POLICIES = "POLICIES"
    POLICIES_PARAMETER = "POLICIES_PARAMETER"
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
    QUEUE = "QUEUE"
    ACCOUNTS = "ACCOUNTS"


class Level(StrEnum):
    """How a check ended: NOTE if it works, but perhaps not as wanted; UNKNOWN if it could not ask."""

    OK = "OK"
    NOTE = "NOTE"
    FAULT = "FAULT"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found, and what to do; `needs` is the IAM action that was denied."""

    level: Level
    sentence: str
    remedy: str = ""
    needs: str = ""


def ok(sentence: str) -> Finding:
    """Return that something works."""
    return Finding(Level.OK, sentence)


def note(sentence: str, remedy: str) -> Finding:
    """Return that something works, and what an administrator may want to change."""
    return Finding(Level.NOTE, sentence, remedy)


def fault(sentence: str, remedy: str) -> Finding:
    """Return what is wrong, and what to do."""
    return Finding(Level.FAULT, sentence, remedy)


# CloudFormation does not notice what was deleted by hand.
REINSTALL = "an update does not create it again: uninstall and deploy (docs/operate.md, Uninstall)"


class FindingRow(Answer):
    """What one check found. `channel` is empty for the auditor itself; `needs` is the action denied.

    The dispatcher counts as a channel. What is found of targets of a hub names them in its sentence.
    """

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
