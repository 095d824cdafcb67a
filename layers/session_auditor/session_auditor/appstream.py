"""Lists the streaming sessions of a target: stacks, their fleets, and every page of every scope.

It knows what AppStream may answer, broken answers included, and says which scopes arrived whole. It
translates; what a session's presence or absence means is not decided here.
"""

import hmac
from collections import Counter, deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from botocore.utils import parse_timestamp

from session_auditor.errors import error_code
from session_auditor.model import (
    DISCONNECT_TIMEOUTS,
    AuthenticationMode,
    AuthenticationType,
    Evidence,
    Failure,
    Listing,
    Policy,
    Scope,
    Session,
    SessionState,
    Snapshot,
    UserIdMode,
)

if TYPE_CHECKING:
    from mypy_boto3_appstream import AppStreamClient

# The most that DescribeSessions gives at once (Limit, API reference).
PAGE_SIZE = 50
# A listing that never ends would fill the memory before its time is up: 100,000 sessions a scope.
PAGES_LIMIT = 2_000
# AWS's own limit of a UserId is 128; whatever is longer is not text that AWS promises.
TEXT_LIMIT = 128
# With a time before it an id has to fit a DynamoDB sort key of 1,024 bytes.
ID_BYTES_LIMIT = 1_000
MALFORMED = "MALFORMED_ANSWER"
ENDLESS = "LISTING_TOO_LONG"
DEADLINE = "DEADLINE"
NOT_FOUND = "ResourceNotFoundException"
_KNOWN_TYPES = frozenset(["", *AuthenticationType])

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")
# Work that stops after each page, so that others may have a turn.
Paged = Generator[None, None, Result]


class TopologyError(RuntimeError):
    """The stacks and fleets of the target cannot be read; nothing can be listed."""


