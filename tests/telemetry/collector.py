"""Real collectors: the gateway, which runs the configuration that ships, and the store that it sends to."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from app.settings import ROOT
from loadtest.programs import free_port
from tests.plain_http import plain
from tests.process.service import PATIENCE, wait_for

SHIPPED = ROOT / "monitoring" / "otel-collector" / "config.yaml"
CHANGES = Path(__file__).with_name("gateway.yaml")
STORE = Path(__file__).with_name("store.yaml")


class Collector:
    """A started collector. Its files are in `directory`; `output` is what it printed so far."""

    def __init__(self, program: Path, directory: Path, *configs: Path, **environment: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.ports = {name: str(free_port()) for name in ("OTLP_PORT", "OTLP_HTTP_PORT", "HEALTH_PORT", "METRICS_PORT")}
        self.endpoint = f"http://127.0.0.1:{self.ports['OTLP_PORT']}"
        self._log = directory / "output.log"
        with self._log.open("wb") as output:
            self.process = subprocess.Popen(
                [program, *(f"--config={config}" for config in configs)],
                env={**os.environ, "DIRECTORY": str(directory), **self.ports, **environment},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def is_ready(self) -> bool:
        assert self.process.poll() is None, f"the collector ended:\n{self.output}"
        try:
            return plain.get(f"http://127.0.0.1:{self.ports['HEALTH_PORT']}", timeout=5).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def stop(self) -> int:
        """Stop the collector after it has sent what it holds; return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
        return self.process.wait(PATIENCE)


@contextmanager
def _running(started: Collector) -> Iterator[Collector]:
    try:
        wait_for(started.is_ready, "the collector")
        yield started
        started.stop()
    finally:
        started.process.kill()
        started.process.wait(PATIENCE)


@contextmanager
def store(program: Path, directory: Path) -> Iterator[Collector]:
    """Yield a collector that writes traces.json and metrics.json."""
    with _running(Collector(program, directory, STORE)) as running:
        yield running


@contextmanager
def gateway(program: Path, directory: Path, *more: Path, to: Collector | None = None) -> Iterator[Collector]:
    """Yield a collector with the shipped configuration that writes received.json and sends to `to`, if given."""
    ports = {"STORE_PORT": str(free_port()), "STORE_HTTP_PORT": str(free_port())}
    if to is not None:
        ports = {"STORE_PORT": to.ports["OTLP_PORT"], "STORE_HTTP_PORT": to.ports["OTLP_HTTP_PORT"]}
    with _running(Collector(program, directory, SHIPPED, CHANGES, *more, **ports)) as running:
        yield running
