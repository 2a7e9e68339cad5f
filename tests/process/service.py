"""The real command, `gunicorn -c gunicorn_conf.py`, in a process of its own on free ports."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from app.monitoring.multiprocess.aggregate import Aggregate
from loadtest.programs import free_port
from tests.plain_http import plain

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 30.0


def wait_for(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Wait until `condition` is true and return its result. Fail the test after `patience` seconds."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {patience:g} s in vain for {what}")


class Service:
    """One started service. `output` is what it printed so far, unless that goes to the descriptor `stdout`."""

    def __init__(
        self,
        directory: Path,
        environment: dict[str, str],
        stdout: int | None = None,
        configuration: Path = Path("gunicorn_conf.py"),
        scheme: str = "http",
        launcher: Sequence[str] = (),
    ) -> None:
        self.port, self.metrics_port = free_port(), free_port()
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self.metrics_url = f"http://127.0.0.1:{self.metrics_port}/metrics"
        self.metrics_directory = directory / "metrics"
        self._log = directory / "output.log"
        self.environment = {
            **os.environ,
            "ENVIRONMENT": "production",
            "PORT": str(self.port),
            "METRICS_PORT": str(self.metrics_port),
            "PROMETHEUS_MULTIPROC_DIR": str(self.metrics_directory),
            "WEB_CONCURRENCY": "2",
            "RATE_LIMIT_WRITES": "100000/minute",
            "RATE_LIMIT_AI": "100000/minute",
            **environment,
        }
        with self._log.open("wb") as output:
            self.process = subprocess.Popen(
                [*launcher, Path(sys.executable).with_name("gunicorn"), "-c", configuration],
                cwd=ROOT,
                env=self.environment,
                stdout=output if stdout is None else stdout,
                stderr=output,
                start_new_session=True,
            )
        self.master = psutil.Process(self.process.pid)

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def get(self, path: str, **options: Any) -> httpx.Response:
        """Send a GET on a new connection, so that any worker may accept it."""
        return plain.get(self.url + path, timeout=10, **options)

    def answers(self, path: str, status: int = 200) -> bool:
        try:
            return self.get(path).status_code == status
        except httpx.TransportError:
            return False

    def wait_until_ready(self) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, f"the service ended:\n{self.output}"
            return self.answers("/health/ready")

        wait_for(ready, "readiness")

    def scrape(self) -> str:
        answer = plain.get(self.metrics_url, timeout=10)
        answer.raise_for_status()
        return answer.text

    def total(self, sample: str, **labels: str) -> float:
        """Return the sum of all series of `sample` with `labels` on the metrics port."""
        return total(self.scrape(), sample, **labels)

    def series(self, sample: str) -> dict[tuple[tuple[str, str], ...], float]:
        """Return the value of each series of `sample` on the metrics port, by its sorted labels."""
        return {
            tuple(sorted(found.labels.items())): found.value
            for family in text_string_to_metric_families(self.scrape())
            for found in family.samples
            if found.name == sample
        }

    def workers(self) -> list[psutil.Process]:
        """Return the worker processes: the master's children that run its own command."""
        own = self.master.cmdline()
        return [child for child in self.master.children() if _cmdline(child) == own]

    def exporter(self) -> psutil.Process | None:
        return next(
            (child for child in self.master.children() if any("exporter" in word for word in _cmdline(child))), None
        )

    def family(self) -> list[psutil.Process]:
        """Return every process of the service."""
        return [self.master, *self.master.children(recursive=True)]

    def left(self, sample: str, **labels: str) -> float:
        """Return what `total` does, after the service's end, from its directory."""
        return total(Aggregate(self.metrics_directory).exposition("")[0].decode(), sample, **labels)

    def exits(self, reason: str) -> float:
        """Return the number of workers that ended for `reason`, after the service's end.

        A worker that outstays GRACEFUL_TIMEOUT is killed and counts as such; gunicorn does not log it.
        """
        return self.left("baliblissed_worker_exits_total", reason=reason)

    def stop(self, signal_number: int = signal.SIGTERM) -> int:
        """Signal the master and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal_number)
        return self.process.wait(PATIENCE)


def _cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def total(exposition: str, sample: str, **labels: str) -> float:
    """Return the sum of all series of `sample` in `exposition` with `labels`."""
    return sum(
        found.value
        for family in text_string_to_metric_families(exposition)
        for found in family.samples
        if found.name == sample and labels.items() <= found.labels.items()
    )


def gone(processes: list[psutil.Process]) -> bool:
    """Return True if none of `processes` runs any more."""
    return not any(_alive(process) for process in processes)


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


@contextmanager
def service(
    directory: Path,
    stdout: int | None = None,
    configuration: Path = Path("gunicorn_conf.py"),
    scheme: str = "http",
    launcher: Sequence[str] = (),
    /,
    **environment: str,
) -> Iterator[Service]:
    """Start a service and wait until it is ready; afterwards end whatever is left of it.

    `launcher` is a command that executes gunicorn's, which follows it.
    """
    started = Service(directory, environment, stdout, configuration, scheme, launcher)
    family: list[psutil.Process] = []
    try:
        started.wait_until_ready()
        family = started.family()
        yield started
    finally:
        family += [process for process in _family_of(started) if process not in family]
        try:
            started.stop()
        finally:
            for process in family:
                if _alive(process):
                    process.kill()
            started.process.wait()


def _family_of(started: Service) -> list[psutil.Process]:
    try:
        return started.family()
    except psutil.NoSuchProcess:
        return []
