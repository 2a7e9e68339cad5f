"""The process that folds is killed before and after every call that changes a file: totals are exact all the same."""

import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from itertools import count, product
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Counter, Gauge, Histogram

from app.monitoring.multiprocess.aggregate import Aggregate
from app.monitoring.multiprocess.archive import Files
from app.monitoring.multiprocess.directory import ARCHIVE, ARCHIVE_NEW, FOLDING_LOCK, SET_ASIDE
from tests.monitoring.multiprocess import simulated
from tests.monitoring.multiprocess.simulated import (
    Killed,
    Samples,
    Scene,
    Series,
    Worker,
    ended,
    exemplars,
    fatal,
    forked,
    samples,
    series,
    text,
    watched,
)

# More points than a fold has: a loop over them that gets there does not end by itself.
TOO_MANY = 200
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link"}
View = tuple[Samples, dict[Series, tuple[dict[str, str], float]]]


class Stage:
    """A directory with one live process, two that have just died and one that was folded before.

    Each has a counter, and unless it is `small` a histogram, exemplars, and gauges of `modes`.
    """

    def __init__(self, scene: Scene, *modes: str, small: bool = False) -> None:
        self.scene = scene
        self._small = small
        workers = [scene.worker() for _ in range(4)]
        with workers[0].at_work():
            self._hits = Counter("hits", "Hits.", registry=None)
            self._took = Histogram("took", "Took.", ("place",), registry=None, buckets=(0.5, 1))
            self._gauges = [Gauge(mode, mode, registry=None, multiprocess_mode=mode) for mode in modes]  # type: ignore[arg-type]
        for amount, worker in enumerate(workers, 1):
            self._count(worker, amount)
            if amount == 1:
                worker.die()
                keeper = scene.keeper()
                assert keeper.fold() == 1
                keeper.die()
        self.live = workers[3]
        workers[1].die()
        workers[2].die()
        self.expected = self.view()
        assert self.expected[0][series("hits_total")] == 1 + 2 + 3 + 4
        assert small or self.expected[0][series("took_bucket", place="Ubud", le="1.0")] == 4

    def _count(self, worker: Worker, amount: int) -> None:
        with worker.at_work():
            if self._small:
                self._hits.inc(amount)
                return
            self._hits.inc(amount, {"trace_id": str(amount)})
            self._took.labels("Ubud").observe(amount / 4, {"trace_id": str(amount)})
            for gauge in self._gauges:
                gauge.set(amount)

    def view(self) -> View:
        """Return everything that a new reader sees: samples and exemplars."""
        reader = self.scene.reader()
        newest = exemplars(text(reader, openmetrics=True))
        return samples(text(reader)), {where: (dict(one.labels), one.value) for where, one in newest.items()}

    def fold(self, files: type[Files] = Files) -> bool:
        """Return True if a new holder of the folding lock completes a fold."""
        keeper = self.scene.keeper(files=files)
        try:
            keeper.fold()
        except Killed:
            return False
        finally:
            keeper.die()
        return True

    def assert_clean(self) -> None:
        """Assert that only the archive is left of the dead processes."""
        own = {name for name in self.scene.names() if self.live.identity in name}
        assert self.scene.names() == own | {ARCHIVE, FOLDING_LOCK}
        assert len(own) == (2 if self._small else 4 + len(self._gauges))


ALL_MODES = ("all", "sum", "max", "mostrecent", "livesum")


def on_stages(work: Callable[[Stage, int], bool], *modes: str) -> int:
    """Do `work` with points 0, 1, 2, ... on a stage of its own each, until it gets through; returns how many died."""
    for point in range(TOO_MANY):
        with simulated.scene() as scene:
            if work(Stage(scene, *modes), point):
                return point
    raise AssertionError("it never got through")


def test_a_death_at_any_call_of_a_fold_loses_nothing_and_doubles_nothing() -> None:
    def work(stage: Stage, point: int) -> bool:
        through = stage.fold(fatal(point))
        assert stage.view() == stage.expected, f"after the death at point {point}"
        assert stage.fold()
        assert stage.view() == stage.expected, f"after the recovery from point {point}"
        stage.assert_clean()
        return through

    # A write, a rename, and the removal of nine files of each of two processes.
    assert on_stages(work, *ALL_MODES) == 3 + 2 + 2 * 18


def test_a_second_death_at_any_call_of_the_recovery_changes_nothing_either() -> None:
    survived, points = 0, 3 + 2 + 2 * 4
    for first, second in product(range(points), repeat=2):
        with simulated.scene() as scene:
            stage = Stage(scene, small=True)
            stage.fold(fatal(first))
            survived += stage.fold(fatal(second))
            assert stage.view() == stage.expected, (first, second)
            assert stage.fold()
            assert stage.view() == stage.expected, (first, second)
            stage.assert_clean()
    # The later the first death, the less is left to do: some get through before their turn to die.
    assert 0 < survived < points**2


