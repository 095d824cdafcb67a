"""From what AppStream listed to counts: pure, and the last place where names and ids are known."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from appstream_auditor.probe.observations import Compared, Fleets, Values
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
        """Whether it is known which sessions this way of asking lists."""
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
    """A session as it was last listed, and the scopes that listed it."""

    record: Mapping[str, Any]
    facts: FleetFacts
    scopes: set[Scope] = field(default_factory=set)


def compare(
    before: Listed,
    typed: Mapping[AuthenticationType, Listed],
    after: Listed,
    again: Mapping[AuthenticationType, Listed],
) -> Compared:
    """Compare the listings of one scope, made in this order. Sessions may have come and gone meanwhile.

    A session is absent only if its type listed it before and after a whole listing without a type that left
    it out. It is listed without a type alone only if both such listings have it and none in between.
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
    """Sort scopes by what they may show: fleets in use first, and kinds of fleet in turns."""
    turns: Counter[tuple[str, bool, bool]] = Counter()
    ranked = []
    for scope in sorted(scopes):
        fleet = fleets.get(scope.fleet, FleetFacts())
        # A fleet that reports no capacity may be in use; elastic fleets report none.
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
    alone, unsettled = sum(each.untyped_alone for each in compared), sum(each.unsettled for each in compared)
    return Compared(both, absent, alone, unsettled, sum(each.of_several_types for each in compared))


def values(records: Sequence[Mapping[str, Any]], shape: Any) -> dict[str, Values]:
    """Return the values of the fields for which AWS publishes a list of values."""
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
    """Return how many records have each field of botocore's model, nested fields included."""
    found = {}
    for name, member in shape.members.items():
        values = [record[name] for record in records if record.get(name)]
        found[name] = len(values)
        for inner in getattr(member, "members", ()):
            found[f"{name}.{inner}"] = sum(
                isinstance(each, dict) and bool(each.get(inner)) for each in values
            )
    return found


def unseen_ends(sessions: Mapping[str, Seen], vanished: Collection[str]) -> int:
    """Count the ids that left a list without having been listed as EXPIRED."""
    return sum(sessions[each].record.get("State") != SessionState.EXPIRED for each in vanished)


def fleets(sessions: Collection[Seen], asked: Sequence[Scope], known: Mapping[str, FleetFacts]) -> Fleets:
    """Count sessions by what their fleet is; `asked` are the scopes that were listed."""
    multi = [each for each in sessions if each.facts.multi_session]
    instances = Counter(
        instance for each in sessions if isinstance(instance := each.record.get("InstanceId"), str)
    )
    shared = {fleet for fleet, stacks in Counter(scope.fleet for scope in asked).items() if stacks > 1}
    return Fleets(
        elastic_scopes=sum(known.get(scope.fleet, FleetFacts()).fleet_type == ELASTIC for scope in asked),
        elastic_sessions=sum(each.facts.fleet_type == ELASTIC for each in sessions),
        multi_sessions=len(multi),
        multi_sessions_without_instance=sum(not each.record.get("InstanceId") for each in multi),
        shared_instances=sum(number > 1 for number in instances.values()),
        shared_fleet_sessions=sum(any(scope.fleet in shared for scope in each.scopes) for each in sessions),
        listed_twice=sum(len(each.scopes) > 1 for each in sessions),
    )


def durations(sessions: Collection[Seen]) -> tuple[int, int]:
    """Count sessions of known duration, and those of their fleet's longest duration, to a second."""
    differences = []
    for each in sessions:
        start, end = _time(each.record, "StartTime"), _time(each.record, "MaxExpirationTime")
        if start and end and each.facts.max_user_duration:
            differences.append((end - start).total_seconds() - each.facts.max_user_duration)
    return len(differences), sum(abs(each) < 1 for each in differences)


def facts(record: Mapping[str, Any]) -> FleetFacts:
    """Read a record of DescribeFleets; a value that cannot be read is left out."""
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
