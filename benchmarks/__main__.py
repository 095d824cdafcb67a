"""`make bench`: measures, shows the figures beside the goals, and writes both to .bench/."""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator

from rich.console import Console

from benchmarks import goals, page, tables, throttling
from benchmarks.contestants import ROOT, environment
from benchmarks.runs import Case, Figures, Scenario, as_json, run
from benchmarks.services import Estate, Services

OUT = ROOT / ".bench"
TIDE = (Scenario.MORNING, Scenario.LOGOFF)
QUIET = (Scenario.QUIET,)
STEADY = (Scenario.QUIET, Scenario.CHURN)
AUDITOR = ("auditor",)
EVERYBODY = ("auditor", "floor", "usual script")
POLICED = ("auditor", "with policies", "floor")
# Seconds that every call takes.
HERE, NEAR, FAR = 0.0, 0.02, 0.05


def cases(*, quick: bool) -> Iterator[Case]:
    """Return the runs, the small ones first."""
    for scopes in (1, 20, 500):
        yield Case(100, scopes, STEADY, (HERE, FAR), contestants=EVERYBODY)
        yield Case(100, scopes, TIDE, contestants=AUDITOR)
        yield Case(1_000, scopes, STEADY, (HERE, FAR))
    yield Case(1_000, 20, QUIET, contestants=("by turns",), rounds=4)
    yield Case(1_000, 20, STEADY, (HERE, NEAR), contestants=EVERYBODY, rounds=1)
    yield Case(1_000, 20, TIDE, (HERE, FAR), contestants=AUDITOR, rounds=1)
    yield Case(10_000, 20, STEADY, (HERE, NEAR, FAR), contestants=POLICED)
    if quick:
        return
    # Right after a tenth of it, to be held against it.
    yield Case(100_000, 20, STEADY, (HERE, FAR), rounds=3)
    yield Case(10_000, 1, QUIET, (HERE, FAR))
    yield Case(10_000, 500, QUIET, (HERE, FAR))
    yield Case(10_000, 20, QUIET, (HERE, NEAR), contestants=EVERYBODY, rounds=1)
    yield Case(10_000, 20, TIDE, contestants=AUDITOR, rounds=1)
    for workers in (4, 16, 32):
        yield Case(10_000, 20, QUIET, (FAR,), workers=workers, contestants=AUDITOR)
    # Its 2,000 pages come one after the other: at 50 ms that is 100 s, whoever lists them.
    yield Case(100_000, 1, QUIET, rounds=1)
    yield Case(100_000, 500, QUIET, (HERE, FAR), rounds=1)


def memory(sessions: int, *, tide: bool) -> list[Figures]:
    """Measure what a sweep takes at most, each kind in a process of its own."""
    services = Services(Estate(sessions, 20))
    figures = run(Case(sessions, 20, QUIET, contestants=AUDITOR, rounds=1), services)
    figures += run(Case(sessions, 20, (Scenario.COLD, *STEADY), contestants=AUDITOR, rounds=1), services)
    return figures + (run(Case(sessions, 20, TIDE, contestants=AUDITOR, rounds=1)) if tide else [])


def cold_start(rounds: int) -> dict[str, float]:
    """Measure the import and the clients in fresh processes by turns: least seconds of processor time."""
    start = "import time, sys; "
    end = "; print(time.process_time())"
    clients = (
        "import boto3; session = boto3.Session(region_name='eu-west-1'); "
        "[session.client(name) for name in ('appstream', 'dynamodb', 'events')]"
    )
    programs = {"boto3 with three clients": clients, "auditor": "import auditor"}
    paths = ":".join(str(ROOT / path) for path in ("layers/session_auditor", "functions/auditor"))
    times: dict[str, list[float]] = {name: [] for name in programs}
    # The first round only sees to the bytecode.
    for _ in range(rounds + 1):
        for name, program in programs.items():
            done = subprocess.run(
                [sys.executable, "-c", start + program + end],
                env=environment(8) | {"PYTHONPATH": paths},
                capture_output=True,
                text=True,
                check=True,
            )
            times[name].append(float(done.stdout.split()[-1]))
    return {name: min(seconds[1:]) for name, seconds in times.items()}


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="up to 10,000 sessions, four minutes")
    parser.add_argument("--all", action="store_true", help="100,000 who come and go, too: five minutes more")
    options = parser.parse_args()
    quick: bool = options.quick
    console = Console(width=150)
    began = time.monotonic()
    figures: list[Figures] = []
    for case in cases(quick=quick):
        label = f"{case.sessions:,} sessions in {case.scopes} scopes"
        with console.status(label):
            figures += run(case)
        console.print(f"{time.monotonic() - began:5.0f} s  {label}", highlight=False, style="dim")
    starts = cold_start(9 if quick else 15)
    peaks = memory(20_000, tide=True)
    if not quick:
        peaks += memory(100_000, tide=options.all)
    rows = goals.rows(figures, peaks, starts) + goals.board_page(page.measure())
    if not quick:
        rows += goals.throttled(throttling.measure(1), throttling.measure(2))
    console.print(tables.figures([*figures, *peaks]))
    console.print(tables.goals(rows))
    OUT.mkdir(exist_ok=True)
    (OUT / "tables.md").write_text(tables.markdown(figures, peaks, rows))
    results = {
        "goals": [row._asdict() for row in rows],
        "cold start": starts,
        "figures": [as_json(each) for each in (*figures, *peaks)],
    }
    (OUT / "results.json").write_text(json.dumps(results, indent=1))
    console.print(f"{time.monotonic() - began:.0f} s; results.json and tables.md are in {OUT.name}")


if __name__ == "__main__":
    main()
