"""`make demo`: a working day against the local cloud, and whether what people were told is what happened.

The code that runs is the function's own, with the environment of the deployed stack; the stack's own
notifiers tell Slack and Teams. Only the time is passed in, so that ten hours take half a minute.
"""

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from queue import SimpleQueue
from textwrap import fill
from typing import Any

import time_machine
from click.testing import CliRunner
from rich.console import Console
from rich.text import Text

from appstream_auditor.deployment import DEFAULT_STACK
from appstream_auditor.main import cli
from appstream_auditor.reconcile.bucket import key_of
from sandbox.appstream.usage_reports import report, row_of
from sandbox.cloud import ACCOUNT_ID, CREDENTIALS, REGION, ROOT, LocalCloud, Stack, local_cloud, wait_for
from sandbox.console import BOARD, deployed_board
from sandbox.console import console as widget_console
from sandbox.day import BEGIN, DAY, END, FORGOTTEN, POLICIES, STEPS, expected, opening, time_of_day
from sandbox.meter import Meter, metered
from sandbox.vendors.slack import Slack, slack
from sandbox.vendors.teams import Teams, teams
from session_auditor.model import DetailType

MINUTE = timedelta(minutes=1)
# Notices gather for twenty seconds; here a second is a fiftieth of ours.
SECOND = 0.02
# Everything is told, where the defaults tell of what somebody has to do something about.
TOLD = {
    "SlackWebhook": "/demo/slack-webhook",
    "TeamsWebhook": "/demo/teams-webhook",
    "Notices": "everything",
    "DigestSeconds": "20",
    "PoliciesParameter": "/appstream/policies",
    "TagKeys": "department",
    "Sweeps": "DISABLED",
}
EVERYTHING = {"source": ["appstream.auditor"]}
TICKETS = {
    "source": ["appstream.auditor"],
    "detail-type": [
        "AppStream Session Abandoned",
        "AppStream Session Policy Violated",
        "AppStream Audit Degraded",
        "AppStream Fleet Faulted",
    ],
}
# When the help desk asks who is on: the one who forgot a session has ten minutes left.
ASKED_AT = "14:50"
# AppStream writes a report within 24 hours of the day's end.
REPORTED_AFTER = timedelta(days=1, hours=9)
# As wide as the README shows what the command prints, where nobody looks on.
ASKED_WIDTH = 100
COLOURS = {"good": "green", "warning": "yellow", "danger": "red"}
# Where nobody looks on, a message is one line, as long as it is.
UNBROKEN = sys.maxsize


Posted = dict[str, Any]


@dataclass(frozen=True)
class Notice:
    """A message as it reads in Slack: a heading, lines, and the colour of its bar."""

    heading: str
    lines: tuple[str, ...]
    colour: str

    @classmethod
    def of(cls, message: Posted) -> "Notice":
        """Read what was posted to Slack."""
        (heading,), (attachment,) = message["blocks"], message["attachments"]
        lines = attachment["blocks"][0]["text"]["text"].splitlines()
        return cls(heading["text"]["text"], tuple(lines), attachment["color"])

    @property
    def kind(self) -> str:
        """The detail-type that it opens with."""
        return next(each.value for each in DetailType if self.heading.startswith(each))

    @property
    def events(self) -> int:
        """How many events it tells of."""
        return told_by(self.heading)

    @property
    def words(self) -> str:
        """What it says, in one line."""
        _, several, number = self.heading.partition(": ")
        return "; ".join([number, *self.lines] if several else self.lines)


def told_by(heading: str) -> int:
    """Return how many events a message with such a heading tells of."""
    number = re.search(r": ([0-9,]+) (?:sessions|stacks and fleets|fleets)$", heading)
    return int(number[1].replace(",", "")) if number else 1


@dataclass
class Office:
    """The local cloud with the product deployed, and where its people are told."""

    cloud: LocalCloud
    stack: Stack
    slack: Slack
    teams: Teams
    posted: list[tuple[datetime, Posted]] = field(default_factory=list)
    carded: list[tuple[datetime, Posted]] = field(default_factory=list)

    def receive(self, now: datetime, events: int) -> list[Posted]:
        """Wait until both channels have told of so many events; return what Slack was posted."""
        fresh = received(self.slack.received, events, lambda each: str(each["text"]))
        cards = received(self.teams.received, events, lambda each: str(card(each)["fallbackText"]))
        self.posted += [(now, message) for message in fresh]
        self.carded += [(now, message) for message in cards]
        return fresh

    @property
    def refused(self) -> int:
        """How many messages the channels refused, or took beyond what was waited for."""
        return sum(
            queue.qsize()
            for queue in (
                *(self.slack.refused, self.slack.received),
                *(self.teams.refused, self.teams.received),
            )
        )


