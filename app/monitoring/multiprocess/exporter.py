"""The process that serves the aggregate on the metrics port: `python -m app.monitoring.multiprocess.exporter`.

It is no worker, so a scrape never takes time from a request, and it answers while every worker is busy. The gunicorn
master hands it a bound socket, so the port stays open while the exporter is started again.
"""

import argparse
import importlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.monitoring.logging import get_logger
from app.monitoring.multiprocess.companion import when_owner_ends

if TYPE_CHECKING:
    from app.monitoring.catalogue import Catalogue

log = get_logger("exporter")
CLIENT_TIMEOUT = 30.0
Collect = Callable[["Catalogue"], None]


class Handler(BaseHTTPRequestHandler):
    """GET or HEAD of /metrics and /health."""

    protocol_version = "HTTP/1.1"
    server_version = "metrics-exporter"
    sys_version = ""
    timeout = CLIENT_TIMEOUT
    server: "Exporter"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            try:
                body, content_type = self.server.scrape(self.headers.get("Accept", ""))
            except Exception:  # one bad scrape must not end the exporter
                log.exception("scrape_failed")
                self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, b"the metric files could not be read\n")
            else:
                self._answer(HTTPStatus.OK, body, content_type)
        elif path == "/health":
            self._answer(HTTPStatus.OK, b"ok\n")
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"see /metrics\n")

    do_HEAD = do_GET  # noqa: N815 -- the name is the base class's

    def _answer(self, status: HTTPStatus, body: bytes, content_type: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Scrapes are not logged: they come every few seconds and say nothing new."""


class Exporter(ThreadingHTTPServer):
    """An HTTP server on `listener`; each of `collectors` sets its gauges before a scrape."""

    daemon_threads = True

    def __init__(self, listener: socket.socket, collectors: Sequence[Collect] = ()) -> None:
        super().__init__(listener.getsockname(), Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self._collectors = collectors

    def scrape(self, accept: str) -> tuple[bytes, str]:
        """One exposition in the format that `accept` asks for, and its content type."""
        # Imported late: the metrics library looks at PROMETHEUS_MULTIPROC_DIR when it is first imported.
        from app.monitoring.catalogue import catalogue, registry  # noqa: PLC0415
        from app.monitoring.multiprocess import aggregate, directory  # noqa: PLC0415

        started = time.perf_counter()
        known = catalogue()
        for collect in self._collectors:
            try:
                collect(known)
            except Exception:  # a host figure that fails must not cost the service's own
                log.exception("collector_failed")
        shared = aggregate.directory()
        if shared is not None:
            files, held = directory.usage(shared)
            known.exporter_files.set(files)
            known.exporter_bytes.set(held)
        answer = aggregate.exposition(accept, registry())
        known.exporter_scrape_duration.observe(time.perf_counter() - started)
        return answer

    def handle_error(self, *_: Any) -> None:
        """A client that went away is no event."""


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket; raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=128)


def _load(reference: str) -> Collect:
    module, _, name = reference.partition(":")
    try:
        loaded: Collect = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{reference!r}: {error}: want module:function") from error
    return loaded


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m app.monitoring.multiprocess.exporter",
        description="Serve the aggregate of PROMETHEUS_MULTIPROC_DIR on /metrics, in text and OpenMetrics format.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=9090, help="port to listen on (default 9090)")
    parser.add_argument("--directory", type=Path, help="metric files (default $PROMETHEUS_MULTIPROC_DIR)")
    parser.add_argument(
        "--collect",
        action="append",
        default=[],
        metavar="MODULE:FUNCTION",
        help="called before a scrape with the catalogue, to set gauges of its own",
    )
    parser.add_argument(
        "--fd",
        type=int,
        help="a listening socket that the parent process hands over, in place of --host and --port",
    )
    parser.add_argument("--end-with-stdin", action="store_true", help="end when standard input closes")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM, SIGINT, or the end of the owner."""
    arguments = _parse(argv)
    if arguments.directory is not None:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(arguments.directory)
    where = os.environ.get("PROMETHEUS_MULTIPROC_DIR", "")
    if not Path(where).is_dir() or not where:
        print(f"PROMETHEUS_MULTIPROC_DIR={where!r}: want the directory of the metric files", file=sys.stderr)  # noqa: T201
        return 1
    try:
        collectors = [_load(reference) for reference in arguments.collect]
        listener = (
            socket.socket(fileno=arguments.fd) if arguments.fd is not None else listen(arguments.host, arguments.port)
        )
    except (argparse.ArgumentTypeError, OSError) as error:
        print(f"the exporter cannot start: {error}", file=sys.stderr)  # noqa: T201
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    if arguments.end_with_stdin:
        when_owner_ends(lambda: os.kill(os.getpid(), signal.SIGTERM))
    with Exporter(listener, collectors) as exporter:
        exporter.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
