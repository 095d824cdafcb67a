"""What must hold whatever happens: each promise as one function that raises Broken with a clear message.

They look at what came out (the entries that EventBridge took, the table, the world, the text that was
printed) and know nothing of how the auditor works.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

from tests.simulation.dynamodb import Item, Table
from tests.simulation.eventbridge import Entry
from tests.simulation.oracle import (
    ABANDONED,
    CLEARED,
    DEGRADED,
    DISCONNECTED,
    ENDED,
    EXPIRING,
    FAULTED,
    MENDED,
    RECOVERED,
    UNWATCHED,
    VIOLATED,
    Expected,
    Oracle,
)


class Broken(AssertionError):  # noqa: N818 - it reads as what it says
    """A promise does not hold."""


@lru_cache(maxsize=20_000)
def detail(text: str) -> dict[str, Any]:
    """Return an event's detail; it must not be changed."""
    content: dict[str, Any] = json.loads(text)
    return content


def event_id(entry: Entry) -> str:
    """Return the id that the auditor gave the event."""
    return str(detail(entry["Detail"])["metadata"]["eventId"])


def session_of(entry: Entry) -> str:
    """Return the session that an event tells of; empty for an audit event."""
    return str(detail(entry["Detail"])["data"].get("session", {}).get("id", ""))


def once(entries: Iterable[Entry]) -> list[Entry]:
    """Return the entries without repeats, in the order in which they first came."""
    first: dict[str, Entry] = {}
    for entry in entries:
        first.setdefault(event_id(entry), entry)
    return list(first.values())


def lives(entries: Iterable[Entry]) -> dict[str, list[list[Entry]]]:
    """Return each session's events without repeats, cut into lives where the sequence starts anew."""
    told: dict[str, list[list[Entry]]] = defaultdict(list)
    for entry in once(entries):
        identity = session_of(entry)
        if identity:
            if detail(entry["Detail"])["metadata"]["sequence"] == 1:
                told[identity].append([])
            if not told[identity]:
                raise Broken(f"{identity}: the first event published is {_brief(entry)}, not number 1")
            told[identity][-1].append(entry)
    return told


def _brief(entry: Entry) -> str:
    metadata = detail(entry["Detail"])["metadata"]
    return f"{entry['DetailType']} #{metadata.get('sequence')} observed {metadata['observedAt']}"


def refused(table: Table, partition: str) -> list[Entry]:
    """Return the events that lie apart from the live items, as entries."""
    apart: list[Entry] = []
    for other in table.partitions.keys() - {partition}:
        for item in table.partitions[other].values():
            texts = [value["S"] for value in item.values() if "S" in value]
            for text in texts:
                if ids_in(text):
                    kind = next((each for each in texts if each.startswith("AppStream ")), "")
                    apart.append({"DetailType": kind, "Detail": text})
    return apart


def in_order_of_sight(entries: Iterable[Entry]) -> list[Entry]:
    """Put accepted and refused events into the order in which they were observed."""

    def observed(entry: Entry) -> tuple[str, int]:
        metadata = detail(entry["Detail"])["metadata"]
        return metadata["observedAt"], metadata["sequence"]

    return sorted(once(entries), key=observed)


def published_in_order(published: Sequence[Entry]) -> None:
    """A session's later events wait for its earlier ones; a repeat may come at any time."""
    latest: dict[str, tuple[str, int]] = {}
    for entry in once(published):
        metadata = detail(entry["Detail"])["metadata"]
        identity, place = session_of(entry), (metadata["observedAt"], metadata["sequence"])
        if identity and place < latest.get(identity, ("", 0)):
            raise Broken(f"{identity}: {_brief(entry)} came after {latest[identity]}")
        latest[identity] = place


def published_is_committed(published: Sequence[Entry], committed: Collection[str]) -> None:
    """Whatever was committed is published or kept apart, and nothing else."""
    ids = {event_id(entry) for entry in published}
    invented = [entry for entry in once(published) if event_id(entry) not in committed]
    if invented:
        raise Broken(f"published and never committed: {', '.join(map(_brief, invented))}")
    lost = set(committed) - ids
    if lost:
        raise Broken(f"committed and never published: {len(lost)} events, such as {min(lost)}")


