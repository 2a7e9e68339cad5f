"""Every worker's end is counted with its reason, whenever the signal arrives."""

import os
import signal
from pathlib import Path

import psutil
import pytest

from tests.process.service import Service, gone, service, wait_for

# The service's own configuration, in which the third worker waits in one of the hooks that it passes while it boots.
HELD = """
import pathlib, signal, time
from gunicorn_conf import *
import gunicorn_conf

def hold(server, worker, enough):
    if worker.slot == 2:
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


# The third worker fails to boot once it has been told to stop: in an import, where extensions such as pydantic's turn
# SystemExit into errors of their own, or in the lifespan.
FAILS = """
import asyncio, gunicorn_conf, os, pathlib, time
from gunicorn_conf import *

held, told = pathlib.Path({held!r}), pathlib.Path({told!r})

def interrupted():
    try:
        while not told.exists():
            time.sleep(0.01)
    except BaseException as error:
        raise RuntimeError("interrupted") from error
    raise RuntimeError("failed")

def failing(app):
    async def lifespan(scope, receive, send):
        if scope["type"] != "lifespan":
            return await app(scope, receive, send)
        while not told.exists():
            await asyncio.sleep(0.01)
        await send({{"type": "lifespan.startup.failed", "message": "failed"}})
    return lifespan

def post_worker_init(worker):
    if worker.slot == 2 and not held.exists():
        held.write_text(str(os.getpid()))
        if {phase!r} == "import":
            interrupted()
        worker.wsgi = failing(worker.wsgi)
"""


@pytest.mark.parametrize("phase", ["import", "lifespan"])
def test_a_worker_that_fails_to_boot_after_it_was_told_to_stop_does_not_end_the_service(
    tmp_path: Path, addresses: dict[str, str], phase: str
) -> None:
    held, told, configuration = tmp_path / "held", tmp_path / "told", tmp_path / "held_conf.py"
    configuration.write_text(FAILS.format(held=str(held), told=str(told), phase=phase))
    with service(tmp_path, None, configuration, **addresses) as running:
        running.master.send_signal(signal.SIGTTIN)
        wait_for(lambda: held.exists() and held.read_text(), "the third worker")
        third = psutil.Process(int(held.read_text()))
        third.send_signal(signal.SIGTERM)
        told.touch()
        wait_for(lambda: gone([third]) and len(running.workers()) == 3, "its successor")
        assert running.answers("/health/ready")
        assert running.stop() == 0
        assert exits(running) == {"stopped": 4, "killed": 0, "timeout": 0}


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
