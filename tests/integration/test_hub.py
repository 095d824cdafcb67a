"""A hub in the local cloud: ten accounts in two regions, each let in by spoke.yaml, and one deployment.

IAM is in force: whatever the roles of the templates do not allow is refused, and a spoke lets in nobody but
the auditor's role with its ExternalId. AppStream knows its callers' accounts, but asks for no permissions. A
hole takes five minutes; for that the deployed function runs here, with its role's credentials and a clock of
the test's.
"""

import importlib
import sys
from collections import Counter
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from sandbox.appstream.models import Fault, Fleet, StreamingSession
from sandbox.cloud import ACCOUNT_ID, REGION, ROOT, LocalCloud, Stack, local_cloud, wait_for
from session_auditor.messages import Message

REGIONS = (REGION, "us-east-1")
ACCOUNTS = tuple(f"{number:012d}" for number in range(100000000001, 100000000011))
# What is wrong in these, of the ten or of the five.
NO_ROLE, OTHER_ID, DENIED = ACCOUNTS[:3]
STACK = "appstream-session-auditor"
MINUTE = timedelta(minutes=1)
Event = dict[str, Any]


class Organisation:
    """The local cloud with a hub, and spokes in accounts that have the same office in two regions."""

    def __init__(self, cloud: LocalCloud, accounts: tuple[str, ...], **settings: str) -> None:
        self.cloud = cloud
        self.accounts = accounts
        for each in self.everywhere():
            each.appstream.add_scope("office", Fleet("cad"))
        parameters = {
            "Targets": ",".join(accounts),
            "TargetRegions": ",".join(REGIONS),
            "ExternalId": "of-the-hub",
            "AuthenticationTypes": "API",
        }
        self.hub: Stack = cloud.deploy(parameters | settings, name=STACK)
        pattern = {"source": ["appstream.auditor"]}
        self._queue = cloud.subscribe_queue(self.hub.outputs["SessionBusName"], "all", pattern)

    def everywhere(self, *accounts: str) -> Iterator[LocalCloud]:
        """The cloud as each account has it in each region."""
        for account in accounts or self.accounts:
            for region in REGIONS:
                yield self.cloud.elsewhere(account, region)

    def let_in(self, account: str, external_id: str = "of-the-hub") -> None:
        parameters = {"HubAccount": ACCOUNT_ID, "ExternalId": external_id}
        template, capability = ROOT / "spoke.yaml", "CAPABILITY_NAMED_IAM"
        self.cloud.elsewhere(account).deploy(parameters, "spoke", template, capability)

    def shut_out(self, account: str) -> None:
        there = self.cloud.elsewhere(account)
        there.client("cloudformation").delete_stack(StackName="spoke")

        def is_gone() -> bool:
            try:
                there.client("iam").get_role(RoleName="AppStreamSessionAuditorSpoke")
            except ClientError:
                return True
            return False

        wait_for(is_gone, 20, "the role to go")

    def deny(self, account: str) -> None:
        for each in self.everywhere(account):
            each.appstream.faults.append(Fault("AccessDeniedException", "describe_stacks"))

    def allow(self, account: str) -> None:
        for each in self.everywhere(account):
            each.appstream.faults.clear()

    def begin(self, name: str, *accounts: str) -> None:
        """Begin a session in each region of accounts, whose id says where it is."""
        for each in self.everywhere(*accounts):
            session_id = f"{name}-{each.account_id}-{each.region}"
            each.appstream.sessions[name] = StreamingSession(
                session_id, "jane.doe@example.com", "office", "cad", authentication_type="API"
            )

    def leave(self, name: str, *accounts: str) -> None:
        for each in self.everywhere(*accounts):
            each.appstream.sessions[name].connection_state = "NOT_CONNECTED"

    def told(self) -> list[Event]:
        """What came to the bus since last asked."""
        return self.cloud.drain(self._queue)


def kinds(events: Collection[Event]) -> Counter[tuple[str, str, str]]:
    """How often each kind of event was told of each account and region: those where its session is."""
    for each in events:
        metadata, data = each["detail"]["metadata"], each["detail"]["data"]
        where = f"{metadata['accountId']}-{metadata['region']}"
        assert data.get("session", {"id": where})["id"].endswith(where)
    told = [(each["detail-type"].split()[-1], each["detail"]["metadata"]) for each in events]
    return Counter((kind, metadata["accountId"], metadata["region"]) for kind, metadata in told)


def once(kind: str, *accounts: str) -> Counter[tuple[str, str, str]]:
    """One event of a kind of each region of the accounts."""
    return Counter((kind, account, region) for account in accounts for region in REGIONS)


def ids(events: Collection[Event]) -> set[str]:
    return {each["detail"]["metadata"]["eventId"] for each in events}


@pytest.fixture
def cloud() -> Iterator[LocalCloud]:
    with local_cloud(iam=True) as cloud:
        yield cloud


