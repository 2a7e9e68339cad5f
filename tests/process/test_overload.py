"""Requests beyond MAX_IN_FLIGHT wait in a short queue or are answered 503, and nothing is lost by it."""

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.overloaded import MAX_IN_FLIGHT, MAX_QUEUED, Overloaded, overloaded
from tests.process.raw import request
from tests.process.service import gone, wait_for


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Overloaded]:
    with overloaded(tmp_path_factory.mktemp("overloaded")) as started:
        yield started


@pytest.fixture
def running(shared: Overloaded) -> Iterator[Overloaded]:
    """A service that other tests use too, at rest."""
    yield shared
    shared.reset()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Overloaded]:
    """A service for one test that counts, reads log lines or ends it."""
    with overloaded(tmp_path) as started:
        yield started


def test_requests_beyond_the_bound_wait_and_are_served_in_their_order(running: Overloaded) -> None:
    held, waiting = running.fill()
    assert running.state()["started"] == ["a", "b"]
    for first, second, third in (("a", "c", "b"), ("b", "d", "c"), ("c", "e", "d")):
        running.release(first)
        wait_for(lambda: second in running.state()["running"], "the next request")  # noqa: B023 -- called at once
        assert running.state()["running"] == sorted([second, third])
    running.release("d", "e")
    assert [client.status() for client in held + waiting] == [200] * 5
    assert running.state()["most"] == MAX_IN_FLIGHT


def test_a_request_beyond_the_queue_is_rejected_at_once_on_a_connection_that_goes_on(running: Overloaded) -> None:
    running.fill()
    client = running.client()
    status, headers, body = client.get("/quick").answer()
    assert status == 503
    assert 1 <= int(headers["retry-after"]) <= 3
    assert headers["content-type"] == "application/problem+json"
    assert "date" in headers
    assert "connection" not in headers
    problem = json.loads(body)
    assert (problem["status"], problem["title"]) == (503, "Service Unavailable")
    running.release("a", "b", "c", "d", "e")
    wait_for(lambda: not running.state()["running"], "the end of the others")
    assert client.get("/quick").answer()[2] == b'"quick"'


def test_rejections_follow_http(running: Overloaded) -> None:
    running.fill()
    client = running.client()
    client.send(request("HEAD", "/quick"))
    status, headers, _ = client.answer(body=False)
    assert status == 503
    assert int(headers["content-length"]) > 0
    client.send(b"GET /quick HTTP/1.0\r\n\r\n")  # its answer follows the head above: HEAD had no body
    status, headers, _ = client.answer()
    assert (status, headers["connection"]) == (503, "close")
    assert client.closed()


def test_a_request_that_waits_too_long_is_rejected(tmp_path: Path) -> None:
    with overloaded(tmp_path, QUEUE_TIMEOUT="0.3") as running:
        held = running.hold("a", "b")
        waiting = [running.client().get(f"/hold/{name}") for name in "cde"]
        assert [client.status() for client in waiting] == [503] * 3
        assert running.shed("queue_timeout") == 3
        running.release("a", "b")
        assert [client.status() for client in held] == [200] * 2
        assert running.state()["started"] == ["a", "b"]
        assert waiting[0].get("/quick").status() == 200


def test_probes_and_scrapes_are_served_under_overload(running: Overloaded) -> None:
    running.fill()
    assert running.service.get("/health/ready").status_code == 200
    assert running.service.get("/metrics").status_code == 200
    assert running.service.get("/healthy").status_code == 503
    assert running.service.get("/quick?x=/health/ready").status_code == 503


def test_a_flood_of_probes_is_bounded_too(running: Overloaded) -> None:
    running.fill()
    probes = [running.client().get(f"/health/hold/{number}") for number in range(31)]
    wait_for(lambda: len(running.state()["running"]) == MAX_IN_FLIGHT + 31, "the probes")
    last = running.client().get("/health/stream")
    assert last.status() == 200
    assert running.client().get("/health/ready").status() == 503
    last.close()
    wait_for(lambda: running.service.answers("/health/ready"), "a free place")
    assert len(probes) == 31


def test_what_was_shed_is_counted_and_logged_once(own: Overloaded) -> None:
    own.fill()
    counted = own.service.total("http_requests_total")
    timed = own.service.total("http_request_duration_seconds_count")
    for client in [own.client() for _ in range(40)]:
        assert client.get("/quick").status() == 503
    assert own.service.total("http_requests_total", status="503", handler="none", method="GET") == 40
    assert own.service.total("http_requests_total") == counted + 40
    assert own.service.total("http_request_duration_seconds_count") == timed
    assert own.shed("queue_full") == 40
    lines = wait_for(lambda: _lines(own, "requests_shed"), "the line")
    (line,) = lines
    assert line["level"] == "warning"
    assert line["queue_timeout"] == 0
    assert (line["in_flight"], line["queued"]) == (2, 3)
    assert not [line for line in _lines(own, "request") if line["status"] == 503]


