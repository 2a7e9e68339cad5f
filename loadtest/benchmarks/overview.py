"""Dashboards and rules at 100 pods of 5,000 series, on a real Prometheus with six hours of history.

`python -m loadtest.benchmarks.overview [--quick | --full]` leaves build/bench/overview.json.
"""

import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from app.settings import ROOT
from loadtest.benchmarks import overview_summary
from loadtest.benchmarks.blocks import Labels, Samples, write_block
from loadtest.benchmarks.command import BenchmarkError, Depth, Figures, options, progress, run
from loadtest.benchmarks.overview_pods import Series, grown, pods, scraped, target, template
from loadtest.benchmarks.overview_prometheus import Answer, Server, configuration, prometheus
from loadtest.benchmarks.overview_queries import (
    STEP_SECONDS,
    Asked,
    dashboards,
    groups,
    long_lived,
    over_raw,
    recording_rules,
)

MONITORING = ROOT / "monitoring"
RULES, BOARDS = MONITORING / "rules" / "baliblissed.yml", MONITORING / "grafana" / "dashboards"
NAMES = ("fastapi-overview", "slo", "infrastructure")
SERIES_A_POD = 5_000
HOUR, DAY = 3600, 24 * 3600
WINDOWS = {"1h": HOUR, "6h": 6 * HOUR}
HISTORY, LONG_HISTORY, LONG_STEP = 6 * HOUR, 30 * DAY, 30
ROUNDS, AT_ONCE, PATIENCE_SECONDS = 3, 6, 30.0
MIN_CPU_SECONDS = 0.01  # the resolution of CPU times
SEED_INTERVAL, SEED_SECONDS = 1.0, 15.0
STARTED_BEFORE = 10 * DAY  # the pods' start before the history
KINDS = re.compile(r"^\s+interval: .*\n", re.MULTILINE)


@dataclass(frozen=True)
class Extent:
    """The size of a run: pods, seconds of scraping, and seconds for queries over raw series."""

    pods: int
    live_seconds: float
    raw_seconds: float


EXTENTS = {
    Depth.QUICK: Extent(20, 35, 15),
    Depth.DEFAULT: Extent(100, 125, 100),
    Depth.FULL: Extent(100, 300, 240),
}


def measure(depth: Depth) -> Figures:
    """Measure rules and queries. Raise BenchmarkError if a program does not start or a rule fails."""
    extent = EXTENTS[depth]
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        directory = Path(name)
        progress("the service's exposition")
        real = template(directory / "service")
        series = grown(real, SERIES_A_POD)
        progress(f"{len(real):,} series of the service, {len(series):,} of a pod: what the rules record")
        recorded = _recorded(directory / "seed", series)
        progress(f"history of {extent.pods} pods")
        began = _write_history(directory / "data", series, _of_pods(recorded, extent.pods), extent.pods)
        asked = dashboards(BOARDS, NAMES)
        with pods(series, began, STEP_SECONDS) as port:
            targets = [target(number) for number in range(extent.pods)]
            file = configuration(directory, STEP_SECONDS, RULES.read_text(), port, targets)
            with prometheus(directory, file) as server:
                progress(f"scrapes and rules, {extent.live_seconds:g} s")
                figures = {"prometheus": server.version(), **_size(extent, real, series, recorded)}
                figures |= _watch(server, extent.live_seconds)
                end = time.time() - STEP_SECONDS
                figures["boards"] = _whole(server, asked, end)
        # Without scrapes and rules, so that the CPU time of the process is that of the query.
        with prometheus(directory, configuration(directory, STEP_SECONDS, "groups: []\n")) as server:
            figures |= _cost_of_rules(server, end)
            figures["queries"] = _ask(server, asked, end)
            figures["raw"] = _ask_raw(server, asked, end, extent.raw_seconds)
    return {**figures, "budgets": overview_summary.budgets(figures)}


