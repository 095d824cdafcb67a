"""A trial: the real handler, in containers as Lambda makes them, against the simulated AWS.

It knows how to start a container and make a sweep in it under faults, how to go back to an earlier
moment, and how to read off the calls of every sweep what it saw and what of that was committed: the
history that the oracle is told. Of the auditor it uses the handler, the keys of the table and, to hold it to
what was told, what people are shown of a life.
"""

import gc
import io
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Self
from unittest.mock import patch

import boto3
import botocore.session
import greenlet

import session_auditor.paging
import session_auditor.publisher
from session_auditor.contract import timestamp
from session_auditor.model import TargetId
from session_auditor.table import Table
from session_auditor.timeline import entries_of, life_of
from tests.simulation import invariants
from tests.simulation.appstream import ACCOUNT_ID, REGION
from tests.simulation.aws import LAMBDA_SECONDS, Call, Cloud, Died, Fault, Run
from tests.simulation.eventbridge import Entry
from tests.simulation.oracle import (
    ENDED,
    NO_POLICIES,
    TARGET,
    UNWATCHED,
    Oracle,
    Reading,
    Record,
    Resource,
    Rules,
    Scope,
    Sweep,
    text,
)
from tests.simulation.policies import Document

ROOT = Path(__file__).parents[2]
HANDLER = ROOT / "functions/auditor/auditor.py"
TARGETS = "TARGET#"
PARTITION = f"{TARGETS}{ACCOUNT_ID}#{REGION}"
OWN = TargetId("aws", ACCOUNT_ID, REGION)
TARGET_ITEM, SCOPES, FLEETS, POLICIES_ITEM, SESSION = "TARGET", "SCOPES", "FLEETS", "POLICIES", "SESSION#"
ENVIRONMENT = {
    "TABLE_NAME": "table",
    "EVENT_BUS_NAME": "bus",
    "TARGET_ACCOUNT_ID": ACCOUNT_ID,
    "TARGET_REGION": REGION,
    "WORKERS": "2",
    "TOPOLOGY_MINUTES": "0",
    "AUTHENTICATION_TYPES": "API",
    "TAG_KEYS": "",
    "POLICIES_PARAMETER": "",
    "POWERTOOLS_SERVICE_NAME": "auditor",
    "POWERTOOLS_METRICS_NAMESPACE": "simulation",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": REGION,
}
TYPES = frozenset({"API", "SAML", "USERPOOL", "AWS_AD"})
# What DescribeSessions answers to a type that there is not.
REFUSED_TYPE = "InvalidParameterCombinationException"
# Errors that may pass by themselves.
PASSING = {"ThrottlingException", "InternalFailure", "InternalServerError", "DEADLINE"}
WRITES = {"PutItem", "DeleteItem", "TransactWriteItems"}
# Where the policies stand in trials that have some.
POLICIES = "/policies"

NUMBERS = {2: "two", 3: "three"}
# Stands among the numbers of sweeps for the world.
WORLD = -1
# Stands among the calls where an account that does not let the hub in would be listed.
NO_ACCESS = "ListNothing"

# What this process has tried; conftest prints the sums.
TALLY: Counter[str] = Counter()
# Mutants that were killed, each with the promise that killed it.
KILLED: dict[str, str] = {}


