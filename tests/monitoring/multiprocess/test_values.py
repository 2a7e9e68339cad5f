"""Values through which the library's metrics write: threads, forks, refusals, and which class is in place."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client import values as library

from app.monitoring.metrics.registry import registry
from app.monitoring.multiprocess import presence, values
from tests.monitoring.multiprocess import simulated
from tests.monitoring.multiprocess.simulated import Scene, ended, exemplars, forked, series, text
from tests.process.service import ROOT, wait_for

HITS = series("hits_total")


def by_process(scene: Scene, pattern: str) -> dict[str, list[Path]]:
    """Return the files by the identity of their process."""
    found: dict[str, list[Path]] = {}
    for file in sorted(scene.directory.glob(pattern)):
        found.setdefault(file.stem.rpartition("_")[2], []).append(file)
    return found


def test_threads_that_count_at_once_lose_nothing(scene: Scene) -> None:
    hits = Counter("hits", "Hits.", ("place",), registry=None)
    took = Histogram("took", "Took.", registry=None, buckets=(1,))
    start = threading.Barrier(4)

    def work(number: int) -> None:
        start.wait()
        for turn in range(2000):
            hits.labels("shared").inc()
            hits.labels(f"{number} {turn % 50}").inc()
            took.observe(0.5)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = scene.samples()
    assert found[series("hits_total", place="shared")] == 8000
    assert found[series("took_count")] == 8000
    assert found[series("took_sum")] == 4000
    assert {value for (name, _), value in found.items() if name == "hits_total"} == {8000, 40}


class Slow(float):
    """An amount that lets other threads run while it is added."""

    def __radd__(self, other: float) -> float:
        os.sched_yield()
        return other + float(self)


def test_an_increment_waits_for_one_that_is_being_made(scene: Scene) -> None:
    hits = Counter("hits", "Hits.", registry=None)
    start = threading.Barrier(4)

    def work() -> None:
        start.wait()
        for _ in range(200):
            hits.inc(Slow(1))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert scene.samples() == {HITS: 800}


def test_two_objects_for_one_series_count_as_one(scene: Scene) -> None:
    one = Counter("hits", "Hits.", ("place",), registry=None)
    kept = one.labels("Ubud")
    kept.inc(5)
    with pytest.warns(UserWarning, match="Clearing labels"):
        one.clear()
    one.labels("Ubud").inc(2)
    kept.inc()
    Counter("hits", "Hits.", ("place",), registry=None).labels("Ubud").inc(10)
    assert scene.samples() == {series("hits_total", place="Ubud"): 18}
    assert one.labels("Ubud")._value.get() == kept._value.get() == 18


def test_a_forked_child_begins_at_0_in_files_of_its_own(scene: Scene) -> None:
    hits = Counter("hits", "Hits.", registry=None)
    depth = Gauge("depth", "Depth.", registry=None, multiprocess_mode="livesum")
    hits.inc(5, {"trace_id": "parent"})
    depth.set(3)
    parent = values.process().identity

    def work() -> None:
        assert hits._value.get() == depth._value.get() == 0
        hits.inc(2, {"trace_id": "child"})
        depth.inc()
        assert values.process().identity != parent

    assert ended(forked(work)) == 0
    hits.inc(1)
    assert values.process().identity == parent
    assert len(by_process(scene, "counter_*.db")) == len(by_process(scene, "gauge_*.db")) == 2
    assert scene.samples() == {HITS: 8, series("depth"): 3}
    assert exemplars(text(scene.reader(), openmetrics=True))[HITS].labels == {"trace_id": "child"}


def test_a_child_that_counts_nothing_leaves_nothing(scene: Scene) -> None:
    hits = Counter("hits", "Hits.", registry=None)
    hits.inc(5)
    before = scene.names()
    assert ended(forked(lambda: None)) == 0
    assert scene.names() == before
    hits.inc(2)
    assert scene.samples() == {HITS: 7}


def test_a_child_of_a_child_has_files_of_its_own_as_well(scene: Scene) -> None:
    hits = Counter("hits", "Hits.", registry=None)
    hits.inc(1)

    def work() -> None:
        hits.inc(10)
        assert ended(forked(lambda: hits.inc(100))) == 0
        hits.inc(10)

    assert ended(forked(work)) == 0
    assert len(by_process(scene, "counter_*.db")) == 3
    assert scene.samples() == {HITS: 121}


def test_a_child_counts_though_another_thread_held_the_lock_when_it_was_forked(scene: Scene) -> None:
    hits = Counter("hits", "Hits.", registry=None)
    hits.inc()
    held, free = threading.Event(), threading.Event()

    def hold() -> None:
        with values.process().lock:
            held.set()
            free.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    child = forked(lambda: hits.inc(2))
    free.set()
    holder.join()
    assert ended(child) == 0
    assert scene.samples() == {HITS: 3}


# Run by itself: a coverage measurement has locks of its own, which a fork beside threads may copy held.
FORK_BESIDE_THREADS = """
import json, os, threading, warnings
from prometheus_client import Counter
from app.monitoring.multiprocess import values

warnings.simplefilter("ignore", DeprecationWarning)  # of newer Pythons, about what is tried here
values.install()
hits = Counter("hits", "Hits.", ("number",), registry=None)
stop, counted = threading.Event(), [0, 0]

def work(place):
    while not stop.is_set():
        hits.labels(counted[place] % 500).inc()  # new series too: files grow meanwhile
        counted[place] += 1

