"""`make demo`: a working day against the local cloud, and whether what Slack was told is what happened.

The code that runs is the function's own, with the environment of the deployed stack, and what Slack gets is
made by the stack's own rules. Only the time is passed in, so that ten hours take half a minute.
"""

import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from queue import Empty
from textwrap import fill
from typing import Any

from rich.console import Console
from rich.text import Text

from sandbox.cloud import CREDENTIALS, ROOT, LocalCloud, Stack, local_cloud, wait_for
from sandbox.day import BEGIN, END, FORGOTTEN, STEPS, expected, opening, time_of_day
from sandbox.meter import Meter, metered
from sandbox.vendors.slack import ORIGIN, WEBHOOK_URL, Message, Slack, slack
from session_auditor.model import DetailType

MINUTE = timedelta(minutes=1)
# Slack and EventBridge agree on one message a second; here their second is a twentieth of ours.
SECOND = 0.05
# Everything of a session is told, where the defaults tell of what somebody has to do something about.
TOLD = {
    "SlackWebhookUrl": WEBHOOK_URL,
    "GoodEvents": ",".join(
        [DetailType.STARTED, DetailType.CONNECTED, DetailType.RECONNECTED, DetailType.ENDED]
    ),
    "WarningEvents": ",".join([DetailType.DISCONNECTED, DetailType.EXPIRING]),
}
TICKETS = {
    "source": ["appstream.auditor"],
    "detail-type": ["AppStream Session Abandoned", "AppStream Audit Degraded"],
}
COLOURS = {"good": "green", "warning": "yellow", "danger": "red"}
# Where nobody looks on, a message is one line, as long as it is.
UNBROKEN = sys.maxsize


def main() -> int:
    """Play the day; 0 if every event that had to be told was told, once, and nothing else."""
    console = Console(markup=False, emoji=False, highlight=False, soft_wrap=True)

    def width() -> int:
        return console.width if console.is_terminal else UNBROKEN

    with slack(SECOND) as hook, local_cloud({ORIGIN: hook.url}, SECOND) as cloud:
        console.print("Deploying template.yaml into it ...")
        stack = cloud.deploy(TOLD, disabled=["ScheduleV2"])
        queue_url = cloud.subscribe_queue(stack.outputs["SessionBusName"], "tickets", TICKETS)
        auditor = deployed_auditor(cloud, stack)
        told: list[tuple[datetime, Message]] = []
        sweeps = 0
        console.print(
            hung("", f"A working day from {BEGIN} to {END}, a sweep a minute, as Slack is told:", width())
        )
        with metered() as meter, console.status("") as status:
            for now, live, messages in play(cloud, auditor, hook):
                sweeps += 1
                status.update(f"{now:%H:%M}  {live} sessions live")
                for message in messages:
                    told.append((now, message))
                    console.print(line(now, message, width()))
        tickets = wait_for(lambda: cloud.drain(queue_url), 20, "tickets")
        surplus = hook.received.qsize()
        refused = hook.refused.qsize()
    console.print(f"\nThe day of {FORGOTTEN}, who left for a meeting and forgot a session:")
    for now, message in told:
        if f"“{FORGOTTEN}@" in said(message):
            console.print(line(now, message, width()))
    happened = expected(STEPS)
    reported = Counter(kind(message) for _, message in told)
    console.print()
    for head, words in figures(reported, len(tickets), meter, sweeps).items():
        console.print(hung(f"{head:<7}", words, width()))
    ids = {message["attachments"][0]["blocks"][0]["block_id"] for _, message in told}
    if happened == reported and len(ids) == len(told) and not surplus and not refused:
        console.print(f"{len(told)} events, {len(ids)} different ids: what Slack was told is what happened.")
        return 0
    wrong = f"missing: {counted(happened - reported)}; too many: {counted(reported - happened)}"
    more = f"{len(ids)} different ids; left over: {surplus}; refused by Slack: {refused}"
    console.print(Text(f"What Slack was told is not what happened. {wrong}; {more}", "red"))
    return 1


