"""The service of a run, `gunicorn -c gunicorn_conf.py`: its processes, and its output, which may stay unread."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import httpx
import psutil

from app.settings import ROOT, Settings
from loadtest.chaos.invariants import Series, monotone
from loadtest.programs import free_port

MARK = "CHAOS_RUN"
# The access line of a request that was answered well.
UNREMARKABLE = (b'"level":"info"', b'"logger":"access"')


class Service:
    """One started service. `mark` is in the environment of all its processes, by which they are found."""

    def __init__(self, mark: str, log: Path, environment: Mapping[str, str]) -> None:
        self.port, self.metrics_port = free_port(), free_port()
        self._mark, self._log = f"{MARK}={mark}", log
        self._reads = threading.Event()
        self._reads.set()
        inherited = {name: "" for name in os.environ if name.lower() in Settings.model_fields}
        ports = {"PORT": str(self.port), "METRICS_PORT": str(self.metrics_port)}
        reading, writing = os.pipe()
        with log.with_suffix(".stderr").open("wb") as errors:
            self._process = subprocess.Popen(
                [Path(sys.executable).with_name("gunicorn"), "-c", "gunicorn_conf.py"],
                cwd=ROOT,
                env={**os.environ, **inherited, **ports, **environment, MARK: mark},
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=errors,
                start_new_session=True,
            )
        os.close(writing)
        self._reader = threading.Thread(target=self._read, args=[reading], daemon=True)
        self._reader.start()
        self.master = psutil.Process(self._process.pid)
        self._http = httpx.AsyncClient(verify=False, trust_env=False, timeout=10)  # noqa: S501 -- plain HTTP

    def _read(self, descriptor: int) -> None:
        with os.fdopen(descriptor, "rb") as output, self._log.open("wb") as log:
            for line in output:
                self._reads.wait()
                if not all(word in line for word in UNREMARKABLE):
                    log.write(line)
                    log.flush()

    def stop_reading(self) -> None:
        """Read nothing of what the service prints, until `read`."""
        self._reads.clear()

    def read(self) -> None:
        """Read what the service prints."""
        self._reads.set()

    @property
    def status(self) -> int | None:
        """The exit status, None while it runs."""
        return self._process.poll()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the master."""
        self._process.send_signal(number)

    async def stop(self) -> int:
        """Stop the service and return its exit status; kill what does not end."""
        self.read()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return await asyncio.to_thread(self._process.wait, 60)
        except subprocess.TimeoutExpired:
            return -1

    async def end(self) -> None:
        """Kill whatever is left of the service, and free what this object holds."""
        for pid in self.marked():
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(pid).kill()
        await asyncio.to_thread(self._process.wait)
        self.read()
        await asyncio.to_thread(self._reader.join)
        await self._http.aclose()

    def workers(self) -> list[psutil.Process]:
        """Return the worker processes: the master's children that run its own command."""
        with contextlib.suppress(psutil.NoSuchProcess):
            own = self.master.cmdline()
            return [child for child in self.master.children() if _words(child) == own]
        return []

    def exporter(self) -> psutil.Process | None:
        """Return the exporter process."""
        children = self.master.children()
        return next((child for child in children if any("exporter" in word for word in _words(child))), None)

    def family(self) -> set[int]:
        """Return the ids of the master and all its descendants."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return {self.master.pid} | {child.pid for child in self.master.children(recursive=True)}
        return set()

    def marked(self) -> dict[int, str]:
        """Return the processes of this service wherever they are, by id with their commands."""
        found = {}
        for process in psutil.process_iter():
            with contextlib.suppress(OSError, psutil.Error):
                environment = Path(f"/proc/{process.pid}/environ").read_bytes()
                if self._mark.encode() in environment.split(b"\0"):
                    found[process.pid] = " ".join(process.cmdline())
        return found

    async def is_ready(self, probes: int) -> bool:
        """Return whether this many probes in a row, each on a new connection, find a worker ready."""
        for _ in range(probes):
            try:
                answer = await self._http.get(
                    f"http://127.0.0.1:{self.port}/health/ready", headers={"Connection": "close"}
                )
            except httpx.HTTPError:
                return False
            if answer.status_code != 200 or answer.json()["status"] != "ready":  # noqa: PLR2004
                return False
        return True

    async def scrape(self) -> Series:
        """Return the samples of the metrics port that never decrease. Raise httpx.HTTPError without an answer."""
        return monotone(await self.exposition())

    async def exposition(self) -> str:
        """Return the exposition of the metrics port. Raise httpx.HTTPError without an answer."""
        answer = await self._http.get(f"http://127.0.0.1:{self.metrics_port}/metrics")
        return answer.raise_for_status().text


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