class InTurn:
    """Stands for ThreadPoolExecutor: what is submitted is done at once, so that a seed replays."""

    def __init__(self, *_: Any, **__: Any) -> None:
        """Take the arguments of the real one."""

    def submit(self, work: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        """Do the work."""
        future: Future[Any] = Future()
        try:
            future.set_result(work(*arguments))
        except BaseException as error:  # noqa: BLE001 - as the real one does
            future.set_exception(error)
        return future

    def map(self, work: Callable[..., Any], arguments: Iterable[Any]) -> Iterator[Any]:
        """Do the work, one after the other."""
        return map(work, arguments)

    def shutdown(self, **_: Any) -> None:
        """Have nothing to wait for."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()


@contextmanager
def one_thread() -> Iterator[None]:
    """Let whoever is called work in turn, and print to our own stream."""
    with (
        redirect_stdout(_PRINTED),
        patch.object(session_auditor.paging, "ThreadPoolExecutor", InTurn),
        patch.object(session_auditor.publisher, "ThreadPoolExecutor", InTurn),
    ):
        yield


_REAL_SESSION = boto3.Session
# Takes a quarter of the time of a world at random, and is the same for every container.
core = cache(botocore.session.get_session)


@cache
def _code() -> CodeType:
    return compile(HANDLER.read_text(), str(HANDLER), "exec")


@cache
def client_of(service: str) -> Any:
    make: Callable[..., Any] = _REAL_SESSION(region_name=REGION).client
    client = make(service, aws_access_key_id="test", aws_secret_access_key="test")
    client.get_paginator = cache(client.get_paginator)
    return client


class _Session:
    """Stands for boto3.Session: making a client takes longer than many sweeps, so they are kept."""

    def __init__(self, **_: Any) -> None:
        pass

    def client(self, service: str, **_: Any) -> Any:
        return client_of(service)

    def get_partition_for_region(self, _: str) -> str:
        return "aws"


# Loggers keep the stream that they were made with, so there is one for the whole process.
_PRINTED = io.StringIO()


@dataclass
class Told:
    """What a container was told when it last could ask: the stacks, their fleets, the fleets' timeouts.

    `reading` is the last of the fleets themselves, with the tags if they were read beside them.
    """

    stacks: frozenset[str] = frozenset()
    fleets: Mapping[str, frozenset[str]] = field(default_factory=dict)
    timeouts: Mapping[str, int] = field(default_factory=dict)
    reading: Reading = field(default_factory=Reading)

    def learn(self, run: Run) -> None:
        """Add what a sweep was told."""
        whole = [call for call in run.calls if call.operation == "DescribeFleets" and call.answer]
        if whole and "NextToken" not in (whole[-1].answer or {}):
            told = Digest(0)
            _timeouts(told, whole)
            self.timeouts = told.timeouts
        self.stacks, self.fleets = _stacks_and_fleets(run)
        reading = _reading(run)
        if reading.fleets is not None:
            self.reading = reading


class Container:
    """One warm execution environment of the function."""

    session: Callable[..., Any] = _Session

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self.app = ModuleType("auditor")
        self.app.__file__ = str(HANDLER)
        with (
            patch.dict(os.environ, environment),
            patch.object(boto3, "Session", self.session),
            patch.object(botocore.session, "get_session", core),
            redirect_stdout(_PRINTED),
        ):
            sys.modules["auditor"] = self.app
            exec(_code(), self.app.__dict__)  # noqa: S102 - the handler, as a new container imports it
        # The handler freezes what a container keeps for good; here, containers come and go.
        gc.unfreeze()
        self.told = Told()
        self.fresh = self.memory()

    def memory(self) -> list[dict[str, Any]]:
        """Return what the container remembers from one sweep to the next."""
        return [dict(vars(adapter)) for adapter in self._adapters()]

    def remember(self, memory: Iterable[Mapping[str, Any]]) -> None:
        """Go back to what it remembered."""
        for adapter, remembered in zip(self._adapters(), memory, strict=True):
            vars(adapter).update(remembered)

    def _adapters(self) -> tuple[Any, ...]:
        auditor = self.app.auditor
        return auditor.lister.topology, auditor.policies, auditor.snapshots, auditor.publisher, self.told

    def invoke(self, run: Run) -> None:
        """Let Lambda call the handler; what it printed is kept on the run, too."""
        _PRINTED.seek(0)
        _PRINTED.truncate()
        with one_thread():
            self.handle(run)
        run.printed = _PRINTED.getvalue()

    def event(self, _: Run) -> Mapping[str, Any]:
        """Return what the function is invoked with: the schedule says nothing."""
        return {}

    def handle(self, run: Run) -> None:
        """Call the handler; what it returned or raised is kept on the run."""
        run.told = replace(self.told)
        try:
            run.result = self.app.handler(self.event(run), run)
        except (Exception, Died) as error:  # noqa: BLE001 - Lambda reports whatever the handler raises
            run.error = error
        self.told.learn(run)


@dataclass
class Trial:
    """An estate under audit, and all that has been done to it."""

    cloud: Cloud
    environment: Mapping[str, str] = field(default_factory=lambda: ENVIRONMENT)
    rules: Rules = field(default_factory=Rules)
    runs: list[Run] = field(default_factory=list)
    users: set[str] = field(default_factory=set)
    target: TargetId = OWN
    container: Container | None = None
    spare: list[Container] = field(default_factory=list)
    # What the last history was made of: what it knew of each run, and the sweep that was told, if any.
    _told: list[tuple[Hashable, Sweep | None]] = field(default_factory=list)

    @property
    def partition(self) -> str:
        """The partition of the target's snapshot."""
        return f"{TARGETS}{self.target.account_id}#{self.target.region}"

    def sweep(self, *faults: Fault, skew: float = 0.0) -> Run:
        """Make one sweep in the warm container; one that died takes its container with it."""
        run = self._invocation(*faults, skew=skew)
        published = len(self.cloud.eventbridge.accepted)
        container = self.container or self._fresh()
        self.container = None
        with self.cloud.floor(run):
            container.invoke(run)
        if run.dead:
            self.spare.append(container)
        else:
            self.container = container
        self.runs.append(run)
        TALLY["sweeps"] += 1
        invariants.nobody_alive_has_ended(self.cloud.eventbridge.accepted[published:], self.alive())
        return run

    def preview(self, document: Document) -> Any:
        """Return what the function answers to whom asks what policies would tell of."""
        run = self._invocation()
        container = self.container or self._fresh()
        with self.cloud.floor(run), one_thread():
            return container.app.handler({"preview": document}, run)

    def together(
        self,
        choose: Callable[[Mapping[int, str]], int],
        change: Callable[[], None] | None = None,
        sweeps: int = 2,
    ) -> None:
        """Make several sweeps at once, one in the warm container; perhaps the world changes in between.

        Before each call that another sweep could feel, `choose` is told which sweeps could go on, by number,
        with the operation that each is about to call, and says which does; WORLD among them is the change.
        Calls that look at the world are made without asking, unless it changes.
        """
        runs = [self._invocation() for _ in range(sweeps)]
        containers = [self.container or self._fresh(), *(self._fresh() for _ in runs[1:])]
        hub = greenlet.getcurrent()
        change_is_due = change is not None

        def wait_for_turn(_run: Run, operation: str, _params: Mapping[str, Any]) -> None:
            if change is not None or not is_looking(operation):
                hub.switch(operation)

        with one_thread():
            self.cloud.hook = wait_for_turn
            try:
                going = {
                    number: (run, greenlet.greenlet(partial(container.handle, run)))
                    for number, (run, container) in enumerate(zip(runs, containers, strict=True))
                }
                due = {number: self._go_on(*sweep) for number, sweep in going.items()}
                while due := {number: due[number] for number in due if not going[number][1].dead}:
                    choice = choose(due | ({WORLD: ""} if change_is_due else {}))
                    if choice != WORLD:
                        due[choice] = self._go_on(*going[choice])
                    elif change is not None:
                        change()
                        change_is_due = False
            finally:
                self.cloud.hook = None
        printed = _PRINTED.getvalue()
        _PRINTED.seek(0)
        _PRINTED.truncate()
        for run in runs:
            run.printed = printed
        stays_warm = not runs[0].dead and containers[0].environment == self.environment
        self.container = containers[0] if stays_warm else None
        self.spare += containers[1 if stays_warm else 0 :]
        self.runs += runs
        TALLY["sweeps"] += sweeps
        TALLY[f"orders of {NUMBERS[sweeps]} sweeps"] += 1

    def stall(self, at: int, seconds: float) -> Callable[[], None]:
        """Begin a sweep that has `seconds`, stop it before its call number `at`; return what lets it go on.

        If its time is up by then, it is not there any more.
        """
        run, container, hub = self._invocation(seconds=seconds), self._fresh(), greenlet.getcurrent()

        def stop(caller: Run, _operation: str, _params: Mapping[str, Any]) -> None:
            if caller is run and len(run.calls) == at:
                hub.switch()

        def go_on() -> None:
            if self.cloud.clock.now >= run.deadline and not sweep.dead:
                run.dead = True
            with one_thread():
                self._go_on(run, sweep)
            if sweep.dead:
                self.spare.append(container)

        sweep = greenlet.greenlet(partial(container.handle, run))
        self.runs.append(run)
        self.cloud.hook = stop
        go_on()
        self.cloud.hook = None
        return (lambda: None) if sweep.dead else go_on

    def _invocation(self, *faults: Fault, skew: float = 0.0, seconds: float = LAMBDA_SECONDS) -> Run:
        run = self.cloud.invocation(*faults, skew=skew, seconds=seconds)
        run.environment = self.environment
        return run

    def deploy(self, **changed: str) -> None:
        """Change variables of the environment, which takes other containers."""
        if self.container:
            self.spare.append(self.container)
        self.environment = {**self.environment, **changed}
        self.container = None

    def _fresh(self) -> Container:
        """Return a container that remembers nothing; importing the handler takes longer than a sweep."""
        container = next((each for each in self.spare if each.environment == self.environment), None)
        if container:
            self.spare = [each for each in self.spare if each is not container]
        else:
            container = Container(self.environment)
        container.remember(container.fresh)
        return container

    def _go_on(self, run: Run, sweep: greenlet.greenlet) -> str:
        """Let a sweep make the call that is due, and run up to the next one; return that one's operation."""
        with self.cloud.floor(run):
            return str(sweep.switch())

    def wait(self, seconds: float) -> Self:
        """Let time pass."""
        self.cloud.clock.advance(seconds)
        return self

    def wait_for_the_minute(self) -> Self:
        """Let time pass until the schedule fires again."""
        return self.wait(60 - self.cloud.clock.now % 60)

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        """Undo, at the end, all that happens within."""
        cloud, table, world = self.cloud, self.cloud.dynamodb.tables["table"], self.cloud.world
        tables = (
            {key: dict(rows) for key, rows in table.partitions.items()},
            dict(table.sizes),
            {key: list(order) for key, order in table.order.items()},
        )
        things = (
            dict(world.stacks),
            dict(world.fleets),
            {stack: list(fleets) for stack, fleets in world.associations.items()},
            dict(world.sessions),
            {scope: dict(records) for scope, records in world.scopes.items()},
            dict(world.tags),
            dict(world.parameters),
        )
        fails, environment = cloud.appstream.fails, self.environment
        now, accepted, runs = cloud.clock.now, len(cloud.eventbridge.accepted), len(self.runs)
        container = self.container
        memory = container.memory() if container else []
        try:
            yield
        finally:
            if self.container not in (None, container):
                self.spare.append(self.container)
            self.container = container
            if container:
                container.remember(memory)
                self.spare = [each for each in self.spare if each is not container]
            table.partitions, table.sizes, table.order = tables
            world.stacks, world.fleets, world.associations, world.sessions, world.scopes = things[:5]
            world.tags, world.parameters = things[5:]
            cloud.appstream.fails, self.environment = fails, environment
            cloud.clock.now = now
            cloud.clock.show()
            del cloud.eventbridge.accepted[accepted:]
            del self.runs[runs:]

    def state(self, since: int) -> Hashable:
        """Return all that decides what happens next and what is still to be checked, from run `since` on.

        A trial that ends in a state that was settled before would only repeat what was checked then.
        """
        table = self.cloud.dynamodb.tables["table"]
        # A sweep that wrote nothing changed no state, whatever it read.
        digests = [
            each
            for run in self.runs[since:]
            if (each := digest(run)).commit is not None or each.writes or each.policies_taken
        ]
        orders = sorted(
            order
            for each in digests
            for order in (each.load, each.commit, each.policies_taken, *each.writes.values())
            if order is not None
        )
        rank = {order: place for place, order in enumerate(orders)}
        return (
            self.cloud.clock.now // 60,
            tuple(sorted(self.environment.items())),
            repr([table.partitions[key][sort] for key in sorted(table.order) for sort in table.order[key]]),
            repr((self.cloud.world.sessions, self.cloud.world.associations, self.cloud.world.fleets)),
            repr((self.cloud.world.tags, self.cloud.world.parameters)),
            self.container and repr(self.container.memory()),
            tuple(entry["Detail"] for entry in self.cloud.eventbridge.accepted),
            tuple(
                (
                    *(each.begin, each.observed, each.late, rank[each.load], rank.get(each.commit or -1)),
                    *(repr(each.listings), repr(each.records), repr(sorted(each.failed_writes))),
                    *(
                        repr((each.stacks_problem, each.unread, each.fleets)),
                        repr({key: rank[at] for key, at in each.writes.items()}),
                        repr((each.reading, each.told.reading, each.good_text, rank[each.policies_taken])),
                    ),
                )
                for each in digests
            ),
        )

    def left_half_done(self) -> bool:
        """Return whether the last sweep left something to recover: events to publish, or half a commit."""
        last = digest(self.runs[-1])
        items = self.cloud.dynamodb.tables["table"].partitions.get(PARTITION, {})
        return bool(last.writes and last.commit is None) or any(map(invariants.ids_in, items.values()))

    def alive(self) -> dict[str, str]:
        """Return the sessions that live in the world, and since when."""
        return {
            identity: text(int(record["StartTime"].timestamp())) if "StartTime" in record else ""
            for identity, record in self.cloud.world.sessions.items()
            if record["State"] != "EXPIRED"
        }

    def in_view(self) -> set[str]:
        """Return the sessions that live in the world and that the settings include."""
        types = self.environment["AUTHENTICATION_TYPES"]
        return {
            identity
            for identity in self.alive()
            if (record := self.cloud.world.sessions[identity])["StackName"] not in excluded(self.environment)
            and (types == "auto" or record.get("AuthenticationType", "API") in types.split(","))
        }

    def check(self, *, settled: bool = True) -> None:
        """Hold every promise against what has happened; `settled` after clean sweeps of a still world."""
        published: Sequence[Entry] = self.cloud.eventbridge.accepted
        table = self.cloud.dynamodb.tables["table"]
        if not any(run.skew for run in self.runs):
            # Where clocks differ, what was observed later may bear an earlier time; its number tells.
            invariants.published_in_order(published)
        apart = invariants.refused(table, self.partition)
        if apart:
            published = invariants.in_order_of_sight([*published, *apart])
        invariants.one_id_per_transition(published)
        invariants.sequences_are_gapless_and_in_order(published)
        invariants.every_threshold_once(published)
        invariants.violations_are_opened_and_closed(published)
        invariants.faults_are_opened_and_closed(published)
        for run in self.runs:
            invariants.deadline_is_kept(run)
            invariants.nothing_names_a_user(run.printed, self.users, "what was printed")
            invariants.nothing_names_a_user(str(run.error), self.users, "an exception")
        if settled:
            invariants.outbox_is_empty(table, self.partition)
            invariants.published_is_committed(published, self.committed_events())
            invariants.published_is_expected(published, Oracle(self.history()))
            invariants.snapshot_is_world(table, self.partition, SESSION, self.in_view())
            invariants.lives_are_kept(published, self.kept())

    def kept(self) -> Mapping[str, list[list[tuple[Any, ...]]]]:
        """Return what the table keeps of each session's lives, as people who ask for one are shown it."""
        layout = Table("table", self.target, timedelta(days=90))
        found: dict[str, list[list[tuple[Any, ...]]]] = defaultdict(list)
        partitions = self.cloud.dynamodb.tables["table"].partitions
        # Those that are over come first, in the order of their ends.
        for name in sorted(partitions):
            for sort, item in sorted(partitions[name].items()):
                if name.startswith("HISTORY#"):
                    life = layout.read_history(item)
                elif name == self.partition and sort.startswith(SESSION):
                    remembered = layout.read_session(item).remembered
                    life = life_of(remembered, remembered.presence_since)
                else:
                    continue
                found[life.session_id].append(
                    [
                        (
                            each.sequence,
                            each.detail_type,
                            timestamp(each.at),
                            timestamp(each.since),
                            each.threshold,
                            each.cause,
                            each.policy,
                        )
                        for each in entries_of(life.timeline, life.first_seen)
                    ]
                )
        return found

    def committed_events(self) -> set[str]:
        """Return the ids of all events that ever reached the table."""
        return {event for run in self.runs for event in digest(run).events}

    def history(self) -> list[Sweep]:
        """Return what the sweeps saw, and what of it was committed."""
        digests = [digest(run) for run in self.runs]
        known = [
            (run.number, len(run.calls), over) for run, over in zip(self.runs, self._over(), strict=True)
        ]
        same = 0
        while same < min(len(known), len(self._told)) and known[same] == self._told[same][0]:
            same += 1
        # What sweeps did that were over before any other began stands, and is told once.
        while same and not known[same - 1][-1]:
            same -= 1
        del self._told[same:]
        # One that stalled before it read the table has read what sweeps that began later left there.
        rest: dict[int, tuple[Hashable, Sweep | None]] = {}
        for number in sorted(range(same, len(digests)), key=lambda number: digests[number].load):
            each = digests[number]
            before = [
                sweep for _, sweep in (*self._told, *rest.values()) if sweep and sweep.first_write < each.load
            ]
            rest[number] = known[number], self._sweep(each, digests, before)
        self._told += [rest[number] for number in sorted(rest)]
        return [sweep for _, sweep in self._told if sweep]

    def _over(self) -> list[bool]:
        """Tell of each run whether it and all before it were over when those after it began."""
        first = [run.calls[0].order if run.calls else 0 for run in self.runs]
        last = [run.calls[-1].order if run.calls else 0 for run in self.runs]
        return [
            max(last[:number]) < min(first[number:], default=sys.maxsize)
            for number in range(1, len(self.runs) + 1)
        ]

    def _sweep(self, each: "Digest", digests: Sequence["Digest"], history: Sequence[Sweep]) -> Sweep | None:
        """Return what one of the sweeps saw, and what of it was committed; None if nothing was."""
        if each.commit is None and not each.writes:
            return None
        overtaken = {
            identity
            for other in digests
            if other is not each and each.commit is not None
            for identity, order in other.writes.items()
            if each.load < order < each.commit and identity not in each.writes
        }
        known = self._known(history, each.load) if each.leans_on_the_table else frozenset()
        unwanted = frozenset(scope for scope in known if scope[0] in excluded(each.environment))
        topology = each.topology(known, unwanted)
        enough = self._enough(each, digests)
        unreadable = each.stacks_problem
        # What is only slow is made up for by the stacks that were read, or that the table knows.
        if unreadable in PASSING and (each.fleets or each.unread or known - unwanted or each.told.stacks):
            unreadable = ""
        if unreadable:
            topology = Topology()
        sweep = Sweep(
            begin=each.begin,
            observed=each.observed,
            records={} if unreadable else each.records,
            scopes=topology.scopes,
            failed=dict(topology.failed) | each.failed(topology.scopes, enough),
            timeouts=self._timeouts(each, history),
            rules=self.rules,
            load=each.load,
            order=each.commit,
            kept=each.writes,
            lost=each.failed_writes | overtaken,
            unwanted=unwanted,
            kept_scopes=each.kept_scopes,
            kept_facts=each.kept_facts,
            unreadable=unreadable,
            types=self._types(each, enough),
            listed_as=each.listed_as,
            refused=each.refused,
            reading=each.reading,
            remembered=each.told.reading,
            tag_keys=tuple(key for key in each.environment["TAG_KEYS"].split(",") if key),
            document=self._document(each, digests),
            topology_whole=each.topology_whole,
        )
        # An id that came back while its end still waited to be published had to wait, too.
        returned = frozenset(
            identity
            for identity in each.ends_waiting & each.records.keys()
            if each.records[identity]["State"] != "EXPIRED"
        )
        sweep = replace(sweep, lost=sweep.lost | returned, waiting=returned)
        uncommitted = each.failed_writes | returned
        if each.late and each.commit is not None:
            # It had no time to write all that it found; whatever it did not write, it lost.
            unwritten = Oracle([*history, sweep]).changed_by(sweep) - each.writes.keys()
            uncommitted |= unwritten
            sweep = replace(sweep, lost=sweep.lost | unwritten)
        records = (
            each.records.get(identity) or self._last_record(history, identity) for identity in uncommitted
        )
        scopes = frozenset((record["StackName"], record["FleetName"]) for record in records if record)
        return replace(sweep, uncommitted=scopes)

    def _document(self, each: "Digest", digests: Iterable["Digest"]) -> Document:
        """Return the policies in force at a sweep: of the good documents the last one that the table took."""
        if not each.environment["POLICIES_PARAMETER"]:
            return NO_POLICIES
        taken = sorted(
            (other.policies_taken, other)
            for other in digests
            if other.policies_taken and other.policies_taken < each.load
        )
        text = ""
        for _, other in taken:
            text = _good_text(other, text)
        if each.policies_taken:
            text = _good_text(each, text)
        return self.cloud.world.documents.get(text, NO_POLICIES)

    @staticmethod
    def _last_record(history: Sequence[Sweep], identity: str) -> Record | None:
        return next(
            (sweep.records[identity] for sweep in reversed(history) if identity in sweep.records), None
        )

    @staticmethod
    def _enough(each: "Digest", digests: Iterable["Digest"]) -> frozenset[str | None]:
        """Return the AuthenticationTypes with which a scope is listed whole."""
        wanted = each.environment["AUTHENTICATION_TYPES"]
        if wanted != "auto":
            return frozenset(wanted.split(","))
        settled = (
            other.evidence for other in digests if other.commit is not None and other.commit < each.load
        )
        return frozenset({None}) if any(settled) else TYPES

    @staticmethod
    def _types(each: "Digest", enough: frozenset[str | None]) -> frozenset[str] | None:
        """Return the types that alone were asked for; None if sessions of every type were listed."""
        asked = {kind for listings in each.listings.values() for kind in listings}
        if each.environment["AUTHENTICATION_TYPES"] == "auto" and (None in asked or None in enough):
            return None
        return frozenset(kind for kind in enough if kind is not None)

    @staticmethod
    def _known(history: Sequence[Sweep], load: int) -> frozenset[Scope]:
        """Return the scopes that the table knew then: by its list, by its gaps, and by its sessions."""
        committed = sorted(
            (
                each
                for each in history
                if each.order is not None and each.order < load and not each.unreadable
            ),
            key=lambda sweep: sweep.order or 0,
        )
        listed = [sweep for sweep in committed if sweep.kept_scopes]
        known = {scope for sweep in listed[-1:] for scope in sweep.scopes}
        known |= {scope for sweep in committed[-1:] for scope in (*sweep.failed, *sweep.unwanted)}
        for identity in Oracle(history).living() if history else ():
            record = Trial._last_record(history, identity)
            if record is not None:
                known.add((record["StackName"], record["FleetName"]))
        return frozenset(known - {TARGET})

    @staticmethod
    def _timeouts(each: "Digest", history: Sequence[Sweep]) -> Mapping[str, int]:
        """Return the fleets' timeouts, as last known if they could not all be read."""
        if each.fleets_whole:
            return each.timeouts
        last: dict[str, int] = {}
        # A session remembers what was told in its life.
        oracle = Oracle(history)
        for identity in oracle.living() if history else ():
            record = Trial._last_record(history, identity)
            fleet = record["FleetName"] if record else ""
            sweeps = [sight.sweep for sight in oracle.lives(identity)[-1].sights]
            told = [sweep.timeouts[fleet] for sweep in sweeps if fleet in sweep.timeouts]
            last |= {fleet: told[-1]} if told else {}
        return last | dict(each.told.timeouts) | each.timeouts


def excluded(environment: Mapping[str, str]) -> set[str]:
    """Return the stacks that the settings exclude."""
    return {word[1:] for word in environment.get("STACK_FILTER", "").split(",") if word.startswith("!")}


@dataclass(frozen=True)
class Topology:
    """The scopes of a sweep, and what of the topology stands as failed."""

    scopes: frozenset[Scope] = frozenset()
    failed: Mapping[Scope, str] = field(default_factory=dict)


@dataclass
class Digest:
    """What the calls of one sweep tell: what it saw, and which of its writes took effect."""

    begin: int
    environment: Mapping[str, str] = field(default_factory=dict)
    observed: int = 0
    load: int = 0
    commit: int | None = None
    late: bool = False
    evidence: bool = False
    records: dict[str, Record] = field(default_factory=dict)
    listed_as: dict[str, str] = field(default_factory=dict)
    # Why the stacks are not all known, "" if they are; by stack, its fleets and why they are not all.
    stacks_problem: str = ""
    fleets: dict[str, set[str]] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)
    # By scope and AuthenticationType, None being a call without one: why it is not whole, "" if it is.
    listings: dict[Scope, dict[str | None, str]] = field(default_factory=dict)
    gone: set[Scope] = field(default_factory=set)
    timeouts: dict[str, int] = field(default_factory=dict)
    told: Told = field(default_factory=Told)
    fleets_whole: bool = False
    reading: Reading = field(default_factory=Reading)
    # The document of policies that it read, if it was a good one, and when its choice was put into the table.
    good_text: str | None = None
    policies_taken: int = 0
    writes: dict[str, int] = field(default_factory=dict)
    failed_writes: frozenset[str] = frozenset()
    kept_scopes: bool = True
    kept_facts: bool = True
    ends_waiting: frozenset[str] = frozenset()
    events: set[str] = field(default_factory=set)

    @property
    def refused(self) -> dict[Scope, frozenset[str]]:
        """The types that were not taken, by scope."""
        return {
            scope: frozenset(kind for kind, problem in listed.items() if kind and problem == REFUSED_TYPE)
            for scope, listed in self.listings.items()
        }

    @property
    def leans_on_the_table(self) -> bool:
        """Return whether it makes a difference which scopes the table knows."""
        return not self.topology_whole or bool(excluded(self.environment))

    @property
    def topology_whole(self) -> bool:
        """Return whether all stacks and all their fleets were read."""
        unread = any(self.unread.values()) or self.unread.keys() != self.fleets.keys()
        return not self.stacks_problem and not unread

    def topology(self, known: Iterable[Scope], unwanted: frozenset[Scope]) -> Topology:
        """Return the scopes: as they were read, and as the table knows those of stacks that were not."""
        wanted = {scope for scope in known if scope not in unwanted}
        stacks = set(self.fleets) | set(self.unread)
        if self.stacks_problem:
            stacks |= {stack for stack, _ in wanted} | (self.told.stacks - excluded(self.environment))
        scopes: set[Scope] = set(self.listings)
        failed = {TARGET: self.stacks_problem} if self.stacks_problem else {}
        for stack in stacks:
            of_stack = {(stack, fleet) for fleet in self.fleets.get(stack, ())}
            problem = self.unread.get(stack, "DEADLINE")
            if problem:
                of_stack |= {scope for scope in wanted if scope[0] == stack and scope[1]}
                of_stack |= {scope for scope in self.listings if scope[0] == stack}
                of_stack |= {(stack, fleet) for fleet in self.told.fleets.get(stack, ())}
                if not of_stack and stack not in self.told.fleets:
                    failed[stack, ""] = problem
            scopes |= of_stack
        return Topology(frozenset(scopes - self.gone), failed)

    def failed(self, scopes: Iterable[Scope], enough: frozenset[str | None]) -> dict[Scope, str]:
        """Return which scopes were not listed whole, and why."""
        auto = self.environment["AUTHENTICATION_TYPES"] == "auto"
        failed: dict[Scope, str] = {}
        for scope in scopes:
            listed = dict(self.listings.get(scope, {}))
            if auto and any(problem != REFUSED_TYPE for problem in listed.values()):
                # A type that is refused costs that type alone.
                listed = {kind: "" if why == REFUSED_TYPE else why for kind, why in listed.items()}
            problem = next((reason for reason in listed.values() if reason), "")
            if problem or not listed.keys() >= enough:
                failed[scope] = problem or "DEADLINE"
        return failed


