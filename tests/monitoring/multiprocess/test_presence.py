"""Liveness by locked presence files, for every way a process can end."""

import os
import re
from pathlib import Path

import pytest

from app.monitoring.multiprocess.presence import SUFFIX, announce, is_alive, new_identity, pid_of
from tests.monitoring.multiprocess.simulated import forked, kill


def test_a_process_lives_while_its_file_is_open(tmp_path: Path) -> None:
    lock = announce(tmp_path, "1-00000000")
    path = tmp_path / f"1-00000000{SUFFIX}"
    assert [is_alive(path) for _ in range(3)] == [True] * 3
    lock.close()
    assert not is_alive(path)
    path.unlink()
    assert not is_alive(path)


def test_a_process_that_was_killed_is_dead_at_once(tmp_path: Path) -> None:
    reading, writing = os.pipe()

    def work() -> None:
        lock = announce(tmp_path, "1-00000000")
        os.write(writing, b".")
        os.read(reading_end, 1)
        lock.close()

    reading_end, end = os.pipe()
    child = forked(work)
    os.read(reading, 1)
    assert is_alive(tmp_path / f"1-00000000{SUFFIX}")
    kill(child)
    assert not is_alive(tmp_path / f"1-00000000{SUFFIX}")
    for descriptor in (reading, writing, reading_end, end):
        os.close(descriptor)


def test_nobody_sees_the_file_before_it_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename, seen = Path.rename, []

    def look(old: Path, new: Path) -> Path:
        seen.append((old.name, is_alive(old), new.exists()))
        return rename(old, new)

    monkeypatch.setattr(Path, "rename", look)
    with announce(tmp_path, "1-00000000"):
        assert seen == [(".1-00000000", True, False)]
        assert [file.name for file in tmp_path.iterdir()] == [f"1-00000000{SUFFIX}"]


def test_an_announcement_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="No space"):
        announce(tmp_path, "1-00000000")
    assert list(tmp_path.iterdir()) == []


def test_an_identity_never_comes_back_and_tells_the_process_id() -> None:
    found = {new_identity("exporter") for _ in range(1000)}
    assert len(found) == 1000
    assert all(re.fullmatch(rf"exporter{os.getpid()}-[0-9a-f]{{8}}", identity) for identity in found)
    assert pid_of(new_identity()) == str(os.getpid())