def one_id_per_transition(published: Sequence[Entry]) -> None:
    """The same id always carries the same bytes; the same transition never has two ids."""
    seen: dict[str, Entry] = {}
    for entry in published:
        first = seen.setdefault(event_id(entry), entry)
        if (first["DetailType"], first["Detail"]) != (entry["DetailType"], entry["Detail"]):
            raise Broken(f"{event_id(entry)} stands for two events: {_brief(first)} and {_brief(entry)}")
    transitions: dict[tuple[str, ...], str] = {}
    for identity, entry in seen.items():
        content = detail(entry["Detail"])
        about = content["data"].get("session", content["data"])
        told = tuple(str(about.get(name, "")) for name in ("id", "stackName", "fleetName", "since"))
        if "policy" in content["data"]:
            told += content["data"]["policy"]["name"], str(content["data"]["thresholdMinutes"])
        transition = (*told, entry["DetailType"], content["metadata"]["observedAt"])
        if transitions.setdefault(transition, identity) != identity:
            raise Broken(f"two ids for one transition: {_brief(entry)} of {told}")


def sequences_are_gapless_and_in_order(published: Sequence[Entry]) -> None:
    """Each life of a session is told as 1, 2, 3 and so on; Ended or Unwatched is the last."""
    for identity, each in lives(published).items():
        for life in each:
            numbers = [detail(entry["Detail"])["metadata"]["sequence"] for entry in life]
            if numbers != list(range(1, len(life) + 1)):
                raise Broken(f"{identity}: its events came as {numbers}: {', '.join(map(_brief, life))}")
            ends = [place for place, entry in enumerate(life) if entry["DetailType"] in {ENDED, UNWATCHED}]
            if ends and ends != [len(life) - 1]:
                raise Broken(f"{identity}: events after its end: {', '.join(map(_brief, life))}")


def nobody_alive_has_ended(entries: Iterable[Entry], alive: Mapping[str, str]) -> None:
    """No Ended comes while the session lives; to be asked when it comes.

    `alive` says since when each session lives: an id that came back may be told of its earlier life.
    """
    for entry in entries:
        session = detail(entry["Detail"])["data"].get("session", {})
        if entry["DetailType"] == ENDED and alive.get(session["id"]) == session["startTime"]:
            raise Broken(f"{session['id']} lives, and was ended: {_brief(entry)}")


def every_threshold_once(published: Sequence[Entry]) -> None:
    """A threshold fires once for each session, cause and disconnect."""
    for identity, each in lives(published).items():
        for life in each:
            spell = 0
            seen = set()
            for entry in life:
                kind, data = entry["DetailType"], detail(entry["Detail"])["data"]
                spell += kind == DISCONNECTED
                if kind not in {EXPIRING, ABANDONED}:
                    continue
                cause = data["deadline"]["cause"] if kind == EXPIRING else ""
                fired = kind, cause, 0 if cause == "MAX_DURATION" else spell, data["thresholdMinutes"]
                if fired in seen:
                    raise Broken(f"{identity}: the threshold {fired} fired twice")
                seen.add(fired)


