"""Cost of observability for a request: bare FastAPI, the naive assembly and ours, in one run.

    python -m loadtest.benchmarks.overhead     build/bench/overhead.json, overhead.svg

In process: CPU time of the whole process, threads that export and write included, for each request that goes through
the ASGI application on uvloop; the three take turns. Through gunicorn: one worker, real sockets, real spans.
"""

import asyncio
import gc
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import uvloop

from loadtest.benchmarks import overhead_served
from loadtest.benchmarks.command import Depth, Figures, options, progress, run, table
from loadtest.benchmarks.overhead_chart import chart
from loadtest.benchmarks.processes import order, processes
from loadtest.benchmarks.sink import sink

KINDS = ("bare", "naive", "full")
USUAL_ROUTES, USUAL_RATIO = 31, 0.1
BUDGET, FLAT_BUDGET, MANY_ROUTES = 1.20, 1.3, 200
# Routes and sampling ratio of each case; the first is the budget's.
CASES = ((31, 0.1), (31, 0.0), (31, 1.0), (10, 0.1), (50, 0.1), (200, 0.1))
ROUNDS = {Depth.QUICK: 9, Depth.DEFAULT: 41, Depth.FULL: 101}
REQUESTS, WARM_UP = 400, 500
MICRO = 1e6


def requester(pipe: Connection, kind: str, count: int, ratio: float, endpoint: str) -> None:
    """Make the application in its own process, then answer each order with the CPU microseconds per request."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(dir=os.environ["OVERHEAD_DIRECTORY"])
    from loadtest.benchmarks.overhead_apps import make  # noqa: PLC0415 -- prometheus-client reads the variable once

    # Lines go to /dev/null, as all that such a process prints. What a reader costs is seen where gunicorn writes to a
    # pipe.
    app = make(kind, count, ratio, endpoint)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        # A worker's tasks run beside the requests. The variable keeps them: the lifespan would end with its last
        # reference.
        lifespan = app.router.lifespan_context(app)
        runner.run(lifespan.__aenter__())
        runner.run(_requests(app, WARM_UP))
        gc.collect()
        gc.freeze()  # as a preloading master does; for all three
        pipe.send("ready")
        while pipe.recv():
            started = time.process_time()
            runner.run(_requests(app, REQUESTS))
            pipe.send((time.process_time() - started) / REQUESTS * MICRO)


async def _requests(app: Any, count: int) -> None:
    for number in range(count):
        await _request(app, number)


async def _request(app: Any, number: int) -> None:
    """Send one request as uvicorn does, in its own task."""
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 40000 + number % 100),
        "scheme": "http",
        "method": "GET",
        "root_path": "",
        "path": "/api/v1/places/tanah-lot",
        "raw_path": b"/api/v1/places/tanah-lot",
        "query_string": b"language=id",
        "headers": [
            (b"host", b"127.0.0.1:8000"),
            (b"user-agent", b"benchmark/1"),
            (b"accept", b"*/*"),
            (b"accept-encoding", b"gzip, deflate"),
            (b"connection", b"keep-alive"),
        ],
        "state": {},
    }
    await asyncio.get_running_loop().create_task(app(scope, receive, send))
    assert statuses == [200]  # noqa: S101 -- a benchmark of errors would be of no use


def in_process(depth: Depth, endpoint: str) -> list[Figures]:
    """Measure every case: medians of each kind, and of the ratios of the rounds."""
    found = []
    for count, ratio in CASES[:1] if depth is Depth.QUICK else CASES:
        progress(f"in process: {count} routes, {ratio:g} sampled")
        with processes(requester, [(kind, count, ratio, endpoint) for kind in KINDS]) as pipes:
            for pipe in pipes:
                pipe.recv()
            rounds = [_round(pipes) for _ in range(ROUNDS[depth])]
        found.append({"routes": count, "sampled": ratio, "rounds": len(rounds), **summarised(rounds)})
    return found


def _round(pipes: Sequence[Connection]) -> list[float]:
    """Measure each kind once, one after the other: in parallel they would compete for the CPU."""
    return [order([pipe], True)[0] for pipe in pipes]


def summarised(rounds: Sequence[Sequence[float]]) -> Figures:
    """Return the medians in microseconds, and the medians of the ratios within a round."""
    bare, naive, full = zip(*rounds, strict=True)
    return {
        "bare_us": round(median(bare), 1),
        "naive_us": round(median(naive), 1),
        "full_us": round(median(full), 1),
        "full_over_bare": round(median(one / other for one, other in zip(full, bare, strict=True)), 3),
        "added_us": round(median(one - other for one, other in zip(full, bare, strict=True)), 1),
        "best_full_over_bare": round(min(full) / min(bare), 3),
        "naive_over_bare": round(median(one / other for one, other in zip(naive, bare, strict=True)), 3),
    }


def budgets(cases: Iterable[Figures]) -> list[Figures]:
    """Compare the design's budgets with the figures."""
    by_case = {(case["routes"], case["sampled"]): case for case in cases}
    usual = by_case[USUAL_ROUTES, USUAL_RATIO]
    verdicts = [("everything on over bare, 31 routes, 10% sampled", BUDGET, usual["full_over_bare"])]
    many = by_case.get((MANY_ROUTES, USUAL_RATIO))
    if many is not None:
        # FastAPI's own matching grows with the routes and is in both; what is added, `added_us`, should hardly.
        verdicts.append(("the same at 200 routes", FLAT_BUDGET, many["full_over_bare"]))
    return [{"budget": name, "at_most": most, "found": found, "met": found <= most} for name, most, found in verdicts]


def measure(depth: Depth) -> Figures:
    """Run the whole benchmark."""
    memory = "/dev/shm"  # noqa: S108 -- a directory of its own is made in it
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as directory:
        os.environ["OVERHEAD_DIRECTORY"] = directory
        with sink() as endpoint:
            cases = in_process(depth, endpoint)
            served = overhead_served.measure(depth, endpoint, Path(directory), KINDS)
    return {**cases[0], "cases": cases, "served": served, "budgets": budgets(cases)}


def text(figures: Figures) -> str:
    """Format the tables."""
    rows = [["routes", "sampled", *(f"{name}, us" for name in ("bare", "naive", "ours", "added"))]]
    rows[0] += ["naive/bare", "ours/bare", "at best"]
    for case in figures["cases"]:
        times = [f"{case[name]:.0f}" for name in ("bare_us", "naive_us", "full_us", "added_us")]
        ratios = [f"{case[name]:.2f}x" for name in ("naive_over_bare", "full_over_bare", "best_full_over_bare")]
        rows.append([str(case["routes"]), f"{case['sampled']:g}", *times, *ratios])
    parts = ["CPU a request, in process", table(rows)]
    parts += ["", "Through gunicorn, one worker", table(overhead_served.rows(figures["served"]))]
    verdicts = [
        [one["budget"], f"at most {one['at_most']:g}x", f"{one['found']:.2f}x", "met" if one["met"] else "MISSED"]
        for one in figures["budgets"]
    ]
    return "\n".join([*parts, "", "Budgets", table(verdicts)])


def main(depth: Depth) -> int:
    """Run the benchmark; return the exit status."""
    return run("overhead", measure, text, depth, {"overhead.svg": chart})


if __name__ == "__main__":
    sys.exit(main(options("python -m loadtest.benchmarks.overhead").parse_args().depth))
