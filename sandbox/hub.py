"""A hub in the local cloud, and accounts that let it in; `make demo HUB=1` plays a quarter of an hour of it.

IAM is in force. The function that runs is the deployed one, with its role's credentials and the environment
of the deployed stack; only the messages, and the time, are handed to it here.
"""

import importlib
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from botocore.exceptions import ClientError
from rich.console import Console

from sandbox.appstream.models import Fleet, StreamingSession
from sandbox.cloud import ACCOUNT_ID, REGION, ROOT, LocalCloud, Stack, local_cloud, wait_for
from sandbox.day import time_of_day
from sandbox.demo import EVERYTHING, SECOND, UNBROKEN, Notice, hung, line, received
from sandbox.vendors.slack import slack
from session_auditor.messages import Message

MINUTE = timedelta(minutes=1)
NAME = "appstream-session-auditor"
EXTERNAL_ID = "of-the-hub"
SPOKE_ROLE = "AppStreamSessionAuditorSpoke"
WEBHOOK = "/demo/slack-webhook"
SALES, DESIGN, LAB = "111111111111", "222222222222", "333333333333"
BEGIN, END = "09:00", "09:15"


class Hub:
    """The local cloud with a hub deployed, and the accounts and regions that it sweeps."""

    def __init__(
        self, cloud: LocalCloud, accounts: tuple[str, ...], regions: tuple[str, ...], **settings: str
    ) -> None:
        self.cloud = cloud
        self.accounts, self.regions = accounts, regions
        for each in self.everywhere():
            each.appstream.add_scope("office", Fleet("cad"))
        parameters = {
            "Targets": ",".join(accounts),
            "TargetRegions": ",".join(regions),
            "ExternalId": EXTERNAL_ID,
            "AuthenticationTypes": "API",
        }
        self.stack: Stack = cloud.deploy(parameters | settings, name=NAME)
        self._queue = cloud.subscribe_queue(self.stack.outputs["SessionBusName"], "all", EVERYTHING)

    def everywhere(self, *accounts: str) -> Iterator[LocalCloud]:
        """Yield the cloud as each account has it in each region."""
        for account in accounts or self.accounts:
            for region in self.regions:
                yield self.cloud.elsewhere(account, region)

    def let_in(self, account: str, external_id: str = EXTERNAL_ID) -> None:
        """Deploy the role of spoke.yaml into an account."""
        parameters = {"HubAccount": ACCOUNT_ID, "ExternalId": external_id}
        template, capability = ROOT / "spoke.yaml", "CAPABILITY_NAMED_IAM"
        self.cloud.elsewhere(account).deploy(parameters, "spoke", template, capability)

    def shut_out(self, account: str) -> None:
        """Delete it."""
        there = self.cloud.elsewhere(account)
        there.client("cloudformation").delete_stack(StackName="spoke")

        def is_gone() -> bool:
            try:
                there.client("iam").get_role(RoleName=SPOKE_ROLE)
            except ClientError:
                return True
            return False

        wait_for(is_gone, 20, "the role to go")

    def told(self) -> list[dict[str, Any]]:
        """Return what came to the bus since last asked."""
        return self.cloud.drain(self._queue)


class Container:
    """The deployed function in this process, with the role and the environment of a new container.

    It is the context of its invocations, too.
    """

    aws_request_id = "00000000-0000-4000-8000-000000000000"

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        outputs = hub.stack.outputs
        role = f"arn:aws:iam::{ACCOUNT_ID}:role/{outputs['AuditorRoleName']}"
        keys = hub.cloud.client("sts").assume_role(RoleArn=role, RoleSessionName="auditor")["Credentials"]
        function = hub.cloud.client("lambda").get_function_configuration(
            FunctionName=outputs["AuditorFunctionName"]
        )
        os.environ |= function["Environment"]["Variables"]
        os.environ |= hub.cloud.endpoints
        os.environ |= {
            "AWS_ACCESS_KEY_ID": keys["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"],
            "AWS_SESSION_TOKEN": keys["SessionToken"],
        }
        code = str(ROOT / "functions" / "auditor")
        if code not in sys.path:
            sys.path.insert(0, code)
        sys.modules.pop("auditor", None)
        self._function: Any = importlib.import_module("auditor")
        # What it logs is for nobody here.
        self._function.logger.setLevel(logging.CRITICAL)

    def get_remaining_time_in_millis(self) -> int:
        """Answer as the context of an invocation that has just begun."""
        return 50_000

    def sweep(self, now: datetime) -> Counter[str]:
        """Sweep every target at that time, as messages ask for it; return how that ended."""
        self._function.now = lambda: now
        records = [
            {"body": Message(account, region, now).text}
            for account in self._hub.accounts
            for region in self._hub.regions
        ]
        return Counter(self._function.handler({"Records": records}, self)["outcomes"])


