"""The last write wins although the system clock is set back: exemplars and most recent gauges, live and archived."""

import math
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import Counter, Gauge, metrics
from prometheus_client.samples import Exemplar

from app.monitoring.multiprocess import clock as module
from app.monitoring.multiprocess.archive import Archive, replace
from app.monitoring.multiprocess.clock import TOLERANCE_SECONDS, WriteClock
from app.monitoring.multiprocess.reader import Reader
from tests.monitoring.multiprocess import simulated
from tests.monitoring.multiprocess.simulated import Scene, Worker, exemplars, series, shown, text
from tests.monitoring.multiprocess.test_faults import key

PATIENT = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
HOUR = 3600.0
START = 1_700_000_000.0
HITS = series("hits_total")


@dataclass
class Clocks:
    """The clocks of writers and readers."""

    wall: float = START
    monotonic: float = 100.0

    def pass_time(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds

    def install(self, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(metrics, "time", SimpleNamespace(time=lambda: self.wall))
        patch.setattr(module, "time", SimpleNamespace(time=lambda: self.wall, monotonic=lambda: self.monotonic))


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    """Return the clocks, which stand still until a test moves them."""
    made = Clocks()
    made.install(monkeypatch)
    return made


def write(worker: Worker, number: int) -> None:
    """Write a most recent gauge and an exemplar."""
    with worker.at_work():
        Gauge("depth", "Depth.", registry=None, multiprocess_mode="mostrecent").set(number)
        Counter("hits", "Hits.", registry=None).inc(1, {"trace_id": str(number)})


def newest(reader: Reader) -> tuple[float, int]:
    """Return the number of the write that gauge and exemplar are of."""
    found = exemplars(text(reader, openmetrics=True))[HITS]
    return shown(reader)[series("depth")], int(found.labels["trace_id"])


def test_within_a_process_the_last_write_wins_whenever_it_is_read(scene: Scene, clocks: Clocks) -> None:
    worker, keeper = scene.worker(), scene.keeper()
    write(worker, 1)
    keeper.fold()
    assert newest(keeper.reader) == (1, 1)
    for number, step in enumerate((HOUR, 0.3, 10.0), start=2):
        clocks.wall -= step
        write(worker, number)
        keeper.fold()
        assert newest(keeper.reader) == newest(scene.reader()) == (number, number)
    worker.die()
    keeper.fold()
    assert newest(keeper.reader) == newest(scene.reader()) == (4, 4)


def test_a_small_step_makes_no_write_older_than_the_one_before_it_of_the_same_process(
    scene: Scene, clocks: Clocks
) -> None:
    first, second, keeper = scene.worker(), scene.worker(), scene.keeper()
    write(second, 1)
    clocks.pass_time(0.1)
    write(first, 2)
    keeper.fold()
    assert newest(keeper.reader) == (2, 2)
    clocks.wall -= TOLERANCE_SECONDS / 2
    write(first, 3)
    keeper.fold()
    assert newest(keeper.reader) == (3, 3)


@pytest.mark.parametrize("dies", [None, "first", "both"])
def test_what_another_process_writes_after_the_step_wins(scene: Scene, clocks: Clocks, dies: str | None) -> None:
    first, second, keeper = scene.worker(), scene.worker(), scene.keeper()
    write(first, 1)
    keeper.fold()
    assert newest(keeper.reader) == (1, 1)
    clocks.wall -= HOUR
    clocks.pass_time(5)
    if dies == "first":
        first.die()
        keeper.fold()
        assert newest(keeper.reader) == newest(scene.reader()) == (1, 1)
    clocks.pass_time(1)
    write(second, 2)
    clocks.pass_time(1)
    if dies == "both":
        first.die()
        second.die()
    keeper.fold()
    assert newest(keeper.reader) == (2, 2)
    clocks.pass_time(HOUR)
    keeper.fold()
    assert newest(keeper.reader) == (2, 2)
    if dies:
        assert newest(scene.reader()) == (2, 2)


def test_a_time_from_the_future_counts_as_now_where_the_step_was_not_seen(scene: Scene, clocks: Clocks) -> None:
    first, second = scene.worker(), scene.worker()
    write(first, 1)
    clocks.wall -= HOUR
    write(second, 2)
    keeper = scene.keeper()
    keeper.fold()
    # Nobody can tell which of them was last: the future counts as now.
    assert newest(keeper.reader) == (1, 1)
    clocks.pass_time(1)
    write(second, 3)
    keeper.fold()
    assert newest(keeper.reader) == (3, 3)
    (shown_exemplar,) = exemplars(text(keeper.reader, openmetrics=True)).values()
    assert float(shown_exemplar.timestamp or 0) == clocks.wall


def test_an_exemplar_from_the_future_is_shown_with_the_time_of_now(scene: Scene, clocks: Clocks) -> None:
    worker = scene.worker()
    write(worker, 1)
    clocks.wall -= HOUR
    keeper = scene.keeper()
    keeper.fold()
    for _ in range(2):
        (found,) = exemplars(text(keeper.reader, openmetrics=True)).values()
        assert float(found.timestamp or 0) == START - HOUR
        worker.die()
        keeper.fold()
    assert keeper.reader.archive.exemplars[key("hits").replace(b"Help.", b"Hits.")].timestamp == START - HOUR


def test_an_archive_from_the_future_gives_way_to_what_is_written_now(scene: Scene, clocks: Clocks) -> None:
    archive, hits = Archive(), key("hits").replace(b"Help.", b"Hits.")
    archive.add("gauge_mostrecent", [b'["depth", "depth", {}, "Depth."]'], [(1.0, START + HOUR)])
    archive.add("counter", [hits], [(1, 0)])
    archive.add_exemplars([(hits, Exemplar({"trace_id": "1"}, 1.0, START + HOUR))])
    replace(scene.directory, archive)
    keeper, worker = scene.keeper(), scene.worker()
    keeper.fold()
    assert newest(keeper.reader) == (1, 1)
    clocks.pass_time(1)
    write(worker, 2)
    for dead in (False, True):
        if dead:
            worker.die()
        keeper.fold()
        assert newest(keeper.reader) == (2, 2)
    assert newest(scene.reader()) == (2, 2)


def test_a_time_shortly_after_now_is_taken_as_it_is(clocks: Clocks) -> None:
    clock = WriteClock()
    near, far = clocks.wall + TOLERANCE_SECONDS, clocks.wall + TOLERANCE_SECONDS + 0.001
    assert (clock.credible(near), clock.credible(far), clock.credible(math.nan)) == (near, clocks.wall, clocks.wall)
    clocks.pass_time(30)
    assert clock.credible(far) == far  # `look` was some time ago


def test_a_clock_that_is_set_forward_or_slewed_changes_no_order(clocks: Clocks) -> None:
    clock = WriteClock()
    for step in (HOUR, 0.0, -0.5):
        clocks.wall += step
        assert clock.look() == 0
        assert clock.order(clocks.wall) == clocks.wall


STEPS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from([0.0, 0.0, 2.0, 60.0, HOUR]), st.booleans()), min_size=1, max_size=12
)


@PATIENT
@given(STEPS)
def test_a_reader_that_sees_each_write_shows_the_last_whatever_the_clock_does_and_whoever_dies(
    steps: list[tuple[int, float, bool]],
) -> None:
    clocks = Clocks()
    with simulated.scene() as scene, pytest.MonkeyPatch.context() as patch:
        clocks.install(patch)
        keeper, workers = scene.keeper(), [scene.worker() for _ in range(3)]
        for number, (place, back, dies) in enumerate(steps):
            clocks.wall -= back
            clocks.pass_time(1)
            write(workers[place], number)
            keeper.fold()
            assert newest(keeper.reader) == (number, number)
            if dies:
                workers[place].die()
                workers[place] = scene.worker()
                keeper.fold()
                assert newest(keeper.reader) == (number, number)
