"""Which stacks, fleets and scopes exist, as far as the filters want them; what is known is kept.

It knows what DescribeStacks, ListAssociatedFleets and DescribeFleets may answer, broken answers included. A
scope counts as vanished only when the whole topology was read.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from math import inf
from typing import TYPE_CHECKING, Any, Generic

from session_auditor.aws_errors import MALFORMED, MALFORMED_ERRORS
from session_auditor.errors import CutShortError, TopologyError
from session_auditor.model import (
    NAME_BYTES,
    TIMEOUT_LIMIT,
    WHOLE_TARGET,
    Facts,
    Failure,
    Fleet,
    Options,
    Scope,
    Snapshot,
)
from session_auditor.paging import DEADLINE, Paged, Result, answers, in_one_go, side_by_side
from session_auditor.tags import TagReader, Tags

if TYPE_CHECKING:
    from mypy_boto3_appstream import AppStreamClient

NOT_FOUND = "ResourceNotFoundException"
# Codes that are told of a fleet: AWS has some thirty (API reference, FleetError), of which few come at once.
CODES_LIMIT = 20
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Topology:
    """Which scopes exist, as far as the filters want them, and what is known of fleets and stacks.

    `fleets_read` is when all fleets were read, with the codes of their errors; None if the table knows as
    much. `failed` are the stacks of which no fleet is known, as scopes without a fleet, and the whole target
    if its stacks could not all be read. `unread` says what else could not be read, and why.
    """

    scopes: frozenset[Scope]
    facts: Facts
    fleets_read: datetime | None
    fleet_errors: Mapping[str, str | None]
    failed: Mapping[Scope, Failure]
    unread: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Read(Generic[Result]):
    """What was read of the topology, and when."""

    at: datetime
    what: Result


@dataclass(frozen=True, slots=True)
class _Described:
    """What is known of fleets and tags, and the codes of the fleets' errors."""

    facts: Facts
    errors: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class _Associated:
    """The fleets of a stack; `problem` says why they may not be all, "" if they are."""

    names: frozenset[str]
    problem: str


