"""A usage report is read by its header, row by row, and a broken row costs nothing but itself."""

import csv
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appstream_auditor.reconcile.usage_report import ReportError, ReportRow, UsageReport
from sandbox.appstream.usage_reports import COLUMNS, LATER_COLUMNS, report, row
from session_auditor.model import Scope

START, END = datetime(2026, 3, 2, 8, 0, 5, tzinfo=UTC), datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
ANN = row("s-1", START, END)
READ = ReportRow(
    session_id="s-1",
    scope=Scope("office", "cad"),
    user_id="ann@example.com",
    authentication_type="SAML",
    account_id="123456789012",
    region="eu-west-1",
    start=START,
    end=END,
)
NEEDED = (
    "user_session_id",
    "session_start_time",
    "session_end_time",
    "user_id",
    "authentication_type",
    "fleet_name",
    "stack_name",
)


def read(text: str) -> tuple[list[ReportRow], int]:
    found = UsageReport(text.splitlines(keepends=True))
    return list(found), found.broken


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(report([ANN]), id="30 columns"),
        pytest.param(report([ANN], LATER_COLUMNS), id="32 columns"),
        pytest.param(report([ANN], reversed(COLUMNS)), id="another order"),
        pytest.param(report([ANN], ["seen_from_the_moon", *COLUMNS, "mood"]), id="unknown columns"),
        pytest.param(report([ANN], quoting=csv.QUOTE_ALL), id="quoted"),
        pytest.param("\ufeff" + report([ANN]), id="a byte-order mark"),
        pytest.param("\ufeff" + report([ANN], quoting=csv.QUOTE_ALL), id="a byte-order mark before a quote"),
        pytest.param(report([ANN], end="\r\n"), id="lines of Windows"),
        pytest.param(report([ANN]).replace("\n", "\n\n"), id="blank lines"),
        pytest.param(report([ANN]).replace("user_id", "User_ID "), id="another spelling of a name"),
        pytest.param(report([ANN]).replace(".000Z", "Z"), id="times without milliseconds"),
        pytest.param(report([ANN]).replace(".000Z", "+00:00"), id="times with an offset"),
        pytest.param(report([ANN]).replace(".000Z", ""), id="times without a zone are UTC"),
        pytest.param(report([ANN]).replace("T08:00:05.000Z", "T09:00:05+01:00"), id="times of another zone"),
    ],
)
def test_it_is_read_by_its_header(text: str) -> None:
    assert read(text) == ([READ], 0)


def test_what_is_not_needed_may_be_absent() -> None:
    assert read(report([ANN], NEEDED)) == ([READ._replace(account_id="", region="")], 0)


def test_users_of_streaming_urls_are_called_as_everywhere() -> None:
    ((custom,), _) = read(report([ANN | {"authentication_type": "CUSTOM"}]))
    assert custom.authentication_type == "API"


@pytest.mark.parametrize("text", ["", "\n", report([]), "\ufeff" + report([])])
def test_an_empty_day_has_no_rows(text: str) -> None:
    assert read(text) == ([], 0)


@pytest.mark.parametrize("name", NEEDED)
def test_a_column_that_is_missing_is_named(name: str) -> None:
    with pytest.raises(ReportError, match=f"it lacks the column {name}$"):
        UsageReport(report([ANN], [each for each in COLUMNS if each != name]).splitlines())


def test_another_file_is_no_report() -> None:
    with pytest.raises(ReportError, match="it lacks the columns user_session_id, session_start_time, "):
        UsageReport(["user_session_ids,application_name,schedule,year,month,day"])
    with pytest.raises(ReportError, match="its first line is no header"):
        UsageReport(['"never closed'])


LINE = report([ANN]).splitlines()[1]


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(LINE.rpartition(",")[0], id="a cell is missing"),
        pytest.param(LINE.replace("ann@", "an,n@"), id="a comma without quotes"),
        pytest.param(LINE.replace("ann@", '"ann@'), id="a quote that is not closed"),
        pytest.param(LINE.replace("ann@example.com", '"ann"@example.com'), id="text behind a quote"),
        pytest.param(LINE.replace("2026-03-02T08", "yesterday"), id="no time"),
        pytest.param(LINE.replace("2026-03-02T08:00:05.000Z", ""), id="no start"),
        pytest.param(LINE.replace("2026-03-02T08:00:05.000Z", "0001-01-01T00:00+14:00"), id="no such time"),
        pytest.param(LINE.replace("2026-03-02T08", "2026-03-02T10"), id="it ends before it starts"),
        pytest.param(LINE.replace("s-1", ""), id="no id"),
        pytest.param(LINE.replace("cad", ""), id="no fleet"),
        pytest.param(LINE.replace("ann@", "a" * csv.field_size_limit()), id="a cell beyond all measure"),
        pytest.param("\x00\ufffd", id="no text"),
    ],
)
def test_a_broken_row_is_counted_and_spoils_no_other(line: str) -> None:
    assert read("\n".join([*report([ANN]).splitlines(), line, LINE, ""])) == ([READ, READ], 1)


@given(st.lists(st.text(st.characters(exclude_characters="\r\n")).filter(str.strip)))
def test_no_line_is_fatal_and_none_is_lost(lines: list[str]) -> None:
    found = UsageReport([report([]), *lines])
    assert len(list(found)) + found.broken == len(lines)


def test_a_row_is_there_before_the_next_line_is_read() -> None:
    taken = []

    def lines() -> Iterator[str]:
        for line in report([ANN, ANN]).splitlines():
            taken.append(line)
            yield line

    rows = iter(UsageReport(lines()))
    assert (next(rows), len(taken)) == (READ, 2)
