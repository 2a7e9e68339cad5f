"""State and metrics of the master, by hook."""

import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from app.monitoring.backoff import Backoff
from app.monitoring.companion import Companion
from app.monitoring.exporter import DEFAULT_LOGGING, listen
from app.monitoring.metrics.registry import registry
from app.monitoring.server import master
from app.monitoring.server.master import StartError
from app.monitoring.server.shared_state import WorkerState
from loadtest.programs import free_port
from tests.process.service import wait_for

BROKEN_LATER = "broken_later:collect"


@pytest.fixture(autouse=True)
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Yield the resources of this test's master; release them afterwards."""
    own = master._Resources()
    monkeypatch.setattr(master, "_resources", own)
    yield own
    master.stop_exporter()
    for item in (own.lock, own.listener):
        if item is not None:
            item.close()


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory that this test's master counts in."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    return tmp_path


def counted(name: str, **labels: str) -> float:
    """Return the current value of one of our series."""
    return registry().get_sample_value(f"baliblissed_{name}", labels) or 0.0


def restarted(before: float) -> bool:
    """Return True if an exporter was restarted since the counter was `before`."""
    return counted("exporter_restarts_total") > before


def server(live: int, configured: int) -> SimpleNamespace:
    """Return the parts of gunicorn's arbiter that the hooks read."""
    workers = {pid: SimpleNamespace(slot=pid) for pid in range(live)}
    return SimpleNamespace(WORKERS=workers, num_workers=configured)


def test_a_hook_that_fails_is_logged_and_counted_and_the_service_goes_on() -> None:
    @master.never_raises
    def child_exit(divisor: int) -> float:
        return 1 / divisor

    before = counted("hook_errors_total", hook="child_exit")
    with capture_logs() as lines:
        child_exit(1)
        child_exit(divisor=0)
    assert counted("hook_errors_total", hook="child_exit") == before + 1
    assert [(line["event"], line["hook"], line["log_level"]) for line in lines] == [
        ("hook_failed", "child_exit", "error")
    ]
    assert child_exit.__name__ == "child_exit"


def test_a_hook_does_not_hold_back_the_end_of_the_process() -> None:
    @master.never_raises
    def on_exit() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        on_exit()


@pytest.mark.parametrize(
    ("note", "aborted", "reason"),
    [
        (0, False, "killed"),
        (master.STOPPED, False, "stopped"),
        (master.MAX_REQUESTS, False, "max_requests"),
        (9, False, "killed"),
        (0, True, "timeout"),
        (master.STOPPED, True, "timeout"),
    ],
)
def test_a_workers_end_is_counted_by_its_reason(shared: Path, note: int, *, aborted: bool, reason: str) -> None:
    worker = SimpleNamespace(pid=4_000_000, aborted=aborted, state=WorkerState())
    master.before_fork(server(1, 2), worker)
    assert counted("workers", state="live") == 2
    worker.state.exit_reason = note
    before = counted("worker_exits_total", reason=reason)
    master.after_exit(server(1, 2), worker)
    assert counted("worker_exits_total", reason=reason) == before + 1
    assert (counted("workers", state="live"), counted("workers", state="configured")) == (1, 2)
    with pytest.raises(ValueError, match="closed"):
        _ = worker.state.exit_reason


def test_a_worker_takes_the_first_free_slot(shared: Path) -> None:
    taken = {pid: SimpleNamespace(slot=slot) for pid, slot in ((11, 0), (12, 3), (13, 1))}
    worker = SimpleNamespace(pid=14, aborted=False, state=WorkerState())
    before = counted("worker_boots_total")
    master.before_fork(SimpleNamespace(WORKERS=taken, num_workers=4), worker)
    worker.state.close()
    assert worker.slot == 2
    assert counted("worker_boots_total") == before + 1


def test_a_worker_shares_its_notes_with_the_master(shared: Path) -> None:
    worker = SimpleNamespace(pid=os.getpid(), aborted=False, state=WorkerState())
    master.before_fork(server(0, 1), worker)
    assert (worker.state.exit_reason, worker.state.ready, worker.state.max_requests_reached) == (0, False, False)
    child = os.fork()
    if child == 0:
        worker.state.exit_reason = master.STOPPED
        worker.state.set_ready()
        worker.state.set_max_requests_reached()
        os._exit(0)
    os.waitpid(child, 0)
    assert (worker.state.exit_reason, worker.state.ready, worker.state.max_requests_reached) == (
        master.STOPPED,
        True,
        True,
    )
    worker.state.close()


