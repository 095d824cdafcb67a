"""A hub in the local cloud: ten accounts in two regions, each let in by spoke.yaml, and one deployment.

IAM is in force: whatever the roles of the templates do not allow is refused, and a spoke lets in nobody but
the auditor's role with its ExternalId. AppStream knows its callers' accounts, but asks for no permissions. A
hole takes five minutes; for that the deployed function runs here, with its role's credentials and a clock of
the test's.
"""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from sandbox.appstream.models import Fault
from sandbox.cloud import REGION, ROOT, LocalCloud, local_cloud, wait_for
from sandbox.hub import MINUTE, Container, Hub, begins, drops

REGIONS = (REGION, "us-east-1")
ACCOUNTS = tuple(f"{number:012d}" for number in range(100000000001, 100000000011))
# What is wrong in these, of the ten or of the five.
NO_ROLE, OTHER_ID, DENIED = ACCOUNTS[:3]
DENIAL = Fault("AccessDeniedException", "describe_stacks")
Event = dict[str, Any]


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
    hub = Hub(cloud, ACCOUNTS, REGIONS, SweepEvery="15")
    for account in set(ACCOUNTS) - {NO_ROLE}:
        hub.let_in(account, "of-another" if account == OTHER_ID else "of-the-hub")
    for each in hub.everywhere(DENIED):
        each.appstream.faults.append(DENIAL)
    well = ACCOUNTS[3:]
    table = {"TableName": hub.stack.outputs["SessionsTableName"]}
    told: dict[str, Event] = {}

    def are_known() -> bool:
        items = cloud.client("dynamodb").scan(**table)["Items"]
        return len([each for each in items if "last_begin" in each["state"]["S"]]) == len(REGIONS) * len(well)

    def are_told(kind: str) -> bool:
        # Where two sweeps of a target overlap, an event may come twice, with the same id.
        told.update((each["detail"]["metadata"]["eventId"], each) for each in hub.told())
        return not once(kind, *well) - kinds(told.values())

    # The first minute is asked for by hand; by the next one the schedule is there.
    cloud.client("lambda").invoke(FunctionName=hub.stack.outputs["DispatcherFunctionName"])
    wait_for(are_known, 180, "the accounts that let the hub in to be swept")
    begins("alice", *ACCOUNTS)(hub)
    wait_for(lambda: are_told("Started"), 180, "sessions to be told of")
    drops("alice", *ACCOUNTS)(hub)
    wait_for(lambda: are_told("Disconnected"), 180, "those who left to be told of")
    assert kinds(told.values()) == once("Started", *well) + once("Disconnected", *well)


def test_what_is_wrong_in_an_account_is_told_once_and_once_that_it_is_repaired(
    cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty, well = ACCOUNTS[:3], ACCOUNTS[3:5]
    hub = Hub(cloud, faulty + well, REGIONS, Sweeps="DISABLED")
    for account in hub.accounts:
        hub.let_in(account)
    begins("alice", *hub.accounts)(hub)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    container, now = Container(hub), datetime.now(UTC).replace(microsecond=0)
    assert container.sweep(now) == {"COMPLETED": 10}
    # Nothing of the baseline is told.
    assert hub.told() == []

    hub.shut_out(NO_ROLE)
    hub.let_in(OTHER_ID, "of-another")
    for each in hub.everywhere(DENIED):
        each.appstream.faults.append(DENIAL)
    # A container that was there before has credentials for an hour, and the list of stacks for five minutes.
    container = Container(hub)
    begins("bruno", *hub.accounts)(hub)
    outcomes = sum((container.sweep(now + minute * MINUTE) for minute in range(1, 9)), Counter[str]())
    assert outcomes == {"FAILED": 8 * 6, "COMPLETED": 8 * 4}
    told = hub.told()
    assert kinds(told) == once("Degraded", *faulty) + once("Started", *well)
    degraded = [each["detail"] for each in told if each["detail-type"] == "AppStream Audit Degraded"]
    assert {(each["data"]["stackName"], each["data"]["fleetName"]) for each in degraded} == {("", "")}
    assert {(each["metadata"]["accountId"], each["data"]["reason"]) for each in degraded} == {
        (NO_ROLE, "AssumeRole AccessDenied"),
        (OTHER_ID, "AssumeRole AccessDenied"),
        (DENIED, "AccessDeniedException"),
    }

    for account in faulty[:2]:
        hub.let_in(account)
    for each in hub.everywhere(DENIED):
        each.appstream.faults.clear()
    outcomes = sum((container.sweep(now + minute * MINUTE) for minute in range(9, 12)), Counter[str]())
    assert outcomes == {"COMPLETED": 3 * 10}
    repaired = hub.told()
    # Nobody has ended, though nobody was seen for eight minutes.
    assert kinds(repaired) == once("Recovered", *faulty) + once("Started", *faulty)
    assert len(ids(told + repaired)) == len(told + repaired)


def test_the_demo_ends_with_the_verdict() -> None:
    demo = subprocess.run(
        [sys.executable, "-m", "sandbox.hub"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert demo.returncode == 0, demo.stdout[-2000:] + demo.stderr
    lines = demo.stdout.splitlines()
    assert lines[-1] == "7 events of 3 accounts, 7 ids: that is what happened."
    # The documentation shows what is printed.
    shown = (
        (ROOT / "docs" / "local-cloud.md").read_text().partition("$ make demo HUB=1\n")[2].partition("```")[0]
    )
    assert len(shown.splitlines()) > 5
    assert [text for text in shown.splitlines() if text.strip() not in " ".join(lines)] == []
