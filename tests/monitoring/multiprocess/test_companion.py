"""A helper process and its owner see each other's end."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from app.monitoring import companion
from app.monitoring.companion import Companion, CompanionError
from tests.process.service import ROOT, gone, wait_for
from tests.processes import started

OWNER = """
import os, signal, sys
from app.monitoring.companion import Companion
helper = Companion("helper", "announce")
helper.read_line(30)
if os.fork() == 0:
    print(helper.pid, os.getpid(), helper._lifeline.fileno(), flush=True)
    signal.pause()
signal.pause()
"""
HELPER = """
import os, signal, sys, threading
from app.monitoring.companion import announce, wait_for_owner, when_owner_ends
mode = sys.argv[1]
if mode == "die":
    sys.exit(3)
if mode == "stubborn":
    announce("ready")
    signal.pause()
if mode == "path":
    announce(os.pathsep.join(sys.path))
if mode == "descriptor":
    announce(str(os.fstat(int(sys.argv[2])).st_ino))
if mode == "halves":
    os.write(0, b"re"); announce("ady")
if mode == "callback":
    ended = threading.Event(); when_owner_ends(ended.set); announce("ready"); ended.wait(); sys.exit(0)
if mode == "announce":
    announce("ready")
wait_for_owner()
"""


@pytest.fixture(autouse=True)
def helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Create a module named helper to start companions from."""
    (tmp_path / "helper.py").write_text(HELPER)
    monkeypatch.syspath_prepend(str(tmp_path))


@contextmanager
def helper(*arguments: str, **options: list[int]) -> Iterator[Companion]:
    """Yield a started companion; stop it afterwards."""
    started = Companion("helper", *arguments, pass_fds=options.get("pass_fds", []))
    try:
        yield started
    finally:
        started.stop(30)


@pytest.mark.parametrize("mode", ["announce", "halves", "callback"])
def test_the_owner_reads_what_the_companion_announces(mode: str) -> None:
    started = Companion("helper", mode)
    assert started.read_line(30) == b"ready\n"
    assert started._lifeline.gettimeout() is None, "whoever waits for its end afterwards has no time-out"
    started.stop(30)
    assert started._process.returncode == 0


def test_a_companion_that_says_nothing_in_time_is_an_error() -> None:
    with helper("quiet") as started, pytest.raises(CompanionError, match=r"not ready after 0\.05 s"):
        started.read_line(0.05)


def test_a_companion_that_dies_early_is_an_error() -> None:
    with helper("die") as started, pytest.raises(CompanionError, match="it ended before it was ready"):
        started.read_line(30)


def test_wait_ends_with_the_companion_and_leaves_it_to_be_reaped() -> None:
    with helper("stubborn") as started:
        started.read_line(30)
        waiting = threading.Thread(target=started.wait)
        waiting.start()
        os.kill(started.pid, signal.SIGKILL)
        waiting.join(30)
        assert not waiting.is_alive()
        assert started._process.wait(30) == -signal.SIGKILL


def test_wait_after_the_end_returns_at_once() -> None:
    started = Companion("helper", "die")
    started.stop(30)
    started.wait()
    started.stop()


def test_a_companion_that_does_not_end_is_killed() -> None:
    started = Companion("helper", "stubborn")
    started.read_line(30)
    started.stop(0.05)
    assert started._process.returncode == -signal.SIGKILL


def test_a_companion_has_the_owners_import_path(tmp_path: Path) -> None:
    with helper("path") as started:
        found = started.read_line(30).decode().strip().split(os.pathsep)
    assert str(tmp_path) in found


def test_a_companion_is_handed_descriptors_and_no_others() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.fileno()
        with helper("descriptor", str(number), pass_fds=[number]) as started:
            assert int(started.read_line(30)) == os.fstat(number).st_ino
        with helper("descriptor", str(number)) as started, pytest.raises(CompanionError):
            started.read_line(30)


def test_a_companion_has_a_session_of_its_own() -> None:
    with helper("announce") as started:
        started.read_line(30)
        assert os.getsid(started.pid) == started.pid


def test_a_companion_ends_with_its_owner_though_a_forked_child_lives_on(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(tmp_path)))}
    with started([sys.executable, "-c", OWNER], env=environment, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        helper_pid, child_pid, descriptor = map(int, owner.stdout.readline().split())
        child, companion_process = psutil.Process(child_pid), psutil.Process(helper_pid)
        try:
            assert descriptor == -1
            owner.kill()
            owner.wait()
            wait_for(lambda: gone([companion_process]), "the companion's end")
            assert not gone([child])
        finally:
            child.kill()


def test_what_is_closed_in_children_stays_open_in_the_owner() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert companion.close_in_children(listener) is listener
        subprocess.run([sys.executable, "-c", ""], check=True)
        assert listener.fileno() >= 0


def test_nothing_forks_while_a_thread_holds_the_lock() -> None:
    script = """
import os, threading
from app.monitoring.companion import no_fork
held, forked = threading.Event(), threading.Event()
def hold():
    with no_fork():
        held.set()
        print("forked early" if forked.wait(0.3) else "held", flush=True)
thread = threading.Thread(target=hold)
thread.start()
held.wait()
if os.fork() == 0:
    with no_fork():
        os._exit(7)
forked.set()
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == ["held", "7", ""]
