"""Puts events that EventBridge refused back on the bus, once what refused them is mended.

Only the auditor's role may put them there, so the function does it when it is asked to. It decides which
events may go; how they are kept and published is the adapters' business.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from session_auditor.contract import Origin, is_closing, origin_of, timestamp
from session_auditor.model import DetailType, Event, Scope, Snapshot
from session_auditor.publisher import Publisher
from session_auditor.snapshots import Snapshots

ALL = "all"


@dataclass(slots=True)
class Answer:
    """What became of the events, by id. `closed` were left alone: nothing would close what they open.

    `refused` says with which error code EventBridge refused them again; `pending` are those that it did not
    answer for. `unknown` is what was asked for and is not kept.
    """

    republished: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    refused: Mapping[str, str] = field(default_factory=dict)
    pending: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


class _Kept(NamedTuple):
    event: Event
    origin: Origin


def republish(
    snapshots: Snapshots,
    publisher: Publisher,
    which: str,
    clock: Callable[[], datetime],
    time_left: Callable[[], float],
    *,
    closed: bool = False,
) -> Answer:
    """Publish the event of this id, or all, in order of sequence, and forget what EventBridge takes.

    Events of lives that are closed go only if `closed` is said. Raises SnapshotError.
    """
    answer = Answer()
    kept = [_Kept(each.event, origin_of(each.event)) for each in snapshots.reader.refused()]
    asked_for = [each for each in kept if which in (ALL, each.event.event_id)]
    if which != ALL and not asked_for:
        answer.unknown = [which]
    snapshot = snapshots.load(clock())
    lanes: dict[tuple[str, ...], list[_Kept]] = {}
    for each in asked_for:
        if closed or _may_go(each, kept, snapshot):
            lanes.setdefault(each.origin.subject, []).append(each)
        else:
            answer.closed.append(each.event.event_id)
    for lane in lanes.values():
        lane.sort(key=lambda each: (each.event.observed_at, each.origin.sequence))
    published = publisher.publish(([each.event for each in lane] for lane in lanes.values()), time_left)
    events = {each.event.event_id: each.event for each in asked_for}
    for event_id, _ in published.accepted:
        snapshots.forget_refused(events[event_id])
        answer.republished.append(event_id)
    answer.refused = published.refused
    settled = {*answer.republished, *answer.refused, *answer.closed}
    answer.pending = [event_id for event_id in events if event_id not in settled]
    return answer


def _may_go(kept: _Kept, others: Iterable[_Kept], snapshot: Snapshot) -> bool:
    """Return whether something closes what an event opens: its life goes on, or its end is kept as well."""
    event, origin = kept
    if is_closing(event.detail_type) or event.detail_type is DetailType.POLICY_CLEARED:
        return True
    if any(
        is_closing(other.event.detail_type)
        and (other.origin.subject, other.origin.began) == (origin.subject, origin.began)
        and other.event.observed_at >= event.observed_at
        for other in others
    ):
        return True
    if origin.session_id:
        stored = snapshot.sessions.get(origin.session_id)
        return stored is not None and stored.remembered.first_seen <= event.observed_at
    if snapshot.target is None:
        return False
    open_ones = {(gap.scope, timestamp(gap.since)) for gap in snapshot.target.gaps if gap.announced}
    open_ones |= {(Scope("", fault.fleet), timestamp(fault.since)) for fault in snapshot.target.faults}
    return (origin.scope, origin.began) in open_ones
