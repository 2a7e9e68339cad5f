"""Changes between two listings of the directory: no loss, no live process taken for dead, no falling totals."""

import mmap
import os
import struct
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from prometheus_client import Counter, Gauge

from app.monitoring.multiprocess import folder, presence, reader
from app.monitoring.multiprocess.archive import Archive, replace
from app.monitoring.multiprocess.reader import MAX_ATTEMPTS, DirectoryGoneError, Listing, Reader, RestlessError
from tests.monitoring.multiprocess import simulated
from tests.monitoring.multiprocess.simulated import (
    Scene,
    Worker,
    ended,
    exemplars,
    forked,
    kill,
    release,
    series,
    shown,
    text,
)

HITS, RIDES = series("hits_total"), series("rides_total")


def counted(worker: Worker, name: str, amount: float) -> Counter:
    """Return a counter of one process with the value `amount`."""
    with worker.at_work():
        counter = Counter(name, name, registry=None)
        counter.inc(amount)
    return counter


@pytest.fixture
def before_look(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Return `before_look(work)`, which runs `work` once, just before the next liveness check of a process."""

    def arrange(work: Callable[[], None]) -> None:
        look, pending = presence.is_alive, [work]

        def looked(path: str | Path) -> bool:
            while pending:
                pending.pop()()
            return look(path)

        monkeypatch.setattr(presence, "is_alive", looked)

    return arrange


def test_a_file_that_is_made_between_the_listing_and_the_death_of_its_process_is_not_lost(
    scene: Scene, before_look: Callable[[Callable[[], None]], None]
) -> None:
    worker, keeper = scene.worker(), scene.keeper()
    counted(worker, "hits", 2)

    def make_a_file_and_die() -> None:
        with worker.at_work():
            Gauge("depth", "Depth.", registry=None, multiprocess_mode="max").set(7)
            Counter("rides", "Rides.", registry=None).inc(5, {"trace_id": "last"})
        worker.die()

    before_look(make_a_file_and_die)
    assert keeper.fold() == 1
    assert scene.samples() == {HITS: 2, RIDES: 5, series("depth"): 7}
    assert exemplars(text(scene.reader(), openmetrics=True))[RIDES].labels == {"trace_id": "last"}
    assert not any(worker.identity in name for name in scene.names())


def test_what_is_counted_between_the_reading_and_the_death_of_the_process_is_not_lost(
    scene: Scene, before_look: Callable[[Callable[[], None]], None]
) -> None:
    worker, keeper = scene.worker(), scene.keeper()
    hits = counted(worker, "hits", 2)

    def count_and_die() -> None:
        with worker.at_work():
            hits.inc(40)
            Counter("rides", "Rides.", registry=None).inc(5)
        worker.die()

    before_look(count_and_die)
    assert keeper.scrape() == {HITS: 42, RIDES: 5}
    assert scene.samples() == {HITS: 42, RIDES: 5}


def test_a_listing_that_misses_a_presence_does_not_make_a_live_process_dead(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, keeper = scene.worker(), scene.keeper()
    hits = counted(worker, "hits", 2)
    with worker.at_work():
        Gauge("depth", "Depth.", registry=None, multiprocess_mode="livesum").set(7)
    names = os.listdir(scene.directory)  # noqa: PTH208
    seen = [name for name in names if not name.endswith(presence.SUFFIX)]
    assert seen != names
    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", lambda _: seen)
        assert keeper.scrape() == {HITS: 2, series("depth"): 7}
        assert keeper.folder.folded == 0
    with worker.at_work():
        hits.inc()
    assert keeper.scrape() == {HITS: 3, series("depth"): 7}


def test_a_process_announces_itself_before_it_makes_a_file(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = scene.worker()
    opened = Path.open

    def look(path: Path, mode: str = "r") -> object:
        if path.name.endswith(".db"):
            assert presence.is_alive(scene.directory / f"{worker.identity}{presence.SUFFIX}")
        return opened(path, mode)

    monkeypatch.setattr(Path, "open", look)
    counted(worker, "hits", 2)
    assert scene.samples() == {HITS: 2}


def interrupted(monkeypatch: pytest.MonkeyPatch, work: Iterator[None]) -> None:
    """Run the next piece of `work` between a reader's reading of the archive and its listing of the files."""
    listing = reader.listing

    def interrupting(directory: str) -> Listing:
        next(work, None)
        return listing(directory)

    monkeypatch.setattr(reader, "listing", interrupting)


def test_a_reading_starts_again_when_the_dead_are_folded_meanwhile(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    for amount in (2, 3):
        worker = scene.worker()
        counted(worker, "hits", amount)
        worker.die()
    keeper, watcher = scene.keeper(), scene.reader()
    keeper.reader.refresh()
    assert keeper.folder.in_charge()

    def fold() -> Iterator[None]:
        monkeypatch.undo()
        keeper.folder.fold(keeper.reader)
        yield

    with monkeypatch.context() as patch:
        interrupted(patch, fold())
        watcher.refresh()
    assert keeper.folder.folded == 2
    assert shown(watcher) == {HITS: 5}
    assert watcher.archive.generation == 1


def test_a_file_that_vanishes_between_the_listing_and_its_reading_is_no_bad_file(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = scene.worker()
    counted(worker, "hits", 2)
    counted(scene.worker(), "hits", 3)
    watcher = scene.reader()
    listing = reader.listing

    def vanishing(directory: str) -> Listing:
        found = listing(directory)
        for file in scene.directory.glob(f"*{worker.identity}.db"):
            file.unlink()
        return found

    monkeypatch.setattr(reader, "listing", vanishing)
    watcher.refresh()
    assert shown(watcher) == {HITS: 3}


def test_files_that_vanish_between_the_listing_and_the_fold_cost_nothing_else(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, keeper = scene.worker(), scene.keeper()
    with worker.at_work():
        Counter("hits", "Hits.", registry=None).inc(2, {"trace_id": "1"})
        Gauge("depth", "Depth.", registry=None, multiprocess_mode="max").set(7)
    keeper.fold()
    worker.die()
    listing = reader.listing

    def vanishing(directory: str) -> Listing:
        found = listing(directory)
        for pattern in ("gauge_max_*.db", "*.exemplars"):
            for file in scene.directory.glob(pattern):
                file.unlink()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(folder, "listing", vanishing)
        assert keeper.fold() == 1
    assert scene.samples() == {HITS: 2}
    keeper.folder.set_aside(scene.directory / "counter_1-00000000.db")  # which has gone by itself
    assert not reader.is_abandoned(str(scene.directory / "counter_1-00000000.db"))


def test_a_reader_gives_up_when_the_archive_is_replaced_during_each_of_fifty_attempts(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted(scene.worker(), "hits", 2)
    watcher, attempts = scene.reader(), count()

    def restless() -> Iterator[None]:
        while True:
            replace(scene.directory, Archive(generation=next(attempts)))
            yield

    with monkeypatch.context() as patch:
        interrupted(patch, restless())
        with pytest.raises(RestlessError, match=f"was replaced {MAX_ATTEMPTS} times while it was read"):
            watcher.refresh()
    assert next(attempts) == MAX_ATTEMPTS == 50
    watcher.refresh()
    assert shown(watcher) == {HITS: 2}


def test_whoever_takes_charge_builds_on_what_was_folded_since_it_read(scene: Scene) -> None:
    first, second = scene.worker(), scene.worker()
    counted(first, "hits", 2)
    counted(second, "hits", 3)
    old, new = scene.keeper(), scene.keeper()
    assert old.folder.in_charge()
    first.die()
    second.die()
    new.reader.refresh()
    old.fold()
    old.die()
    assert new.folder.in_charge()
    assert new.folder.fold(new.reader) == 0
    assert scene.samples() == {HITS: 5}
    third = scene.worker()
    counted(third, "hits", 4)
    third.die()
    assert new.scrape() == scene.samples() == {HITS: 9}


def test_a_directory_that_is_gone_is_named(tmp_path: Path) -> None:
    watcher = Reader(tmp_path / "away", 10, simulated.complain)
    with pytest.raises(DirectoryGoneError, match="away is gone"):
        watcher.refresh()


def test_a_value_that_is_read_while_it_is_written_is_the_old_or_the_new(scene: Scene) -> None:
    # Of one the bytes are all different from those of the other.
    one, other = struct.unpack("=dd", bytes(range(1, 9)) + bytes(range(0x11, 0x19)))

    def work() -> None:
        gauge = Gauge("depth", "Depth.", registry=None, multiprocess_mode="max")
        while True:
            gauge.set(one)
            gauge.set(other)

    child = forked(work)
    watcher = scene.reader()
    seen: set[float] = set()
    while not {one, other} <= seen:
        for _ in range(2000):
            watcher.refresh()
            seen.update(value for file in watcher.sources.values() for value in file.values[::2])
    kill(child)
    assert seen - {0.0} == {one, other}


def test_totals_never_fall_while_real_processes_are_killed_and_end_exactly_at_what_they_did(scene: Scene) -> None:
    done = memoryview(mmap.mmap(-1, 8 * 12)).cast("q")
    """Number of increments that each child has completed."""

    def work(place: int) -> None:
        hits = Counter("hits", "Hits.", registry=None)
        for completed in count(1):
            hits.inc()
            done[place] = completed

    aggregates = [scene.aggregate(), scene.aggregate(), scene.aggregate(folds=False)]
    last = 0.0
    for place in range(12):
        child = forked(lambda place=place: work(place))  # type: ignore[misc]
        target = last + 50
        while last < target:
            for aggregate in aggregates:
                total = simulated.samples(aggregate.exposition("")[0].decode()).get(HITS, 0.0)
                assert total >= last
                last = total
        kill(child)
        if place == 6:
            # The exporter in charge ends too; the second one takes over.
            folder = aggregates[0].folder
            assert folder is not None
            release(folder)
            aggregates[0] = scene.aggregate()
    completed = sum(done)
    final = [simulated.samples(aggregate.exposition("")[0].decode())[HITS] for aggregate in aggregates]
    assert len(set(final)) == 1
    # A child may have died after an increment and before it noted that.
    assert completed <= final[0] <= completed + 12
    assert not list(scene.directory.glob("*.db"))
    assert ended(forked(lambda: None)) == 0
