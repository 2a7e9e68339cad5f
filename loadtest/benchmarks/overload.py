"""Goodput, latency and probes of the real service at 3 and 10 times its capacity, with and without MAX_IN_FLIGHT.

    python -m loadtest.benchmarks overload      build/bench/overload.json

The service with PostgreSQL and Redis runs on one core, clients and probes on another. Its capacity is what a closed
loop of few connections gets, before and after each stage: the speed of a shared machine changes. Clients send at 3 and
at 10 times that rate in an open loop, and in a closed loop of 1,500 connections that send again at once; they leave
without waiting for their responses. Goodput is the rate of responses in time, within the latency objective of 2 s, over
the mean of both capacities.
"""

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from loadtest.benchmarks.command import BenchmarkError, Depth, Figures, progress, run, table
from loadtest.benchmarks.overload_clients import WITHOUT_RETRY_AFTER
from loadtest.benchmarks.overload_service import Service, clients_core_busy, cores, service, start

SECONDS = {Depth.QUICK: 6.0, Depth.DEFAULT: 30.0, Depth.FULL: 60.0}
WORKERS = 2
CAPACITY_CONNECTIONS, CONNECTIONS = 16, 1500
FACTORS = (3, 10)
VARIANTS = {"no bound": {"MAX_IN_FLIGHT": "0"}, "bounded": {}}
LONGEST_SECONDS = 60.0
MIN_GOODPUT, MAX_P99_MS, MAX_PROBE_MS = 0.8, 2000.0, 1000.0
SETTLED_SECONDS = 3.0
EXPECTED = frozenset({"200", "503"})


def _load(running: Service, seconds: float, connections: int, rate: float = 0.0) -> Figures:
    """Return the figures of clients that send for `seconds`."""
    arguments = ["--port", str(running.port), "--seconds", str(seconds), "--connections", str(connections)]
    process = start("overload_clients", [*arguments, "--rate", str(rate)])
    output, _ = process.communicate(timeout=seconds + LONGEST_SECONDS)
    if process.returncode:
        raise BenchmarkError(f"the clients ended with status {process.returncode}")
    figures: Figures = json.loads(output)
    return figures


def _stage(running: Service, name: str, *load: float) -> Figures:
    """Return the figures of one stage, with those of the probes meanwhile and of the service afterwards."""
    seconds, connections, rate = load
    probes = start("overload_probes", ["--port", str(running.port)])
    try:
        figures = _load(running, seconds, int(connections), rate)
        idle = running.seconds_until_idle()
    finally:
        probes.terminate()
        output, _ = probes.communicate(timeout=LONGEST_SECONDS)
    figures |= {
        "stage": name,
        "probes": json.loads(output),
        "idle_after_seconds": idle,
        "in_flight_afterwards": _in_flight(running),
    }
    return figures


def _in_flight(running: Service) -> float | None:
    """Return the requests in flight. Workers publish them once a second."""
    deadline = time.monotonic() + SETTLED_SECONDS
    while (found := running.metric("baliblissed_requests_in_flight")) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def _variant(name: str, changes: dict[str, str], depth: Depth, directory: Path) -> Figures:
    seconds = SECONDS[depth]
    with service(directory, WORKERS, changes) as running:
        _load(running, 3.0, CAPACITY_CONNECTIONS)  # statements are prepared, caches filled
        capacities, stages = [_capacity(running, name, seconds / 4)], []
        for factor in (*FACTORS, 0):
            before = capacities[-1]["in_time_per_second"]
            stage = f"{factor}x" if factor else f"{CONNECTIONS} connections"
            progress(f"overload, {name}: {stage} of {before} requests a second")
            stages.append(_stage(running, stage, seconds, CONNECTIONS, factor * before))
            capacities.append(_capacity(running, name, seconds / 4))
            stages[-1]["goodput"] = goodput(stages[-1], *capacities[-2:])
        return {"variant": name, "capacities": capacities, "stages": stages}


def _capacity(running: Service, name: str, seconds: float) -> Figures:
    """Return the figures of few connections in a closed loop."""
    progress(f"overload, {name}: capacity")
    alone = _load(running, max(5.0, seconds), CAPACITY_CONNECTIONS)
    if not alone["in_time_per_second"]:
        raise BenchmarkError(f"{name}: no request was answered in time: {alone['counts']}")
    return alone


