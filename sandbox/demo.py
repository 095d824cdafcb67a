"""`make demo`: a working day against the local cloud, and whether what was told is what happened.

The code that runs is the function's own, with the environment of the deployed stack; only the time is
passed in, so that ten hours take half a minute.
"""

import os
import sys
from collections import Counter
from contextlib import suppress
from datetime import datetime, timedelta
from queue import Empty
from typing import Any

from rich.console import Console
from rich.table import Table

from sandbox.cloud import CREDENTIALS, ROOT, LocalCloud, Stack, local_cloud, wait_for, webhook
from sandbox.day import BEGIN, END, STEPS, expected, opening, time_of_day
from sandbox.meter import PRICES, SECONDS_A_MONTH, Meter, metered

MINUTE = timedelta(minutes=1)
TICKETS = {
    "source": ["appstream.auditor"],
    "detail-type": ["AppStream Session Abandoned", "AppStream Audit Degraded"],
}
COLOURS = {
    "Started": "green",
    "Connected": "green",
    "Reconnected": "green",
    "Disconnected": "yellow",
    "Expiring": "magenta",
    "Abandoned": "red",
    "Degraded": "red",
    "Recovered": "green",
}
# What the cost table assumes beside what was counted.
CALL_SECONDS, SWEEP_SECONDS, MEMORY_GB, LOG_BYTES, METRICS, ALARMS = 0.02, 0.05, 0.5, 1_500, 10, 6


def main() -> int:
    """Play the day; 0 if every event that had to be told was told, once, and nothing else."""
    console = Console(highlight=False, soft_wrap=True)
    console.print("Starting the local cloud and deploying template.yaml into it ...")
    with local_cloud() as cloud, webhook() as hook:
        stack = cloud.deploy({}, disabled=["ScheduleV2"])
        bus_name = stack.outputs["SessionBusName"]
        cloud.subscribe_webhook(bus_name, hook, {"source": ["appstream.auditor"]})
        queue_url = cloud.subscribe_queue(bus_name, "tickets", TICKETS)
        opening(cloud.appstream)
        auditor = deployed_auditor(cloud, stack)
        told: list[dict[str, Any]] = []
        steps = list(STEPS)
        now, end = time_of_day(BEGIN), time_of_day(END)
        sweeps = 0
        console.print(
            f"A working day from {BEGIN} to {END}, a sweep a minute; each line arrived at the webhook.\n"
        )
        with metered() as meter, console.status("") as status:
            while now <= end:
                while steps and steps[0].at <= now:
                    steps.pop(0).act(cloud.appstream)
                summary = auditor.sweep(f"{now:%Y%m%dT%H%M%SZ}-demo", lambda at=now: at, lambda: 50.0)
                sweeps += 1
                status.update(f"{now:%H:%M}  {summary.sessions_seen} sessions live")
                # An API destination delivers in its own time; the clock waits for it.
                with suppress(Empty):
                    for _ in range(summary.events_published.total()):
                        told.append(hook.received.get(timeout=20))
                        console.print(line(now, told[-1], summary.sessions_seen))
                now += MINUTE
        tickets = wait_for(lambda: cloud.drain(queue_url), 20, "tickets")
        surplus = hook.received.qsize()
    happened = expected(STEPS)
    reported = Counter(event["detail-type"] for event in told)
    ids = {event["detail"]["metadata"]["eventId"] for event in told}
    console.print(events_table(happened, reported, Counter(each["detail-type"] for each in tickets)))
    console.print(calls_table(meter, sweeps))
    console.print(cost_table(meter, sweeps))
    agreed = happened == reported and len(ids) == len(told) and not surplus
    console.print(
        f"\n{len(told)} events, {len(ids)} different ids: what was told is what happened."
        if agreed
        else "\n[red]What was told is not what happened.[/red]"
    )
    return 0 if agreed else 1


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


def line(now: datetime, event: dict[str, Any], live: int) -> str:
    kind = event["detail-type"].split()[-1]
    colour = COLOURS.get(kind, "white")
    return (
        f"{now:%H:%M}  {live:>2} live  [{colour}]{kind:<12}[/{colour}] {event['detail']['data']['summary']}"
    )


def events_table(happened: Counter[str], reported: Counter[str], tickets: Counter[str]) -> Table:
    table = Table("event", title="\nWhat happened, and what was told", title_justify="left")
    for column in ("happened", "at the webhook", "in the ticket queue"):
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
