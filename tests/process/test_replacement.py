"""Reload and recycling under traffic: no request fails, no connection is closed, and never fewer workers serve."""

import contextlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from loadtest.programs import free_port
from tests.process.replacement import (
    APPLICATION,
    IMPORTING,
    PID,
    Connection,
    configured,
    reload,
    replace_code,
    under_traffic,
    wait_for_imports,
    wait_for_workers,
)
from tests.process.service import Service, gone, service, total, wait_for


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    return configured(tmp_path)


@pytest.fixture
def running(tmp_path: Path, configuration: Path) -> Iterator[Service]:
    with service(tmp_path, None, configuration) as started:
        wait_for_workers(started)
        yield started


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service of two workers that several tests replace, one after the other. All workers serve after each test."""
    directory = tmp_path_factory.mktemp("lasting")
    with service(directory, None, configured(directory)) as started:
        wait_for_workers(started)
        yield started
        exits = started.total("shop_worker_exits_total")
        assert exits == started.total("shop_worker_exits_total", reason="stopped"), started.output
        assert started.stop() == 0


@pytest.fixture
def lasting_connection(lasting: Service) -> Iterator[Connection]:
    with contextlib.closing(Connection(lasting)) as opened:
        yield opened


@pytest.fixture
def connection(running: Service) -> Iterator[Connection]:
    with contextlib.closing(Connection(running)) as opened:
        yield opened


def asked(running: Service) -> int:
    """The process that answers on a new connection."""
    return int(running.get("/pid").text)


def test_reloads_under_traffic_fail_no_request_and_close_no_connection(running: Service) -> None:
    results = under_traffic(running, *[lambda: reload(running)] * 4)
    assert results.failed == []
    assert results.closed == 0
    assert set(results.statuses) == {200}
    assert running.total("http_requests_total", handler="/pid") == results.statuses[200]
    assert running.total("shop_worker_exits_total", reason="stopped") == 8
    assert running.stop() == 0


def test_recycling_under_traffic_fails_no_request_and_closes_no_connection(tmp_path: Path, configuration: Path) -> None:
    with service(tmp_path, None, configuration, MAX_REQUESTS="40") as running:

        def recycled() -> None:
            wait_for(
                lambda: running.total("shop_worker_exits_total", reason="max_requests") >= 6, "recycled workers", 90
            )

        results = under_traffic(running, recycled)
        assert results.failed == []
        assert results.closed == 0
        assert running.total("http_requests_total", handler="/pid") == results.statuses[200]
        scraped = running.scrape()  # workers may leave between two
        assert total(scraped, "shop_worker_exits_total") == total(
            scraped, "shop_worker_exits_total", reason="max_requests"
        )
        assert running.stop() == 0


def test_an_idle_connection_goes_to_a_worker_that_serves(lasting: Service, lasting_connection: Connection) -> None:
    old = lasting_connection.ask()
    reload(lasting)
    new = lasting_connection.ask()
    assert new != old
    assert new in {worker.pid for worker in lasting.workers()}


def test_the_garbage_collector_does_not_visit_the_application(lasting: Service) -> None:
    assert lasting.get("/collected").json() == {"application": False, "threshold": 10_000}


@pytest.mark.parametrize("how", ["reload", "SIGTERM"])
def test_a_connection_outlives_the_only_worker(tmp_path: Path, configuration: Path, how: str) -> None:
    with service(tmp_path, None, configuration, WEB_CONCURRENCY="1") as running:
        with contextlib.closing(Connection(running)) as connection:
            old = connection.ask()
            if how == "reload":
                reload(running)
            else:
                (worker,) = running.workers()
                worker.terminate()
                wait_for(lambda: gone([worker]), "its end")
            assert connection.ask() != old
        assert running.stop() == 0


def test_a_request_in_progress_is_answered_by_its_worker_and_the_connection_goes_on(
    lasting: Service, lasting_connection: Connection
) -> None:
    old = lasting_connection.ask()
    lasting_connection.send(b"GET /pid?seconds=3 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    reload(lasting)
    assert lasting_connection.answer() == old
    assert lasting_connection.ask() != old


def test_a_head_of_which_a_part_has_come_is_read_to_its_end(lasting: Service, lasting_connection: Connection) -> None:
    old = lasting_connection.ask()
    lasting_connection.send(PID[:20])
    first = lasting.workers()
    lasting.master.send_signal(signal.SIGHUP)
    wait_for(lambda: len([worker for worker in first if not gone([worker])]) == 1, "the end of the other worker")
    lasting_connection.send(PID[20:])
    assert lasting_connection.answer() == old
    wait_for(lambda: gone(first), "its end")
    assert lasting_connection.ask() != old


def test_a_worker_that_retires_does_not_keep_the_service_unready(tmp_path: Path, configuration: Path) -> None:
    unfit = tmp_path / "unfit"
    unfit.touch()
    with service(tmp_path, None, configuration) as running, contextlib.closing(Connection(running)) as connection:
        wait_for(lambda: readiness(running) == [0.0, 0.0], "the checks of the first workers")
        unfit.unlink()
        old = connection.ask()
        connection.send(PID[:20])  # its worker waits for the rest
        running.master.send_signal(signal.SIGHUP)
        wait_for(lambda: readiness(running) == [1.0, 1.0], "the checks of the new workers")
        assert old in [worker.pid for worker in running.workers()]
        connection.send(PID[20:])
        assert connection.answer() == old


def readiness(running: Service) -> list[float]:
    """Return the values of the metrics of readiness."""
    return [value for name in ("ready", "dependency_up") for value in running.series(f"shop_{name}").values()]


def test_requests_that_follow_each_other_at_once_move_on_after_the_first(
    lasting: Service, lasting_connection: Connection
) -> None:
    slow = b"GET /pid?seconds=1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    lasting_connection.send(slow)
    before = lasting.workers()
    lasting.master.send_signal(signal.SIGHUP)
    while not gone(before):
        lasting_connection.answer()
        lasting_connection.send(slow)
    assert lasting_connection.answer() not in {worker.pid for worker in before}


def test_two_requests_in_one_segment_are_both_answered_across_a_retirement(
    lasting: Service, lasting_connection: Connection
) -> None:
    lasting_connection.send(b"GET /pid?seconds=2 HTTP/1.1\r\nHost: localhost\r\n\r\n" + PID)
    reload(lasting)
    first, second = lasting_connection.answer(), lasting_connection.answer()
    assert first == second
    assert lasting_connection.ask() != first


def test_workers_that_are_told_by_others_serve_until_they_have_successors(lasting: Service) -> None:
    before, exits = lasting.workers(), lasting.total("shop_worker_exits_total", reason="stopped")
    opened = [Connection(lasting) for _ in range(100)]
    try:
        for worker in before:
            worker.terminate()
        assert all(connection.ask() for connection in opened)
        wait_for(lambda: gone(before) and len(lasting.workers()) == 2, "successors")
        assert {connection.ask() for connection in opened} <= {worker.pid for worker in lasting.workers()}
        assert lasting.total("shop_worker_exits_total", reason="stopped") == exits + 2
    finally:
        for connection in opened:
            connection.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_a_worker_that_is_interrupted_alone_hands_its_connections_over(
    running: Service, connection: Connection, number: signal.Signals
) -> None:
    old = connection.ask()
    (worker,) = [worker for worker in running.workers() if worker.pid == old]
    worker.send_signal(number)
    while not gone([worker]):
        assert running.answers("/health/ready")
    assert connection.ask() != old
    wait_for(lambda: len(running.workers()) == 2, "its successor")
    assert running.stop() == 0


def test_another_address_needs_a_restart(running: Service, configuration: Path) -> None:
    before = running.workers()
    configuration.write_text(configuration.read_text() + f"\nbind = ['127.0.0.1:{free_port()}']\n")
    running.master.send_signal(signal.SIGHUP)
    wait_for(lambda: "another address needs a restart" in running.output, "the line")
    before[0].kill()
    wait_for(lambda: gone(before[:1]) and len(running.workers()) == 2, "a successor")
    assert running.answers("/health/ready")
    assert running.stop() == 0


@pytest.mark.parametrize(
    ("line_of_it", "reason"),
    [("not a line of Python", "SyntaxError"), ("raise RuntimeError('too early')", "RuntimeError: too early")],
)
def test_a_configuration_that_cannot_be_read_changes_nothing(
    running: Service, configuration: Path, line_of_it: str, reason: str
) -> None:
    before, text = running.workers(), configuration.read_text()
    configuration.write_text(text.replace('"shop"', '"other"', 1) + line_of_it + "\n")
    running.master.send_signal(signal.SIGHUP)
    wait_for(lambda: "reload_refused" in running.output, "the line")
    (line,) = [line for line in running.output.splitlines() if "reload_refused" in line]
    assert reason in line
    assert json.loads(line)["service"] == "shop"
    assert running.workers() == before
    before[0].kill()  # its successor boots with what the master has kept
    wait_for(lambda: gone(before[:1]) and len(running.workers()) == 2, "a successor")
    assert {worker.pid for worker in running.workers()} >= {asked(running) for _ in range(20)}
    configuration.write_text(text)
    reload(running)
    assert running.stop() == 0


def test_an_application_that_cannot_be_imported_leaves_the_old_workers(
    running: Service, tmp_path: Path, connection: Connection
) -> None:
    before = running.workers()
    replace_code(tmp_path, "import no_such_module\n")
    running.master.send_signal(signal.SIGHUP)
    wait_for(lambda: "reload_given_up" in running.output, "the line")
    wait_for(lambda: len(running.workers()) == len(before), "the end of the new worker")
    assert running.workers() == before, running.output
    assert connection.ask() in {worker.pid for worker in before}
    replace_code(tmp_path, APPLICATION)
    reload(running)
    assert running.stop() == 0


def test_a_reload_goes_on_when_its_first_worker_is_killed_while_it_boots(running: Service, tmp_path: Path) -> None:
    before = running.workers()
    replace_code(tmp_path, IMPORTING)
    running.master.send_signal(signal.SIGHUP)
    (successor,) = wait_for_imports(tmp_path, 1)
    replace_code(tmp_path, APPLICATION)
    successor.kill()
    wait_for(lambda: gone(before) and len(running.workers()) == len(before), "the new workers")
    assert "worker_failed_to_boot" in running.output
    assert "reload_given_up" not in running.output
    assert running.stop() == 0


def test_max_surge_replaces_more_workers_at_a_time(tmp_path: Path, configuration: Path) -> None:
    with service(tmp_path, None, configuration, WEB_CONCURRENCY="3", MAX_SURGE="2") as running:
        wait_for_workers(running, 3)
        before = running.workers()
        replace_code(tmp_path, IMPORTING)
        running.master.send_signal(signal.SIGHUP)
        successors = wait_for_imports(tmp_path, 2)
        assert len(running.workers()) == 5
        replace_code(tmp_path, APPLICATION)
        for successor in successors:
            successor.kill()
        wait_for(lambda: gone(before) and len(running.workers()) == 3, "the new workers")
        assert running.stop() == 0


def test_a_service_that_stops_answers_what_comes_then_announces_the_close_and_is_not_ready(
    tmp_path: Path, configuration: Path
) -> None:
    with service(tmp_path, None, configuration, STOP_DELAY="5") as running:
        with contextlib.closing(Connection(running)) as connection:
            connection.ask()
            running.master.send_signal(signal.SIGTERM)
            wait_for(lambda: running.answers("/health/ready", 503), "readiness to fail")
            answered: list[bytes] = []

            def announced() -> bool:
                """Ask the connection's own worker, which may learn of the stop later than the other."""
                connection.send(PID)
                answered.append(connection.receive())
                return b"connection: close" in answered[-1].lower()

            wait_for(announced, "the announcement")
        assert all(one.startswith(b"HTTP/1.1 200 ") for one in answered)
        assert running.process.wait(30) == 0


def test_each_request_written_to_an_open_connection_is_answered_when_the_service_stops(running: Service) -> None:
    results = under_traffic(
        running, lambda: running.process.send_signal(signal.SIGTERM), lambda: running.process.wait(30)
    )
    # Clients that come after the end find nobody.
    assert {failure for failure in results.failed if "ConnectionRefusedError" not in failure} == set()


def test_a_connection_that_was_handed_over_is_closed_when_nothing_comes(tmp_path: Path, configuration: Path) -> None:
    with service(tmp_path, None, configuration, KEEPALIVE="3") as running:
        with contextlib.closing(Connection(running)) as connection:
            connection.ask()
            reload(running)
            assert connection._socket.recv(1) == b""
        assert not [
            one for worker in running.workers() for one in psutil.Process(worker.pid).net_connections() if one.raddr
        ]
