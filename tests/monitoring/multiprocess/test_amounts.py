"""An amount that is not finite is ignored and counted; NaN that is in a file or an archive stays out of the sums."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, Summary
from prometheus_client.values import MutexValue

from app.monitoring.metrics.registry import BoundedRegistry, registry
from app.monitoring.multiprocess import values
from app.monitoring.multiprocess.archive import Archive, replace
from app.monitoring.multiprocess.entries import INFINITE, NOT_A_NUMBER
from tests.monitoring.multiprocess import simulated
from tests.monitoring.multiprocess.simulated import Samples, Scene, exemplars, samples, series, text
from tests.monitoring.multiprocess.test_faults import HITS, aside, key, scrape

PATIENT = settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
LEFT_OUT = "baliblissed_exporter_entries_left_out_total"
WRONG: dict[str, tuple[Any, str]] = {
    "nan": (math.nan, NOT_A_NUMBER),
    "inf": (math.inf, INFINITE),
    "integer past any float": (10**400, INFINITE),
}
Make = Callable[[Any], Any]
METRICS: dict[str, tuple[Make, str]] = {
    "counter": (lambda own: Counter("seen", "Seen.", registry=own), "inc"),
    "gauge up": (lambda own: Gauge("seen", "Seen.", registry=own, multiprocess_mode="livesum"), "inc"),
    "gauge down": (lambda own: Gauge("seen", "Seen.", registry=own, multiprocess_mode="livesum"), "dec"),
    "summary": (lambda own: Summary("seen", "Seen.", registry=own), "observe"),
    "histogram": (lambda own: Histogram("seen", "Seen.", registry=own, buckets=(1,)), "observe"),
    "labelled": (lambda own: Histogram("seen", "Seen.", ("place",), registry=own).labels("Ubud"), "observe"),
}


@pytest.fixture
def _single(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count the refusals of this test alone, in single-process mode."""
    monkeypatch.setattr(values, "_process", values.Process())


def exposed(own: CollectorRegistry) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in own.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


