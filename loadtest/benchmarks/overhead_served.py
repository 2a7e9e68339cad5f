"""The same three applications through a real gunicorn with one worker: requests a second, and CPU time a request.

wrk asks; where there is none a client of our own does, which takes more of the machine. Log lines go to a pipe that
another process reads, as in a container.
"""

import asyncio
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import httpx
import psutil

from app.settings import ROOT
from loadtest.benchmarks.command import BenchmarkError, Depth, Figures, progress
from loadtest.programs import free_port

TIMEOUT_SECONDS = 30.0
CONNECTIONS = 8
# The package configures gunicorn; the others take the worker that uvicorn's documentation names.
CONFIGURED = ("-c", "python:loadtest.benchmarks.overhead_gunicorn")
BY_OPTIONS = (
    *("--workers", "1", "--worker-class", "uvicorn_worker.UvicornWorker", "--keep-alive", "75"),
    *("--no-control-socket", "loadtest.benchmarks.overhead_apps:served()"),
)
ROUNDS = {Depth.QUICK: 2, Depth.DEFAULT: 5, Depth.FULL: 11}
LOAD_SECONDS = 2.0
PATH = "/api/v1/places/tanah-lot?language=id"
REQUEST = f"GET {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: benchmark/1\r\nAccept: */*\r\n\r\n".encode()
KINDS = ("bare", "naive", "full")


def measure(depth: Depth, endpoint: str, directory: Path, kinds: Sequence[str], routes: int = 31) -> list[Figures]:
    """Return medians over the rounds, in which the kinds take turns."""
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
    for number in range(ROUNDS[depth]):
        for kind in kinds:
            progress(f"through gunicorn: {kind}, round {number + 1} of {ROUNDS[depth]}")
            with _gunicorn(kind, routes, endpoint, directory) as (port, worker):
                found[kind].append(_load(port, worker))
    return [
        {
            "kind": kind,
            "client": "wrk" if shutil.which("wrk") else "asyncio",
            "requests_per_second": round(median(rate for rate, _ in rounds)),
            "cpu_us": round(median(cpu for _, cpu in rounds), 1),
            "best_cpu_us": round(min(cpu for _, cpu in rounds), 1),
            "cpu_over_bare": round(
                median(cpu / bare for (_, cpu), (_, bare) in zip(rounds, found["bare"], strict=True)), 3
            ),
        }
        for kind, rounds in found.items()
    ]


@contextmanager
def _gunicorn(kind: str, routes: int, endpoint: str, directory: Path) -> Iterator[tuple[int, psutil.Process]]:
    """Yield a started service's port and its worker."""
    port, files = free_port(), directory / f"{kind}-{time.monotonic_ns()}"
    files.mkdir()
    environment = os.environ | {
        "PROMETHEUS_MULTIPROC_DIR": str(files),
        "OVERHEAD_KIND": kind,
        "OVERHEAD_ROUTES": str(routes),
        "OVERHEAD_RATIO": "0.1",
        "OVERHEAD_ENDPOINT": endpoint,
        "PORT": str(port),
        "METRICS_PORT": str(free_port()),
    }
    options = CONFIGURED if kind == "full" else ("--bind", f"127.0.0.1:{port}", *BY_OPTIONS)
    argv = [Path(sys.executable).with_name("gunicorn"), *options]
    reader = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)  # noqa: S607
    assert reader.stdin is not None  # noqa: S101 -- it is a pipe
    with (directory / f"{kind}.log").open("ab") as errors, reader.stdin as lines:
        process = subprocess.Popen(argv, cwd=ROOT, env=environment, stdout=lines, stderr=errors)
    try:
        _wait(port, process, errors.name)
        yield port, _worker(psutil.Process(process.pid))
    finally:
        process.terminate()
        try:
            process.wait(TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.wait(TIMEOUT_SECONDS)  # it has read to the end: there are no writers any more


def _worker(master: psutil.Process) -> psutil.Process:
    """Return the one child that was forked: the exporter has a command of its own."""
    (worker,) = [child for child in master.children() if child.cmdline() == master.cmdline()]
    return worker


def _wait(port: int, process: "subprocess.Popen[bytes]", log: str) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise BenchmarkError(f"gunicorn ended: {Path(log).read_text()[-2000:]}")
        try:
            if httpx.get(f"http://127.0.0.1:{port}/api/v1/places/tanah-lot", timeout=5).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise BenchmarkError(f"gunicorn does not answer: {Path(log).read_text()[-2000:]}")


def _load(port: int, worker: psutil.Process) -> tuple[float, float]:
    """Return requests per second over a few connections, one request at a time each, and worker CPU us per request."""
    before, started = sum(worker.cpu_times()[:2]), time.monotonic()
    count = _wrk(port) if shutil.which("wrk") else asyncio.run(_clients(port))
    seconds, cpu = time.monotonic() - started, sum(worker.cpu_times()[:2]) - before
    return count / seconds, cpu / count * 1e6


def _wrk(port: int) -> int:
    """Return the number of responses that wrk has received."""
    argv = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{LOAD_SECONDS:.0f}s", f"http://127.0.0.1:{port}{PATH}"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    found = re.search(r"(\d+) requests in", done.stdout)
    if done.returncode or found is None or "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise BenchmarkError(f"wrk says {done.stdout} {done.stderr}")
    return int(found[1])


async def _clients(port: int) -> int:
    counts = [0] * CONNECTIONS
    end = time.monotonic() + LOAD_SECONDS

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.monotonic() < end:
            writer.write(REQUEST)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise BenchmarkError(f"answered {head[:80]!r}")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.split(b":")[1]))
            counts[number] += 1
        writer.close()

    await asyncio.gather(*(client(number) for number in range(CONNECTIONS)))
    return sum(counts)


def rows(served: Sequence[Figures]) -> list[list[str]]:
    """Return the rows of the table."""
    found = [["", "requests/s", "CPU a request, us", "over bare", "at best, us", "over bare"]]
    least = min(one["best_cpu_us"] for one in served if one["kind"] == "bare")
    for one in served:
        rate, cpu, best = f"{one['requests_per_second']:,}", f"{one['cpu_us']:.0f}", one["best_cpu_us"]
        found.append([one["kind"], rate, cpu, f"{one['cpu_over_bare']:.2f}x", f"{best:.0f}", f"{best / least:.2f}x"])
    return found
