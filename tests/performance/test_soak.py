"""A day of 500 targets in one container, in simulated time: what it keeps stays bounded.

The function is the deployed one; calls are answered where botocore makes them. Each target has some forty
sessions, of which fewer are kept than in a deployment. All are swept every twelve hours, so that all is
forgotten and found again.
"""

import gc
import importlib.util
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import botocore.client
import pytest
import time_machine

from benchmarks.contestants import ROOT, environment
from benchmarks.services import Estate, Services
from session_auditor import auditors
from session_auditor.messages import Message

TARGETS = [(f"{account:012}", region) for account in range(1, 251) for region in ("eu-west-1", "us-east-1")]
SESSIONS = 41
# Of so many, a function of this size keeps clients: fewer than there are.
MEMORY, KEPT = 400, 288
SETTINGS = environment(1) | {
    "AUTHENTICATION_TYPES": "API",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(MEMORY),
}
START = datetime(2026, 3, 2, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Context:
    aws_request_id = "00000000-0000-4000-8000-000000000000"

    def get_remaining_time_in_millis(self) -> int:
        return 50_000


class Cloud:
    """Answers for 500 targets that are alike, and counts what is asked."""

    def __init__(self) -> None:
        self._services = Services(Estate(0, 1))
        self._sessions = [
            {
                "Id": f"session-{number}",
                "UserId": f"user{number}@example.com",
                "StackName": "office",
                "FleetName": "cad",
                "State": "ACTIVE",
                "ConnectionState": "CONNECTED",
                "AuthenticationType": "API",
                "StartTime": START - HOUR,
            }
            for number in range(SESSIONS)
        ]
        self.calls: Counter[str] = Counter()

    def answer(self, service: str, operation: str, parameters: dict[str, Any]) -> Any:
        self.calls[operation] += 1
        if service == "dynamodb":
            return self._services.dynamodb.call(operation, parameters)
        keys = {"AccessKeyId": "ASIA", "SecretAccessKey": "secret", "SessionToken": "t" * 1_000}
        return {
            "AssumeRole": {"Credentials": keys | {"Expiration": datetime.now(UTC) + HOUR}},
            "DescribeStacks": {"Stacks": [{"Name": "office"}]},
            "DescribeFleets": {"Fleets": [{"Name": "cad"}]},
            "ListAssociatedFleets": {"Names": ["cad"]},
            "DescribeSessions": {"Sessions": self._sessions},
        }[operation]


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    cloud = Cloud()

    def call(client: Any, operation: str, parameters: dict[str, Any]) -> Any:
        return cloud.answer(client.meta.service_model.service_name, operation, parameters)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", call)
    for name, value in (SETTINGS).items():
        monkeypatch.setenv(name, value)
    with time_machine.travel(START, tick=False):
        yield cloud


def test_what_a_container_keeps_in_a_day_of_500_targets_is_bounded(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = importlib.util.spec_from_file_location("auditor_of_a_day", ROOT / "functions/auditor/auditor.py")
    assert spec
    assert spec.loader
    function = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, function)
    spec.loader.exec_module(function)
    monkeypatch.setattr(auditors, "SESSIONS_KEPT", 8_000)
    blocks = []
    for hour in (0, 12, 24):
        with time_machine.travel(START + hour * HOUR, tick=False):
            sweep_all(function)
        gc.collect()
        blocks.append(sys.getallocatedblocks())
        kept = function.auditors._others.values()
        assert len(kept) <= KEPT
        # The first sweep writes, so what it read is not kept. The last target's sessions are counted when the
        # next target is asked for.
        sessions = sum(each.auditor.snapshots.sessions_kept for each in kept)
        assert (hour > 0) <= sessions <= auditors.SESSIONS_KEPT + SESSIONS
    # A container holds the credentials of all accounts. It holds no more after a day than after half of it.
    assert len(function.auditors._credentials) == 1 + len(TARGETS) // 2
    assert cloud.calls["AssumeRole"] == 3 * len(TARGETS) // 2
    assert blocks[-1] <= 1.01 * blocks[1]


def sweep_all(function: Any) -> None:
    now = datetime.now(UTC)
    outcomes: Counter[str] = Counter()
    for start in range(0, len(TARGETS), 5):
        records = [{"body": Message(*target, now).text} for target in TARGETS[start : start + 5]]
        outcomes.update(function.handler({"Records": records}, Context())["outcomes"])
    assert outcomes == {"COMPLETED": len(TARGETS)}
