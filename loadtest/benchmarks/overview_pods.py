"""Simulated pods: the exposition of the real service, grown to thousands of series, with counters that count."""

import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from loadtest.benchmarks.blocks import Labels
from loadtest.benchmarks.overload_service import service

JOB = "baliblissed"
WORKERS, ROUNDS = 4, 40
PATHS = (
    "/api/v1/destinations?limit=3",
    "/api/v1/destinations/tanah-lot",
    "/api/v1/destinations/no-such-place",
    "/api/v1/destinations/tanah-lot/reviews",
    "/api/v1/inquiries",
    "/health/ready",
    "/no/such/path",
)
# A counter that has counted n in the template counts n more in each of these.
PERIOD_SECONDS = 60.0
GROWING = ("_total", "_bucket", "_count", "_sum")


@dataclass(frozen=True)
class Series:
    """One series of a pod: its value in the template is what a counter counts in PERIOD_SECONDS."""

    name: str
    labels: Labels
    value: float

    def at(self, seconds: float) -> float:
        """Return the value `seconds` after the pod's start."""
        if not self.name.endswith(GROWING):
            return self.value
        grown = self.value * seconds / PERIOD_SECONDS
        return grown if self.name.endswith("_sum") else float(math.floor(grown))


def template(directory: Path) -> tuple[Series, ...]:
    """Start the service, send it requests, and return its series."""
    with (
        service(directory, WORKERS, {}) as running,
        httpx.Client(base_url=f"http://127.0.0.1:{running.port}") as client,
    ):
        for _ in range(ROUNDS):
            for path in PATHS:
                client.get(path)
            client.post("/api/v1/assistant/chat", json={"message": "A temple?"})
            client.post("/api/v1/assistant/itineraries", json={"days": 1})
        text = running.exposition()
    return parsed(text)


def parsed(text: str) -> tuple[Series, ...]:
    """Return the series of an exposition."""
    return tuple(
        Series(sample.name, tuple(sorted(sample.labels.items())), sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    )


def grown(series: Sequence[Series], least: int) -> tuple[Series, ...]:
    """Return at least `least` series: those of routes are repeated, as a service with more routes has them."""
    routes = [
        one for one in series if any(name == "handler" and value.startswith("/api") for name, value in one.labels)
    ]
    found = list(series)
    number = 0
    while len(found) < least and routes:
        number += 1
        found += [replace(one, labels=_moved(one.labels, number)) for one in routes]
    return tuple(found)


def _moved(labels: Labels, number: int) -> Labels:
    return tuple((name, f"{value}/{number}" if name == "handler" else value) for name, value in labels)


def target(number: int) -> dict[str, str]:
    """Return the labels that the scrape gives to the series of a pod, as k8s/components/monitoring has them."""
    pod = f"{JOB}-backend-{number:03}"
    return {
        "container": "backend",
        "endpoint": "metrics",
        "instance": pod,
        "job": JOB,
        "namespace": f"{JOB}-production",
        "node": f"node-{number % 10}",
        "pod": pod,
    }


def scraped(series: Series, number: int) -> Labels:
    """Return all labels of a stored series of the pod with this number."""
    return tuple(sorted((*series.labels, *target(number).items(), ("__name__", series.name))))


def exposition(series: Sequence[Series], seconds: float) -> bytes:
    """Return the exposition of a pod that has run for `seconds`."""
    lines = []
    for one in series:
        labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in one.labels)
        lines.append(f"{one.name}{{{labels}}} {one.at(seconds)}\n")
    return "".join(lines).encode()


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


@contextmanager
def pods(series: Sequence[Series], began: float, interval: float) -> Iterator[int]:
    """Serve the exposition of every pod on a port of the loopback, and yield the port.

    `began` is the pods' start in Unix time. The pods scraped in the same `interval` share what they answer.
    """
    body = lru_cache(maxsize=2)(lambda number: exposition(series, number * interval))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer = body(int((time.time() - began) // interval))
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
