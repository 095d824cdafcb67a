"""`make picture`: docs/slack.png, the messages of an afternoon of the demo's day as they look in Slack.

What is shown was delivered by the stack's own rules. The page is drawn here after Slack's looks, and printed
by a headless Chromium (on Debian: apt-get install chromium fonts-lato); nothing is fetched.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from datetime import datetime
from html import escape
from pathlib import Path

from sandbox.cloud import ROOT, local_cloud
from sandbox.day import time_of_day
from sandbox.demo import SECOND, TOLD, deployed_auditor, play
from sandbox.vendors.slack import ORIGIN, Message, slack

PICTURE = ROOT / "docs" / "slack.png"
# A fleet that cannot be listed, somebody who does not come back from a meeting, a session near its maximum.
BEGIN, END = time_of_day("13:30"), time_of_day("15:00")
WIDTH = 780
COLOURS = {"good": "#2eb67d", "warning": "#daa038", "danger": "#c01343"}
STYLE = """
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
.context { color: #616061; font-size: 13px; margin-top: 4px; }
"""
FACE = """<svg width="22" height="22" viewBox="0 0 22 22" fill="none" stroke="#fff" stroke-width="1.8"
stroke-linecap="round" stroke-linejoin="round"><rect x="2" y="3.5" width="18" height="12" rx="2"/>
<path d="M7.5 19h7M11 15.5V19M7.5 9.5l2.5 2.5 4.5-5"/></svg>"""


def page(messages: Iterable[tuple[datetime, Message]]) -> str:
    """Draw messages as Slack does, one below the other."""
    drawn = "".join(article(at, message) for at, message in messages)
    day = f"{BEGIN:%A, %B} {BEGIN.day}"
    return (
        f'<!doctype html><meta charset="utf-8"><title>Slack</title><style>{STYLE}</style>'
        f'<main><div class="day"><span>{day}</span></div>{drawn}</main>'
        "<script>document.title = Math.ceil(document.documentElement.getBoundingClientRect().height)</script>"
    )


def article(at: datetime, message: Message) -> str:
    (attachment,) = message["attachments"]
    section, context = attachment["blocks"]
    return (
        f'<article><div class="face">{FACE}</div><div><span class="who">AppStream session auditor</span>'
        f'<span class="app">APP</span><time>{at:%H:%M}</time><div>{escape(message["text"])}</div>'
        f'<div class="attachment"><div class="bar" style="background:{COLOURS[attachment["color"]]}"></div>'
        f"<div><div>{escape(section['text']['text'])}</div>"
        f'<div class="context">{escape(context["elements"][0]["text"])}</div></div></div></div></article>'
    )


def chromium(*options: str) -> str:
    """Run a browser that starts from nothing and leaves nothing; give what it printed."""
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


def main() -> int:
    """Play the day and print its afternoon."""
    if not shutil.which("chromium"):
        print("make picture needs chromium and its fonts (on Debian: apt-get install chromium fonts-lato)")
        return 1
    with slack(SECOND) as hook, local_cloud({ORIGIN: hook.url}, SECOND) as cloud:
        stack = cloud.deploy(TOLD, disabled=["ScheduleV2"])
        messages = [
            (now, message)
            for now, _, arrived in play(cloud, deployed_auditor(cloud, stack), hook)
            for message in arrived
            if BEGIN <= now <= END
        ]
    with tempfile.TemporaryDirectory(prefix="picture-") as folder:
        html = Path(folder) / "slack.html"
        html.write_text(page(messages))
        dom = chromium(f"--window-size={WIDTH},600", "--dump-dom", html.as_uri())
        (height,) = re.findall(r"<title>(\d+)</title>", dom)
        chromium(
            f"--window-size={WIDTH},{height}",
            "--force-device-scale-factor=1.5",
            f"--screenshot={PICTURE}",
            html.as_uri(),
        )
    print(f"{PICTURE.relative_to(ROOT)}: {len(messages)} messages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
