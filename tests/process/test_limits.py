"""Requests that pass a limit, or are not HTTP/1.1, on a real worker: their answer, the close, and the counter."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.limited import LAST, ask, connect, limited, only_answer, rejected, rest, serves, wait_for_rejected
from tests.process.raw import answers, exchange, request
from tests.process.service import Service, wait_for

HEADER_BYTES, HEADER_FIELDS = 4096, 20
MEBIBYTE = 1 << 20
PARTS = b"3\r\nabc\r\n", b"3\r\ndef\r\n", b"0\r\n\r\n"
CHUNKED = request("POST", "/echo", "Transfer-Encoding: chunked")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with limited(
        tmp_path_factory.mktemp("limits"),
        MAX_HEADER_BYTES=str(HEADER_BYTES),
        MAX_HEADER_FIELDS=str(HEADER_FIELDS),
        HEADER_TIMEOUT="1",
        BODY_TIMEOUT="1",
        MIN_BODY_RATE="1000000",
        KEEPALIVE="2",
    ) as started:
        yield started


@pytest.mark.parametrize(
    ("sent", "status", "reason"),
    [
        pytest.param(request("GET", "/pid", "A: " + "x" * HEADER_BYTES), 431, "header_bytes", id="large header"),
        pytest.param(request("GET", "/pid?" + "x" * HEADER_BYTES), 431, "header_bytes", id="large target"),
        pytest.param(b"GET /pid HTTP/1.1\r\nA: " + b"x" * 50_000, 431, "header_bytes", id="large unfinished header"),
        pytest.param(request("GET", "/pid", *["A: b"] * HEADER_FIELDS), 431, "header_fields", id="many lines"),
        pytest.param(CHUNKED + b"0\r\nA: " + b"x" * 50_000, 431, "header_bytes", id="large trailer"),
        pytest.param(CHUNKED + b"0\r\n" + b"A: b\r\n" * 100, 431, "header_fields", id="many trailer lines"),
        pytest.param(b"GET /pid HTTP/1.1\r\n\r\n", 400, "host", id="no Host"),
        pytest.param(request("GET", "/pid", "Host: y"), 400, "host", id="two Hosts"),
        pytest.param(request("POST", "/echo", "Transfer-Encoding: gzip, chunked"), 501, "not_implemented", id="gzip"),
        pytest.param(
            request("POST", "/echo", "Transfer-Encoding: gzip", "Transfer-Encoding: chunked"),
            501,
            "not_implemented",
            id="gzip on a line of its own",
        ),
        pytest.param(request("CONNECT", "a:443"), 501, "not_implemented", id="CONNECT"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00", 400, "malformed", id="TLS"),
        pytest.param(request("GET", "/a b"), 400, "malformed", id="blank in the target"),
        pytest.param(CHUNKED + b"x\r\n", 400, "malformed", id="malformed chunk"),
    ],
)
def test_a_request_beyond_a_limit_is_answered_closed_and_counted(
    running: Service, sent: bytes, status: int, reason: str
) -> None:
    before = rejected(running, reason)
    answer = only_answer(connect(running, sent))
    assert answer.status == status
    assert answer.headers["connection"] == "close"
    assert "date" in answer.headers
    wait_for_rejected(running, reason, before + 1)
    assert rejected(running, reason) == before + 1
    assert serves(running)


def test_a_head_of_eight_mebibytes_is_answered_before_its_end_and_takes_no_memory(running: Service) -> None:
    (worker,) = running.workers()
    before = worker.memory_info().rss
    with connect(running, b"GET /pid HTTP/1.1\r\nHost: x\r\nA: ") as connection:
        with contextlib.suppress(ConnectionError):  # what is left is not read for long
            connection.sendall(b"x" * (8 * MEBIBYTE))
        assert worker.memory_info().rss - before < 4 * MEBIBYTE
        assert connection.recv(12) == b"HTTP/1.1 431"


def test_a_head_may_be_as_large_as_the_limit(running: Service) -> None:
    assert ask(running, request("GET", "/pid", LAST, "A: " + "x" * (HEADER_BYTES - 100))).status == 200


def test_small_heads_that_come_together_are_no_large_one(running: Service) -> None:
    one, body = request("GET", "/pid", "A: " + "x" * 1000), request("POST", "/echo", body=b"x" * 10_000)
    received = exchange(running.port, *[one, body] * 20, request("GET", "/pid", LAST))
    assert {answer.status for answer in answers(received, *["GET", "POST"] * 20, "GET")} == {200}


def test_more_requests_than_may_wait_are_answered_in_order(running: Service) -> None:
    one, body = request("GET", "/path"), request("POST", "/echo", body=b"x" * 100_000)
    received = exchange(running.port, *[*[one] * 400, body] * 3, request("GET", "/pid", LAST))
    found = answers(received, *[*["GET"] * 400, "POST"] * 3, "GET")
    assert {answer.status for answer in found} == {200}
    assert [len(answer.body) for answer in found[400::401]] == [100_000] * 3


def test_a_response_to_head_that_is_refused_has_no_body(running: Service) -> None:
    assert only_answer(connect(running, b"HEAD /pid HTTP/1.1\r\n\r\n"), "HEAD").status == 400


def test_a_refusal_comes_after_the_responses_before_it(running: Service) -> None:
    received = exchange(running.port, request("GET", "/pid?seconds=1"), b"GET /pid HTTP/1.1\r\n\r\n")
    assert [answer.status for answer in answers(received, "GET", "GET")] == [200, 400]
    queued = request("GET", "/pid?seconds=1"), CHUNKED, b"x\r\n"
    assert [answer.status for answer in answers(exchange(running.port, *queued), "GET", "POST")] == [200, 400]


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        pytest.param([b"G"], "header_timeout", id="half a head"),
        pytest.param([request("GET", "/pid")[:-2]], "header_timeout", id="all but the last line"),
        pytest.param([request("POST", "/echo", "Content-Length: 9"), b"abc"], "body_timeout", id="half a body"),
        pytest.param([CHUNKED, PARTS[0]], "body_timeout", id="half a chunked body"),
    ],
)
def test_a_message_that_does_not_end_is_answered_with_408(running: Service, parts: list[bytes], reason: str) -> None:
    before = rejected(running, reason)
    assert only_answer(connect(running, *parts)).status == 408
    wait_for_rejected(running, reason, before + 1)


def test_a_dripping_head_is_answered_with_408(running: Service) -> None:
    assert drip(connect(running, b"GET /pid HTTP/1.1\r\nHost: x\r\nA: "), b"x") == 408


def test_a_dripping_body_is_answered_with_408(running: Service) -> None:
    assert drip(connect(running, request("POST", "/echo", "Content-Length: 1000000")), b"x") == 408
    assert drip(connect(running, CHUNKED), b"1\r\nx\r\n") == 408


def drip(connection: socket.socket, part: bytes) -> int:
    """Send `part` ten times a second until there is a response, and return its status."""
    with connection:
        connection.settimeout(0.1)
        for _ in range(300):
            connection.sendall(part)
            with contextlib.suppress(TimeoutError):
                return int(connection.recv(100).split()[1])
    raise AssertionError("no answer")


def test_a_body_waits_for_a_busy_application(running: Service) -> None:
    body = b"x" * 1_000_000  # more than is read before the application asks
    assert ask(running, request("POST", "/late", LAST, body=body), method="POST").body == body


def test_the_rest_of_a_body_that_is_not_read_is_bounded(running: Service) -> None:
    before = rejected(running, "body_timeout")
    received = rest(connect(running, request("POST", "/unread", "Content-Length: 9"), b"abc"))
    assert received.endswith(b'"answered"')
    wait_for_rejected(running, "body_timeout", before + 1)


def test_a_connection_without_a_request_is_closed_after_the_keep_alive_time(running: Service) -> None:
    assert rest(connect(running)) == b""
    assert rest(connect(running, b"\r\n")) == b""
    (answer,) = answers(rest(connect(running, request("GET", "/pid"))), "GET")
    assert "connection" not in answer.headers


def test_a_response_that_is_not_read_is_not_kept(tmp_path: Path) -> None:
    with (
        limited(tmp_path, BODY_TIMEOUT="1", KEEPALIVE="600") as running,
        connect(running, request("GET", "/large")),  # it is complete at once
    ):
        wait_for_rejected(running, "response_unread", 1)


def test_a_large_response_that_is_read_slowly_arrives(running: Service) -> None:
    """Read 200 kB a second for more than BODY_TIMEOUT: the server's event loop writes nothing in that time."""
    pace = threading.Event()
    with connect(running, request("GET", "/large", LAST)) as connection:
        received = 0
        for _ in range(100):
            pace.wait(0.05)
            received += len(connection.recv(10_000))
        while part := connection.recv(1 << 20):
            received += len(part)
    assert received > 20_000_000


