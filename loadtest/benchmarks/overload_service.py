"""The service of the overload benchmark and its databases on one core, and the programs that load it on another."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import psutil

from app.embedded import EmbeddedServers
from app.settings import ROOT, Settings
from loadtest.benchmarks.command import BenchmarkError
from loadtest.programs import free_port

START_SECONDS, STOP_SECONDS = 60.0, 40.0
# CPU in one interval below which workers have nothing to do.
IDLE_INTERVAL_SECONDS, IDLE_SHARE, MAX_IDLE_WAIT_SECONDS = 0.5, 0.1, 60.0


def cores() -> tuple[set[int], set[int]]:
    """Return the core of the service and that of clients and probes; all of them where there is only one."""
    known = sorted(os.sched_getaffinity(0))
    return ({known[0]}, {known[-1]})


@contextlib.contextmanager
def pinned(to: set[int]) -> Iterator[None]:
    """Have the processes that are started meanwhile run on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, to)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def clients_core_busy() -> Iterator[None]:
    """Keep the clients' core busy at the lowest priority meanwhile, if it is not the service's too.

    Two virtual cores are often the two threads of one: with clients that send at ten times the capacity on the other,
    the service's core is slower than in the measurement of the capacity, where few clients send.
    """
    ours, others = cores()
    if ours == others:
        yield
        return
    with pinned(others):
        process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        psutil.Process(process.pid).nice(19)
        yield
    finally:
        process.kill()
        process.wait()


class Service:
    """The started service."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, metrics_port: int, log: Path) -> None:
        self.port = port
        self._process, self._metrics_port, self._log = process, metrics_port, log
        self._master = psutil.Process(process.pid)

    def wait(self) -> None:
        """Wait until it is ready. Raise BenchmarkError if it is not in time."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"http://127.0.0.1:{self.port}/health/ready", timeout=5).is_success:
                    return
            time.sleep(0.1)
        raise BenchmarkError(f"the service is not ready: {self._log.read_text(errors='replace')[-2000:]}")

    def workers(self) -> list[psutil.Process]:
        """Return the workers; the master's other children have other command lines."""
        own = self._master.cmdline()
        return [one for one in self._master.children() if one.cmdline() == own]

    def cpu(self) -> float:
        """Return the CPU seconds of the workers."""
        return sum(sum(one.cpu_times()[:2]) for one in self.workers())

    def seconds_until_idle(self) -> float | None:
        """Return the seconds until the workers have nothing to do, None if they do not come to rest."""
        started, before = time.monotonic(), self.cpu()
        while time.monotonic() < started + MAX_IDLE_WAIT_SECONDS:
            begun = time.monotonic()
            time.sleep(IDLE_INTERVAL_SECONDS)
            now = self.cpu()
            if now - before < IDLE_SHARE * IDLE_INTERVAL_SECONDS:
                return round(begun - started, 1)
            before = now
        return None

    def metric(self, name: str) -> float | None:
        """Return the sum of a metric's series, None without one."""
        found = [
            float(line.rpartition(" ")[2])
            for line in self.exposition().splitlines()
            if line.startswith((f"{name}{{", f"{name} "))
        ]
        return sum(found) if found else None

    def exposition(self) -> str:
        """Return what a scrape gets."""
        return httpx.get(f"http://127.0.0.1:{self._metrics_port}/metrics", timeout=10).text


@contextlib.contextmanager
def service(directory: Path, workers: int, changes: dict[str, str]) -> Iterator[Service]:
    """Start PostgreSQL, Redis and the service as in production, all on the service's core."""
    port, metrics_port, log = free_port(), free_port(), directory / "service.log"
    directory.mkdir(parents=True)
    with contextlib.ExitStack() as running:
        with pinned(cores()[0]):  # not for longer: `start` takes the clients' core from this process' own
            servers = EmbeddedServers(directory / "servers")
            running.callback(servers.stop)
            environment = {name: "" for name in os.environ if name.lower() in Settings.model_fields} | {
                "ENVIRONMENT": "production",
                "PORT": str(port),
                "METRICS_PORT": str(metrics_port),
                "PROMETHEUS_MULTIPROC_DIR": str(directory / "metrics"),
                "WEB_CONCURRENCY": str(workers),
                **servers.wait_until_ready(),
                **changes,
            }
            with log.open("wb") as output:
                process = subprocess.Popen(
                    [Path(sys.executable).with_name("gunicorn"), "-c", "gunicorn_conf.py"],
                    cwd=ROOT,
                    env={**os.environ, **environment},
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
        running.callback(_stop, process)
        started = Service(process, port, metrics_port, log)
        started.wait()
        yield started


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def start(module: str, arguments: Sequence[str]) -> "subprocess.Popen[str]":
    """Start a program of the benchmark on the clients' core."""
    with pinned(cores()[1]):
        return subprocess.Popen(
            [sys.executable, "-m", f"loadtest.benchmarks.{module}", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
