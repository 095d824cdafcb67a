"""Hands committed events to the event bus and says, event by event, what became of each.

It knows the limits and answers of PutEvents and nothing of sessions: a lane is a row of events that
have to arrive in order.
"""

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from session_auditor.aws_errors import MALFORMED, MALFORMED_ERRORS, error_code
from session_auditor.contract import SOURCE
from session_auditor.model import DetailType, Event

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient

# PutEvents takes 10 entries and 1 MB a call (API reference); some room is left for what AWS counts in.
ENTRIES_LIMIT = 10
BYTES_LIMIT = 1_000_000
# Errors that another try can mend (API reference, PutEventsResultEntry); an entry's other errors are final.
TRANSIENT = frozenset(["InternalFailure", "InternalException", "ThrottlingException"])
TRIES = 3
# Whole calls that one bad entry can spoil.
INVALID = frozenset(["ValidationException", "ValidationError"])
# Characters of an error code; AWS's have some tens.
CODE_LIMIT = 128
DEADLINE = "DEADLINE"


@dataclass(slots=True)
class Published:
    """What EventBridge accepted, in order; what it refused for good, with the error code by event id.

    Whatever is in neither is still pending; `stopped` says why the publisher gave up early, if it did.
    """

    accepted: list[tuple[str, DetailType]] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    stopped: str = ""

    def followed_by(self, later: "Published") -> "Published":
        """Return this and what was published after it as one."""
        return Published([*self.accepted, *later.accepted], self.refused | later.refused, later.stopped)


@dataclass(slots=True)
class _Lane:
    events: deque[Event]
    tries: int = 0


class Publisher:
    """The event bus as the sweep sees it."""

    def __init__(self, client: "EventBridgeClient", bus_name: str, *, workers: int) -> None:
        self._client = client
        self._bus_name = bus_name
        self._workers = workers

    def publish(self, lanes: Iterable[Iterable[Event]], time_left: Callable[[], float]) -> Published:
        """Publish what can be in the time; raise nothing that EventBridge answers.

        Calls are made side by side, in rounds. A round carries one event of a lane at most, so that neither a
        partial failure nor a call that overtakes another can reorder a lane.
        """
        published = Published()
        waiting = deque(_Lane(deque(events)) for events in lanes)
        suspects: deque[_Lane] = deque()
        failures = 0
        with ThreadPoolExecutor(self._workers, thread_name_prefix="publishing") as pool:
            while (waiting or suspects) and not published.stopped:
                if time_left() <= 0:
                    published.stopped = DEADLINE
                    break
                batches = self._round(waiting, suspects)
                answers = list(pool.map(self._put, batches))
                for batch, (codes, error) in zip(batches, answers, strict=True):
                    # Entries without a result that can be read stay pending.
                    for lane, code in zip(batch, codes, strict=False):
                        if code is None:
                            continue
                        _settle(lane, code, published)
                        if lane.events and lane.tries < TRIES:
                            waiting.append(lane)
                    if error in INVALID:
                        suspects.extend(batch)
                    elif error in TRANSIENT:
                        # A single-entry batch may hold an invalid entry; retry it alone.
                        (waiting if len(batch) > 1 else suspects).extend(batch)
                    elif error:
                        published.stopped = error
                throttled = [error for _, error in answers if error in TRANSIENT]
                if not all(error for _, error in answers):
                    failures = 0
                elif throttled and (failures := failures + 1) == TRIES:
                    published.stopped = throttled[0]
        return published

    def _round(self, waiting: deque[_Lane], suspects: deque[_Lane]) -> list[list[_Lane]]:
        """Take what the workers can publish at once, suspects each in a call of its own."""
        batches: list[list[_Lane]] = []
        while (waiting or suspects) and len(batches) < self._workers:
            batches.append([suspects.popleft()] if suspects else self._batch(waiting))
        return batches

    def _put(self, batch: list[_Lane]) -> tuple[list[str | None], str]:
        """Return the error code of each entry, "" if it was accepted, and that of the whole call.

        The code is None where the result cannot be read.
        """
        entries: list[Any] = [self._entry(lane.events[0]) for lane in batch]
        try:
            codes = [_code(result) for result in self._client.put_events(Entries=entries)["Entries"]]
        except (ClientError, BotoCoreError) as error:
            code = error_code(error)
            return ([code], "") if code in INVALID and len(batch) == 1 else ([], code)
        except MALFORMED_ERRORS:
            return [], MALFORMED
        return (codes, "") if any(code is not None for code in codes) else ([], MALFORMED)

    @staticmethod
    def _batch(waiting: deque[_Lane]) -> list[_Lane]:
        batch: list[_Lane] = []
        size = 0
        while waiting and len(batch) < ENTRIES_LIMIT:
            size += _size(waiting[0].events[0])
            if batch and size > BYTES_LIMIT:
                break
            batch.append(waiting.popleft())
        return batch

    def _entry(self, event: Event) -> dict[str, Any]:
        return {
            "EventBusName": self._bus_name,
            "Source": SOURCE,
            "DetailType": event.detail_type.value,
            "Time": event.observed_at,
            "Resources": list(event.resources),
            "Detail": event.detail,
        }


def _code(result: Any) -> str | None:
    """Return the error code of an entry's result, "" if it was accepted, None if that cannot be told."""
    if not isinstance(result, dict):
        return None
    code, event_id = result.get("ErrorCode"), result.get("EventId")
    if code is None or code == "":
        return "" if isinstance(event_id, str) and event_id else None
    return code if isinstance(code, str) and 0 < len(code) <= CODE_LIMIT and code.isprintable() else None


def _settle(lane: _Lane, refusal: str, published: Published) -> None:
    """Take the first event out of its lane, unless another try may do better."""
    if refusal in TRANSIENT:
        lane.tries += 1
        return
    event = lane.events.popleft()
    lane.tries = 0
    if refusal:
        published.refused[event.event_id] = refusal
    else:
        published.accepted.append((event.event_id, event.detail_type))


def _size(event: Event) -> int:
    """Count an entry's bytes as EventBridge does: 14 for the time, and every text in UTF-8."""
    texts = (SOURCE, event.detail_type, event.detail, *event.resources)
    return 14 + sum(len(text.encode()) for text in texts)
