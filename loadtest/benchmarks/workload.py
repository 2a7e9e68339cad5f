"""The metrics that the benchmarks' processes count: the same metrics and, for one seed, the same numbers."""

import os
import random
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram, values

from app.monitoring.multiprocess.values import DIRECTORY, install

REQUESTS, LATENCY = "benchmark_requests", "benchmark_latency_seconds"
BUCKETS = len(Histogram.DEFAULT_BUCKETS)
HEADERS = 4
FIRST_OBSERVATIONS = 5


@dataclass(frozen=True)
class Size:
    """`routes` have a counter and a histogram each, `errors` of them a counter of failures too."""

    routes: int
    errors: int

    @property
    def lines(self) -> int:
        """Lines of the text exposition: a histogram has its buckets, a count and a sum; a metric has two headers."""
        return HEADERS + self.routes + self.errors + self.routes * (BUCKETS + 2)

    @property
    def entries(self) -> int:
        """Numbers in a process's files; the count of a histogram is not stored."""
        return self.routes + self.errors + self.routes * (BUCKETS + 1)


SMALL, LARGE = Size(71, 2), Size(1110, 16)
"""1,284 and 20,000 lines."""


class Workload:
    """The metrics of one process."""

    def __init__(self, size: Size, seed: int) -> None:
        registry = CollectorRegistry()
        requests = Counter(REQUESTS, "Requests.", ("method", "handler", "status"), registry=registry)
        latency = Histogram(LATENCY, "Time to the last byte.", ("method", "handler"), registry=registry)
        handlers = [f"/api/v1/resources/{number}/{{id}}" for number in range(size.routes)]
        failing = handlers[: size.errors]
        self._random = random.Random(seed)  # noqa: S311 -- numbers that can be had again
        # Each process meets its routes in an order of its own, so no two files are laid out alike.
        self._random.shuffle(handlers)
        self._routes = [(requests.labels("GET", one, "200"), latency.labels("GET", one)) for one in handlers]
        for one in failing:
            requests.labels("GET", one, "500").inc()
        for _ in range(FIRST_OBSERVATIONS):
            self.change(100)

    def change(self, percent: int) -> None:
        """Count one request for that share of the routes, each process for its own choice of them."""
        for requests, latency in self._random.sample(self._routes, len(self._routes) * percent // 100):
            requests.inc(self._random.randrange(1, 20))
            latency.observe(self._random.expovariate(4))


def write_shared(directory: Path) -> None:
    """Have this process's metrics go through our value class."""
    os.environ[DIRECTORY] = str(directory)
    install()


def write_as_library(directory: Path) -> None:
    """Have this process's metrics go through the library's MmapedValue."""
    os.environ[DIRECTORY] = str(directory)
    values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]


def write_in_process(_: Path) -> None:
    """Have this process's metrics stay in it."""
    values.ValueClass = values.MutexValue


def work(pipe: Connection, directory: Path, size: Size, seed: int) -> None:
    """Run a live worker: for each percentage received, change that share of its series."""
    write_shared(directory)
    _serve(pipe, Workload(size, seed))


def work_as_library(pipe: Connection, directory: Path, size: Size, seed: int) -> None:
    """Run the same worker through the library's class."""
    write_as_library(directory)
    _serve(pipe, Workload(size, seed))


def _serve(pipe: Connection, workload: Workload) -> None:
    pipe.send("ready")
    while True:
        workload.change(pipe.recv())
        pipe.send("done")
