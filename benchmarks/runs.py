"""Makes sweeps in fresh processes and measures them: wall, processor time, memory, and what was asked of AWS.

The contestants of a run share one process and the same services and take turns, so that whatever else
the machine does falls on all alike. What is told of a run are medians, and the least processor time.
"""

import gc
import os
import sys
import time
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from tempfile import TemporaryFile
from threading import Thread
from typing import Any

import time_machine

from benchmarks.contestants import CONTESTANTS, Sweep, enter
from benchmarks.services import Estate, Services, Wire, serve


class Scenario(StrEnum):
    """What happened since the sweep before."""

    BASELINE = "first sweep"
    QUIET = "quiet"
    CHURN = "1 % churn"
    MORNING = "morning log-in"
    LOGOFF = "mass log-off"
    COLD = "quiet, cold"


@dataclass(frozen=True)
class Case:
    """A run: how large the estate is, how far away AWS is in seconds, who takes part, and how often."""

    sessions: int
    scopes: int
    scenarios: tuple[Scenario, ...] = (Scenario.QUIET, Scenario.CHURN)
    latencies: tuple[float, ...] = (0.0,)
    workers: int = 8
    contestants: tuple[str, ...] = ("auditor", "floor")
    rounds: int = 5


@dataclass
class Figures:
    """A contestant's sweeps in a scenario, summed up; times in seconds, memory in MB.

    `pages` are those of every scope, when the sweep began.
    """

    case: Case
    contestant: str
    scenario: Scenario
    latency: float
    wall: float
    cpu: float
    peak: float
    counts: dict[str, float] = field(default_factory=dict)
    pages: list[int] = field(default_factory=list)

    def calls(self, *operations: str) -> int:
        """Count the calls of these operations, of all if none is named."""
        return int(
            sum(
                count
                for name, count in self.counts.items()
                if name[0].isupper()
                and not name.endswith("Exception")
                and (not operations or name in operations)
            )
        )


def run(case: Case, services: Services | None = None) -> list[Figures]:
    """Run a case in a fresh process, on services that may remember earlier ones."""
    services = services or Services(Estate(case.sessions, case.scopes))
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    results, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(case, theirs, sender))
    process.start()
    theirs.close()
    sender.close()
    Thread(target=serve, args=(services, ours), daemon=True).start()
    figures: list[Figures] = []
    try:
        figures = results.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"{case} ended with {process.exitcode}") from None
    process.join()
    return figures


def _measured(case: Case, connection: Connection, sender: Connection) -> None:
    enter(case.workers)
    with TemporaryFile() as log:
        # What Lambda would send to CloudWatch; Logger keeps the stream that it was made with.
        sys.stdout.flush()
        os.dup2(log.fileno(), 1)
        wire = Wire(connection)
        sweeps = {name: CONTESTANTS[name](case.workers) for name in case.contestants}
        sender.send(_Rounds(case, wire, sweeps).figures())


class _Rounds:
    def __init__(self, case: Case, wire: Wire, sweeps: dict[str, Sweep]) -> None:
        self._case, self._wire, self._sweeps = case, wire, sweeps
        self._measured: dict[tuple[str, Scenario, float], list[Figures]] = {}

    def figures(self) -> list[Figures]:
        """Make the sweeps and sum them up."""
        wanted = frozenset(self._case.scenarios)
        if Scenario.COLD in wanted:
            self._turns(Scenario.COLD)
        elif wanted & {Scenario.QUIET, Scenario.CHURN}:
            # The first records who is there, the second is the first that finds nothing to write.
            for _ in range(2):
                self._turns(Scenario.BASELINE)
        if Scenario.QUIET in wanted:
            for latency in self._case.latencies:
                self._wire.latency = latency
                # Waiting is the same every time, so few do.
                for _ in range(min(3, self._case.rounds) if latency else self._case.rounds):
                    self._turns(Scenario.QUIET)
        if Scenario.CHURN in wanted:
            self._wire.latency = 0.0
            for _ in range(self._case.rounds):
                self._wire.order("churn")
                self._turns(Scenario.CHURN)
        if Scenario.MORNING in wanted:
            self._come_and_go()
        return [
            replace(
                rounds[-1],
                wall=median(each.wall for each in rounds),
                # Whatever else the machine does can only add to it.
                cpu=min(each.cpu for each in rounds),
                peak=max(each.peak for each in rounds),
            )
            for rounds in self._measured.values()
        ]

    def _come_and_go(self) -> None:
        self._wire.latency = 0.0
        self._wire.order("empty")
        for _ in range(2):
            self._turns(Scenario.BASELINE)
        for latency in self._case.latencies:
            self._wire.latency = latency
            for _ in range(1 if latency else self._case.rounds):
                self._wire.order("fill")
                self._turns(Scenario.MORNING)
                self._wire.order("empty")
                # Missing once proves nothing: the second sweep ends them.
                self._turns(Scenario.LOGOFF, sweeps=2)

    def _turns(self, scenario: Scenario, sweeps: int = 1) -> None:
        pages = self._wire.order("pages")
        for contestant, sweep in self._sweeps.items():
            # One call after the other: what the usual script waits for is known without waiting.
            if contestant == "usual script" and self._wire.latency:
                continue
            gc.collect()
            self._wire.order("counts")
            logged = os.fstat(1).st_size
            wall, cpu = time.perf_counter(), time.process_time()
            for number in range(sweeps):
                # A minute lies between two sweeps: missing twice within half of one proves nothing.
                with time_machine.travel(timedelta(minutes=number), tick=True):
                    sweep()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            sys.stdout.flush()
            counts = self._wire.order("counts") | {"bytes logged": os.fstat(1).st_size - logged}
            figures = Figures(
                self._case, contestant, scenario, self._wire.latency, wall, cpu, peak_memory(), counts, pages
            )
            self._measured.setdefault((contestant, scenario, self._wire.latency), []).append(figures)


def peak_memory() -> float:
    """Return the most memory that this process ever held, in MB.

    Not ru_maxrss: a process inherits that from the one that started it.
    """
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024


def as_json(figures: Figures) -> dict[str, Any]:
    """Return the figures as they are written to the results file."""
    case = figures.case
    return {
        "contestant": figures.contestant,
        "scenario": figures.scenario.value,
        "sessions": case.sessions,
        "scopes": case.scopes,
        "latency": figures.latency,
        "workers": case.workers,
        "wall": round(figures.wall, 4),
        "cpu": round(figures.cpu, 4),
        "peak": round(figures.peak, 1),
        "counts": figures.counts,
    }
