"""A gunicorn with four workers that the lifecycle benchmark reloads, recycles and stops: ours, or stock."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from app.settings import ROOT
from loadtest.benchmarks.command import BenchmarkError
from loadtest.benchmarks.lifecycle_app import APPLICATION, KIND, OURS
from loadtest.programs import free_port

WORKERS = 4
GRACEFUL_SECONDS, KEEPALIVE_SECONDS = 25, 75
TIMEOUT_SECONDS, POLL_SECONDS = 120.0, 0.02
STARTED = b"Application startup complete."
"""Uvicorn's line of a worker that serves."""


class Served:
    """A started service. Its workers' starts are counted in its log."""

    def __init__(self, kind: str, directory: Path, max_requests: int) -> None:
        self.port = free_port()
        files = directory / f"{kind}-{time.monotonic_ns()}"
        files.mkdir()
        self._log = files / "log"
        self._read, self._starts, self._rest = 0, 0, b""
        environment = os.environ | {
            KIND: kind,
            "PORT": str(self.port),
            "METRICS_PORT": str(free_port()),
            "PROMETHEUS_MULTIPROC_DIR": str(files / "metrics"),
            "WEB_CONCURRENCY": str(WORKERS),
            "GRACEFUL_TIMEOUT": str(GRACEFUL_SECONDS),
            "KEEPALIVE": str(KEEPALIVE_SECONDS),
            "MAX_REQUESTS": str(max_requests),
        }
        command = [str(Path(sys.executable).with_name("gunicorn")), *_options(kind, self.port, max_requests)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        self._master = psutil.Process(self._process.pid)

    @property
    def starts(self) -> int:
        """The number of workers that have served so far."""
        with self._log.open("rb") as log:
            log.seek(self._read)
            added = self._rest + log.read()
            self._read = log.tell()
        self._starts += added.count(STARTED)
        self._rest = added[1 - len(STARTED) :]
        return self._starts

    def workers(self) -> list[psutil.Process]:
        """Return the worker processes: the master's children that run its own command."""
        command = self._master.cmdline()
        found = []
        for child in self._master.children():
            try:
                found += [child] if child.cmdline() == command else []
            except psutil.NoSuchProcess:  # it has ended meanwhile
                continue
        return found

    async def until(self, reached: Callable[[], bool], what: str, patience: float = TIMEOUT_SECONDS) -> None:
        """Wait for a condition. Raise BenchmarkError if it does not come or the service ends before."""
        deadline = time.monotonic() + patience
        while not reached():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise BenchmarkError(f"waited in vain for {what}; the log ends: {self._log.read_text()[-2000:]}")
            await asyncio.sleep(POLL_SECONDS)

    async def ready(self) -> None:
        """Wait until all workers serve."""
        await self.until(lambda: self.starts >= WORKERS, "all workers")

    async def reload(self) -> None:
        """Replace all workers by SIGHUP; wait until their successors serve and the old ones have ended."""
        old, starts = self.workers(), self.starts
        self._process.send_signal(signal.SIGHUP)
        await self.until(lambda: self.starts >= starts + WORKERS and not any(map(_runs, old)), "the end of a reload")

    async def stop(self) -> None:
        """Stop the service by SIGTERM, and wait for its end. Raise BenchmarkError if it does not end."""
        if self._process.poll() is None:
            self._process.terminate()
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while self._process.poll() is None:
            if time.monotonic() > deadline:
                raise BenchmarkError("the service does not end")
            await asyncio.sleep(POLL_SECONDS)

    def kill(self) -> None:
        """Kill whatever is left of the service."""
        if self._process.poll() is None:
            for process in [*self._master.children(recursive=True), self._master]:
                process.kill()
        self._process.wait()


def _options(kind: str, port: int, max_requests: int) -> list[str]:
    if kind == OURS:
        return ["-c", "python:loadtest.benchmarks.lifecycle_gunicorn"]
    # The worker that Uvicorn's documentation names, with the same settings.
    return [
        *("--bind", f"127.0.0.1:{port}", "--workers", str(WORKERS)),
        *("--worker-class", "uvicorn_worker.UvicornWorker", "--no-control-socket"),
        *("--graceful-timeout", str(GRACEFUL_SECONDS), "--keep-alive", str(KEEPALIVE_SECONDS)),
        *("--max-requests", str(max_requests), APPLICATION),
    ]


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


@asynccontextmanager
async def serving(kind: str, directory: Path, max_requests: int = 0) -> AsyncIterator[Served]:
    """Yield a service of which all workers serve; stop it afterwards."""
    started = Served(kind, directory, max_requests)
    try:
        await started.ready()
        yield started
        await started.stop()
    finally:
        started.kill()
