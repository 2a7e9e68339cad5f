"""The real exporter process beside a process that serves the library's collector: memory, and scrapes over HTTP."""

import gzip
import http.client
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Barrier

import psutil

from app.monitoring.companion import Companion
from app.monitoring.exporter import listen
from app.monitoring.multiprocess.values import DIRECTORY
from loadtest.benchmarks.command import BenchmarkError, Depth, Figures
from loadtest.benchmarks.dead_workers import link_live
from loadtest.benchmarks.expositions import ACCEPT, must_agree
from loadtest.benchmarks.processes import order
from loadtest.benchmarks.readers import compared
from loadtest.benchmarks.workload import REQUESTS, Size

TIMEOUT_SECONDS = 60.0
AT_ONCE = 40
SCRAPES_BEFORE_MEMORY = 10
ROUNDS = {Depth.QUICK: 5, Depth.DEFAULT: 15, Depth.FULL: 31}
CHANGED = 10
# The exporter counts in the directory as well; these are what both serve.
COMMON = REQUESTS.partition("_")[0]
FORMS = {"text": ("text", False), "openmetrics": ("openmetrics", False), "text, gzip": ("text", True)}
"""Format, and whether gzip is accepted."""


@dataclass(frozen=True)
class Server:
    """A started server."""

    port: int
    pid: int

    def get(self, form: str, *, pack: bool = False) -> bytes:
        """Scrape once on a new connection; return the body as received. Raises BenchmarkError."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_SECONDS)
        try:
            headers = {"Accept": ACCEPT[form] or "text/plain", "Accept-Encoding": "gzip" if pack else "identity"}
            connection.request("GET", "/metrics", headers=headers)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        if answer.status != http.client.OK:
            raise BenchmarkError(f"port {self.port} answered {answer.status}")
        return body

    def resident(self) -> int:
        """Return the resident memory in bytes."""
        return int(psutil.Process(self.pid).memory_info().rss)


@contextmanager
def _both(live: Path, beside: Path) -> Iterator[tuple[Server, Server]]:
    """Yield the exporter and the library's server. The exporter has its own directory, since it counts there too."""
    beside.mkdir(parents=True)
    link_live(live, beside)
    with listen("127.0.0.1", 0) as listener:
        descriptor = listener.fileno()
        exporter = _start(beside, "app.monitoring.exporter", "--end-with-stdin", fd=descriptor)
        port = listener.getsockname()[1]
    try:
        librarys = _start(live, "loadtest.benchmarks.library_server")
        try:
            yield Server(port, exporter.pid), Server(int(librarys.read_line(TIMEOUT_SECONDS)), librarys.pid)
        finally:
            librarys.stop()
    finally:
        exporter.stop()


def _start(directory: Path, module: str, *arguments: str, fd: int | None = None) -> Companion:
    os.environ[DIRECTORY] = str(directory)
    try:
        if fd is None:
            return Companion(module, *arguments)
        return Companion(module, *arguments, "--fd", str(fd), pass_fds=[fd])
    finally:
        del os.environ[DIRECTORY]


def memory_of_nothing(path: Path) -> Figures:
    """Return the memory of both processes with an empty directory."""
    live = path / "nothing"
    live.mkdir(parents=True)
    return memory(live, [], Size(0, 0))


def memory(live: Path, pipes: Sequence[Connection], size: Size) -> Figures:
    """Return the resident memory of both processes after some scrapes of each kind."""
    with _both(live, live.with_name("memory")) as (ours, library):
        for _ in range(SCRAPES_BEFORE_MEMORY if pipes else 1):
            order(pipes, CHANGED)
            for form, pack in FORMS.values():
                for server in (ours, library):
                    server.get(form, pack=pack)
        return {
            "workers": len(pipes),
            "lines": size.lines if pipes else 0,
            "our_bytes": ours.resident(),
            "library_bytes": library.resident(),
        }


def http_figures(live: Path, pipes: Sequence[Connection], depth: Depth) -> Figures:
    """Measure scrapes over the loopback, one by one and forty at once, in wall time with both processes restarted."""
    with _both(live, live.with_name("http")) as (ours, library):
        must_agree(ours.get("text"), library.get("text"), COMMON)
        single = [_one_by_one(ours, library, pipes, name, ROUNDS[depth]) for name in FORMS]
        rounds = 1 if depth is Depth.QUICK else 3
        together = compared(*_alternating(ours, library, pipes, rounds))
        return {"one_by_one": single, "at_once": {"scrapes": AT_ONCE, **together}}


def _one_by_one(ours: Server, library: Server, pipes: Sequence[Connection], name: str, rounds: int) -> Figures:
    form, pack = FORMS[name]
    times: tuple[list[float], list[float]] = [], []
    sizes = [0, 0]
    for _ in range(rounds):
        order(pipes, CHANGED)
        for side, server in enumerate((ours, library)):
            started = time.perf_counter()
            body = server.get(form, pack=pack)
            times[side].append((time.perf_counter() - started) * 1e3)
            sizes[side] = len(body)
            if pack:
                gzip.decompress(body)
    return {
        "format": name,
        "changed": CHANGED,
        **compared(*times),
        "our_body_bytes": sizes[0],
        "library_body_bytes": sizes[1],
    }


def _alternating(
    ours: Server, library: Server, pipes: Sequence[Connection], rounds: int
) -> tuple[list[float], list[float]]:
    """Return the milliseconds until the last of forty scrapes that begin together is answered."""
    times: tuple[list[float], list[float]] = [], []
    for _ in range(rounds):
        order(pipes, CHANGED)
        for side, server in enumerate((ours, library)):
            times[side].append(_at_once(server))
    return times


def _at_once(server: Server) -> float:
    started: list[float] = []
    start = Barrier(AT_ONCE, lambda: started.append(time.perf_counter()))

    def scrape() -> None:
        start.wait()
        server.get("text")

    with ThreadPoolExecutor(AT_ONCE) as threads:
        for one in [threads.submit(scrape) for _ in range(AT_ONCE)]:
            one.result()
    return (time.perf_counter() - started[0]) * 1e3