def test_each_change_in_ten_accounts_and_two_regions_is_told_once(cloud: LocalCloud) -> None:
    here = Organisation(cloud, ACCOUNTS, SweepEvery="15")
    for account in set(ACCOUNTS) - {NO_ROLE}:
        here.let_in(account, "of-another" if account == OTHER_ID else "of-the-hub")
    here.deny(DENIED)
    well = ACCOUNTS[3:]
    table = {"TableName": here.hub.outputs["SessionsTableName"]}
    told: dict[str, Event] = {}

    def are_known() -> bool:
        items = cloud.client("dynamodb").scan(**table)["Items"]
        return len([each for each in items if "last_begin" in each["state"]["S"]]) == len(REGIONS) * len(well)

    def are_told(kind: str) -> bool:
        # Where two sweeps of a target overlap, an event may come twice, with the same id.
        told.update((each["detail"]["metadata"]["eventId"], each) for each in here.told())
        return not once(kind, *well) - kinds(told.values())

    # The first minute is asked for by hand; by the next one the schedule is there.
    cloud.client("lambda").invoke(FunctionName=here.hub.outputs["DispatcherFunctionName"])
    wait_for(are_known, 90, "the accounts that let the hub in to be swept")
    here.begin("s-1", *ACCOUNTS)
    wait_for(lambda: are_told("Started"), 90, "sessions to be told of")
    here.leave("s-1", *ACCOUNTS)
    wait_for(lambda: are_told("Disconnected"), 90, "those who left to be told of")
    assert kinds(told.values()) == once("Started", *well) + once("Disconnected", *well)


class Context:
    aws_request_id = "00000000-0000-4000-8000-000000000000"

    def get_remaining_time_in_millis(self) -> int:
        return 50_000


class Container:
    """The deployed function in this process, with the role and the environment of a new container."""

    def __init__(self, here: Organisation, patch: pytest.MonkeyPatch, begin: datetime) -> None:
        self._here = here
        self.now = begin
        outputs = here.hub.outputs
        role = f"arn:aws:iam::{ACCOUNT_ID}:role/{outputs['AuditorRoleName']}"
        assumed = here.cloud.client("sts").assume_role(RoleArn=role, RoleSessionName="auditor")["Credentials"]
        environment = here.cloud.client("lambda").get_function_configuration(
            FunctionName=outputs["AuditorFunctionName"]
        )["Environment"]["Variables"]
        keys = {
            "AWS_ACCESS_KEY_ID": assumed["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": assumed["SecretAccessKey"],
            "AWS_SESSION_TOKEN": assumed["SessionToken"],
        }
        for name, value in (environment | keys | dict(here.cloud.endpoints)).items():
            patch.setenv(name, value)
        patch.syspath_prepend(ROOT / "functions" / "auditor")
        patch.delitem(sys.modules, "auditor", raising=False)
        self._function = importlib.import_module("auditor")
        patch.setattr(self._function, "now", lambda: self.now)

    def minute(self) -> Counter[str]:
        """Sweep every target, a minute later; return how that ended."""
        self.now += MINUTE
        records = [
            {"body": Message(account, region, self.now).text}
            for account in self._here.accounts
            for region in REGIONS
        ]
        answer = self._function.handler({"Records": records}, Context())
        assert answer["batchItemFailures"] == []
        return Counter(answer["outcomes"])


def test_what_is_wrong_in_an_account_is_told_once_and_once_that_it_is_repaired(
    cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty, well = ACCOUNTS[:3], ACCOUNTS[3:5]
    here = Organisation(cloud, faulty + well, Sweeps="DISABLED")
    for account in here.accounts:
        here.let_in(account)
    here.begin("s-1", *here.accounts)
    container = Container(here, monkeypatch, datetime.now(UTC).replace(microsecond=0))
    assert container.minute() == {"COMPLETED": 10}
    # Nothing of the baseline is told.
    assert here.told() == []

    here.shut_out(NO_ROLE)
    here.let_in(OTHER_ID, "of-another")
    here.deny(DENIED)
    # A container that was there before has credentials for an hour, and the list of stacks for five minutes.
    container = Container(here, monkeypatch, container.now)
    here.begin("s-2", *here.accounts)
    outcomes = sum((container.minute() for _ in range(8)), Counter[str]())
    assert outcomes == {"FAILED": 8 * 6, "COMPLETED": 8 * 4}
    told = here.told()
    assert kinds(told) == once("Degraded", *faulty) + once("Started", *well)
    degraded = [each["detail"] for each in told if each["detail-type"] == "AppStream Audit Degraded"]
    assert {(each["data"]["stackName"], each["data"]["fleetName"]) for each in degraded} == {("", "")}
    assert {(each["metadata"]["accountId"], each["data"]["reason"]) for each in degraded} == {
        (NO_ROLE, "AssumeRole AccessDenied"),
        (OTHER_ID, "AssumeRole AccessDenied"),
        (DENIED, "AccessDeniedException"),
    }

    for account in faulty[:2]:
        here.let_in(account)
    here.allow(DENIED)
    outcomes = sum((container.minute() for _ in range(3)), Counter[str]())
    assert outcomes == {"COMPLETED": 3 * 10}
    repaired = here.told()
    # Nobody has ended, though nobody was seen for eight minutes.
    assert kinds(repaired) == once("Recovered", *faulty) + once("Started", *faulty)
    assert len(ids(told + repaired)) == len(told + repaired)
