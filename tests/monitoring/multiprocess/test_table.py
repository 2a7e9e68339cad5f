"""Sums of series over processes: which of them share a slot, and how many there may be."""

import math
from collections.abc import Callable

import pytest
from prometheus_client import Counter, Gauge, Histogram, Summary
from prometheus_client.metrics import MetricWrapperBase

from app.monitoring.multiprocess import values
from app.monitoring.multiprocess.archive import Archive, replace
from app.monitoring.multiprocess.entries import INVALID_KEY, NAME_IN_USE, LeftOut
from app.monitoring.multiprocess.labels import OVERFLOW
from app.monitoring.multiprocess.series import Family
from app.monitoring.multiprocess.table import FIRST, HIDDEN, Table
from tests.monitoring.multiprocess.simulated import Keeper, Scene, series, shown, text

MAKERS: dict[str, Callable[[tuple[str, ...]], MetricWrapperBase]] = {
    "counter": lambda labels: Counter("rides", "Rides.", labels, registry=None),
    "histogram": lambda labels: Histogram("rides", "Rides.", labels, registry=None, buckets=(1, 2)),
    "summary": lambda labels: Summary("rides", "Rides.", labels, registry=None),
}
COUNT = {"counter": "rides_total", "histogram": "rides_count", "summary": "rides_count"}


def count(metric: MetricWrapperBase, *labels: object, times: int = 1) -> None:
    child = metric.labels(*labels)
    for _ in range(times):
        if isinstance(child, Counter):
            child.inc()
        else:
            child.observe(1)  # type: ignore[attr-defined]


def refused(keeper: Keeper, kind: str) -> int:
    return keeper.reader.tables[kind].refused.get("rides", 0)


@pytest.mark.parametrize("kind", MAKERS)
def test_label_sets_past_the_limit_over_all_processes_share_one_series_and_are_counted(scene: Scene, kind: str) -> None:
    keeper = scene.keeper(max_series=3)
    for number in range(5):
        worker = scene.worker()
        with worker.at_work():
            count(MAKERS[kind](("place", "kind")), number, "x", times=number + 1)
        keeper.fold()
    expected = {
        **{series(COUNT[kind], place=str(number), kind="x"): number + 1 for number in range(3)},
        series(COUNT[kind], place=OVERFLOW, kind=OVERFLOW): 4 + 5,
    }
    found = keeper.scrape()
    assert {key: value for key, value in found.items() if key[0] == COUNT[kind]} == expected
    assert refused(keeper, kind) == 2
    assert keeper.reader.series() == {"rides": 4}


@pytest.mark.parametrize("kind", MAKERS)
def test_what_overflowed_stays_in_its_series_after_the_deaths_and_for_a_new_reader(scene: Scene, kind: str) -> None:
    keeper = scene.keeper(max_series=2)
    workers = [scene.worker() for _ in range(4)]
    for number, worker in enumerate(workers):
        with worker.at_work():
            count(MAKERS[kind](("place",)), number, times=number + 1)
        keeper.fold()
    before = keeper.scrape()
    assert before[series(COUNT[kind], place=OVERFLOW)] == 3 + 4
    for worker in reversed(workers):
        worker.die()
        assert keeper.scrape() == before
        assert shown(scene.reader(max_series=2)) == before
    assert not list(scene.directory.glob("*.db"))


def test_an_app_that_has_overflow_series_of_its_own_shares_them(scene: Scene) -> None:
    rides = Counter("rides", "Rides.", ("place",), registry=None)
    for place in ("a", OVERFLOW, "b", "c"):
        rides.labels(place).inc(2)
    keeper = scene.keeper(max_series=2)
    assert keeper.scrape() == {
        series("rides_total", place="a"): 2,
        series("rides_total", place="b"): 2,
        series("rides_total", place=OVERFLOW): 4,
    }


def test_a_metric_with_a_label_that_has_a_value_a_user_is_not_shown_and_not_kept(scene: Scene) -> None:
    keeper, worker = scene.keeper(), scene.worker()
    with worker.at_work():
        Counter("visits", "Visits.", ("user_id",), registry=None).labels("7").inc()
        Counter("rides", "Rides.", registry=None).inc()
    assert keeper.scrape() == {series("rides_total"): 1}
    worker.die()
    assert keeper.scrape() == scene.samples() == {series("rides_total"): 1}
    assert [key for kind, key in keeper.reader.archive.keys if b"visits" in key] == []


