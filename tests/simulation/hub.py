"""A hub: targets with worlds of their own, and containers that sweep them as messages ask for it.

Table, bus and clock are the hub's; each account has a role that lets it in, or not. What was done for a
target is read off the calls that name it, so that each is judged by itself, by a trial as one target has it.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from types import TracebackType
from typing import Any, NoReturn, Self
from unittest.mock import patch

import boto3
import botocore.session
import greenlet
from botocore.client import BaseClient

from session_auditor.auditors import NoAccess
from session_auditor.model import TargetId
from tests.simulation import invariants
from tests.simulation.appstream import ACCOUNT_ID, REGION, AppStream, World
from tests.simulation.aws import Call, Cloud, Died, Fault, Run, Service
from tests.simulation.errors import AwsError
from tests.simulation.eventbridge import Entry
from tests.simulation.invariants import Broken
from tests.simulation.trial import (
    ENVIRONMENT,
    NO_ACCESS,
    TALLY,
    Container,
    Told,
    Trial,
    client_of,
    core,
    one_thread,
)

EXTERNAL_ID = "7f3a"
ROLE = "AppStreamSessionAuditorSpoke"
# Of a role that another role assumes, at most (IAM, "role chaining").
SECONDS_OF_CREDENTIALS = 3600.0
NOTHING: Mapping[str, str] = {}


@dataclass(slots=True, eq=False)
class Delivery(Run):
    """One invocation with messages, and what it did for each target."""

    container: "Worker | None" = None
    records: tuple[Mapping[str, str], ...] = ()
    parts: dict[TargetId, Run] = field(default_factory=dict)
    latest: Run | None = None


class Roles:
    """STS of the hub's account, and the roles of the others."""

    def __init__(self, hub: "Hub") -> None:
        self.hub = hub
        self.shut: set[str] = set()
        # By access key: whose they are, and when they end.
        self.given: dict[str, tuple[str, float]] = {}
        # After so many calls of AppStream's the credentials of an account end before they said.
        self.end_after: dict[str, int] = {}

    def call(self, operation: str, params: Mapping[str, Any], /) -> dict[str, Any]:
        """AssumeRole."""
        if operation != "AssumeRole":
            raise NotImplementedError(f"the simulated STS knows no {operation}")
        account, role = params["RoleArn"].split(":")[4:]
        if account in self.shut or role != f"role/{ROLE}" or params.get("ExternalId") != EXTERNAL_ID:
            raise AwsError("AccessDenied", "as simulated")
        delivery = self.hub.run
        assert isinstance(delivery, Delivery)
        assert delivery.container
        # A new role means new clients, which know nothing of the account yet.
        delivery.container.forget(account)
        key, end = f"ASIA{len(self.given):016}", self.hub.clock.now + SECONDS_OF_CREDENTIALS
        self.given[key] = account, end
        keys = {"AccessKeyId": key, "SecretAccessKey": "secret", "SessionToken": "token"}
        return {"Credentials": keys | {"Expiration": datetime.fromtimestamp(end, UTC)}}

    def end(self, account: str) -> None:
        """Let all credentials of an account end."""
        for key, (whose, _) in self.given.items():
            if whose == account:
                self.given[key] = account, self.hub.clock.now

    def account_of(self, key: str) -> str:
        """Return whose the credentials are, those of the function without a key; raise AwsError."""
        if not key:
            return ACCOUNT_ID
        account, _ = self.given[key]
        if self.end_after.get(account) == 0:
            del self.end_after[account]
            self.end(account)
        elif account in self.end_after:
            self.end_after[account] -= 1
        if self.hub.clock.now >= self.given[key][1]:
            raise AwsError("ExpiredTokenException", "as simulated")
        return account