@pytest.mark.parametrize(("wrong", "reason"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("name", METRICS)
def test_an_amount_that_is_not_finite_is_ignored_and_counted_in_shared_files(
    scene: Scene, name: str, wrong: float, reason: str
) -> None:
    make, method = METRICS[name]
    add = getattr(make(None), method)
    add(0.5)
    before = scene.samples()
    add(wrong)
    assert scene.samples() == before
    assert values.process().denied() == {("seen", reason): 1}
    add(0.5)
    after = scene.samples()
    assert after.keys() == before.keys()
    assert all(value == 2 * before[one] for one, value in after.items())


@pytest.mark.usefixtures("_single")
@pytest.mark.parametrize(("wrong", "reason"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("kind", [BoundedRegistry, CollectorRegistry])
@pytest.mark.parametrize("name", METRICS)
def test_an_amount_that_is_not_finite_is_ignored_and_counted_in_single_process_mode(
    name: str, kind: type[CollectorRegistry], wrong: float, reason: str
) -> None:
    own = kind()
    make, method = METRICS[name]
    add = getattr(make(own), method)
    add(0.5)
    before = exposed(own)
    add(wrong)
    assert exposed(own) == before
    assert values.process().denied() == {("seen", reason): 1}


@pytest.mark.usefixtures("_single")
def test_the_default_registry_and_the_decorators_are_guarded_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Summary("seen", "Seen.")
    try:
        seen.observe(amount=2.0)
        seen.observe(amount=math.nan)
        ticks = iter([0.0, math.inf])
        monkeypatch.setattr("prometheus_client.context_managers.default_timer", lambda: next(ticks))
        with seen.time():
            pass
        assert REGISTRY.get_sample_value("seen_count") == 1
        assert REGISTRY.get_sample_value("seen_sum") == 2
    finally:
        REGISTRY.unregister(seen)


def test_an_amount_that_is_ignored_leaves_no_exemplar(scene: Scene) -> None:
    hits = Counter("hits", "Hits.", registry=None)
    took = Histogram("took", "Took.", registry=None, buckets=(1,))
    hits.inc(2, {"trace_id": "1"})
    for wrong in (math.nan, math.inf):
        hits.inc(wrong, exemplar={"trace_id": "2"})
        took.observe(wrong, exemplar={"trace_id": "2"})
    found = exemplars(text(scene.reader(), openmetrics=True))
    assert {name: exemplar.labels for name, exemplar in found.items()} == {HITS: {"trace_id": "1"}}


@pytest.mark.parametrize("amount", [-1, -math.inf, -(10**400)])
def test_a_negative_amount_of_a_counter_is_refused_by_the_library_as_before(scene: Scene, amount: float) -> None:
    with pytest.raises(ValueError, match="non-negative"):
        Counter("hits", "Hits.", registry=None).inc(amount)
    assert scene.samples() == {HITS: 0}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_gauge_may_be_set_to_any_number_and_moved_from_there(scene: Scene, value: float) -> None:
    depth = Gauge("depth", "Depth.", registry=None, multiprocess_mode="livesum")
    depth.set(value)
    depth.inc(2)
    assert str(scene.samples()[series("depth")]) == str(value)
    depth.set(4)
    assert scene.samples() == {series("depth"): 4}
    assert values.process().denied() == {}


def test_amounts_whose_sum_no_float_holds_are_ignored(scene: Scene) -> None:
    hits = Counter("hits", "Hits.", registry=None)
    for _ in range(2):
        hits.inc(1.7e308)
    hits.inc()
    assert scene.samples() == {HITS: 1.7e308}
    assert values.process().denied() == {("hits", INFINITE): 1}


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_value_is_guarded_although_its_metric_is_passed_over(scene: Scene, wrong: float) -> None:
    hits = Counter("hits", "Hits.", registry=None)
    hits._value.inc(2)
    hits._value.inc(wrong)
    hits._value.set(wrong)
    assert scene.samples() == {HITS: 2}
    assert sum(values.process().denied().values()) == 2


def test_installing_twice_wraps_once(scene: Scene) -> None:
    before = Counter.inc, Gauge.inc, Gauge.dec, Histogram.observe, Summary.observe
    values.install()
    assert (Counter.inc, Gauge.inc, Gauge.dec, Histogram.observe, Summary.observe) == before
    Counter("hits", "Hits.", registry=None).inc(math.nan)
    assert values.process().denied() == {("hits", NOT_A_NUMBER): 1}
    assert isinstance(Counter("hits", "Hits.", registry=None)._value, values.SharedValue)
    assert not issubclass(values.SharedValue, MutexValue)


def poison(value: Any, number: float = math.nan) -> None:
    """Write what the library alone writes for an amount that is not finite."""
    file, cell = values.locate(value)
    file.cells[cell] = number


def left_out() -> float:
    return registry().get_sample_value(LEFT_OUT, {"reason": NOT_A_NUMBER}) or 0.0


def test_nan_in_a_file_stays_out_of_the_sums_of_all_processes_and_of_the_archive(scene: Scene) -> None:
    workers = [scene.worker() for _ in range(2)]
    made = []
    for worker in workers:
        with worker.at_work():
            hits, size = Counter("hits", "Hits.", registry=None), Summary("size", "Size.", registry=None)
            took = Histogram("took", "Took.", registry=None, buckets=(1,))
            hits.inc(2)
            size.observe(3)
            took.observe(0.5)
            made.append((hits, size, took))
    aggregate, before = scene.aggregate(), left_out()
    with workers[1].at_work():
        for value in (made[1][0]._value, made[1][1]._sum, made[1][2]._sum):
            poison(value)
    expected = {"hits_total": 2, "size_count": 2, "size_sum": 3, "took_count": 2, "took_sum": 0.5}

    def found() -> dict[str, float]:
        return {name: value for (name, _), value in scrape(aggregate).items() if name != "took_bucket"}

    assert found() == found() == expected
    assert left_out() == before + 3
    workers[1].die()
    assert found() == found() == expected
    workers[0].die()
    assert found() == found() == expected
    assert samples(scene.aggregate().exposition("")[0].decode())[HITS] == 2
    assert (left_out(), aside(scene)) == (before + 3, [])


def test_nan_in_an_archive_is_replaced_by_what_is_counted_from_now_on(scene: Scene) -> None:
    archive = Archive()
    archive.add("counter", [key("hits"), key("other")], [(math.nan, 0), (5, 0)])
    archive.second[1] = math.nan
    replace(scene.directory, archive)
    aggregate, before = scene.aggregate(), left_out()
    assert scrape(aggregate) == {HITS: 0, series("other_total"): 0}
    assert left_out() == before + 2
    worker = scene.worker()
    with worker.at_work():
        Counter("hits", "Hits.", registry=None).inc(4)
    worker.die()
    for _ in range(2):
        assert scrape(aggregate) == scrape(scene.aggregate(folds=False)) == {HITS: 4, series("other_total"): 0}
    assert left_out() == before + 2


def test_a_gauge_that_an_ended_process_has_set_to_nan_hides_no_value_of_others(scene: Scene) -> None:
    keeper = scene.keeper()

    def live(value: float) -> simulated.Worker:
        worker = scene.worker()
        with worker.at_work():
            for mode in ("sum", "min", "max"):
                Gauge(mode, "Set.", registry=None, multiprocess_mode=mode).set(value)
        return worker

    first = live(math.nan)
    assert all(math.isnan(keeper.scrape()[series(mode)]) for mode in ("sum", "min", "max"))
    second = live(3)
    assert math.isnan(keeper.scrape()[series("sum")])  # the first may still set it
    first.die()
    third = live(5)
    for dead in (second, third, live(math.nan)):
        found = keeper.scrape()
        assert (found[series("min")], found[series("max")]) == (3, 5)
        dead.die()
    assert keeper.scrape() == {series("sum"): 8, series("min"): 3, series("max"): 5}


AMOUNTS = st.lists(st.one_of(st.sampled_from([math.nan, math.inf]), st.integers(0, 1000)), max_size=8)


@PATIENT
@given(st.lists(AMOUNTS, min_size=1, max_size=3))
def test_sums_are_those_of_the_finite_amounts_whatever_is_observed_and_whoever_dies(amounts: list[list[float]]) -> None:
    with simulated.scene() as scene:
        keeper, workers = scene.keeper(), [scene.worker() for _ in amounts]
        for worker, ours in zip(workers, amounts, strict=True):
            with worker.at_work():
                took = Histogram("took", "Took.", registry=None, buckets=(1,))
                for amount in ours:
                    took.observe(amount)
        finite = [amount for ours in amounts for amount in ours if math.isfinite(amount)]
        for dead in (None, *workers):
            if dead is not None:
                dead.die()
            found = keeper.scrape()
            assert (found[series("took_count")], found[series("took_sum")]) == (len(finite), sum(finite))
