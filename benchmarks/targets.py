"""`make bench OF=targets`: what sweeping 500 targets takes, and what a month of it costs.

Measured are the processor time and the calls of a quiet sweep by message in a warm container, which kept the
target's sessions or has to read them; the rest is reckoned from the list prices, and from how long AWS is
assumed to take for a call.
"""

import gc
import importlib.util
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from math import exp
from multiprocessing import get_context
from multiprocessing.connection import Connection
from threading import Thread
from typing import Any, NamedTuple

from benchmarks.contestants import ROOT, _Invocation, environment
from benchmarks.services import Estate, Services, Wire, serve
from benchmarks.tables import GB_SECOND, MEMORY, MINUTES_A_DAY, SWEEPS, WORKING_DAYS
from sandbox.meter import PRICES
from session_auditor import auditors
from session_auditor.messages import Message

TARGETS, ROUNDS = 20, 10
SQS_REQUEST = 0.40 / 1e6
# Of the lines that Lambda writes for each invocation.
REPORT_BYTES = 350
CALL_SECONDS = 0.05
# Write units of a session's day and read units of a hundred sessions, as `make bench` counts them; calls that
# a sweep with a change makes beside: the transaction, the bus, the clearing.
SESSION_UNITS, READ_UNITS, MORE_CALLS = 37, 13, 3


class Quiet(NamedTuple):
    """A quiet sweep: seconds of processor time, and calls one after the other."""

    cpu: float
    calls: float

    @property
    def seconds(self) -> float:
        """How long it takes in a function of the default size, which has a share of a processor."""
        return self.calls * CALL_SECONDS + self.cpu * 1769 / MEMORY


def measure(sessions: int, *, kept: bool) -> Quiet:
    """Measure targets with so many sessions in a stack and fleet, which the container keeps or not."""
    services = Services(Estate(sessions, 1))
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    results, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(theirs, sender, kept))
    process.start()
    theirs.close()
    Thread(target=serve, args=(services, ours), daemon=True).start()
    measured: Quiet = results.recv()
    process.join()
    return measured


def _measured(connection: Connection, sender: Connection, kept: bool) -> None:
    if not kept:
        vars(auditors)["SESSIONS_KEPT"] = 0
    os.environ |= environment(8) | {"AUTHENTICATION_TYPES": "SAML", "TOPOLOGY_MINUTES": "5"}
    wire = Wire(connection)
    begin = datetime.now(UTC).replace(microsecond=0)
    keys = auditors.Keys(aws_access_key_id="a", aws_secret_access_key="s", aws_session_token="t")  # noqa: S106
    vars_of: Any = auditors.Auditors
    vars_of._assumed = lambda *_: auditors.Credentials(keys, begin + timedelta(days=1))
    spec = importlib.util.spec_from_file_location("auditor", ROOT / "functions/auditor/auditor.py")
    assert spec
    assert spec.loader
    function: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(function)
    seconds, calls = [], Counter[str]()
    # The first records who is there, the second reads it.
    for minute in range(ROUNDS + 2):
        now = begin + timedelta(minutes=minute)
        function.now = lambda now=now: now
        gc.collect()
        wire.order("counts")
        cpu = time.process_time()
        for account in range(TARGETS):
            message = Message(f"{account:012}", "eu-west-1", now)
            answer = function.handler({"Records": [{"body": message.text}]}, _Invocation())
            assert answer["outcomes"] == {"COMPLETED": 1}
        cpu = time.process_time() - cpu
        if minute >= 2:
            seconds.append(cpu / TARGETS)
            calls += Counter(
                {name: int(each) for name, each in wire.order("counts").items() if name[0].isupper()}
            )
    sender.send(Quiet(min(seconds), calls.total() / TARGETS / ROUNDS))


def costs(
    busy: int, empty: int, every: int, batch: int, quiet: dict[tuple[int, bool], Quiet]
) -> Iterator[float]:
    """Yield the dollars of a month by service: Lambda, DynamoDB, SQS, EventBridge, CloudWatch.

    `every` is the minutes between two sweeps of an empty target, `batch` the messages of an invocation.
    """
    # Messages come to containers at random, and each keeps the sessions of the targets of lately.
    known = min(1.0, auditors.SESSIONS_KEPT / (100 * busy))
    busy_seconds = known * quiet[100, True].seconds + (1 - known) * quiet[100, False].seconds
    sweeps = SWEEPS * (busy + empty / every)
    users = WORKING_DAYS * busy * 100
    changed = WORKING_DAYS * MINUTES_A_DAY * (1 - exp(-400 / MINUTES_A_DAY)) * busy
    # The dispatcher makes a call for a hundred targets, and one for ten messages.
    dispatcher = (busy + empty) / 100 + sweeps / SWEEPS / 10
    seconds = (
        SWEEPS * (busy * busy_seconds + empty / every * quiet[0, True].seconds + dispatcher * CALL_SECONDS)
        + changed * MORE_CALLS * CALL_SECONDS
    )
    yield seconds * MEMORY / 1024 * GB_SECOND + (sweeps / batch + SWEEPS) * PRICES["Lambda, request"]
    unknown = SWEEPS * busy * (1 - known)
    reads = sweeps + SWEEPS * (busy + empty) / 2 + (changed + unknown) * READ_UNITS
    yield (
        reads * PRICES["DynamoDB, read unit"]
        + (sweeps + users * SESSION_UNITS) * PRICES["DynamoDB, write unit"]
    )
    yield sweeps * (0.1 + 2 / batch) * SQS_REQUEST
    yield users * 4 * PRICES["EventBridge, event"]
    yield (
        2 * PRICES["CloudWatch, metric a month"]
        + 8 * PRICES["CloudWatch, alarm a month"]
        + (sweeps / batch + SWEEPS) * REPORT_BYTES / 1e9 * PRICES["CloudWatch, GB of logs"]
    )


def main() -> None:
    """Measure, and write the table of the documentation."""
    quiet = {
        (sessions, kept): measure(sessions, kept=kept)
        for sessions, kept in ((0, True), (100, True), (100, False))
    }
    out = sys.stdout
    for (sessions, kept), each in quiet.items():
        which = "kept" if kept else "read"
        out.write(
            f"{sessions} sessions, {which}: {each.cpu * 1000:.1f} ms of a processor, {each.calls:.1f} calls\n"
        )
    out.write("| targets | empty ones every | messages a batch ")
    out.write("| Lambda | DynamoDB | SQS | EventBridge | CloudWatch | a month")
    out.write(" |\n|---|---|---|---|---|---|---|---|---|\n")
    for busy, empty, every in ((50, 450, 4), (50, 450, 1), (500, 0, 1)):
        for batch in (1, 5):
            each_cost = list(costs(busy, empty, every, batch, quiet))
            row = " | ".join(f"{cost:.2f}" for cost in [*each_cost, sum(each_cost)])
            often = f"{every} min" if empty else ""
            out.write(f"| {busy} busy, {empty} empty | {often} | {batch} | {row} |\n")


if __name__ == "__main__":
    main()