def test_a_process_that_dies_between_two_crashes_is_counted_once() -> None:
    def work(stage: Stage, point: int) -> bool:
        stage.fold(fatal(point))
        stage.live.die()
        without_live = stage.view()
        stage.fold(fatal(point // 2))
        assert stage.fold()
        assert stage.view() == without_live
        assert stage.scene.names() == {ARCHIVE, FOLDING_LOCK}
        return point == 25

    on_stages(work, "sum")


def test_whoever_reads_at_any_point_of_a_fold_sees_the_same(scene: Scene) -> None:
    stage = Stage(scene, *ALL_MODES)
    steady, reads = scene.reader(), count()

    def read() -> None:
        next(reads)
        assert stage.view() == stage.expected
        steady.refresh()
        assert samples(text(steady)) == stage.expected[0]

    assert stage.fold(watched(read))
    assert next(reads) == 3 + 2 + 2 * 18
    stage.assert_clean()


def test_writes_that_the_kernel_cuts_short_are_gone_on_with(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: write(descriptor, content[:7]))
    stage = Stage(scene, *ALL_MODES)
    assert stage.fold()
    assert stage.view() == stage.expected
    stage.assert_clean()


# From here on the folding process is a real one, and what is cut are its system calls.


class Knife:
    """Kills this process before its `at`-th system call that changes a file."""

    def __init__(self, at: int) -> None:
        self._left = at

    def install(self) -> None:
        sys.addaudithook(self._audit)  # opening, renaming, removing, by whatever function
        for name in ("write", "fsync"):
            setattr(os, name, self._before(getattr(os, name)))

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        to_write = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
        if event in CHANGES or (event == "open" and arguments[2] & to_write):
            self._cut()

    def _before(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def cutting(*arguments: Any) -> Any:
            self._cut()
            return call(*arguments)

        return cutting

    def _cut(self) -> None:
        if not self._left:
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1


def gets_through(work: Callable[[], object], prepare: Callable[[], object]) -> bool:
    """Return True if a process that runs `prepare` and `work` exits normally."""

    def child() -> None:
        prepare()
        work()

    status = ended(forked(child))
    assert status in {0, -signal.SIGKILL, -signal.SIGXFSZ}
    return status == 0


def small_files(limit: int) -> Callable[[], None]:
    """Return a function that limits file sizes: the kernel ends a process that writes a file beyond `limit` bytes."""

    def prepare() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return prepare


def scrape(directory: Path) -> None:
    """Read, set aside and fold, as the exporter does for a scrape."""
    Aggregate(directory, folds=True).refresh()


def test_sigkill_before_any_system_call_of_a_fold_loses_nothing_and_doubles_nothing() -> None:
    def work(stage: Stage, point: int) -> bool:
        through = gets_through(lambda: scrape(stage.scene.directory), Knife(point).install)
        assert stage.view() == stage.expected, f"after the death before call {point}"
        assert gets_through(lambda: scrape(stage.scene.directory), Knife(TOO_MANY).install)
        assert stage.view() == stage.expected, f"after the recovery from call {point}"
        stage.assert_clean()
        return through

    # The lock is opened; the archive opened, written, synced, renamed; then the files are removed.
    assert on_stages(work, *ALL_MODES) == 1 + 4 + 18


def test_sigkill_before_any_system_call_of_the_recovery_as_well() -> None:
    for first, second in product(range(1, 9, 2), range(1 + 4 + 4)):
        with simulated.scene() as scene:
            stage = Stage(scene, small=True)
            for point in (first, second):
                gets_through(lambda: scrape(stage.scene.directory), Knife(point).install)  # noqa: B023 -- used at once
            assert stage.view() == stage.expected, (first, second)
            assert stage.fold()
            assert stage.view() == stage.expected, (first, second)
            stage.assert_clean()


def test_death_in_the_middle_of_writing_the_archive_leaves_the_old_one() -> None:
    limits = iter((0, 1, 8, 20, 100, 500, 1000, 1 << 20))

    def work(stage: Stage, _: int) -> bool:
        limit = next(limits)
        through = gets_through(lambda: scrape(stage.scene.directory), small_files(limit))
        left = stage.scene.directory / ARCHIVE_NEW
        assert through or left.stat().st_size == limit
        assert stage.view() == stage.expected
        assert stage.fold()
        assert stage.view() == stage.expected
        stage.assert_clean()
        return through

    assert on_stages(work, *ALL_MODES) > 4


@pytest.mark.parametrize("size", [4096, 3 << 20])
def test_sigkill_while_a_bad_file_is_set_aside_costs_its_own_numbers_only(size: int) -> None:
    def work(stage: Stage, point: int) -> bool:
        directory = stage.scene.directory
        bad = directory / "counter_1-00000000.db"
        bad.write_bytes(b"\x7f" * size)
        through = gets_through(lambda: scrape(directory), Knife(point).install)
        recovered = stage.scene.aggregate()
        recovered.refresh()
        assert stage.view() == stage.expected, point
        assert not bad.exists()
        assert [file.name.rpartition(".")[0] for file in (directory / SET_ASIDE).iterdir()] == [bad.name]
        assert [file.stat().st_size for file in (directory / SET_ASIDE).iterdir()] == [min(size, 1 << 20)]
        shutil.rmtree(directory / SET_ASIDE)
        stage.assert_clean()
        return through

    assert on_stages(work) > 10


def test_death_in_the_middle_of_copying_a_large_bad_file_ends_with_one_copy(scene: Scene) -> None:
    stage = Stage(scene)
    bad = scene.directory / "counter_1-00000000.db"
    bad.write_bytes(b"\x7f" * (3 << 20))
    assert not gets_through(lambda: scrape(scene.directory), small_files(4096))
    assert bad.exists()
    scene.aggregate().refresh()
    assert [file.stat().st_size for file in (scene.directory / SET_ASIDE).iterdir()] == [1 << 20]
    assert not bad.exists()
    assert stage.view() == stage.expected