_DIGESTS: dict[int, tuple[Run, Digest]] = {}


def digest(run: Run) -> Digest:
    """Read the calls of a sweep that is over; the answer is kept."""
    kept = _DIGESTS.get(id(run))
    if kept is None or kept[0] is not run:
        if len(_DIGESTS) > 1000:
            _DIGESTS.clear()
        kept = _DIGESTS[id(run)] = run, _digest(run)
    return kept[1]


def _digest(run: Run) -> Digest:
    told = Digest(int(run.begin), run.environment, told=run.told, reading=_reading(run))
    for call in run.calls:
        if call.operation == "GetParameter" and call.answer is not None:
            text = call.answer["Parameter"]["Value"]
            told.good_text = text if text in run.cloud.world.documents else None
    listing = [
        number for number, call in enumerate(run.calls) if call.operation.startswith(("Describe", "List"))
    ]
    last = max((number for number, call in enumerate(run.calls) if is_listing(call.operation)), default=0)
    for call in run.calls:
        if call.operation in WRITES and call.answer is not None:
            told.events.update(invariants.ids_in(call.params))
    if not listing:
        return told
    told.load = next((call.order for call in run.calls if call.operation == "Query"), 0)
    told.ends_waiting = _ends_waiting(run.calls[: listing[0]])
    told.observed = int(run.calls[last].at)
    told.late = run.deadline + run.skew - run.calls[-1].at < run.margin
    _listed(told, [run.calls[number] for number in listing])
    refused = set()
    for call in run.calls[last + 1 :]:
        if call.operation not in WRITES:
            continue
        keys = set(_written(call))
        sessions = {key.removeprefix(SESSION) for key in keys if key.startswith(SESSION)}
        if call.answer is None:
            # What is refused after the commit is the clearing of an outbox, which tells of nothing new.
            refused |= sessions if told.commit is None else set()
            told.kept_scopes &= SCOPES not in keys
            told.kept_facts &= FLEETS not in keys
            continue
        if POLICIES_ITEM in keys:
            told.policies_taken = call.order
            continue
        if told.commit is None:
            told.writes |= dict.fromkeys(sessions, call.order)
            # A transaction with sessions may write the target's item, too, as its fence: that is no commit.
            told.commit = call.order if TARGET_ITEM in keys and not sessions else None
    told.failed_writes = frozenset(refused - told.writes.keys()) if told.commit is not None else frozenset()
    return told


