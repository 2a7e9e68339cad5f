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
from prometheus_client.parser import text_string_to_metric_families

from loadtest.programs import free_port
from tests import processes
from tests.plain_http import plain
from tests.process.service import PATIENCE, gone, total, wait_for
from tests.wheel.environment import Environment, plain_environment

HERE = Path(__file__).parent
PATCH = HERE / "adopt.patch"
WORKERS = 4
# Seconds. Longer than a start takes on a busy machine: a client that gives up is counted, and not in the ledger.
TIMEOUT = 60
# The last segment of a path, by what stands before it, in the form of the route.
LAST_SEGMENT = {
    "/api/v1/orders/": "{article}",
    "/api/v1/orders/slow/": "{seconds}",
    "/staff/shifts/": "{day}",
    "/staff/payroll/": "{day}",
}
# Method, route and status.
Ledger = Counter[tuple[str, str, str]]


def route_of(path: str) -> str:
    """Return the route that serves `path`."""
    if path.endswith(("/refund", "/complaint")):
        return f"/api/v1/orders/{{number}}/{path.rpartition('/')[2]}"
    head, slash, _ = path.rpartition("/")
    return head + slash + LAST_SEGMENT[head + slash] if head + slash in LAST_SEGMENT else path


class Shop:
    """A started shop. `process` is gunicorn's master, `ledger` has each answer that a client has got."""

    size = WORKERS

    def __init__(self, directory: Path, environment: Environment, variables: dict[str, str]) -> None:
        self.port, self.metrics_port = free_port(), free_port()
        self.ledger: Ledger = Counter()
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
        answer = plain.get(self.url + path, timeout=TIMEOUT)
        self.ledger["GET", route_of(path), str(answer.status_code)] += 1
        return answer

    def is_ready(self) -> bool:
        """Return whether it answers; fails the test where it has ended."""
        assert self.process.poll() is None, self.output.read_text()
        try:
            return self.get("/").is_success
        except httpx.ConnectError:  # any other failure may have been counted
            return False

    def scrape(self) -> str:
        """Return the exposition of the metrics port."""
        return plain.get(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=TIMEOUT).raise_for_status().text

    def total(self, sample: str, **labels: str) -> float:
        """Return the sum of the series of `sample` with `labels` at the metrics port."""
        return total(self.scrape(), sample, **labels)

    def answers(self) -> Ledger:
        """Return what the service has counted, in the form of the ledger."""
        return Counter(
            {
                (found.labels["method"], found.labels["handler"], found.labels["status"]): int(found.value)
                for family in text_string_to_metric_families(self.scrape())
                for found in family.samples
                if found.name == "http_requests_total"
            }
        )

    def workers(self) -> list[psutil.Process]:
        """Return the processes that serve."""
        master = psutil.Process(self.process.pid)
        command = master.cmdline()
        return [child for child in master.children() if _command(child) == command]

    def replaced(self, before: list[psutil.Process]) -> bool:
        """Return whether as many others serve in place of `before`."""
        return gone(before) and len(self.workers()) == self.size

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines of the log."""
        # The text after the last line break is an incomplete line.
        return [json.loads(line) for line in self.output.read_text().split("\n")[:-1] if line.startswith("{")]

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
    """Start the shop in `directory` under gunicorn and wait until it serves; afterwards end what is left of it."""
    with serving(Shop(directory, environment, variables)) as shop:
        yield shop


@contextmanager
def serving(shop: Shop) -> Iterator[Shop]:
    """Start `shop` and wait until it serves; afterwards end what is left of it."""
    with (
        shop.output.open("wb") as output,
        processes.started(shop.command, stdout=output, stderr=output, **shop.options) as shop.process,
    ):
        wait_for(shop.is_ready, "the shop")
        wait_for(lambda: len(shop.workers()) == shop.size, "its workers")
        yield shop
        if shop.process.poll() is None:
            shop.stop()


def attempt(shop: Shop, method: str, path: str) -> int:
    """Send a request on a connection of its own; return the answer's status, 0 where the connection ends without."""
    connection = http.client.HTTPConnection("127.0.0.1", shop.port, timeout=TIMEOUT)
    try:
        connection.request(method, path)
        answered = connection.getresponse()
        answered.read()
    except (http.client.HTTPException, OSError):
        return 0
    else:
        return answered.status
    finally:
        connection.close()


def send(shop: Shop, requests: list[tuple[str, str]], threads: int = 8) -> None:
    """Send each (method, path) until it is answered, and write the answers into the ledger."""

    def one(request: tuple[str, str]) -> tuple[str, str, str]:
        # A worker may take a connection and end before it reads it.
        status = wait_for(lambda: attempt(shop, *request), f"an answer to {request}")
        return request[0], route_of(request[1]), str(status)

    with ThreadPoolExecutor(threads) as pool:
        shop.ledger.update(pool.map(one, requests))
