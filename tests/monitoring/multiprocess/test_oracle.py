"""prometheus-client's own collector as the oracle: on the same files both give the same samples."""

import math
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import Counter, Gauge, Histogram, Metric, Summary, metrics
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from app.monitoring.multiprocess.gauges import MODES
from app.monitoring.multiprocess.reader import Reader
from tests.monitoring.multiprocess.simulated import FAST, Scene, ended, forked, scene, text

PATIENT = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
KINDS = ["counter", "histogram", "summary", *(f"gauge_{mode}" for mode in sorted(MODES))]
TEXTS = st.one_of(
    st.sampled_from(["", " ", '"', "\\", "\n", "\\n", '\\"', "{}", 'a="b",', "# EOF", "100%", "%s", "ü", "\U0001f334"]),
    # The library's parsers take a carriage return for the end of a line.
    st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=8),
)
SIZES = st.one_of(
    st.integers(0, 3),
    st.floats(0, allow_nan=False),
    st.sampled_from([1e-300, 0.1, 0.5, 999999.5, 1e6, 1e15, 1e300, math.inf]),
)
READINGS = st.one_of(SIZES, st.floats(allow_nan=False), st.sampled_from([-1.5, -0.0, -1e6, -math.inf]))
# Of a large and a small one with either sign the sum would depend on the order: the library's is any.
TERMS = st.one_of(st.integers(-999, 999), st.sampled_from([0.1, -0.5, math.inf, -math.inf]))


@dataclass(frozen=True)
class Spec:
    """A metric named after its index."""

    kind: str
    labels: tuple[str, ...]
    help: str

    def make(self, place: int) -> Any:
        kind, _, mode = self.kind.partition("_")
        name, registry = f"metric_{place}", None
        if kind == "gauge":
            return Gauge(name, self.help, self.labels, registry=registry, multiprocess_mode=mode)  # type: ignore[arg-type]
        if kind == "histogram":
            return Histogram(name, self.help, self.labels, registry=registry, buckets=(0.5, 1, 1e6))
        return {"counter": Counter, "summary": Summary}[kind](name, self.help, self.labels, registry=registry)


@dataclass(frozen=True)
class Event:
    """One of the processes counts, or dies, or somebody folds the dead."""

    what: str
    process: int
    metric: int
    labels: tuple[str, ...]
    value: float


SPECS = st.builds(
    Spec,
    st.sampled_from(KINDS),
    st.sampled_from([(), ("place",), ("place", "kind")]),
    st.sampled_from(["Help.", 'With "quotes" and \\ and\nlines.', "ü"]),
)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Spec], list[Event]]:
    """Draw metrics and a history of events on them."""
    specs = draw(st.lists(SPECS, min_size=1, max_size=5))
    events = []
    for _ in range(draw(st.integers(0, 25))):
        place = draw(st.integers(0, len(specs) - 1))
        kind = specs[place].kind
        sizes = TERMS if kind.endswith("sum") else READINGS if kind.startswith("gauge") else SIZES
        labels = tuple(draw(TEXTS) for _ in specs[place].labels)
        what = draw(st.sampled_from(["count"] * 5 + ["die", "fold"]))
        events.append(Event(what, draw(st.integers(0, 2)), place, labels, draw(sizes)))
    return specs, events


class Play:
    """Lets three processes do what a history says; whoever has died is followed by a new one.

    `shadow` is a copy of the directory from which only the library removes anything.
    """

    def __init__(self, stage: Scene, specs: list[Spec], shadow: Path) -> None:
        self._stage = stage
        self._shadow = shadow
        self._dead: list[str] = []
        self._processes = [stage.worker() for _ in range(3)]
        self._keeper = stage.keeper()
        with self._processes[0].at_work():
            self._metrics = [spec.make(place) for place, spec in enumerate(specs)]

    def act(self, event: Event) -> None:
        if event.what == "count":
            metric = self._metrics[event.metric]
            with self._processes[event.process].at_work():
                child = metric.labels(*event.labels) if metric._labelnames else metric
                count_: Callable[[float], None] = (
                    getattr(child, "observe", None) or getattr(child, "set", None) or child.inc
                )
                count_(event.value)
        elif event.what == "die":
            dead, self._processes[event.process] = self._processes[event.process], self._stage.worker()
            self._copy(dead.identity)
            self._dead.append(dead.identity)
            dead.die()
        else:
            self._keeper.fold()

    def fold(self) -> None:
        self._keeper.fold()

    def library(self) -> list[Metric]:
        """Return the library's families of all files that ever existed."""
        for process in self._processes:
            self._copy(process.identity)
        for identity in self._dead:
            mark_process_dead(identity, str(self._shadow))  # type: ignore[no-untyped-call]
        return list(MultiProcessCollector(None, str(self._shadow)).collect())  # type: ignore[no-untyped-call]

    def assert_same(self, reader: Reader) -> None:
        """Assert that `reader` exposes the same as the library does for all files that ever existed."""
        theirs = self.library()
        assert_same(parse_text(text(reader)), theirs)
        assert_same(parse_openmetrics(text(reader, openmetrics=True)), theirs)  # type: ignore[no-untyped-call]

    def assert_kept(self) -> None:
        """Assert the same after a fold, for the folding reader and for a new one."""
        self._keeper.fold()
        for reader in (self._keeper.reader, self._stage.reader()):
            self.assert_same(reader)

    def _copy(self, identity: str) -> None:
        for file in self._stage.directory.glob(f"*_{identity}.db"):
            shutil.copy(file, self._shadow)


