"""Requests that fail or wait while workers are replaced and stopped: ours beside stock gunicorn, in one run.

    python -m loadtest.benchmarks.lifecycle     build/bench/lifecycle.json

300 requests a second over 50 keep-alive connections, one request at a time on each. A time counts from the moment at
which the request was due, so a stall counts for all requests that it has delayed. Rule: a request that was written to a
connection must be answered with 200; one is written only if the client's kernel has seen neither end nor reset of the
connection. A refused connection is a failure too, except after the end of a service that stops.
"""

import asyncio
import os
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from loadtest.benchmarks.command import Depth, Figures, options, progress, run, table
from loadtest.benchmarks.lifecycle_app import OURS, PATH, STOCK
from loadtest.benchmarks.lifecycle_served import WORKERS, Served, serving
from loadtest.keep_alive import REFUSED, Results, tcp, traffic

KINDS = (OURS, STOCK)
STEADY, RELOAD, RECYCLE, STOP = "steady", "reload", "recycle", "stop"
CONNECTIONS, RATE = 50, 300.0
MAX_REQUESTS = 100
# Seconds of traffic before and after what is measured.
AROUND_SECONDS = 1.0
# Stock takes minutes: new workers reach MAX_REQUESTS while others boot.
RECYCLE_SECONDS = 1800.0
MAX_FAILED, MAX_P99_RATIO = 0, 5.0
MILLI = 1e3


@dataclass(frozen=True)
class Amounts:
    """The amounts of a run."""

    steady_seconds: float
    reloads: int
    recycled: int
    stops: int


AMOUNTS = {
    Depth.QUICK: Amounts(5.0, 2, 12, 2),
    Depth.DEFAULT: Amounts(20.0, 20, 200, 10),
    Depth.FULL: Amounts(60.0, 60, 600, 30),
}


@dataclass
class Seen:
    """The results of one case: those of all its rounds, and the number of workers or services that were replaced."""

    rounds: list[Results] = field(default_factory=list)
    replaced: int = 0
    seconds: float = 0.0


@asynccontextmanager
async def _asking(served: Served, seen: Seen) -> AsyncIterator[None]:
    """Send the traffic meanwhile, and a second before and after."""
    loop = asyncio.get_running_loop()
    async with traffic(tcp(served.port), PATH, connections=CONNECTIONS, rate=RATE) as results:
        await asyncio.sleep(AROUND_SECONDS)
        started = loop.time()
        yield
        seen.seconds += loop.time() - started
        await asyncio.sleep(AROUND_SECONDS)
    seen.rounds.append(results)


async def _steady(kind: str, directory: Path, amounts: Amounts) -> Seen:
    seen = Seen()
    async with serving(kind, directory) as served, _asking(served, seen):
        await asyncio.sleep(amounts.steady_seconds)
    return seen


async def _reload(kind: str, directory: Path, amounts: Amounts) -> Seen:
    """Reload again and again, each time after the former reload is complete."""
    seen = Seen()
    async with serving(kind, directory) as served, _asking(served, seen):
        for _ in range(amounts.reloads):
            await served.reload()
            seen.replaced += WORKERS
    return seen


async def _recycle(kind: str, directory: Path, amounts: Amounts) -> Seen:
    """Let MAX_REQUESTS replace the workers."""
    seen = Seen()
    async with serving(kind, directory, MAX_REQUESTS) as served, _asking(served, seen):
        await served.until(lambda: served.starts >= WORKERS + amounts.recycled, "recycled workers", RECYCLE_SECONDS)
        seen.replaced = served.starts - WORKERS
    return seen


async def _stop(kind: str, directory: Path, amounts: Amounts) -> Seen:
    """Stop service after service under traffic."""
    seen = Seen()
    for _ in range(amounts.stops):
        async with serving(kind, directory) as served, _asking(served, seen):
            await served.stop()
        seen.replaced += 1
    return seen


CASES: dict[str, Callable[[str, Path, Amounts], Awaitable[Seen]]] = {
    STEADY: _steady,
    RELOAD: _reload,
    RECYCLE: _recycle,
    STOP: _stop,
}


