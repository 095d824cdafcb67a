"""The goals, and what was measured of each: ratios of figures of one run, never times alone."""

from collections.abc import Iterable, Iterator
from math import ceil
from typing import NamedTuple

from benchmarks.page import PageFigures
from benchmarks.runs import Figures, Scenario
from benchmarks.throttling import Throttled


class Row(NamedTuple):
    """A goal beside what was measured; `bound` says what forbids more."""

    figure: str
    goal: str
    measured: str
    met: bool
    bound: str = ""


class Board:
    """The figures, found by what they are of."""

    def __init__(self, figures: Iterable[Figures]) -> None:
        self._figures = list(figures)

    def all(
        self,
        contestant: str = "auditor",
        *,
        scenario: Scenario = Scenario.QUIET,
        latency: float = 0.0,
        workers: int = 8,
    ) -> list[Figures]:
        """Return every figure of a kind."""
        return [
            each
            for each in self._figures
            if (each.contestant, each.scenario, each.latency, each.case.workers)
            == (contestant, scenario, latency, workers)
        ]

    def beside(self, figures: Figures, contestant: str) -> Figures | None:
        """Return another contestant's figures of the same run."""
        same = [
            each
            for each in self._figures
            if (each.case, each.scenario, each.latency) == (figures.case, figures.scenario, figures.latency)
            and each.contestant == contestant
        ]
        return same[0] if same else None


def wall_bound(figures: Figures) -> float:
    """The least time for a sweep: its listing, one read and one write of the table, in seconds."""
    latency, workers = figures.latency, figures.case.workers
    return max(*figures.pages, sum(figures.pages) / workers) * latency + 2 * latency


def python_bound(figures: Figures, floor: Figures) -> float:
    """The same for whole pages, each of which the floor computes before it asks for the next."""
    rounds = max(*figures.pages, ceil(sum(figures.pages) / figures.case.workers))
    computing = floor.cpu / sum(figures.pages)
    return rounds * (figures.latency + computing) + 2 * figures.latency


def place(figures: Figures) -> str:
    """Name an estate."""
    return f"{figures.case.sessions:,} in {figures.case.scopes}"


def rows(figures: list[Figures], peaks: list[Figures], starts: dict[str, float]) -> list[Row]:
    """Hold what was measured against the goals."""
    board = Board(figures)
    return [
        _pages(board),
        *_wall(board),
        *_processor(board),
        *_policies(board),
        _writes(board),
        _reads(board),
        *_turns(board),
        _churn(board),
        *_memory(peaks),
        _cold_start(starts),
        *_usual_script(board),
        *_growth(board),
    ]


def _pages(board: Board) -> Row:
    quiet = board.all()
    wrong = [place(each) for each in quiet if each.calls("DescribeSessions") != sum(each.pages)]
    measured = f"exactly, in {len(quiet)} estates" if not wrong else f"not in {', '.join(wrong)}"
    return Row("describe_sessions calls, quiet", "the pages that exist", measured, not wrong)


def _wall(board: Board) -> Iterator[Row]:
    for each in board.all(latency=0.05):
        ratio = each.wall / wall_bound(each)
        floor = board.beside(each, "floor")
        bound = ""
        if floor and ratio > 1.10:
            least = python_bound(each, floor) / wall_bound(each)
            bound = f"{least:.2f} x for whole pages and the floor's computing; the floor takes "
            bound += f"{floor.wall / wall_bound(each):.2f} x"
        yield Row(f"wall at 50 ms, {place(each)}", "<= 1.10 x bound", f"{ratio:.2f} x", ratio <= 1.10, bound)


def _processor(board: Board) -> Iterator[Row]:
    for each in board.all():
        floor = board.beside(each, "floor")
        if floor and each.case.sessions >= 1_000 and board.beside(each, "usual script") is None:
            ratio = each.cpu / floor.cpu
            yield Row(f"processor, quiet, {place(each)}", "<= 1.35 x floor", f"{ratio:.2f} x", ratio <= 1.35)


def _policies(board: Board) -> Iterator[Row]:
    for each in board.all("with policies"):
        without = board.beside(each, "auditor")
        if without:
            ratio = each.cpu / without.cpu
            units = [each.counts[name] for name in ("read units", "write units")]
            yield Row(
                f"processor with four policies, quiet, {place(each)}",
                "<= 1.15 x without",
                f"{ratio:.2f} x, {units[0]:.0f} and {units[1]:.0f} unit",
                ratio <= 1.15 and units == [1, 1],
            )


def _writes(board: Board) -> Row:
    quiet = board.all()
    items = max(each.counts["item writes"] for each in quiet)
    units = max(each.counts["write units"] for each in quiet)
    return Row(
        "writes of a quiet sweep", "1 item, 1 KB", f"{items:.0f} item, {units:.0f} unit", items == units == 1
    )


