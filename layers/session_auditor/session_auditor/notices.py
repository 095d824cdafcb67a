"""What people are told of a batch of events: a few messages, however many events there are.

Up to three events of a detail-type are a message each; of more, one message counts them by stack and fleet,
and by policy or error, and names some. It knows what the events say, and neither channels nor queues.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from enum import StrEnum
from typing import Any, NamedTuple, Self, assert_never

from session_auditor.contract import SOURCE, is_closing
from session_auditor.coverage import FILTERED
from session_auditor.errors import NoticeError
from session_auditor.model import DetailType
from session_auditor.wording import harmless, local_time

# Of a detail-type in one batch, so many events are a message each.
SINGLES = 3
# What a digest names: the fullest fleets, the most frequent policies or errors, and sessions of all of them.
PLACES_NAMED = 10
CAUSES_NAMED = 10
SESSIONS_NAMED = 10
# What a digest prints of a name; every text in it is bounded by that.
NAME_LIMIT = 60


class Tone(StrEnum):
    """How a message is meant: it needs nobody, somebody should look, somebody should act."""

    GOOD = "GOOD"
    WARNING = "WARNING"
    DANGER = "DANGER"


class Place(NamedTuple):
    """A stack and fleet of a target, or a fleet alone; both names are empty where it is the whole target."""

    account_id: str
    region: str
    stack: str
    fleet: str


@dataclass(frozen=True, slots=True)
class Notice:
    """One event, as far as people are told of it. Times are ISO 8601, "" where there is none.

    `tags` are those of its stack and fleet, each as `key=value`. `codes` are those of a fleet's errors, with
    commas between; `policy` is the one that is violated, or no more.
    """

    event_id: str
    detail_type: DetailType
    observed_at: str
    place: Place
    summary: str
    sequence: int = 0
    resources: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    session_id: str = ""
    user_id: str = ""
    began: str = ""
    deadline: str = ""
    cause: str = ""
    since: str = ""
    reason: str = ""
    codes: str = ""
    policy: str = ""

    @classmethod
    def of(cls, event: Any) -> Self:
        """Read an event as EventBridge delivers it; raise NoticeError if it is none of the auditor's."""
        try:
            if event["source"] != SOURCE:
                raise NoticeError("the source is not the auditor")
            metadata, data = event["detail"]["metadata"], event["detail"]["data"]
            session, deadline = data.get("session", {}), data.get("deadline", {})
            about = session or data
            return cls(
                _text(metadata["eventId"]),
                DetailType(event["detail-type"]),
                _text(metadata["observedAt"]),
                Place(
                    _text(metadata["accountId"]),
                    _text(metadata["region"]),
                    _text(about["stackName"]),
                    _text(about["fleetName"]),
                ),
                _text(data["summary"]),
                int(metadata.get("sequence", 0)),
                tuple(_text(each) for each in event["resources"]),
                # Of a release without tags, in a queue since before an update, it has none.
                tuple(f"{_text(key)}={_text(value)}" for key, value in data.get("tags", {}).items()),
                session_id=_text(session.get("id", "")),
                user_id=_text(session.get("userId", "")),
                began=_text(session.get("startTime", "")),
                deadline=_text(deadline.get("at", "")),
                cause=_text(deadline.get("cause", "")),
                since=_text(data.get("since", "")),
                reason=_text(data.get("reason", "")),
                codes=_text(data.get("codes", "")),
                policy=_text(data.get("policy", {}).get("name", "")),
            )
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            # An error's own text may quote an event, and events hold user ids.
            reason = str(error) if isinstance(error, NoticeError) else f"no event: {type(error).__name__}"
            raise NoticeError(reason) from None

    @property
    def order(self) -> tuple[str, int, str]:
        """Where it stands among others: by time, and those of one sweep as they are numbered."""
        return self.observed_at, self.sequence, self.event_id


@dataclass(frozen=True, slots=True)
class Message:
    """What is told at once, of notices of one detail-type: a heading, some lines, and a remark in small."""

    notices: tuple[Notice, ...]
    heading: str
    lines: tuple[str, ...]
    remark: str

    @property
    def detail_type(self) -> DetailType:
        """The detail-type of its notices."""
        return self.notices[0].detail_type

    @property
    def tone(self) -> Tone:
        """How it is meant."""
        return tone_of(self.detail_type)

    @property
    def id(self) -> str:
        """The id of its first event: the same whenever the same is told."""
        return self.notices[0].event_id