def summarised(case: str, kind: str, seen: Seen, steady_p99_ms: float | None = None) -> Figures:
    """Return the figures of a case; `steady_p99_ms` is that of the same kind in the same run."""
    every = Results([second for one in seen.rounds for second in one.seconds])
    kinds = sum((one.failures() for one in seen.rounds), Counter[str]())
    refused = kinds.pop(REFUSED, 0) if case == STOP else 0
    p99 = round(every.quantile(0.99) * MILLI, 1)
    return {
        "case": case,
        "kind": kind,
        "replaced": seen.replaced,
        "seconds": round(seen.seconds, 1),
        "requests": len(every.seconds) + sum(len(one.failed) for one in seen.rounds) - refused,
        "failed": kinds.total(),
        "failures": dict(sorted(kinds.items())),
        "refused_after_the_end": refused,
        "connections_closed": sum(one.closed for one in seen.rounds),
        "p50_ms": round(every.quantile(0.5) * MILLI, 1),
        "p99_ms": p99,
        "longest_ms": round(every.quantile(1.0) * MILLI, 1),
        "gap_ms": round(max(one.longest_gap for one in seen.rounds) * MILLI, 1),
        "p99_over_steady": None if steady_p99_ms is None else round(p99 / steady_p99_ms, 2),
    }


def budgets(cases: Sequence[Figures]) -> list[Figures]:
    """Compare the design's budgets with our figures."""
    found = []
    for case in cases:
        if case["kind"] != OURS or case["case"] == STEADY:
            continue
        failed, ratio = case["failed"], case["p99_over_steady"]
        found.append(_verdict(f"{case['case']}: failed requests", MAX_FAILED, failed))
        if case["case"] != STOP:
            found.append(_verdict(f"{case['case']}: P99 over the steady one", MAX_P99_RATIO, ratio))
    return found


def _verdict(budget: str, at_most: float, found: float) -> Figures:
    return {"budget": budget, "at_most": at_most, "found": found, "met": found <= at_most}


async def _every_case(depth: Depth, directory: Path) -> list[Figures]:
    found: list[Figures] = []
    steady: dict[str, float] = {}
    for case, measured in CASES.items():
        for kind in KINDS:
            progress(f"{case}: {kind}")
            figures = summarised(case, kind, await measured(kind, directory, AMOUNTS[depth]), steady.get(kind))
            steady.setdefault(kind, figures["p99_ms"])
            found.append(figures)
    return found


def measure(depth: Depth) -> Figures:
    """Run the whole benchmark."""
    memory = "/dev/shm"  # noqa: S108 -- a directory of its own is made in it
    with (
        tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as directory,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        cases = runner.run(_every_case(depth, Path(directory)))
    return {
        "workers": WORKERS,
        "connections": CONNECTIONS,
        "rate": RATE,
        "max_requests": MAX_REQUESTS,
        "cases": cases,
        "budgets": budgets(cases),
    }


def text(figures: Figures) -> str:
    """Format the tables."""
    rows = [["", "", "replaced", "seconds", "requests", "failed", "P50, ms", "P99, ms", "over steady", "gap, ms"]]
    for case in figures["cases"]:
        ratio = case["p99_over_steady"]
        times = ["" if ratio is None else f"{ratio:.1f}x", f"{case['gap_ms']:.0f}"]
        counts = [str(case["replaced"]), f"{case['seconds']:.0f}", f"{case['requests']:,}", _failed(case)]
        rows.append([case["case"], case["kind"], *counts, f"{case['p50_ms']:.1f}", f"{case['p99_ms']:.1f}", *times])
    verdicts = [
        [one["budget"], f"at most {one['at_most']:g}", f"{one['found']:g}", "met" if one["met"] else "MISSED"]
        for one in figures["budgets"]
    ]
    head = f"{figures['rate']:g} requests/s over {figures['connections']} connections, {figures['workers']} workers"
    return "\n".join([head, table(rows), "", "Budgets", table(verdicts)])


def _failed(case: Figures) -> str:
    kinds = ", ".join(f"{count} {kind}" for kind, count in case["failures"].items())
    return f"{case['failed']} ({kinds})" if kinds else "0"


def main(depth: Depth) -> int:
    """Run the benchmark; return the exit status."""
    return run("lifecycle", measure, text, depth)


if __name__ == "__main__":
    sys.exit(main(options("python -m loadtest.benchmarks.lifecycle").parse_args().depth))