def _recorded(directory: Path, series: Sequence[Series]) -> dict[Labels, float]:
    """Return the recorded series of one pod, with a value of each, as the rules themselves make them."""
    rules = re.sub(KINDS, "", RULES.read_text())  # all groups at the same interval, a short one
    now = int(time.time())
    began = now - STARTED_BEFORE
    (directory / "data" / "wal").mkdir(parents=True)
    start = (now - HOUR) * 1000
    write_block(directory / "data", _history(series, 1, began, start, HOUR // STEP_SECONDS))
    with pods(series, began, SEED_INTERVAL) as port:
        file = configuration(directory, SEED_INTERVAL, rules, port, [target(0)])
        with prometheus(directory, file) as server:
            time.sleep(SEED_SECONDS)  # records that rest on records need as many evaluations
            found = server.now('{__name__=~".+:.+"}')
    if not found:
        raise BenchmarkError("the rules record nothing")
    return {tuple(sorted(one["metric"].items())): float(one["value"][1]) for one in found}


def _of_pods(recorded: dict[Labels, float], number: int) -> dict[Labels, float]:
    """Repeat the series of one pod's instance for each of them."""
    first = target(0)["instance"]
    found = {}
    for labels, value in recorded.items():
        if ("instance", first) not in labels:
            found[labels] = value * number
            continue
        for one in range(number):
            own = ("instance", target(one)["instance"])
            found[tuple(own if pair[0] == "instance" else pair for pair in labels)] = value
    return found


def _write_history(directory: Path, series: Sequence[Series], recorded: dict[Labels, float], number: int) -> float:
    """Write the blocks of HISTORY and, for what is read over days, LONG_HISTORY; return the pods' start."""
    now = int(time.time()) // STEP_SECONDS * STEP_SECONDS
    began, start = now - STARTED_BEFORE, now - HISTORY
    (directory / "wal").mkdir(parents=True)
    count = HISTORY // STEP_SECONDS
    write_block(
        directory,
        [
            *_history(series, number, began, start * 1000, count),
            *_records(recorded, start * 1000, STEP_SECONDS, count),
        ],
    )
    texts = [RULES.read_text(), *(one.expression for one in dashboards(BOARDS, NAMES))]
    names = long_lived("\n".join(texts))
    long = {labels: value for labels, value in recorded.items() if dict(labels)["__name__"] in names}
    if long:
        count = (LONG_HISTORY - HISTORY) // LONG_STEP
        write_block(directory, _records(long, (now - LONG_HISTORY) * 1000, LONG_STEP, count))
    return float(began)


def _history(
    series: Sequence[Series], number: int, began: float, start: int, count: int
) -> Iterator[tuple[Labels, Samples]]:
    """Yield the samples of each series of each pod from `start` ms on. Equal values are one object."""
    known: dict[tuple[float, ...], Samples] = {}
    first = start / 1000 - began
    for one in series:
        values = tuple(one.at(first + step * STEP_SECONDS) for step in range(count))
        samples = known.setdefault(values, Samples(start, STEP_SECONDS * 1000, values))
        for pod in range(number):
            yield scraped(one, pod), samples


def _records(recorded: dict[Labels, float], start: int, step: int, count: int) -> Iterator[tuple[Labels, Samples]]:
    """Yield the samples of recorded series: their values, up and down by a tenth."""
    known: dict[float, Samples] = {}
    for labels, value in recorded.items():
        near = float(f"{value:.2g}")
        if near not in known:
            values = tuple(near * (1 + 0.1 * ((place * 37) % 101 / 101)) for place in range(count))
            known[near] = Samples(start, step * 1000, values)
        yield labels, known[near]


def _watch(server: Server, seconds: float) -> Figures:
    """Return what scraping and the rules cost in so many seconds."""
    began, cpu = time.monotonic(), server.cpu()
    durations: dict[str, list[float]] = {}
    missed = 0
    while time.monotonic() < began + seconds:
        time.sleep(STEP_SECONDS / 3)
        took_last, missed = server.groups()
        for group, took in took_last.items():
            durations.setdefault(group, []).append(took)
    scraped_up = server.now("sum(up)")
    in_head = server.number("prometheus_tsdb_head_series")
    resident = server.process.memory_info().rss
    server.check_rules()
    return {
        "up": float(scraped_up[0]["value"][1]) if scraped_up else 0.0,
        "head_series": int(in_head),
        "resident_bytes": resident,
        "resident_bytes_a_series": round(resident / in_head),
        "heap_bytes_a_series": round(server.number("go_memstats_heap_inuse_bytes") / in_head),
        "cores": round((server.cpu() - cpu) / (time.monotonic() - began), 2),
        "groups": [
            {"group": name, "median_s": round(median(took), 3), "max_s": round(max(took), 3)}
            for name, took in sorted(durations.items())
        ],
        "missed_evaluations": missed,
    }


def _cost_of_rules(server: Server, end: float) -> Figures:
    """Return the CPU time of one evaluation of each group, and of the dearest rules."""
    progress("each rule by itself")
    found: list[Figures] = []
    for group, rules in groups(RULES).items():
        for rule, expression in rules:
            found.append({"group": group, "rule": rule, "cpu_s": round(server.cost(expression, end), 2)})
    costs: dict[str, float] = {}
    for one in found:
        costs[one["group"]] = costs.get(one["group"], 0.0) + one["cpu_s"]
    return {
        "rules_cpu": [{"group": group, "cpu_s": round(cost, 2)} for group, cost in costs.items()],
        "dearest_rules": sorted(found, key=lambda one: -one["cpu_s"])[:12],
    }


def _whole(server: Server, asked: Sequence[Asked], end: float) -> list[Figures]:
    """Time each dashboard as a browser loads it, while Prometheus scrapes and evaluates."""
    found = []
    for window, seconds in WINDOWS.items():
        for board in NAMES:
            together = [one for one in asked if one.board == board]
            began = time.perf_counter()
            with ThreadPoolExecutor(AT_ONCE) as threads:
                list(threads.map(partial(_patient, server, end, seconds), together))
            took = round(time.perf_counter() - began, 2)
            found.append({"board": board, "window": window, "queries": len(together), "s": took})
    return found


def _patient(server: Server, end: float, seconds: float, one: Asked) -> Answer:
    return server.ask(one, end, seconds, PATIENCE_SECONDS)


def _ask(server: Server, asked: Sequence[Asked], end: float) -> list[Figures]:
    """Time each query of the dashboards by itself, over both windows."""
    rows: list[Figures] = []
    for window, seconds in WINDOWS.items():
        progress(f"queries over {window}")
        for one in asked:
            answers = [_patient(server, end, seconds, one)]
            while len(answers) < ROUNDS and sum(answer.seconds for answer in answers) < ROUNDS:
                answers.append(_patient(server, end, seconds, one))
            rows.append(
                {
                    "board": one.board,
                    "panel": one.title,
                    "window": window,
                    "query": one.expression,
                    "first_s": round(answers[0].seconds, 3),
                    "median_s": round(median(answer.seconds for answer in answers), 3),
                    "cpu_s": round(median(answer.cpu for answer in answers), 3),
                    "series": answers[-1].series,
                    "refused": answers[-1].refused,
                }
            )
    return rows


def _ask_raw(server: Server, asked: Sequence[Asked], end: float, budget: float) -> list[Figures]:
    """Time the overview's queries over raw series, as long as there is time."""
    progress(f"the overview over raw series, {budget:g} s")
    rules = recording_rules(RULES)
    deadline = time.monotonic() + budget
    rows: list[Figures] = []
    seen = set()
    for window, seconds in WINDOWS.items():
        for one in asked:
            raw = over_raw(one.expression, rules)
            if one.board != NAMES[0] or one.label or raw == one.expression or (window, raw) in seen:
                continue
            if time.monotonic() > deadline:
                return rows
            seen.add((window, raw))
            ours = [_patient(server, end, seconds, one) for _ in range(ROUNDS)]
            answer = _patient(server, end, seconds, Asked(one.board, one.title, raw, instant=one.instant))
            cpu = median(answer.cpu for answer in ours)
            rows.append(
                {
                    "panel": one.title,
                    "window": window,
                    "recorded_cpu_s": round(cpu, 3),
                    "raw_cpu_s": round(answer.cpu, 2),
                    "ratio": round(answer.cpu / max(cpu, MIN_CPU_SECONDS)),
                    "refused": answer.refused,
                }
            )
    return rows


def _size(extent: Extent, real: Sequence[Series], series: Sequence[Series], recorded: dict[Labels, float]) -> Figures:
    everything = _of_pods(recorded, extent.pods)
    return {
        "pods": extent.pods,
        "series_of_the_service": len(real),
        "series_a_pod": len(series),
        "recorded_series": len(everything),
        "recorded_series_without_instance": sum("instance" not in dict(labels) for labels in everything),
    }


def main(depth: Depth) -> int:
    """Run the command; return its exit status."""
    return run("overview", measure, overview_summary.text, depth)


if __name__ == "__main__":
    sys.exit(main(options("python -m loadtest.benchmarks.overview").parse_args().depth))
