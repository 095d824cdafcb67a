"""`make demo`: a working day against the local cloud, and whether what Slack was told is what happened.

The code that runs is the function's own, with the environment of the deployed stack, and what Slack gets is
made by the stack's own rules. Only the time is passed in, so that ten hours take half a minute.
"""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from queue import Empty
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sandbox.cloud import CREDENTIALS, ROOT, LocalCloud, Stack, local_cloud, wait_for
from sandbox.day import BEGIN, END, STEPS, expected, opening, time_of_day
from sandbox.meter import PRICES, SECONDS_A_MONTH, Meter, metered
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
# What the cost table assumes beside what was counted.
CALL_SECONDS, SWEEP_SECONDS, MEMORY_GB, LOG_BYTES, METRICS, ALARMS = 0.02, 0.05, 0.5, 1_500, 10, 7


def main() -> int:
    """Play the day; 0 if every event that had to be told was told, once, and nothing else."""
    console = Console(highlight=False, soft_wrap=True)
    console.print("Starting the local cloud and deploying template.yaml into it ...")
    with slack(SECOND) as hook, local_cloud({ORIGIN: hook.url}, SECOND) as cloud:
        stack = cloud.deploy(TOLD, disabled=["ScheduleV2"])
        queue_url = cloud.subscribe_queue(stack.outputs["SessionBusName"], "tickets", TICKETS)
        auditor = deployed_auditor(cloud, stack)
        told: list[Message] = []
        sweeps = 0
        console.print(
            f"A working day from {BEGIN} to {END}, a sweep a minute; each line is a message to Slack.\n"
        )
        with metered() as meter, console.status("") as status:
            for now, live, messages in play(cloud, auditor, hook):
                sweeps += 1
                status.update(f"{now:%H:%M}  {live} sessions live")
                for message in messages:
                    told.append(message)
                    console.print(line(now, message, live))
        tickets = wait_for(lambda: cloud.drain(queue_url), 20, "tickets")
        surplus = hook.received.qsize()
        refused = hook.refused.qsize()
    happened = expected(STEPS)
    reported = Counter(kind(message) for message in told)
    ids = {message["attachments"][0]["blocks"][0]["block_id"] for message in told}
    console.print(events_table(happened, reported, Counter(each["detail-type"] for each in tickets)))
    console.print(calls_table(meter, sweeps))
    console.print(cost_table(meter, sweeps))
    agreed = happened == reported and len(ids) == len(told) and not surplus and not refused
    console.print(
        f"\n{len(told)} events, {len(ids)} different ids: what Slack was told is what happened."
        if agreed
        else "\n[red]What Slack was told is not what happened.[/red]"
    )
    return 0 if agreed else 1


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
    return text.partition(" on stack ")[0]


def line(now: datetime, message: Message, live: int) -> str:
    """Show a message as it reads in Slack: what, in the colour of its bar, and the words below."""
    (attachment,) = message["attachments"]
    colour = COLOURS[attachment["color"]]
    what = kind(message).split()[-1]
    said = escape(attachment["blocks"][0]["text"]["text"])
    return f"{now:%H:%M}  {live:>2} live  [{colour}]{what:<12}[/{colour}] {said}"


def events_table(happened: Counter[str], reported: Counter[str], tickets: Counter[str]) -> Table:
    table = Table("event", title="\nWhat happened, and what was told", title_justify="left")
    for column in ("happened", "in Slack", "in the ticket queue"):
        table.add_column(column, justify="right")
    for kind in sorted(happened | reported):
        table.add_row(
            kind.removeprefix("AppStream "),
            str(happened[kind]),
            str(reported[kind]),
            str(tickets[kind] or ""),
        )
    return table


def calls_table(meter: Meter, sweeps: int) -> Table:
    table = Table("asked of AWS", title=f"\n{sweeps} sweeps", title_justify="left")
    for column in ("in all", "a sweep"):
        table.add_column(column, justify="right")
    counted = {
        **dict(sorted(meter.calls.items())),
        "dynamodb write units": meter.write_units,
        "dynamodb read units": int(meter.read_units),
    }
    for name, number in counted.items():
        table.add_row(name, str(number), f"{number / sweeps:.2f}")
    return table


def cost_table(meter: Meter, sweeps: int) -> Table:
    """Estimate a month of days like this one, a sweep a minute all day and night."""
    factor = SECONDS_A_MONTH / 60 / sweeps
    seconds = (sum(meter.calls.values()) * CALL_SECONDS + sweeps * SWEEP_SECONDS) * factor
    costs = {
        "Lambda": seconds * MEMORY_GB * PRICES["Lambda, GB-second (arm64)"]
        + sweeps * factor * PRICES["Lambda, request"],
        "EventBridge Scheduler": sweeps * factor * PRICES["Scheduler, invocation"],
        "DynamoDB": factor
        * (
            meter.write_units * PRICES["DynamoDB, write unit"]
            + meter.read_units * PRICES["DynamoDB, read unit"]
        ),
        "EventBridge": meter.events * factor * PRICES["EventBridge, event"],
        "CloudWatch": METRICS * PRICES["CloudWatch, metric a month"]
        + ALARMS * PRICES["CloudWatch, alarm a month"]
        + sweeps * factor * LOG_BYTES / 1e9 * PRICES["CloudWatch, GB of logs"],
    }
    table = Table("estimate", title="\nA month at list prices, without free tiers", title_justify="left")
    table.add_column("US dollars", justify="right")
    for name, cost in costs.items():
        table.add_row(name, f"{cost:.2f}")
    table.add_section()
    table.add_row("in all", f"{sum(costs.values()):.2f}")
    return table


if __name__ == "__main__":
    sys.exit(main())