@contextmanager
def play(specs: list[Spec]) -> Iterator[tuple[Scene, Play]]:
    with scene() as stage, TemporaryDirectory(dir=FAST) as shadow, pytest.MonkeyPatch.context() as patch:
        # No two gauges are set at the same time: which of them is the most recent would be anybody's choice.
        ticks = count(1)
        patch.setattr(metrics, "time", SimpleNamespace(time=lambda: float(next(ticks))))
        yield stage, Play(stage, specs, Path(shadow))


def rows(families: Iterable[Metric]) -> list[tuple[tuple[object, ...], float]]:
    """Return comparable samples with their descriptions: the library has a process's whole identity in `pid`."""
    return sorted(
        (
            (
                *(family.name, family.type, family.documentation, sample.name),
                *sorted(
                    (name, text.partition("-")[0] if name == "pid" else text) for name, text in sample.labels.items()
                ),
            ),
            sample.value,
        )
        for family in families
        for sample in family.samples
    )


def assert_same(ours: Iterable[Metric], theirs: Iterable[Metric]) -> None:
    """Compare up to the library's rounding: it adds in the order of the files, we add exactly."""
    mine, other = rows(ours), rows(theirs)
    assert [row for row, _ in mine] == [row for row, _ in other]
    for (row, one), (_, two) in zip(mine, other, strict=True):
        assert (math.isnan(one) and math.isnan(two)) or math.isclose(one, two, rel_tol=1e-9), (row, one, two)


@PATIENT
@given(histories())
def test_on_the_same_live_files_both_give_the_same_samples(history: tuple[list[Spec], list[Event]]) -> None:
    specs, events = history
    with play(specs) as (stage, actors):
        reader = stage.reader()
        for event in events:
            if event.what == "count":
                actors.act(event)
            else:
                reader.refresh()
        reader.refresh()
        actors.assert_same(reader)
        actors.assert_same(stage.reader())


@PATIENT
@given(histories())
def test_while_nobody_folds_the_dead_are_what_the_library_makes_of_them(
    history: tuple[list[Spec], list[Event]],
) -> None:
    specs, events = history
    with play(specs) as (stage, actors):
        reader = stage.reader()
        for event in events:
            if event.what == "fold":
                reader.refresh()
            else:
                actors.act(event)
        reader.refresh()
        actors.assert_same(reader)
        actors.assert_same(stage.reader())


@PATIENT
@given(histories())
def test_after_any_deaths_and_folds_the_samples_are_those_of_all_files_that_ever_were(
    history: tuple[list[Spec], list[Event]],
) -> None:
    specs, events = history
    with play(specs) as (_, actors):
        for event in events:
            actors.act(event)
        actors.assert_kept()


def test_real_processes_that_were_forked_and_have_ended_are_read_as_the_library_reads_them(
    tmp_path: Path,
) -> None:
    specs = [Spec(kind, ("place",), "Help.") for kind in KINDS if not kind.endswith("mostrecent")]
    with scene() as stage:
        made = [spec.make(place) for place, spec in enumerate(specs)]

        def work(amount: int) -> None:
            for metric in made:
                child = metric.labels("Ubud")
                child.observe(amount) if hasattr(child, "observe") else child.inc(amount)

        statuses = [ended(child) for child in [forked(lambda amount=amount: work(amount)) for amount in (2, 3, 5)]]  # type: ignore[misc]
        assert statuses == [0, 0, 0]
        reader = stage.reader()
        for file in stage.directory.glob("*.db"):
            if not file.name.startswith("gauge_live"):
                shutil.copy(file, tmp_path)
        theirs = list(MultiProcessCollector(None, str(tmp_path)).collect())  # type: ignore[no-untyped-call]
        assert_same(parse_text(text(reader)), theirs)
        assert len(theirs) == 3 + 4
