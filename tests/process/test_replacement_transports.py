"""Workers are replaced behind a Unix socket, with TLS, with many connections, and short of resources."""

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from loadtest.keep_alive import tls, unix
from tests.process.replacement import PID, Connection, configured, reload, under_traffic, wait_for_workers
from tests.process.service import Service, gone, service, wait_for

SLOW = b"GET /pid?seconds=3 HTTP/1.1\r\nHost: localhost\r\n\r\n"
# More than the queue of connections holds at one time.
MANY = 400
# No process can be started while the file exists.
NO_FORK = """
import errno
fork = os.fork
def failing():
    if os.path.exists({file!r}):
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return fork()
os.fork = failing
"""


@pytest.fixture
def path(scratch: Path) -> Iterator[Path]:
    """The path of a Unix socket."""
    file = scratch / "replacement.sock"
    yield file
    file.unlink(missing_ok=True)


@pytest.fixture
def behind(tmp_path: Path, path: Path) -> Iterator[Service]:
    """A service on a port and on a Unix socket."""
    configuration = configured(tmp_path, f'{{"bind": ["127.0.0.1:" + os.environ["PORT"], "unix:{path}"]}}')
    with service(tmp_path, None, configuration) as running:
        wait_for_workers(running)
        yield running


@pytest.fixture
def encrypted(tmp_path: Path) -> Iterator[Service]:
    """A service with TLS."""
    with service(tmp_path, None, configured(tmp_path, certified(tmp_path)), "https") as running:
        wait_for_workers(running)
        yield running


