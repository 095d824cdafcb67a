"""A daily sessions report of AppStream: lines of text in, rows out, one at a time.

Columns are found by the header, so that their order, and columns that are added, do not matter. It knows
nothing of buckets and of the auditor.
"""

import csv
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from session_auditor.model import Scope

_NEEDED = (
    "user_session_id",
    "session_start_time",
    "session_end_time",
    "user_id",
    "authentication_type",
    "fleet_name",
    "stack_name",
)
# The report's word for users of streaming URLs (Administration Guide, sessions report fields).
_AUTHENTICATION_TYPES = {"CUSTOM": "API"}
_BYTE_ORDER_MARK = "\ufeff"


class ReportError(Exception):
    """What was read is no sessions report; the text says why."""


class ReportRow(NamedTuple):
    """A session that ended, as AWS reports it; `account_id` and `region` are "" if the report has neither.

    `authentication_type` is called as describe_sessions calls it.
    """

    session_id: str
    scope: Scope
    user_id: str
    authentication_type: str
    account_id: str
    region: str
    start: datetime
    end: datetime


class UsageReport:
    """The rows of a report, read once; `broken` counts the lines so far that are no row.

    A line is a row by itself: a quote that is not closed spoils one row, not those below it. Raises
    ReportError if the header lacks a column that is needed. A report without any line has no rows.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self.broken = 0
        self._lines = (line for line in lines if line.strip())
        # Thousands of rows have the same few scopes: each is kept once.
        self._scopes: dict[Scope, Scope] = {}
        header = next(self._lines, None)
        self._width = 0
        self._columns: Mapping[str, int] = {}
        if header is not None:
            names = _names(header)
            self._width = len(names)
            self._columns = {name: number for number, name in enumerate(names)}

    def __iter__(self) -> Iterator[ReportRow]:
        for line in self._lines:
            try:
                row = self._row(_cells(line))
            except (csv.Error, OverflowError, ValueError):
                self.broken += 1
            else:
                yield row

    def _row(self, cells: Sequence[str]) -> ReportRow:
        """Return a row; raise ValueError for what is none, and OverflowError for a time beyond all times."""
        if len(cells) != self._width:
            raise ValueError("cells are missing, or a comma is in one without quotes")
        texts = [cells[self._columns[name]] for name in _NEEDED]
        session_id, start, end, user_id, kind, fleet, stack = texts
        if not (session_id and fleet and stack):
            raise ValueError("nothing says which session it is")
        row = ReportRow(
            session_id=session_id,
            scope=self._scopes.setdefault(scope := Scope(stack, fleet), scope),
            user_id=sys.intern(user_id),
            authentication_type=sys.intern(_AUTHENTICATION_TYPES.get(kind, kind)),
            account_id=self._optional(cells, "aws_account_id"),
            region=self._optional(cells, "region"),
            start=_time(start),
            end=_time(end),
        )
        if row.end < row.start:
            raise ValueError("it ends before it starts")
        return row

    def _optional(self, cells: Sequence[str], name: str) -> str:
        number = self._columns.get(name)
        return "" if number is None else sys.intern(cells[number])


def _names(header: str) -> list[str]:
    try:
        names = [cell.strip().lower() for cell in _cells(header.removeprefix(_BYTE_ORDER_MARK))]
    except csv.Error:
        raise ReportError("its first line is no header") from None
    missing = [name for name in _NEEDED if name not in names]
    if missing:
        columns = "column" if len(missing) == 1 else "columns"
        raise ReportError(f"it lacks the {columns} {', '.join(missing)}")
    return names


def _cells(line: str) -> list[str]:
    """Return the cells of a line; raise csv.Error."""
    return next(csv.reader([line.rstrip("\r\n")], strict=True))


def _time(text: str) -> datetime:
    """Return a time, which is UTC if it does not say; raise ValueError and OverflowError."""
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC).replace(microsecond=0)
