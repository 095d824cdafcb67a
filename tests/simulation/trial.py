"""A trial: the real handler, in containers as Lambda makes them, against the simulated AWS.

It knows how to start a container and make a sweep in it under faults, how to go back to an earlier
moment, and how to read off the calls of every sweep what it saw and what of that was committed: the
history that the oracle is told. Of the auditor it uses the handler and the keys of the table, no more.
"""

import gc
import io
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, ClassVar, Self
from unittest.mock import patch

import boto3

import session_auditor.appstream
from tests.simulation import invariants
from tests.simulation.appstream import ACCOUNT_ID, REGION
from tests.simulation.aws import Call, Cloud, Died, Fault, Run
from tests.simulation.eventbridge import Entry
from tests.simulation.oracle import Oracle, Record, Rules, Scope, Sweep

ROOT = Path(__file__).parents[2]
HANDLER = ROOT / "functions/auditor/app.py"
PARTITION = f"TARGET#{ACCOUNT_ID}#{REGION}"
TARGET, SESSION = "TARGET", "SESSION#"
ENVIRONMENT = {
    "TABLE_NAME": "table",
    "EVENT_BUS_NAME": "bus",
    "TARGET_ACCOUNT_ID": ACCOUNT_ID,
    "TARGET_REGION": REGION,
    "WORKERS": "1",
    "TOPOLOGY_MINUTES": "0",
    "AUTHENTICATION_TYPES": "API",
    "POWERTOOLS_SERVICE_NAME": "auditor",
    "POWERTOOLS_METRICS_NAMESPACE": "simulation",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": REGION,
}
TYPES = {"API", "SAML", "USERPOOL", "AWS_AD"}
WRITES = {"PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems", "BatchWriteItem"}

# What this process has tried; conftest prints the sums.
TALLY: Counter[str] = Counter()


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

    def shutdown(self, **_: Any) -> None:
        """Have nothing to wait for."""


_REAL_SESSION = boto3.Session


@cache
def _code() -> CodeType:
    return compile(HANDLER.read_text(), str(HANDLER), "exec")


@cache
def _client(service: str) -> Any:
    make: Callable[..., Any] = _REAL_SESSION(region_name=REGION).client
    return make(service, aws_access_key_id="test", aws_secret_access_key="test")


class _Session:
    """Stands for boto3.Session: making a client takes longer than many sweeps, so they are kept."""

    def __init__(self, **_: Any) -> None:
        pass

    def client(self, service: str, **_: Any) -> Any:
        return _client(service)

    def get_partition_for_region(self, _: str) -> str:
        return "aws"


# Loggers keep the stream that they were made with, so there is one for the whole process.
_PRINTED = io.StringIO()


class Container:
    """One warm execution environment of the function."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.app = ModuleType("app")
        self.app.__file__ = str(HANDLER)
        with (
            patch.dict(os.environ, environment),
            patch.object(boto3, "Session", _Session),
            redirect_stdout(_PRINTED),
        ):
            sys.modules["app"] = self.app
            exec(_code(), self.app.__dict__)  # noqa: S102 - the handler, as a new container imports it
        # The handler freezes what a container keeps for good; here, containers come and go.
        gc.unfreeze()
        self.fresh = self.memory()

    def memory(self) -> dict[str, Any]:
        """Return what the container remembers of the table from one sweep to the next."""
        return dict(vars(self.app.auditor.snapshots))

    def remember(self, memory: Mapping[str, Any]) -> None:
        """Go back to what it remembered."""
        vars(self.app.auditor.snapshots).update(memory)

    def invoke(self, run: Run) -> None:
        """Let Lambda call the handler; what it printed and returned or raised is kept on the run."""
        _PRINTED.seek(0)
        _PRINTED.truncate()
        with redirect_stdout(_PRINTED), patch.object(session_auditor.appstream, "ThreadPoolExecutor", InTurn):
            try:
                run.result = self.app.handler({}, run)
            except (Exception, Died) as error:  # noqa: BLE001 - Lambda reports whatever the handler raises
                run.error = error
        run.printed = _PRINTED.getvalue()


class Baton:
    """A sweep on a thread of its own that moves only when it is told to, from one call to the next."""

    _all: ClassVar[dict[int, "Baton"]] = {}

    def __init__(self, cloud: Cloud, run: Run, container: Container) -> None:
        self.cloud = cloud
        self.run = run
        self.container = container
        self.over = False
        self._everywhere = False
        self._go = threading.Semaphore(0)
        self._stopped = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._sweep, daemon=True)

    def start(self, *, everywhere: bool) -> None:
        """Run up to the first call."""
        Baton._all[self.run.number] = self
        self._everywhere = everywhere
        self._thread.start()
        self.go_on()

    def go_on(self) -> None:
        """Make the call that is due, and run up to the next one."""
        with self.cloud.floor(self.run):
            self._go.release()
            self._stopped.acquire()
        if self.over:
            self._thread.join()
            del Baton._all[self.run.number]

    def _sweep(self) -> None:
        self._go.acquire()
        try:
            self.run.result = self.container.app.handler({}, self.run)
        except (Exception, Died) as error:  # noqa: BLE001 - Lambda reports whatever the handler raises
            self.run.error = error
        finally:
            self.over = True
            self._stopped.release()

    @staticmethod
    def wait_for_turn(run: Run, operation: str, _: Mapping[str, Any]) -> None:
        """Stop before a call until it is this sweep's turn; the hook of the simulated AWS."""
        baton = Baton._all[run.number]
        if baton._everywhere or not operation.startswith(("Describe", "List")):
            baton._stopped.release()
            baton._go.acquire()


