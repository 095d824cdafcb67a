"""Who is measured: the auditor's own handler, what bounds it, and what it replaces.

Each is made once, as in a warm container, and then sweeps as often as it is asked to. What runs here runs
in a process of its own, whose clients `services.Wire` answers.
"""

import importlib.util
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from benchmarks.services import (
    ACCOUNT_ID,
    BUS,
    PAGE_SIZE,
    POLICED_TABLE,
    POLICIES,
    REGION,
    TABLE,
    TURNS_TABLE,
    USUAL_TABLE,
)

ROOT = Path(__file__).parents[1]
# A sweep is measured to its end, however long it takes.
TIME_LIMIT = 3600.0
Sweep = Callable[[], None]


def environment(workers: int) -> dict[str, str]:
    """Return the environment of the function, with the defaults of template.yaml."""
    return {
        "TABLE_NAME": TABLE,
        "EVENT_BUS_NAME": BUS,
        "TARGET_ACCOUNT_ID": ACCOUNT_ID,
        "TARGET_REGION": REGION,
        "WORKERS": str(workers),
        "TOPOLOGY_MINUTES": "60",
        "API_TIME_LIMIT": "5",
        "POWERTOOLS_SERVICE_NAME": "auditor",
        "POWERTOOLS_METRICS_NAMESPACE": "AppStreamSessionAuditor",
        "AWS_ACCESS_KEY_ID": "benchmark",
        "AWS_SECRET_ACCESS_KEY": "benchmark",
        "AWS_DEFAULT_REGION": REGION,
        "TZ": "UTC",
    }


class _Invocation:
    """The context that Lambda passes."""

    aws_request_id = "00000000-0000-4000-8000-000000000000"

    def __init__(self) -> None:
        self._deadline = time.monotonic() + TIME_LIMIT

    def get_remaining_time_in_millis(self) -> int:
        return int((self._deadline - time.monotonic()) * 1000)


def auditor(workers: int, outcomes: tuple[str, ...] = ("COMPLETED",)) -> Sweep:
    """The function's own handler; its environment has to be set. Any other outcome is an error."""
    del workers
    return _handler("auditor", outcomes)


def with_policies(workers: int) -> Sweep:
    """The same with a policy of each kind, and a table of its own; a fleet in twenty violates one."""
    usual = environment(workers)
    os.environ.update(usual | {"TABLE_NAME": POLICED_TABLE, "POLICIES_PARAMETER": POLICIES})
    try:
        return _handler("auditor_with_policies")
    finally:
        del os.environ["POLICIES_PARAMETER"]
        os.environ.update(usual)


def by_turns(workers: int) -> Sweep:
    """Two containers that share a table and sweep by turns."""
    usual = environment(workers)
    os.environ["TABLE_NAME"] = TURNS_TABLE
    try:
        turns = cycle([_handler("auditor_one"), _handler("auditor_another")])
    finally:
        os.environ.update(usual)

    def sweep() -> None:
        next(turns)()

    return sweep


def _handler(name: str, outcomes: tuple[str, ...] = ("COMPLETED",)) -> Sweep:
    """Load the function as a module of that name, with the environment as it is."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "functions/auditor/auditor.py")
    assert spec
    assert spec.loader
    app: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(app)

    def sweep() -> None:
        answer = app.handler({}, _Invocation())
        if answer["outcome"] not in outcomes or answer["scopesFailed"] or answer["pending"]:
            raise AssertionError(f"not what is to be measured: {answer}")

    return sweep


def floor(workers: int) -> Sweep:
    """botocore's own paginator lists every page with as many workers, and nothing else."""
    appstream: Any = boto3.client("appstream", config=Config(max_pool_connections=workers))
    scopes = _scopes(appstream)

    def list_scope(scope: tuple[str, str]) -> None:
        paginator = appstream.get_paginator("describe_sessions")
        for _ in paginator.paginate(
            StackName=scope[0], FleetName=scope[1], PaginationConfig={"PageSize": PAGE_SIZE}
        ):
            pass

    def sweep() -> None:
        with ThreadPoolExecutor(workers) as pool:
            for _ in pool.map(list_scope, scopes):
                pass

    return sweep


def usual_script(workers: int) -> Sweep:
    """What is deployed today: list one after the other, get and put an item a session, put an event each."""
    del workers
    appstream: Any = boto3.client("appstream")
    events: Any = boto3.client("events")
    table: Any = boto3.resource("dynamodb").Table(USUAL_TABLE)
    scopes = _scopes(appstream)

    def tell(detail_type: str, session: dict[str, Any]) -> None:
        detail = f'{{"id": "{session["Id"]}", "user": "{session["UserId"]}"}}'
        entry = {"EventBusName": BUS, "Source": "usual", "DetailType": detail_type, "Detail": detail}
        events.put_events(Entries=[entry])

    def sweep() -> None:
        paginator = appstream.get_paginator("describe_sessions")
        for stack, fleet in scopes:
            pages = paginator.paginate(
                StackName=stack, FleetName=fleet, PaginationConfig={"PageSize": PAGE_SIZE}
            )
            for page in pages:
                for session in page["Sessions"]:
                    key = {"pk": session["Id"], "sk": "session"}
                    known = table.get_item(Key=key).get("Item")
                    if known is None:
                        tell("Started", session)
                    elif known["state"] != session["ConnectionState"]:
                        tell("Changed", session)
                    table.put_item(
                        Item={
                            **key,
                            "user": session["UserId"],
                            "stack": stack,
                            "fleet": fleet,
                            "state": session["ConnectionState"],
                            "started": session["StartTime"].isoformat(),
                        }
                    )

    return sweep


def _scopes(appstream: Any) -> list[tuple[str, str]]:
    stacks = [stack["Name"] for stack in appstream.describe_stacks()["Stacks"]]
    return [
        (stack, fleet)
        for stack in stacks
        for fleet in appstream.list_associated_fleets(StackName=stack)["Names"]
    ]


CONTESTANTS: dict[str, Callable[[int], Sweep]] = {
    "auditor": auditor,
    "with policies": with_policies,
    "by turns": by_turns,
    "floor": floor,
    "usual script": usual_script,
}


def enter(workers: int) -> None:
    """Make this process the function's: its environment, and a log that nobody reads."""
    os.environ.update(environment(workers))
    time.tzset()
