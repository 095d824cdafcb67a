"""How the figures are shown: tables for the screen, and Markdown for the documentation."""

from collections.abc import Iterable, Iterator
from math import exp

from rich.table import Table

from benchmarks.goals import Board, Row
from benchmarks.runs import Figures, Scenario
from sandbox.meter import PRICES, SECONDS_A_MONTH

SWEEPS = SECONDS_A_MONTH / 60
GB_SECOND = PRICES["Lambda, GB-second (arm64)"]
# The template's default, in MB.
MEMORY = 512
SIZES = (256, 512, 1024, 1769)
WORKING_DAYS, MINUTES_A_DAY = 22, 480


def goals(rows: Iterable[Row]) -> Table:
    """Show goals and figures side by side."""
    table = Table("figure", "goal", "measured", "", "bound", title="Goals")
    for row in rows:
        table.add_row(
            row.figure, row.goal, row.measured, "[green]met" if row.met else "[red]missed", row.bound
        )
    return table


def figures(measured: Iterable[Figures]) -> Table:
    """Show what was measured."""
    table = Table("sessions", "scopes", "ms", "", "who", title="Measured")
    for name in ("wall s", "CPU s", "AppStream", "DynamoDB", "PutEvents", "RU", "WU", "KB", "log KB"):
        table.add_column(name, justify="right")
    for each in measured:
        table.add_row(
            f"{each.case.sessions:,}",
            str(each.case.scopes),
            f"{each.latency * 1000:.0f}",
            each.scenario.value,
            each.contestant,
            f"{each.wall:.3f}",
            f"{each.cpu:.3f}",
            str(each.calls("DescribeSessions")),
            str(each.calls("Query", "GetItem", "PutItem", "TransactWriteItems")),
            str(each.calls("PutEvents")),
            f"{each.counts['read units']:,.0f}",
            f"{each.counts['write units']:,.0f}",
            f"{each.counts['bytes'] / 1024:,.0f}",
            f"{each.counts['bytes logged'] / 1024:,.1f}",
        )
    return table


def markdown(measured: list[Figures], peaks: list[Figures], rows: list[Row]) -> str:
    """Write the tables of the documentation."""
    board = Board(measured)
    lines = ["## Goals", "", "| figure | goal | measured | | bound |", "|---|---|---|---|---|"]
    lines += [
        f"| {row.figure} | {row.goal} | {row.measured} | {'met' if row.met else 'missed'} | {row.bound} |"
        for row in rows
    ]
    lines += ["", "## Cost", "", *_cost(board), "", "## Size", "", *_size(board, peaks)]
    return "\n".join(lines) + "\n"


def _cost(board: Board) -> Iterator[str]:
    services = "Lambda | DynamoDB | EventBridge | Scheduler | CloudWatch"
    yield f"| live sessions | {services} | a month | the usual script |"
    yield "|---|---|---|---|---|---|---|---|"
    one_change = _units(board, Scenario.CHURN, "events")
    start = _units(board, Scenario.MORNING, "events")
    end = _units(board, Scenario.LOGOFF, "events")
    churn = _of_1_000(board, Scenario.CHURN)
    for quiet in board.all(latency=0.05):
        if quiet.case.scopes != 20:
            continue
        sessions = quiet.case.sessions
        changes = WORKING_DAYS * sessions
        # Four changes of each session fall on the minutes of a working day by chance; a sweep after one that
        # wrote something reads the whole table.
        minutes = WORKING_DAYS * MINUTES_A_DAY * (1 - exp(-4 * sessions / MINUTES_A_DAY))
        read = minutes * churn.counts["read units"] / churn.case.sessions * sessions
        costs = (
            SWEEPS * (_seconds(quiet, MEMORY) * MEMORY / 1024 * GB_SECOND + PRICES["Lambda, request"]),
            SWEEPS * (_priced(quiet.counts["read units"], quiet.counts["write units"]))
            + _priced(read, changes * (start + 2 * one_change + end)),
            4 * changes * PRICES["EventBridge, event"],
            SWEEPS * PRICES["Scheduler, invocation"],
            10 * PRICES["CloudWatch, metric a month"]
            + 7 * PRICES["CloudWatch, alarm a month"]
            + SWEEPS * quiet.counts["bytes logged"] / 1e9 * PRICES["CloudWatch, GB of logs"],
        )
        # Two table calls a session, one after the other, at 50 ms each; a Lambda function has 15 minutes.
        seconds = 2 * sessions * 0.05
        usual = SWEEPS * (min(seconds, 900) * GB_SECOND / 4 + sessions * _priced(0.5, 1))
        row = " | ".join(f"{cost:.2f}" for cost in costs)
        late = "" if seconds < 60 else f", {seconds / 60:.0f} min a sweep"
        yield f"| {sessions:,} | {row} | {sum(costs):.2f} | {usual:,.0f}{late} |"


def _size(board: Board, peaks: list[Figures]) -> Iterator[str]:
    yield "| live sessions | peak memory | " + " | ".join(f"{size} MB" for size in SIZES) + " |"
    yield "|---|---|" + "---|" * len(SIZES)
    most = {
        sessions: max(each.peak for each in peaks if each.case.sessions == sessions)
        for sessions in {each.case.sessions for each in peaks}
    }
    for quiet in board.all(latency=0.05):
        if quiet.case.scopes != 20:
            continue
        times = {size: _seconds(quiet, size) for size in SIZES}
        cells = [
            f"{seconds:.1f} s, {SWEEPS * seconds * size / 1024 * GB_SECOND:.2f}"
            for size, seconds in times.items()
        ]
        peak = most.get(quiet.case.sessions, quiet.peak)
        yield f"| {quiet.case.sessions:,} | {peak:.0f} MB | " + " | ".join(cells) + " |"
    yield ""
    yield "| workers, 10,000 sessions in 20 scopes | a sweep at 50 ms |"
    yield "|---|---|"
    for workers in (4, 8, 16, 32):
        for each in board.all(latency=0.05, workers=workers):
            if (each.case.sessions, each.case.scopes) == (10_000, 20):
                yield f"| {workers} | {each.wall:.2f} s |"


def _seconds(quiet: Figures, size: int) -> float:
    """Estimate a sweep in a function of this size: it has one processor at 1,769 MB, a share of one below."""
    return quiet.wall - quiet.cpu + quiet.cpu / min(1.0, size / 1769)


def _of_1_000(board: Board, scenario: Scenario) -> Figures:
    return next(each for each in board.all(scenario=scenario) if each.case.sessions == 1_000)


def _units(board: Board, scenario: Scenario, per: str) -> float:
    counted = _of_1_000(board, scenario)
    return counted.counts["write units"] / counted.counts[per]


def _priced(read_units: float, write_units: float) -> float:
    return read_units * PRICES["DynamoDB, read unit"] + write_units * PRICES["DynamoDB, write unit"]
