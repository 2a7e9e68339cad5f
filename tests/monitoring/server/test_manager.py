"""Identities of process managers."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from app.monitoring.server import manager


def test_an_identity_does_not_depend_on_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    before = manager.identity()
    monkeypatch.setattr(psutil.Process, "create_time", lambda _: 7.0)
    assert manager.identity() == before
    assert manager.runs(before)


def test_a_process_that_started_later_or_after_another_boot_is_another_one() -> None:
    pid, start, boot = manager.identity().split()
    assert manager.runs(f"{pid} {start} {boot}")
    assert not manager.runs(f"{pid} {int(start) - 1} {boot}")
    assert not manager.runs(f"{pid} {start} 00000000-0000-0000-0000-000000000000")


def test_a_name_with_spaces_and_parentheses_does_not_hide_the_start() -> None:
    program = "open('/proc/self/comm', 'w').write(') 1 2 (3) 4'); print(end='.', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"."
        start = manager._start(process.pid).split()[0]
        _, own, _ = manager.identity().split()
        assert int(start) >= int(own)
        process.kill()


@pytest.mark.parametrize("identity", ["", "x", "x 1 2", "0 1 2"])
def test_a_text_that_names_no_process_runs_nowhere(identity: str) -> None:
    assert not manager.runs(identity)


def test_an_ended_process_does_not_run() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = f"{process.pid} {manager._start(process.pid)}"
    assert manager.runs(identity)
    process.kill()
    process.communicate()
    assert not manager.runs(identity)


def test_without_proc_the_start_is_a_time_of_day(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(manager, "BOOT_ID", tmp_path / "none")
    assert manager.identity() == f"{psutil.Process().pid} {psutil.Process().create_time()}"
    assert manager.runs(manager.identity())