def play(cloud: LocalCloud, auditor: Any, hook: Slack) -> Iterator[tuple[datetime, int, list[Message]]]:
    """Play the day; give for every sweep its time, the sessions it saw, and what it made Slack receive."""
    opening(cloud.appstream)
    steps = list(STEPS)
    now, end = time_of_day(BEGIN), time_of_day(END)
    while now <= end:
        while steps and steps[0].at <= now:
            steps.pop(0).act(cloud.appstream)
        summary = auditor.sweep(f"{now:%Y%m%dT%H%M%SZ}-demo", lambda at=now: at, lambda: 50.0)
        messages: list[Message] = []
        # An API destination delivers in its own time; the clock waits for it.
        with suppress(Empty):
            messages.extend(hook.received.get(timeout=20) for _ in range(summary.events_published.total()))
        yield now, summary.sessions_seen, messages
        now += MINUTE


def deployed_auditor(cloud: LocalCloud, stack: Stack) -> Any:
    """Load the function as deployed: its code, its environment, its clients."""
    configuration = cloud.client("lambda").get_function_configuration(
        FunctionName=stack.outputs["AuditorFunctionName"]
    )
    os.environ |= configuration["Environment"]["Variables"]
    os.environ |= {name.upper(): value for name, value in CREDENTIALS.items()}
    os.environ |= {"AWS_ENDPOINT_URL": cloud.endpoint, "AWS_ENDPOINT_URL_APPSTREAM": cloud.appstream_endpoint}
    sys.path.insert(0, str(ROOT / "functions" / "auditor"))
    import app  # noqa: PLC0415 - it reads the environment when it is imported

    return app.auditor


def kind(message: Message) -> str:
    """Give the detail-type that a message opens with."""
    text: str = message["text"]
    return re.split(" on stack | in account ", text)[0]


def said(message: Message) -> str:
    """Return the words of a message, as they read in Slack."""
    words: str = message["attachments"][0]["blocks"][0]["text"]["text"]
    return words


def line(now: datetime, message: Message, width: int) -> Text:
    """Show a message: when, what, in the colour of its bar, and its words."""
    head = f"{now:%H:%M}  {kind(message).split()[-1]:<12}  "
    text = Text(hung(head, said(message), width))
    text.stylize(COLOURS[message["attachments"][0]["color"]], len("00:00  "), len(head))
    return text


def hung(head: str, words: str, width: int) -> str:
    """Set words beside a head: lines of at most so many columns, broken between words, below one another."""
    return fill(
        words,
        width,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )


def figures(reported: Counter[str], tickets: int, meter: Meter, sweeps: int) -> Mapping[str, str]:
    """Word what was told, what it took, and what a month of days like this would cost."""
    calls: Counter[str] = Counter()
    for call, number in meter.calls.items():
        calls[call.partition(" ")[0]] += number
    asked = ", ".join(f"{name} {number / sweeps:.2f}" for name, number in calls.most_common())
    units = f"{meter.write_units / sweeps:.2f} write and {meter.read_units / sweeps:.2f} read units"
    costs = meter.month(sweeps)
    dearest = sorted(costs.items(), key=lambda cost: -cost[1])
    parts = ", ".join(f"{name} {cost:.2f}" for name, cost in dearest)
    return {
        "Told": f"{counted(reported)}; {tickets} in the ticket queue",
        "Asked": f"{sweeps} sweeps; calls a sweep: {asked}; {units}",
        "Cost": f"{sum(costs.values()):.2f} US dollars for a month of such sweeps, at list prices: {parts}",
    }


def counted(kinds: Counter[str]) -> str:
    """Word how many there are of each detail-type, the most frequent first."""
    return ", ".join(f"{number} {kind.split()[-1]}" for kind, number in kinds.most_common()) or "none"


if __name__ == "__main__":
    sys.exit(main())
