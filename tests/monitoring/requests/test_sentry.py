"""Sentry gets each unhandled exception once, whichever way it is integrated, and the log has it once."""

import asyncio
import gzip
import json
import os
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


class Receiver(ThreadingHTTPServer):
    """A Sentry endpoint that keeps the events."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Envelope)
        self.events: list[dict[str, Any]] = []

    @property
    def dsn(self) -> str:
        return f"http://key@127.0.0.1:{self.server_port}/1"


class Envelope(BaseHTTPRequestHandler):
    """One envelope: a line of headers, then a line of headers and one of content for each item."""

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
        """Log nothing on standard error."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


WAYS = ["automatic", "around", "middleware", "middleware without logging", "logging"]


@pytest.mark.parametrize("maker", ["layer", "instrumentation"])
@pytest.mark.parametrize("way", WAYS)
async def test_sentry_gets_an_unhandled_exception_once(receiver: Receiver, way: str, maker: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.monitoring.requests.sentry_service", way, maker, receiver.dsn),
        env={**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    (event,) = receiver.events
    assert [error["type"] for error in event["exception"]["values"]] == ["LookupError"]
    lines = [json.loads(line) for line in output.splitlines()]
    assert [line["event"] for line in lines if "exception" in line] == ["unhandled_error"]
