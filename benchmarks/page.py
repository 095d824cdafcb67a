"""The board's first page, of 10,000 sessions that live and as many that ended: its processor time and size.

The table is simulated in this process, so that reading it takes what the auditor's own code takes.
"""

import gc
import importlib
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

import botocore.client
import time_machine

from benchmarks.contestants import ROOT, environment
from session_auditor.model import (
    EndReason,
    Life,
    Presence,
    Remembered,
    Scope,
    Session,
    Stored,
    Target,
    TargetId,
)
from session_auditor.table import StoredTarget, Table
from tests.simulation.dynamodb import BY_USER, DynamoDB

NOW = datetime(2026, 3, 2, 18, tzinfo=UTC)
SESSIONS, FLEETS, ROUNDS = 10_000, 60, 5
TARGET = TargetId("aws", "123456789012", "eu-west-1")


class PageFigures(NamedTuple):
    """The least processor seconds of reading the table and of the whole page; the page in bytes."""

    reading: float
    page: float
    size: int


def _filled() -> DynamoDB:
    dynamodb = DynamoDB()
    dynamodb.page_items = 1_000_000
    rows = dynamodb.create_table("sessions", indexes=BY_USER)
    table = Table("sessions", TARGET, timedelta(days=90))
    puts = [table.put_target(0, StoredTarget(Target(NOW - timedelta(days=9), NOW, NOW), 1, (), (), 0, 1))]
    for number in range(SESSIONS):
        start = NOW - timedelta(seconds=number)
        scope = Scope("office", f"fleet-{number % FLEETS}")
        user = f"user{number}@example.com"
        session = Session(
            f"3f2a8b1c-1234-4abc-8def-{number:012x}",
            scope,
            user,
            "ACTIVE",
            "CONNECTED" if number % 9 else "NOT_CONNECTED",
            "SAML",
            start,
            start + timedelta(hours=16),
            instance_id=f"i-{number:017x}",
            eni_private_ip_address="10.123.123.123",
        )
        presence = Presence.CONNECTED if number % 9 else Presence.DISCONNECTED
        live = Remembered(session, start, baseline=False, presence=presence, presence_since=start, sequence=4)
        puts.append(table.put_session(0, Stored(live, (), 1)))
        end = start - timedelta(hours=2)
        life = Life(
            f"{session.id}-ended",
            scope,
            end - timedelta(hours=4),
            end - timedelta(hours=4),
            end,
            end,
            EndReason.USER_OR_ADMIN,
            user,
            events=4,
            timeline="0s60,3600d60,4500a60:15,14400e60",
        )
        puts.append(table.put_history(life, end, NOW))
    for put in puts:
        item = put["Put"]["Item"]
        rows.put((item["pk"]["S"], item["sk"]["S"]), item)
    return dynamodb


def measure() -> PageFigures:
    """Read and make the page some times."""
    dynamodb = _filled()

    def answer(_: Any, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        return dynamodb.call(operation, parameters)

    os.environ |= environment(8) | {
        "TABLE_NAME": "sessions",
        "TARGET_ACCOUNT_ID": TARGET.account_id,
        "TARGET_REGION": TARGET.region,
        "POWERTOOLS_LOG_LEVEL": "ERROR",
    }
    sys.path.insert(0, str(ROOT / "functions" / "board"))
    context: Any = SimpleNamespace(
        invoked_function_arn="arn:aws:lambda:eu-west-1:123456789012:function:board"
    )
    reading, page, html = [], [], ""
    with patch.object(botocore.client.BaseClient, "_make_api_call", answer):
        board = importlib.import_module("board")
        with time_machine.travel(NOW, tick=False):
            for _ in range(ROUNDS):
                began = time.process_time()
                reader = board.reader_of(board.own)
                kept = [reader.snapshot(reader.target_alone())]
                kept += [list(reader.history(day)) for day in (NOW, NOW - timedelta(days=1))]
                reading.append(time.process_time() - began)
                del kept
                began = time.process_time()
                html = board.handler({"widgetContext": {"width": 1_200}}, context)
                page.append(time.process_time() - began)
    gc.enable()
    return PageFigures(min(reading), min(page), len(html.encode()))