def card(message: Posted) -> Posted:
    """Return the card that was posted to Teams."""
    content: Posted = message["attachments"][0]["content"]
    return content


def received(queue: SimpleQueue[Posted], events: int, heading: Callable[[Posted], str]) -> list[Posted]:
    """Wait for messages that tell of so many events."""
    messages: list[Posted] = []
    while sum(told_by(heading(each)) for each in messages) < events:
        messages.append(queue.get(timeout=30))
    return messages


@contextmanager
def office() -> Iterator[Office]:
    """Start the local cloud and the channels, and deploy the template."""
    with slack(second=0) as in_slack, teams() as in_teams, local_cloud(second=SECOND) as cloud:
        for name, url in ((TOLD["SlackWebhook"], in_slack.url), (TOLD["TeamsWebhook"], in_teams.url)):
            cloud.client("ssm").put_parameter(Name=name, Value=url, Type="SecureString")
        cloud.client("ssm").put_parameter(
            Name=TOLD["PoliciesParameter"], Value=json.dumps(POLICIES), Type="String"
        )
        yield Office(cloud, cloud.deploy(TOLD, name=DEFAULT_STACK), in_slack, in_teams)


def main(*, board: bool = False) -> int:
    """Play the day; 0 if every event that had to be told was told, once, and nothing else.

    With the `board` it stands still in the afternoon, and serves the board until Enter.
    """
    console = Console(markup=False, emoji=False, highlight=False, soft_wrap=True)

    def width() -> int:
        return console.width if console.is_terminal else UNBROKEN

    console.print("Deploying template.yaml into it ...")
    with office() as here:
        bus = here.stack.outputs["SessionBusName"]
        tickets_url = here.cloud.subscribe_queue(bus, "tickets", TICKETS)
        events_url = here.cloud.subscribe_queue(bus, "events", EVERYTHING)
        told: list[tuple[datetime, Notice]] = []
        answers: list[str] = []
        sweeps = 0
        console.print(
            hung("", f"A working day from {BEGIN} to {END}, a sweep a minute, as Slack is told:", width())
        )
        with metered() as meter, console.status("") as status:
            for now, live, notices in play(here):
                sweeps += 1
                status.update(f"{now:%H:%M}  {live} live")
                for notice in notices:
                    told.append((now, notice))
                    console.print(line(now, notice, width()))
                if now == time_of_day(ASKED_AT):
                    # What the auditor asks is metered, not what people do.
                    meter.paused = True
                    answers += [f"At {ASKED_AT} the help desk asks:"]
                    answers += [*asked(now, console, "status"), *asked(now, console, "sessions")]
                    if board:
                        status.stop()
                        show_board(here, now, console)
                        status.start()
                    meter.paused = False
        answers += ["In the evening:", *asked(now, console, "history", "--by", "fleet")]
        answers += asked(now, console, "explain", FORGOTTEN)
        write_usage_report(here)
        answers += ["The next morning, with AppStream's own report of the day:"]
        answers += asked(DAY + REPORTED_AFTER, console, "reconcile", f"{DAY:%Y-%m-%d}", width=80)
        tickets = wait_for(lambda: here.cloud.drain(tickets_url), 20, "tickets")
        ids = {event["detail"]["metadata"]["eventId"] for event in here.cloud.drain(events_url)}
        in_teams = Counter(card(message)["fallbackText"] for _, message in here.carded)
        surplus = here.refused
    console.print()
    for text in answers:
        console.print(Text(text))
    happened = expected(STEPS)
    reported = Counter[str]()
    for _, notice in told:
        reported[notice.kind] += notice.events
    for head, words in figures(reported, len(tickets), meter, sweeps).items():
        console.print(hung(f"{head:<7}", words, width()))
    alike = in_teams == Counter(notice.heading for _, notice in told)
    if happened == reported and len(ids) == reported.total() and alike and not surplus:
        told_alike = f"{len(told)} messages in Slack and in Teams"
        console.print(f"{reported.total()} events, {len(ids)} ids, {told_alike}: that is what happened.")
        return 0
    wrong = f"missing: {counted(happened - reported)}; too many: {counted(reported - happened)}"
    more = f"{len(ids)} different ids; the same in Teams: {alike}; refused or left over: {surplus}"
    console.print(Text(f"What people were told is not what happened. {wrong}; {more}", "red"))
    return 1