@dataclass
class Trial:
    """An estate under audit, and all that has been done to it."""

    cloud: Cloud
    environment: Mapping[str, str] = field(default_factory=lambda: ENVIRONMENT)
    rules: Rules = field(default_factory=Rules)
    runs: list[Run] = field(default_factory=list)
    users: set[str] = field(default_factory=set)
    container: Container | None = None
    spare: Container | None = None

    def sweep(self, *faults: Fault, skew: float = 0.0) -> Run:
        """Make one sweep in the warm container; one that died takes its container with it."""
        run = self.cloud.invocation(*faults, skew=skew)
        published = len(self.cloud.eventbridge.accepted)
        container = self.container or Container(self.environment)
        self.container = None
        with self.cloud.floor(run):
            container.invoke(run)
        if not run.dead:
            self.container = container
        self.runs.append(run)
        TALLY["runs"] += 1
        invariants.nobody_alive_has_ended(self.cloud.eventbridge.accepted[published:], self.alive())
        return run

    def together(self, choose: Callable[[int], int], change: Callable[[], None] | None = None) -> None:
        """Make two sweeps at once, one in the warm container, and perhaps let the world change in between.

        Before each call that the other sweep could feel, `choose` is told how many could go on and says
        which. Calls to AppStream change nothing, so they are made without asking, unless the world changes.
        """
        runs = [self.cloud.invocation() for _ in range(2)]
        warm = self.container or Container(self.environment)
        if self.spare is None:
            self.spare = Container(self.environment)
        self.spare.remember(self.spare.fresh)
        threads = [
            Baton(self.cloud, run, container) for run, container in zip(runs, (warm, self.spare), strict=True)
        ]
        everywhere = change is not None
        with redirect_stdout(_PRINTED), patch.object(session_auditor.appstream, "ThreadPoolExecutor", InTurn):
            self.cloud.hook = Baton.wait_for_turn
            try:
                for thread in threads:
                    thread.start(everywhere=everywhere)
                while going := [thread for thread in threads if not thread.over]:
                    choice = choose(len(going) + (change is not None))
                    if choice < len(going):
                        going[choice].go_on()
                    elif change is not None:
                        change()
                        change = None
            finally:
                self.cloud.hook = None
        printed = _PRINTED.getvalue()
        _PRINTED.seek(0)
        _PRINTED.truncate()
        for thread in threads:
            thread.run.printed = printed
        self.container = None if runs[0].dead else warm
        self.runs += runs
        TALLY["runs"] += 2
        TALLY["interleavings"] += 1

    def wait(self, seconds: float) -> Self:
        """Let time pass."""
        self.cloud.clock.advance(seconds)
        return self

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
        )
        fails = cloud.appstream.fails
        now, accepted, runs = cloud.clock.now, len(cloud.eventbridge.accepted), len(self.runs)
        container = self.container
        memory = container.memory() if container else {}
        try:
            yield
        finally:
            self.container = container
            if container:
                container.remember(memory)
            table.partitions, table.sizes, table.order = tables
            world.stacks, world.fleets, world.associations, world.sessions, world.scopes = things
            cloud.appstream.fails = fails
            cloud.clock.now = now
            cloud.clock.show()
            del cloud.eventbridge.accepted[accepted:]
            del self.runs[runs:]

    def alive(self) -> frozenset[str]:
        """Return the sessions that live in the world."""
        return frozenset(
            identity for identity, record in self.cloud.world.sessions.items() if record["State"] != "EXPIRED"
        )

    def check(self, *, settled: bool = True) -> None:
        """Hold every promise against what has happened; `settled` after clean sweeps of a still world."""
        published: Sequence[Entry] = self.cloud.eventbridge.accepted
        table = self.cloud.dynamodb.tables["table"]
        invariants.published_in_order(published)
        apart = invariants.refused(table, PARTITION)
        if apart:
            published = invariants.in_order_of_sight([*published, *apart])
        invariants.one_id_per_transition(published)
        invariants.sequences_are_gapless_and_in_order(published)
        invariants.every_threshold_once(published)
        for run in self.runs:
            invariants.deadline_is_kept(run)
            invariants.nothing_names_a_user(run.printed, self.users, "what was printed")
            invariants.nothing_names_a_user(str(run.error), self.users, "an exception")
        if settled:
            invariants.outbox_is_empty(table, PARTITION)
            invariants.published_is_committed(published, self.committed_events())
            invariants.published_is_expected(published, Oracle(self.history()))
            invariants.snapshot_is_world(table, PARTITION, SESSION, self.alive())

    def committed_events(self) -> set[str]:
        """Return the ids of all events that ever reached the table."""
        return {event for run in self.runs for event in digest(run).events}

    def history(self) -> list[Sweep]:
        """Tell what the sweeps saw, and what of it was committed."""
        digests = [digest(run) for run in self.runs]
        commits = sorted(each.commit for each in digests if each.commit is not None)
        history: list[Sweep] = []
        for each in digests:
            if each.commit is None and not each.writes:
                continue
            overtaken = {
                identity
                for other in digests
                if other is not each and each.commit is not None
                for identity, order in other.writes.items()
                if each.load < order < each.commit and identity not in each.writes
            }
            sweep = Sweep(
                begin=each.begin,
                observed=each.observed,
                records=each.records,
                scopes=each.scopes,
                failed=self._failed(each, history),
                timeouts=each.timeouts,
                rules=self.rules,
                base=sum(commit < each.load for commit in commits),
                order=each.commit,
                kept=each.writes,
                lost=each.failed_writes | overtaken,
            )
            uncommitted = each.failed_writes
            if each.late and each.commit is not None:
                # It had no time to write all that it found; whatever it did not write, it lost.
                unwritten = Oracle([*history, sweep]).changed_by(sweep) - each.writes.keys()
                uncommitted |= unwritten
                sweep = replace(sweep, lost=sweep.lost | unwritten)
            scopes = {
                (record["StackName"], record["FleetName"]): "NOT_COMMITTED"
                for identity in uncommitted
                if (record := each.records.get(identity) or self._last_record(history, identity)) is not None
            }
            history.append(replace(sweep, uncommitted=scopes))
        return history

    @staticmethod
    def _last_record(history: Sequence[Sweep], identity: str) -> Record | None:
        return next(
            (sweep.records[identity] for sweep in reversed(history) if identity in sweep.records), None
        )

    @staticmethod
    def _failed(each: "Digest", history: Sequence[Sweep]) -> Mapping[Scope, str]:
        """Add the scopes of stacks whose fleets could not be listed, as they were known before."""
        if not each.failed_stacks:
            return each.failed
        known = {scope for sweep in history[-1:] for scope in (*sweep.scopes, *sweep.failed)}
        for identity in Oracle(history).living() if history else ():
            record = Trial._last_record(history, identity)
            if record is not None:
                known.add((record["StackName"], record["FleetName"]))
        failed = dict(each.failed)
        for stack, code in each.failed_stacks.items():
            of_stack = {scope for scope in known if scope[0] == stack}
            failed |= dict.fromkeys(of_stack or {(stack, "")}, code)
        return failed