def test_ports_and_directory_are_taken_and_held(held: Any, tmp_path: Path) -> None:
    api, metrics = free_port(), free_port()
    master.take_ports_and_directory(
        api=[("127.0.0.1", api)], metrics=("127.0.0.1", metrics), directory=tmp_path / "metrics"
    )
    assert held.listener.getsockname() == ("127.0.0.1", metrics)
    assert (tmp_path / "metrics" / "lock").exists()
    listen("127.0.0.1", api).close()
    with pytest.raises(StartError, match="another service counts there"):
        master.take_ports_and_directory(
            api=[("127.0.0.1", api)], metrics=("127.0.0.1", free_port()), directory=tmp_path / "metrics"
        )


def test_a_directory_that_was_removed_is_made_again_for_its_owner_alone(
    held: Any, shared: Path, tmp_path: Path
) -> None:
    held.directory = tmp_path / "metrics"
    worker = SimpleNamespace(pid=os.getpid(), aborted=False, state=WorkerState())
    master.before_fork(server(0, 1), worker)
    worker.state.close()
    assert held.directory.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["PORT", "METRICS_PORT"])
def test_a_taken_port_is_named(tmp_path: Path, name: str) -> None:
    with listen("127.0.0.1", 0) as taken:
        addresses = {"PORT": ("127.0.0.1", free_port()), "METRICS_PORT": ("127.0.0.1", free_port())}
        addresses[name] = taken.getsockname()
        said = re.escape(f"{name}={taken.getsockname()[1]}: Address already in use (127.0.0.1): want a free port")
        with pytest.raises(StartError, match=f"^{said}$"):
            master.take_ports_and_directory(
                api=[addresses["PORT"]], metrics=addresses["METRICS_PORT"], directory=tmp_path
            )


@pytest.mark.parametrize(("name", "variable"), [("PORT", "HOST"), ("METRICS_PORT", "METRICS_HOST")])
def test_a_host_that_is_no_address_is_named(name: str, variable: str) -> None:
    with pytest.raises(StartError, match=rf"^{variable}='no\.such\.invalid': want an address of this machine$"):
        master._opened(name, ("no.such.invalid", 1), listen)


def test_an_error_without_a_number_is_said_in_its_own_words() -> None:
    def refuse(*_: object) -> socket.socket:
        raise OSError("no sockets today")

    with pytest.raises(StartError, match=r"PORT=1: no sockets today \(::1\): want a free port"):
        master._opened("PORT", ("::1", 1), refuse)


def test_a_second_master_on_one_port_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GUNICORN_PID", "7")
    with pytest.raises(StartError, match="SIGUSR2 is not supported"):
        master.take_ports_and_directory(api=[("127.0.0.1", 1)], metrics=("127.0.0.1", 2), directory=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_check_of_a_port_refuses_one_that_is_taken_and_accepts_no_connection(host: str) -> None:
    with master._bind(host, 0) as bound:
        port = bound.getsockname()[1]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, port))
    with listen(host, port), pytest.raises(OSError, match="already in use"):
        master._bind(host, port)


def test_without_a_port_there_is_no_exporter(held: Any) -> None:
    master.start_exporter([], DEFAULT_LOGGING)
    assert held.exporter is None
    master.stop_exporter()


@pytest.fixture
def companions(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Companion | None]]:
    """Yield every exporter that was started, None for a failed start; reap them as gunicorn would."""
    started: list[Companion | None] = []
    start = master.ExporterSupervisor._start

    def kept(supervisor: master.ExporterSupervisor) -> Companion:
        started.append(None)
        if len(started) == 2 and supervisor._arguments[-1] == BROKEN_LATER:
            raise OSError("no memory")
        started[-1] = companion = start(supervisor)
        return companion

    monkeypatch.setattr(master.ExporterSupervisor, "_start", kept)
    yield started
    for companion in started:
        if companion is not None:
            companion.stop(30)


def test_an_exporter_that_is_killed_is_started_again_on_the_same_port(
    held: Any, shared: Path, companions: list[Companion]
) -> None:
    held.listener = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{held.listener.getsockname()[1]}/health"
    before = counted("exporter_restarts_total")
    master.start_exporter([], DEFAULT_LOGGING, 123)
    master.supervise_exporter()
    supervisor = held.exporter
    assert httpx.get(url, timeout=30).text == "ok\n"
    given = companions[0]._process.args
    assert isinstance(given, list)
    assert given[given.index("--max-series") + 1] == "123"
    first = supervisor.pid
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: counted("exporter_restarts_total") == before + 1, "another exporter")
    assert supervisor.pid != first
    assert httpx.get(url, timeout=30).text == "ok\n"
    master.stop_exporter()
    supervisor._thread.join(30)
    assert not supervisor._thread.is_alive()
    assert companions[-1]._process.returncode == 0
    assert len(companions) == 2
    assert held.listener.fileno() == -1, "the port is free for the next service"


