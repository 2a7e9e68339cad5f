"""Whose the metrics directory is, and what it holds."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from app.monitoring.multiprocess import directory
from app.monitoring.multiprocess.directory import DirectoryError, claim, metric_files, usage
from tests.process.service import ROOT

CLAIM = "import pathlib, sys; from app.monitoring.multiprocess.directory import claim; claim(pathlib.Path(sys.argv[1]))"


def test_a_directory_that_is_not_there_is_made(tmp_path: Path) -> None:
    with claim(tmp_path / "new" / "metrics"):
        assert (tmp_path / "new" / "metrics").is_dir()


@pytest.mark.parametrize(
    "name",
    ["counter_7.db", "histogram_7.db", "summary_7.db", "gauge_livemostrecent_7.db", "gauge_all_archive-1.db"],
)
def test_files_of_an_earlier_service_are_removed(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"old")
    with claim(tmp_path):
        assert metric_files(tmp_path) == []
        assert not (tmp_path / name).exists()


@pytest.mark.parametrize("name", ["notes.txt", "customers.db", "counter_7.db.bak", "counter.db"])
def test_files_of_anybody_else_are_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"precious")
    with claim(tmp_path):
        assert (tmp_path / name).read_bytes() == b"precious"
        assert usage(tmp_path)[0] == 0


def test_a_second_claim_is_refused_and_removes_nothing(tmp_path: Path) -> None:
    with claim(tmp_path):
        (tmp_path / "counter_1.db").write_bytes(b"live")
        said = re.escape(f"PROMETHEUS_MULTIPROC_DIR={str(tmp_path)!r}: another service counts there")
        with pytest.raises(DirectoryError, match=said):
            claim(tmp_path)
        done = subprocess.run(
            [sys.executable, "-c", CLAIM, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert "another service counts there: want a directory of its own" in done.stderr
        assert (tmp_path / "counter_1.db").exists()


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
    assert usage(tmp_path) == (0, 0)
    with (tmp_path / "counter_1.db").open("wb") as sparse:
        sparse.truncate(1024 * 1024)
    (tmp_path / "gauge_all_1.db").write_bytes(b"x" * 8192)
    files, held = usage(tmp_path)
    assert files == 2
    assert 8192 <= held < 1024 * 1024


def test_a_file_that_vanishes_meanwhile_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "counter_1.db").write_bytes(b"x")
    there = metric_files(tmp_path)
    monkeypatch.setattr(directory, "metric_files", lambda _: [*there, tmp_path / "counter_2.db"])
    assert usage(tmp_path)[0] == 1