@dataclass
class Digest:
    """What the calls of one sweep tell: what it saw, and which of its writes took effect."""

    begin: int
    observed: int = 0
    load: int = 0
    commit: int | None = None
    late: bool = False
    records: dict[str, Record] = field(default_factory=dict)
    scopes: frozenset[Scope] = frozenset()
    failed: dict[Scope, str] = field(default_factory=dict)
    failed_stacks: dict[str, str] = field(default_factory=dict)
    timeouts: dict[str, int] = field(default_factory=dict)
    writes: dict[str, int] = field(default_factory=dict)
    failed_writes: frozenset[str] = frozenset()
    events: set[str] = field(default_factory=set)


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
    told = Digest(int(run.begin))
    listing = [
        number for number, call in enumerate(run.calls) if call.operation.startswith(("Describe", "List"))
    ]
    last = max(listing, default=len(run.calls))
    for call in run.calls:
        if call.operation in WRITES and call.answer is not None:
            told.events.update(invariants.ids_in(call.params))
    if not listing:
        return told
    told.load = next((call.order for call in run.calls if call.operation == "Query"), 0)
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
            refused |= sessions
            continue
        if told.commit is None:
            told.writes |= dict.fromkeys(sessions, call.order)
            # A transaction with sessions may write the target's item, too, as its fence: that is no commit.
            told.commit = call.order if TARGET in keys and not sessions else None
    told.failed_writes = frozenset(refused - told.writes.keys()) if told.commit is not None else frozenset()
    return told