def goodput(stage: Figures, before: Figures, after: Figures) -> float:
    """Return the rate of responses in time over the mean of the capacities before and after the stage."""
    capacity = (before["in_time_per_second"] + after["in_time_per_second"]) / 2
    return round(float(stage["in_time_per_second"] / capacity), 3)


def verdicts(stages: list[Figures]) -> list[Figures]:
    """Compare each stage with the budgets."""
    return [verdict for stage in stages for verdict in _of_stage(stage)]


def _of_stage(stage: Figures) -> Iterator[Figures]:
    probes = stage["probes"].values()

    def verdict(budget: str, want: str, found: Any, met: bool) -> Figures:  # noqa: FBT001
        return {"budget": f"{budget} at {stage['stage']}", "want": want, "found": found, "met": met}

    yield verdict("goodput", f">= {MIN_GOODPUT}", stage["goodput"], stage["goodput"] >= MIN_GOODPUT)
    p99 = stage["accepted_ms"]["p99"]
    yield verdict("accepted P99, ms,", f"<= {MAX_P99_MS:g}", p99, p99 is not None and p99 <= MAX_P99_MS)
    slowest = max(one["max"] for one in probes)
    yield verdict("slowest probe, ms,", f"<= {MAX_PROBE_MS:g}", slowest, slowest <= MAX_PROBE_MS)
    failed = sum(one["failed"] for one in probes)
    yield verdict("failed probes", "0", failed, failed == 0)
    without = stage["counts"].get(WITHOUT_RETRY_AFTER, 0)
    yield verdict(WITHOUT_RETRY_AFTER, "0", without, without == 0)
    others = sum(number for status, number in stage["counts"].items() if status.isdigit() and status not in EXPECTED)
    yield verdict("responses other than 200 and 503", "0", others, others == 0)
    idle, left = stage["idle_after_seconds"], stage["in_flight_afterwards"]
    settled = idle is not None and idle <= SETTLED_SECONDS and left == 0
    yield verdict("idle after the clients left, s,", f"<= {SETTLED_SECONDS:g}, no request in flight", idle, settled)


def measure(depth: Depth) -> Figures:
    """Measure each variant with a service of its own."""
    ours, others = cores()
    with tempfile.TemporaryDirectory(prefix="overload-") as path, clients_core_busy():
        variants = [
            _variant(name, changes, depth, Path(path) / name.replace(" ", "-")) for name, changes in VARIANTS.items()
        ]
    return {
        "workers": WORKERS,
        "cores": {"service, PostgreSQL and Redis": sorted(ours), "clients and probes": sorted(others)},
        "variants": variants,
        "budgets": verdicts(variants[-1]["stages"]),
    }


def text(figures: Figures) -> str:
    """Format the tables."""
    rows = [
        ["", "offered/s", "accepted/s", "in time", "P50, ms", "P99", "503", "live max", "ready max", "idle after, s"]
    ]
    for variant in figures["variants"]:
        rows += [[f"{variant['variant']}, capacity", *_row(alone, 1.0), "", "", ""] for alone in variant["capacities"]]
        for stage in variant["stages"]:
            probes = [f"{one['max']:.0f}" + "!" * bool(one["failed"]) for one in stage["probes"].values()]
            idle = "never" if stage["idle_after_seconds"] is None else f"{stage['idle_after_seconds']:.1f}"
            rows.append([f"{variant['variant']}, {stage['stage']}", *_row(stage, stage["goodput"]), *probes, idle])
    lines = [
        f"{one['budget']}: {one['found']}, want {one['want']}: {'met' if one['met'] else 'MISSED'}"
        for one in figures["budgets"]
    ]
    return "\n".join([table(rows), "An exclamation mark: probes failed.", *lines])


def _row(load: Figures, goodput: float) -> list[str]:
    times = [f"{load['accepted_ms'][name] or 0:.0f}" for name in ("p50", "p99")]
    rates = [f"{load[name]:,.0f}" for name in ("offered_per_second", "accepted_per_second")]
    return [*rates, f"{goodput:.0%}", *times, f"{load['counts'].get('503', 0):,}"]


def main(depth: Depth) -> int:
    """Run the benchmark; return the exit status."""
    return run("overload", measure, text, depth)
