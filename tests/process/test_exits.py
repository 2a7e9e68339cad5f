"""Every worker's end is counted with its reason, whenever the signal arrives."""

import os
import signal
from pathlib import Path

import pytest

from tests.process.service import Service, service, wait_for

# The service's own configuration, in which the third worker waits in one of the hooks that it passes while it boots.
HELD = """
import pathlib, signal, time
from gunicorn_conf import *
import gunicorn_conf

def hold(server, worker, enough):
    if worker.place == 2:
        pathlib.Path({held!r}).touch()
        deadline = time.monotonic() + 60
        while not enough() and time.monotonic() < deadline:
            time.sleep(0.01)

def post_fork(server, worker):
    gunicorn_conf.post_fork(server, worker)
    # The signal has arrived when it is pending, or when the handler inherited from the master has queued it.
    if {hook!r} == "post_fork":
        hold(server, worker, lambda: len(signal.sigpending()) >= {signals} or not server.SIG_QUEUE.empty())

def post_worker_init(worker):
    if {hook!r} == "post_worker_init":
        hold(None, worker, lambda: False)
    if {hook!r} == "finalizer":
        Finalized(worker)

# Python discards what is raised in a finalizer, the exit of a signal's handler included.
class Finalized:
    def __init__(self, worker):
        self.worker = worker

    def __del__(self):
        hold(None, self.worker, lambda: False)
"""


@pytest.mark.parametrize("hook", ["post_fork", "post_worker_init", "finalizer"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_still_boots_stops_at_once(
    tmp_path: Path, addresses: dict[str, str], hook: str, number: signal.Signals
) -> None:
    held, configuration = tmp_path / "held", tmp_path / "held_conf.py"
    configuration.write_text(HELD.format(held=str(held), hook=hook, signals=1))
    with service(tmp_path, None, configuration, GRACEFUL_TIMEOUT="8", **addresses) as running:
        running.master.send_signal(signal.SIGTTIN)
        wait_for(held.exists, "the third worker")
        assert running.stop(number) == 0
        assert exits(running) == {"stopped": 3, "killed": 0, "timeout": 0}
        assert running.output.count("Worker exiting") == 3, "one was killed after it had noted its end"


def test_ctrl_c_while_a_worker_boots_ends_it_without_a_traceback(tmp_path: Path, addresses: dict[str, str]) -> None:
    held, configuration = tmp_path / "held", tmp_path / "held_conf.py"
    # The terminal's SIGINT and then the master's SIGQUIT: both are pending when the worker has its handlers.
    configuration.write_text(HELD.format(held=str(held), hook="post_fork", signals=2))
    with service(tmp_path, None, configuration, GRACEFUL_TIMEOUT="8", **addresses) as running:
        running.master.send_signal(signal.SIGTTIN)
        wait_for(held.exists, "the third worker")
        os.killpg(running.process.pid, signal.SIGINT)
        assert running.process.wait(30) == 0
        assert exits(running) == {"stopped": 3, "killed": 0, "timeout": 0}
        assert "Traceback" not in running.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_a_worker_that_is_killed_at_the_deadline_is_counted(
    tmp_path: Path, addresses: dict[str, str], number: signal.Signals
) -> None:
    with service(tmp_path, GRACEFUL_TIMEOUT="2", **addresses) as running:
        running.workers()[0].suspend()
        assert running.stop(number) == 0
        assert exits(running) == {"stopped": 1, "killed": 1, "timeout": 0}


def exits(ended: Service) -> dict[str, float]:
    return {reason: ended.exits(reason) for reason in ("stopped", "killed", "timeout")}
