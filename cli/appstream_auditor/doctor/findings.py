"""What a check of `doctor` finds, and the form of its answer. It asks nothing."""

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


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found, and what to do; `needs` is the IAM action that was denied, if that is why not."""

    level: Level
    sentence: str
    remedy: str = ""
    needs: str = ""
