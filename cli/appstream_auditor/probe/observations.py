"""What a probe saw of an account's AppStream: counts, codes and values that AWS publishes.

Nothing here can hold a name, an id or a time of the account, so neither can a report made from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from session_auditor.model import AuthenticationType

# What a call asked for: an AuthenticationType, or None for a call without one.
Asked = AuthenticationType | None


class Operation(StrEnum):
    """The operations of AppStream that a probe calls; all of them only read."""

    DESCRIBE_STACKS = "DescribeStacks"
    DESCRIBE_FLEETS = "DescribeFleets"
    LIST_ASSOCIATED_FLEETS = "ListAssociatedFleets"
    DESCRIBE_SESSIONS = "DescribeSessions"


class Stop(StrEnum):
    """Why a probe ended."""

    DONE = "DONE"
    THROTTLED = "THROTTLED"
    CALLS_USED_UP = "CALLS_USED_UP"
    CREDENTIALS = "CREDENTIALS"
    OUT_OF_REACH = "OUT_OF_REACH"


@dataclass(frozen=True)
class Replies:
    """How DescribeSessions replied to one way of asking: listings answered, and codes that refused."""

    answered: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Compared:
    """What the calls without a type have in common with those with one, in sessions.

    `both` and `absent` go by the type of the call that listed the session. `untyped_alone` were listed by
    both calls without a type and by none with one; `unsettled` may have come or gone in between. A session
    `of_several_types` was listed by calls with different types, and counts nowhere else.
    """

    both: Mapping[AuthenticationType, int] = field(default_factory=dict)
    absent: Mapping[AuthenticationType, int] = field(default_factory=dict)
    untyped_alone: int = 0
    unsettled: int = 0
    of_several_types: int = 0


@dataclass(frozen=True)
class Values:
    """Which published values a field had, and in how many sessions another one."""

    known: Mapping[str, int] = field(default_factory=dict)
    others: int = 0


@dataclass(frozen=True)
class Pages:
    """Pages of DescribeSessions: the largest, those with a NextToken, and how many of these were not full."""

    largest: int = 0
    more: int = 0
    short: int = 0


@dataclass(frozen=True)
class Fleets:
    """Sessions by what their fleet is; `shared` fleets serve several stacks that were asked."""

    elastic_scopes: int = 0
    elastic_sessions: int = 0
    multi_sessions: int = 0
    multi_sessions_without_instance: int = 0
    shared_instances: int = 0
    shared_fleet_sessions: int = 0
    listed_twice: int = 0


@dataclass(frozen=True)
class Observations:
    """All that a probe saw. A scope is a pair of stack and fleet.

    `vanished` sessions left the list without being listed as EXPIRED. `durations` counts sessions with both
    times and a fleet of known duration. `user_id_reply` is the code that refused a UserId without a type, ""
    if it was accepted, None if it was not asked. `unknown_fields` is None if an answer was not in JSON.
    """

    stop: Stop = Stop.DONE
    calls: int = 0
    calls_limit: int = 0
    seconds: float = 0.0
    stacks: int = 0
    stacks_asked: int = 0
    scopes: int = 0
    scopes_asked: int = 0
    scopes_with_sessions: int = 0
    sessions: int = 0
    problems: Mapping[tuple[Operation, str], int] = field(default_factory=dict)
    replies: Mapping[Asked, Replies] = field(default_factory=dict)
    compared: Compared = Compared()
    user_id_reply: str | None = None
    values: Mapping[str, Values] = field(default_factory=dict)
    fields: Mapping[str, int] = field(default_factory=dict)
    unknown_fields: int | None = None
    pages: Pages = Pages()
    vanished: int = 0
    fleets: Fleets = Fleets()
    durations: int = 0
    durations_equal: int = 0
