"""Totals beside an independent ledger of every increment: equal after any increments, deaths, folds and crashes."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from math import fsum
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import Counter, Histogram, Summary

from tests.monitoring.multiprocess.simulated import (
    Killed,
    Samples,
    Scene,
    Series,
    Worker,
    fatal,
    scene,
    series,
    shown,
)

PATIENT = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
BOUNDS = (0.5, 4.0)
PLACES = ("Ubud", "Kuta")
# Multiples of 2**-10 below 2**20 add up in a float64 without rounding, however many there are.
EXACT = st.integers(0, 1 << 30).map(lambda units: units / 1024)
ROUGH = st.one_of(st.floats(1e-6, 1e6), st.sampled_from([0.1, 1 / 3, 1e-6, 1e6]), st.just(0.0))
STEPS = st.one_of(
    st.tuples(st.sampled_from(["inc", "observe", "measure"]), st.integers(0, 2), st.sampled_from(PLACES)),
    st.tuples(st.just("die"), st.integers(0, 2)),
    st.tuples(st.sampled_from(["fold", "read", "replace"])),
    st.tuples(st.just("crash"), st.integers(0, 30)),
)


class Ledger:
    """The counts of each process by series, as fractions or float64."""

    def __init__(self, zero: Any) -> None:
        self._zero = zero
        self._processes: dict[str, dict[Series, Any]] = defaultdict(lambda: defaultdict(lambda: zero))

    def note(self, identity: str, sample: Series, amount: float) -> None:
        self._processes[identity][sample] += type(self._zero)(amount)

    def totals(self) -> Samples:
        terms: dict[Series, list[Any]] = defaultdict(list)
        for process in self._processes.values():
            for sample, amount in process.items():
                terms[sample].append(amount)
        if isinstance(self._zero, float):
            return {sample: fsum(amounts) for sample, amounts in terms.items()}
        return {sample: float(sum(amounts)) for sample, amounts in terms.items()}


class Books:
    """Processes that count, readers that read, and the ledger that both are held against."""

    def __init__(self, stage: Scene, ledger: Ledger) -> None:
        self._stage = stage
        self.ledger = ledger
        self._workers = [stage.worker() for _ in range(3)]
        self._keeper = stage.keeper()
        self._reader = stage.reader()
        self._last: Samples = {}
        with self._workers[0].at_work():
            self._hits = Counter("hits", "Hits.", ("place",), registry=None)
            self._took = Histogram("took", "Took.", ("place",), registry=None, buckets=BOUNDS)
            self._size = Summary("size", "Size.", ("place",), registry=None)

    def do(self, step: tuple[Any, ...], amount: float) -> None:
        what, *details = step
        if what in {"inc", "observe", "measure"}:
            worker = self._workers[details[0]]
            with worker.at_work():
                self._count(worker, what, details[1], amount)
        elif what == "die":
            self._workers[details[0]].die()
            self._workers[details[0]] = self._stage.worker()
        elif what == "fold":
            self.check(self._keeper.scrape())
        elif what == "replace":
            self._keeper.die()
            self._keeper = self._stage.keeper()
        elif what == "crash":
            self._crash(details[0])
        self._reader.refresh()
        self.check(shown(self._reader))

    def _count(self, worker: Worker, what: str, place: str, amount: float) -> None:
        note = self.ledger.note
        if what == "inc":
            self._hits.labels(place).inc(amount)
            note(worker.identity, series("hits_total", place=place), amount)
        elif what == "measure":
            self._size.labels(place).observe(amount)
            note(worker.identity, series("size_sum", place=place), amount)
            note(worker.identity, series("size_count", place=place), 1)
        else:
            self._took.labels(place).observe(amount)
            note(worker.identity, series("took_sum", place=place), amount)
            note(worker.identity, series("took_count", place=place), 1)
            for bound in (*BOUNDS, float("inf")):
                le = "+Inf" if bound == float("inf") else str(bound)
                note(worker.identity, series("took_bucket", place=place, le=le), amount <= bound)

    def _crash(self, point: int) -> None:
        """Crash the folding process at the given point of a fold, or after it."""
        self._keeper.die()
        doomed = self._stage.keeper(files=fatal(point))
        try:
            doomed.fold()
        except Killed:
            self.check(self._stage.samples())
        doomed.die()
        self._keeper = self._stage.keeper()

    def check(self, found: Samples) -> None:
        assert found == self.ledger.totals()
        fallen = {sample: (before, found[sample]) for sample, before in self._last.items() if found[sample] < before}
        assert not fallen
        self._last = found

    def close(self) -> None:
        """End and fold every process."""
        for worker in self._workers:
            worker.die()
        self.check(self._keeper.scrape())
        self.check(self._stage.samples())
        assert not [name for name in self._stage.names() if name.endswith((".db", ".presence"))]


@contextmanager
def books(zero: Any) -> Iterator[Books]:
    with scene() as stage:
        yield Books(stage, Ledger(zero))


@PATIENT
@given(st.lists(st.tuples(STEPS, EXACT), max_size=40))
def test_totals_are_those_of_the_ledger_after_any_increments_deaths_folds_and_crashes(
    steps: list[tuple[tuple[Any, ...], float]],
) -> None:
    with books(Fraction(0)) as opened:
        for step, amount in steps:
            opened.do(step, amount)
        opened.close()


@PATIENT
@given(st.lists(st.tuples(STEPS, ROUGH), max_size=40))
def test_no_rounding_comes_to_what_the_processes_have_rounded_themselves(
    steps: list[tuple[tuple[Any, ...], float]],
) -> None:
    with books(0.0) as opened:
        for step, amount in steps:
            opened.do(step, amount)
        opened.close()