def _lines(running: Overloaded, event: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in running.service.output.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


def test_the_time_in_the_queue_belongs_to_the_duration(own: Overloaded) -> None:
    own.hold("a", "b")
    (waiting,) = own.queue("c")
    seen = time.monotonic()
    own.release("c")
    released = time.monotonic()
    own.release("a")
    assert waiting.status() == 200
    (line,) = wait_for(
        lambda: [line for line in _lines(own, "request") if line["route"] == "/hold/{name}"][1:], "its line"
    )
    assert line["duration_ms"] >= (released - seen) * 1000


def test_a_queued_request_whose_client_has_left_is_never_run(running: Overloaded) -> None:
    running.hold("a", "b")
    gone_client, other = running.queue("c", "d")
    gone_client.close()
    wait_for(lambda: running.queued() == 1, "the queue without it")
    running.release("a", "b", "d")
    assert other.status() == 200
    assert running.state()["started"] == ["a", "b", "d"]


def test_a_running_request_whose_client_has_left_keeps_its_slot_to_its_end(running: Overloaded) -> None:
    first, _ = running.hold("a", "b")
    (waiting,) = running.queue("c")
    first.close()
    running.release("c")
    wait_for(lambda: running.service.total("shop_requests_in_flight") == MAX_IN_FLIGHT, "the gauge")
    assert running.state()["started"] == ["a", "b"]
    running.release("a")
    assert waiting.status() == 200
    assert "a" in running.state()["ended"]


def test_a_background_task_keeps_the_slot(running: Overloaded) -> None:
    assert [running.client().get(f"/background/{name}").status() for name in "ab"] == [200, 200]
    (waiting,) = running.queue("c")
    running.release("a", "c")
    assert waiting.status() == 200


@pytest.mark.parametrize("path", ["/stream/{}", "/long/{}"], ids=["event stream", "released"])
def test_long_requests_do_not_count(running: Overloaded, path: str) -> None:
    clients = [running.client().get(path.format(number)) for number in range(MAX_IN_FLIGHT + 1)]
    wait_for(lambda: len(running.state()["running"]) == len(clients), "all of them")
    assert running.service.get("/quick").status_code == 200


def test_a_queued_request_does_not_see_the_context_of_the_one_that_made_room(running: Overloaded) -> None:
    clients = [running.client().get(f"/context/{name}") for name in "ab"]
    wait_for(lambda: running.state()["running"] == ["a", "b"], "the first requests")
    clients += [running.client().get(f"/context/{name}") for name in "cd"]
    wait_for(lambda: running.queued() == 2, "the queue")
    running.release("a", "b", "c", "d")
    assert [client.answer()[2] for client in clients] == [b"null"] * 4


def test_websockets_do_not_count(running: Overloaded) -> None:
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    headers = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", key)
    sockets = [running.client().get(f"/socket/{number}", *headers) for number in range(MAX_IN_FLIGHT + 1)]
    assert [client.status() for client in sockets] == [101] * len(sockets)
    assert running.service.get("/quick").status_code == 200
    running.release("0")
    _, queued = running.fill()
    later = running.client()
    assert later.get("/quick").status() == 503
    assert later.get("/socket/9", *headers).status() == 101
    assert len(queued) == 3


def test_pipelined_requests_are_rejected_one_by_one(running: Overloaded) -> None:
    running.fill()
    many = 6
    client = running.client().send(request("GET", "/quick") * many)
    assert [client.status() for _ in range(many)] == [503] * many
    running.release("a", "b", "c", "d", "e")
    wait_for(lambda: not running.state()["running"], "the end of the others")
    assert client.get("/quick").answer()[2] == b'"quick"'


def test_pipelined_requests_follow_one_another_in_one_slot(tmp_path: Path) -> None:
    with overloaded(tmp_path, MAX_QUEUED_REQUESTS="0") as running:
        running.hold("a")
        client = running.client().send(request("GET", "/hold/b") + request("GET", "/quick") * 100)
        wait_for(lambda: "b" in running.state()["running"], "the first request")
        running.release("b")
        assert [client.status() for _ in range(101)] == [200] * 101


def test_a_queued_pipeline_is_served_in_order(running: Overloaded) -> None:
    held = running.hold("a", "b")
    client = running.client().send(request("GET", "/hold/c") + request("GET", "/quick") + request("GET", "/hold/d"))
    wait_for(lambda: running.queued() == 1, "one queued request")
    running.release("c", "d", "a")
    assert [client.answer()[2] for _ in range(3)] == [b'"c"', b'"quick"', b'"d"']
    assert held[0].status() == 200


@pytest.mark.parametrize("size", [10, 64 * 1024])
def test_the_body_of_a_rejected_request_is_discarded(running: Overloaded, size: int) -> None:
    running.fill()
    client = running.client().send(request("POST", "/hold/x", body=b"x" * size))
    assert client.status() == 503
    assert client.get("/health/ready").answer()[2] == b'"ready"'


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        pytest.param(["Content-Length: 1000000"], b"x" * 70_000, id="long"),
        pytest.param(["Transfer-Encoding: chunked"], b"11170\r\n" + b"x" * 70_000, id="chunked"),
        pytest.param(["Expect: 100-continue", "Content-Length: 5"], b"", id="expected"),
        pytest.param(["Content-Length: 5", "Expect: 100-continue"], b"", id="expected, announced before"),
    ],
)
def test_a_connection_whose_body_is_not_waited_for_is_closed(
    running: Overloaded, headers: list[str], body: bytes
) -> None:
    running.fill()
    client = running.client().send(request("POST", "/hold/x", *headers) + body)
    status, received, _ = client.answer()
    assert (status, received["connection"]) == (503, "close")
    assert client.closed()


