"""Asks an account's AppStream what the documentation leaves open, with calls that only read.

Names and ids go no further than `counting`; what it returns are counts. One call is made after the
other, none is repeated, and the first throttle ends the probe: the auditor needs the same quota.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from appstream_auditor.errors import QuestionError
from appstream_auditor.probe.calls import Asker, CallError, ScopeError, StopError
from appstream_auditor.probe.counting import (
    FleetFacts,
    Listed,
    Seen,
    clocks,
    compare,
    ends,
    facts,
    fields,
    fleets,
    promising,
    total,
    values,
)
from appstream_auditor.probe.observations import (
    Asked,
    Compared,
    Looked,
    Observations,
    Operation,
    Pages,
    Replies,
    Stop,
)
from session_auditor.aws_errors import MALFORMED_ERRORS
from session_auditor.listing import PAGE_SIZE
from session_auditor.model import AuthenticationType, Globs, Scope
from session_auditor.topology import is_name

if TYPE_CHECKING:
    from mypy_boto3_appstream import AppStreamClient

CALLS_LIMIT = 300
SCOPES_LIMIT = 10
# Of a large account the first stacks and pages have to do: each stack costs a call, each page another.
STACKS_LIMIT = 25
TOPOLOGY_PAGES = 10
LISTING_PAGES = 20
# Nobody's: a real user's id has no business in a question about AWS.
NOBODY = "appstream-auditor-probe"


def observe(
    client: "AppStreamClient",
    stacks: Globs,
    scopes: int,
    calls: int,
    clock: Callable[[], float],
) -> Observations:
    """Look at `scopes` pairs of stack and fleet with at most so many calls, and return counts.

    `clock` counts seconds. Raises QuestionError if AppStream answers nothing at all.
    """
    asker = Asker(client, calls, clock)
    look = _Look(asker)
    stop, problem = Stop.DONE, None
    try:
        look.at(stacks, scopes)
    except StopError as error:
        stop, problem = error.stop, error.problem
    if problem and asker.made == 1:
        raise problem
    return look.observations(stop)


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
        self._listed: dict[Asked, set[str]] = defaultdict(set)
        self._compared: list[Compared] = []
        self._mislabelled: set[str] = set()
        self._names_differ: set[str] = set()
        self._vanished: set[str] = set()
        self._user_id_reply: str | None = None
        self._pages = Pages(PAGE_SIZE)
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
        operation = Operation.DESCRIBE_STACKS
        try:
            for records, _ in self._asker.pages(operation, TOPOLOGY_PAGES, "Stacks"):
                self._stacks += [name for name in _names(records) if wanted.match(name)]
        except ScopeError as error:
            if not self._stacks:
                action = f"appstream:{operation.value}"
                raise QuestionError(
                    f"your AWS credentials may not {action}; docs/probe.md names the four actions that "
                    "probe needs",
                    needs=action,
                ) from None
            self._problems[operation, error.code] += 1
        except CallError as error:
            self._problems[operation, error.code] += 1

    def _read_fleets(self) -> None:
        operation = Operation.DESCRIBE_FLEETS
        try:
            for records, _ in self._asker.pages(operation, TOPOLOGY_PAGES, "Fleets"):
                self._facts |= {
                    record["Name"]: facts(record)
                    for record in records
                    if isinstance(record, dict) and is_name(record.get("Name"))
                }
        except CallError as error:
            self._problems[operation, error.code] += 1

    def _read_scopes(self, stack: str) -> None:
        operation = Operation.LIST_ASSOCIATED_FLEETS
        self._stacks_asked += 1
        try:
            for names, _ in self._asker.pages(operation, TOPOLOGY_PAGES, "Names", StackName=stack):
                self._scopes += [Scope(stack, name) for name in names if is_name(name)]
        except CallError as error:
            self._problems[operation, error.code] += 1

    def _ask_scope(self, scope: Scope) -> None:
        """List a scope without a type, with each, and without one again: who is in both was there throughout.

        What the calls without a type leave out is asked for once more, so that it was there throughout, too.
        """
        before = self._list(scope, None)
        typed: dict[AuthenticationType, Listed] = {}
        again: dict[AuthenticationType, Listed] = {}
        after = Listed()
        # Of a scope of which even this much is not all, no more is asked than which types are taken.
        pages = 1 if before.pages == LISTING_PAGES and not before.whole else LISTING_PAGES
        try:
            self._ask_for_nobody(scope)
            for kind in AuthenticationType:
                typed[kind] = self._list(scope, kind, pages)
            if before.whole and (before.ids or any(each.ids for each in typed.values())):
                after = self._list(scope, None)
                # Between two pages a session can be missed that is still there.
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
                self._count_page(records, answer, sum(each["Id"] in ids for each in listed))
                date = _date(answer)
                for record in listed:
                    self._see(record, scope, kind, date)
                    ids.add(record["Id"])
        except ScopeError:
            raise
        except CallError as error:
            if error.final and number == 0:
                self._refused[kind][error.code] += 1
                return Listed(refused=True)
            self._problems[operation, error.code] += 1
            return Listed(frozenset(ids), pages=number)
        finally:
            self._listed[kind] |= ids
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

    def _see(self, record: Mapping[str, Any], scope: Scope, kind: Asked, date: datetime | None) -> None:
        session_id = record["Id"]
        known = self._sessions.get(session_id)
        seen = Seen(
            record, self._facts.get(scope.fleet, FleetFacts()), date, known.scopes if known else set()
        )
        seen.scopes.add(scope)
        self._sessions[session_id] = seen
        if kind and record.get("AuthenticationType") != kind:
            self._mislabelled.add(session_id)
        if (record.get("StackName"), record.get("FleetName")) != scope:
            self._names_differ.add(session_id)

    def _count_page(self, records: Sequence[Any], answer: Mapping[str, Any], repeated: int) -> None:
        pages, size, more = self._pages, len(records), bool(answer.get("NextToken"))
        self._pages = replace(
            pages,
            all=pages.all + 1,
            more=pages.more + more,
            largest=max(pages.largest, size),
            full=pages.full + (size == PAGE_SIZE),
            beyond_limit=pages.beyond_limit + (size > PAGE_SIZE),
            short_with_more=pages.short_with_more + (more and 0 < size < PAGE_SIZE),
            empty_with_more=pages.empty_with_more + (more and not size),
            repeated=pages.repeated + repeated,
        )

    def observations(self, stop: Stop) -> Observations:
        """Return what was seen, in counts."""
        records = [each.record for each in self._sessions.values()]
        shape = self._asker.session_shape
        return Observations(
            stop=stop,
            calls=self._asker.calls(),
            looked=Looked(
                stacks=len(self._stacks),
                stacks_asked=self._stacks_asked,
                scopes=len(self._scopes),
                scopes_asked=len(self._asked),
                scopes_with_sessions=len(
                    {scope for each in self._sessions.values() for scope in each.scopes}
                ),
                sessions=len(records),
            ),
            problems=dict(self._problems),
            replies={
                kind: Replies(self._answered[kind], len(self._listed[kind]), dict(self._refused[kind]))
                for kind in (None, *AuthenticationType)
            },
            compared=total(self._compared),
            mislabelled=len(self._mislabelled),
            user_id_reply=self._user_id_reply,
            values=values(records, shape),
            fields=fields(records, shape),
            unknown_fields=self._asker.unknown_fields,
            pages=self._pages,
            ends=ends(self._sessions, self._vanished),
            fleets=fleets(
                self._sessions.values(), self._scopes, self._asked, self._facts, len(self._names_differ)
            ),
            clocks=clocks(self._sessions.values()),
        )


def _names(records: Sequence[Any]) -> list[str]:
    return [record["Name"] for record in records if isinstance(record, dict) and is_name(record.get("Name"))]


def _date(answer: Mapping[str, Any]) -> datetime | None:
    """Return when AWS says that it answered."""
    try:
        date = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        return date if date.tzinfo else date.replace(tzinfo=UTC)
    except MALFORMED_ERRORS:
        return None
