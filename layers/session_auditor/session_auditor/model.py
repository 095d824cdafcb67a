"""The words of the auditor: what it observes, what it remembers, what it found.

Plain frozen data. This module knows no AWS client, no environment, no logger and no clock: every
time in it was passed in, is in UTC and is a whole second.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, AwareDatetime, Field


def _in_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("a time out of range") from error


# What is read back from the table has to be sound: a time without a zone or a negative count would break
# the comparison long after. Times of one zone object are compared fifty times as fast as those of two.
Time = Annotated[AwareDatetime, AfterValidator(_in_utc)]
Count = Annotated[int, Field(ge=0)]
# Seconds of a fleet's DisconnectTimeoutInSeconds. AWS documents different bounds, so that any positive number
# is believed; one of more than thirty years counts as thirty years.
TIMEOUT_LIMIT = 10**9
Timeout = Annotated[int, Field(ge=1, le=TIMEOUT_LIMIT)]
# What `timeline` writes: entries with commas between, and how many were left out. Only people read it, so it
# is kept as text, and checked when it is read.
_ENTRY = r"-?[0-9]{1,12}[a-z][0-9]{0,12}(:[0-9]{1,9})?(:[A-Za-z][A-Za-z0-9_-]{0,39})?"
Timeline = Annotated[str, Field(pattern=rf"^((\+[0-9]{{1,9}}|{_ENTRY})(,(\+[0-9]{{1,9}}|{_ENTRY}))*)?$")]


# Bytes of a name or an id: with a time before it an id has to fit a DynamoDB sort key of 1,024 bytes.
NAME_BYTES = 1_000
# Events and bytes with which an outbox is full: an item may have 400 KB at most.
OUTBOX_LIMIT = 50
OUTBOX_BYTES = 200_000


class SessionState(StrEnum):
    """The values of `Session.State` known today; AWS may add others, so the field itself is text."""

    ACTIVE = "ACTIVE"
    PENDING = "PENDING"
    EXPIRED = "EXPIRED"


class ConnectionState(StrEnum):
    """The values of `Session.ConnectionState` known today."""

    CONNECTED = "CONNECTED"
    NOT_CONNECTED = "NOT_CONNECTED"


class AuthenticationType(StrEnum):
    """The values that `describe_sessions` takes as its AuthenticationType."""

    API = "API"
    SAML = "SAML"
    USERPOOL = "USERPOOL"
    AWS_AD = "AWS_AD"


class Presence(StrEnum):
    """What our own history says of the user; AWS calls both middle ones NOT_CONNECTED."""

    UNKNOWN = "UNKNOWN"
    NEVER_CONNECTED = "NEVER_CONNECTED"
    DISCONNECTED = "DISCONNECTED"
    CONNECTED = "CONNECTED"


class DetailType(StrEnum):
    """The detail-types that the auditor puts on its bus."""

    STARTED = "AppStream Session Started"
    CONNECTED = "AppStream Session Connected"
    DISCONNECTED = "AppStream Session Disconnected"
    RECONNECTED = "AppStream Session Reconnected"
    EXPIRING = "AppStream Session Expiring"
    ABANDONED = "AppStream Session Abandoned"
    ENDED = "AppStream Session Ended"
    UNWATCHED = "AppStream Session Unwatched"
    POLICY_VIOLATED = "AppStream Session Policy Violated"
    POLICY_CLEARED = "AppStream Session Policy Cleared"
    FLEET_FAULTED = "AppStream Fleet Faulted"
    FLEET_RECOVERED = "AppStream Fleet Recovered"
    AUDIT_DEGRADED = "AppStream Audit Degraded"
    AUDIT_RECOVERED = "AppStream Audit Recovered"


# What can happen to a session, to a fleet, and to the audit of a scope.
SessionType = Literal[
    DetailType.STARTED,
    DetailType.CONNECTED,
    DetailType.DISCONNECTED,
    DetailType.RECONNECTED,
    DetailType.EXPIRING,
    DetailType.ABANDONED,
    DetailType.ENDED,
    DetailType.UNWATCHED,
    DetailType.POLICY_VIOLATED,
    DetailType.POLICY_CLEARED,
]
FleetType = Literal[DetailType.FLEET_FAULTED, DetailType.FLEET_RECOVERED]
AuditType = Literal[DetailType.AUDIT_DEGRADED, DetailType.AUDIT_RECOVERED]


class Cause(StrEnum):
    """What will end a session."""

    MAX_DURATION = "MAX_DURATION"
    DISCONNECT_TIMEOUT = "DISCONNECT_TIMEOUT"
    NONE = "NONE"


class Rule(StrEnum):
    """Whose thresholds a session remembers: Expiring by its two causes, and Abandoned."""

    MAX_DURATION = "MAX_DURATION"
    DISCONNECT_TIMEOUT = "DISCONNECT_TIMEOUT"
    ABANDONED = "ABANDONED"


class EndReason(StrEnum):
    """Why a life ended, as far as its history tells; UNWATCHED closes a life whose session may go on."""

    SCOPE_GONE = "SCOPE_GONE"
    UNKNOWN = "UNKNOWN"
    MAX_DURATION = "MAX_DURATION"
    DISCONNECT_TIMEOUT = "DISCONNECT_TIMEOUT"
    NEVER_CONNECTED = "NEVER_CONNECTED"
    USER_OR_ADMIN = "USER_OR_ADMIN"
    UNWATCHED = "UNWATCHED"


class PolicyKind(StrEnum):
    """What a policy forbids."""

    OUTSIDE_HOURS = "OUTSIDE_HOURS"
    TOO_MANY_SESSIONS = "TOO_MANY_SESSIONS"
    TOO_LONG = "TOO_LONG"
    DRAINING = "DRAINING"


class ClearReason(StrEnum):
    """Why a violation is over."""

    RESOLVED = "RESOLVED"
    ENDED = "ENDED"
    UNWATCHED = "UNWATCHED"
    POLICY_CHANGED = "POLICY_CHANGED"


class AuthenticationMode(StrEnum):
    """How the sessions of a target have to be listed: settled by evidence, never guessed."""

    UNKNOWN = "UNKNOWN"
    UNFILTERED = "UNFILTERED"
    BY_TYPE = "BY_TYPE"


class UserIdMode(StrEnum):
    """What becomes of user ids before anything else sees them."""

    PLAIN = "plain"
    HASH = "hash"
    OMIT = "omit"


class TargetId(NamedTuple):
    """Names a target: one AWS account in one region."""

    partition: str
    account_id: str
    region: str


class Scope(NamedTuple):
    """One (stack, fleet) pair: the unit that `describe_sessions` lists.

    A stack whose fleets were never known stands as one scope without a fleet. WHOLE_TARGET stands for the
    target while its stacks cannot be read.
    """

    stack: str
    fleet: str


WHOLE_TARGET = Scope("", "")


@dataclass(frozen=True, slots=True)
class Session:
    """A streaming session as AWS listed it; text that AWS left out is empty."""

    id: str
    scope: Scope
    user_id: str = ""
    state: str = ""
    connection_state: str = ""
    authentication_type: str = ""
    start_time: Time | None = None
    max_expiration_time: Time | None = None
    instance_id: str = ""
    eni_id: str = ""
    eni_private_ip_address: str = ""
    instance_drain_status: str = ""


@dataclass(frozen=True, slots=True)
class Miss:
    """The first complete listing without a session that is still believed to live.

    `begin` is when its sweep began. `hole` if nobody looked for a while between `last_seen` and `at`.
    """

    last_seen: Time
    at: Time
    begin: Time | None = None
    hole: bool = False


@dataclass(frozen=True, slots=True)
class Ending:
    """How a session ended: somewhere between `after` and `before`."""

    reason: EndReason
    after: Time
    before: Time


@dataclass(frozen=True, slots=True)
class Violation:
    """A session does what a policy forbids.

    `threshold` is in minutes, 0 where the kind has none. `since` is when the violation began, as far as that
    is known. `limit` and `actual` are texts for people, as they were told; `edition` tells one wording of the
    policy from another.
    """

    policy: str
    kind: PolicyKind
    threshold: Count
    since: Time
    limit: str
    actual: str
    edition: str


@dataclass(frozen=True, slots=True)
class Remembered:
    """All that is known of one session: what was observed last, and what history adds to it.

    Usage is kept as seconds accumulated until `presence_since`, so that nothing ticks and a quiet
    sweep has nothing to write. `fired` holds, by rule, the tightest threshold that has fired, in minutes.
    `listed_as` is the type of the call that listed it last, if that had one. `watched` unless somebody may
    have connected unseen before anybody was seen connected. `clocks_from` is the end of its latest hole, and
    `outbox_full` marks one that lasts until its events are published: it can commit nothing meanwhile.
    `unlisted_since` is when the last sweep began that listed it, while its type is refused; or when it last
    changed, if an older release has left it alone since.
    `user_id_hashed` is None where the form of the user id tells. `fleet_type`, `instance_type` and
    `max_sessions` are what AppStream said of its fleet when the session last changed; "" and 0 stand for what
    is not known, and `max_sessions` is 0 on a fleet with one session an instance, too. `timeline` holds its
    events in short. `draining_since` is when its host was first seen draining, None while it is not.
    `violations` are open, by policy and threshold.
    """

    session: Session
    first_seen: Time
    baseline: bool
    presence: Presence
    presence_since: Time
    sequence: Count = 0
    connected_seconds: Count = 0
    disconnected_seconds: Count = 0
    never_connected_seconds: Count = 0
    disconnects: Count = 0
    disconnect_timeout: Timeout | None = None
    fired: Mapping[Rule, Count] = field(default_factory=dict)
    missed: Miss | None = None
    ending: Ending | None = None
    listed_as: AuthenticationType | None = None
    user_id_hashed: bool | None = None
    watched: bool = True
    clocks_from: Time | None = None
    outbox_full: bool = False
    unlisted_since: Time | None = None
    fleet_type: str = ""
    timeline: Timeline = ""
    draining_since: Time | None = None
    violations: tuple[Violation, ...] = ()
    instance_type: str = ""
    max_sessions: Count = 0


class Deadline(NamedTuple):
    """When a session will be ended unless something changes, and by what."""

    at: datetime | None
    cause: Cause


class Change(NamedTuple):
    """One fact about one session that the comparison found; `threshold` in minutes.

    `violation` is what began or is over, `clear_reason` why it is over.
    """

    detail_type: SessionType
    threshold: int = 0
    violation: Violation | None = None
    clear_reason: ClearReason | None = None


@dataclass(frozen=True, slots=True)
class Life:
    """A session from its first observation to its end, as people ask for it; `end` is None while it lives.

    It ended between `ended_after` and `end`. Seconds are as observed, a lower bound. `max_sessions` is how
    many an instance of its fleet takes; 0 stands for one, or not known. `events` counts those of which
    `timeline` tells, and those that it leaves out.
    """

    session_id: str
    scope: Scope
    start: datetime
    first_seen: datetime
    end: datetime | None = None
    ended_after: datetime | None = None
    reason: EndReason | None = None
    user_id: str = ""
    instance_id: str = ""
    authentication_type: str = ""
    fleet_type: str = ""
    instance_type: str = ""
    max_sessions: int = 0
    connected_seconds: int = 0
    disconnected_seconds: int = 0
    never_connected_seconds: int = 0
    disconnects: int = 0
    events: int = 0
    timeline: str = ""

    @property
    def alone_seconds(self) -> int:
        """For how long nobody was connected: after a disconnect, or never."""
        return self.disconnected_seconds + self.never_connected_seconds


class Due(NamedTuple):
    """What a rule answers: an event is due, since a threshold of so many minutes was crossed."""

    rule: Rule
    detail_type: SessionType
    threshold: int


class Event(NamedTuple):
    """An event as it is committed: the same bytes in every try to publish it."""

    detail_type: DetailType
    event_id: str
    observed_at: datetime
    resources: tuple[str, ...]
    detail: str


def outbox_is_full(outbox: Iterable[Event]) -> bool:
    """Return whether a session can commit nothing more until some of these events are published."""
    sizes = [len(event.detail.encode()) for event in outbox]
    return len(sizes) >= OUTBOX_LIMIT or sum(sizes) >= OUTBOX_BYTES


@dataclass(frozen=True, slots=True)
class Stored:
    """A session's item: its state, the events that EventBridge has not yet taken, its version.

    `rewrite` if the table still holds its user id as another UserIdMode left it.
    """

    remembered: Remembered
    outbox: tuple[Event, ...]
    version: int
    rewrite: bool = False


@dataclass(frozen=True, slots=True)
class Gap:
    """A scope that the last sweep could not list whole (`failing`), or of which it could not commit all.

    `since` is when its first failure was observed, `begin` when that sweep began. `covered` is when the last
    sweep began that listed it whole and committed all that it found there; `listed` the last that listed it
    whole, if that is a later one. Both are None for a scope that never was. `untried_since` is when the first
    of the sweeps in a row began that had no time even to begin with it. `announced` once its Audit Degraded
    is in the outbox, with `told` as its reason.
    """

    scope: Scope
    since: Time
    covered: Time | None
    reason: str
    begin: Time | None = None
    listed: Time | None = None
    failing: bool = True
    untried_since: Time | None = None
    announced: bool = False
    told: str = ""


class Hole(NamedTuple):
    """A time in which nobody listed a scope whole; nothing may be claimed of it.

    It ended at `end`, with the listing of the sweep that began at `found`. `scope` is None if nobody swept.
    """

    scope: Scope | None
    found: Time
    end: Time


@dataclass(frozen=True, slots=True)
class Fault:
    """Errors that AppStream names of a fleet: a domain that cannot be joined, a subnet, a role.

    `codes` are distinct, sorted, with commas between. `since` is when the first of them was observed;
    `sequence` counts the events of this fault.
    """

    fleet: str
    since: Time
    codes: str
    sequence: Count


@dataclass(frozen=True, slots=True)
class Target:
    """What the table remembers of the target itself, one account in one region.

    `first_begin` is when the first sweep that listed anything began. `gaps` are the scopes that the last
    sweep did not cover; the covered ones are in the snapshot's `scopes`, which change with the topology.
    `holes` are the latest of each scope, as long as a session that lived through it lives.
    `faults` are of fleets; `fleets_read` is when the last sweep began that read all of them, `policies_read`
    when the last did that asked for the policies.
    `authentication_types` are those that the last sweep asked for; None if none was left out.
    `sessions_schema` is that of the session items which the release of the last sweep writes; a release that
    leaves newer items alone says 0. `idle_since` is when the first of the sweeps in a row began that found no
    session, or no stack that can be read; None if the last one found any.
    """

    first_begin: Time | None
    last_begin: Time | None = None
    last_end: Time | None = None
    authentication: AuthenticationMode = AuthenticationMode.UNKNOWN
    absent_unfiltered: tuple[str, ...] = ()
    gaps: tuple[Gap, ...] = ()
    holes: tuple[Hole, ...] = ()
    authentication_types: tuple[AuthenticationType, ...] | None = None
    sessions_schema: Count = 0
    faults: tuple[Fault, ...] = ()
    fleets_read: Time | None = None
    policies_read: Time | None = None
    idle_since: Time | None = None


@dataclass(frozen=True, slots=True)
class Fleet:
    """What DescribeFleets says of a fleet, and its tags, of those that are asked for.

    Words of AWS are text, since it may add some; "" and 0 stand for what is not known.
    """

    disconnect_timeout: Timeout | None = None
    type: str = ""
    instance_type: str = ""
    platform: str = ""
    max_sessions: Count = 0
    tags: Mapping[str, str] = field(default_factory=dict)


UNKNOWN_FLEET = Fleet()


@dataclass(frozen=True, slots=True)
class Facts:
    """What was known last of the fleets, and which tags the stacks have, by name."""

    fleets: Mapping[str, Fleet] = field(default_factory=dict)
    stack_tags: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def fleet(self, name: str) -> Fleet:
        """Return what is known of a fleet."""
        return self.fleets.get(name, UNKNOWN_FLEET)

    def tags(self, scope: Scope) -> Mapping[str, str]:
        """Return the tags of a scope: a fleet's go before its stack's."""
        return {**self.stack_tags.get(scope.stack, {}), **self.fleet(scope.fleet).tags}


NO_FACTS = Facts()


@dataclass(frozen=True, slots=True)
class KnownPolicies:
    """The last good document of policies, "" if there was none, and why the newest is not applied."""

    text: str = ""
    problem: str = ""


NO_POLICIES = KnownPolicies()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The table's memory of a target, as one consistent read found it.

    `target` is None before the first sweep; `version` and `outbox` are its item's. `scopes` are those
    of the last sweep's topology. `unreadable` are the ids of items that are left alone: broken ones,
    and those that a newer release wrote. `broken` are entries of the target's outbox that are no events; they
    are kept as they are. `parts` counts the items beside the target's own. `left_alone` if there are sessions
    that an older release did not look at, when it was deployed over a newer one. `changed` is the version of
    the last write that changed more than the target's own item; 0 where an older release did not say.
    """

    target: Target | None = None
    version: int = 0
    outbox: tuple[Event, ...] = ()
    scopes: frozenset[Scope] = frozenset()
    sessions: Mapping[str, Stored] = field(default_factory=dict)
    unreadable: frozenset[str] = frozenset()
    broken: tuple[object, ...] = ()
    parts: int = 0
    changed: int = 0
    left_alone: bool = False
    facts: Facts = NO_FACTS
    policies: KnownPolicies = NO_POLICIES


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a scope was not listed whole: an error code or DEADLINE; `tried` if its listing had begun."""

    reason: str
    tried: bool = True


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one sweep's listings prove of calls without an AuthenticationType."""

    unfiltered_lists_others: bool = False
    absent_unfiltered: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Listing:
    """What a sweep saw: the sessions, the scopes of the topology, and those it could not list whole.

    `begin` is when the sweep began, `observed_at` when its listing ended.
    A scope that is in neither `scopes` nor `failed` does not exist (any more): it counts as listed,
    empty. `facts` are the last known; `fleets_read` is when the sweep began that read the fleets and found
    their `fleet_errors` (codes with commas between, "" for none, None where they cannot be read); None if
    what the table knows is as new. `authentication_types` are those that the calls asked for; None if none
    was left out. `listed_as` is the type of the call that listed a session, if it had one; `refused_types`
    are those that AppStream does not take for a scope, None being a call without one. `unread` says what else
    of the topology could not be read, and why. If `topology_read` is False, the stacks could not be read:
    nothing was listed, and nothing is known to have vanished.
    """

    begin: datetime
    observed_at: datetime
    sessions: Mapping[str, Session]
    scopes: frozenset[Scope]
    failed: Mapping[Scope, Failure] = field(default_factory=dict)
    facts: Facts = NO_FACTS
    fleets_read: datetime | None = None
    fleet_errors: Mapping[str, str | None] = field(default_factory=dict)
    authentication_types: frozenset[AuthenticationType] | None = None
    listed_as: Mapping[str, AuthenticationType] = field(default_factory=dict)
    refused_types: Mapping[Scope, frozenset[AuthenticationType | None]] = field(default_factory=dict)
    evidence: Evidence = Evidence()
    unknown_authentication_types: frozenset[str] = frozenset()
    unread: Mapping[str, str] = field(default_factory=dict)
    topology_read: bool = True


