"""A web server on a free port of 127.0.0.1, for what stands in for a vendor or for the console."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

HOST = "127.0.0.1"


class Post(NamedTuple):
    """What was posted."""

    path: str
    headers: Message
    body: bytes


class Answer(NamedTuple):
    """What to answer."""

    status: int
    text: str
    headers: Mapping[str, str]


@contextmanager
def serving(answer: Callable[[Post], Answer]) -> Iterator[str]:
    """Answer posts and gets, several at a time, until the end; return the URL of the server."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, text, headers = answer(Post(self.path, self.headers, body))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST  # noqa: N815 - as the base class calls it

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((HOST, 0), Handler)
    # It looks for its end twenty times a second.
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
