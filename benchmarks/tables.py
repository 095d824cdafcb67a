"""How the figures are shown: tables for the screen, and Markdown for the documentation."""

from collections.abc import Iterable

from rich.table import Table

from benchmarks.goals import Row
from benchmarks.runs import Figures


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
    table = Table("sessions", "scopes", "ms", "", "who", title="Medians")
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
    del measured, peaks
    lines = ["| figure | goal | measured | |", "|---|---|---|---|"]
    lines += [
        f"| {row.figure} | {row.goal} | {row.measured} | {'met' if row.met else 'missed'} |" for row in rows
    ]
    return "\n".join(lines) + "\n"