def _ends_waiting(calls: Iterable[Call]) -> frozenset[str]:
    """Return the sessions whose end was read in the table, and not yet published when listing began."""
    waiting: set[str] = set()
    for call in calls:
        if call.operation == "Query" and call.answer is not None:
            waiting |= {
                item["sk"]["S"]
                for item in call.answer["Items"]
                if {ENDED, UNWATCHED}
                & {each["M"]["type"]["S"] for each in item.get("outbox", {"L": []})["L"]}
            }
        elif call.operation in WRITES and call.answer is not None:
            waiting -= set(_written(call))
    return frozenset(key.removeprefix(SESSION) for key in waiting)


def _written(call: Call) -> Iterator[str]:
    """Return the sort keys in the target's partition that a call writes."""
    bodies = [call.params]
    if call.operation == "TransactWriteItems":
        bodies = [body for action in call.params["TransactItems"] for body in action.values()]
    for body in bodies:
        key = body.get("Item") or body["Key"]
        if key["pk"]["S"].startswith(TARGETS):
            yield key["sk"]["S"]


def _listed(told: Digest, calls: Sequence[Call]) -> None:
    """Put pages together to what the sweep could know."""
    sessions = [number for number, call in enumerate(calls) if call.operation == "DescribeSessions"]
    first = sessions[0] if sessions else len(calls)
    told.stacks_problem = "DEADLINE"
    for call in calls[:first]:
        answer = call.answer or {}
        if call.operation == "DescribeStacks":
            wanted = {stack["Name"] for stack in answer.get("Stacks", [])} - excluded(told.environment)
            told.unread |= dict.fromkeys(wanted, "DEADLINE")
            told.stacks_problem = call.error or ("DEADLINE" if "NextToken" in answer else "")
        elif call.operation == "ListAssociatedFleets":
            stack = call.params["StackName"]
            told.fleets.setdefault(stack, set()).update(answer.get("Names", []))
            told.unread[stack] = call.error or ("DEADLINE" if "NextToken" in answer else "")
        elif call.operation == NO_ACCESS:
            told.stacks_problem = call.error
    _timeouts(told, [call for call in calls if call.operation == "DescribeFleets"])
    _sessions(told, [calls[number] for number in sessions])
    # A scope that was refused for good is looked up again.
    again: dict[str, set[str]] = {}
    for call in calls[first:]:
        if call.operation == "ListAssociatedFleets":
            again.setdefault(call.params["StackName"], set()).update((call.answer or {}).get("Names", []))
            if call.answer is not None and "NextToken" not in call.answer:
                refused = {
                    scope
                    for scope, listed in told.listings.items()
                    if any(problem and problem not in PASSING for problem in listed.values())
                    and scope[0] == call.params["StackName"]
                }
                told.gone |= {scope for scope in refused if scope[1] not in again[scope[0]]}


