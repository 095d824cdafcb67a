"""What is shown: harmless in a terminal and in a spreadsheet, and as wide as there is room."""

import csv
import io
import json
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appstream_auditor.answers import Answer
from appstream_auditor.printing import (
    ELASTIC_WIDTH,
    Column,
    fitting,
    harmless,
    print_csv,
    print_json,
    table,
    to_terminal,
)


class Row(Answer):
    user_id: str
    seconds: int
    ended: datetime | None = None
    watched: bool = True


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "=cmd|' /C calc'!A0"])
def test_no_cell_is_a_formula(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_csv([Row(user_id=text, seconds=-1)], Row)
    header, row = csv.reader(io.StringIO(capsys.readouterr().out))
    assert header == ["userId", "seconds", "ended", "watched"]
    assert row[0][0] not in "=+-@\t\r"
    assert row[1:] == ["-1", "", "true"]


@given(st.text())
def test_whatever_a_user_is_called_a_terminal_takes_it_for_text(text: str) -> None:
    assert harmless(text).isprintable()
    assert len(harmless(text)) == len(text)


def test_json_is_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    print_json(Row(user_id="\x1b[2J\u202eann\U0001f600", seconds=1))
    said = capsys.readouterr().out
    assert said.isascii()
    assert "\x1b" not in said
    assert json.loads(said)["userId"] == "\x1b[2J\u202eann\U0001f600"


COLUMNS = [
    Column("USER", ["firstname.lastname@subsidiary.example.com"], rank=0, elastic=True),
    Column("STATE", ["connected"], rank=0),
    Column("SESSION", ["3f2a8b1c-1234-4abc-8def-0123456789ab"], rank=2, cut=8),
    Column("HOST", ["i-0123456789abcdef0"], rank=3),
]


@pytest.mark.parametrize(
    ("width", "names", "session"),
    [
        pytest.param(200, ["USER", "STATE", "SESSION", "HOST"], 36, id="all"),
        pytest.param(70, ["USER", "STATE", "SESSION", "HOST"], 8, id="an id is cut first"),
        pytest.param(50, ["USER", "STATE", "SESSION"], 8, id="then the least of them goes"),
        pytest.param(35, ["USER", "STATE"], None, id="what matters most stays"),
        pytest.param(10, ["USER", "STATE"], None, id="whatever the width"),
    ],
)
def test_what_there_is_room_for(width: int, names: list[str], session: int | None) -> None:
    kept = fitting(COLUMNS, width)
    assert [column.name for column in kept] == names
    found = [len(str(column.cells[0])) for column in kept if column.name == "SESSION"]
    assert found == ([session] if session else [])


@given(width=st.integers(ELASTIC_WIDTH + 11, 120))
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    console = to_terminal()
    console.width = width
    with console.capture() as said:
        console.print(table(COLUMNS, width))
    assert all(len(line) <= width for line in said.get().splitlines())
    assert len(said.get().splitlines()) == 2


@given(width=st.integers(ELASTIC_WIDTH + 31, 120))
def test_only_what_is_elastic_is_narrowed(width: int) -> None:
    amounts = [Column(name, [f"{name.lower()}-1234"], rank=0, right=True) for name in ("COST", "SAVED")]
    console = to_terminal()
    console.width = width
    with console.capture() as said:
        console.print(table([*COLUMNS[:1], *amounts], width))
    header, row = said.get().splitlines()
    assert row.endswith("  cost-1234  saved-1234")
    assert header.split() == ["USER", "COST", "SAVED"]
    assert row.startswith("firstname.lastname@")
