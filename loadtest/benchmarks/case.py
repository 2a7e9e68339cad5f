"""One case of the scrape benchmark: cold and warm, in both formats, with none, some and all of the series changed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

from app.monitoring.multiprocess.directory import usage
from loadtest.benchmarks import readers
from loadtest.benchmarks.command import BenchmarkError, Depth, Figures
from loadtest.benchmarks.expositions import changed_share, must_agree
from loadtest.benchmarks.plan import CHANGED, FORMATS, Case, is_scraped_once, rounds
from loadtest.benchmarks.processes import order, processes
from loadtest.benchmarks.readers import compared, scraped

# A first scrape is taken again with a new reader where the library's takes less.
COLD_ROUNDS, MAX_SECONDS_TO_REPEAT = 3, 0.5


class Bench:
    """A case, the pipes to its workers and the pipes to its readers."""

    def __init__(self, case: Case, depth: Depth, workers: Sequence[Connection], reading: Sequence[Connection]) -> None:
        self._case, self._depth, self._workers = case, depth, workers
        # The third reads the same workers without dead ones, in turn with ours: runs a minute apart compare badly.
        self._ours, self._library, self._without_dead = reading

    def cold(self) -> Figures:
        """Measure the first scrape of a reader that knows no file yet, and check its body. Raises BenchmarkError."""
        ours, library = [], []
        for _ in range(COLD_ROUNDS if self._case.library_seconds <= MAX_SECONDS_TO_REPEAT else 1):
            one = scraped(self._ours, "text", anew=True)
            ours.append(one.milliseconds)
            found = len(one.body.splitlines())
            if found != self._case.size.lines:
                raise BenchmarkError(f"{found} lines were read: want {self._case.size.lines}")
            if is_scraped_once(self._case, self._depth):
                other = scraped(self._library, "text")
                library.append(other.milliseconds)
                must_agree(one.body, other.body)
        return compared(ours, library)

    def warm(self, form: str, percent: int, cold: float | None) -> Figures:
        """Scrape after scrape, that share of each worker's series changed in between; `cold` is the library's."""
        planned = rounds(self._case, form, self._depth)
        ours, library, without_dead, shares = [], [], [], []
        before = scraped(self._ours, form).body
        if self._case.dead:
            scraped(self._without_dead, form)
        for number in range(planned.ours):
            order(self._workers, percent)
            one = scraped(self._ours, form)
            ours.append(one.milliseconds)
            shares.append(changed_share(before, one.body))
            before = one.body
            if number < planned.pairs:
                other = scraped(self._library, form)
                library.append(other.milliseconds)
                must_agree(one.body, other.body)
            if self._case.dead:
                without_dead.append(scraped(self._without_dead, form).milliseconds)
        row = {"format": form, "changed": percent, "changed_lines": round(median(shares), 3), **compared(ours, library)}
        if without_dead:
            row["without_dead_ms"] = compared(without_dead, [])["our_ms"]
            row["dead_factor"] = compared(without_dead, ours)["ratio"]
        if planned.note:
            row["note"] = planned.note
            if form == "text" and cold is not None:
                row |= {name: compared(ours, [cold])[name] for name in ("library_ms", "least_ratio")}
                row["ratio"] = compared([median(ours)], [cold])["ratio"]
        return row


def measure(case: Case, depth: Depth, workers: Sequence[Connection], live: Path, both: tuple[Path, Path]) -> Figures:
    """Return the figures of a case. Raises BenchmarkError if the expositions of both sides differ."""
    with _reading(live, both) as reading:
        bench = Bench(case, depth, workers, reading)
        cold = bench.cold()
        return {
            "workers": case.workers,
            "dead": case.dead,
            "lines": case.size.lines,
            "our_bytes": usage(both[0])[1],
            "library_bytes": usage(both[1])[1],
            "cold": cold,
            "warm": [bench.warm(form, percent, cold["library_ms"]) for form in FORMATS for percent in CHANGED],
        }


@contextmanager
def _reading(live: Path, both: tuple[Path, Path]) -> Iterator[list[Connection]]:
    """Yield pipes to three readers: ours of our directory, the library's of its own, ours without dead workers."""
    sides = [(readers.ours, both[0]), (readers.library, both[1]), (readers.ours, live)]
    with processes(readers.read, sides) as pipes:
        yield pipes