@dataclass(frozen=True, slots=True)
class Globs:
    """Names to include and to exclude, as shell patterns; no include pattern means every name."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def match(self, name: str) -> bool:
        """Return whether the name is wanted."""
        return not any(fnmatchcase(name, glob) for glob in self.exclude) and (
            not self.include or any(fnmatchcase(name, glob) for glob in self.include)
        )


@dataclass(frozen=True, slots=True)
class Options:
    """The decisions an administrator makes. Thresholds are minutes.

    `hole` is how long nobody may look before nothing is claimed of that time, `time_zone` what is
    spoken in sentences for people.
    """

    expiring_minutes: tuple[int, ...] = (60, 15, 5)
    abandoned_minutes: tuple[int, ...] = (15, 60)
    stacks: Globs = Globs()
    fleets: Globs = Globs()
    authentication_types: frozenset[AuthenticationType] | None = None
    baseline_events: bool = False
    hole: timedelta = timedelta(minutes=5)
    user_id_mode: UserIdMode = UserIdMode.PLAIN
    tag_keys: tuple[str, ...] = ()
    time_zone: tzinfo = UTC

    def wants(self, scope: Scope) -> bool:
        """Return whether the filters include the scope; nothing excludes the target itself."""
        if scope == WHOLE_TARGET:
            return True
        return self.stacks.match(scope.stack) and (scope.fleet == "" or self.fleets.match(scope.fleet))