class _Session:
    """Stands for boto3.Session: clients of AppStream are twins of one, each with its own key and region."""

    def __init__(self, **_: Any) -> None:
        pass

    def client(
        self, service: str, *, region_name: str = REGION, aws_access_key_id: str = "", **_: Any
    ) -> Any:
        client = client_of(service)
        if service != "appstream":
            return client
        twin = object.__new__(type(client))
        vars(twin).update(vars(client), signs_as=(aws_access_key_id, region_name))
        twin.get_paginator = cache(partial(type(client).get_paginator, twin))
        return twin

    def get_partition_for_region(self, _: str) -> str:
        return "aws"


class Worker(Container):
    """A container of the hub's auditor, which is given messages."""

    session = _Session

    def __init__(self) -> None:
        super().__init__(ENVIRONMENT | {"EXTERNAL_ID": EXTERNAL_ID})
        self.told_of: dict[TargetId, Told] = {}

    def start_anew(self) -> None:
        """Forget everything, as another container would not know it."""
        with patch.object(boto3, "Session", _Session), patch.object(botocore.session, "get_session", core):
            auditors = type(self.app.auditors)(self.app.settings, memory=512)
        vars(self.app).update(auditors=auditors, auditor=auditors.own)
        self.told_of = {}

    def forget(self, account: str) -> None:
        """Have been told nothing yet of an account's targets."""
        self.told_of = {target: told for target, told in self.told_of.items() if target.account_id != account}

    def handle(self, run: Run) -> None:
        """Call the handler with the messages."""
        assert isinstance(run, Delivery)
        try:
            run.result = self.app.handler({"Records": list(run.records)}, run)
        except (Exception, Died) as error:  # noqa: BLE001 - Lambda reports whatever the handler raises
            run.error = error
        for target, part in run.parts.items():
            # Unless a later target of its account was read with new credentials.
            if target in self.told_of:
                self.told_of[target].learn(part)


# To import the handler takes as long as a hundred sweeps.
_SPARE: list[Worker] = []