def tone_of(detail_type: DetailType) -> Tone:
    """Return how an event of a detail-type is meant."""
    match detail_type:
        case DetailType.ABANDONED | DetailType.AUDIT_DEGRADED | DetailType.FLEET_FAULTED:
            return Tone.DANGER
        case DetailType.DISCONNECTED | DetailType.EXPIRING | DetailType.POLICY_VIOLATED:
            return Tone.WARNING
        case (
            DetailType.STARTED
            | DetailType.CONNECTED
            | DetailType.RECONNECTED
            | DetailType.ENDED
            | DetailType.UNWATCHED
            | DetailType.POLICY_CLEARED
            | DetailType.FLEET_RECOVERED
            | DetailType.AUDIT_RECOVERED
        ):
            return Tone.GOOD
        case _:
            assert_never(detail_type)


def messages(
    notices: Iterable[Notice],
    *,
    several_targets: bool,
    accounts: Mapping[str, str] | None = None,
    time_zone: tzinfo = UTC,
) -> tuple[Message, ...]:
    """Return what is told of a batch, in order of time; a notice that is there twice is told once.

    With `several_targets` each message says of which account and region it is; `accounts` are names by id.
    Times are told in `time_zone` and name it.
    """
    targets = _Targets(accounts or {}, several=several_targets)
    once = {notice.event_id: notice for notice in notices}
    in_order = sorted(once.values(), key=lambda notice: notice.order)
    by_type: dict[DetailType, list[Notice]] = {}
    for notice in in_order:
        by_type.setdefault(notice.detail_type, []).append(notice)
    told: list[Message] = []
    for of_type in by_type.values():
        if len(of_type) > SINGLES:
            told.append(_digest(of_type, time_zone, targets))
        else:
            told += [_single(notice, time_zone, targets) for notice in of_type]
    return tuple(sorted(told, key=lambda message: message.notices[0].order))


@dataclass(frozen=True, slots=True)
class _Targets:
    """How accounts are called, by id, and whether there are several targets, so that each has to be said."""

    accounts: Mapping[str, str]
    several: bool

    def of(self, place: Place) -> str:
        """Return the account and region of a place."""
        name = harmless(self.accounts.get(place.account_id, ""), NAME_LIMIT)
        account = f"{name} ({place.account_id})" if name else place.account_id
        return f"account {account}, region {place.region}"


def _single(notice: Notice, zone: tzinfo, targets: _Targets) -> Message:
    place = notice.place
    named = place.stack or place.fleet
    where = f" {_scope(place)}" if named else f" in {targets.of(place)}"
    if named and targets.several:
        where += f", {targets.of(place)}"
    return Message((notice,), f"{notice.detail_type}{where}", (notice.summary,), _remark(notice, zone))


def _remark(notice: Notice, zone: tzinfo) -> str:
    match notice.detail_type:
        case DetailType.AUDIT_DEGRADED:
            return "Every sweep tries again; until one succeeds nobody there is reported as ended"
        case DetailType.AUDIT_RECOVERED if notice.reason == FILTERED:
            return f"Not listed since {_local(notice.since, zone)}"
        case DetailType.AUDIT_RECOVERED:
            return f"What happened there since {_local(notice.since, zone)} is told now"
        case DetailType.FLEET_FAULTED:
            return "What AppStream says of it stands in its console, with the fleet"
        case DetailType.FLEET_RECOVERED:
            return f"Observed at {_local(notice.observed_at, zone)}"
        case DetailType.ENDED | DetailType.UNWATCHED | DetailType.POLICY_CLEARED:
            return _since(notice, zone)
        case (
            DetailType.STARTED
            | DetailType.CONNECTED
            | DetailType.DISCONNECTED
            | DetailType.RECONNECTED
            | DetailType.EXPIRING
            | DetailType.ABANDONED
            | DetailType.POLICY_VIOLATED
        ):
            if not notice.deadline:
                return f"{_since(notice, zone)}; no end is known"
            until = _local(notice.deadline, zone)
            return f"{_since(notice, zone)}, until {until} at the latest ({notice.cause})"
        case _:
            assert_never(notice.detail_type)


