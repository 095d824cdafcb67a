"""The CloudWatch console, as far as a custom widget meets it: a page that shows the HTML of a function.

What is clicked is the element before a cwdb-action; its parameters, what stands in forms, the theme and the
width go to the function, and the answer into the widget or a pop-up. Documented are the elements and the
context (CloudWatch User Guide, custom widgets); how the console itself does it is not.
"""

import gc
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import time_machine

from sandbox.cloud import CREDENTIALS, ROOT, LocalCloud, Stack
from sandbox.server import Answer, Post, serving

BOARD = ROOT / "functions" / "board" / "template.yaml"
STYLE = """
body { margin: 0; font: 14px "Amazon Ember", Arial, sans-serif; background: #f2f3f3; }
body.dark { background: #0f1b2a; color: #e9ebed; }
header { display: flex; gap: 12px; align-items: center; padding: 8px 16px; background: #232f3e; color: #fff; }
main { margin: 12px 16px; padding: 8px; background: #fff; border: 1px solid #d5dbdb; overflow-x: auto; }
.dark main { background: #16202d; border-color: #414d5c; }
dialog { max-width: 760px; border: 1px solid #879596; border-radius: 4px; }
.dark dialog { background: #16202d; color: inherit; }
.btn { display: inline-block; border: 1px solid #879596; border-radius: 2px; padding: 3px 14px; }
.btn { font-size: 13px; font-weight: 400; cursor: pointer; }
cwdb-action { display: none; }
"""
SCRIPT = """
let parameters = {};
const widget = document.getElementById("widget"), popup = document.querySelector("dialog");
function forms() {
  const fields = [...widget.querySelectorAll("input, select")];
  return Object.fromEntries(fields.map(each => [each.name, each.value]));
}
async function call(more, display) {
  const dark = document.body.classList.contains("dark");
  const answer = await fetch("/call", {method: "POST", body: JSON.stringify({...more, widgetContext: {
    theme: dark ? "dark" : "light", width: widget.clientWidth, timezone: {label: "UTC", offsetISO: "+00:00"},
    forms: {all: forms()}}})});
  const place = display === "popup" ? popup.querySelector("div") : widget;
  place.innerHTML = await answer.text();
  if (display === "popup") popup.showModal(); else { popup.close(); parameters = more; }
  for (const action of place.querySelectorAll("cwdb-action"))
    action.previousElementSibling.addEventListener("click",
      () => call(JSON.parse(action.textContent), action.getAttribute("display") || "popup"));
  document.body.dataset.calls = 1 + Number(document.body.dataset.calls || 0);
}
document.getElementById("theme").addEventListener("click",
  () => { document.body.classList.toggle("dark"); call(parameters, "widget"); });
document.getElementById("refresh").addEventListener("click", () => call(parameters, "widget"));
popup.querySelector("button").addEventListener("click", () => popup.close());
widget.addEventListener("submit", event => event.preventDefault());
call({}, "widget");
"""
PAGE = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>AppStream sessions</title><style>{STYLE}</style></head>
<body><header><strong>AppStream sessions</strong>
<button id="refresh">Refresh</button><button id="theme">Light or dark</button></header>
<main id="widget"></main><dialog><button>Close</button><div></div></dialog>
<script>{SCRIPT}</script></body></html>"""

Call = Callable[[Mapping[str, Any]], str]


def deployed_board(cloud: LocalCloud, stack: Stack, now: Callable[[], datetime]) -> Call:
    """Load the board's function as deployed: its code, its environment; only the time is passed in."""
    name, endpoint = stack.outputs["BoardFunctionName"], stack.outputs["BoardFunctionArn"]
    configuration = cloud.client("lambda").get_function_configuration(FunctionName=name)
    os.environ |= configuration["Environment"]["Variables"]
    os.environ |= {name.upper(): value for name, value in CREDENTIALS.items()}
    # Whoever looks at the terminal looks for an address, not for a log.
    os.environ |= {"AWS_ENDPOINT_URL": cloud.endpoint, "POWERTOOLS_LOG_LEVEL": "ERROR"}
    sys.path.insert(0, str(ROOT / "functions" / "board"))
    sys.modules.pop("board", None)
    board = importlib.import_module("board")
    # The function has its process to itself; here it has not.
    gc.enable()
    context: Any = SimpleNamespace(invoked_function_arn=endpoint)

    def call(event: Mapping[str, Any]) -> str:
        with time_machine.travel(now(), tick=False):
            return str(board.handler(event, context))

    return call


@contextmanager
def console(call: Call) -> Iterator[str]:
    """Serve the page on a free port of 127.0.0.1; return its URL."""

    def answer(post: Post) -> Answer:
        text = call(json.loads(post.body)) if post.path == "/call" else PAGE
        return Answer(200, text, {"Content-Type": "text/html; charset=utf-8"})

    with serving(answer) as url:
        yield url
