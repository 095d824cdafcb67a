"""Lists the streaming sessions of a target: every page of every scope, by each AuthenticationType.

It knows what DescribeSessions may answer, broken answers included, and says which scopes arrived whole. It
translates; what a session's presence or absence means is not decided here.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, assert_never

from botocore.utils import parse_timestamp

from session_auditor.aws_errors import MALFORMED, is_silence
from session_auditor.errors import CutShortError, TopologyError
from session_auditor.model import (
    AuthenticationMode,
    AuthenticationType,
    Evidence,
    Failure,
    Listing,
    Options,
    Scope,
    Session,
    SessionState,
    Snapshot,
)
from session_auditor.paging import DEADLINE, Paged, answers, side_by_side
from session_auditor.topology import TopologyReader, is_name

if TYPE_CHECKING:
    from mypy_boto3_appstream import AppStreamClient

# The most that DescribeSessions returns at once (Limit, API reference).
PAGE_SIZE = 50
# Characters of a text; AWS promises fewer. Bounds a session's item, which may have 400 KB at most.
TEXT_LIMIT = 512
# What DescribeSessions answers to an AuthenticationType that the fleet or the region does not have.
REFUSED_TYPE = "InvalidParameterCombinationException"
_KNOWN_TYPES = frozenset(["", *AuthenticationType])
_NEVER = datetime.min.replace(tzinfo=UTC)
_NOTHING: Mapping[str, str] = {}


@dataclass(slots=True)
class _ScopeListing:
    """What the calls for one scope brought, by the AuthenticationType they asked for.

    `refused_types` are those that were not taken; `gone` if the stack does not have the fleet any more.
    """

    sessions: dict[AuthenticationType | None, dict[str, Session]] = field(default_factory=dict)
    refused_types: set[AuthenticationType | None] = field(default_factory=set)
    failure: Failure | None = None
    gone: bool = False


class SessionLister:
    """Lists sessions. It keeps nothing of its own; what it knows of stacks and fleets is the topology's.

    `only` are further parameters of each DescribeSessions: a UserId or an InstanceId. A UserId needs a type.
    """

    def __init__(
        self,
        client: "AppStreamClient",
        topology: TopologyReader,
        *,
        workers: int,
        user_id: Callable[[str], str],
        only: Mapping[str, str] = _NOTHING,
        one_of_many: bool = False,
    ) -> None:
        # Made once, for thousands of scopes, and when it is needed: no cold start waits for it.
        self._paginator: Callable[[Any], Any] = cache(client.get_paginator)
        self.topology = topology
        self._workers = workers
        self._user_id = user_id
        self._only = only
        self._one_of_many = one_of_many

    def list(
        self,
        snapshot: Snapshot,
        options: Options,
        begin: datetime,
        clock: Callable[[], datetime],
        time_left: Callable[[], float],
    ) -> Listing:
        """List every scope, side by side, until `time_left()` seconds are used up.

        Raises TopologyError when the stacks cannot be read, and where others wait also when nothing answers.
        A scope that fails, for whatever reason, costs its own coverage only.
        """
        topology = self.topology.read(snapshot, options, begin, time_left)
        types, asked_for = _authentication_types(snapshot, options)
        is_gone = self.topology.look_up_again(begin, time_left)

        silence: Failure | None = None
        answered = not self._one_of_many

        def list_scope(scope: Scope) -> Paged[_ScopeListing]:
            nonlocal silence, answered
            if silence and not answered:
                # As long as nothing has answered, all would hang as the first ones did.
                return _ScopeListing(failure=silence)
            result = yield from self._list_scope(scope, types, options, is_gone, time_left)
            if result.failure and is_silence(result.failure.reason) and not any(result.sessions.values()):
                silence = result.failure
            else:
                answered = True
            return result

        # By turns, a sweep that is short of time may list every scope by half: the one before tells.
        gaps = snapshot.target.gaps if snapshot.target else ()
        in_time = snapshot.target is not None and not any(
            gap.reason == DEADLINE or gap.untried_since for gap in gaps
        )
        order = _in_order(topology.scopes, snapshot)
        results = side_by_side(list_scope, order, time_left, workers=self._workers, turns=in_time)
        if silence and not answered:
            raise TopologyError(silence.reason)
        failed = dict(topology.failed)
        gone: set[Scope] = set()
        sessions: dict[str, Session] = {}
        listed_as: dict[str, AuthenticationType] = {}
        refused_types: dict[Scope, frozenset[AuthenticationType | None]] = {}
        for scope, result in results.items():
            if isinstance(result, Failure):
                failed[scope] = result
                continue
            if result.gone:
                # Whom it had listed until then was there.
                gone.add(scope)
            elif result.failure:
                failed[scope] = result.failure
            if result.refused_types:
                refused_types[scope] = frozenset(result.refused_types)
            for authentication_type, listed in result.sessions.items():
                _merge(sessions, listed)
                if authentication_type:
                    for session_id in listed:
                        listed_as.setdefault(session_id, authentication_type)
        return Listing(
            begin=begin,
            observed_at=clock(),
            sessions=sessions,
            scopes=topology.scopes - gone,
            failed=failed,
            facts=topology.facts,
            fleets_read=topology.fleets_read,
            fleet_errors=topology.fleet_errors,
            authentication_types=asked_for,
            listed_as=listed_as,
            refused_types=refused_types,
            evidence=_evidence([result for result in results.values() if isinstance(result, _ScopeListing)]),
            unknown_authentication_types=frozenset(
                session.authentication_type
                for session in sessions.values()
                if session.authentication_type not in _KNOWN_TYPES
            ),
            unread=topology.unread,
        )

    def _list_scope(
        self,
        scope: Scope,
        types: tuple[AuthenticationType | None, ...],
        options: Options,
        is_gone: Callable[[Scope], bool],
        time_left: Callable[[], float],
    ) -> Paged[_ScopeListing]:
        """List one scope with each AuthenticationType (None: without one), page by page."""
        result = _ScopeListing()
        queue = deque(types)
        while queue:
            authentication_type = queue.popleft()
            if time_left() <= 0:
                result.failure = Failure(DEADLINE, tried=bool(result.sessions))
                return result
            sessions = result.sessions[authentication_type] = {}
            parameters: dict[str, Any] = {"StackName": scope.stack, "FleetName": scope.fleet, **self._only}
            if authentication_type:
                parameters["AuthenticationType"] = authentication_type.value
            pages = self._paginator("describe_sessions").paginate(
                **parameters, PaginationConfig={"PageSize": PAGE_SIZE}
            )
            try:
                for page in answers(pages, time_left):
                    records = page.get("Sessions")
                    listed = [
                        self._session(record, scope)
                        for record in (records if isinstance(records, list) else [None])
                    ]
                    _merge(sessions, {session.id: session for session in listed if session})
                    if None in listed:
                        result.failure = Failure(MALFORMED)
                    yield
            except CutShortError as error:
                if error.reason == REFUSED_TYPE and not sessions:
                    del result.sessions[authentication_type]
                    result.refused_types.add(authentication_type)
                    if authentication_type is None and types == (None,):
                        queue.extend(AuthenticationType)
                    continue
                result.failure = Failure(error.reason)
                result.gone = error.final and is_gone(scope)
                return result
        if result.refused_types and (options.authentication_types is not None or not result.sessions):
            result.failure = Failure(REFUSED_TYPE)
            result.gone = not result.sessions and is_gone(scope)
        return result

    def _session(self, record: Any, scope: Scope) -> Session | None:
        """Translate a record of an answer; None if it has no usable Id. A broken field costs itself only."""
        if not isinstance(record, dict):
            return None
        session_id: Any = record.get("Id")
        if not is_name(session_id):
            return None
        network = record.get("NetworkAccessConfiguration")
        network = network if isinstance(network, dict) else {}
        user_id = _text(record.get("UserId"))
        return Session(
            id=session_id,
            scope=scope,
            user_id=self._user_id(user_id) if user_id else "",
            state=_text(record.get("State")),
            connection_state=_text(record.get("ConnectionState")),
            authentication_type=_text(record.get("AuthenticationType")),
            start_time=_time(record.get("StartTime")),
            max_expiration_time=_time(record.get("MaxExpirationTime")),
            instance_id=_text(record.get("InstanceId")),
            eni_id=_text(network.get("EniId")),
            eni_private_ip_address=_text(network.get("EniPrivateIpAddress")),
            instance_drain_status=_text(record.get("InstanceDrainStatus")),
        )


def utc(value: Any) -> datetime | None:
    """Read a time of an answer, in UTC; None if it is none.

    Takes the place of botocore's own reader, which asks for the local time zone of each, at a cost above
    that of all that is done here with a session; and raises for a time out of range.
    """
    try:
        return (
            datetime.fromtimestamp(value, UTC) if isinstance(value, int | float) else parse_timestamp(value)
        )
    except (OSError, OverflowError, RuntimeError, TypeError, ValueError):
        return None


def _authentication_types(
    snapshot: Snapshot, options: Options
) -> tuple[tuple[AuthenticationType | None, ...], frozenset[AuthenticationType] | None]:
    """Return the types to list, None being a call without one, and those that alone are asked for."""
    every = tuple(AuthenticationType)
    if options.authentication_types is not None:
        return tuple(sorted(options.authentication_types)), options.authentication_types
    mode = snapshot.target.authentication if snapshot.target else AuthenticationMode.UNKNOWN
    match mode:
        case AuthenticationMode.UNKNOWN:
            return (None, *every), None
        case AuthenticationMode.UNFILTERED:
            return (None,), None
        case AuthenticationMode.BY_TYPE:
            return every, frozenset(every)
        case _:
            assert_never(mode)


def _in_order(scopes: Iterable[Scope], snapshot: Snapshot) -> list[Scope]:
    """Put first what had no time for the longest, then what failed; of the rest the largest."""
    gaps = {gap.scope: gap for gap in snapshot.target.gaps} if snapshot.target else {}
    sizes = Counter(stored.remembered.session.scope for stored in snapshot.sessions.values())

    def rank(scope: Scope) -> tuple[bool, datetime, bool, int, Scope]:
        gap = gaps.get(scope)
        untried_since = gap.untried_since if gap else None
        return untried_since is None, untried_since or _NEVER, gap is None, -sizes[scope], scope

    return sorted(scopes, key=rank)


def _evidence(results: Iterable[_ScopeListing]) -> Evidence:
    """Return what the listings with each type prove of the listing without one."""
    lists_others = False
    absent: set[str] = set()
    for result in results:
        unfiltered = result.sessions.get(None, {})
        # A call without a type that is refused lists nobody.
        both = None in result.sessions or None in result.refused_types
        for authentication_type, sessions in result.sessions.items():
            if authentication_type is None:
                lists_others |= any(
                    session.authentication_type not in ("", AuthenticationType.API)
                    for session in sessions.values()
                )
            else:
                if authentication_type is not AuthenticationType.API:
                    lists_others |= not unfiltered.keys().isdisjoint(sessions)
                if both and result.failure is None:
                    absent |= sessions.keys() - unfiltered.keys()
    return Evidence(lists_others, frozenset(absent))


def _merge(sessions: dict[str, Session], more: Mapping[str, Session]) -> None:
    """Add what was listed, an Id once: of two records the further one in its life, in whatever order."""
    for session_id, session in more.items():
        known = sessions.get(session_id)
        if known is None or (known != session and _further(session) > _further(known)):
            sessions[session_id] = session


def _further(session: Session) -> tuple[bool, bool, str]:
    return session.state == SessionState.EXPIRED, session.state == SessionState.ACTIVE, repr(session)


def _text(value: Any) -> str:
    """Return a text, cut to what AWS promises, in characters that UTF-8 can write; "" for anything else."""
    text = value[:TEXT_LIMIT] if isinstance(value, str) else ""
    return text if text.isascii() else text.encode(errors="replace").decode()


def _time(value: Any) -> datetime | None:
    if not isinstance(value, datetime):
        return None
    try:
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC).replace(microsecond=0)
    except OverflowError:
        return None