def _written(call: Call) -> Iterator[str]:
    """Return the sort keys in the target's partition that a call writes; a check writes nothing."""
    if call.operation == "TransactWriteItems":
        bodies = [
            body
            for action in call.params["TransactItems"]
            for kind, body in action.items()
            if kind != "ConditionCheck"
        ]
    elif call.operation == "BatchWriteItem":
        bodies = [
            body
            for each in call.params["RequestItems"].values()
            for request in each
            for body in request.values()
        ]
    else:
        bodies = [call.params]
    for body in bodies:
        key = body.get("Item") or body["Key"]
        if key["pk"]["S"] == PARTITION:
            yield key["sk"]["S"]


def _listed(told: Digest, calls: Sequence[Call]) -> None:
    """Put pages together to what the sweep could know."""
    answered = [(call, call.answer or {}) for call in calls]
    fleets: dict[str, list[str]] = {}
    unread: dict[str, str] = {}
    for call, answer in answered:
        if call.operation == "DescribeFleets":
            for fleet in answer.get("Fleets", []):
                if "DisconnectTimeoutInSeconds" in fleet:
                    told.timeouts[fleet["Name"]] = fleet["DisconnectTimeoutInSeconds"]
        elif call.operation == "DescribeStacks":
            unread |= {stack["Name"]: "DEADLINE" for stack in answer.get("Stacks", [])}
        elif call.operation == "ListAssociatedFleets":
            stack = call.params["StackName"]
            fleets.setdefault(stack, []).extend(answer.get("Names", []))
            unread[stack] = call.error or ("DEADLINE" if "NextToken" in answer else "")
    told.failed_stacks = {stack: problem for stack, problem in unread.items() if problem}
    told.scopes = frozenset(
        (stack, fleet) for stack, names in fleets.items() if not unread[stack] for fleet in names
    )
    _sessions(told, [(call, answer) for call, answer in answered if call.operation == "DescribeSessions"])


def _sessions(told: Digest, answered: Iterable[tuple[Call, dict[str, Any]]]) -> None:
    chains: dict[Scope, dict[str | None, str]] = {}
    evidence = False
    for call, answer in answered:
        kind = call.params.get("AuthenticationType")
        chain = chains.setdefault((call.params["StackName"], call.params["FleetName"]), {})
        chain[kind] = call.error or ("DEADLINE" if "NextToken" in answer else "")
        for record in answer.get("Sessions", []):
            told.records[record["Id"]] = record
            evidence |= kind is None and record.get("AuthenticationType", "API") != "API"
    for scope in told.scopes:
        chain = chains.get(scope, {})
        problem = next((reason for reason in chain.values() if reason), "")
        if problem or not _enough(chain.keys(), evidence=evidence):
            told.failed[scope] = problem or "DEADLINE"


def _enough(listed: Collection[str | None], *, evidence: bool) -> bool:
    """Tell whether a scope was listed with every AuthenticationType that it takes (DESIGN, rule 10)."""
    wanted = ENVIRONMENT["AUTHENTICATION_TYPES"]
    if wanted != "auto":
        return set(listed) >= set(wanted.split(","))
    return set(listed) >= TYPES or (None in listed and evidence)