class TopologyReader:
    """Reads the topology, and keeps it in a warm container for `keep_for`."""

    def __init__(
        self,
        client: "AppStreamClient",
        tags: TagReader | None = None,
        *,
        workers: int,
        keep_for: timedelta,
        longest: float = inf,
    ) -> None:
        # Each is made when it is needed: no cold start waits for it.
        self._paginator: Callable[[Any], Any] = cache(client.get_paginator)
        self._tags = tags
        self._workers = workers
        self._keep_for = keep_for
        self._longest = longest
        # Replaced as they are read, never changed.
        self._stacks: _Read[frozenset[str]] | None = None
        self._associated: Mapping[str, _Read[frozenset[str]]] = {}
        self._fleets: _Read[_Described] | None = None

    def read(
        self, snapshot: Snapshot, options: Options, now: datetime, time_left: Callable[[], float]
    ) -> Topology:
        """Return what is known of the topology, read anew as far as it is old or in doubt and time suffices.

        Half of the time belongs to the sessions: what is not read by then stays as it was, and the scopes
        that the table knows stand in for what was never read. None counts as vanished until it was read.
        Raises TopologyError when no stack can be read; where reading may take so long at the `longest`, also
        when AppStream fails to list them, for others wait.
        """
        half = max(time_left() / 2, time_left() - self._longest)

        def reading_left() -> float:
            return time_left() - half

        doubtful = self._doubtful(snapshot)
        stacks, failure = self._current_stacks(options, now, reading_left, in_doubt=bool(doubtful))
        known = {scope for scope in _known_scopes(snapshot) if options.wants(scope)}
        if failure:
            stacks |= {scope.stack for scope in known}
            if not stacks:
                raise TopologyError(failure.reason)
        kept = self._fleets
        facts, problems = self._current_facts(snapshot, stacks, now, reading_left, in_doubt=bool(doubtful))
        due = [
            stack
            for stack in stacks
            if stack in doubtful or not self._is_fresh(self._associated.get(stack), now)
        ]
        # What nobody knows goes first, then what this container never read, then the oldest.
        known_stacks = {scope.stack for scope in known}
        due.sort(
            key=lambda stack: (
                stack in known_stacks,
                self._associated[stack].at if stack in self._associated else _NEVER,
            )
        )

        def fleets_of(stack: str) -> Paged[_Associated]:
            return self._fleets_of(stack, reading_left)

        read_now = side_by_side(fleets_of, due, reading_left, workers=self._workers)
        whole = {
            stack: _Read(now, answer.names)
            for stack, answer in read_now.items()
            if isinstance(answer, _Associated) and not answer.problem
        }
        self._associated = {
            stack: read for stack, read in self._associated.items() if stack in stacks
        } | whole
        scopes: set[Scope] = set()
        failed = {WHOLE_TARGET: failure} if failure else {}
        unread = dict(problems)
        for stack in stacks:
            read = self._associated.get(stack)
            of_stack = {Scope(stack, fleet) for fleet in (read.what if read else ())}
            if stack in read_now and stack not in whole:
                answer = read_now[stack]
                cause = answer if isinstance(answer, Failure) else Failure(answer.problem)
                names = frozenset() if isinstance(answer, Failure) else answer.names
                of_stack |= {Scope(stack, fleet) for fleet in names}
                of_stack |= {scope for scope in known if scope.stack == stack and scope.fleet}
                if not of_stack and read is None:
                    failed[Scope(stack, "")] = cause
                unread[f"fleets of stack {stack}"] = cause.reason
            scopes |= {scope for scope in of_stack if options.wants(scope)}
        if NOT_FOUND in unread.values():
            self._stacks = None
        known_at = snapshot.target.fleets_read if snapshot.target else None
        news = self._fleets
        # What was read just now counts, even if a clock that is fast has dated what the table knows.
        if news is not None and news is kept and known_at is not None and news.at <= known_at:
            news = None
        return Topology(
            frozenset(scopes),
            facts,
            news.at if news else None,
            news.what.errors if news else {},
            failed,
            unread,
        )

    def look_up_again(self, now: datetime, time_left: Callable[[], float]) -> Callable[[Scope], bool]:
        """Return a function that looks up whether a scope's stack has lost its fleet."""
        looked_up: dict[str, _Associated] = {}

        def is_gone(scope: Scope) -> bool:
            if scope.stack not in looked_up:
                looked_up[scope.stack] = in_one_go(self._fleets_of(scope.stack, time_left))
            fleets = looked_up[scope.stack]
            if fleets.problem:
                # The stack itself may be gone.
                self._stacks = None
                return False
            self._associated = {**self._associated, scope.stack: _Read(now, fleets.names)}
            return scope.fleet not in fleets.names

        return is_gone

    def _doubtful(self, snapshot: Snapshot) -> set[str]:
        """Return the stacks whose fleets have to be read anew, whatever their age.

        A scope that has vanished is looked for afresh in every sweep until its sessions have ended, so that
        one topology read amiss can't end anybody; and one whose sessions are all missing may be gone.
        """
        kept = {Scope(stack, fleet) for stack, read in self._associated.items() for fleet in read.what}
        return {scope.stack for scope in (snapshot.scopes - kept) | _deserted(snapshot)}

    def _is_fresh(self, read: _Read[Any] | None, now: datetime) -> bool:
        return read is not None and timedelta() <= now - read.at < self._keep_for

    def _current_stacks(
        self, options: Options, now: datetime, time_left: Callable[[], float], *, in_doubt: bool
    ) -> tuple[set[str], Failure | None]:
        """Return the names of the stacks, and why they may not be all; raise TopologyError on a refusal."""
        kept = self._stacks
        if kept and not in_doubt and self._is_fresh(kept, now):
            return set(kept.what), None
        names: set[str] = set()
        failure = None
        try:
            for page in answers(self._paginator("describe_stacks").paginate(), time_left):
                readable, whole = _names(page.get("Stacks"))
                names |= {name for name in readable if options.stacks.match(name)}
                if not whole:
                    failure = Failure(MALFORMED)
        except CutShortError as error:
            if error.final or (self._longest < inf and error.reason != DEADLINE):
                raise TopologyError(error.reason) from None
            failure = Failure(error.reason)
        if failure is None:
            self._stacks = _Read(now, frozenset(names))
        return names | (set(kept.what) if failure and kept else set()), failure

    def _current_facts(
        self,
        snapshot: Snapshot,
        stacks: Collection[str],
        now: datetime,
        time_left: Callable[[], float],
        *,
        in_doubt: bool,
    ) -> tuple[Facts, Mapping[str, str]]:
        """Return the last that is known of fleets and tags, and what could not be read now, and why.

        Of what is gone the last stays known: it is still told of.
        """
        known = self._known_facts(snapshot)
        if self._fleets and not in_doubt and self._is_fresh(self._fleets, now):
            return known, {}
        fleets, errors, problem = self._described_fleets(time_left)
        problems = {"fleets": problem} if problem else {}
        # Tags are read beside the fleets that bear them.
        fleets = {name: replace(fleet, tags=known.fleet(name).tags) for name, fleet in fleets.items()}
        read = Facts(fleets)
        if self._tags and time_left() <= 0:
            problems["tags"] = DEADLINE
        elif self._tags:
            try:
                tags = self._tags.read(time_left)
            except CutShortError as error:
                problems["tags"] = error.reason
            else:
                read = _tagged(read, tags, known, stacks)
        if "fleets" not in problems:
            self._fleets = _Read(now, _Described(read, errors))
        return _newest(known, read), problems

    def _described_fleets(
        self, time_left: Callable[[], float]
    ) -> tuple[dict[str, Fleet], dict[str, str | None], str]:
        """Return fleets, their errors, and why they may not be all."""
        fleets: dict[str, Fleet] = {}
        errors: dict[str, str | None] = {}
        if time_left() <= 0:
            # Listing the stacks may have taken all the time there was.
            return fleets, errors, DEADLINE
        problem = ""
        try:
            for page in answers(self._paginator("describe_fleets").paginate(), time_left):
                fleets |= _fleets(page.get("Fleets"))
                errors |= _errors(page.get("Fleets"))
                if not _names(page.get("Fleets"))[1]:
                    problem = MALFORMED
        except CutShortError as error:
            problem = error.reason
        return fleets, errors, problem

    def _known_facts(self, snapshot: Snapshot) -> Facts:
        """Return what the table or this container knows of fleets and tags; the newer goes before."""
        table = Facts({**_known_of_sessions(snapshot), **snapshot.facts.fleets}, snapshot.facts.stack_tags)
        if self._fleets is None:
            return table
        kept = self._fleets.what.facts
        known_at = snapshot.target.fleets_read if snapshot.target else None
        is_older = known_at is not None and self._fleets.at < known_at
        return _newest(kept, table) if is_older else _newest(table, kept)

    def _fleets_of(self, stack: str, time_left: Callable[[], float]) -> Paged[_Associated]:
        """Return the names of a stack's fleets, or those that were read and why they are not all."""
        fleets: set[str] = set()
        if time_left() <= 0:
            return _Associated(frozenset(), DEADLINE)
        pages = self._paginator("list_associated_fleets").paginate(StackName=stack)
        problem = ""
        try:
            for page in answers(pages, time_left):
                names = page.get("Names")
                usable = {name for name in names if is_name(name)} if isinstance(names, list) else set()
                if not isinstance(names, list) or not all(is_name(name) for name in names):
                    problem = MALFORMED
                fleets |= usable
                yield
        except CutShortError as error:
            problem = error.reason
        return _Associated(frozenset(fleets), problem)


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


