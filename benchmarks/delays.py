"""`make bench OF=delays`: how long after a change in AppStream people are told, for 500 targets.

The dispatcher's own handler asks for sweeps on a clock of ours; what follows is a model: the queue, with
batches and workers as the template has them, the sweep, the bus, and Slack's notifier without a digest. With
`LOCAL=15` the whole way is taken in the local cloud instead, in real time.
"""

import argparse
import heapq
import importlib.util
import os
import random
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout, suppress
from datetime import UTC, datetime, timedelta
from io import StringIO
from queue import Empty
from typing import Any, NamedTuple
from unittest.mock import patch

import botocore.client

from benchmarks.contestants import ROOT
from benchmarks.goals import Row
from sandbox.cloud import REGION, local_cloud, parsed, wait_for
from sandbox.hub import DESIGN, LAB, SALES, WEBHOOK, Hub, begins, drops
from sandbox.vendors.slack import slack
from session_auditor.messages import read_message
from session_auditor.model import WHOLE_TARGET, AuthenticationMode, Gap, Target, TargetId
from session_auditor.table import StoredTarget, Table

TARGETS = 500
MINUTES, CHANGES = 30, 5_000
BEGIN = datetime(2026, 3, 2, 8, tzinfo=UTC)
# Median and p95 in seconds, by SweepEvery.
GOALS = {60: (35, 65), 30: (18, 34), 15: (10, 18)}


class Hops(NamedTuple):
    """Seconds that each step takes; none of them was measured at AWS.

    `handed_on`: from a message in a queue to the function; Lambda polls all the time, and waits for no window
    where none is set. `listed`, `swept`: from a sweep's begin to its listing, and to its end, with 100
    sessions and 50 ms a call; `published`: what a change takes more. `sent`: a call with ten messages. `bus`:
    from PutEvents to the rule's queue; EventBridge's users report a tenth of a second and, some years ago,
    half a second. `post`: the notifier, with a webhook that answers. `scheduler`: how late a schedule is,
    which has a precision of 60 seconds (EventBridge Scheduler, "Schedule types").
    """

    handed_on: float = 0.1
    listed: float = 0.2
    swept: float = 0.3
    sent: float = 0.025
    published: float = 0.15
    bus: float = 0.5
    post: float = 0.5
    scheduler: float = 0.0


ASSUMED, NO_TIME = Hops(), Hops(*[0.0] * 8)
# Seconds: what a target is given that hangs; a batch that is short of time leaves its last targets to their
# next messages, and so does a message that is void.
GIVEN_UP, TIME_LIMIT, MARGIN, VOID = 15.0, 50.0, 15.0, 60.0


class Asked(NamedTuple):
    """A message: the seconds at which it can be received, at which it is due, and its target's number."""

    at: float
    due: float
    target: int


def targets() -> list[TargetId]:
    """Return the targets of the estate."""
    return [TargetId("aws", f"{number * 7919 + 1:012d}", "eu-west-1") for number in range(TARGETS)]