def certified(directory: Path) -> str:
    """Make a certificate; return gunicorn's settings."""
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    subprocess.run([*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return repr({"certfile": str(certificate), "keyfile": str(key)})


def test_reloads_behind_a_unix_socket_fail_no_request_and_close_no_connection(behind: Service, path: Path) -> None:
    results = under_traffic(behind, *[lambda: reload(behind)] * 2, opener=unix(path))
    assert results.failed == []
    assert results.closed == 0
    assert set(results.statuses) == {200}
    assert behind.total("http_requests_total", handler="/pid") == results.statuses[200]


def test_a_service_behind_a_unix_socket_answers_each_request_when_it_stops(behind: Service, path: Path) -> None:
    stop = (lambda: behind.process.send_signal(signal.SIGTERM), lambda: behind.process.wait(30))
    results = under_traffic(behind, *stop, opener=unix(path))
    late = {"ConnectionRefusedError", "FileNotFoundError"}
    assert [failure for failure in results.failed if failure.partition("(")[0] not in late] == []
    assert not path.exists()


def test_a_unix_socket_refuses_connections_while_the_last_requests_are_answered(behind: Service, path: Path) -> None:
    with contextlib.closing(Connection(behind)) as connection:
        connection.send(b"GET /pid?seconds=5 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        behind.master.send_signal(signal.SIGTERM)
        wait_for(lambda: refuses(path), "the end of the listeners")
        assert connection.receive().startswith(b"HTTP/1.1 200 ")
    assert behind.process.wait(30) == 0


def refuses(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except ConnectionRefusedError:
            return True
    return False


def test_the_path_of_another_service_is_left_alone(behind: Service, path: Path) -> None:
    with contextlib.closing(Connection(behind)) as connection:
        connection.send(SLOW.replace(b"seconds=3", b"seconds=8"))
        behind.master.send_signal(signal.SIGTERM)
        wait_for(lambda: refuses(path), "the end of the listeners")
        path.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
            assert behind.process.wait(30) == 0
            assert path.exists()


def test_reloads_with_tls_fail_no_request_and_announce_each_close(encrypted: Service) -> None:
    results = under_traffic(encrypted, *[lambda: reload(encrypted)] * 2, opener=tls(encrypted.port))
    assert results.failed == []
    assert set(results.statuses) == {200}
    assert results.closed == results.announced > 0
    assert encrypted.total("shop_worker_exits_total", reason="stopped") == 4


def test_a_service_with_tls_answers_each_request_when_it_stops(encrypted: Service) -> None:
    stop = (lambda: encrypted.process.send_signal(signal.SIGTERM), lambda: encrypted.process.wait(30))
    results = under_traffic(encrypted, *stop, opener=tls(encrypted.port))
    assert [failure for failure in results.failed if "ConnectionRefusedError" not in failure] == []


def test_switching_tls_on_needs_a_restart(tmp_path: Path) -> None:
    configuration = configured(tmp_path)
    with service(tmp_path, None, configuration) as running:
        wait_for_workers(running)
        before = running.workers()
        configured(tmp_path, certified(tmp_path))
        running.master.send_signal(signal.SIGHUP)
        wait_for(lambda: "to switch TLS on or off needs a restart" in running.output, "the line")
        assert running.workers() == before
        assert running.answers("/health/ready")
        assert running.stop() == 0


def test_many_idle_connections_are_handed_over_and_none_is_closed(tmp_path: Path) -> None:
    with service(tmp_path, None, configured(tmp_path)) as running, contextlib.ExitStack() as stack:
        wait_for_workers(running)
        opened = [stack.enter_context(contextlib.closing(Connection(running))) for _ in range(MANY)]
        before = {connection.ask() for connection in opened}
        reload(running)
        after = {connection.ask() for connection in opened}
        assert after <= {worker.pid for worker in running.workers()}
        assert not after & before


def test_a_worker_serves_until_its_successor_can_be_forked(tmp_path: Path) -> None:
    file = tmp_path / "no-fork"
    with service(tmp_path, None, configured(tmp_path, more=NO_FORK.format(file=str(file)))) as running:
        wait_for_workers(running)
        before = running.workers()

        def fail() -> None:
            file.touch()
            before[0].terminate()
            wait_for(lambda: running.output.count("worker_not_started") >= 2, "the failed attempts")
            assert running.workers() == before
            assert running.total("shop_workers", state="live") == 2
            file.unlink()
            wait_for(lambda: gone(before[:1]) and len(running.workers()) == 2, "its successor")

        results = under_traffic(running, fail)
        assert (results.failed, results.closed) == ([], 0)
        assert running.stop() == 0


def test_a_worker_serves_until_its_master_has_descriptors_for_a_successor(tmp_path: Path) -> None:
    with service(tmp_path, None, configured(tmp_path)) as running:
        wait_for_workers(running)
        before, limits = running.workers(), running.master.rlimit(psutil.RLIMIT_NOFILE)
        running.master.rlimit(psutil.RLIMIT_NOFILE, (running.master.num_fds(), limits[1]))
        before[0].terminate()
        wait_for(lambda: "worker_not_started" in running.output, "the failed attempt")
        assert running.workers() == before
        assert running.answers("/health/ready")
        running.master.rlimit(psutil.RLIMIT_NOFILE, limits)
        wait_for(lambda: gone(before[:1]) and len(running.workers()) == 2, "its successor")
        assert running.stop() == 0


def test_a_stop_meets_a_worker_that_hands_over(tmp_path: Path) -> None:
    with service(tmp_path, None, configured(tmp_path)) as running:
        wait_for_workers(running)
        before = running.workers()
        with contextlib.closing(Connection(running)) as busy, contextlib.closing(Connection(running)) as idle:
            idle.ask()
            busy.send(b"GET /pid?seconds=8 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            running.master.send_signal(signal.SIGHUP)
            wait_for(lambda: sum(gone([worker]) for worker in before) == 1, "the end of the other worker")
            wait_for(lambda: running.output.count("Application startup complete.") == 4, "both successors")
            running.master.send_signal(signal.SIGTERM)
            idle.send(PID)
            assert idle.receive().startswith(b"HTTP/1.1 200 ")
            assert busy.receive().startswith(b"HTTP/1.1 200 ")
        assert running.process.wait(30) == 0
        assert "Traceback" not in running.output
        assert running.left("shop_worker_exits_total", reason="stopped") == 4


def test_a_second_sigint_to_the_master_alone_ends_workers_in_the_middle_of_a_request(tmp_path: Path) -> None:
    with service(tmp_path, None, configured(tmp_path)) as running:
        wait_for_workers(running)
        with contextlib.closing(Connection(running)) as connection:
            connection.ask()
            connection.send(b"GET /pid?seconds=15 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            os.kill(running.process.pid, signal.SIGINT)
            wait_for(lambda: not running.answers("/health/ready"), "readiness to fail")
            os.kill(running.process.pid, signal.SIGINT)
            assert running.process.wait(30) == 0
        assert running.left("shop_worker_exits_total", reason="stopped") == 2
