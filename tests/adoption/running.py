"""The adopted application in a directory of its own, and real gunicorn with it from the environment of the wheel."""

import http.client
import json
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from loadtest.programs import free_port
from tests import processes
from tests.process.service import PATIENCE, gone, total, wait_for
from tests.wheel.environment import Environment, plain_environment

HERE = Path(__file__).parent
PATCH = HERE / "adopt.patch"
WORKERS = 4


class Shop:
    """A started shop. `process` is gunicorn's master."""

    def __init__(self, directory: Path, environment: Environment, variables: dict[str, str]) -> None:
        self.port, self.metrics_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.output = directory / "output.log"
        self.command = [str(environment.directory / "bin" / "gunicorn"), "-c", "gunicorn_conf.py"]
        self.options: dict[str, Any] = {
            "cwd": directory,
            "env": {
                **plain_environment(),
                "PORT": str(self.port),
                "METRICS_PORT": str(self.metrics_port),
                "WEB_CONCURRENCY": str(WORKERS),
                "PROMETHEUS_MULTIPROC_DIR": str(directory / "metrics"),
                **variables,
            },
        }
        self.process: subprocess.Popen[bytes]

    def get(self, path: str) -> httpx.Response:
        """Ask on a connection of its own, so that any worker may take it."""
        return httpx.get(self.url + path, timeout=20)

    def is_ready(self) -> bool:
        """Return whether it answers; fails the test where it has ended."""
        assert self.process.poll() is None, self.output.read_text()
        try:
            return self.get("/").is_success
        except httpx.TransportError:
            return False

    def total(self, sample: str, **labels: str) -> float:
        """Return the sum of the series of `sample` with `labels` at the metrics port."""
        answer = httpx.get(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=20).raise_for_status()
        return total(answer.text, sample, **labels)

    def workers(self) -> list[psutil.Process]:
        """Return the processes that serve."""
        master = psutil.Process(self.process.pid)
        command = master.cmdline()
        return [child for child in master.children() if _command(child) == command]

    def replaced(self, before: list[psutil.Process]) -> bool:
        """Return whether as many others serve in place of `before`."""
        return gone(before) and len(self.workers()) == WORKERS

    def documents(self) -> list[dict[str, Any]]:
        """Return the JSON documents that it has printed: lines of the log, and spans over several lines."""
        decoder, text, found = json.JSONDecoder(), self.output.read_text(), []
        at = text.find("{")
        while at >= 0:
            try:
                document, end = decoder.raw_decode(text, at)
            except ValueError:  # being written just now
                break
            found.append(document)
            at = text.find("{", end)
        return found

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines of the log."""
        return [document for document in self.documents() if "event" in document]

    def spans(self) -> list[dict[str, Any]]:
        """Return the spans of the console exporter."""
        return [document for document in self.documents() if "context" in document]

    def stop(self) -> int:
        """Ask the master to end, and return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # it has ended
        return []


def adopted(directory: Path) -> Path:
    """Copy the shop to `directory` and apply the patch."""
    shutil.copytree(HERE / "shop", directory / "shop", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["git", "apply", PATCH], cwd=directory, check=True)  # noqa: S607 -- wherever it is installed
    return directory


@contextmanager
def running(directory: Path, environment: Environment, **variables: str) -> Iterator[Shop]:
    """Start the shop in `directory` and wait until it serves; afterwards end what is left of it."""
    shop = Shop(directory, environment, variables)
    with (
        shop.output.open("wb") as output,
        processes.started(shop.command, stdout=output, stderr=output, **shop.options) as shop.process,
    ):
        wait_for(shop.is_ready, "the shop")
        wait_for(lambda: len(shop.workers()) == WORKERS, "its workers")
        yield shop
        if shop.process.poll() is None:
            shop.stop()


def send(shop: Shop, requests: list[tuple[str, str]], threads: int = 8) -> Counter[tuple[str, int]]:
    """Send each (method, path) on a connection of its own until it is answered; return answers by path and status."""

    def one(request: tuple[str, str]) -> tuple[str, int]:
        def answer() -> int:
            connection = http.client.HTTPConnection("127.0.0.1", shop.port, timeout=20)
            try:
                connection.request(*request)
                answered = connection.getresponse()
                answered.read()
            except (http.client.HTTPException, OSError):  # a worker took the connection and ended before it read it
                return 0
            else:
                return answered.status
            finally:
                connection.close()

        return request[1], wait_for(answer, f"an answer to {request}")

    with ThreadPoolExecutor(threads) as pool:
        return Counter(pool.map(one, requests))
