"""Cost of a scrape: our Aggregate beside prometheus-client's MultiProcessCollector on the same files.

`python -m loadtest.benchmarks.scrape [--quick | --full]` leaves build/bench/scrape.json and a chart, scrape.svg.
"""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from loadtest.benchmarks import chart, serving, summary
from loadtest.benchmarks.case import measure as case_figures
from loadtest.benchmarks.command import Depth, Figures, options, progress, run
from loadtest.benchmarks.dead_workers import DeadWorkers, directories
from loadtest.benchmarks.plan import USUAL_WORKERS, Case, cases
from loadtest.benchmarks.processes import answers, processes
from loadtest.benchmarks.workload import LARGE, SMALL, Size, work


def measure(depth: Depth) -> Figures:
    """Measure all cases, then the real exporter."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        path = Path(name)
        measured = measure_cases(cases(depth), depth, path / "cases")
        figures = {**measured, **_measure_servers(depth, path / "servers")}
    return {**figures, "budgets": summary.budgets(figures["cases"])}


def measure_cases(planned: Sequence[Case], depth: Depth, path: Path) -> Figures:
    """Return the figures of these cases, and the cost of folding their dead workers."""
    found: list[Figures] = []
    folding: list[Figures] = []
    for size in dict.fromkeys(case.size for case in planned):
        ours = [case for case in planned if case.size == size]
        progress(f"{size.lines:,} lines: {max(case.dead for case in ours)} workers die")
        dead_workers = DeadWorkers(path / f"dead-{size.lines}", size, sorted({case.dead for case in ours}))
        folding += dead_workers.folding
        for workers in dict.fromkeys(case.workers for case in ours):
            with living(path / f"{workers}-workers-{size.lines}", size, workers) as (live, pipes):
                for case in (one for one in ours if one.workers == workers):
                    progress(f"  {workers} workers, {case.dead} dead")
                    with directories(live.parent, live, dead_workers, case.dead) as both:
                        found.append(case_figures(case, depth, pipes, live, both))
    return {"cases": found, "folding": folding}


@contextmanager
def living(path: Path, size: Size, workers: int) -> Iterator[tuple[Path, list[Connection]]]:
    """Start `workers` live workers; yield their directory and the pipes to them."""
    live = path / "live"
    live.mkdir(parents=True)
    with processes(work, [(live, size, seed) for seed in range(workers)]) as pipes:
        answers(pipes)
        yield live, pipes


def _measure_servers(depth: Depth, path: Path) -> Figures:
    """Measure the memory of both servers at each size, and HTTP scrapes at the usual one."""
    memory = [serving.memory_of_nothing(path)]
    http: Figures = {}
    for size in (SMALL,) if depth is Depth.QUICK else (SMALL, LARGE):
        progress(f"{size.lines:,} lines over HTTP")
        with living(path / str(size.lines), size, USUAL_WORKERS) as (live, pipes):
            memory.append(serving.memory(live, pipes, size))
            if size == SMALL:
                http = serving.http_figures(live, pipes, depth)
    return {"memory": memory, "http": http}


def main(depth: Depth) -> int:
    """Run the command; return its exit status."""
    return run("scrape", measure, summary.text, depth, {"scrape.svg": chart.draw})


if __name__ == "__main__":
    sys.exit(main(options("python -m loadtest.benchmarks.scrape").parse_args().depth))
