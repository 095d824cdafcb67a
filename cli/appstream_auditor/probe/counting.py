"""From what AppStream listed to counts: pure, and the last place where names and ids are known."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from appstream_auditor.probe.observations import Clocks, Compared, Ends, Fleets, Values
from session_auditor.model import AuthenticationType, Scope, SessionState

ELASTIC = "ELASTIC"


@dataclass(frozen=True)
class Listed:
    """The ids of one listing; `whole` if every page arrived, `refused` if AWS does not take the question."""

    ids: frozenset[str] = frozenset()
    whole: bool = False
    refused: bool = False
    pages: int = 0

    @property
    def settled(self) -> bool:
        """Whether it is known whom this way of asking lists."""
        return self.whole or self.refused


@dataclass(frozen=True)
class FleetFacts:
    """What DescribeFleets says of a fleet; a count that is missing is None."""

    fleet_type: str = ""
    max_user_duration: int | None = None
    max_sessions_per_instance: int | None = None
    in_use: int | None = None

    @property
    def multi_session(self) -> bool:
        """Whether several sessions may run on one instance."""
        return (self.max_sessions_per_instance or 1) > 1


@dataclass
class Seen:
    """A session as it was last listed, by which scopes, and the Date of that answer."""

    record: Mapping[str, Any]
    facts: FleetFacts
    date: datetime | None
    scopes: set[Scope] = field(default_factory=set)


def compare(
    before: Listed,
    typed: Mapping[AuthenticationType, Listed],
    after: Listed,
    again: Mapping[AuthenticationType, Listed],
) -> Compared:
    """Compare the listings of one scope, made in this order; sessions may have come and gone meanwhile.

    A session counts as absent only if it was listed by its type before and after a whole listing without one
    that left it out; and as listed without a type alone only if two such listings have it and none between.
    """
    types = Counter(session_id for listed in typed.values() for session_id in listed.ids)
    several = {session_id for session_id, times in types.items() if times > 1}
    if before.refused:
        return Compared(of_several_types=len(several))
    untyped = before.ids | after.ids
    both, absent = Counter[AuthenticationType](), Counter[AuthenticationType]()
    unsettled = 0
    for kind, listed in typed.items():
        own = listed.ids - several
        left_out = own - untyped
        proven = left_out & again.get(kind, Listed()).ids if before.whole and after.whole else frozenset()
        both[kind] = len(own & untyped)
        absent[kind] = len(proven)
        unsettled += len(left_out - proven)
    known = types.keys() | frozenset[str]().union(*(each.ids for each in again.values()))
    complete = all(typed.get(kind, Listed()).settled for kind in AuthenticationType)
    alone = (before.ids & after.ids) - known if complete else frozenset()
    unsettled += len(untyped - known - alone)
    return Compared(both, absent, len(alone), unsettled, len(several))


def promising(scopes: Sequence[Scope], fleets: Mapping[str, FleetFacts]) -> list[Scope]:
    """Put first the scopes that may tell most: fleets in use, and of each kind of fleet one after another."""
    turns: Counter[tuple[str, bool, bool]] = Counter()
    ranked = []
    for scope in sorted(scopes):
        fleet = fleets.get(scope.fleet, FleetFacts())
        # What does not say whether it is in use may be; elastic fleets have no capacity to speak of.
        idle = fleet.in_use == 0
        kind = fleet.fleet_type, fleet.multi_session, idle
        ranked.append((idle, turns[kind], scope))
        turns[kind] += 1
    return [scope for _, _, scope in sorted(ranked)]


def total(compared: Sequence[Compared]) -> Compared:
    """Sum up what was compared in each scope."""
    both, absent = Counter[AuthenticationType](), Counter[AuthenticationType]()
    for each in compared:
        both.update(each.both)
        absent.update(each.absent)
    return Compared(
        both,
        absent,
        sum(each.untyped_alone for each in compared),
        sum(each.unsettled for each in compared),
        sum(each.of_several_types for each in compared),
    )


def values(records: Sequence[Mapping[str, Any]], shape: Any) -> dict[str, Values]:
    """Return which values the fields have of which AWS publishes the values."""
    found = {}
    for name, member in shape.members.items():
        published = getattr(member, "enum", None)
        if published:
            given = [record[name] for record in records if record.get(name)]
            known = Counter(dict.fromkeys(published, 0))
            known.update(value for value in given if value in published)
            found[name] = Values(dict(known), len(given) - known.total())
    return found


def fields(records: Sequence[Mapping[str, Any]], shape: Any) -> dict[str, int]:
    """Return how many records have each field that botocore's model knows, those within another included."""
    found = {}
    for name, member in shape.members.items():
        values = [record[name] for record in records if record.get(name)]
        found[name] = len(values)
        for inner in getattr(member, "members", ()):
            found[f"{name}.{inner}"] = sum(
                isinstance(each, dict) and bool(each.get(inner)) for each in values
            )
    return found