def fork():
    pid = os.fork()
    if pid == 0:
        # Of the metric that the threads are at the library's own lock may have been copied held.
        own = Counter("hits", "Hits.", ("number",), registry=None).labels("child")
        for _ in range(10):
            own.inc()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

threads = [threading.Thread(target=work, args=(place,)) for place in range(2)]
for thread in threads:
    thread.start()
statuses = [fork() for _ in range(10)]
stop.set()
for thread in threads:
    thread.join()
print(json.dumps([statuses, sum(counted)]))
"""


def test_a_child_that_is_forked_while_threads_count_starts_at_0_and_costs_the_parent_nothing(scene: Scene) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run(
        [sys.executable, "-c", FORK_BESIDE_THREADS],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    statuses, counted = json.loads(done.stdout)
    assert statuses == [0] * 10
    found = scene.samples()
    assert found.pop(series("hits_total", number="child")) == 100
    assert sum(found.values()) == counted


def test_the_parents_death_does_not_make_its_child_dead_nor_the_childs_its_parent(scene: Scene) -> None:
    keeper = scene.keeper()
    reading, writing = os.pipe()

    def work() -> None:
        Counter("hits", "Hits.", registry=None).inc(2)
        child = forked(grandchild)
        os.write(writing, child.to_bytes(4, "little"))

    def grandchild() -> None:
        hits = Counter("hits", "Hits.", registry=None)
        hits.inc(3)
        os.write(writing, b"here")
        os.read(ending, 1)
        hits.inc(4)

    ending, end = os.pipe()
    assert ended(forked(work)) == 0
    told = b""
    while len(told) < 8:
        told += os.read(reading, 8)
    assert keeper.fold() == 1
    assert scene.samples() == {HITS: 5}
    os.write(end, b".")
    grandchild_pid = int.from_bytes(told.replace(b"here", b""), "little")
    wait_for(lambda: keeper.fold() == 1, f"the end of {grandchild_pid}")
    assert scene.samples() == {HITS: 9}
    for descriptor in (reading, writing, ending, end):
        os.close(descriptor)


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), PermissionError(13, "Permission denied")])
def test_a_process_that_cannot_announce_itself_counts_on_and_is_counted_once_it_can(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, failure: OSError
) -> None:
    def refuse(*_: object) -> None:
        raise failure

    worker = scene.worker()
    with worker.at_work():
        with monkeypatch.context() as patch:
            patch.setattr(presence, "announce", refuse)
            Counter("hits", "Hits.", registry=None).inc(1, {"trace_id": "1"})
        assert worker.process.refused == 1
        assert list(scene.directory.iterdir()) == []
        Counter("hits", "Hits.", registry=None).inc(2)
    assert scene.samples() == {HITS: 2}


def test_a_directory_that_is_gone_costs_no_request(scene: Scene) -> None:
    scene.directory.rename(scene.directory.with_name(f"{scene.directory.name}-moved"))
    worker = scene.worker()
    try:
        with worker.at_work():
            hits = Counter("hits", "Hits.", registry=None)
            hits.inc(2, {"trace_id": "1"})
            assert hits._value.get() == 2
    finally:
        scene.directory.with_name(f"{scene.directory.name}-moved").rename(scene.directory)
    assert worker.process.refused == 1


@pytest.mark.parametrize(
    "act", [lambda gauge: gauge.set(4.5), lambda gauge: gauge.inc(4.5), lambda gauge: gauge.dec(-4.5)]
)
def test_a_gauge_is_set_and_moved(scene: Scene, act: Callable[[Gauge], None]) -> None:
    gauge = Gauge("depth", "Depth.", registry=None, multiprocess_mode="max")
    act(gauge)
    assert gauge._value.get() == 4.5
    assert scene.samples() == {series("depth"): 4.5}


def test_the_library_writes_through_our_values_only_where_there_is_a_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = library.ValueClass
    monkeypatch.setattr(library, "ValueClass", own)
    monkeypatch.setattr(values, "_process", values.Process())
    for name in (None, ""):
        monkeypatch.delenv(values.DIRECTORY, raising=False)
        if name is not None:
            monkeypatch.setenv(values.DIRECTORY, name)
        values.install("exporter")
        assert library.ValueClass is own
    monkeypatch.setenv(values.DIRECTORY, str(tmp_path))
    values.install("exporter")
    assert library.ValueClass is values.SharedValue
    Counter("hits", "Hits.", registry=None).inc()
    assert len(list(tmp_path.glob(f"counter_exporter{os.getpid()}-*.db"))) == 1
    values.process().close()


def test_the_library_itself_shows_what_this_process_has_counted(scene: Scene) -> None:
    own = CollectorRegistry()
    Counter("hits", "Hits.", registry=own).inc(2, {"trace_id": "1"})
    Histogram("took", "Took.", registry=own).observe(0.5)
    assert own.get_sample_value("hits_total") == 2
    assert own.get_sample_value("took_count") == 1


def test_metrics_that_are_first_used_in_a_directory_go_on_without_it() -> None:
    one, by_place = Counter("one", "One."), Counter("places", "By place.", ("place",))
    try:
        with simulated.scene() as used:
            in_scene = Histogram("used", "Used.", registry=registry())
            place = by_place.labels("here")
            for metric in (one, place):
                metric.inc()
            assert used.samples()[series("places_total", place="here")] == 1
        for metric in (one, place):
            metric.inc()
        in_scene.observe(2)
        assert [value._value.get() for value in (one, place)] == [2, 1]
        assert registry().get_sample_value("used_sum") == 2
    finally:
        REGISTRY.unregister(one)
        REGISTRY.unregister(by_place)
        registry().unregister(in_scene)
