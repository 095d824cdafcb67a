"""AWS without a network: answers the requests that botocore would send, from another process.

The clients of a measured process serialise, sign and parse as always; `connect` takes each request where
botocore would open a socket and hands it through a pipe to `serve`. So neither the time nor the memory
of the services is measured. It knows nothing of who asks, and simulates no faults but a rate limit.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from typing import Any

import botocore.handlers
from botocore.awsrequest import AWSResponse

from tests.simulation.dynamodb import BY_USER, DynamoDB
from tests.simulation.errors import AwsError
from tests.simulation.eventbridge import EventBridge

ACCOUNT_ID, REGION = "123456789012", "eu-west-1"
TABLE, BUS, USUAL_TABLE = "sessions", "bus", "usual"
POLICED_TABLE, POLICIES = "policed", "/policies"
TURNS_TABLE = "by-turns"
PAGE_SIZE = 50
HOURS_16 = 57_600


class Estate:
    """The stacks, fleets and sessions of an account, as the bytes that AppStream would answer."""

    def __init__(self, sessions: int, scopes: int) -> None:
        self.size = sessions
        self.scopes = [(f"stack-{number}", f"fleet-{number}") for number in range(scopes)]
        self._records: dict[tuple[str, str], list[dict[str, Any]]] = {scope: [] for scope in self.scopes}
        self._pages: dict[tuple[str, str], list[bytes]] = {}
        self._generation = 0
        self.fill()

    def fill(self) -> None:
        """Let everybody start a session."""
        # Who starts before a target's first sweep is part of its baseline and gets no Started event.
        began = int(time.time()) + (5 if self._generation else -60)
        self._generation += 1
        for number in range(self.size):
            stack, fleet = scope = self.scopes[number % len(self.scopes)]
            self._records[scope].append(
                {
                    "Id": f"{self._generation:08x}-1234-4abc-8def-{number:012x}",
                    "UserId": f"user{number}@example.com",
                    "StackName": stack,
                    "FleetName": fleet,
                    "State": "ACTIVE",
                    "ConnectionState": "CONNECTED",
                    "StartTime": began,
                    "MaxExpirationTime": began + HOURS_16,
                    "AuthenticationType": "SAML",
                    "NetworkAccessConfiguration": {
                        "EniPrivateIpAddress": f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
                        "EniId": f"eni-{number:017x}",
                    },
                    "InstanceId": f"i-{number:017x}",
                    "InstanceDrainStatus": "NOT_APPLICABLE",
                }
            )
        self._pages.clear()

    def empty(self) -> None:
        """Let every session end."""
        for records in self._records.values():
            records.clear()
        self._pages.clear()

    def churn(self) -> None:
        """Let one user in a hundred drop off or come back; one at least."""
        everybody = [record for records in self._records.values() for record in records]
        for record in everybody[:: min(100, len(everybody))]:
            away = record["ConnectionState"] == "CONNECTED"
            record["ConnectionState"] = "NOT_CONNECTED" if away else "CONNECTED"
        self._pages.clear()

    def pages(self, stack: str, fleet: str) -> list[bytes]:
        """Return the answers of DescribeSessions, one a page; there is always one."""
        pages = self._pages.get((stack, fleet))
        if pages is None:
            records = self._records[stack, fleet]
            pages = self._pages[stack, fleet] = []
            for start in range(0, len(records) or 1, PAGE_SIZE):
                answer: dict[str, Any] = {"Sessions": records[start : start + PAGE_SIZE]}
                if start + PAGE_SIZE < len(records):
                    answer["NextToken"] = str(len(pages) + 1)
                pages.append(json.dumps(answer).encode())
        return pages


def policies() -> str:
    """Return a document with a policy of each kind; these days are outside the hours of `fleet-1`."""
    days = [f"{datetime.now(UTC) + timedelta(days=day):%Y-%m-%d}" for day in range(-2, 3)]
    hours = {"days": "mon-sun", "from": "07:00", "to": "19:00", "skip": days}
    return json.dumps(
        {
            "version": 1,
            "timeZone": "Europe/Berlin",
            "hours": {"office": hours},
            "policies": {
                "after-hours": {"kind": "OUTSIDE_HOURS", "hours": "office", "fleets": "fleet-1"},
                "two-at-most": {"kind": "TOO_MANY_SESSIONS", "limit": 2},
                "too-long": {"kind": "TOO_LONG", "minutes": [600, 720]},
                "draining": {"kind": "DRAINING", "minutes": [30]},
            },
        }
    )


class Services:
    """AppStream over an estate, a table for each contestant, a bus; counts what is asked of them."""

    def __init__(self, estate: Estate) -> None:
        self.estate = estate
        self.counts: Counter[str] = Counter()
        # DescribeSessions calls by stack, those that are turned down, too.
        self.listed: Counter[str] = Counter()
        self.read_units = 0.0
        self.dynamodb = DynamoDB()
        # A page is full at 1 MB; nothing else limits it.
        self.dynamodb.page_items = 1_000_000
        self.dynamodb.create_table(TABLE, indexes=BY_USER)
        for name in (POLICED_TABLE, TURNS_TABLE):
            self.dynamodb.create_table(name, indexes=BY_USER)
        self.dynamodb.create_table(USUAL_TABLE)
        self.eventbridge = EventBridge()
        self.eventbridge.buses.add(BUS)
        # DescribeSessions calls a second; 0 is no limit. A second's worth may come at once.
        self.rate = 0.0
        self._tokens, self._filled = 0.0, time.monotonic()
        self._lock = threading.Lock()

    def answer(self, request: bytes) -> bytes:
        """Answer a request: the status, a line end, the body."""
        target, _, body = request.partition(b"\n")
        service, _, operation = target.decode().partition(".")
        with self._lock:
            try:
                content = self._content(service, operation, body)
                status = b"200"
            except AwsError as error:
                content = json.dumps({"__type": error.code, "message": error.message, **error.extra}).encode()
                status = b"400"
                self.counts[error.code] += 1
            if service != "Benchmark":
                self.counts[operation] += 1
                self.counts["bytes"] += len(body) + len(content)
        return status + b"\n" + content

    def _content(self, service: str, operation: str, body: bytes) -> bytes:
        if service == "Benchmark":
            return self._orders(operation, body)
        parameters = json.loads(body)
        if service == "PhotonAdminProxyService":
            return self._appstream(operation, parameters)
        if service == "AmazonSSM":
            return json.dumps({"Parameter": {"Name": parameters["Name"], "Value": policies()}}).encode()
        if service == "AWSEvents":
            answer = self.eventbridge.call(operation, parameters)
            self.counts["events"] += len(parameters["Entries"])
            self.eventbridge.accepted.clear()
        else:
            answer = self.dynamodb.call(operation, parameters)
        return json.dumps(answer).encode()

    def _orders(self, operation: str, body: bytes) -> bytes:
        if operation == "limit":
            self.rate = self._tokens = float(body)
            self._filled = time.monotonic()
            return b"{}"
        if operation == "counts":
            counts = {
                **self.counts,
                "read units": self.dynamodb.read_units,
                "write units": self.dynamodb.write_units,
                "item writes": self.dynamodb.writes,
            }
            self.counts.clear()
            self.listed.clear()
            self.dynamodb.read_units = self.dynamodb.write_units = self.dynamodb.writes = 0
            return json.dumps(counts).encode()
        if operation == "pages":
            return json.dumps([len(self.estate.pages(*scope)) for scope in self.estate.scopes]).encode()
        {"fill": self.estate.fill, "empty": self.estate.empty, "churn": self.estate.churn}[operation]()
        return b"{}"

    def _appstream(self, operation: str, parameters: dict[str, Any]) -> bytes:
        if operation == "DescribeSessions":
            self.listed[parameters["StackName"]] += 1
            self._take_token()
            # Every user came by SAML.
            if parameters.get("AuthenticationType", "SAML") != "SAML":
                return b'{"Sessions": []}'
            pages = self.estate.pages(parameters["StackName"], parameters["FleetName"])
            assert parameters["Limit"] == PAGE_SIZE
            return pages[int(parameters.get("NextToken", "0"))]
        answer = {
            "DescribeStacks": {"Stacks": [{"Name": stack} for stack, _ in self.estate.scopes]},
            "DescribeFleets": {
                "Fleets": [
                    {"Name": fleet, "DisconnectTimeoutInSeconds": 3600} for _, fleet in self.estate.scopes
                ]
            },
            "ListAssociatedFleets": {
                "Names": [
                    fleet for stack, fleet in self.estate.scopes if stack == parameters.get("StackName")
                ]
            },
        }[operation]
        return json.dumps(answer).encode()

    def _take_token(self) -> None:
        if not self.rate:
            return
        now = time.monotonic()
        self._tokens = min(self.rate, self._tokens + (now - self._filled) * self.rate)
        self._filled = now
        if self._tokens < 1:
            raise AwsError("ThrottlingException", "Rate exceeded")
        self._tokens -= 1


def serve(services: Services, connection: Connection) -> None:
    """Answer until the other end is closed."""
    try:
        while True:
            connection.send_bytes(services.answer(connection.recv_bytes()))
    except (EOFError, ConnectionResetError):
        connection.close()


class Wire:
    """The measured process's end: every client that is made from now on is answered from the services."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        # Seconds that every call takes.
        self.latency = 0.0
        self._lock = threading.Lock()
        # Where moto hooks in, too: handlers that every session gets when it is made.
        botocore.handlers.BUILTIN_HANDLERS.append(("before-send", self._send))

    def order(self, order: str, value: str = "") -> Any:
        """Change the estate or the rate limit, or give the counts since the last time."""
        return json.loads(self._exchange(f"Benchmark.{order}\n{value}".encode())[4:])

    def _send(self, request: Any, **_: Any) -> AWSResponse:
        if self.latency:
            time.sleep(self.latency)
        target = request.headers["X-Amz-Target"]
        target = target if isinstance(target, bytes) else target.encode()
        answer = self._exchange(target + b"\n" + (request.body or b""))
        headers: Any = {"Content-Type": "application/x-amz-json-1.1", "x-amzn-requestid": "benchmark"}
        return AWSResponse(request.url, int(answer[:3]), headers, _Body(answer[4:]))

    def _exchange(self, request: bytes) -> bytes:
        with self._lock:
            self._connection.send_bytes(request)
            return self._connection.recv_bytes()


class _Body:
    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self) -> Iterator[bytes]:
        yield self._content