def ends(sessions: Mapping[str, Seen], vanished: Collection[str]) -> Ends:
    """Count sessions past their end; `vanished` are the ids that left a list between two looks."""
    overdue = [
        each
        for each in sessions.values()
        if each.date and (end := _time(each.record, "MaxExpirationTime")) and end < each.date
    ]
    # Whoever was listed as EXPIRED before did not vanish unseen.
    unseen = [each for each in vanished if sessions[each].record.get("State") != SessionState.EXPIRED]
    return Ends(len(overdue), len(unseen))


def fleets(
    sessions: Collection[Seen],
    scopes: Sequence[Scope],
    asked: Sequence[Scope],
    known: Mapping[str, FleetFacts],
    names_differ: int,
) -> Fleets:
    """Count sessions by what their fleet is; `scopes` are all that exist, `asked` those that were listed."""
    of_asked = [known.get(scope.fleet, FleetFacts()) for scope in asked]
    in_multi = [each for each in sessions if each.facts.multi_session]
    instances = Counter(
        instance for each in sessions if isinstance(instance := each.record.get("InstanceId"), str)
    )
    stacks = Counter(scope.fleet for scope in scopes)
    shared = {fleet for fleet, count in Counter(scope.fleet for scope in asked).items() if count > 1}
    return Fleets(
        elastic_scopes=sum(each.fleet_type == ELASTIC for each in of_asked),
        elastic_sessions=sum(each.facts.fleet_type == ELASTIC for each in sessions),
        multi_session_scopes=sum(each.multi_session for each in of_asked),
        multi_session_sessions=len(in_multi),
        multi_session_without_instance=sum(not each.record.get("InstanceId") for each in in_multi),
        instances=len(instances),
        shared_instances=sum(count > 1 for count in instances.values()),
        shared_fleets=sum(count > 1 for count in stacks.values()),
        shared_fleets_asked=len(shared),
        shared_fleet_sessions=sum(any(scope.fleet in shared for scope in each.scopes) for each in sessions),
        listed_twice=sum(len(each.scopes) > 1 for each in sessions),
        names_differ=names_differ,
    )


def clocks(sessions: Collection[Seen]) -> Clocks:
    """Compare the sessions' times with their fleet's longest duration and with AWS's own clock."""
    differences: list[float] = []
    leads: list[float] = []
    for each in sessions:
        start, end = _time(each.record, "StartTime"), _time(each.record, "MaxExpirationTime")
        if start and end and each.facts.max_user_duration:
            differences.append((end - start).total_seconds() - each.facts.max_user_duration)
        if start and each.date:
            leads.append((start - each.date).total_seconds())
    # The Date of an answer is a whole second.
    ahead = [each for each in leads if each >= 1]
    return Clocks(
        durations=len(differences),
        durations_equal=sum(abs(each) < 1 for each in differences),
        durations_longer=sum(each >= 1 for each in differences),
        starts=len(leads),
        starts_ahead=len(ahead),
        most_ahead=int(max(ahead, default=0)),
    )


def facts(record: Mapping[str, Any]) -> FleetFacts:
    """Read a record of DescribeFleets; whatever cannot be read counts as not said."""
    capacity = record.get("ComputeCapacityStatus")
    capacity = capacity if isinstance(capacity, dict) else {}
    used = [_count(capacity.get(name)) for name in ("InUse", "ActiveUserSessions")]
    fleet_type = record.get("FleetType")
    return FleetFacts(
        fleet_type=fleet_type if isinstance(fleet_type, str) else "",
        max_user_duration=_count(record.get("MaxUserDurationInSeconds")),
        max_sessions_per_instance=_count(record.get("MaxSessionsPerInstance")),
        in_use=max((each for each in used if each is not None), default=None),
    )


def _count(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _time(record: Mapping[str, Any], name: str) -> datetime | None:
    value = record.get(name)
    return value if isinstance(value, datetime) and value.tzinfo else None
