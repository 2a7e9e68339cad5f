"""Bytes on the metrics port: keep-alive, pipelined requests, HEAD and request bodies."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.monitoring.multiprocess.test_exporter import count, running
from tests.process.raw import answers, exchange, request, talk
from tests.process.service import total, wait_for

GZIP, CLOSE = "Accept-Encoding: gzip", "Connection: close"
LAST = request("GET", "/health", CLOSE)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Yield the port of an exporter of one process's metrics."""
    path = tmp_path_factory.mktemp("wire") / "metrics"
    path.mkdir()
    count(path, 2)
    with running(path) as started:
        yield int(started.url.rpartition(":")[2])


@pytest.mark.parametrize("headers", [(), (GZIP,), ("Accept: application/openmetrics-text",)])
@pytest.mark.parametrize(("path", "status"), [("/metrics", 200), ("/health", 200), ("/", 404), ("/no/such/place", 404)])
def test_a_head_has_no_body_and_leaves_the_next_answer_intact(
    port: int, path: str, status: int, headers: tuple[str, ...]
) -> None:
    one = request("HEAD", path, *headers)
    first, second, last = talk(port, one, one, LAST)
    assert [first.status, second.status, last.status] == [status, status, 200]
    assert last.body == b"ok\n"
    for answer in (first, second):
        assert int(answer.headers["content-length"]) > 0
        assert ("content-encoding" in answer.headers) == (path == "/metrics" and GZIP in headers)


def test_a_head_announces_what_a_get_sends(port: int) -> None:
    for path in ("/health", "/other"):
        head, got = talk(port, request("HEAD", path), request("GET", path, CLOSE))
        assert int(head.headers["content-length"]) == len(got.body) > 0
        assert head.headers["content-type"] == got.headers["content-type"]


def test_packed_and_plain_scrapes_follow_each_other_on_one_connection(port: int) -> None:
    packed, plain, health = talk(port, request("GET", "/metrics", GZIP), request("GET", "/metrics"), LAST)
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.body.startswith(b"\x1f\x8b")
    assert total(plain.body.decode(), "cache_hits_total", cache="places") == 2
    assert health.body == b"ok\n"


def test_a_head_of_a_scrape_that_fails_has_no_body_either(tmp_path: Path) -> None:
    directory = tmp_path / "metrics"
    directory.mkdir()
    with running(directory) as started:
        port = int(started.url.rpartition(":")[2])
        shutil.rmtree(directory)
        wait_for(lambda: started.scrape().status_code == 500, "the failure")
        head, got, last = talk(port, request("HEAD", "/metrics"), request("GET", "/metrics"), LAST)
    assert (head.status, got.status, last.status) == (500, 500, 200)
    assert int(head.headers["content-length"]) == len(got.body) > 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "BREW"])
def test_another_method_is_refused_and_ends_the_connection(port: int, method: str) -> None:
    [answer] = answers(exchange(port, request(method, "/metrics"), LAST), method)
    assert answer.status == 501
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_body_that_nobody_wants_is_not_taken_for_the_next_request(port: int, method: str) -> None:
    with_body = request(method, "/health", body=LAST)
    [answer] = answers(exchange(port, with_body), method)
    assert (answer.status, answer.headers["connection"]) == (200, "close")
