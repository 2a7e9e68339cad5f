"""Workers that leave, hang, are stopped while they start, or cannot start, while others are to replace them."""

import contextlib
import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.process.replacement import (
    APPLICATION,
    IMPORTING,
    Connection,
    configured,
    reload,
    replace_code,
    wait_for_workers,
)
from tests.process.service import Service, gone, service, wait_for
from tests.process.test_replacement_transports import certified

# Each process waits in its lifespan until a file allows it.
GATED = APPLICATION.replace("app = FastAPI()", "app = FastAPI(lifespan=lifespan)").replace(
    "from fastapi import FastAPI",
    """
import contextlib, pathlib
from fastapi import FastAPI

directory = pathlib.Path(__file__).parent

@contextlib.asynccontextmanager
async def lifespan(app):
    (directory / f"entered-{os.getpid()}").touch()
    while not (directory / f"go-{os.getpid()}").exists():
        await asyncio.sleep(0.01)
    yield
""",
    1,
)


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Service]:
    """A service of one worker."""
    with service(tmp_path, None, configured(tmp_path), WEB_CONCURRENCY="1", WORKER_TIMEOUT="2") as started:
        wait_for_workers(started, 1)
        yield started


def asked(running: Service) -> int:
    """The process that answers on a new connection."""
    return int(running.get("/pid").text)


def successor(running: Service, directory: Path, *others: psutil.Process) -> psutil.Process:
    """Wait until another worker than `others` is in its lifespan, and return it."""

    def entered() -> psutil.Process | None:
        found = [one for one in running.workers() if one not in others]
        return next((one for one in found if (directory / f"entered-{one.pid}").exists()), None)

    found: psutil.Process = wait_for(entered, "a successor")
    return found


def test_a_successor_that_is_stopped_before_it_serves_replaces_nobody(alone: Service, tmp_path: Path) -> None:
    (old,) = alone.workers()
    replace_code(tmp_path, GATED)
    alone.master.send_signal(signal.SIGHUP)
    first = successor(alone, tmp_path, old)
    first.terminate()
    (tmp_path / f"go-{first.pid}").touch()
    second = successor(alone, tmp_path, old, first)
    assert gone([first])
    assert asked(alone) == old.pid
    (tmp_path / f"go-{second.pid}").touch()
    wait_for(lambda: gone([old]), "the end of the old worker")
    assert asked(alone) == second.pid


def test_a_lifespan_that_hangs_is_reported_once_and_the_old_worker_serves(alone: Service, tmp_path: Path) -> None:
    (old,) = alone.workers()
    replace_code(tmp_path, GATED)
    alone.master.send_signal(signal.SIGHUP)
    first = successor(alone, tmp_path, old)
    wait_for(lambda: "worker_not_ready" in alone.output, "the line")
    alone.master.send_signal(signal.SIGTTIN)
    second = successor(alone, tmp_path, old, first)
    assert asked(alone) == old.pid
    for started in (first, second):
        (tmp_path / f"go-{started.pid}").touch()
    wait_for(lambda: gone([old]), "the end of the old worker")
    assert alone.stop() == 0
    assert alone.output.count("worker_not_ready") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_a_worker_that_leaves_by_itself_has_a_successor_before_its_last_response(
    alone: Service, number: signal.Signals
) -> None:
    (old,) = alone.workers()
    with contextlib.closing(Connection(alone)) as busy:
        busy.send(b"GET /pid?seconds=6 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_for(lambda: alone.total("shop_worker_event_loop_lag_seconds") >= 0, "a scrape")
        old.send_signal(number)
        wait_for(lambda: len(alone.workers()) == 2, "a successor")
        assert asked(alone) != old.pid
        assert not select.select([busy._socket], [], [], 0)[0]
        assert busy.answer() == old.pid
    assert alone.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_a_terminals_signal_to_all_processes_lets_requests_in_flight_be_answered(
    alone: Service, number: signal.Signals
) -> None:
    with contextlib.closing(Connection(alone)) as busy, contextlib.closing(Connection(alone)) as idle:
        idle.ask()
        busy.send(b"GET /pid?seconds=3 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        idle.ask()
        os.killpg(alone.process.pid, number)
        assert busy.receive().startswith(b"HTTP/1.1 200 ")
    assert alone.process.wait(30) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_a_second_signal_to_the_master_cuts_requests_in_flight(tmp_path: Path, number: signal.Signals) -> None:
    with service(tmp_path, None, configured(tmp_path), WEB_CONCURRENCY="1", GRACEFUL_TIMEOUT="600") as running:
        (worker,) = running.workers()
        with contextlib.closing(Connection(running)) as busy, contextlib.closing(Connection(running)) as idle:
            busy.send(b"GET /pid?seconds=600 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            idle.ask()
            running.master.send_signal(number)
            assert idle._socket.recv(1) == b""
            running.master.send_signal(number)
            assert running.process.wait(30) == 0
            assert busy.receive().startswith(b"HTTP/1.1 500 ")
        assert gone([worker])


def test_a_worker_that_boots_does_not_hold_the_port_when_the_service_stops(alone: Service, tmp_path: Path) -> None:
    (old,) = alone.workers()
    replace_code(tmp_path, IMPORTING)
    alone.master.send_signal(signal.SIGHUP)
    (booting,) = wait_for(lambda: [one for one in alone.workers() if one != old], "a successor")
    wait_for(lambda: listens(booting), "its listener")
    alone.master.send_signal(signal.SIGTERM)
    while listens(booting):
        pass
    assert booting.status() != psutil.STATUS_ZOMBIE  # it ends two seconds after the signal
    assert alone.process.wait(30) == 0


def listens(process: psutil.Process) -> bool:
    return any(one.status == psutil.CONN_LISTEN for one in process.net_connections("tcp"))


def test_a_reload_with_a_key_that_does_not_fit_is_given_up(tmp_path: Path) -> None:
    configuration = configured(tmp_path, certified(tmp_path))
    with service(tmp_path, None, configuration, "https") as running:
        wait_for_workers(running)
        before, key = running.workers(), tmp_path / "key.pem"
        kept = key.read_bytes()
        key.write_text("no key")
        running.master.send_signal(signal.SIGHUP)
        wait_for(lambda: "reload_given_up" in running.output, "the line")
        wait_for(lambda: running.workers() == before, "the end of the new worker")
        key.write_bytes(kept)
        reload(running)
        assert running.stop() == 0


def test_a_key_that_does_not_fit_ends_the_first_start(tmp_path: Path) -> None:
    configuration = configured(tmp_path, certified(tmp_path))
    (tmp_path / "key.pem").write_text("no key")
    started = Service(tmp_path, {}, configuration=configuration, scheme="https")
    try:
        assert started.process.wait(60) == 3
        assert started.output.count("Exception in worker process") <= 2
    finally:
        if started.process.poll() is None:
            started.process.kill()


def test_a_refused_reload_keeps_the_pid_file(tmp_path: Path) -> None:
    file = tmp_path / "service.pid"
    configuration = configured(tmp_path, repr({"pidfile": str(file)}))
    with service(tmp_path, None, configuration) as running:
        assert int(file.read_text()) == running.process.pid
        configuration.write_text(configuration.read_text() + f"\npidfile = {str(tmp_path / 'missing' / 'pid')!r}\n")
        running.master.send_signal(signal.SIGHUP)
        wait_for(lambda: "reload_refused" in running.output, "the line")
        assert int(file.read_text()) == running.process.pid
        assert running.stop() == 0
    assert not file.exists()
