"""The demo: what it prints is whole, reads well at any width, and is what the README shows."""

import os
import re
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime

import pytest
from rich.console import Console

from sandbox.cloud import ROOT
from sandbox.day import FORGOTTEN
from sandbox.demo import UNBROKEN, Notice, figures, hung, line
from sandbox.meter import Meter

README = (ROOT / "README.md").read_text()
(EXCERPT,) = re.findall(r"```\n\$ make demo\n(.*?)```", README, re.DOTALL)
# The README's lines are those of a terminal that is this wide.
README_WIDTH = 100
HEAD = len("00:00  Disconnected  ")
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
LONG = (
    "The session of “farid@example.com” on stack office, fleet cad is abandoned: nobody was seen connected "
    "for 15 min; it ends at 15:00 UTC (disconnect timeout)"
)
WIDTHS = [pytest.param(width, id=f"{width} columns") for width in (60, 72, 80, 100, 140, 200, UNBROKEN)]


def message(words: str) -> Notice:
    return Notice("AppStream Session Abandoned on stack office", (words,), "danger")


@pytest.fixture(scope="module")
def printed() -> list[str]:
    """Run the demo with its output in a file, as CI does, and Enter for the board; return the lines."""
    demo = subprocess.run(
        [sys.executable, "-m", "sandbox.demo", "board"],
        input="\n",
        cwd=ROOT,
        env={
            name: value for name, value in os.environ.items() if name not in {"FORCE_COLOR", "TTY_COMPATIBLE"}
        }
        | {"PYTHONPATH": f"{ROOT / 'layers' / 'session_auditor'}:{ROOT / 'cli'}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert demo.returncode == 0, demo.stdout[-2000:] + demo.stderr
    return demo.stdout.splitlines()


class TestPrinted:
    """The demo as it runs."""

    def test_it_says_where_the_board_is_and_waits(self, printed: list[str]) -> None:
        shown = next(number for number, text in enumerate(printed) if text.startswith("The board at 14:50"))
        assert re.search(r": http://127\.0\.0\.1:\d+$", printed[shown])
        assert printed[shown + 1] == "Press Enter to go on with the day."

    def test_it_ends_with_the_verdict(self, printed: list[str]) -> None:
        verdict = "59 events, 59 ids, 53 messages in Slack and in Teams: that is what happened."
        assert printed[-1] == verdict

    def test_a_file_gets_a_line_a_message_and_no_control_sequences(self, printed: list[str]) -> None:
        assert all(text.isprintable() for text in printed)
        day = printed[: printed.index("")]
        assert sum(bool(re.match(r"\d\d:\d\d  \w+ +\S", text)) for text in day) == 53
        assert not any(text.startswith(" ") for text in printed)

    def test_the_readme_shows_what_it_prints(self, printed: list[str]) -> None:
        made = re.findall(
            r'^demo:.*?@echo "(.*?)"', (ROOT / "Makefile").read_text(), re.DOTALL | re.MULTILINE
        )
        lines = iter(
            broken
            for text in [*made, *printed]
            for broken in hung(*split(text), README_WIDTH).splitlines() or [""]
        )
        # Each is looked for below the one before it.
        assert [shown for shown in EXCERPT.splitlines() if shown != "..." and shown not in lines] == []

    def test_the_readme_begins_with_what_the_command_prints(self, printed: list[str]) -> None:
        (box,) = re.findall(r"```\n(\$ appstream-auditor sessions\n.*?)```", README, re.DOTALL)
        lines = iter(printed)
        assert [shown for shown in box.splitlines() if shown != "..." and shown not in lines] == []

    def test_the_usage_report_of_the_day_has_what_the_script_has(self, printed: list[str]) -> None:
        """By hand: 14 that took hours, and one of half an interval; (14 + 0.5) / 15 are 96.7 %."""
        asked = printed.index("$ appstream-auditor reconcile 2026-03-02")
        told = printed[asked + 1 : printed.index("", asked)]
        assert told == [
            "15 sessions in daily-session-report-2026-03-02.csv",
            "14 matched by session id, 1 missed, 0 extra, 1 off by more than 60 s",
            "coverage 93.3 %; sweeps every 60 s can be expected to see 96.7 %",
        ]
        missed, different = (line.split() for line in printed[asked + 6 : asked + 8])
        assert missed[:5] == ["missed", "nora@example.com", "11:20:15", "11:20:45", "30s"]
        # While its fleet could not be listed it was not ended.
        assert different[:2] == ["different", "ivan@example.com"]
        assert different[-3:] == ["end", "13:40:00", "render"]

    def test_what_is_left_on_a_screen_of_24_rows_is_a_story_and_the_sums(self, printed: list[str]) -> None:
        # The last row is the prompt's. What AWS's own report says of the day is the story.
        screen = [broken for text in printed for broken in hung(*split(text), 80).splitlines() or [""]][-23:]
        assert "$ appstream-auditor reconcile 2026-03-02" in screen
        assert f"$ appstream-auditor explain {FORGOTTEN}" in printed
        assert all(len(text) <= 80 for text in screen)


def test_what_make_says_by_itself_fits_80_columns() -> None:
    said = re.findall(r'^\t.*?@?echo "([^"]*)"', (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert len(said) > 4
    assert all(
        len(text.replace("$(VENV)", ".venv").replace("$(SAM_VENV)", ".sam-venv")) <= 80 for text in said
    )


def split(text: str) -> tuple[str, str]:
    """Return the head of a line that was printed unbroken, and the words beside it."""
    found = re.match(r"\d\d:\d\d  \w+ +|(?:Told|Asked|Cost) +", text)
    head = found[0] if found else ""
    return head, text.removeprefix(head)


@pytest.mark.parametrize("width", WIDTHS)
class TestWidths:
    """Lines break between words, hang below their words, and lose none."""

    def test_a_message(self, width: int) -> None:
        lines = line(NOON, message(LONG), width).plain.splitlines()
        assert all(len(text) <= width for text in lines)
        assert lines[0].startswith("12:00  Abandoned     The session of “farid@example.com”")
        assert all(text[:HEAD].isspace() and not text[HEAD].isspace() for text in lines[1:])
        assert " ".join(text[HEAD:] for text in lines) == LONG
        assert (len(lines) == 1) is (width >= HEAD + len(LONG))

    def test_a_word_that_is_too_long_stays_whole(self, width: int) -> None:
        name = "“" + "n" * 70 + "@example.com”"
        lines = line(NOON, message(f"User {name} connected"), width).plain.splitlines()
        assert sum(name in text for text in lines) == 1

    def test_the_sums(self, width: int) -> None:
        meter = Meter(Counter({"appstream DescribeSessions": 1751, "dynamodb Query": 627}), 1092, 663.0, 49)
        for head, words in figures(Counter({"AppStream Session Ended": 12}), 7, meter, 583).items():
            lines = hung(f"{head:<7}", words, width).splitlines()
            assert all(len(text) <= width for text in lines)
            assert " ".join(text[7:] for text in lines) == words


def test_a_colour_is_of_the_event_alone() -> None:
    terminal = Console(force_terminal=True, color_system="standard", soft_wrap=True, highlight=False)
    with terminal.capture() as shown:
        terminal.print(line(NOON, message("Bob [red]left[/red]"), 80))
    assert shown.get() == "12:00  \x1b[31mAbandoned     \x1b[0mBob [red]left[/red]\n"
