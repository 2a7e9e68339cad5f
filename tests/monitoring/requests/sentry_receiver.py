"""A stub of Sentry: a loopback server that stores the events sent to its DSN."""

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Receiver(ThreadingHTTPServer):
    """A server that accepts Sentry envelopes and stores their events."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Envelope)
        self.events: list[dict[str, Any]] = []

    @property
    def dsn(self) -> str:
        return f"http://key@127.0.0.1:{self.server_port}/1"


class Envelope(BaseHTTPRequestHandler):
    """Handler of one envelope: a header line, then a header line and a content line for each item."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers["content-encoding"] == "gzip":
            body = gzip.decompress(body)
        lines = [json.loads(line) for line in body.splitlines() if line]
        assert isinstance(self.server, Receiver)
        for headers, content in zip(lines[1::2], lines[2::2], strict=True):
            if headers["type"] == "event":
                self.server.events.append(content)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_arguments: Any) -> None:
        """Do not log to standard error."""


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a receiver in a thread."""
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()