def play(here: Office) -> Iterator[tuple[datetime, int, list[Notice]]]:
    """Play the day; yield for every sweep its time, the sessions it saw, and what it made Slack receive."""
    appstream = here.cloud.appstream
    auditor = deployed_auditor(here.cloud, here.stack)
    opening(appstream)
    steps = list(STEPS)
    now, end = time_of_day(BEGIN), time_of_day(END)
    while now <= end:
        while steps and steps[0].at <= now:
            steps.pop(0).act(appstream)
        summary = auditor.sweep(f"{now:%Y%m%dT%H%M%SZ}-demo", lambda at=now: at, lambda: 50.0)
        # A queue delivers in its own time; the clock waits for it.
        posted = here.receive(now, summary.events_published.total())
        yield now, summary.sessions_seen, [Notice.of(message) for message in posted]
        now += MINUTE


def deployed_auditor(cloud: LocalCloud, stack: Stack) -> Any:
    """Load the function as deployed: its code, its environment, its clients."""
    configuration = cloud.client("lambda").get_function_configuration(
        FunctionName=stack.outputs["AuditorFunctionName"]
    )
    os.environ |= configuration["Environment"]["Variables"]
    os.environ |= {name.upper(): value for name, value in CREDENTIALS.items()}
    os.environ |= cloud.endpoints
    sys.path.insert(0, str(ROOT / "functions" / "auditor"))
    import auditor  # noqa: PLC0415 - it reads the environment when it is imported

    return auditor.auditor


def show_board(here: Office, now: datetime, console: Console) -> None:
    """Deploy the board, and serve it in an emulation of the CloudWatch console until Enter."""
    stack = here.cloud.deploy({}, name=f"{DEFAULT_STACK}-board", template=BOARD)
    call = deployed_board(here.cloud, stack, lambda: now)
    with widget_console(call) as url:
        console.print(f"The board at {now:%H:%M}, as in the CloudWatch console: {url}")
        console.print("Press Enter to go on with the day.")
        sys.stdin.readline()


def write_usage_report(here: Office) -> None:
    """Write what AppStream knows of the day into a bucket, and subscribe to such reports."""
    appstream, s3 = here.cloud.appstream, here.cloud.client("s3")
    appstream.report_bucket = f"appstream-logs-{REGION}-{ACCOUNT_ID}-demo"
    s3.create_bucket(Bucket=appstream.report_bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    text = report(row_of(session, end) for session, end in appstream.ended)
    s3.put_object(Bucket=appstream.report_bucket, Key=key_of(DAY.date()), Body=text.encode())


def asked(now: datetime, console: Console, *words: str, width: int = ASKED_WIDTH) -> list[str]:
    """Ask with the command, as somebody at this terminal would at that time of the day; return the lines.

    Where nobody looks on, it is as wide as is said.
    """
    width = console.width if console.is_terminal else width
    environment = {"COLUMNS": str(width), "AWS_REGION": REGION}
    with time_machine.travel(now, tick=False):
        answer = CliRunner().invoke(cli, [*words, "--utc"], env=environment, catch_exceptions=False)
    if answer.exit_code:
        raise RuntimeError(
            f"appstream-auditor {' '.join(words)} ended with {answer.exit_code}: {answer.output}"
        )
    lines = [line.rstrip() for line in answer.stdout.splitlines()]
    return [f"$ appstream-auditor {' '.join(words)}", *lines, ""]


def line(now: datetime, notice: Notice, width: int) -> Text:
    """Show a notice: when, what, in the colour of its bar, and its words."""
    head = f"{now:%H:%M}  {notice.kind.split()[-1]:<12}  "
    text = Text(hung(head, notice.words, width))
    text.stylize(COLOURS[notice.colour], len("00:00  "), len(head))
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
    """Describe what was told, what it took, and what a month of days like this would cost."""
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
    """Describe how many there are of each detail-type, the most frequent first."""
    names = {kind: kind.removeprefix("AppStream ").removeprefix("Session ") for kind in kinds}
    return ", ".join(f"{number} {names[kind]}" for kind, number in kinds.most_common()) or "none"


if __name__ == "__main__":
    sys.exit(main(board="board" in sys.argv[1:]))
