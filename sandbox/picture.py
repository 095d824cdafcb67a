"""`make picture`: docs/slack.png, docs/teams.png, docs/board.png and docs/board-dark.png, of the demo's day.

What is shown was delivered by the stack's own notifiers and taken by the local Slack and Teams, or answered
by the deployed board in the afternoon. The pages are drawn here after the looks of Slack, Teams and the
CloudWatch console, and printed by a headless Chromium (on Debian: apt-get install chromium fonts-lato
fonts-open-sans); nothing is fetched.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import partial
from html import escape
from pathlib import Path

from sandbox.cloud import ROOT
from sandbox.console import BOARD, deployed_board
from sandbox.day import time_of_day
from sandbox.demo import ASKED_AT, Posted, card, office, play

# A fleet that cannot be listed, somebody who does not come back from a meeting, one session too many, a fleet
# that fails and recovers, and everybody who goes home, but for one.
SHOWN = frozenset(time_of_day(at) for at in ("13:35", "14:15", "14:28", "15:28", "17:30"))
WIDTH, BOARD_WIDTH = 780, 1_100
# The console's own frame of a widget, light and dark.
CONSOLE_STYLE = """
body { margin: 0; } main > div { padding: 8px 12px; background: #fff; } main > .dark { background: #16202d; }
.btn { display: inline-block; border: 1px solid #879596; border-radius: 2px; padding: 3px 14px; }
.btn { font-size: 13px; font-weight: 400; } cwdb-action { display: none; }
"""
SLACK_COLOURS = {"good": "#2eb67d", "warning": "#daa038", "danger": "#c01343"}
TEAMS_COLOURS = {"good": "#e7f2da", "warning": "#fbf6d9", "attention": "#fdf3f4"}
SLACK_STYLE = """
body { margin: 0; background: #fff; color: #1d1c1d; font: 15px/1.4667 Lato, "Noto Sans", sans-serif; }
main { padding: 12px 20px 18px; }
.day { display: flex; align-items: center; margin: 2px 0 10px; font-size: 13px; font-weight: 700; }
.day::before, .day::after { content: ""; flex: 1; border-top: 1px solid #e3e3e3; }
.day span { border: 1px solid #e3e3e3; border-radius: 24px; padding: 2px 16px; }
article { display: flex; gap: 10px; padding: 6px 0; }
.face { flex: none; width: 36px; height: 36px; border-radius: 6px; background: #3a4a9f; display: flex;
  align-items: center; justify-content: center; }
.who { font-weight: 900; margin-right: 5px; }
.app { background: #e8e8e8; color: #616061; border-radius: 2px; font-size: 10px; font-weight: 700;
  padding: 1px 4px; vertical-align: 2px; }
time { color: #616061; font-size: 12px; margin-left: 5px; }
.attachment { display: flex; gap: 12px; margin: 4px 0 2px; }
.bar { flex: none; width: 4px; border-radius: 8px; }
.lines { white-space: pre-line; }
.context { color: #616061; font-size: 13px; margin-top: 4px; }
"""
TEAMS_STYLE = """
body { margin: 0; background: #f5f5f5; color: #242424; font: 14px/1.43 "Segoe UI", "Open Sans", sans-serif; }
main { padding: 16px 24px; }
article { display: flex; gap: 12px; margin-bottom: 14px; }
.face { flex: none; width: 32px; height: 32px; border-radius: 50%; background: #3a4a9f; display: flex;
  align-items: center; justify-content: center; }
.post { flex: 1; background: #fff; border-radius: 6px; padding: 10px 16px 14px;
  box-shadow: 0 0 2px #0002, 0 1px 2px #0003; }
.who { font-weight: 600; margin-right: 8px; }
time { color: #616161; font-size: 12px; }
.card { border: 1px solid #d1d1d1; border-radius: 6px; margin-top: 6px; padding: 0 16px 12px;
  overflow: hidden; }
.container { margin: 0 -16px 8px; padding: 10px 16px; }
.bolder { font-weight: 600; }
.subtle { color: #616161; font-size: 12px; margin-top: 8px; }
"""
FACE = """<svg width="22" height="22" viewBox="0 0 22 22" fill="none" stroke="#fff" stroke-width="1.8"
stroke-linecap="round" stroke-linejoin="round"><rect x="2" y="3.5" width="18" height="12" rx="2"/>
<path d="M7.5 19h7M11 15.5V19M7.5 9.5l2.5 2.5 4.5-5"/></svg>"""


def page(style: str, articles: Iterable[str]) -> str:
    """Draw messages one below the other; the page's title becomes its height."""
    return (
        f'<!doctype html><meta charset="utf-8"><style>{style}</style><main>{"".join(articles)}</main>'
        "<script>document.title = Math.ceil(document.documentElement.getBoundingClientRect().height)</script>"
    )


def in_slack(at: datetime, message: Posted) -> str:
    """Draw a message as Slack does."""
    (heading,), (attachment,) = message["blocks"], message["attachments"]
    section, context = attachment["blocks"]
    bar = SLACK_COLOURS[attachment["color"]]
    return (
        f'<article><div class="face">{FACE}</div><div><span class="who">AppStream session auditor</span>'
        f'<span class="app">APP</span><time>{at:%H:%M}</time><div>{escape(heading["text"]["text"])}</div>'
        f'<div class="attachment"><div class="bar" style="background:{bar}"></div>'
        f'<div><div class="lines">{escape(section["text"]["text"])}</div>'
        f'<div class="context">{escape(context["elements"][0]["text"])}</div></div></div></div></article>'
    )


def in_teams(at: datetime, message: Posted) -> str:
    """Draw a card as Teams does."""
    container, *lines = card(message)["body"]
    drawn = "".join(run(block) for block in lines)
    return (
        f'<article><div class="face">{FACE}</div><div class="post"><span class="who">Workflows</span>'
        f'<time>{at:%H:%M}</time><div class="card"><div class="container" '
        f'style="background:{TEAMS_COLOURS[container["style"]]}">{run(container["items"][0])}</div>'
        f"{drawn}</div></div></article>"
    )


def run(block: Mapping[str, list[Posted]]) -> str:
    """Draw a RichTextBlock of one TextRun."""
    (text,) = block["inlines"]
    style = "bolder" if text.get("weight") == "Bolder" else "subtle" if text.get("isSubtle") else ""
    return f'<div class="{style}">{escape(text["text"])}</div>'


def chromium(*options: str) -> str:
    """Run a browser that starts from nothing and leaves nothing; return what it printed."""
    with tempfile.TemporaryDirectory(prefix="chromium-") as profile:
        return subprocess.run(
            [
                *(
                    "chromium",
                    "--headless",
                    "--no-sandbox",
                    "--disable-gpu",
                    "--disable-quic",
                    "--no-first-run",
                ),
                *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
                *(f"--user-data-dir={profile}", "--hide-scrollbars", *options),
            ],
            check=True,
            capture_output=True,
            text=True,
        ).stdout


def draw(name: str, html: str, width: int = WIDTH) -> None:
    """Print a page, as high as it is."""
    picture = ROOT / "docs" / f"{name}.png"
    with tempfile.TemporaryDirectory(prefix="picture-") as folder:
        path = Path(folder) / f"{name}.html"
        path.write_text(html)
        dom = chromium(f"--window-size={width},600", "--dump-dom", path.as_uri())
        (height,) = re.findall(r"<title>(\d+)</title>", dom)
        chromium(
            f"--window-size={width},{height}",
            "--force-device-scale-factor=1.5",
            f"--screenshot={picture}",
            path.as_uri(),
        )
    print(picture.relative_to(ROOT))


def main() -> int:
    """Play the day and print some of it."""
    if not shutil.which("chromium"):
        print("make picture needs chromium and its fonts")
        print("(on Debian: apt-get install chromium fonts-lato fonts-open-sans)")
        return 1
    boards: dict[str, str] = {}
    with office() as here:
        for now, _, _ in play(here):
            if now == time_of_day(ASKED_AT):
                stack = here.cloud.deploy({}, name="board", template=BOARD)
                call = deployed_board(here.cloud, stack, partial(time_of_day, ASKED_AT))
                for name, theme in (("board", "light"), ("board-dark", "dark")):
                    boards[name] = call({"widgetContext": {"theme": theme, "width": BOARD_WIDTH}})
    day = next(iter(sorted(SHOWN)))
    head = f'<div class="day"><span>{day:%A, %B} {day.day}</span></div>'
    draw("slack", page(SLACK_STYLE, [head, *(in_slack(at, each) for at, each in here.posted if at in SHOWN)]))
    draw("teams", page(TEAMS_STYLE, [in_teams(at, each) for at, each in here.carded if at in SHOWN]))
    for name, html in boards.items():
        theme = "dark" if "asa dark" in html else "light"
        draw(name, page(CONSOLE_STYLE, [f'<div class="{theme}">{html}</div>']), BOARD_WIDTH)
    return 0


if __name__ == "__main__":
    sys.exit(main())