def _names(records: Any) -> tuple[set[str], bool]:
    """Return the names of the records that can be read, and whether all can."""
    if not isinstance(records, list):
        return set(), False
    names = {record["Name"] for record in records if isinstance(record, dict) and is_name(record.get("Name"))}
    return names, all(isinstance(record, dict) and is_name(record.get("Name")) for record in records)


def _known_of_sessions(snapshot: Snapshot) -> dict[str, Fleet]:
    """Return what is known of fleets by their sessions: earlier releases kept the timeout there alone."""
    return {
        each.session.scope.fleet: Fleet(each.disconnect_timeout)
        for each in (stored.remembered for stored in snapshot.sessions.values())
    }


def _tagged(read: Facts, tags: Tags, known: Facts, stacks: Iterable[str]) -> Facts:
    """Return fleets and stacks with their tags: those that are there and are not named have none now."""
    named = {name: replace(known.fleet(name), tags=tags.fleets[name]) for name in tags.fleets}
    fleets = {name: replace(fleet, tags=tags.fleets.get(name, {})) for name, fleet in read.fleets.items()}
    return Facts({**named, **fleets}, {**{stack: {} for stack in stacks}, **tags.stacks})


def _newest(older: Facts, newer: Facts) -> Facts:
    return Facts({**older.fleets, **newer.fleets}, {**older.stack_tags, **newer.stack_tags})


def _fleets(records: Any) -> dict[str, Fleet]:
    """Return the fleets by name; of what cannot be read the rest is kept."""
    return {
        record["Name"]: Fleet(
            disconnect_timeout=_number(record.get("DisconnectTimeoutInSeconds")),
            type=_text(record.get("FleetType")),
            instance_type=_text(record.get("InstanceType")),
            platform=_text(record.get("Platform")),
            max_sessions=_number(record.get("MaxSessionsPerInstance")) or 0,
        )
        for record in (records if isinstance(records, list) else ())
        if isinstance(record, dict) and is_name(record.get("Name"))
    }


def _errors(records: Any) -> dict[str, str | None]:
    """Return the codes of the fleets' errors, with commas between; None for a fleet whose cannot be read."""
    return {
        record["Name"]: _codes(record.get("FleetErrors") or [])
        for record in (records if isinstance(records, list) else ())
        if isinstance(record, dict) and is_name(record.get("Name"))
    }


def _codes(errors: Any) -> str | None:
    try:
        codes = sorted({error["ErrorCode"] for error in errors})
    except MALFORMED_ERRORS:
        return None
    return ",".join(codes[:CODES_LIMIT]) if all(map(_is_code, codes)) else None


def _is_code(code: Any) -> bool:
    """Return whether AppStream may have given an error this code: AWS's are capitals and underscores."""
    return isinstance(code, str) and _CODE.fullmatch(code) is not None


def _number(number: Any) -> int | None:
    return min(number, TIMEOUT_LIMIT) if type(number) is int and number > 0 else None


def _text(value: Any) -> str:
    return value if is_name(value) else ""


def is_name(name: Any) -> bool:
    """Return whether AppStream may have given this name or id: text of a length that an item can hold."""
    return isinstance(name, str) and 0 < len(_utf8(name)) <= NAME_BYTES


def _utf8(text: str) -> bytes:
    """Return the bytes of a text; none if it holds what UTF-8 can't write."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return b""
