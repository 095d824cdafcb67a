"""What the local ServiceNow and the local Jira have in common: a web server of 127.0.0.1 that can fail.

It knows HTTP and faults, and leaves to each vendor what a request does and what it must look like.
"""

import json
import threading
from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

USERNAME, PASSWORD = "auditor@example.com", "local"
BASIC = f"Basic {b64encode(f'{USERNAME}:{PASSWORD}'.encode()).decode()}"


@dataclass(frozen=True)
class Fault:
    """What goes wrong once with a request of that method and path: a status, or no answer at all (None).

    With `after_effect` the vendor has done by then what it was asked.
    """

    method: str
    path: str
    status: int | None = 500
    after_effect: bool = False
    retry_after: str = ""


@dataclass(frozen=True)
class Request:
    """A request as a vendor sees it; `body` is parsed JSON, or the fields of a form."""

    method: str
    path: str
    query: Mapping[str, str]
    authorization: str
    body: Any


@dataclass(frozen=True)
class Answer:
    """A status and what is sent as JSON, bytes as they are; an empty answer for None."""

    status: int
    body: Any = None


class Vendor(ABC):
    """A vendor's service: its faults to come, and the requests that it got.

    During an `outage` every request is answered with that fault, whatever its method and path. `interrupt` is
    called with every request that had its effect, before it is answered; `garble` may change the answer.
    Fields that are `hidden` from the account are left out of what is shown.
    """

    def __init__(self) -> None:
        self.url = ""
        self.closed = threading.Event()
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Forget everything, as if nobody had ever asked."""
        self.faults: list[Fault] = []
        self.outage: Fault | None = None
        self.hidden: frozenset[str] = frozenset()
        self.requests: list[Request] = []
        self.interrupt: Callable[[Request], None] = lambda _: None
        self.garble: Callable[[Answer], Answer] = lambda answer: answer

    def count(self, method: str, path: str) -> int:
        """Count the requests of that method whose path ends like that."""
        return sum(each.method == method and each.path.endswith(path) for each in self.requests)

    @abstractmethod
    def effect(self, request: Request) -> Answer:
        """Do what is asked, or say why not."""

    def answer(self, request: Request) -> tuple[Answer | None, str]:
        """Return the answer, None for no answer at all, and the Retry-After header to send with it."""
        with self._lock:
            self.requests.append(request)
            fault = self.outage or next(
                (each for each in self.faults if (each.method, each.path) == (request.method, request.path)),
                None,
            )
            if fault in self.faults:
                self.faults.remove(fault)
            answer = self.effect(request) if fault is None or fault.after_effect else None
        if answer is not None:
            self.interrupt(request)
        if fault is None:
            return answer and self.garble(answer), ""
        return Answer(fault.status, {"error": "fault"}) if fault.status else None, fault.retry_after


VendorT = TypeVar("VendorT", bound=Vendor)


@contextmanager
def serving(vendor: VendorT) -> Iterator[VendorT]:
    """Serve a vendor on a free port of 127.0.0.1; requests without an answer are let go at the end."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body are sent apart; with delayed acknowledgements that would cost 40 ms an answer.
        disable_nagle_algorithm = True

        def _do(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            form = self.headers.get("Content-Type") == "application/x-www-form-urlencoded"
            body = (_single(content) if form else json.loads(content)) if content else None
            url = urlsplit(self.path)
            authorization = self.headers.get("Authorization", "")
            request = Request(self.command, url.path, _single(url.query), authorization, body)
            answer, retry_after = vendor.answer(request)
            if answer is None:
                vendor.closed.wait()
                self.close_connection = True
                return
            match answer.body:
                case None:
                    sent = b""
                case bytes():
                    sent = answer.body
                case _:
                    sent = json.dumps(answer.body).encode()
            self.send_response(answer.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            if retry_after:
                self.send_header("Retry-After", retry_after)
            self.end_headers()
            self.wfile.write(sent)

        def do_GET(self) -> None:
            self._do()

        def do_POST(self) -> None:
            self._do()

        def do_PATCH(self) -> None:
            self._do()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    # A client that keeps its connection must not keep the server.
    server.daemon_threads = True
    server.block_on_close = False
    vendor.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield vendor
    finally:
        vendor.closed.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _single(query: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(query, keep_blank_values=True).items()}