def test_series_that_differ_in_help_or_in_how_a_boundary_is_written_are_one(scene: Scene) -> None:
    keeper = scene.keeper()
    for text_, buckets in (("Old.", (1, 2)), ("New.", ("1.00", 2.0))):
        worker = scene.worker()
        with worker.at_work():
            Histogram("rides", text_, registry=None, buckets=buckets).observe(0.5)
        assert keeper.scrape() == scene.samples()
        worker.die()
        assert keeper.scrape() == scene.samples()
    assert keeper.scrape() == {
        series("rides_bucket", le="1.0"): 2,
        series("rides_bucket", le="2.0"): 2,
        series("rides_bucket", le="+Inf"): 2,
        series("rides_count"): 2,
        series("rides_sum"): 1,
    }
    assert text(keeper.reader).startswith("# HELP rides Old.\n# TYPE rides histogram\n")


def test_buckets_that_one_process_has_more_are_put_in_order(scene: Scene) -> None:
    for buckets in ((1, 10), (0.5, 2, 10)):
        with scene.worker().at_work():
            Histogram("rides", "Rides.", registry=None, buckets=buckets).observe(1.5)
    lines = [line.rpartition(" ") for line in text(scene.reader()).splitlines() if "_bucket" in line]
    assert [(start.partition('"')[2], value) for start, _, value in lines] == [
        ('0.5"}', "0.0"),
        ('1.0"}', "0.0"),
        ('2.0"}', "1.0"),
        ('10.0"}', "2.0"),
        ('+Inf"}', "2.0"),
    ]


def test_when_every_file_has_gone_totals_are_0_and_what_comes_is_counted(scene: Scene) -> None:
    rides = Counter("rides", "Rides.", ("place",), registry=None)
    rides.labels("Ubud").inc(3)
    reader = scene.reader()
    for file in scene.directory.glob("*.db"):
        file.unlink()
    reader.refresh()
    assert shown(reader) == {series("rides_total", place="Ubud"): 0}
    with scene.worker().at_work():
        rides.labels("Kuta").inc(4)
        rides.labels("Ubud").inc(5)
    reader.refresh()
    assert shown(reader) == {series("rides_total", place="Ubud"): 5, series("rides_total", place="Kuta"): 4}


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (b'["rides", "rides_bucket", {}, ""]', INVALID_KEY),
        (b'["rides", "rides_bucket", {"le": "wide"}, ""]', INVALID_KEY),
        (b'["rides", "rides_bucket", {"le": "NaN"}, ""]', INVALID_KEY),
        (b'["rides", "rides_count", {}, ""]', INVALID_KEY),
        (b'["other", "other_sum", {}, ""]', NAME_IN_USE),
    ],
)
def test_a_key_that_no_histogram_has_is_left_out_and_what_follows_is_not(key: bytes, reason: str) -> None:
    families: dict[str, Family] = {}
    left_out = LeftOut()
    Table("counter", families, 10, left_out).slots([b'["other", "other_total", {}, ""]'])
    table = Table("histogram", families, 10, left_out)
    assert table.slots([key, b'["rides", "rides_sum", {}, ""]']) == [HIDDEN, FIRST]
    assert left_out.counts == {reason: 1}
    assert set(families) == {"other", "rides"}


@pytest.mark.parametrize(
    ("amounts", "expected"),
    [
        ((1.7e308, 1.7e308), "+Inf"),
        ((math.inf, 1.0), "+Inf"),
        ((-math.inf, 1.0), "-Inf"),
        ((-2e6, 1e6), "-1000000.0"),
    ],
)
def test_sums_that_no_float_holds_are_infinite_before_the_deaths_and_after(
    scene: Scene, amounts: tuple[float, ...], expected: str
) -> None:
    keeper, workers = scene.keeper(), [scene.worker() for _ in amounts]
    for worker, amount in zip(workers, amounts, strict=True):
        with worker.at_work():
            rides = Summary("rides", "Rides.", registry=None)
            rides.observe(0)
            file, cell = values.locate(rides._sum)
            file.cells[cell] = amount  # as the library writes it: we refuse what is infinite
    lines = f"rides_count 2.0\nrides_sum {expected}\n"
    for dead in range(len(workers) + 1):
        for worker in workers[:dead]:
            worker.die()
        keeper.fold()
        assert text(keeper.reader).endswith(lines)
        assert text(scene.reader()).endswith(lines)


@pytest.mark.parametrize("kind", ["counter", "gauge_max"])
def test_an_archived_metric_whose_name_is_another_kinds_now_costs_nothing(scene: Scene, kind: str) -> None:
    with scene.worker().at_work():
        Counter("rides", "Rides.", registry=None).inc(3)
        Gauge("depth", "Depth.", registry=None, multiprocess_mode="max").set(4)
    reader = scene.reader()
    archive = Archive()
    name = "depth" if kind == "counter" else "rides"
    sample = "depth_total" if kind == "counter" else "rides"
    archive.add(kind, [f'["{name}", "{sample}", {{}}, ""]'.encode()], [(5.0, 1.0)])
    replace(scene.directory, archive)
    reader.refresh()
    assert shown(reader) == {series("rides_total"): 3, series("depth"): 4}