def test_a_chunked_body_that_has_come_leaves_the_connection_open(running: Overloaded) -> None:
    running.fill()
    client = running.client().send(request("POST", "/hold/x", "Transfer-Encoding: chunked") + b"1\r\nx\r\n0\r\n\r\n")
    assert client.status() == 503
    assert client.get("/health/ready").answer()[2] == b'"ready"'


def test_clients_that_do_not_send_their_bodies_take_no_slots(running: Overloaded) -> None:
    head = request("POST", "/hold/x", "Content-Length: 9")
    silent = [running.client().send(head) for _ in range(10 * (MAX_IN_FLIGHT + MAX_QUEUED))]
    assert running.service.get("/quick").status_code == 200
    assert running.state()["started"] == []
    running.release("x")
    assert silent[0].send(b"x" * 9).answer()[2] == b"9"


def test_a_queued_body_arrives_whole(running: Overloaded) -> None:
    running.hold("a", "b")
    client = running.client().send(request("POST", "/hold/c", body=b"x" * 300_000))
    wait_for(lambda: running.queued() == 1, "the queued request")
    running.release("c", "a")
    assert client.answer()[2] == b"300000"


def test_a_full_queue_is_served_before_a_worker_ends(own: Overloaded) -> None:
    held, waiting = own.fill()
    own.service.process.send_signal(signal.SIGTERM)
    wait_for(lambda: _closes(own), "the drain")
    own.release("a", "b", "c", "d", "e")
    answers = [client.answer() for client in held + waiting]
    assert [status for status, _, _ in answers] == [200] * 5
    assert {headers["connection"] for _, headers, _ in answers} == {"close"}
    assert own.service.process.wait(30) == 0


def _closes(running: Overloaded) -> bool:
    return "close" in running.service.get("/health/state").headers.get("connection", "")


def test_a_queue_that_is_not_served_is_answered_before_a_worker_ends(tmp_path: Path) -> None:
    with overloaded(tmp_path, GRACEFUL_TIMEOUT="5") as running:  # its queue waits at most 0.3 of 3 s
        held, waiting = running.hold("a", "b"), [running.client().get(f"/hold/{name}") for name in "cde"]
        running.service.process.send_signal(signal.SIGTERM)
        assert [client.status() for client in waiting] == [503] * 3
        assert {client.closed() for client in waiting} == {True}
        assert running.service.process.wait(30) == 0
        assert len(held) == MAX_IN_FLIGHT


def test_a_worker_that_is_replaced_serves_its_queue_and_hands_the_connections_over(own: Overloaded) -> None:
    running_ones = [own.client().get("/pid?seconds=3") for _ in range(MAX_IN_FLIGHT)]
    wait_for(lambda: own.state()["in_flight"] == MAX_IN_FLIGHT, "the running requests")
    queued = [own.client().get("/pid") for _ in range(3)]
    wait_for(lambda: own.queued() == 3, "the queue")
    rejected = own.client()
    assert [rejected.get("/pid").status() for _ in range(3)] == [503] * 3  # so it is not read for a while
    (old,) = own.service.workers()
    own.service.master.send_signal(signal.SIGHUP)
    answers = [client.answer() for client in running_ones + queued]
    assert {(status, int(body)) for status, _, body in answers} == {(200, old.pid)}
    assert not any("connection" in headers for _, headers, _ in answers)
    wait_for(lambda: gone([old]), "its end")
    (new,) = own.service.workers()
    for client in [*running_ones, *queued, rejected]:
        assert int(client.get("/pid").answer()[2]) == new.pid