def asked(
    sweep_every: int,
    hops: Hops = ASSUMED,
    hanging: frozenset[int] = frozenset(),
    minutes: int = MINUTES,
) -> list[Asked]:
    """Return what the dispatcher asks for, as the queue hands it out.

    Each minute it is invoked as late as the hops say.
    """
    each = targets()
    number = {target: place for place, target in enumerate(each)}
    layouts = {target: Table("table", target, timedelta()) for target in each}
    items = {
        layouts[target].partition["S"]: _item(layouts[target], hangs=place in hanging)
        for place, target in enumerate(each)
    }
    now = BEGIN.timestamp()
    found: list[Asked] = []

    def answer(client: Any, operation: str, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        nonlocal now
        del client
        now += hops.sent
        if operation == "BatchGetItem":
            (request,) = parameters["RequestItems"].values()
            return {"Responses": {"table": [items[key["pk"]["S"]] for key in request["Keys"]]}}
        assert operation == "SendMessageBatch", operation
        for entry in parameters["Entries"]:
            message = read_message(entry["MessageBody"])
            assert message
            target = number[TargetId("aws", message.account_id, message.region)]
            at, due = now + entry["DelaySeconds"], message.due.timestamp()
            found.append(Asked(at - BEGIN.timestamp(), due - BEGIN.timestamp(), target))
        return {}

    # What it says and counts is for nobody here.
    with patch.object(botocore.client.BaseClient, "_make_api_call", answer), redirect_stdout(StringIO()):
        function = _dispatcher(sweep_every)
        function.now = lambda: datetime.fromtimestamp(now // 1, UTC)
        for minute in range(minutes):
            scheduled = BEGIN + timedelta(minutes=minute)
            now = scheduled.timestamp() + hops.scheduler
            function.handler({"scheduledTime": f"{scheduled:%Y-%m-%dT%H:%M:%SZ}"}, _Context())
    return sorted(found)


def _item(layout: Table, *, hangs: bool) -> Mapping[str, Any]:
    gaps = (Gap(WHOLE_TARGET, BEGIN, None, "ReadTimeoutError"),) if hangs else ()
    known = Target(BEGIN, BEGIN, BEGIN, AuthenticationMode.UNFILTERED, gaps=gaps)
    item: Mapping[str, Any] = layout.put_target(0, StoredTarget(known, 1, (), (), 0, 0))["Put"]["Item"]
    return item


class _Context:
    aws_request_id = "00000000-0000-4000-8000-000000000000"

    def get_remaining_time_in_millis(self) -> int:
        return 50_000


def _dispatcher(sweep_every: int) -> Any:
    accounts = ",".join(target.account_id for target in targets())
    environment = {
        "TABLE_NAME": "table",
        "QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/123456789012/due",
        "TARGET_ACCOUNT_ID": "123456789012",
        "TARGET_REGION": "eu-west-1",
        "TARGETS": accounts,
        "SWEEP_EVERY": str(sweep_every),
        "AUTHENTICATION_TYPES": "API",
        "POWERTOOLS_SERVICE_NAME": "dispatcher",
        "POWERTOOLS_METRICS_NAMESPACE": "simulation",
        "POWERTOOLS_LOG_LEVEL": "CRITICAL",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    with patch.dict(os.environ, environment):
        spec = importlib.util.spec_from_file_location(
            "dispatcher", ROOT / "functions/dispatcher/dispatcher.py"
        )
        assert spec
        assert spec.loader
        function = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(function)
    return function


class Swept(NamedTuple):
    """A sweep: its target's number, when it was due and began, saw its sessions, and told of them."""

    target: int
    due: float
    begun: float
    listed: float
    told: float


def swept(
    messages: list[Asked], hops: Hops = ASSUMED, hanging: frozenset[int] = frozenset()
) -> Iterator[Swept]:
    """Return the sweeps of the targets that do not hang, as workers come to them.

    A worker takes what it finds, up to a batch, and sweeps that one by one.
    """
    mapping = parsed((ROOT / "functions/dispatcher/template.yaml").read_text())["Resources"]["SweepsDue"]
    batch_size = mapping["Properties"]["BatchSize"]
    workers = [0.0] * mapping["Properties"]["ScalingConfig"]["MaximumConcurrency"]
    last = [-VOID] * TARGETS
    first = 0
    while first < len(messages):
        invoked = now = max(heapq.heappop(workers), messages[first].at + hops.handed_on)
        batch = [each for each in messages[first : first + batch_size] if each.at <= now]
        first += len(batch)
        for message in batch:
            void = now - message.due > VOID or now - invoked > TIME_LIMIT - MARGIN
            if void or last[message.target] >= message.due:
                continue
            if message.target in hanging:
                now += GIVEN_UP
                continue
            last[message.target] = now // 1
            told = now + hops.swept + hops.published + hops.bus + hops.handed_on + hops.post
            yield Swept(message.target, message.due, now, now + hops.listed, told)
            now += hops.swept
        heapq.heappush(workers, now)


def delays(sweeps: Iterator[Swept], minutes: int = MINUTES) -> list[float]:
    """Return after how many seconds people are told of changes at random moments, sorted.

    Each is alone: of many at once, Slack takes one a second.
    """
    by_target: dict[int, list[Swept]] = {}
    for each in sweeps:
        by_target.setdefault(each.target, []).append(each)
    generator = random.Random(0)  # noqa: S311 - to replay, not to hide
    found = []
    for _ in range(CHANGES):
        at = generator.uniform(180, 60 * minutes - 180)
        sweep = next(each for each in by_target[generator.choice(list(by_target))] if each.listed >= at)
        found.append(sweep.told - at)
    return sorted(found)


def lateness(sweeps: Iterator[Swept]) -> list[float]:
    """Return how many seconds after they were due sweeps began, sorted."""
    return sorted(each.begun - each.due for each in sweeps)


def quantile(figures: list[float], percent: int) -> float:
    """Return the figure that so many percent do not exceed."""
    return figures[min(len(figures) - 1, len(figures) * percent // 100)]


class Change(NamedTuple):
    """A session that began, or whose connection dropped, and when."""

    kind: str
    user: str
    at: float


def local(sweep_every: int, seconds: float, pause: float) -> tuple[list[float], list[float]]:
    """Measure in the local cloud, in real time: a hub of three accounts, as it is deployed.

    Every `pause` seconds on average a session begins or a connection drops somewhere. Returns after how many
    seconds each was observed, in whole ones, and after how many Slack's vendor had its message, both sorted;
    raises Empty if a message does not come.
    """
    generator = random.Random(sweep_every)  # noqa: S311 - to replay, not to hide
    settings = {
        "SweepEvery": str(sweep_every),
        "SlackWebhook": WEBHOOK,
        "Notices": "everything",
        "DigestSeconds": "0",
    }
    with slack() as channel, local_cloud(iam=True) as cloud:
        cloud.client("ssm").put_parameter(Name=WEBHOOK, Value=channel.url, Type="SecureString")
        hub = Hub(cloud, (SALES, DESIGN, LAB), (REGION,), **settings)
        for account in hub.accounts:
            hub.let_in(account)
        table = hub.stack.outputs["SessionsTableName"]

        def are_known() -> bool:
            items = cloud.client("dynamodb").scan(TableName=table)["Items"]
            return len([each for each in items if "last_begin" in each["state"]["S"]]) == len(hub.accounts)

        cloud.client("lambda").invoke(FunctionName=hub.stack.outputs["DispatcherFunctionName"])
        wait_for(are_known, 180, "the accounts to be swept")
        # Until the schedule asks, and every container is warm.
        time.sleep(90)
        told: dict[tuple[str, str], float] = {}
        changes: list[Change] = []

        def receive(patience: float) -> None:
            message = str(channel.received.get(timeout=patience))
            kind = "Started" if "Session Started" in message else "Disconnected"
            # More than three of a type in a batch are one message, with their names.
            for user in re.findall(r"user\d+", message):
                told.setdefault((kind, user), time.time())

        end, due = time.time() + seconds, time.time()
        streaming: list[tuple[str, str, float]] = []
        while time.time() < end or len(told) < len(changes):
            if due <= time.time() < end:
                due += generator.expovariate(1 / pause)
                # Who began within two intervals may not have been seen yet.
                seen = [each for each in streaming if time.time() - each[2] > 2 * sweep_every + 5]
                if seen and generator.random() < 0.5:
                    user, account, _ = seen[0]
                    streaming.remove(seen[0])
                    drops(user, account)(hub)
                    changes.append(Change("Disconnected", user, time.time()))
                else:
                    user, account = f"user{len(changes)}", generator.choice(hub.accounts)
                    begins(user, account)(hub)
                    changes.append(Change("Started", user, time.time()))
                    streaming.append((user, account, time.time()))
            with suppress(Empty):
                receive(0.02)
            if time.time() > end + 3 * sweep_every + 60:
                raise Empty
        observed: dict[tuple[str, str], float] = {}
        for event in hub.told():
            user = event["detail"]["data"]["session"]["userId"].partition("@")[0]
            at = datetime.fromisoformat(event["detail"]["metadata"]["observedAt"]).timestamp()
            observed.setdefault((event["detail-type"].rpartition(" ")[2], user), at)
        keys = {(each.kind, each.user): each.at for each in changes}
        return sorted(observed[key] - keys[key] for key in keys), sorted(
            told[key] - keys[key] for key in keys
        )


def rows() -> Iterator[Row]:
    """Hold the simulation against the goals: the worse of a schedule kept at once, and a minute late."""
    for every, (median, most) in GOALS.items():
        kept = [ASSUMED, ASSUMED._replace(scheduler=59.0)]
        found = [delays(swept(asked(every, hops), hops)) for hops in kept]
        worst = [max(quantile(each, percent) for each in found) for percent in (50, 95)]
        measured = f"{worst[0]:.1f} / {worst[1]:.1f} s"
        met = worst[0] <= median and worst[1] <= most
        yield Row(f"told after, every {every} s", f"<= {median} / {most} s", measured, met)
    hanging = frozenset(range(0, TARGETS, 20))
    for every in GOALS:
        late = lateness(swept(asked(every, hanging=hanging), hanging=hanging))
        measured = f"{quantile(late, 50):.1f} / {quantile(late, 95):.1f} s, none over {late[-1]:.1f} s"
        met = quantile(late, 95) <= every
        yield Row(f"others late where 5 % hang, every {every} s", f"p95 <= {every} s", measured, met)


def main() -> None:
    """Simulate, or measure in the local cloud, and write the rows of the documentation."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.delays", description=__doc__)
    parser.add_argument("--local", type=int, choices=[*GOALS], help="measure with this SweepEvery")
    parser.add_argument("--seconds", type=float, default=600, help="for how long there are changes")
    parser.add_argument("--pause", type=float, default=10, help="seconds between two of them, on average")
    options = parser.parse_args()
    out = sys.stdout
    if options.local:
        observed, told = local(options.local, options.seconds, options.pause)
        out.write(f"every {options.local} s, {len(told)} changes, one in {options.pause:g} s: ")
        for what, found in (("observed", observed), ("told", told)):
            out.write(f"{what} {quantile(found, 50):.1f} / {quantile(found, 95):.1f} s ")
        out.write(f"none over {told[-1]:.1f} s\n")
        return
    for row in rows():
        out.write(f"| {row.figure} | {row.goal} | {row.measured} | {'met' if row.met else 'missed'} |\n")


if __name__ == "__main__":
    main()