class CutShortError(RuntimeError):
    """A listing did not arrive whole; `reason` is an error code of AWS, or one of the above."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Topology:
    """Which scopes exist, as far as the filters want them; `failed` are error codes by stack name."""

    read_at: datetime
    scopes: frozenset[Scope]
    disconnect_timeouts: Mapping[str, int]
    failed: Mapping[str, str]


@dataclass(slots=True)
class _ScopeListing:
    """What the calls for one scope brought, by the AuthenticationType they asked for."""

    sessions: dict[AuthenticationType | None, dict[str, Session]] = field(default_factory=dict)
    failure: Failure | None = None


class AppStream:
    """AppStream as the sweep sees it. Keeps the topology for some minutes in a warm container."""

    def __init__(
        self,
        client: "AppStreamClient",
        *,
        workers: int,
        topology_for: timedelta,
        user_id: Callable[[str], str],
    ) -> None:
        self._client = client
        self._workers = workers
        self._topology_for = topology_for
        self._user_id = user_id
        self._topology: Topology | None = None

    def list_sessions(
        self,
        snapshot: Snapshot,
        policy: Policy,
        begin: datetime,
        clock: Callable[[], datetime],
        time_left: Callable[[], float],
    ) -> Listing:
        """List every scope, side by side, until `time_left()` seconds are used up.

        Raises TopologyError when stacks or fleets cannot be read. A scope that fails, for whatever
        reason, costs its own coverage only.
        """
        topology = self._current_topology(snapshot, policy, begin, time_left)
        types, asked_for = _authentication_types(snapshot, policy)

        def list_scope(scope: Scope) -> Paged[_ScopeListing]:
            return self._list_scope(scope, types, time_left)

        # By turns, a sweep that is short of time may list every scope by half: the one before tells.
        in_time = snapshot.target is not None and all(gap.reason != DEADLINE for gap in snapshot.target.gaps)
        order = _in_order(topology.scopes, snapshot)
        results = self._side_by_side(list_scope, order, time_left, turns=in_time)
        failed = {
            scope: Failure(reason)
            for stack, reason in topology.failed.items()
            for scope in _known_of(stack, snapshot)
            if policy.wants(scope)
        }
        sessions: dict[str, Session] = {}
        for scope, result in results.items():
            if isinstance(result, Failure):
                failed[scope] = result
                continue
            if result.failure:
                failed[scope] = result.failure
            for listed in result.sessions.values():
                _merge(sessions, listed)
        if any(failure.reason == NOT_FOUND for failure in failed.values()):
            self._topology = None
        return Listing(
            begin=begin,
            observed_at=clock(),
            sessions=sessions,
            scopes=topology.scopes,
            failed=failed,
            disconnect_timeouts=topology.disconnect_timeouts,
            authentication_types=asked_for,
            evidence=_evidence([result for result in results.values() if isinstance(result, _ScopeListing)]),
            unknown_authentication_types=frozenset(
                session.authentication_type
                for session in sessions.values()
                if session.authentication_type not in _KNOWN_TYPES
            ),
        )

    def _current_topology(
        self, snapshot: Snapshot, policy: Policy, now: datetime, time_left: Callable[[], float]
    ) -> Topology:
        """Give the topology that is kept, unless it is old, or the snapshot doubts it.

        A scope that has vanished is looked for afresh in every sweep until its sessions have ended, so
        that one topology read amiss can't end anybody; and one whose sessions are all missing may be gone.
        """
        kept = self._topology
        if (
            kept is not None
            and timedelta() <= now - kept.read_at < self._topology_for
            and kept.scopes == snapshot.scopes
            and not _deserted(snapshot)
        ):
            return kept
        topology = self._read_topology(policy, now, time_left)
        self._topology = None if topology.failed else topology
        return topology

    def _read_topology(self, policy: Policy, now: datetime, time_left: Callable[[], float]) -> Topology:
        def whole(operation: Any) -> Iterator[Mapping[str, Any]]:
            return _answers(self._client.get_paginator(operation).paginate(), time_left)

        try:
            stacks = [
                stack["Name"]
                for page in whole("describe_stacks")
                for stack in _named(page.get("Stacks"))
                if policy.stacks.match(stack["Name"])
            ]
            timeouts = {
                fleet["Name"]: timeout
                for page in whole("describe_fleets")
                for fleet in _named(page.get("Fleets"))
                if type(timeout := fleet.get("DisconnectTimeoutInSeconds")) is int
                and timeout in DISCONNECT_TIMEOUTS
            }
        except CutShortError as error:
            raise TopologyError(
                f"the stacks and fleets of the target cannot be read ({error.reason}); the function "
                "needs appstream:DescribeStacks and appstream:DescribeFleets"
            ) from None
        scopes: set[Scope] = set()
        failed: dict[str, str] = {}

        def fleets_of(stack: str) -> Paged[list[str] | str]:
            return self._fleets_of(stack, time_left)

        for stack, fleets in self._side_by_side(fleets_of, stacks, time_left).items():
            if isinstance(fleets, list):
                scopes.update(Scope(stack, fleet) for fleet in fleets if policy.fleets.match(fleet))
            else:
                failed[stack] = fleets.reason if isinstance(fleets, Failure) else fleets
        return Topology(now, frozenset(scopes), timeouts, failed)

    def _fleets_of(self, stack: str, time_left: Callable[[], float]) -> Paged[list[str] | str]:
        """Give the names of a stack's fleets, or the error code when they cannot be listed whole."""
        fleets: list[str] = []
        if time_left() <= 0:
            return DEADLINE
        pages = self._client.get_paginator("list_associated_fleets").paginate(StackName=stack)
        try:
            for page in _answers(pages, time_left):
                names = page.get("Names")
                if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                    return MALFORMED
                fleets += names
                yield
        except CutShortError as error:
            return error.reason
        return fleets

    def _list_scope(
        self, scope: Scope, types: tuple[AuthenticationType | None, ...], time_left: Callable[[], float]
    ) -> Paged[_ScopeListing]:
        """List one scope with each AuthenticationType (None: without one), page by page."""
        result = _ScopeListing()
        for authentication_type in types:
            sessions = result.sessions.setdefault(authentication_type, {})
            if time_left() <= 0:
                result.failure = Failure(DEADLINE, tried=len(result.sessions) > 1)
                return result
            parameters: dict[str, Any] = {"StackName": scope.stack, "FleetName": scope.fleet}
            if authentication_type:
                parameters["AuthenticationType"] = authentication_type.value
            pages = self._client.get_paginator("describe_sessions").paginate(
                **parameters, PaginationConfig={"PageSize": PAGE_SIZE}
            )
            try:
                for page in _answers(pages, time_left):
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
                result.failure = Failure(error.reason)
                return result
        return result

    def _session(self, record: Any, scope: Scope) -> Session | None:
        """Translate a record of an answer; None if it has no usable Id. A broken field costs itself only."""
        if not isinstance(record, dict):
            return None
        session_id = record.get("Id")
        if not isinstance(session_id, str) or not 0 < len(_utf8(session_id)) <= ID_BYTES_LIMIT:
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

    def _side_by_side(
        self,
        work: Callable[[Key], Paged[Result]],
        keys: Sequence[Key],
        time_left: Callable[[], float],
        *,
        turns: bool = False,
    ) -> dict[Key, Result | Failure]:
        """Do the work for every key on the workers; what is not done in time failed by the deadline.

        A worker stays with what it has begun, so that little is half done when time runs out. With `turns`,
        and in the first half of the time, the last keys are passed on page by page, lest some workers have
        nothing to do while others have much left. A call that hangs is left behind, for a sweep must not
        outlive the function.
        """
        waiting = deque((key, work(key)) for key in keys)
        tried: set[Key] = set()
        done: dict[Key, Result] = {}
        half = time_left() / 2

        def serve() -> None:
            while True:
                try:
                    key, pages = waiting.popleft()
                except IndexError:
                    return
                tried.add(key)
                try:
                    next(pages)
                except StopIteration as end:
                    done[key] = end.value
                    continue
                pass_on = turns and len(waiting) < self._workers and time_left() > half
                put_back = waiting.append if pass_on else waiting.appendleft
                put_back((key, pages))

        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="listing")
        try:
            workers = [pool.submit(serve) for _ in range(min(self._workers, len(keys)))]
            ended, _ = wait(workers, timeout=max(0.0, time_left()), return_when=FIRST_EXCEPTION)
            for worker in ended:
                worker.result()
            return {key: done[key] if key in done else Failure(DEADLINE, tried=key in tried) for key in keys}
        finally:
            # Nothing more is begun; what is under way looks at the time before its next page.
            waiting.clear()
            pool.shutdown(wait=False, cancel_futures=True)


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