def _stacks_and_fleets(run: Run) -> tuple[frozenset[str], Mapping[str, frozenset[str]]]:
    """Return what a container knows of the topology after a sweep: what was last read whole."""
    stacks, fleets = run.told.stacks, dict(run.told.fleets)
    names: set[str] = set()
    listed = False
    for call in run.calls:
        listed |= call.operation == "DescribeSessions"
        if call.operation not in {"DescribeStacks", "ListAssociatedFleets"}:
            continue
        if "NextToken" not in call.params:
            names = set()
        answer = call.answer or {}
        names |= {stack["Name"] for stack in _named(answer, "Stacks")} | {
            each for each in _records(answer, "Names") if isinstance(each, str)
        }
        whole = call.answer is not None and "NextToken" not in answer
        if call.operation == "DescribeStacks":
            if whole:
                stacks = frozenset(names)
                fleets = {stack: fleets[stack] for stack in fleets if stack in stacks}
        elif whole:
            fleets[call.params["StackName"]] = frozenset(names)
        elif listed or call.error == "ResourceNotFoundException":
            # The stack itself may be gone.
            stacks = frozenset()
    return stacks, fleets


def is_looking(operation: str) -> bool:
    """Return whether a call looks at the world that is audited."""
    return is_listing(operation) or operation == "GetParameter"


