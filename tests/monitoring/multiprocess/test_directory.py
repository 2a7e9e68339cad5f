"""Ownership and content of the metrics directory."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import Counter

from app.monitoring.multiprocess.directory import (
    ARCHIVE,
    ARCHIVE_NEW,
    EPOCH,
    FOLDING_LOCK,
    LOCK,
    SET_ASIDE,
    DirectoryError,
    claim,
    epoch,
    usage,
)
from tests.monitoring.multiprocess.simulated import Scene, series
from tests.process.service import ROOT

CLAIM = "import pathlib, sys; from app.monitoring.multiprocess.directory import claim; claim(pathlib.Path(sys.argv[1]))"


def test_a_directory_that_is_not_there_is_made(tmp_path: Path) -> None:
    with claim(tmp_path / "new" / "metrics"):
        assert (tmp_path / "new" / "metrics").is_dir()


@pytest.mark.parametrize(
    "name",
    [
        "counter_7.db",
        "histogram_7-0123abcd.db",
        "summary_exporter7-0123abcd.db",
        "gauge_livemostrecent_7.db",
        "gauge_all_archive-1.db",
        "7-0123abcd.presence",
        ".7-0123abcd",
        "7-0123abcd.exemplars",
        ARCHIVE,
        ARCHIVE_NEW,
    ],
)
def test_files_of_an_earlier_service_are_removed(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"old")
    with claim(tmp_path):
        assert {file.name for file in tmp_path.iterdir()} == {LOCK, EPOCH}


def test_bad_files_of_an_earlier_service_are_removed(tmp_path: Path) -> None:
    (tmp_path / SET_ASIDE).mkdir()
    (tmp_path / SET_ASIDE / "counter_7.db.1").write_bytes(b"bad")
    with claim(tmp_path):
        assert not (tmp_path / SET_ASIDE).exists()


@pytest.mark.parametrize(
    "name", ["notes.txt", "customers.db", "counter_7.db.bak", "counter.db", ".profile", "a.presence"]
)
def test_files_of_anybody_else_are_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"precious")
    with claim(tmp_path):
        assert (tmp_path / name).read_bytes() == b"precious"


def test_files_of_processes_that_live_are_left_and_go_on_counting(scene: Scene) -> None:
    living, dead = scene.worker(), scene.worker()
    with living.at_work():
        hits = Counter("hits", "Hits.", registry=None)
        hits.inc(2, {"trace_id": "1"})
    with dead.at_work():
        hits.inc(3, {"trace_id": "1"})
    dead.die()
    (scene.directory / FOLDING_LOCK).touch()
    with claim(scene.directory):
        assert not any(dead.identity in name for name in scene.names())
        assert (scene.directory / FOLDING_LOCK).exists()
        with living.at_work():
            hits.inc()
        assert scene.samples() == {series("hits_total"): 3}


def test_each_service_has_an_epoch_of_its_own(tmp_path: Path) -> None:
    assert epoch(tmp_path) == ""
    found = set()
    for _ in range(3):
        with claim(tmp_path):
            found.add(epoch(tmp_path))
            assert epoch(tmp_path) == epoch(tmp_path)
    assert len(found) == 3
    assert all(re.fullmatch("[0-9a-f]{16}", one) for one in found)


def test_the_epoch_changes_before_anything_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with claim(tmp_path):
        before = epoch(tmp_path)
    (tmp_path / ARCHIVE).write_bytes(b"of the earlier service")
    unlink, seen = Path.unlink, []

    def look(path: Path, *, missing_ok: bool = False) -> None:
        seen.append((path.name, epoch(tmp_path) == before))
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", look)
    claim(tmp_path).close()
    assert [entry for entry in seen if entry[0] == ARCHIVE] == [(ARCHIVE, False)]


def test_a_second_claim_is_refused_and_removes_nothing(tmp_path: Path) -> None:
    with claim(tmp_path):
        before = epoch(tmp_path)
        (tmp_path / "counter_1.db").write_bytes(b"live")
        said = re.escape(f"PROMETHEUS_MULTIPROC_DIR={str(tmp_path)!r}: another service counts there")
        with pytest.raises(DirectoryError, match=said):
            claim(tmp_path)
        done = subprocess.run(
            [sys.executable, "-c", CLAIM, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert "another service counts there: want a directory of its own" in done.stderr
        assert (tmp_path / "counter_1.db").exists()
        assert epoch(tmp_path) == before


def test_the_next_service_may_claim_what_the_last_has_left(tmp_path: Path) -> None:
    claim(tmp_path).close()
    claim(tmp_path).close()
    subprocess.run([sys.executable, "-c", CLAIM, str(tmp_path)], cwd=ROOT, check=True)
    claim(tmp_path).close()


def test_a_path_that_is_no_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        said = re.escape(f"PROMETHEUS_MULTIPROC_DIR={str(path)!r}: ")
        with pytest.raises(DirectoryError, match=rf"{said}.+: want a directory to write to"):
            claim(path)


def test_usage_is_the_disk_that_is_held_and_not_the_length(tmp_path: Path) -> None:
    assert usage(tmp_path)[:2] == (0, 0)
    with (tmp_path / "counter_1.db").open("wb") as sparse:
        sparse.truncate(1024 * 1024)
    (tmp_path / SET_ASIDE).mkdir()
    (tmp_path / SET_ASIDE / "gauge_all_1.db.1").write_bytes(b"x" * 8192)
    files, held, free = usage(tmp_path)
    assert files == 2
    assert 8192 <= held < 1024 * 1024
    room = os.statvfs(tmp_path)
    assert 0 < free <= room.f_blocks * room.f_frsize


def test_room_that_is_kept_for_root_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=7, f_bfree=9, f_frsize=512, f_bsize=4096))
    assert usage(tmp_path)[2] == 7 * 512


def test_a_directory_that_is_made_is_nobody_elses(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        claim(tmp_path / "metrics").close()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "metrics").stat().st_mode) == 0o700


def test_a_file_that_vanishes_meanwhile_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "counter_1.db").write_bytes(b"x")
    there = list(tmp_path.iterdir())
    monkeypatch.setattr(Path, "rglob", lambda *_: iter([*there, tmp_path / "counter_2.db"]))
    assert usage(tmp_path)[0] == 1