class Hub(Cloud):
    """The hub's account, its containers by number, and the targets."""

    def __init__(self, *targets: tuple[str, str], workers: int) -> None:
        super().__init__()
        self.trials = {target: self._trial(target) for each in targets if (target := TargetId("aws", *each))}
        self.roles = Roles(self)
        self.services = {**self.services, "sts": self.roles}
        self.workers = [self._worker() for _ in range(workers)]
        self._checked = 0
        self._patch = patch.object(NoAccess, "list", self._list_nothing())

    def _trial(self, target: TargetId) -> Trial:
        cloud = Cloud()
        cloud.clock = self.clock
        cloud.world = World(target.account_id, target.region)
        cloud.appstream = AppStream(cloud.world)
        return Trial(cloud, target=target)

    def _worker(self) -> Worker:
        worker = _SPARE.pop() if _SPARE else Worker()
        worker.start_anew()
        return worker

    def __enter__(self) -> Self:
        self._patch.start()
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._patch.stop()
        _SPARE.extend(self.workers)

    def message(self, target: TargetId, late: float = 0) -> Mapping[str, str]:
        """Return a record that asks for a sweep which is due now, or was so many seconds ago."""
        due = datetime.fromtimestamp(self.clock.now // 1, UTC) - timedelta(seconds=late)
        body = {"account": target.account_id, "region": target.region, "due": f"{due:%Y-%m-%dT%H:%M:%SZ}"}
        return {"messageId": "m", "body": json.dumps(body)}

    def deliver(self, worker: int, *records: Mapping[str, str], faults: tuple[Fault, ...] = ()) -> Delivery:
        """Hand messages to a container."""
        delivery = self._delivery(self.workers[worker], records, faults)
        assert delivery.container
        with self.floor(delivery):
            delivery.container.invoke(delivery)
        self._made(delivery)
        return delivery

    def together(
        self,
        choose: Callable[[Mapping[int, str]], int],
        *records: tuple[Mapping[str, str], ...],
    ) -> list[Delivery]:
        """Hand messages to the first containers at once; `choose` says whose call is next."""
        workers = self.workers[: len(records)]
        deliveries = [self._delivery(*each) for each in zip(workers, records, strict=True)]
        back = greenlet.getcurrent()
        self.hook = lambda _run, operation, _params: back.switch(operation)

        def go_on(number: int) -> str:
            with self.floor(deliveries[number]):
                return str(going[number].switch())

        with one_thread():
            try:
                going = [
                    greenlet.greenlet(partial(worker.handle, each))
                    for worker, each in zip(workers, deliveries, strict=True)
                ]
                due = {number: go_on(number) for number in range(len(going))}
                while due := {number: due[number] for number in due if not going[number].dead}:
                    number = choose(due)
                    due[number] = go_on(number)
            finally:
                self.hook = None
        for delivery in deliveries:
            self._made(delivery)
        return deliveries

    def stall(self, at: int, record: Mapping[str, str]) -> Callable[[], None]:
        """Hand a message to a container of its own, and stop it before call `at`; return what lets it go on.

        If its time is up by then, it is not there any more.
        """
        worker = self._worker()
        delivery = self._delivery(worker, (record,))
        back = greenlet.getcurrent()

        def stop(run: Run, _operation: str, _params: Mapping[str, Any]) -> None:
            if run in delivery.parts.values() and len(run.calls) == at:
                back.switch()

        def go_on() -> None:
            if sweep.dead:
                return
            if self.clock.now >= delivery.deadline:
                for part in delivery.parts.values():
                    part.dead = True
            with one_thread(), self.floor(delivery):
                sweep.switch()
            if sweep.dead:
                self._made(delivery)
                _SPARE.append(worker)

        sweep = greenlet.greenlet(partial(worker.handle, delivery))
        self.hook = stop
        go_on()
        self.hook = None
        return go_on

    def _delivery(
        self, worker: Worker, records: tuple[Mapping[str, str], ...], faults: tuple[Fault, ...] = ()
    ) -> Delivery:
        run = self.invocation(*faults)
        known = {each: getattr(run, each) for each in ("begin", "deadline", "aws_request_id")}
        return Delivery(self, run.number, faults, **known, container=worker, records=records)

    def _made(self, delivery: Delivery) -> None:
        """Look at what came of an invocation; of one that died, the container is gone."""
        if delivery.dead:
            assert delivery.container
            delivery.container.start_anew()
        elif delivery.error:
            raise Broken(f"an invocation failed: {delivery.error!r}")
        bodies = [json.loads(record["body"]) for record in delivery.records]
        wanted = {TargetId("aws", body["account"], body["region"]) for body in bodies}
        if unasked := delivery.parts.keys() - wanted:
            raise Broken(f"nobody asked for {sorted(unasked)}")
        for part in delivery.parts.values():
            part.printed = delivery.printed
        told = self.eventbridge.accepted[self._checked :]
        self._checked = len(self.eventbridge.accepted)
        for target, trial in self.trials.items():
            invariants.nobody_alive_has_ended(
                [each for each in told if _of(each) == target[1:]], trial.alive()
            )
        TALLY["sweeps by message"] += len(delivery.parts)

    def call(self, client: BaseClient, operation: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out a call of an invocation, as one of the sweep of the target that it names."""
        delivery = self.run
        if not isinstance(delivery, Delivery) or operation == "AssumeRole":
            return super().call(client, operation, params)
        part = self._part(delivery, client, params)
        with self.floor(part):
            try:
                return super().call(client, operation, params)
            finally:
                delivery.dead = part.dead

    def _part(self, delivery: Delivery, client: BaseClient, params: Mapping[str, Any]) -> Run:
        signs_as = vars(client).get("signs_as")
        if signs_as:
            key, region = signs_as
            named = {TargetId("aws", self.roles.given[key][0] if key else ACCOUNT_ID, region)}
        elif "Entries" in params:
            named = {TargetId("aws", *_of(entry)) for entry in params["Entries"]}
        else:
            said = repr(params)
            named = {each for each in self.trials if f"#{each.account_id}#{each.region}" in said}
        if len(named) != 1:
            raise Broken(f"one call for {sorted(named)}")
        target = named.pop()
        part = delivery.parts.get(target)
        if part is None:
            assert delivery.container
            # The sweep begins before it reads the table.
            part = Run(
                *(self, delivery.number, delivery.faults),
                begin=self.clock.now,
                deadline=delivery.deadline,
                environment=delivery.container.environment,
            )
            part.told = replace(delivery.container.told_of.setdefault(target, Told()))
            delivery.parts[target] = part
            self.trials[target].runs.append(part)
        delivery.latest = part
        return part

    def _carry_out(self, client: BaseClient, operation: str, params: Mapping[str, Any]) -> dict[str, Any]:
        signs_as = vars(client).get("signs_as")
        if signs_as:
            target = TargetId("aws", self.roles.account_of(signs_as[0]), signs_as[1])
            appstream: Service = self.trials[target].cloud.appstream
            self.services = {**self.services, "appstream": appstream}
        return super()._carry_out(client, operation, params)

    def _list_nothing(self) -> Callable[..., NoReturn]:
        """Return a method that does what NoAccess's does, and notes it among the calls."""
        real = NoAccess.list

        def list_nothing(no_access: NoAccess, *arguments: object) -> NoReturn:
            delivery = self.run
            assert isinstance(delivery, Delivery)
            assert delivery.latest
            self.calls += 1
            reason = no_access._reason
            delivery.latest.calls.append(Call(NO_ACCESS, NOTHING, self.clock.now, self.calls, error=reason))
            real(no_access, *arguments)

        return list_nothing

    def check(self, *, settled: bool = True) -> None:
        """Hold every promise against what has happened, for each target by itself."""
        whose: dict[str, tuple[str, str]] = {}
        told: dict[tuple[str, str], list[Entry]] = {}
        for entry in self.eventbridge.accepted:
            account, region = _of(entry)
            told.setdefault((account, region), []).append(entry)
            if whose.setdefault(invariants.event_id(entry), (account, region)) != (account, region):
                raise Broken(f"{invariants.event_id(entry)} is of two targets")
            for arn in entry["Resources"]:
                if arn.split(":")[3:5] != [region, account]:
                    raise Broken(f"an event of {account} {region} names {arn}")
        if unknown := told.keys() - {(each.account_id, each.region) for each in self.trials}:
            raise Broken(f"events of {sorted(unknown)}, which are no targets")
        table = self.dynamodb.tables["table"]
        for target, trial in self.trials.items():
            here = trial.cloud.dynamodb.tables["table"]
            mine = [name for name in table.partitions if f"#{target.account_id}#{target.region}" in name]
            here.partitions = {name: table.partitions[name] for name in mine}
            here.order = {name: table.order[name] for name in mine}
            trial.cloud.eventbridge.accepted = told.get((target.account_id, target.region), [])
            try:
                trial.check(settled=settled)
            except Broken as broken:
                raise Broken(f"{target.account_id} {target.region}: {broken}") from broken

    def settle(self) -> None:
        """Let everything recover, and sweep each target until it is known as it is.

        The container may find out first that its credentials have ended; then one sweep misses who is gone,
        and another ends them.
        """
        self.roles.shut.clear()
        self.roles.end_after.clear()
        for trial in self.trials.values():
            trial.cloud.appstream.fails = lambda _operation, _params: None
        for _ in range(3):
            self.clock.advance(60)
            for target in self.trials:
                self.deliver(0, self.message(target))


def _of(entry: Entry) -> tuple[str, str]:
    """Return account and region of which an event says that it is."""
    metadata = invariants.detail(entry["Detail"])["metadata"]
    return metadata["accountId"], metadata["region"]
