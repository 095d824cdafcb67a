"""Remembers episodes in DynamoDB, and lets one worker at a time hold one.

It knows conditional writes and nothing of tickets. An event is stored with its episode before anything is
done about it; once a ticket was told of it, its text is dropped.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from tickets.episode import Episode, Event
from tickets.vendor import TryLaterError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.service_resource import Table

# A queue keeps a message for 14 days at most, and a session lives for 5.
KEEP_SECONDS = 15 * 86_400
_EVENT = "event#"
_ADD = "SET #event = :event, expiration = :end"


class Episodes:
    """The table, shared with the idempotency records; an episode's item is about 1 KB."""

    def __init__(self, table: "Table") -> None:
        self._table = table

    @contextmanager
    def hold(self, event: Event, holder: str, now: float, until: float) -> Iterator[Episode]:
        """Add an event to its episode and hold it; what the holder did is written back, come what may.

        Nobody can hold an episode after `until`, in seconds of the epoch: by then its holder must have
        ended. Raises TryLaterError if somebody else holds it; the event is added, for whoever holds it next.
        """
        added: dict[str, Any] = {
            ":event": event.model_dump_json(by_alias=True),
            ":end": int(now) + KEEP_SECONDS,
        }
        try:
            item = self._table.update_item(
                Key=_key(event.key),
                UpdateExpression=f"{_ADD}, holder = :holder, heldUntil = :until",
                # It may be our own: the SDK asks again if an answer does not arrive.
                ConditionExpression="attribute_not_exists(holder) OR heldUntil < :now OR holder = :holder",
                ExpressionAttributeNames={"#event": _attribute(event)},
                ExpressionAttributeValues={
                    **added,
                    ":holder": holder,
                    ":until": _number(until),
                    ":now": _number(now),
                },
                ReturnValues="ALL_NEW",
            )["Attributes"]
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            # Else a burst of events would be told one at a time, with a pause of all the others between.
            self._table.update_item(
                Key=_key(event.key),
                UpdateExpression=_ADD,
                ExpressionAttributeNames={"#event": _attribute(event)},
                ExpressionAttributeValues=added,
            )
            raise TryLaterError("EPISODE_HELD", undone=True) from None
        episode = _episode(event.key, item)
        try:
            yield episode
        finally:
            self._release(episode, holder)

    def note_attempt(self, episode: Episode, now: float) -> None:
        """Write down that a ticket is about to be asked for, so that a crash leaves a trace."""
        episode.attempted_at = now
        self._table.update_item(
            Key=_key(episode.key),
            UpdateExpression="SET attemptedAt = :now",
            ExpressionAttributeValues={":now": _number(now)},
        )

    def _release(self, episode: Episode, holder: str) -> None:
        told = {f"#told{number}": _attribute(event) for number, event in enumerate(episode.told)}
        self._table.update_item(
            Key=_key(episode.key),
            UpdateExpression="SET ticket = :ticket, opened = :opened, attemptedAt = :at "
            f"REMOVE {', '.join(['#holder', 'heldUntil', *told])}",
            ConditionExpression="#holder = :holder",
            ExpressionAttributeNames={"#holder": "holder", **told},
            ExpressionAttributeValues={
                ":holder": holder,
                ":ticket": episode.ticket,
                ":opened": episode.opened,
                ":at": _number(episode.attempted_at),
            },
        )


def _attribute(event: Event) -> str:
    return f"{_EVENT}{event.detail.metadata.event_id}"


def _key(key: str) -> dict[str, str]:
    return {"id": f"episode#{key}"}


def _number(seconds: float) -> Decimal:
    return Decimal(f"{seconds:.3f}")


def _episode(key: str, item: dict[str, Any]) -> Episode:
    return Episode(
        key,
        waiting=tuple(Event.model_validate_json(item[name]) for name in item if name.startswith(_EVENT)),
        ticket=item.get("ticket", ""),
        opened=int(item.get("opened", 0)),
        attempted_at=float(item.get("attemptedAt", 0)),
    )
