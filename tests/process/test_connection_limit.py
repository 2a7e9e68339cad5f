"""MAX_CONNECTIONS on a real worker: idle connections make room, probes are answered, and the listener is paused."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.monitoring.server.room import RESERVED_CONNECTIONS
from tests.process.limited import LAST, ask, connect, limited, only_answer, rejected, rest, serves
from tests.process.raw import request
from tests.process.service import Service, wait_for

MAX = 8
SLOW = request("GET", "/pid?seconds=8", LAST)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Service]:
    with limited(tmp_path, MAX_CONNECTIONS=str(MAX), HEADER_TIMEOUT="30", GRACEFUL_TIMEOUT="15") as started:
        yield started


def fill(running: Service, slow: bytes) -> list[socket.socket]:
    """Open MAX connections with a slow request, each once the one before is accepted; return them."""
    opened = []
    for _ in range(MAX):
        opened.append(connect(running, slow))
        assert ask(running, request("GET", "/health/ready", LAST)).status == 200
    return opened


def test_idle_connections_make_room_for_new_ones(running: Service) -> None:
    with ExitStack() as stack:
        for _ in range(4 * MAX):
            stack.enter_context(connect(running))
        wait_for(lambda: serves(running), "an answer")
        assert rejected(running, "evicted") >= 2 * MAX


def test_half_sent_heads_make_room_for_new_connections(running: Service) -> None:
    with ExitStack() as stack:
        for _ in range(4 * MAX):
            stack.enter_context(connect(running, b"GET /pid HTTP/1.1\r\nHo"))
        wait_for(lambda: serves(running), "an answer")


def test_only_probes_are_answered_while_all_connections_are_busy(running: Service) -> None:
    busy = fill(running, SLOW)
    assert ask(running, request("GET", "/pid", LAST)).status == 503
    probe = ask(running, request("GET", "/health/ready"))
    assert (probe.status, probe.headers["connection"]) == (200, "close")
    refused = ask(running, request("GET", "/pid"))
    assert (refused.status, refused.headers["connection"], refused.headers["retry-after"]) == (503, "close", "1")
    assert ask(running, request("GET", "/healthy")).status == 503
    assert rejected(running, "max_connections") >= 3
    assert {only_answer(connection).status for connection in busy} == {200}
    assert ask(running, request("GET", "/pid", LAST)).status == 200


def test_connections_beyond_the_reserve_wait_in_the_backlog(running: Service) -> None:
    probe = request("GET", "/health/ready", LAST)
    busy = fill(running, SLOW)
    assert ask(running, request("GET", "/pid", LAST)).status == 503
    # Bodies that do not end: these connections do not wait for a request.
    held = [
        connect(running, request("POST", "/health/body", "Content-Length: 9")) for _ in range(2 * RESERVED_CONNECTIONS)
    ]
    wait_for(lambda: "accepting_paused" in running.output, "the pause")
    waiting = connect(running, probe)
    for connection in held:
        connection.close()
    assert only_answer(waiting).status == 200
    assert {only_answer(connection).status for connection in busy} == {200}
    assert ask(running, request("GET", "/pid", LAST)).status == 200


def test_a_worker_that_accepts_nothing_stops_within_its_time(running: Service) -> None:
    busy = fill(running, request("GET", "/pid?seconds=2", LAST))
    held = [connect(running, SLOW) for _ in range(3 * RESERVED_CONNECTIONS)]
    answered = [rest(connection) for connection in busy]
    assert running.stop() == 0
    assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answered)
    for connection in held:
        connection.close()