def user_ids(mode: UserIdMode, secret: str) -> Callable[[str], str]:
    """Give what becomes of a user id: itself, a keyed hash of 32 hex digits, or nothing."""
    match mode:
        case UserIdMode.PLAIN:
            return str
        case UserIdMode.HASH:
            key = secret.encode()
            return lambda user_id: hmac.digest(key, user_id.encode(), "sha256").hex()[:32]
        case UserIdMode.OMIT:
            return lambda _: ""


def _authentication_types(
    snapshot: Snapshot, policy: Policy
) -> tuple[tuple[AuthenticationType | None, ...], frozenset[AuthenticationType] | None]:
    """Tell which types to list, None being a call without one, and which alone are asked for."""
    every = tuple(AuthenticationType)
    if policy.authentication_types is not None:
        return tuple(sorted(policy.authentication_types)), policy.authentication_types
    match snapshot.target.authentication if snapshot.target else AuthenticationMode.UNKNOWN:
        case AuthenticationMode.UNKNOWN:
            return (None, *every), None
        case AuthenticationMode.UNFILTERED:
            return (None,), None
        case AuthenticationMode.BY_TYPE:
            return every, frozenset(every)


def _in_order(scopes: Iterable[Scope], snapshot: Snapshot) -> list[Scope]:
    """Put first what had no time for the longest, then what failed; of the rest the largest."""
    gaps = {gap.scope: gap for gap in snapshot.target.gaps} if snapshot.target else {}
    sizes = Counter(stored.remembered.session.scope for stored in snapshot.sessions.values())

    def rank(scope: Scope) -> tuple[int, bool, int, Scope]:
        gap = gaps.get(scope)
        return -gap.untried if gap else 0, gap is None, -sizes[scope], scope

    return sorted(scopes, key=rank)


