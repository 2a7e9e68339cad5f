"""The exporter process, which serves the aggregate on the metrics port: `python -m <package>.exporter`.

Scrapes take no time from requests and succeed while every worker is busy. The gunicorn master passes it a bound
socket, so the port stays open during a restart of the exporter.
"""

import argparse
import contextlib
import importlib
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .arguments import redaction_arguments
from .companion import announce, when_owner_ends
from .logging import configure, get_logger
from .metrics.catalogue import Catalogue, account, catalogue
from .metrics.process import ProcessMetrics
from .metrics.registry import NAMESPACE_VARIABLE, current_namespace
from .multiprocess import directory, slots, values
from .multiprocess.aggregate import Aggregate
from .multiprocess.aggregate import directory as shared_directory
from .multiprocess.labels import MAX_SERIES_PER_METRIC
from .multiprocess.response import ALLOW, respond
from .options import Options

log = get_logger("exporter")
CLIENT_TIMEOUT_SECONDS = 30.0
COLLECT_INTERVAL_SECONDS = 5.0
DEFAULT_LOGGING = {"renderer": "json", "level": "INFO", "service": "exporter", "version": "", "environment": ""}
TEXT = {"Content-Type": "text/plain; charset=utf-8"}
Collect = Callable[[Catalogue], None]


class Handler(BaseHTTPRequestHandler):
    """Handler of GET, HEAD and OPTIONS for /metrics and /health. Other methods get 405."""

    protocol_version = "HTTP/1.1"
    server_version = "metrics-exporter"
    sys_version = ""
    timeout = CLIENT_TIMEOUT_SECONDS
    server: "Exporter"

    def __getattr__(self, name: str) -> Callable[[], None]:
        """Return the handler of a method that has none of its own. The base class would answer 501."""
        if name.startswith("do_"):
            return self._refuse_method
        raise AttributeError(name)

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if path == "/metrics":
            self._answer_scrape(query.encode("latin-1"))
        elif path == "/health":
            self._answer(HTTPStatus.OK, b"ok\n")
        else:
            self._answer_not_found()

    do_HEAD = do_GET  # noqa: N815 -- the name is the base class's

    def do_OPTIONS(self) -> None:
        if self._is_known():
            self._answer(HTTPStatus.OK, b"", {"Allow": ALLOW})
        else:
            self._answer_not_found()

    def _refuse_method(self) -> None:
        if self._is_known():
            self._answer(HTTPStatus.METHOD_NOT_ALLOWED, f"use one of {ALLOW}\n".encode(), {**TEXT, "Allow": ALLOW})
        else:
            self._answer_not_found()

    def _is_known(self) -> bool:
        return self.path.partition("?")[0] in {"/metrics", "/health", "*"}

    def _answer_not_found(self) -> None:
        self._answer(HTTPStatus.NOT_FOUND, b"see /metrics\n")

    def _answer_scrape(self, query: bytes) -> None:
        accept, accept_encoding = (self.headers.get_all(name, []) for name in ("Accept", "Accept-Encoding"))
        try:
            found = respond(self.server.scrape, accept, accept_encoding, query)
        except Exception:  # one bad scrape must not end the exporter
            log.exception("scrape_failed")
            self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, b"the metric files could not be read\n")
        else:
            self._answer(HTTPStatus.OK, found.body, found.headers)

    def _answer(self, status: HTTPStatus, body: bytes, headers: Mapping[str, str] = TEXT) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        if "Content-Length" in self.headers or "Transfer-Encoding" in self.headers:
            # The request body is not read; on a kept-alive connection it would be parsed as the next request.
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(self, code: int, *_: Any, **__: Any) -> None:
        """Answer with the status' own words: the library's messages repeat the request."""
        super().send_error(code)

    def log_message(self, *_: Any) -> None:
        """Log nothing: scrapes come every few seconds."""