class Step(NamedTuple):
    """Something that happens in an account, and how many events have to be told of it, when."""

    account: str
    act: Callable[[Hub], None]
    tells: Mapping[str, str]


def begins(user: str, *accounts: str) -> Callable[[Hub], None]:
    """Have a user begin a session in each region of accounts; its id says where it is."""

    def act(hub: Hub) -> None:
        for each in hub.everywhere(*accounts):
            each.appstream.sessions[user] = StreamingSession(
                f"{user}-{each.account_id}-{each.region}",
                f"{user}@example.com",
                *("office", "cad"),
                authentication_type="API",
            )

    return act


def drops(user: str, *accounts: str) -> Callable[[Hub], None]:
    """Have the user's connections there drop."""

    def act(hub: Hub) -> None:
        for each in hub.everywhere(*accounts):
            each.appstream.sessions[user].connection_state = "NOT_CONNECTED"

    return act


# What happens at which time, and when which event has to be told of it.
STEPS: Mapping[str, Step] = {
    "09:01": Step(SALES, begins("alice", SALES), {"09:01": "Session Started"}),
    "09:02": Step(DESIGN, begins("bruno", DESIGN), {"09:02": "Session Started"}),
    # Somebody deletes the role; that nobody sees these sessions is told after five minutes.
    "09:03": Step(LAB, lambda hub: hub.shut_out(LAB), {"09:08": "Audit Degraded"}),
    "09:04": Step(LAB, begins("chiara", LAB), {"09:12": "Session Started"}),
    "09:06": Step(SALES, drops("alice", SALES), {"09:06": "Session Disconnected"}),
    "09:12": Step(LAB, lambda hub: hub.let_in(LAB), {"09:12": "Audit Recovered"}),
    "09:14": Step(DESIGN, drops("bruno", DESIGN), {"09:14": "Session Disconnected"}),
}


def with_account(notice: Notice) -> Notice:
    """Have a notice begin with the account, which its heading names last."""
    account = notice.heading.partition(" account ")[2].partition(",")[0]
    return replace(notice, lines=(f"{account}: {notice.lines[0]}", *notice.lines[1:]))


def main() -> int:
    """Play a quarter of an hour; 0 if what had to be told was told once, of the right account."""
    console = Console(markup=False, emoji=False, highlight=False, soft_wrap=True)
    width = console.width if console.is_terminal else UNBROKEN
    console.print("Deploying template.yaml into one account, spoke.yaml into three ...")
    with slack(second=0) as channel, local_cloud(second=SECOND, iam=True) as cloud:
        cloud.client("ssm").put_parameter(Name=WEBHOOK, Value=channel.url, Type="SecureString")
        settings = {"SlackWebhook": WEBHOOK, "Notices": "everything", "DigestSeconds": "20"}
        hub = Hub(cloud, (SALES, DESIGN, LAB), (REGION,), Sweeps="DISABLED", **settings)
        for account in hub.accounts:
            hub.let_in(account)
        now, end = time_of_day(BEGIN), time_of_day(END)
        container = Container(hub)
        console.print(hung("", f"From {BEGIN} to {END}, three accounts a minute, as Slack is told:", width))
        while now <= end:
            step = STEPS.get(f"{now:%H:%M}")
            if step:
                step.act(hub)
                # A role's credentials last an hour; a new container has none.
                container = Container(hub)
            container.sweep(now)
            due = sum(f"{now:%H:%M}" in each.tells for each in STEPS.values())
            for message in received(channel.received, due, lambda each: str(each["text"])):
                console.print(line(now, with_account(Notice.of(message)), width))
            now += MINUTE
        events = hub.told()
        surplus = channel.received.qsize() + channel.refused.qsize()
    told = Counter((each["detail-type"], each["detail"]["metadata"]["accountId"]) for each in events)
    expected = Counter(
        (f"AppStream {kind}", step.account) for step in STEPS.values() for kind in step.tells.values()
    )
    ids = {each["detail"]["metadata"]["eventId"] for each in events}
    if told == expected and len(ids) == len(events) and not surplus:
        console.print(f"\n{len(events)} events of 3 accounts, {len(ids)} ids: that is what happened.")
        return 0
    console.print(f"\nmissing: {expected - told}; too many: {told - expected}; left over: {surplus}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
