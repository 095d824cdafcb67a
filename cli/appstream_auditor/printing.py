"""How answers are shown: tables as wide as the terminal, JSON, CSV that no spreadsheet runs.

User ids are text of unknown origin: whatever a terminal or a spreadsheet would act on is made harmless here.
"""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, tzinfo
from enum import StrEnum
from typing import Any

from pydantic import BaseModel
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

# Columns of a table that goes into a file or a pipe.
UNBOUNDED = 1_000
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
# What a spreadsheet takes for a formula (OWASP, CSV injection).
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")


class Output(StrEnum):
    """In which form an answer is shown."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def to_terminal() -> Console:
    """Return where answers go: without colours where nobody looks or NO_COLOR is set.

    It is as wide as the terminal, or as COLUMNS says; a file or a pipe gets whole lines.
    """
    plain: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}
    console = Console(**plain)
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(**plain, width=UNBOUNDED)


def to_errors() -> Console:
    """Return where progress and problems go."""
    return Console(stderr=True, markup=False, emoji=False, highlight=False, soft_wrap=True)


def harmless(text: str) -> str:
    """Return text of unknown origin without anything that a terminal acts on or does not show."""
    return "".join(each if each.isprintable() else REPLACEMENT for each in text)


def print_json(answer: BaseModel) -> None:
    """Print an answer as JSON, in ASCII: nothing in it reaches a terminal as a control character."""
    print(answer.model_dump_json(by_alias=True, indent=2, ensure_ascii=True))


def print_csv(rows: Sequence[BaseModel], model: type[BaseModel]) -> None:
    """Print rows as CSV with a header; lists are counted."""
    columns = [field.alias or name for name, field in model.model_fields.items()]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        values: Mapping[str, Any] = row.model_dump(by_alias=True)
        writer.writerow([_cell(values[column]) for column in columns])
    print(text.getvalue(), end="")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple | list):
        return str(len(value))
    if isinstance(value, int):
        return str(value).lower() if isinstance(value, bool) else str(value)
    text = harmless(str(value))
    return f"'{text}" if text.startswith(_FORMULAS) else text


@dataclass(frozen=True)
class Column:
    """A column of a table: where there is no room for all, those of the highest rank go first.

    An `elastic` one may be narrowed instead, and one with a `cut` be cut to so many characters.
    """

    name: str
    cells: Sequence[str | Text]
    rank: int
    right: bool = False
    elastic: bool = False
    cut: int = 0


def table(columns: Sequence[Column], width: int) -> Table:
    """Return a table without lines that fits the width."""
    shown = Table(box=None, pad_edge=False, header_style="bold", show_edge=False, padding=(0, 1))
    kept = fitting([_harmless(column) for column in columns], width)
    missing = max(0, sum(map(_widest, kept)) + GAP * (len(kept) - 1) - width)
    for column in kept:
        # Rich would narrow whichever it likes.
        widest = _widest(column)
        narrower = min(missing, max(0, widest - ELASTIC_WIDTH)) if column.elastic else 0
        missing -= narrower
        shown.add_column(
            column.name,
            justify="right" if column.right else "left",
            overflow="ellipsis",
            no_wrap=True,
            max_width=widest - narrower,
        )
    for row in zip(*(column.cells for column in kept), strict=True):
        shown.add_row(*row)
    return shown


def fitting(columns: Sequence[Column], width: int) -> list[Column]:
    """Return the columns that there is room for, some cut, without those of the highest rank."""
    kept = list(columns)
    while len(kept) > 1 and _width(kept) > width:
        uncut = [column for column in kept if column.cut and _widest(column) > column.cut]
        if uncut:
            column = uncut[0]
            cells = [str(cell)[: column.cut] for cell in column.cells]
            kept[kept.index(column)] = replace(column, cells=cells, cut=0)
            continue
        least = max(kept, key=lambda column: column.rank)
        if least.rank == 0:
            break
        kept.remove(least)
    return kept


# A user id is seldom longer than that, and the rest of a long one seldom matters.
ELASTIC_WIDTH = 20
# A space on each side of a column, but not at the edges.
GAP = 2


def _width(columns: Sequence[Column]) -> int:
    widths = [min(_widest(each), ELASTIC_WIDTH) if each.elastic else _widest(each) for each in columns]
    return sum(widths) + GAP * (len(columns) - 1)


def _widest(column: Column) -> int:
    return max(cell_len(str(cell)) for cell in (column.name, *column.cells))


def _harmless(column: Column) -> Column:
    return replace(
        column, cells=[cell if isinstance(cell, Text) else Text(harmless(cell)) for cell in column.cells]
    )


def counted(number: int, what: str) -> str:
    """Return a number of things, such as 1 session or 2 sessions."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def zone_of(*, utc: bool) -> tzinfo | None:
    """Return UTC if that is asked for; else None, which stands for the reader's own zone."""
    return UTC if utc else None
