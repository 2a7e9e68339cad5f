"""Bytes on the metrics port: keep-alive, pipelined requests, HEAD and request bodies."""

import gzip
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


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "TRACE", "BREW", "get"])
def test_another_method_is_refused_with_those_there_are(port: int, method: str) -> None:
    for path in ("/metrics", "/health?x"):
        refused, last = talk(port, request(method, path), LAST)
        assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
        assert last.body == b"ok\n"
    missing, _ = talk(port, request(method, "/other"), LAST)
    assert missing.status == 404
    [with_body] = answers(exchange(port, request(method, "/metrics", body=LAST)), method)
    assert (with_body.status, with_body.headers["connection"]) == (405, "close")


def test_options_names_the_methods(port: int) -> None:
    paths = ("/metrics", "/metrics?name[]=x", "/health", "*")
    found = talk(port, *(request("OPTIONS", path) for path in paths), request("OPTIONS", "/other"), LAST)
    for answer in found[:-2]:
        assert (answer.status, answer.headers["allow"], answer.body) == (200, "GET, HEAD, OPTIONS", b"")
    assert found[-2].status == 404


def test_fields_that_are_sent_twice_count_as_one_list(port: int) -> None:
    accept = ("Accept: text/plain;q=0.1", "Accept: application/openmetrics-text", "Accept-Encoding: gzip;q=0")
    [got] = talk(port, request("GET", "/metrics", *accept, "Accept-Encoding: identity", CLOSE))
    assert got.body.endswith(b"# EOF\n")
    assert got.headers["content-type"].startswith("application/openmetrics-text")
    assert (got.headers["vary"], got.headers.get("content-encoding")) == ("Accept, Accept-Encoding", None)


def test_no_header_and_no_query_makes_a_scrape_fail(port: int) -> None:
    odd = [
        'Accept: application/openmetrics-text; version="1.0.0"',
        "Accept: application/openmetrics-text; version=abc; escaping=nonsense; q=nan",
        'Accept: text/plain;version="1.0.0, \\',
        "Accept: ;;,;q=,=;\xff\xfe",
        'Accept-Encoding: gzip;q=x, ;q=1, "',
    ]
    path = "/metrics?name[]=%ff&&=;%zz&name[]=x\xff"
    heads = [request("GET", path, header).decode().encode("latin-1") for header in odd]
    found = talk(port, *heads, LAST)
    assert [answer.status for answer in found] == [200] * len(found)


def test_name_restricts_a_scrape_to_samples_of_that_name(port: int) -> None:
    query = "/metrics?name%5B%5D=cache_hits_total&name[]=answer_seconds_sum&name[]=no_such_name"
    few, none, small = talk(
        port,
        request("GET", query),
        request("GET", "/metrics?name[]=no_such_name"),
        request("GET", query, "Accept-Encoding: gzip, identity;q=0", CLOSE),
    )
    lines = [line for line in few.body.decode().splitlines() if not line.startswith("#")]
    assert lines == ['answer_seconds_sum{operation="chat"} 0.3', 'cache_hits_total{cache="places"} 2.0']
    assert none.body == b""
    assert gzip.decompress(small.body) == few.body


@pytest.mark.parametrize(
    "line", [b"wayan@example.com /metrics HTTP/1.1", b"GET /wayan@example.com x HTTP/1.1", b"GET / wayan@example.com"]
)
def test_an_error_repeats_nothing_of_the_request(port: int, line: bytes) -> None:
    answer = exchange(port, line + b"\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer
    assert b"wayan" not in answer


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_body_that_nobody_wants_is_not_taken_for_the_next_request(port: int, method: str) -> None:
    with_body = request(method, "/health", body=LAST)
    [answer] = answers(exchange(port, with_body), method)
    assert (answer.status, answer.headers["connection"]) == (200, "close")