def test_an_exporter_that_cannot_be_restarted_is_tried_again_until_it_is_stopped(
    held: Any, shared: Path, companions: list[Companion | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    held.listener = listen("127.0.0.1", 0)
    monkeypatch.setattr(master, "MIN_RESTART_DELAY", 0.001)
    monkeypatch.syspath_prepend(str(shared))
    module = shared / "broken_later.py"
    module.write_text("def collect(catalogue): pass\n")
    with capture_logs() as lines:
        master.start_exporter([BROKEN_LATER], DEFAULT_LOGGING)
        master.supervise_exporter()
        supervisor = held.exporter
        module.write_text("raise RuntimeError('no figures')\n")
        os.kill(supervisor.pid, signal.SIGKILL)
        wait_for(lambda: len(companions) > 3, "further starts")
        wait_for(lambda: [line for line in lines if "no figures" in line.get("reason", "")], "the reason")
        master.stop_exporter()
        supervisor._thread.join(30)
    assert not supervisor._thread.is_alive()
    assert [line["event"] for line in lines].count("exporter_not_started") == 1
    killed, not_started, *refused = [line["reason"] for line in lines if line["event"] == "exporter_ended"]
    assert (killed, not_started) == ("unknown", "unknown")
    reason = "collectors: 'broken_later:collect': RuntimeError: no figures: want module:function"
    assert set(refused) == {f"the exporter cannot start: {reason}"}


def test_an_exporter_that_had_run_long_is_started_again_at_once(
    shared: Path, companions: list[Companion], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    backoff = Backoff(0.001, 60.0, clock=lambda: now)
    with listen("127.0.0.1", 0) as listener, capture_logs() as lines:
        supervisor = master.ExporterSupervisor(listener, [], DEFAULT_LOGGING, 100, backoff)
        supervisor.supervise()
        for seconds in (0, 60, 61, 1):
            before = counted("exporter_restarts_total")
            now += seconds
            os.kill(supervisor.pid, signal.SIGKILL)
            wait_for(partial(restarted, before), "another exporter")
        supervisor.stop()
        supervisor._thread.join(30)
    delays = [line["restart_in_seconds"] for line in lines if line["event"] == "exporter_ended"]
    assert delays == [0.001, 0.002, 0.001, 0.002]


def test_a_stop_during_a_restart_ends_the_exporter_that_was_being_started(
    held: Any, shared: Path, companions: list[Companion], monkeypatch: pytest.MonkeyPatch
) -> None:
    held.listener = listen("127.0.0.1", 0)
    starting = threading.Event()
    start = master.ExporterSupervisor._start

    def start_while_stopping(supervisor: master.ExporterSupervisor) -> Companion:
        if companions:
            starting.set()
            supervisor._stopping.wait(0.5)
        return start(supervisor)

    monkeypatch.setattr(master.ExporterSupervisor, "_start", start_while_stopping)
    master.start_exporter([], DEFAULT_LOGGING)
    master.supervise_exporter()
    supervisor = held.exporter
    os.kill(supervisor.pid, signal.SIGKILL)
    assert starting.wait(30)
    master.stop_exporter()
    supervisor._thread.join(5)
    assert not supervisor._thread.is_alive()
    assert all(companion._process.poll() is not None for companion in companions)


def arbiter(*workers: int) -> Any:
    """Return an arbiter that has sent SIGKILL to `workers`; `counted` has the process ids whose exit hook has run."""
    counted: list[int] = []
    hook = SimpleNamespace(child_exit=lambda _server, worker: counted.append(worker.pid))
    return SimpleNamespace(WORKERS={pid: SimpleNamespace(pid=pid) for pid in workers}, cfg=hook, counted=counted)


@pytest.fixture
def child() -> Iterator[int]:
    """Yield the process id of a running child."""
    pid = os.posix_spawn("/bin/sleep", ["sleep", "600"], {})
    yield pid
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        return


def test_killed_workers_are_counted_once_they_have_ended(child: int) -> None:
    server = arbiter(child)
    threading.Timer(0.05, os.kill, (child, signal.SIGKILL)).start()
    master.account_for_killed(server, 30)
    assert (server.counted, server.WORKERS) == ([child], {})


def test_a_worker_that_does_not_end_is_not_waited_for_longer_than_the_timeout(child: int) -> None:
    server = arbiter(child)
    master.account_for_killed(server, 0.05)
    assert (server.counted, list(server.WORKERS)) == ([], [child])


def test_a_worker_that_was_reaped_elsewhere_is_counted(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    server = arbiter(child)
    master.account_for_killed(server, 30)
    assert server.counted == [child]
