"""Sweeps where AppStream allows fewer calls than the workers could make: what share of the rate they use.

Functions of one account share its rate: each sweeps in a process of its own, on the same services.
"""

import os
import time
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from threading import Thread
from typing import Any

from benchmarks.contestants import auditor, enter
from benchmarks.services import Estate, Services, Wire, serve

# DescribeSessions calls a second, of which a second's worth may come at once; workers could make 400.
RATE = 20.0
SESSIONS, SCOPES, WORKERS, LATENCY = 10_000, 40, 8, 0.02
SWEEPS = 3


@dataclass(frozen=True)
class Throttled:
    """What sweeps took: seconds, each sweep of each function; least and most calls, of all scopes.

    `refused` is the share of all calls that AppStream turned down.
    """

    seconds: list[list[float]]
    refused: float
    calls: tuple[int, int]

    @property
    def used(self) -> list[float]:
        """What share of the rate each sweep of the first function used."""
        pages = SESSIONS / 50
        return [(pages - RATE) / RATE / seconds for seconds in self.seconds[0]]


def measure(functions: int) -> Throttled:
    """Let warm functions sweep at once under the limit, a pause between two sweeps."""
    services = Services(Estate(SESSIONS, SCOPES))
    context = get_context("spawn")
    go = context.Event()
    ends: list[Connection] = []
    for _ in range(functions):
        ours, theirs = context.Pipe()
        receiver, sender = context.Pipe(duplex=False)
        context.Process(target=_sweeps, args=(theirs, sender, go)).start()
        theirs.close()
        sender.close()
        Thread(target=serve, args=(services, ours), daemon=True).start()
        ends.append(receiver)
        # Warm, one after the other.
        receiver.recv()
    services.answer(b"Benchmark.counts\n")
    services.answer(f"Benchmark.limit\n{RATE}".encode())
    go.set()
    seconds = [end.recv() for end in ends]
    counts, listed = services.counts, services.listed.values()
    refused = counts["ThrottlingException"] / counts["DescribeSessions"]
    return Throttled(seconds, refused, (min(listed), max(listed)))


def _sweeps(connection: Connection, sender: Connection, go: Any) -> None:
    enter(WORKERS)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    wire = Wire(connection)
    # Of two sweeps at once the slower is fenced off; it has listed as much.
    sweep = auditor(WORKERS, outcomes=("COMPLETED", "FENCED"))
    sweep()
    sender.send("warm")
    wire.latency = LATENCY
    go.wait()
    seconds = []
    for number in range(SWEEPS):
        if number:
            # Long enough for the limit to allow its burst again.
            time.sleep(2)
        began = time.perf_counter()
        sweep()
        seconds.append(time.perf_counter() - began)
    sender.send(seconds)
