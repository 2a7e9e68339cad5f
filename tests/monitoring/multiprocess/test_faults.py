"""Only a bad file's own values are missing: it is set aside and counted, and every scrape succeeds."""

import errno
import os
import shutil
import struct
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from prometheus_client import Counter, Gauge, Summary
from prometheus_client.mmap_dict import mmap_key
from structlog.testing import capture_logs

from app.monitoring.metrics.catalogue import account
from app.monitoring.metrics.registry import registry
from app.monitoring.multiprocess import source
from app.monitoring.multiprocess.aggregate import Aggregate
from app.monitoring.multiprocess.directory import ARCHIVE, SET_ASIDE, claim
from app.monitoring.multiprocess.folder import MAX_SET_ASIDE, MAX_SET_ASIDE_BYTES
from app.monitoring.multiprocess.mapped_file import MappedFile
from app.monitoring.multiprocess.reader import MAX_CREATION_SECONDS
from tests.monitoring.multiprocess.simulated import OPENMETRICS, Samples, Scene, Worker, ended, forked, samples, series

PATIENT = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
UNREADABLE = "baliblissed_exporter_unreadable_files_total"
HITS = series("hits_total")
BAD = "counter_1-00000000.db"


def scrape(aggregate: Aggregate) -> Samples:
    """Scrape once in both formats."""
    assert aggregate.exposition(OPENMETRICS)[0].endswith(b"# EOF\n")
    return samples(aggregate.exposition("")[0].decode())


def unreadable() -> float:
    return registry().get_sample_value(UNREADABLE) or 0.0


def aside(scene: Scene) -> list[str]:
    """Return the names of the files that were set aside, without their unique suffixes."""
    directory = scene.directory / SET_ASIDE
    return sorted(file.name.rpartition(".")[0] for file in directory.iterdir()) if directory.exists() else []


def counting(scene: Scene, amount: float = 2) -> Worker:
    worker = scene.worker()
    with worker.at_work():
        Counter("hits", "Hits.", registry=None).inc(amount)
    return worker


def filled(*keys: bytes) -> Callable[[Path], None]:
    """Return a function that writes a well-formed file with these keys."""

    def make(path: Path) -> None:
        path.unlink(missing_ok=True)
        file = MappedFile(path)
        for key in keys:
            cell = file.position(key) // 8
            file.cells[cell] = 7.0
        file.close()

    return make


def cut_short(path: Path) -> None:
    filled(*(key(f"other_{number}") for number in range(100)))(path)
    os.truncate(path, 5000)


def shortened(path: Path) -> None:
    filled(key("other"))(path)
    content = path.read_bytes()
    length = struct.unpack_from("=i", content, 8)[0]
    path.write_bytes(content[:8] + struct.pack("=i", length - 24) + content[12:])


def key(name: str, sample: str | None = None, **labels: str) -> bytes:
    return mmap_key(name, sample or f"{name}_total", list(labels), list(labels.values()), "Help.").encode()


def header(used: int, rest: bytes = b"") -> Callable[[Path], None]:
    return lambda path: path.write_bytes(struct.pack("=i4x", used) + rest)  # type: ignore[return-value]


def old_and_empty(path: Path) -> None:
    path.touch()
    long_ago = path.stat().st_mtime - MAX_CREATION_SECONDS - 1
    os.utime(path, (long_ago, long_ago))


