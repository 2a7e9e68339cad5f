"""Gauges by their mode: what the living show together, and what the dead leave."""

from collections.abc import Iterator
from contextlib import closing
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import Counter, Gauge, metrics

from app.monitoring.multiprocess.archive import MAX_DEAD_SHOWN
from app.monitoring.multiprocess.directory import claim
from app.monitoring.multiprocess.entries import INVALID_KEY, NAME_IN_USE
from app.monitoring.multiprocess.gauges import MODES
from app.monitoring.multiprocess.labels import OVERFLOW
from app.monitoring.multiprocess.mapped_file import MappedFile
from app.monitoring.multiprocess.presence import pid_of
from tests.monitoring.multiprocess.simulated import Samples, Scene, Worker, samples, series, shown


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Give each setting of a gauge a different time."""
    ticks = count(1)
    monkeypatch.setattr(metrics, "time", SimpleNamespace(time=lambda: float(next(ticks))))
    return ticks


def gauge(mode: str, *labels: str) -> Gauge:
    return Gauge("depth", "Depth.", labels, registry=None, multiprocess_mode=mode)  # type: ignore[arg-type]


def setting(worker: Worker, mode: str, value: float) -> None:
    with worker.at_work():
        gauge(mode).set(value)


def by_pid(**values: float) -> Samples:
    return {series("depth", pid=pid): value for pid, value in values.items()}


# Three processes set 5, 9 and 2, in this order; then the second dies.
LEFT = {
    "all": {"a": 5, "b": 9, "c": 2},
    "min": 2,
    "max": 9,
    "sum": 16,
    "mostrecent": 2,
    "liveall": {"a": 5, "c": 2},
    "livemin": 2,
    "livemax": 5,
    "livesum": 7,
    "livemostrecent": 2,
}


@pytest.mark.parametrize("mode", sorted(MODES))
def test_the_dead_leave_what_their_mode_says_before_they_are_folded_and_after(scene: Scene, mode: str) -> None:
    workers = [scene.worker(prefix) for prefix in "abc"]
    for worker, value in zip(workers, (5, 9, 2), strict=True):
        setting(worker, mode, value)
    left: Any = LEFT[mode]
    names = {prefix: pid_of(worker.identity) for prefix, worker in zip("abc", workers, strict=True)}
    expected = (
        {series("depth", pid=names[prefix]): value for prefix, value in left.items()}
        if isinstance(left, dict)
        else {series("depth"): left}
    )
    workers[1].die()
    keeper, watcher = scene.keeper(), scene.reader()
    assert shown(watcher) == expected
    assert keeper.scrape() == expected
    watcher.refresh()
    assert shown(watcher) == scene.samples() == expected


def test_all_modes_are_those_of_the_library() -> None:
    assert set(LEFT) == MODES == Gauge._MULTIPROC_MODES


def test_the_most_recent_value_of_a_dead_process_gives_way_to_a_newer_one_only(scene: Scene) -> None:
    early, late, keeper = scene.worker(), scene.worker(), scene.keeper()
    setting(early, "mostrecent", 1)
    setting(late, "mostrecent", 2)
    late.die()
    assert keeper.scrape() == scene.samples() == {series("depth"): 2}
    early.die()
    assert keeper.scrape() == scene.samples() == {series("depth"): 2}
    setting(scene.worker(), "mostrecent", 3)
    assert keeper.scrape() == scene.samples() == {series("depth"): 3}


def test_a_most_recent_value_that_was_never_set_is_not_shown(scene: Scene) -> None:
    worker = scene.worker()
    with worker.at_work():
        gauge("mostrecent")
    assert scene.samples() == {}
    worker.die()
    assert scene.keeper().scrape() == scene.samples() == {}


def test_of_two_processes_with_one_id_it_is_the_living_that_is_seen(scene: Scene) -> None:
    keeper = scene.keeper()
    # Which file is read last depends on chance: the identities end in random digits.
    for number in range(12):
        dead, living = scene.worker("a"), scene.worker("a")
        assert pid_of(dead.identity) == pid_of(living.identity)
        setting(living, "all", number)
        setting(dead, "all", -1)
        dead.die()
        expected = {series("depth", pid=pid_of(living.identity)): number}
        assert scene.samples() == expected
        assert keeper.scrape() == scene.samples() == expected
        living.die()
        assert keeper.scrape() == scene.samples() == expected


def test_gauges_of_mode_all_are_shown_of_the_last_dead_only(scene: Scene) -> None:
    keeper, dead = scene.keeper(), []
    for number in range(MAX_DEAD_SHOWN + 5):
        worker = scene.worker()
        dead.append(pid_of(worker.identity))
        setting(worker, "all", number)
        worker.die()
        keeper.fold()
    expected = {series("depth", pid=pid): number for number, pid in enumerate(dead) if number >= 5}
    assert keeper.scrape() == scene.samples() == expected


def test_the_id_of_the_process_takes_the_place_of_a_label_of_that_name(scene: Scene) -> None:
    worker = scene.worker()
    with worker.at_work():
        gauge("all", "pid", "place").labels("mine", "Ubud").set(3)
    assert scene.samples() == {series("depth", pid=pid_of(worker.identity), place="Ubud"): 3}
    worker.die()
    assert scene.keeper().scrape() == scene.samples()
    assert scene.samples() == {series("depth", pid=pid_of(worker.identity), place="Ubud"): 3}


@pytest.mark.parametrize("mode", ["max", "livemax"])
def test_label_sets_past_the_limit_share_one_series_and_are_counted_once(scene: Scene, mode: str) -> None:
    reader = scene.reader(max_series=3)
    depth = gauge(mode, "place")
    for number in range(5):
        depth.labels(number).set(number)
        reader.refresh()
        assert samples("".join(f.text(openmetrics=False).decode() for f in reader.families.values())) == shown(reader)
    assert shown(reader) == {
        **{series("depth", place=str(number)): number for number in range(3)},
        series("depth", place=OVERFLOW): 4,
    }
    depth.labels(0).set(7)
    reader.refresh()
    assert reader.gauges.refused == {"depth": 2}
    assert reader.series() == {"depth": 4}


def test_a_gauge_with_a_label_that_has_a_value_a_user_is_not_shown(scene: Scene) -> None:
    worker = scene.worker()
    with worker.at_work():
        gauge("max", "user_id").labels("7").set(3)
    assert scene.samples() == {}
    worker.die()
    assert scene.keeper().scrape() == scene.samples() == {}


@pytest.mark.parametrize(
    ("key", "reason"), [(b'["depth", "height", {}, ""]', INVALID_KEY), (b'["hits", "hits", {}, ""]', NAME_IN_USE)]
)
def test_a_gauge_that_is_named_as_none_is_left_out_and_the_others_of_its_file_stay(
    scene: Scene, key: bytes, reason: str
) -> None:
    with scene.worker().at_work():
        Counter("hits", "Hits.", registry=None).inc(2)
        gauge("max").set(3)
    with closing(MappedFile(scene.directory / "gauge_max_1-00000000.db")) as file:
        file.position(key)
        file.cells[file.position(b'["depth", "depth", {}, "Depth."]') // 8] = 5.0
    reader = scene.reader()
    assert shown(reader) == {series("hits_total"): 2, series("depth"): 5}
    assert reader.left_out.counts == {reason: 1}
    # Its process is dead: it is folded, the left-out entry is not.
    assert scene.keeper().scrape() == scene.samples() == {series("hits_total"): 2, series("depth"): 5}


def test_a_file_of_a_mode_that_does_not_exist_is_nobodys(scene: Scene) -> None:
    for name in ("gauge_average_1-00000000.db", "gauge_1-00000000.db", "info_1-00000000.db"):
        (scene.directory / name).write_bytes(b"not ours")
    assert scene.samples() == {}


def test_label_sets_of_an_earlier_service_take_no_place_in_the_next_ones_archive(scene: Scene) -> None:
    keeper = scene.keeper(max_series=2)
    for service in range(2):
        with claim(scene.directory):
            for number in range(2):
                worker = scene.worker()
                with worker.at_work():
                    depth = Gauge("depth", "Depth.", ("at",), registry=None, multiprocess_mode="max")
                    depth.labels(f"{service}{number}").set(7)
                keeper.reader.refresh()
                worker.die()
            expected = {series("depth", at=f"{service}{number}"): 7.0 for number in range(2)}
            assert keeper.scrape() == expected


def test_texts_of_gauges_that_are_shown_no_more_are_forgotten(scene: Scene) -> None:
    keeper = scene.keeper()
    for _ in range(MAX_DEAD_SHOWN + 10):
        worker = scene.worker()
        with worker.at_work():
            Gauge("depth", "Depth.", registry=None, multiprocess_mode="all").set(7)
        worker.die()
        keeper.scrape()
    assert len(keeper.reader.gauges._starts) == MAX_DEAD_SHOWN