def _since(notice: Notice, zone: tzinfo) -> str:
    return f"Session since {_local(notice.began, zone)}" if notice.began else "Session of unknown begin"


def _local(text: str, zone: tzinfo) -> str:
    """Return a time of an event as people are told it; what is none stays as it is."""
    try:
        return local_time(datetime.fromisoformat(text), zone)
    except ValueError:
        return text


def _digest(notices: Sequence[Notice], zone: tzinfo, targets: _Targets) -> Message:
    # Of one session there may be several: it is warned of an hour and a quarter before its end.
    distinct = {(notice.place, notice.session_id) for notice in notices}
    counted = Counter(place for place, _ in distinct)
    fullest = sorted(counted.items(), key=lambda each: (-each[1], each[0]))
    named, rest = fullest[:PLACES_NAMED], fullest[PLACES_NAMED:]
    lines = [
        f"{number:,} {_scope(place)}" + (f", {targets.of(place)}" if targets.several else "")
        for place, number in named
    ]
    if rest:
        lines.append(f"{sum(number for _, number in rest):,} on {len(rest):,} more")
    lines += _causes(notices)
    names = list(
        dict.fromkeys(f"“{name}”" for each in notices if (name := harmless(each.user_id, NAME_LIMIT)))
    )
    if names:
        more = f" and {len(names) - SESSIONS_NAMED:,} more" if len(names) > SESSIONS_NAMED else ""
        lines.append(", ".join(names[:SESSIONS_NAMED]) + more)
    first, last = (_local(notice.observed_at, zone) for notice in (notices[0], notices[-1]))
    seen = f"Observed at {first}" if first == last else f"Observed from {first} to {last}"
    heading = f"{notices[0].detail_type}: {len(distinct):,} {_subjects(notices[0])}"
    return Message(tuple(notices), heading, tuple(lines), seen + _ends(notices, zone))


def _subjects(notice: Notice) -> str:
    """Return what a digest of such notices counts."""
    if notice.session_id:
        return "sessions"
    return "fleets" if notice.place.fleet and not notice.place.stack else "stacks and fleets"


def _causes(notices: Sequence[Notice]) -> list[str]:
    """Return a line that counts sessions by policy, or fleets by error; none where there is neither."""
    distinct = {
        (cause, notice.place, notice.session_id)
        for notice in notices
        for text in ([notice.policy] if notice.session_id else notice.codes.split(","))
        if (cause := harmless(text, NAME_LIMIT))
    }
    if not distinct:
        return []
    counted = sorted(Counter(cause for cause, *_ in distinct).items(), key=lambda each: (-each[1], each[0]))
    more = f" and {len(counted) - CAUSES_NAMED:,} more" if len(counted) > CAUSES_NAMED else ""
    return [", ".join(f"{cause} {number:,}" for cause, number in counted[:CAUSES_NAMED]) + more]


def _ends(notices: Sequence[Notice], zone: tzinfo) -> str:
    """Return when the sessions of a digest end, unless they have."""
    ends = sorted(notice.deadline for notice in notices if notice.deadline)
    kind = notices[0].detail_type
    # A violation is over at the end of its session as well.
    if not ends or is_closing(kind) or kind is DetailType.POLICY_CLEARED:
        return ""
    causes = ", ".join(sorted({notice.cause for notice in notices if notice.deadline}))
    first, last = _local(ends[0], zone), _local(ends[-1], zone)
    until = f"at {first}" if first == last else f"from {first} to {last}"
    return f"; at the latest they end {until} ({causes})"


def _scope(place: Place) -> str:
    if not place.stack:
        fleet = harmless(place.fleet, NAME_LIMIT)
        return f"on fleet {fleet}" if fleet else "of a whole account and region"
    stack = f"on stack {harmless(place.stack, NAME_LIMIT)}"
    return f"{stack}, fleet {harmless(place.fleet, NAME_LIMIT)}" if place.fleet else stack


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    # JSON may hold half a surrogate pair, which no request could carry.
    value.encode()
    return value