def test_resets_leave_no_connection_behind(running: Service) -> None:
    (worker,) = running.workers()
    before: int = worker.num_fds()
    for _ in range(200):
        connection = connect(running, request("GET", "/pid"))
        connection.recv(1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()
    wait_for(lambda: worker.num_fds() <= before + 2, "the connections' end")
    assert serves(running)


@pytest.mark.parametrize(
    ("target", "path"),
    [("http://host", "/"), ("http://host?a=b", "/"), ("http://host/path/a", "/path/a"), ("/path%20a?b", "/path a")],
)
def test_the_path_of_a_request_target(running: Service, target: str, path: str) -> None:
    answer = ask(running, request("GET", target, LAST))
    assert (answer.status, answer.body.decode()) == (200, path)


def test_http_1_0_needs_no_host(running: Service) -> None:
    answer = ask(running, b"GET /pid HTTP/1.0\r\n\r\n")
    assert (answer.status, answer.headers["connection"]) == (200, "close")


def test_trailers_are_no_headers_of_the_request(running: Service) -> None:
    sent = CHUNKED[:-2] + b"Connection: close\r\n\r\n" + PARTS[0] + b"0\r\nUpgrade: x\r\n\r\n"
    answer = ask(running, sent, method="POST")
    assert (answer.body, answer.headers["x-upgrade"]) == (b"abc", "none")