def _reads(board: Board) -> Row:
    units = {each.case.sessions: each.counts["read units"] for each in board.all()}
    measured = ", ".join(f"{count:,.0f} at {sessions:,}" for sessions, count in sorted(units.items()))
    return Row("read units of a quiet warm sweep", "not growing", measured, len(set(units.values())) == 1)


def _turns(board: Board) -> Iterator[Row]:
    for each in board.all("by turns"):
        units = [each.counts[name] for name in ("read units", "write units")]
        yield Row(
            f"two containers by turns, quiet, {place(each)}",
            "1 read, 1 write unit",
            f"{units[0]:.0f} and {units[1]:.0f} unit",
            units == [1, 1],
        )


def _churn(board: Board) -> Row:
    churned = [each for each in board.all(scenario=Scenario.CHURN) if each.case.sessions == 10_000]
    units = max(each.counts["write units"] / each.counts["events"] for each in churned)
    # An item with its event takes 2 KB, before as after; a transaction counts double.
    return Row(
        "write units a changed session",
        "8: commit and clear",
        f"{units:.2f}",
        units <= 8.1,
        "6 if each clear were a call of its own",
    )


def _memory(peaks: list[Figures]) -> Iterator[Row]:
    for sessions, limit, size in ((20_000, 192, 256), (100_000, 512, 512)):
        worst = [each for each in peaks if each.case.sessions == sessions]
        if worst:
            most = max(worst, key=lambda each: each.peak)
            yield Row(
                f"peak memory, {sessions:,} sessions",
                f"<= {limit} MB (of {size})",
                f"{most.peak:.0f} MB ({most.scenario})",
                most.peak <= limit,
            )


def _cold_start(starts: dict[str, float]) -> Row:
    ratio = starts["auditor"] / starts["boto3 with three clients"]
    return Row("cold start", "<= 1.25 x boto3", f"{ratio:.2f} x", ratio <= 1.25)


def _usual_script(board: Board) -> Iterator[Row]:
    for usual in board.all("usual script"):
        auditor = next((each for each in board.all(latency=0.02) if each.case == usual.case), None)
        if auditor is None:
            continue
        ratio = (usual.wall + usual.calls() * 0.02) / auditor.wall
        yield Row(
            f"against the usual script, 20 ms, {place(usual)}",
            ">= 20 x faster",
            f"{ratio:.0f} x",
            ratio >= 20,
        )
        tables = ("Query", "GetItem", "PutItem", "TransactWriteItems")
        fewer = usual.calls(*tables) / auditor.calls(*tables)
        yield Row(f"DynamoDB calls, quiet, {place(usual)}", ">= 100 x fewer", f"{fewer:,.0f} x", fewer >= 100)


def throttled(alone: Throttled, together: Throttled) -> list[Row]:
    """Hold sweeps under a rate limit against their goals."""
    used = ", ".join(f"{share:.0%}" for share in alone.used)
    totals = [sum(seconds) for seconds in together.seconds]
    apart = max(totals) / min(totals)
    least, most = alone.calls
    return [
        Row(
            "rate used, a warm function's sweeps",
            ">= 90 %",
            used,
            min(alone.used) >= 0.9,
            "botocore finds the rate out anew after each pause",
        ),
        Row("calls turned down", "<= 5 %", f"{alone.refused:.1%}", alone.refused <= 0.05),
        Row(
            "calls turned down, two functions",
            "<= 5 %",
            f"{together.refused:.1%}",
            together.refused <= 0.05,
            "each finds the rate out for itself",
        ),
        # A sweep that lacks a scope ends the benchmark.
        Row(
            "equal scopes under the limit",
            "as many calls each",
            f"all whole in every sweep, {least} to {most} calls each",
            most <= 1.5 * least,
        ),
        Row(
            "two functions at once",
            "none starves",
            f"the slower takes {apart:.2f} x",
            apart <= 1.5,
            "each finds the rate out for itself",
        ),
    ]


def _growth(board: Board) -> Iterator[Row]:
    by_place = {(each.case.sessions, each.case.scopes): each for each in board.all()}
    small, large = by_place.get((10_000, 20)), by_place.get((100_000, 20))
    if not (small and large):
        return
    floors = board.beside(small, "floor"), board.beside(large, "floor")
    bound = f"the floor takes {floors[1].cpu / floors[0].cpu:.1f} x" if floors[0] and floors[1] else ""
    for name, ratio in (("processor", large.cpu / small.cpu), ("memory", large.peak / small.peak)):
        yield Row(f"growth of {name}, 100,000 to 10,000", "<= 12 x", f"{ratio:.1f} x", ratio <= 12, bound)
        bound = ""


def board_page(figures: PageFigures) -> list[Row]:
    """The board's first page, beside reading the table that it shows."""
    ratio = figures.page / figures.reading
    return [
        Row("board, 10,000 sessions", "<= 1.5 x reading", f"{ratio:.2f} x", ratio <= 1.5),
        Row(
            "board, 10,000 sessions",
            "<= 300 KB",
            f"{figures.size / 1000:,.0f} KB",
            figures.size <= 300_000,
        ),
    ]