def _deserted(snapshot: Snapshot) -> bool:
    """Tell whether there is a scope all of whose sessions were missing from the last listing."""
    live = [each.remembered for each in snapshot.sessions.values() if not each.remembered.ending]
    missed = {remembered.session.scope for remembered in live if remembered.missed}
    return bool(missed - {remembered.session.scope for remembered in live if not remembered.missed})


def _known_of(stack: str, snapshot: Snapshot) -> set[Scope]:
    """Give the scopes of a stack as the table knows them: any of its items may be the only one to tell."""
    live = {stored.remembered.session.scope for stored in snapshot.sessions.values()}
    gaps = {gap.scope for gap in snapshot.target.gaps} if snapshot.target else set()
    return {scope for scope in snapshot.scopes | live | gaps if scope.stack == stack} or {Scope(stack, "")}


def _evidence(results: Iterable[_ScopeListing]) -> Evidence:
    """Tell what the listings with each type prove of the listing without one."""
    lists_others = False
    absent: set[str] = set()
    for result in results:
        unfiltered = result.sessions.get(None, {})
        for authentication_type, sessions in result.sessions.items():
            if authentication_type is None:
                lists_others |= any(
                    session.authentication_type not in ("", AuthenticationType.API)
                    for session in sessions.values()
                )
            else:
                if authentication_type is not AuthenticationType.API:
                    lists_others |= not unfiltered.keys().isdisjoint(sessions)
                if None in result.sessions and result.failure is None:
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


def _answers(
    pages: Iterable[Mapping[str, Any]], time_left: Callable[[], float]
) -> Iterator[Mapping[str, Any]]:
    """Give the pages of a listing; raise CutShortError where it stops before its end."""
    try:
        for number, page in enumerate(pages, 1):
            yield page
            if page.get("NextToken") and time_left() <= 0:
                raise CutShortError(DEADLINE)
            if page.get("NextToken") and number >= PAGES_LIMIT:
                raise CutShortError(ENDLESS)
    except (ClientError, BotoCoreError) as error:
        # botocore has retried by now; a token that repeats is a PaginationError of its paginator.
        raise CutShortError(error_code(error)) from None
    except (ResponseParserError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        # An answer that is not of the model's form makes botocore's parser raise what Python does there.
        raise CutShortError(MALFORMED) from None


def _named(records: Any) -> Iterator[dict[str, Any]]:
    if not isinstance(records, list):
        raise CutShortError(MALFORMED)
    for record in records:
        if not isinstance(record, dict) or not isinstance(record.get("Name"), str):
            raise CutShortError(MALFORMED)
        yield record


def _utf8(text: str) -> bytes:
    """Give the bytes of a text; none if it has any that UTF-8 can't write."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return b""


def _text(value: Any) -> str:
    """Give the text that AWS promises at most, in characters that UTF-8 can write; "" for anything else."""
    text = value[:TEXT_LIMIT] if isinstance(value, str) else ""
    return text if text.isascii() else text.encode(errors="replace").decode()


def _time(value: Any) -> datetime | None:
    if not isinstance(value, datetime):
        return None
    try:
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC).replace(microsecond=0)
    except OverflowError:
        return None