def published_is_expected(published: Sequence[Entry], oracle: Oracle, without: Collection[str] = ()) -> None:
    """What is published is what the oracle says of what the sweeps saw, to the last field."""
    told = lives(published)
    expected = oracle.events()
    for identity in dict.fromkeys((*expected, *told)):
        if identity in without:
            continue
        wanted = [life for life in expected.get(identity, []) if life]
        got = [[_told(entry) for entry in life] for life in told.get(identity, [])]
        if wanted != got:
            raise Broken(f"{identity}: {_difference(wanted, got)}")
    audits: dict[tuple[str, str], list[Expected]] = defaultdict(list)
    for entry in once(published):
        if entry["DetailType"] in {DEGRADED, RECOVERED}:
            content = detail(entry["Detail"])
            data = {name: value for name, value in content["data"].items() if name != "summary"}
            audits[data["stackName"], data["fleetName"]].append(
                {
                    "detailType": entry["DetailType"],
                    "metadata": {"observedAt": content["metadata"]["observedAt"]},
                    "data": data,
                }
            )
    if dict(audits) != oracle.audits():
        raise Broken(f"audit events: expected {oracle.audits()}, published {dict(audits)}")
    faults: dict[str, list[Expected]] = defaultdict(list)
    for entry in once(published):
        if entry["DetailType"] in {FAULTED, MENDED}:
            faults[detail(entry["Detail"])["data"]["fleetName"]].append(_told(entry))
    if dict(faults) != oracle.faults():
        raise Broken(f"events of fleets: expected {oracle.faults()}, published {dict(faults)}")


def violations_are_opened_and_closed(published: Sequence[Entry]) -> None:
    """A violation is told once until it is cleared, and cleared once, as it was told, before the end."""
    for identity, each in lives(published).items():
        for life in each:
            violated: dict[tuple[str, int], Any] = {}
            for entry in life:
                kind, data = entry["DetailType"], detail(entry["Detail"])["data"]
                if kind in {ENDED, UNWATCHED} and violated:
                    raise Broken(f"{identity}: {_brief(entry)} leaves {sorted(violated)} open")
                if kind not in {VIOLATED, CLEARED}:
                    continue
                key = data["policy"]["name"], data["thresholdMinutes"]
                if kind == VIOLATED and key in violated:
                    raise Broken(f"{identity}: {_brief(entry)} of {key}, which is open")
                if kind == CLEARED and violated.pop(key, None) != data["policy"]:
                    raise Broken(f"{identity}: {_brief(entry)} of {key}, which is not open as it says")
                if kind == VIOLATED:
                    violated[key] = data["policy"]
                    if data["policy"]["since"] > detail(entry["Detail"])["metadata"]["observedAt"]:
                        raise Broken(f"{identity}: {_brief(entry)} began after it was observed")


def faults_are_opened_and_closed(published: Sequence[Entry]) -> None:
    """A fleet's fault is told as 1, 2, 3, each time with other codes, until it is over; once."""
    faults: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in once(published):
        if entry["DetailType"] in {FAULTED, MENDED}:
            data = detail(entry["Detail"])["data"]
            faults[data["fleetName"], data["since"]].append(entry)
    for (fleet, _), told in faults.items():
        contents = [detail(entry["Detail"]) for entry in told]
        codes = [content["data"]["codes"] for content in contents]
        kinds = [entry["DetailType"] for entry in told]
        numbers = [content["metadata"]["sequence"] for content in contents]
        if numbers != list(range(1, len(told) + 1)) or MENDED in kinds[:-1] or kinds[0] == MENDED:
            raise Broken(f"{fleet}: its fault was told as {', '.join(map(_brief, told))}")
        if kinds[-1] == MENDED and codes.pop() != codes[-1]:
            raise Broken(f"{fleet}: it recovered from other errors than were told: {codes}")
        if not all(codes) or any(one == other for one, other in pairwise(codes)):
            raise Broken(f"{fleet}: a change was told that was none: {codes}")
        for entry in told:
            # An event that was refused is kept apart without them.
            arns = entry.get("Resources", [f":fleet/{fleet}"])
            if len(arns) != 1 or not arns[0].endswith(f":fleet/{fleet}"):
                raise Broken(f"{fleet}: {_brief(entry)} names {arns}")


# Of a longer life the first and the last events are kept.
KEPT_FIRST, KEPT_LAST = 8, 24