def is_listing(operation: str) -> bool:
    """Return whether a call looks at the sessions, or at where they may be."""
    return operation.startswith(("Describe", "List")) or operation == "GetResources"


def _reading(run: Run) -> Reading:
    """Return what a sweep read whole of the fleets and the tags."""
    answers: dict[str, list[Mapping[str, Any] | None]] = defaultdict(list)
    for call in run.calls:
        answers[call.operation].append(call.answer)
    fleets, tags = (
        [answer or {} for answer in answers[operation]] if answers[operation][-1:] != [None] else []
        for operation in ("DescribeFleets", "GetResources")
    )
    there: set[Resource] = {("fleet", fleet["Name"]) for page in fleets for fleet in _named(page, "Fleets")}
    stacks = [answer or {} for answer in answers["DescribeStacks"]]
    there |= {("stack", stack["Name"]) for page in stacks for stack in _named(page, "Stacks")}
    tagged = {
        _resource(each["ResourceARN"]): {tag["Key"]: tag["Value"] for tag in each["Tags"]}
        for page in tags
        for each in page["ResourceTagMappingList"]
    }
    return Reading(
        int(run.begin),
        {fleet["Name"]: fleet for page in fleets for fleet in _named(page, "Fleets")}
        if fleets and "NextToken" not in fleets[-1]
        else None,
        # What is there and is not named has no tags.
        {resource: {} for resource in there} | tagged if tags and not tags[-1]["PaginationToken"] else None,
    )


