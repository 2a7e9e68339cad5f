"""Memory-mapped files: the library's format, allocation before use, growth."""

import errno
import mmap
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import Counter
from prometheus_client.mmap_dict import MmapedDict

from app.monitoring.multiprocess import mapped_file, values
from app.monitoring.multiprocess.mapped_file import HEADER, INITIAL_SIZE, MappedFile, NoRoomError
from tests.monitoring.multiprocess import simulated
from tests.monitoring.multiprocess.simulated import Samples, Scene, ended, forked, series

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
KEYS = st.text(min_size=1, max_size=40)


def write(file: MappedFile, key: str, value: float, timestamp: float = 0.0) -> None:
    cell = file.position(key.encode()) // 8
    file.cells[cell], file.cells[cell + 1] = value, timestamp


def as_the_library_reads(path: Path) -> dict[str, tuple[float, float]]:
    found = MmapedDict.read_all_values_from_file(str(path))  # type: ignore[no-untyped-call]
    return {key: (value, timestamp) for key, value, timestamp, _ in found}


@PATIENT
@given(st.dictionaries(KEYS, st.tuples(st.floats(allow_nan=False), st.floats(0, 1e10)), max_size=30))
def test_the_library_reads_what_is_written(values: dict[str, tuple[float, float]]) -> None:
    with simulated.scene() as scene:
        file = MappedFile(scene.directory / "counter_1.db")
        for key, (value, timestamp) in values.items():
            write(file, key, value, timestamp)
        assert as_the_library_reads(file.path) == values
        mine = {key: file.position(key.encode()) for key in values}
        file.close()
        theirs = MmapedDict(str(scene.directory / "counter_1.db"))  # type: ignore[no-untyped-call]
        assert theirs._positions == mine
        theirs.close()  # type: ignore[no-untyped-call]


def test_growth_past_the_first_size_keeps_every_value_in_its_place(tmp_path: Path) -> None:
    file = MappedFile(tmp_path / "counter_1.db")
    positions = {}
    for number in range(1000):
        key = f"key {number} " + "x" * 60
        positions[key] = file.position(key.encode())
        write(file, key, number)
    assert file.path.stat().st_size == 8 * INITIAL_SIZE
    assert all(file.position(key.encode()) == position for key, position in positions.items())
    assert {key: value for key, (value, _) in as_the_library_reads(file.path).items()} == {
        key: number for number, key in enumerate(positions)
    }
    file.close()


def test_one_key_may_be_longer_than_several_first_sizes(tmp_path: Path) -> None:
    file = MappedFile(tmp_path / "counter_1.db")
    write(file, "x" * 5 * INITIAL_SIZE, 3)
    assert as_the_library_reads(file.path) == {"x" * 5 * INITIAL_SIZE: (3, 0)}
    file.close()


def test_disk_blocks_are_there_before_they_are_used(tmp_path: Path) -> None:
    file = MappedFile(tmp_path / "counter_1.db")
    assert file.path.stat().st_blocks * 512 >= INITIAL_SIZE
    file.close()


def test_a_file_that_is_there_already_is_never_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "counter_1.db").write_bytes(b"another's")
    with pytest.raises(FileExistsError):
        MappedFile(tmp_path / "counter_1.db")
    assert (tmp_path / "counter_1.db").read_bytes() == b"another's"


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS])
def test_without_allocation_the_file_is_filled_with_zeros(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "posix_fallocate", failing(number))
    file = MappedFile(tmp_path / "counter_1.db")
    assert file.path.stat().st_blocks * 512 >= INITIAL_SIZE
    write(file, "first", 1)
    write(file, "x" * INITIAL_SIZE, 2)
    assert file.path.stat().st_size == 2 * INITIAL_SIZE
    assert as_the_library_reads(file.path) == {"first": (1, 0), "x" * INITIAL_SIZE: (2, 0)}
    file.close()


def failing(number: int) -> object:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_new_file_without_room_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "posix_fallocate", failing(number))
    with pytest.raises(NoRoomError):
        MappedFile(tmp_path / "counter_1.db")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(os, "posix_fallocate", failing(errno.ENOSYS))
    monkeypatch.setattr(os, "pwrite", failing(number))
    with pytest.raises(NoRoomError):
        MappedFile(tmp_path / "counter_1.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", ["posix_fallocate", "pwrite"])