def lives_are_kept(published: Iterable[Entry], kept: Mapping[str, list[list[tuple[Any, ...]]]]) -> None:
    """What is kept of each life, live or over, is what was told of it, up to the bound of a timeline."""
    told = lives(published)
    for identity in dict.fromkeys((*told, *kept)):
        wanted = [[_in_short(entry) for entry in life] for life in told.get(identity, [])]
        wanted = [
            life[:KEPT_FIRST] + life[-KEPT_LAST:] if len(life) > KEPT_FIRST + KEPT_LAST else life
            for life in wanted
        ]
        got = [life for life in kept.get(identity, []) if life]
        if wanted != got:
            raise Broken(f"{identity}: told {wanted}, kept {got}")


def _in_short(entry: Entry) -> tuple[Any, ...]:
    content = detail(entry["Detail"])
    metadata, data = content["metadata"], content["data"]
    cause = data["deadline"]["cause"] if entry["DetailType"] == EXPIRING else "NONE"
    told = (metadata["sequence"], entry["DetailType"], metadata["observedAt"], metadata["previousObservedAt"])
    return (*told, data.get("thresholdMinutes", 0), cause, data.get("policy", {"name": ""})["name"])


def _told(entry: Entry) -> Expected:
    content = detail(entry["Detail"])
    metadata = {name: content["metadata"][name] for name in ("sequence", "observedAt", "previousObservedAt")}
    data = {name: value for name, value in content["data"].items() if name != "summary"}
    return {"detailType": entry["DetailType"], "metadata": metadata, "data": data}


def _difference(wanted: list[list[Expected]], got: list[list[Expected]]) -> str:
    kinds = [[[event["detailType"][10:] for event in life] for life in lives] for lives in (wanted, got)]
    if kinds[0] != kinds[1]:
        return f"expected {kinds[0]}, published {kinds[1]}"
    return "; ".join(
        f"{event['detailType']} #{event['metadata']['sequence']}: {difference}"
        for life, other in zip(wanted, got, strict=True)
        for event, published in zip(life, other, strict=True)
        for difference in _fields(event, published)
    )


def _fields(wanted: Any, got: Any, path: str = "") -> Iterable[str]:
    if isinstance(wanted, Mapping) and isinstance(got, Mapping):
        for name in dict.fromkeys((*wanted, *got)):
            yield from _fields(wanted.get(name), got.get(name), f"{path}.{name}" if path else name)
    elif wanted != got:
        yield f"{path} should be {wanted!r} and is {got!r}"


def snapshot_is_world(table: Table, partition: str, prefix: str, alive: Collection[str]) -> None:
    """The live items of the table are the sessions of the world."""
    held = {sort.removeprefix(prefix) for sort in table.order.get(partition, []) if sort.startswith(prefix)}
    if held != set(alive):
        raise Broken(
            f"only in the table: {sorted(held - set(alive))}; only in the world: {sorted(set(alive) - held)}"
        )


def outbox_is_empty(table: Table, partition: str) -> None:
    """Nothing waits to be published."""
    waiting = {
        sort: len(found)
        for sort, item in table.partitions.get(partition, {}).items()
        if (found := ids_in(item))
    }
    if waiting:
        raise Broken(f"events wait in the table: {waiting}")


def ids_in(item: Item | Mapping[str, Any] | Sequence[Any] | str | Any) -> list[str]:
    """Return the ids of all events that an item holds, wherever in it they are."""
    if isinstance(item, str):
        if '"eventId"' not in item:
            return []
        return [part.split('"', 2)[1] for part in item.split('"eventId"')[1:]]
    if isinstance(item, Mapping):
        return [found for value in item.values() for found in ids_in(value)]
    if isinstance(item, (list, tuple)):
        return [found for value in item for found in ids_in(value)]
    return []


def deadline_is_kept(run: Any) -> None:
    """A sweep never outlives its deadline."""
    if run.timed_out:
        raise Broken(f"sweep {run.number} outlived its deadline at its call {len(run.calls) - 1}")


def nothing_names_a_user(text: str, users: Collection[str], where: str) -> None:
    """No user id is in any log line, metric or exception."""
    for user in users:
        if user in text:
            line = next((each for each in text.splitlines() if user in each), text)
            raise Broken(f"the user id {user!r} is in {where}: {line[:300]}")
