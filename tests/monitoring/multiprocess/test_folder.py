"""The folding lock, and the state after a failed fold."""

import errno
import fcntl
import os
import stat
from pathlib import Path

import pytest
from prometheus_client import Counter

from app.monitoring.metrics.registry import registry
from app.monitoring.multiprocess import archive
from app.monitoring.multiprocess.archive import Files
from app.monitoring.multiprocess.directory import ARCHIVE, FOLDING_LOCK
from app.monitoring.multiprocess.folder import Folder
from app.monitoring.multiprocess.presence import SUFFIX
from app.monitoring.multiprocess.reader import MAX_CREATION_SECONDS
from tests.monitoring.multiprocess.simulated import Scene, Worker, forked, kill, release, series

HITS = series("hits_total")


def counting(scene: Scene, amount: float) -> Worker:
    worker = scene.worker()
    with worker.at_work():
        Counter("hits", "Hits.", registry=None).inc(amount)
    return worker


def test_one_process_is_in_charge_and_when_it_dies_another(scene: Scene) -> None:
    first, second = scene.keeper(), scene.keeper()
    counting(scene, 2).die()
    assert [first.folder.in_charge(), second.folder.in_charge(), first.folder.in_charge()] == [True, False, True]
    assert second.fold() == 0
    assert second.scrape() == {HITS: 2}
    assert first.fold() == 1
    first.die()
    counting(scene, 3).die()
    assert second.fold() == 1
    assert second.scrape() == scene.samples() == {HITS: 5}
    assert (first.folder.folded, second.folder.folded) == (1, 1)


def test_a_real_process_in_charge_that_is_killed_is_followed_by_another(scene: Scene) -> None:
    reading, writing = os.pipe()
    end = os.pipe()

    def hold() -> None:
        held = Folder(scene.directory)
        assert held.in_charge()
        os.write(writing, b".")
        os.read(end[0], 1)
        release(held)

    child = forked(hold)
    os.read(reading, 1)
    keeper = scene.keeper()
    counting(scene, 2).die()
    assert keeper.fold() == 0
    kill(child)
    assert keeper.fold() == 1
    assert scene.samples() == {HITS: 2}
    for descriptor in (reading, writing, *end):
        os.close(descriptor)


def test_whoever_held_a_lock_that_was_removed_takes_the_new_one(scene: Scene) -> None:
    first, second = scene.keeper(), scene.keeper()
    assert first.folder.in_charge()
    (scene.directory / FOLDING_LOCK).unlink()
    assert second.folder.in_charge()
    assert not first.folder.in_charge()
    second.die()
    assert first.folder.in_charge()


def test_a_process_that_counted_nothing_is_folded_away(scene: Scene) -> None:
    worker, keeper = scene.worker(), scene.keeper()
    assert f"{worker.identity}{SUFFIX}" in scene.names()
    assert keeper.fold() == 0
    worker.die()
    assert keeper.fold() == 1
    assert keeper.fold() == 0
    assert scene.names() == {"archive", FOLDING_LOCK}


def test_files_of_processes_that_do_not_announce_themselves_are_never_folded(scene: Scene) -> None:
    counting(scene, 2)
    (theirs,) = scene.directory.glob("counter_*.db")
    theirs.rename(scene.directory / "counter_4711.db")
    keeper = scene.keeper()
    assert keeper.scrape() == {HITS: 2}
    assert (scene.directory / "counter_4711.db").exists()


def test_files_that_cannot_be_removed_are_left_out_until_they_can(scene: Scene) -> None:
    class Stuck(Files):
        works = False

        @staticmethod
        def remove(path: Path) -> None:
            if not Stuck.works and path.suffix == ".db":
                raise OSError(errno.EIO, "Input/output error")
            Files.remove(path)

    counting(scene, 2).die()
    keeper = scene.keeper(files=Stuck)
    for _ in range(3):
        with pytest.raises(OSError, match="Input/output error"):
            keeper.fold()
        keeper.reader.refresh()
        assert scene.samples() == {HITS: 2}
        counting(scene, 0)
    Stuck.works = True
    assert keeper.scrape() == scene.samples() == {HITS: 2}
    counting(scene, 3).die()
    assert keeper.scrape() == scene.samples() == {HITS: 5}
    assert keeper.reader.archive.folded.isdisjoint({name.partition(".")[0] for name in scene.names()})


def test_what_a_process_that_died_while_it_announced_itself_has_left_is_removed_in_time(scene: Scene) -> None:
    keeper = scene.keeper()
    left, new, held, other = (
        scene.directory / name for name in (".1-00000000", ".2-00000000", ".3-00000000", ".profile")
    )
    for path in (left, new, held, other):
        path.touch()
    with held.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for path in (left, held, other):
            long_ago = path.stat().st_mtime - MAX_CREATION_SECONDS - 1
            os.utime(path, (long_ago, long_ago))
        keeper.fold()
        assert [path.exists() for path in (left, new, held, other)] == [False, True, True, True]


def test_a_bad_file_is_left_to_whoever_is_in_charge(scene: Scene) -> None:
    first, second = scene.aggregate(), scene.aggregate()
    first.refresh()
    bad = scene.directory / "counter_1-00000000.db"
    bad.write_bytes(b"\x7f" * 4096)
    second.refresh()
    assert bad.exists()
    first.refresh()
    assert not bad.exists()


def test_a_second_bad_file_of_the_same_name_is_counted_too(scene: Scene) -> None:
    aggregate, worker, name = scene.aggregate(), scene.worker(), "baliblissed_exporter_unreadable_files_total"
    before = registry().get_sample_value(name) or 0
    for number in (1, 2):
        (scene.directory / f"counter_{worker.identity}.db").write_bytes(b"\x7f" * 4096)
        aggregate.refresh()
        assert registry().get_sample_value(name) == before + number


def test_whoever_has_written_the_archive_does_not_read_it_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = scene.keeper()
    keeper.fold()
    counting(scene, 2).die()
    monkeypatch.setattr(archive, "decode", None)
    assert keeper.scrape() == {HITS: 2}


def test_nobody_else_may_read_the_archive(scene: Scene) -> None:
    before = os.umask(0)
    try:
        counting(scene, 2).die()
        scene.keeper().fold()
    finally:
        os.umask(before)
    assert stat.S_IMODE((scene.directory / ARCHIVE).stat().st_mode) == 0o600
