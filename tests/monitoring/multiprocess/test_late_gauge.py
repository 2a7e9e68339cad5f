"""The worst living process counts, and a process that has only declared the gauge is none of them."""

import pytest

from app.monitoring.metrics.catalogue import build_catalogue
from app.monitoring.metrics.late_gauge import LateGauge
from app.monitoring.metrics.registry import BoundedRegistry
from app.monitoring.multiprocess import values
from tests.monitoring.multiprocess.simulated import Scene, series

READY = series("ready")


def declared(*labels: str) -> LateGauge:
    return LateGauge("ready", "Ready.", labels, registry=None, multiprocess_mode="livemin")


def test_a_process_that_has_declared_it_has_no_value(scene: Scene) -> None:
    with scene.worker().at_work():
        master = declared()
    assert (scene.samples(), next(iter(master.collect())).samples) == ({}, [])
    with scene.worker().at_work():
        declared().set(1)
    assert scene.samples() == {READY: 1}


def test_the_worst_living_process_counts_and_a_dead_one_does_not(scene: Scene) -> None:
    good, bad = scene.worker(), scene.worker()
    keeper = scene.keeper()
    with good.at_work():
        declared().set(1)
    with bad.at_work():
        gauge = declared()
        gauge.set(0)
    assert keeper.scrape() == {READY: 0}
    with bad.at_work():
        gauge.set(1)
    assert keeper.scrape() == {READY: 1}
    with bad.at_work():
        gauge.set(0)
    bad.die()
    assert keeper.scrape() == {READY: 1}
    good.die()
    assert keeper.scrape() == {}


def test_a_reader_never_finds_zero_before_the_first_value(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    store = values.SharedValue.set

    def read_before(self: values.SharedValue, value: float, timestamp: float | None = None) -> None:
        found.append(scene.samples())
        store(self, value, timestamp)

    monkeypatch.setattr(values.SharedValue, "set", read_before)
    with scene.worker().at_work():
        declared("place").labels("Ubud").set(1)
        declared("place").labels("Kuta").set(0)
    ubud, kuta = series("ready", place="Ubud"), series("ready", place="Kuta")
    assert found == [{ubud: 1}, {ubud: 1, kuta: 0}]


def test_series_that_are_made_afterwards_begin_at_zero(scene: Scene) -> None:
    with scene.worker().at_work():
        declared("place").labels("Ubud").set(1)
        values.SharedValue("counter", "visits", "visits_total", (), (), "Visits.")
    assert scene.samples()[series("visits_total")] == 0


def test_readiness_is_that_of_the_worst_worker(scene: Scene) -> None:
    for value in (1, 0, 1):
        with scene.worker().at_work():
            metrics = build_catalogue(BoundedRegistry(namespace="shop"))
            metrics.ready.set(value)
            metrics.dependency_up.labels("database").set(value)
    names = (metrics.ready._name, metrics.dependency_up._name)
    found = scene.samples()
    assert (found[series(names[0])], found[series(names[1], dependency="database")]) == (0, 0)