def test_other_failures_are_not_taken_for_want_of_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setattr(os, "posix_fallocate", failing(errno.ENOSYS))
    monkeypatch.setattr(os, call, failing(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        MappedFile(tmp_path / "counter_1.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("simulated_by", ["posix_fallocate", "pwrite", "mmap"])
def test_growth_that_fails_leaves_the_file_as_it_was_and_the_next_attempt_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, simulated_by: str
) -> None:
    if simulated_by == "pwrite":
        monkeypatch.setattr(os, "posix_fallocate", failing(errno.ENOSYS))
    file = MappedFile(tmp_path / "counter_1.db")
    write(file, "first", 1)
    with monkeypatch.context() as patch:
        module = mmap if simulated_by == "mmap" else os
        patch.setattr(module, simulated_by, failing(errno.ENOMEM if module is mmap else errno.ENOSPC))
        for _ in range(2):
            with pytest.raises((NoRoomError, OSError)):
                file.position(b"x" * INITIAL_SIZE)
    write(file, "first", 2)
    write(file, "second", 3)
    assert as_the_library_reads(file.path) == {"first": (2, 0), "second": (3, 0)}
    write(file, "x" * INITIAL_SIZE, 4)
    assert as_the_library_reads(file.path) == {"first": (2, 0), "second": (3, 0), "x" * INITIAL_SIZE: (4, 0)}
    file.close()


def test_an_entry_is_in_use_only_once_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = MappedFile(tmp_path / "counter_1.db")
    seen = []

    class Watching:
        """Stands for the map; notes what a reader would see before each store."""

        def __init__(self, inner: mmap.mmap) -> None:
            self._inner = inner

        def __setitem__(self, place: slice, content: bytes) -> None:
            seen.append((place.start, file.path.read_bytes()[0:4]))
            self._inner[place] = content

        def close(self) -> None:
            self._inner.close()

    monkeypatch.setattr(file, "bytes", Watching(file.bytes))
    file.position(b"key")
    assert seen == [(HEADER, HEADER.to_bytes(4, sys.byteorder)), (0, HEADER.to_bytes(4, sys.byteorder))]
    file.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Yield a file system of 256 KiB in memory."""
    path = tmp_path / "small"
    path.mkdir()
    mount = shutil.which("mount")
    if (
        mount is None
        or subprocess.run(
            [mount, "-t", "tmpfs", "-o", "size=256k", "tmpfs", path], check=False, capture_output=True
        ).returncode
    ):
        pytest.skip("mounting a file system takes root and its capabilities")
    yield path
    subprocess.run(["umount", "-l", path], check=True)  # noqa: S607 -- found beside mount


def test_a_full_disk_refuses_new_series_and_the_process_lives(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work() -> None:
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(small_disk))
        hits = Counter("hits", "Hits.", ("number", "text"), registry=None)
        others = [Counter(f"other_{number}", "Other.", registry=None) for number in range(3)]
        for number in range(1500):
            hits.labels(number, "x" * 200).inc()
        for _ in range(2):
            for number in range(1500):
                hits.labels(number, "x" * 200).inc()
            for other in others:
                other.inc()
        assert values.process().refused > 100

    with simulated.scene() as scene:
        assert ended(forked(work)) == 0
        scene.directory = small_disk
        found = scene.samples()
    kept: Samples = {key: value for key, value in found.items() if key[0] == "hits_total"}
    assert 100 < len(kept) < 1500
    assert set(kept.values()) == {3}
    assert all(found[series(f"other_{number}_total")] == 2 for number in range(3))


def test_a_series_without_room_costs_nobody_else(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = scene.worker()
    with worker.at_work():
        hits = Counter("hits", "Hits.", ("place",), registry=None)
        hits.labels("Ubud").inc(2)
        with monkeypatch.context() as patch:
            patch.setattr(mapped_file, "_allocate", failing(errno.ENOSPC))
            rides = Counter("rides", "Rides.", ("place", "kind"), registry=None)
            rides.labels("Kuta", "x" * INITIAL_SIZE).inc(3)
        assert worker.process.refused == 1
        rides.labels("Kuta", "x" * INITIAL_SIZE).inc(3)
        hits.labels("Ubud").inc(2)
        assert rides.labels("Kuta", "x" * INITIAL_SIZE)._value.get() == 6
        rides.labels("Sanur", "y").inc()
    assert scene.samples() == {series("hits_total", place="Ubud"): 4, series("rides_total", place="Sanur", kind="y"): 1}