SPOILT = {
    "empty for long": old_and_empty,
    "header cut off": lambda path: path.write_bytes(b"\0\0\0"),
    "random bytes": lambda path: path.write_bytes(b"\x7f" * 4096),
    "negative length": header(-8),
    "length that is no multiple of 8": header(12, bytes(8)),
    "length that ends within a key's length": header(10, bytes(8)),
    "length past the end": header(1 << 20, bytes(64)),
    "length of gigabytes": header((1 << 31) - 8, bytes(64)),
    "length within the header": header(4, bytes(64)),
    "cut off": cut_short,
    "entry cut off": header(16, struct.pack("=i4s", 100, b"[[[[")),
    "key of no length": header(40, bytes(32)),
    "key of negative length": header(40, struct.pack("=i28x", -4)),
    "length of a key that ends within it": shortened,
    "directory": lambda path: path.mkdir(),
    "link to itself": lambda path: path.symlink_to(path),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_bad_file_is_set_aside_and_counted_and_costs_nobody_else(
    scene: Scene, spoil: Callable[[Path], object]
) -> None:
    worker = counting(scene)
    with worker.at_work():
        Gauge("depth", "Depth.", registry=None, multiprocess_mode="max").set(3)
    folding, reading = scene.aggregate(), scene.aggregate(folds=False)
    good = {HITS: 2, series("depth"): 3}
    assert scrape(folding) == scrape(reading) == good
    spoil(scene.directory / BAD)
    before = unreadable()
    with capture_logs() as lines:
        assert {name: value for name, value in scrape(reading).items() if value} == good
        assert aside(scene) == []
        for _ in range(2):
            assert {name: value for name, value in scrape(folding).items() if value} == good
    assert unreadable() == before + 1
    assert [(line["event"], line["file"]) for line in lines] == [("metric_file_left_out", BAD)] * 2
    assert aside(scene) == [BAD]
    assert not (scene.directory / BAD).exists()
    assert {name: value for name, value in scrape(reading).items() if value} == good


def test_a_file_that_nobody_may_read_is_set_aside(scene: Scene) -> None:
    if os.geteuid():
        pytest.skip("only root can become somebody who may not read a file")
    scene.directory.chmod(0o777)
    counting(scene)
    filled(key("other"))(scene.directory / BAD)
    (scene.directory / BAD).chmod(0)

    def work() -> None:
        os.seteuid(65534)
        aggregate = Aggregate(scene.directory, folds=True, account=account())
        assert scrape(aggregate) == {HITS: 2}
        assert aside(scene) == [BAD]

    assert ended(forked(work)) == 0


@pytest.mark.parametrize("number", sorted(source.EXHAUSTED))
def test_want_of_descriptors_or_memory_is_no_fault_of_a_file(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    counting(scene)
    aggregate = scene.aggregate()

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(source, "_read", fail)
        with pytest.raises(OSError, match=os.strerror(number)):
            aggregate.exposition("")
    assert aside(scene) == []
    assert scrape(aggregate) == {HITS: 2}


def test_a_file_that_its_process_is_just_making_is_waited_for(scene: Scene) -> None:
    worker = counting(scene)
    aggregate = scene.aggregate()
    for content in (b"", bytes(1 << 14)):
        (scene.directory / f"summary_{worker.identity}.db").write_bytes(content)
        assert scrape(aggregate) == {HITS: 2}
    assert aside(scene) == []


def test_a_file_that_its_process_died_making_is_set_aside_when_it_is_folded(scene: Scene) -> None:
    worker = counting(scene)
    (scene.directory / f"summary_{worker.identity}.db").touch()
    worker.die()
    assert scrape(scene.aggregate()) == scene.samples() == {HITS: 2}
    assert aside(scene) == [f"summary_{worker.identity}.db"]
    assert not list(scene.directory.glob(f"*{worker.identity}*"))


@pytest.mark.parametrize("lives", [True, False])
def test_a_bad_file_of_a_process_costs_none_of_its_other_files(scene: Scene, lives: bool) -> None:  # noqa: FBT001
    worker = counting(scene)
    with worker.at_work():
        Summary("size", "Size.", registry=None).observe(5)
    bad = scene.directory / f"summary_{worker.identity}.db"
    aggregate = scene.aggregate()
    assert scrape(aggregate)[series("size_sum")] == 5
    os.truncate(bad, 100) if not lives else bad.write_bytes(b"\x7f" * (1 << 14))
    if not lives:
        worker.die()
    assert scrape(aggregate)[HITS] == scene.samples()[HITS] == 2
    assert aside(scene) == [bad.name]
    # Later counts of the process are lost with the file, without further effect.
    with worker.at_work():
        Counter("hits", "Hits.", registry=None).inc() if lives else None
    assert scrape(aggregate)[HITS] == (3 if lives else 2)


def overwrite(path: Path, content: bytes) -> None:
    """Write `content` with a newer time, also on a file system whose clock has not ticked since the last write."""
    before = path.stat().st_mtime_ns
    path.write_bytes(content)
    os.utime(path, ns=(before + 1, max(before + 1, path.stat().st_mtime_ns)))


def test_a_corrupt_archive_costs_what_the_dead_had_counted_and_the_service_goes_on(scene: Scene) -> None:
    worker = counting(scene, 2)
    counting(scene, 3).die()
    folding, reading = scene.aggregate(), scene.aggregate(folds=False)
    assert scrape(folding) == scrape(reading) == {HITS: 5}
    archive = scene.directory / ARCHIVE
    overwrite(archive, archive.read_bytes()[:-1] + b"\x55")
    before = unreadable()
    for aggregate in (reading, folding, reading, scene.aggregate(folds=False)):
        # Lost: the 3 of the process that had ended. Nothing else.
        assert scrape(aggregate) == {HITS: 2}
    assert unreadable() == before + 1
    assert aside(scene) == [ARCHIVE]
    worker.die()
    counting(scene, 10)
    assert scrape(folding) == scrape(reading) == {HITS: 12}


@pytest.mark.parametrize(
    "spoil",
    [lambda _: b"", lambda content: content[:10], lambda content: content[:-8], lambda content: b"x" + content[1:]],
    ids=["empty", "header cut off", "cut off", "other beginning"],
)
def test_however_the_archive_is_corrupt_it_is_set_aside(scene: Scene, spoil: Callable[[bytes], bytes]) -> None:
    counting(scene, 3).die()
    aggregate = scene.aggregate()
    assert scrape(aggregate) == {HITS: 3}
    archive = scene.directory / ARCHIVE
    overwrite(archive, spoil(archive.read_bytes()))
    counting(scene, 2)
    assert scrape(aggregate) == scrape(scene.aggregate(folds=False)) == {HITS: 2}
    assert aside(scene) == [ARCHIVE]


def test_an_archive_of_an_earlier_service_counts_for_nobody(scene: Scene) -> None:
    with claim(scene.directory):
        counting(scene, 3).die()
        assert scrape(scene.aggregate()) == {HITS: 3}
        kept = (scene.directory / ARCHIVE).read_bytes()
    with claim(scene.directory):
        # As if that process had died before it could remove the archive.
        (scene.directory / ARCHIVE).write_bytes(kept)
        folding = scene.aggregate()
        assert scrape(folding) == scrape(scene.aggregate(folds=False)) == {}
        counting(scene, 4).die()
        assert scrape(folding) == scrape(scene.aggregate(folds=False)) == {HITS: 4}


def test_an_exporter_that_outlives_its_service_begins_anew_with_the_next(scene: Scene) -> None:
    with claim(scene.directory):
        exporter, worker = scene.aggregate(), counting(scene, 3)
        counting(scene, 5).die()
        assert scrape(exporter) == {HITS: 8}
        worker.die()
    with claim(scene.directory):
        assert scrape(exporter) == {}
        counting(scene, 4).die()
        assert scrape(exporter) == {HITS: 4}


def test_eight_bad_files_are_kept_for_diagnosis_and_a_mebibyte_of_each(scene: Scene) -> None:
    counting(scene)
    aggregate, numbers = scene.aggregate(), count()
    for size in [1 << 14] * 10 + [2 << 20] * 10:
        bad = scene.directory / f"counter_1-{next(numbers):08x}.db"
        bad.write_bytes(b"\x7f" * size)
        os.utime(bad, ns=(0, next(numbers)))
        assert scrape(aggregate) == {HITS: 2}
        assert not bad.exists()
    kept = list((scene.directory / SET_ASIDE).iterdir())
    assert len(kept) == MAX_SET_ASIDE == 8
    assert sum(file.stat().st_size for file in kept) == 8 * MAX_SET_ASIDE_BYTES == 8 << 20


def test_a_bad_file_that_cannot_be_set_aside_is_left_out_each_time(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = counting(scene)
    aggregate = scene.aggregate()
    bad = scene.directory / f"summary_{worker.identity}.db"
    bad.write_bytes(b"\x7f" * 4096)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = unreadable()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", full)
        assert scrape(aggregate) == {HITS: 2}
        assert scrape(aggregate) == {HITS: 2}
    assert unreadable() == before + 1
    assert bad.exists()
    assert scrape(aggregate) == {HITS: 2}
    assert aside(scene) == [bad.name]


def test_the_dead_are_folded_once_there_is_room_again_and_no_half_archive_takes_it_meanwhile(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting(scene, 2).die()
    aggregate = scene.aggregate()
    write = os.write

    def full(descriptor: int, content: bytes) -> int:
        write(descriptor, content[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    before = scene.names()
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        for _ in range(2):
            with capture_logs() as lines:
                assert scrape(aggregate) == {HITS: 2}
            assert {line["event"] for line in lines} == {"dead_not_folded"}
            assert scene.names() - before <= {"folding.lock"}
    assert scrape(aggregate) == scene.samples() == {HITS: 2}
    assert not list(scene.directory.glob("*.db"))


def test_a_directory_that_goes_away_ends_no_exporter(scene: Scene) -> None:
    counting(scene, 2)
    aggregate = scene.aggregate()
    assert scrape(aggregate) == {HITS: 2}
    shutil.rmtree(scene.directory)
    with pytest.raises(Exception, match="is gone"):
        aggregate.exposition("")
    scene.directory.mkdir()
    counting(scene, 4)
    assert scrape(aggregate) == {HITS: 4}
