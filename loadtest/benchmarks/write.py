"""Cost of counting: our value class beside the library's two, through the same Counter, Histogram and Gauge.

`python -m loadtest.benchmarks.write [--quick]` leaves build/bench/write.json.
"""

import sys
import tempfile
import time
import timeit
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from app.monitoring.metrics.registry import BoundedRegistry
from loadtest.benchmarks.command import Depth, Figures, options, progress, run, table
from loadtest.benchmarks.processes import answers, order, processes
from loadtest.benchmarks.workload import write_as_library, write_in_process, write_shared

ROUNDS = {Depth.QUICK: 5, Depth.DEFAULT: 21, Depth.FULL: 61}
CALLS = 20_000
EXEMPLAR = {"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "span_id": "00f067aa0ba902b7"}
Prepare = Callable[[Path], None]
VARIANTS: dict[str, tuple[Prepare, type[CollectorRegistry]]] = {
    "SharedValue": (write_shared, CollectorRegistry),
    "MmapedValue": (write_as_library, CollectorRegistry),
    "MutexValue": (write_in_process, CollectorRegistry),
    # As the service has it: its registry bounds the label sets and asks for the current trace's exemplar.
    "SharedValue, bounded": (write_shared, BoundedRegistry),
}
BASELINE = "MmapedValue"
OPERATIONS = {
    "Counter.inc": "counter.inc()",
    "Counter.inc, exemplar": "counter.inc(exemplar=exemplar)",
    "Counter.labels.inc": 'labelled.labels("GET", "/places/{id}", "200").inc()',
    "Counter.labels.inc, exemplar": 'labelled.labels("GET", "/places/{id}", "200").inc(exemplar=exemplar)',
    "Histogram.observe": "histogram.observe(0.3)",
    "Histogram.observe, exemplar": "histogram.observe(0.3, exemplar)",
    "Gauge.set": "gauge.set(3.0)",
}


def metrics(registry: CollectorRegistry) -> dict[str, Any]:
    """Return the metrics that the operations use."""
    return {
        "counter": Counter("benchmark_plain", "Without labels.", registry=registry),
        "labelled": Counter("benchmark_requests", "With labels.", ("method", "handler", "status"), registry=registry),
        "histogram": Histogram("benchmark_latency_seconds", "Without labels.", registry=registry),
        "gauge": Gauge("benchmark_level", "Without labels.", registry=registry, multiprocess_mode="livesum"),
        "exemplar": EXEMPLAR,
    }


def _serve(pipe: Connection, prepare: Prepare, registry: type[CollectorRegistry], directory: Path) -> None:
    """Serve one variant in its own process: for each operation received, send the CPU time of a call in nanoseconds."""
    prepare(directory)
    known = metrics(registry())
    pipe.send("ready")
    while True:
        timer = timeit.Timer(OPERATIONS[pipe.recv()], timer=time.process_time_ns, globals=known)
        pipe.send(timer.timeit(CALLS) / CALLS)


def measure(depth: Depth) -> Figures:
    """Measure every operation of every variant, in turn."""
    taken: dict[str, dict[str, list[float]]] = {one: {name: [] for name in VARIANTS} for one in OPERATIONS}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        directories = [Path(name) / str(number) for number in range(len(VARIANTS))]
        for directory in directories:
            directory.mkdir()
        arguments = [(*variant, directory) for variant, directory in zip(VARIANTS.values(), directories, strict=True)]
        with processes(_serve, arguments) as pipes:
            answers(pipes)
            for number in range(ROUNDS[depth]):
                progress(f"write: round {number + 1} of {ROUNDS[depth]}")
                _one_round(pipes, taken)
    return {"rounds": ROUNDS[depth], "calls": CALLS, "operations": [compare(one, its) for one, its in taken.items()]}


def _one_round(pipes: Sequence[Connection], taken: dict[str, dict[str, list[float]]]) -> None:
    for operation, by_variant in taken.items():
        for pipe, found in zip(pipes, by_variant.values(), strict=True):
            found.extend(order([pipe], operation))


def compare(operation: str, taken: dict[str, list[float]]) -> Figures:
    """Return medians in nanoseconds, and the library's multiprocess class over ours: more than 1 if ours is faster."""
    ratios = [other / one for other, one in zip(taken[BASELINE], taken["SharedValue"], strict=True)]
    medians = {name: round(median(found)) for name, found in taken.items()}
    return {"operation": operation, "ns": medians, "ratio": round(median(ratios), 2)}


def show(figures: Figures) -> str:
    """Format the summary."""
    rows = [["CPU ns a call", *VARIANTS, f"{BASELINE} / SharedValue"]]
    rows += [
        [one["operation"], *(str(one["ns"][name]) for name in VARIANTS), f"{one['ratio']:.2f}x"]
        for one in figures["operations"]
    ]
    return table(rows)


def main(depth: Depth) -> int:
    """Run the command; return its exit status."""
    return run("write", measure, show, depth)


if __name__ == "__main__":
    sys.exit(main(options("python -m loadtest.benchmarks.write").parse_args().depth))
