"""What a probe asks, and in which order. Names and ids stay here and in `counting`; it returns counts."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from appstream_auditor.errors import QuestionError
from appstream_auditor.probe.calls import Asker, CallError, ScopeError, StopError
from appstream_auditor.probe.counting import (
    FleetFacts,
    Listed,
    Seen,
    compare,
    durations,
    facts,
    fields,
    fleets,
    promising,
    total,
    unseen_ends,
    values,
)
from appstream_auditor.probe.observations import (
    Asked,
    Compared,
    Observations,
    Operation,
    Pages,
    Replies,
    Stop,
)
from session_auditor.listing import PAGE_SIZE
from session_auditor.model import AuthenticationType, Globs, Scope
from session_auditor.topology import is_name

if TYPE_CHECKING:
    from mypy_boto3_appstream import AppStreamClient

CALLS_LIMIT = 300
SCOPES_LIMIT = 10
# Each stack and each page costs a call, so a large account is not read to its end.
STACKS_LIMIT = 25
TOPOLOGY_PAGES = 10
LISTING_PAGES = 20
# A made-up user: no real user's id is needed to ask this.
NOBODY = "appstream-auditor-probe"


def observe(
    client: "AppStreamClient",
    stacks: Globs,
    scopes: int,
    calls: int,
    clock: Callable[[], float],
) -> Observations:
    """Look at `scopes` pairs of stack and fleet with at most so many calls, and return counts.

    `clock` counts seconds. Raises QuestionError if even the first call is not answered.
    """
    asker, begin = Asker(client, calls), clock()
    look = _Look(asker)
    stop, problem = Stop.DONE, None
    try:
        look.at(stacks, scopes)
    except StopError as error:
        stop, problem = error.stop, error.problem
    if problem and asker.made == 1:
        raise problem
    return look.observations(stop, clock() - begin)


class _Look:
    """What one probe has seen so far. Names and ids stay in here."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self._stacks: list[str] = []
        self._stacks_asked = 0
        self._facts: dict[str, FleetFacts] = {}
        self._scopes: list[Scope] = []
        self._asked: list[Scope] = []
        self._problems: Counter[tuple[Operation, str]] = Counter()
        self._answered: Counter[Asked] = Counter()
        self._refused: dict[Asked, Counter[str]] = defaultdict(Counter)
        self._compared: list[Compared] = []
        self._vanished: set[str] = set()
        self._user_id_reply: str | None = None
        self._pages = Pages()
        self._sessions: dict[str, Seen] = {}

    def at(self, stacks: Globs, scopes: int) -> None:
        """Read which scopes there are, and ask some of them; raise StopError where it has to end."""
        self._read_stacks(stacks)
        self._read_fleets()
        for stack in self._stacks[:STACKS_LIMIT]:
            self._read_scopes(stack)
        for scope in promising(self._scopes, self._facts)[:scopes]:
            self._asked.append(scope)
            try:
                self._ask_scope(scope)
            except ScopeError as error:
                self._problems[Operation.DESCRIBE_SESSIONS, error.code] += 1

    def _read_stacks(self, wanted: Globs) -> None:
        for records in self._read(Operation.DESCRIBE_STACKS, "Stacks"):
            self._stacks += [record["Name"] for record in _named(records) if wanted.match(record["Name"])]

    def _read_fleets(self) -> None:
        for records in self._read(Operation.DESCRIBE_FLEETS, "Fleets"):
            self._facts |= {record["Name"]: facts(record) for record in _named(records)}

    def _read_scopes(self, stack: str) -> None:
        self._stacks_asked += 1
        for names in self._read(Operation.LIST_ASSOCIATED_FLEETS, "Names", StackName=stack):
            self._scopes += [Scope(stack, name) for name in names if is_name(name)]

    def _read(self, operation: Operation, key: str, **parameters: str) -> Iterator[list[Any]]:
        """Return pages until one fails; raise QuestionError if not even the stacks may be read."""
        try:
            for items, _ in self._asker.pages(operation, TOPOLOGY_PAGES, key, **parameters):
                yield items
        except CallError as error:
            denied = isinstance(error, ScopeError) and operation is Operation.DESCRIBE_STACKS
            if denied and not self._stacks:
                action = f"appstream:{operation.value}"
                raise QuestionError(
                    f"your AWS credentials may not {action}; allow the four actions that docs/probe.md names",
                    needs=action,
                ) from None
            self._problems[operation, error.code] += 1

    def _ask_scope(self, scope: Scope) -> None:
        """List a scope without a type, with each type, and without one again.

        A session in the first and the last listing was there all the time. If they leave out sessions of a
        type, that type is listed once more, to know whether those were there all the time, too.
        """
        before = self._list(scope, None)
        typed: dict[AuthenticationType, Listed] = {}
        again: dict[AuthenticationType, Listed] = {}
        after = Listed()
        # Of a scope with more sessions than that, the first page of each type has to do.
        pages = 1 if before.pages == LISTING_PAGES and not before.whole else LISTING_PAGES
        try:
            self._ask_for_nobody(scope)
            for kind in AuthenticationType:
                typed[kind] = self._list(scope, kind, pages)
            if before.whole and (before.ids or any(each.ids for each in typed.values())):
                after = self._list(scope, None)
                # Between two pages a session can be missed though it is still there.
                if before.pages == after.pages == 1 and after.whole:
                    self._vanished |= before.ids - after.ids
                for kind, each in typed.items():
                    if each.ids - before.ids - after.ids:
                        again[kind] = self._list(scope, kind)
        finally:
            self._compared.append(compare(before, typed, after, again))

    def _list(self, scope: Scope, kind: Asked, pages: int = LISTING_PAGES) -> Listed:
        """List a scope by one way of asking; raise ScopeError if it is out of view."""
        operation = Operation.DESCRIBE_SESSIONS
        parameters: dict[str, Any] = {"StackName": scope.stack, "FleetName": scope.fleet, "Limit": PAGE_SIZE}
        if kind:
            parameters["AuthenticationType"] = kind.value
        ids: set[str] = set()
        number = 0
        try:
            for number, (records, answer) in enumerate(
                self._asker.pages(operation, pages, "Sessions", **parameters), 1
            ):
                if number == 1:
                    self._answered[kind] += 1
                listed = [each for each in records if isinstance(each, dict) and is_name(each.get("Id"))]
                self._count_page(len(records), more=bool(answer.get("NextToken")))
                for record in listed:
                    self._see(record, scope)
                    ids.add(record["Id"])
        except ScopeError:
            raise
        except CallError as error:
            if error.final and number == 0:
                self._refused[kind][error.code] += 1
                return Listed(refused=True)
            self._problems[operation, error.code] += 1
            return Listed(frozenset(ids), pages=number)
        return Listed(frozenset(ids), whole=True, pages=number)

    def _ask_for_nobody(self, scope: Scope) -> None:
        """Ask once for the sessions of a made-up user, without a type."""
        if self._user_id_reply is not None:
            return
        operation = Operation.DESCRIBE_SESSIONS
        try:
            self._asker.ask(operation, StackName=scope.stack, FleetName=scope.fleet, UserId=NOBODY)
        except ScopeError:
            raise
        except CallError as error:
            if error.final:
                self._user_id_reply = error.code
            else:
                self._problems[operation, error.code] += 1
            return
        self._user_id_reply = ""

    def _see(self, record: Mapping[str, Any], scope: Scope) -> None:
        known = self._sessions.get(record["Id"])
        scopes = known.scopes if known else set()
        facts = self._facts.get(scope.fleet, FleetFacts())
        self._sessions[record["Id"]] = Seen(record, facts, scopes | {scope})

    def _count_page(self, size: int, *, more: bool) -> None:
        pages = self._pages
        self._pages = Pages(
            largest=max(pages.largest, size),
            more=pages.more + more,
            short=pages.short + (more and size < PAGE_SIZE),
        )

    def observations(self, stop: Stop, seconds: float) -> Observations:
        """Return what was seen, in counts."""
        sessions = self._sessions.values()
        records = [each.record for each in sessions]
        shape = self._asker.session_shape
        known, equal = durations(sessions)
        return Observations(
            stop=stop,
            calls=self._asker.made,
            calls_limit=self._asker.limit,
            seconds=seconds,
            stacks=len(self._stacks),
            stacks_asked=self._stacks_asked,
            scopes=len(self._scopes),
            scopes_asked=len(self._asked),
            scopes_with_sessions=len({scope for each in sessions for scope in each.scopes}),
            sessions=len(records),
            problems=dict(self._problems),
            replies={
                kind: Replies(self._answered[kind], dict(self._refused[kind]))
                for kind in (None, *AuthenticationType)
            },
            compared=total(self._compared),
            user_id_reply=self._user_id_reply,
            values=values(records, shape),
            fields=fields(records, shape),
            unknown_fields=self._asker.unknown_fields,
            pages=self._pages,
            vanished=unseen_ends(self._sessions, self._vanished),
            fleets=fleets(sessions, self._asked, self._facts),
            durations=known,
            durations_equal=equal,
        )


def _named(records: Sequence[Any]) -> list[Mapping[str, Any]]:
    return [each for each in records if isinstance(each, dict) and is_name(each.get("Name"))]
