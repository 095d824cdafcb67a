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
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from botocore.exceptions import BotoCoreError, ClientError
from botocore.utils import parse_timestamp

from session_auditor.errors import MALFORMED, MALFORMED_ERRORS, error_code, is_refusal
from session_auditor.model import (
    TIMEOUT_LIMIT,
    WHOLE_TARGET,
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
# Characters of a text; AWS promises fewer. Bounds a session's item, which may have 400 KB at most.
TEXT_LIMIT = 512
# With a time before it an id has to fit a DynamoDB sort key of 1,024 bytes; names are bounded like ids.
ID_BYTES_LIMIT = 1_000
ENDLESS = "LISTING_TOO_LONG"
DEADLINE = "DEADLINE"
NOT_FOUND = "ResourceNotFoundException"
# What DescribeSessions answers to an AuthenticationType that the fleet or the region does not have.
REFUSED_TYPE = "InvalidParameterCombinationException"
_KNOWN_TYPES = frozenset(["", *AuthenticationType])

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")
# Work that stops after each page, so that others may have a turn.
Paged = Generator[None, None, Result]


class TopologyError(RuntimeError):
    """The stacks of the target cannot be read; `reason` is an error code of AWS, or one of the above."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"the stacks of the target cannot be read ({reason}); the function needs appstream:DescribeStacks"
        )
        self.reason = reason


class CutShortError(RuntimeError):
    """A listing did not arrive whole; `reason` is an error code of AWS, or one of the above.

    `refused` if AWS would not answer another call either.
    """

    def __init__(self, reason: str, *, refused: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.refused = refused


@dataclass(frozen=True, slots=True)
class Topology:
    """Which scopes exist, as far as the filters want them, with the seconds of the fleets' timeouts.

    `failed` are the stacks of which no fleet is known, as scopes without a fleet, and the whole target if its
    stacks could not all be read. `unread` says what else could not be read, and why.
    """

    scopes: frozenset[Scope]
    disconnect_timeouts: Mapping[str, int]
    failed: Mapping[Scope, Failure]
    unread: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Read(Generic[Result]):
    """What was read of the topology, and when."""

    at: datetime
    what: Result


@dataclass(slots=True)
class _ScopeListing:
    """What the calls for one scope brought, by the AuthenticationType they asked for.

    `refused` are the types that were not taken; `gone` if the stack does not have the fleet any more.
    """

    sessions: dict[AuthenticationType | None, dict[str, Session]] = field(default_factory=dict)
    refused: set[AuthenticationType | None] = field(default_factory=set)
    failure: Failure | None = None
    gone: bool = False


class AppStream:
    """AppStream as the sweep sees it. Keeps what it read of the topology in a warm container."""

    def __init__(
        self,
        client: "AppStreamClient",
        *,
        workers: int,
        topology_for: timedelta,
        user_id: Callable[[str], str],
    ) -> None:
        # Each is made once, for thousands of scopes, and when it is needed: no cold start waits for it.
        self._paginator: Callable[[Any], Any] = cache(client.get_paginator)
        self._workers = workers
        self._topology_for = topology_for
        self._user_id = user_id
        # Replaced as they are read, never changed.
        self._stacks: _Read[frozenset[str]] | None = None
        self._fleets: Mapping[str, _Read[frozenset[str]]] = {}
        self._timeouts: _Read[Mapping[str, int]] | None = None

    def list_sessions(
        self,
        snapshot: Snapshot,
        policy: Policy,
        begin: datetime,
        clock: Callable[[], datetime],
        time_left: Callable[[], float],
    ) -> Listing:
        """List every scope, side by side, until `time_left()` seconds are used up.

        Raises TopologyError when the stacks cannot be read. A scope that fails, for whatever reason, costs
        its own coverage only.
        """
        topology = self._read_topology(snapshot, policy, begin, time_left)
        types, asked_for = _authentication_types(snapshot, policy)
        is_gone = self._looked_up_again(begin, time_left)

        def list_scope(scope: Scope) -> Paged[_ScopeListing]:
            return self._list_scope(scope, types, policy, is_gone, time_left)

        # By turns, a sweep that is short of time may list every scope by half: the one before tells.
        gaps = snapshot.target.gaps if snapshot.target else ()
        in_time = snapshot.target is not None and not any(
            gap.reason == DEADLINE or gap.untried_since for gap in gaps
        )
        order = _in_order(topology.scopes, snapshot)
        results = self._side_by_side(list_scope, order, time_left, turns=in_time)
        failed = dict(topology.failed)
        gone: set[Scope] = set()
        sessions: dict[str, Session] = {}
        listed_as: dict[str, AuthenticationType] = {}
        refused: dict[Scope, frozenset[AuthenticationType | None]] = {}
        for scope, result in results.items():
            if isinstance(result, Failure):
                failed[scope] = result
                continue
            if result.gone:
                # Whom it had listed until then was there.
                gone.add(scope)
            elif result.failure:
                failed[scope] = result.failure
            if result.refused:
                refused[scope] = frozenset(result.refused)
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
            disconnect_timeouts=topology.disconnect_timeouts,
            authentication_types=asked_for,
            listed_as=listed_as,
            refused=refused,
            evidence=_evidence([result for result in results.values() if isinstance(result, _ScopeListing)]),
            unknown_authentication_types=frozenset(
                session.authentication_type
                for session in sessions.values()
                if session.authentication_type not in _KNOWN_TYPES
            ),
            unread=topology.unread,
        )

    def _read_topology(
        self, snapshot: Snapshot, policy: Policy, now: datetime, time_left: Callable[[], float]
    ) -> Topology:
        """Return what is known of the topology, read anew as far as it is old or in doubt and time suffices.

        Half of the time belongs to the sessions: what is not read by then stays as it was, and the scopes
        that the table knows stand in for what was never read. None counts as vanished until it was read.
        """
        half = time_left() / 2

        def reading_left() -> float:
            return time_left() - half

        doubtful = self._doubtful(snapshot)
        stacks, failure = self._current_stacks(policy, now, reading_left, in_doubt=bool(doubtful))
        known = {scope for scope in _known_scopes(snapshot) if policy.wants(scope)}
        if failure:
            stacks |= {scope.stack for scope in known}
            if not stacks:
                raise TopologyError(failure.reason)
        timeouts, problem = self._current_timeouts(snapshot, now, reading_left, in_doubt=bool(doubtful))
        due = [
            stack for stack in stacks if stack in doubtful or not self._is_fresh(self._fleets.get(stack), now)
        ]
        # What nobody knows goes first, then what this container never read, then the oldest.
        known_stacks = {scope.stack for scope in known}
        due.sort(
            key=lambda stack: (
                stack in known_stacks,
                self._fleets[stack].at if stack in self._fleets else _NEVER,
            )
        )

        def fleets_of(stack: str) -> Paged[_Fleets]:
            return self._fleets_of(stack, reading_left)

        answers = self._side_by_side(fleets_of, due, reading_left)
        whole = {
            stack: _Read(now, answer.names)
            for stack, answer in answers.items()
            if isinstance(answer, _Fleets) and not answer.problem
        }
        self._fleets = {stack: read for stack, read in self._fleets.items() if stack in stacks} | whole
        scopes: set[Scope] = set()
        failed = {WHOLE_TARGET: failure} if failure else {}
        unread = {"fleets": problem} if problem else {}
        for stack in stacks:
            read = self._fleets.get(stack)
            of_stack = {Scope(stack, fleet) for fleet in (read.what if read else ())}
            if stack in answers and stack not in whole:
                answer = answers[stack]
                cause = answer if isinstance(answer, Failure) else Failure(answer.problem)
                names = frozenset() if isinstance(answer, Failure) else answer.names
                of_stack |= {Scope(stack, fleet) for fleet in names}
                of_stack |= {scope for scope in known if scope.stack == stack and scope.fleet}
                if not of_stack and read is None:
                    failed[Scope(stack, "")] = cause
                unread[f"fleets of stack {stack}"] = cause.reason
            scopes |= {scope for scope in of_stack if policy.wants(scope)}
        if NOT_FOUND in unread.values():
            self._stacks = None
        return Topology(frozenset(scopes), timeouts, failed, unread)

    def _doubtful(self, snapshot: Snapshot) -> set[str]:
        """Return the stacks whose fleets have to be read anew, whatever their age.

        A scope that has vanished is looked for afresh in every sweep until its sessions have ended, so that
        one topology read amiss can't end anybody; and one whose sessions are all missing may be gone.
        """
        kept = {Scope(stack, fleet) for stack, read in self._fleets.items() for fleet in read.what}
        return {scope.stack for scope in (snapshot.scopes - kept) | _deserted(snapshot)}

    def _is_fresh(self, read: _Read[Any] | None, now: datetime) -> bool:
        return read is not None and timedelta() <= now - read.at < self._topology_for

    def _current_stacks(
        self, policy: Policy, now: datetime, time_left: Callable[[], float], *, in_doubt: bool
    ) -> tuple[set[str], Failure | None]:
        """Return the names of the stacks, and why they may not be all; raises TopologyError on a refusal."""
        kept = self._stacks
        if kept and not in_doubt and self._is_fresh(kept, now):
            return set(kept.what), None
        names: set[str] = set()
        failure = None
        try:
            for page in _answers(self._paginator("describe_stacks").paginate(), time_left):
                readable, whole = _names(page.get("Stacks"))
                names |= {name for name in readable if policy.stacks.match(name)}
                if not whole:
                    failure = Failure(MALFORMED)
        except CutShortError as error:
            if error.refused:
                raise TopologyError(error.reason) from None
            failure = Failure(error.reason)
        if failure is None:
            self._stacks = _Read(now, frozenset(names))
        return names | (set(kept.what) if failure and kept else set()), failure

    def _current_timeouts(
        self, snapshot: Snapshot, now: datetime, time_left: Callable[[], float], *, in_doubt: bool
    ) -> tuple[Mapping[str, int], str]:
        """Return the seconds of the fleets' disconnect timeouts, and why they are no more than last known."""
        kept = self._timeouts
        if kept and not in_doubt and self._is_fresh(kept, now):
            return kept.what, ""
        timeouts: dict[str, int] = {}
        problem = ""
        try:
            for page in _answers(self._paginator("describe_fleets").paginate(), time_left):
                timeouts |= _disconnect_timeouts(page.get("Fleets"))
                if not _names(page.get("Fleets"))[1]:
                    problem = MALFORMED
        except CutShortError as error:
            problem = error.reason
        if problem:
            remembered = (stored.remembered for stored in snapshot.sessions.values())
            known = {each.session.scope.fleet: each.disconnect_timeout for each in remembered}
            last = {fleet: timeout for fleet, timeout in known.items() if timeout}
            return last | dict(kept.what if kept else {}) | timeouts, problem
        self._timeouts = _Read(now, timeouts)
        return timeouts, ""

    def _fleets_of(self, stack: str, time_left: Callable[[], float]) -> Paged["_Fleets"]:
        """Return the names of a stack's fleets, or those that were read and why they are not all."""
        fleets: set[str] = set()
        if time_left() <= 0:
            return _Fleets(frozenset(), DEADLINE)
        pages = self._paginator("list_associated_fleets").paginate(StackName=stack)
        problem = ""
        try:
            for page in _answers(pages, time_left):
                names = page.get("Names")
                usable = {name for name in names if _is_name(name)} if isinstance(names, list) else set()
                if not isinstance(names, list) or not all(_is_name(name) for name in names):
                    problem = MALFORMED
                fleets |= usable
                yield
        except CutShortError as error:
            problem = error.reason
        return _Fleets(frozenset(fleets), problem)

    def _looked_up_again(self, now: datetime, time_left: Callable[[], float]) -> Callable[[Scope], bool]:
        """Return what tells whether a stack has lost a fleet whose sessions AppStream refuses to list."""
        answers: dict[str, _Fleets] = {}

        def is_gone(scope: Scope) -> bool:
            if scope.stack not in answers:
                answers[scope.stack] = _run(self._fleets_of(scope.stack, time_left))
            fleets = answers[scope.stack]
            if fleets.problem:
                # The stack itself may be gone.
                self._stacks = None
                return False
            self._fleets = {**self._fleets, scope.stack: _Read(now, fleets.names)}
            return scope.fleet not in fleets.names

        return is_gone

    def _list_scope(
        self,
        scope: Scope,
        types: tuple[AuthenticationType | None, ...],
        policy: Policy,
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
            parameters: dict[str, Any] = {"StackName": scope.stack, "FleetName": scope.fleet}
            if authentication_type:
                parameters["AuthenticationType"] = authentication_type.value
            pages = self._paginator("describe_sessions").paginate(
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
                if error.reason == REFUSED_TYPE and not sessions:
                    del result.sessions[authentication_type]
                    result.refused.add(authentication_type)
                    if authentication_type is None and types == (None,):
                        queue.extend(AuthenticationType)
                    continue
                result.failure = Failure(error.reason)
                result.gone = error.refused and is_gone(scope)
                return result
        if result.refused and (policy.authentication_types is not None or not result.sessions):
            result.failure = Failure(REFUSED_TYPE)
            result.gone = not result.sessions and is_gone(scope)
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


@dataclass(frozen=True, slots=True)
class _Fleets:
    """The fleets of a stack; `problem` says why they may not be all, "" if they are."""

    names: frozenset[str]
    problem: str


_NEVER = datetime.min.replace(tzinfo=UTC)


def _run(work: Paged[Result]) -> Result:
    """Do work in one go that could stop after each page."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: Result = end.value
            return result


def _in_order(scopes: Iterable[Scope], snapshot: Snapshot) -> list[Scope]:
    """Put first what had no time for the longest, then what failed; of the rest the largest."""
    gaps = {gap.scope: gap for gap in snapshot.target.gaps} if snapshot.target else {}
    sizes = Counter(stored.remembered.session.scope for stored in snapshot.sessions.values())

    def rank(scope: Scope) -> tuple[bool, datetime, bool, int, Scope]:
        gap = gaps.get(scope)
        untried_since = gap.untried_since if gap else None
        return untried_since is None, untried_since or _NEVER, gap is None, -sizes[scope], scope

    return sorted(scopes, key=rank)


def _deserted(snapshot: Snapshot) -> set[Scope]:
    """Return the scopes all of whose sessions were missing from the last listing."""
    live = [each.remembered for each in snapshot.sessions.values() if not each.remembered.ending]
    missed = {remembered.session.scope for remembered in live if remembered.missed}
    return missed - {remembered.session.scope for remembered in live if not remembered.missed}


def _known_scopes(snapshot: Snapshot) -> set[Scope]:
    """Return the scopes that the table knows: any of its items may be the only one to tell."""
    live = {stored.remembered.session.scope for stored in snapshot.sessions.values()}
    gaps = {gap.scope for gap in snapshot.target.gaps} if snapshot.target else set()
    return (live | gaps | snapshot.scopes) - {WHOLE_TARGET}


def _evidence(results: Iterable[_ScopeListing]) -> Evidence:
    """Tell what the listings with each type prove of the listing without one."""
    lists_others = False
    absent: set[str] = set()
    for result in results:
        unfiltered = result.sessions.get(None, {})
        # A call without a type that is refused lists nobody.
        both = None in result.sessions or None in result.refused
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


def _answers(
    pages: Iterable[Mapping[str, Any]], time_left: Callable[[], float]
) -> Iterator[Mapping[str, Any]]:
    """Give the pages of a listing; raise CutShortError where it stops before its end."""
    try:
        for number, page in enumerate(pages, 1):
            yield page
            # botocore takes a number that is 0 for the end of the listing.
            if not isinstance(page.get("NextToken"), str | None):
                raise CutShortError(MALFORMED)
            if page.get("NextToken") and time_left() <= 0:
                raise CutShortError(DEADLINE)
            if page.get("NextToken") and number >= PAGES_LIMIT:
                raise CutShortError(ENDLESS)
    except (ClientError, BotoCoreError) as error:
        # botocore has retried by now; a token that repeats is a PaginationError of its paginator.
        raise CutShortError(error_code(error), refused=is_refusal(error)) from None
    except MALFORMED_ERRORS:
        raise CutShortError(MALFORMED) from None


def _names(records: Any) -> tuple[set[str], bool]:
    """Return the names of the records that can be read, and whether all can."""
    if not isinstance(records, list):
        return set(), False
    names = {
        record["Name"] for record in records if isinstance(record, dict) and _is_name(record.get("Name"))
    }
    return names, all(isinstance(record, dict) and _is_name(record.get("Name")) for record in records)


def _disconnect_timeouts(fleets: Any) -> dict[str, int]:
    """Return the timeouts by fleet name; what cannot be read is left out."""
    return {
        fleet["Name"]: min(timeout, TIMEOUT_LIMIT)
        for fleet in (fleets if isinstance(fleets, list) else ())
        if isinstance(fleet, dict)
        and _is_name(fleet.get("Name"))
        and type(timeout := fleet.get("DisconnectTimeoutInSeconds")) is int
        and timeout > 0
    }


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and 0 < len(_utf8(name)) <= ID_BYTES_LIMIT


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
