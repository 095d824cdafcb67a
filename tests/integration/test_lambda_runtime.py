"""The handler under awslambdaric, as Lambda runs it, with a small Runtime API of our own.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from sandbox import appstream
from sandbox.appstream.models import Fleet, StreamingSession
from session_auditor import __version__

ROOT = Path(__file__).parents[2]
REGION = "eu-west-1"
RUN_SECONDS = 60


class RuntimeApi(ThreadingHTTPServer):
    """Hands out one invocation and keeps what the runtime posts."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.invocations: SimpleQueue[str] = SimpleQueue()
        self.posted: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        self.invocations.put("11111111-2222-3333-4444-555555555555")


class _Handler(BaseHTTPRequestHandler):
    server: RuntimeApi
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        request_id = self.server.invocations.get()
        self.send_response(200)
        self.send_header("Lambda-Runtime-Aws-Request-Id", request_id)
        self.send_header("Lambda-Runtime-Deadline-Ms", str(int((time.time() + 50) * 1000)))
        self.send_header(
            "Lambda-Runtime-Invoked-Function-Arn", f"arn:aws:lambda:{REGION}:123456789012:function:auditor"
        )
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posted.put((self.path.removeprefix("/2018-06-01/runtime/"), json.loads(body)))
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def runtime_api() -> Iterator[RuntimeApi]:
    server = RuntimeApi()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    # The runtime asks for the next invocation until it is ended; an empty answer lets its thread go.
    server.invocations.put("none")
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def aws() -> Iterator[str]:
    appstream.register()
    appstream.appstream_backends.reset()
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    state = appstream.appstream_backends["123456789012"][REGION]
    state.add_scope("office", Fleet("cad"))
    state.sessions["s-1"] = StreamingSession("s-1", "jane.doe@example.com", "office", "cad")
    yield endpoint
    server.stop()


def create_table(endpoint: str) -> None:
    session: Any = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=REGION)
    session.client("dynamodb", endpoint_url=endpoint).create_table(
        TableName="sessions",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
        BillingMode="PAY_PER_REQUEST",
    )


def run(runtime_api: RuntimeApi, endpoint: str, **environment: str) -> tuple[str, Any, str]:
    """Run the function until it posts something; return what, and all that it logged."""
    code = ROOT / "functions" / "auditor"
    process = subprocess.Popen(
        [sys.executable, "-m", "awslambdaric", "auditor.handler"],
        cwd=code,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{code}:{ROOT / 'layers' / 'session_auditor'}",
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{runtime_api.server_address[1]}",
            "AWS_LAMBDA_FUNCTION_NAME": "auditor",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
            "LAMBDA_TASK_ROOT": str(code),
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_ENDPOINT_URL": endpoint,
            "TABLE_NAME": "sessions",
            "EVENT_BUS_NAME": "default",
            "TARGET_ACCOUNT_ID": "123456789012",
            "TARGET_REGION": REGION,
            "BASELINE_EVENTS": "true",
            "POWERTOOLS_SERVICE_NAME": "auditor",
            "POWERTOOLS_METRICS_NAMESPACE": "AppStreamSessionAuditor",
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        path, body = runtime_api.posted.get(timeout=RUN_SECONDS)
    finally:
        process.kill()
        logged, _ = process.communicate()
    return path, body, logged


def test_success(runtime_api: RuntimeApi, aws: str) -> None:
    create_table(aws)
    path, summary, logged = run(runtime_api, aws)
    assert path == "invocation/11111111-2222-3333-4444-555555555555/response"
    assert summary | {"sweepId": ""} == {
        "version": __version__,
        "sweepId": "",
        "outcome": "COMPLETED",
        "scopesListed": 1,
        "scopesFailed": 0,
        "sessionsSeen": 1,
        "changesUncommitted": 0,
        "eventsPublished": {"AppStream Session Started": 1},
        "eventsRefused": 0,
        "pending": 0,
        "itemsUnreadable": 0,
        "publishingStopped": "",
    }
    lines = [json.loads(line) for line in logged.splitlines() if line.startswith("{")]
    (completed,) = (line for line in lines if line.get("message") == "sweep completed")
    assert completed["sweepId"] == summary["sweepId"]
    assert completed["service"] == "auditor"
    assert completed["version"] == __version__
    (metrics,) = (line for line in lines if "_aws" in line)
    (directive,) = metrics["_aws"]["CloudWatchMetrics"]
    assert directive["Dimensions"] == [["service"]]
    assert {each["Name"] for each in directive["Metrics"]} >= {
        "SweepCompleted",
        "SweepDuration",
        "SessionsSeen",
        "ScopesFailed",
        "EventsPublished",
        "OutboxPending",
        "OldestPendingAge",
        "EventsRefused",
    }
    assert "jane" not in logged


def test_error(runtime_api: RuntimeApi, aws: str) -> None:
    path, error, _ = run(runtime_api, aws)
    assert path == "invocation/11111111-2222-3333-4444-555555555555/error"
    assert error["errorType"] == "SnapshotError"
    assert "table sessions cannot be read (ResourceNotFoundException)" in error["errorMessage"]


def test_import_error(runtime_api: RuntimeApi, aws: str) -> None:
    path, error, _ = run(runtime_api, aws, WORKERS="many")
    assert path == "init/error"
    assert "WORKERS should be a whole number from 1 to 64" in error["errorMessage"]