def _records(answer: Mapping[str, Any], what: str) -> list[Any]:
    """Return what an answer lists; a hostile one may list nothing that has this form."""
    listed = answer.get(what)
    return [each for each in listed if isinstance(each, str | dict)] if isinstance(listed, list) else []


def _named(answer: Mapping[str, Any], what: str) -> list[Mapping[str, Any]]:
    """Return the records of an answer that have a name."""
    records = (each for each in _records(answer, what) if isinstance(each, dict))
    return [each for each in records if isinstance(each.get("Name"), str)]


def _good_text(each: Digest, before: str) -> str:
    """Return the document that a sweep puts into the table: what is no good one changes nothing."""
    if not each.environment["POLICIES_PARAMETER"]:
        return ""
    return before if each.good_text is None else each.good_text


def _resource(arn: str) -> Resource:
    kind, _, name = arn.rpartition(":")[2].partition("/")
    return kind, name


def _timeouts(told: Digest, calls: Iterable[Call]) -> None:
    for call in calls:
        answer = call.answer or {}
        told.fleets_whole = call.answer is not None and "NextToken" not in answer
        for fleet in _named(answer, "Fleets"):
            if "DisconnectTimeoutInSeconds" in fleet:
                told.timeouts[fleet["Name"]] = fleet["DisconnectTimeoutInSeconds"]


def _sessions(told: Digest, calls: Iterable[Call]) -> None:
    for call in calls:
        answer = call.answer or {}
        kind = call.params.get("AuthenticationType")
        listings = told.listings.setdefault((call.params["StackName"], call.params["FleetName"]), {})
        listings[kind] = call.error or ("DEADLINE" if "NextToken" in answer else "")
        for record in answer.get("Sessions", []):
            told.records[record["Id"]] = record
            if kind:
                told.listed_as.setdefault(record["Id"], kind)
            told.evidence |= kind is None and record.get("AuthenticationType", "API") != "API"