class Exporter(ThreadingHTTPServer):
    """An HTTP server on `listener`. `collectors` are called every few seconds to set gauges."""

    def __init__(self, listener: socket.socket, aggregate: Aggregate, collectors: Sequence[Collect] = ()) -> None:
        super().__init__(listener.getsockname(), Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self._aggregate = aggregate
        self._collectors = (self._collect_directory, ProcessMetrics("exporter").collect, *collectors)
        self.collect()
        threading.Thread(target=self._collect_for_ever, name="collectors", daemon=True).start()

    def _collect_for_ever(self) -> None:
        while True:
            time.sleep(COLLECT_INTERVAL_SECONDS)
            self.collect()

    def collect(self) -> None:
        """Call all collectors: metrics directory, this process, and those passed in."""
        for collect in self._collectors:
            try:
                collect(catalogue())
            except Exception:  # a failing collector must not affect others
                log.exception("collector_failed")

    def scrape(self, accept: str, *, pack: bool, names: frozenset[str] | None = None) -> tuple[bytes, str]:
        """Return the exposition as `Aggregate.exposition` does, and its content type. Observe the time it takes."""
        started = time.perf_counter()
        answer = self._aggregate.exposition(accept, pack=pack, names=names)
        catalogue().exporter_scrape_duration.observe(time.perf_counter() - started)
        return answer

    def _collect_directory(self, metrics: Catalogue) -> None:
        """Set the directory's gauges. Also folds dead processes, even without scrapes."""
        self._aggregate.refresh()
        files, occupied, free = directory.usage(self._aggregate.path)
        metrics.exporter_files.set(files)
        metrics.exporter_bytes.set(occupied)
        metrics.exporter_free_bytes.set(free)
        metrics.exporter_processes.set(self._aggregate.live())
        for metric, count in self._aggregate.series().items():
            metrics.exporter_series.labels(metric).set(count)

    def handle_error(self, *_: Any) -> None:
        """Ignore disconnected clients."""


def collect_workers(metrics: Catalogue) -> None:
    """Set the workers gauge where no master does it."""
    shared = shared_directory()
    found = slots.count(shared) if shared is not None else None
    if found is not None:
        metrics.workers.labels("live").set(found.live)
        if found.configured is not None:
            metrics.workers.labels("configured").set(found.configured)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening TCP socket. Raise OSError if the address cannot be bound."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=128)


class _StartError(Exception):
    """The exporter cannot start; the message is one line."""


def _load(reference: str, option: str) -> Collect:
    """Return the function `reference`. Raise _StartError with `option`, which named it, if there is none."""
    module, _, name = reference.partition(":")
    try:
        loaded: Collect = getattr(importlib.import_module(module), name)
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise _StartError(f"{option}: {reference!r}: {reason}: want module:function") from error
    if not callable(loaded):
        raise _StartError(f"{option}: {reference!r} is not a function: want module:function")
    return loaded


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"python -m {__package__}.exporter",
        description="Serve the aggregate of PROMETHEUS_MULTIPROC_DIR on /metrics, in text and OpenMetrics format.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=9090, help="port to listen on (default 9090)")
    parser.add_argument(
        "--collect",
        action="append",
        default=[],
        metavar="MODULE:FUNCTION",
        help="function called every few seconds with the catalogue, to set gauges",
    )
    parser.add_argument(
        "--fd",
        type=int,
        help="descriptor of a listening socket inherited from the parent, in place of --host and --port",
    )
    parser.add_argument(
        "--logging",
        type=json.loads,
        help="arguments of logging.configure, as JSON; by default REDACTION_PACKS and REDACTED_KEYS count",
    )
    parser.add_argument(
        "--max-series",
        type=int,
        default=MAX_SERIES_PER_METRIC,
        help=f"label sets a metric may have over all processes (default {MAX_SERIES_PER_METRIC})",
    )
    parser.add_argument(
        "--end-with-stdin",
        action="store_true",
        help="end when standard input, a socket, closes; a line of JSON is sent to it once the exporter has started",
    )
    return parser.parse_args(argv)


def _redaction() -> dict[str, Any]:
    """Return the rules of redaction that the environment gives. Raise OptionsError if one is wrong."""
    variables = {name: os.environ.get(name, "") for name in ("REDACTION_PACKS", "REDACTED_KEYS")}
    return redaction_arguments(Options.read({}, variables))


def _warn_without_namespace() -> None:
    """Log that the exporter's metrics may have another namespace than the service's, which it is not told."""
    if not os.environ.get(NAMESPACE_VARIABLE):
        log.warning(
            "namespace_not_set",
            what=f"{NAMESPACE_VARIABLE} is not set; the package's own metrics are {current_namespace()}_*",
            instead=f"{NAMESPACE_VARIABLE}=<the namespace of the service>",
        )


def _opened(arguments: argparse.Namespace) -> Exporter:
    """Return the exporter that `arguments` describe. Raise _StartError if it cannot start."""
    try:
        configure(**(arguments.logging or {**DEFAULT_LOGGING, **_redaction()}))
    except ValueError as error:
        raise _StartError(f"the exporter cannot start: {error}") from error
    shared = shared_directory()
    if shared is None or not shared.is_dir():
        reason = "is not set" if shared is None else "is no directory" if shared.exists() else "does not exist"
        raise _StartError(
            f"PROMETHEUS_MULTIPROC_DIR={str(shared or '')!r} {reason}: want the directory of the service's metric files"
        )
    try:
        collectors = [
            _load(reference, "collectors" if arguments.end_with_stdin else "--collect")
            for reference in arguments.collect
        ]
        listener = (
            socket.socket(fileno=arguments.fd) if arguments.fd is not None else listen(arguments.host, arguments.port)
        )
    except (_StartError, OSError, OverflowError) as error:
        raise _StartError(f"the exporter cannot start: {error}") from error
    if arguments.fd is None:  # no master has started this process
        collectors.append(collect_workers)
        _warn_without_namespace()
        host, port = listener.getsockname()[:2]
        log.info("exporter_started", listener=f"{host}:{port}", directory=str(shared))
    aggregate = Aggregate(shared, folds=True, max_series=arguments.max_series, account=account())
    return Exporter(listener, aggregate, collectors)


def _tell_owner(error: str | None) -> None:
    """Tell the owner that the exporter has started, or why it cannot start."""
    with contextlib.suppress(OSError):  # the owner has ended
        announce(json.dumps({"error": error}))


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM, SIGINT or the owner's end. Return the exit status."""
    arguments = _parse(argv)
    # Prefixed, because a sidecar has its own process ids, which may equal a worker's. Before everything else, because
    # the check of a redaction pack may be in a module that makes metrics.
    values.install("exporter")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    if arguments.end_with_stdin:
        when_owner_ends(lambda: os.kill(os.getpid(), signal.SIGTERM))
    try:
        exporter = _opened(arguments)
    except _StartError as error:
        if arguments.end_with_stdin:  # the owner prints it
            _tell_owner(str(error))
        else:
            sys.stderr.write(f"{error}\n")
        return 1
    with exporter:
        if arguments.end_with_stdin:
            _tell_owner(None)
        exporter.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
