"""Offers to upgrade: one to websocket is taken, others are ignored and the body is read (RFC 9110, 7.8)."""

from collections.abc import Iterator

import pytest
from websockets.sync.client import connect as connect_websocket

from tests.process.limited import LAST, connect, limited, only_answer
from tests.process.raw import answers, exchange, request
from tests.process.service import Service

# JDK's HttpClient sends the first by default, as does curl --http2.
OFFERS = [
    pytest.param(("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAA"), id="h2c"),
    pytest.param(("Connection: Upgrade", "Upgrade: TLS/1.2"), id="TLS"),
    pytest.param(("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"), id="websocket"),
]
BODY = b'{"name": "Ubud"}'
NEXT = request("GET", "/pid", LAST)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with limited(tmp_path_factory.mktemp("upgrades"), KEEPALIVE="5") as started:
        yield started


@pytest.mark.parametrize("offer", OFFERS)
def test_the_body_behind_an_offer_is_read_and_the_connection_goes_on(running: Service, offer: tuple[str, ...]) -> None:
    post = request("POST", "/echo", *offer, body=BODY)
    chunked = request("POST", "/echo", *offer, "Transfer-Encoding: chunked") + b"10\r\n" + BODY + b"\r\n0\r\n\r\n"
    got = request("GET", "/path", *offer[:-1], "Upgrade: h2c")
    received = exchange(running.port, post, chunked, got, post, NEXT)
    found = answers(received, "POST", "POST", "GET", "POST", "GET")
    assert [answer.status for answer in found] == [200] * 5
    assert [answer.body for answer in found[:4]] == [BODY, BODY, b"/path", BODY]
    assert {answer.headers["x-upgrade"] for answer in (found[0], found[1], found[3])} == {"none"}


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("coding", ["length", "chunked"])
def test_the_body_behind_an_offer_comes_in_segments(running: Service, offer: tuple[str, ...], coding: str) -> None:
    if coding == "length":
        sent = request("POST", "/echo", *offer, LAST, body=BODY)
    else:
        sent = request("POST", "/echo", *offer, LAST, "Transfer-Encoding: chunked")
        sent += b"10\r\n" + BODY + b"\r\n0\r\n\r\n"
    head, separator, body = sent.partition(b"\r\n\r\n")
    for cut in (len(head) - 3, len(head + separator), len(head + separator) + 5):
        connection = connect(running, sent[:cut])
        # The server has read the first part once it has answered on another connection.
        assert answers(exchange(running.port, NEXT), "GET")[0].status == 200
        connection.sendall(sent[cut:])
        answer = only_answer(connection, "POST")
        assert (answer.status, answer.body) == (200, BODY), cut
    assert body


def test_many_offers_in_one_segment_are_answered(running: Service) -> None:
    one = request("GET", "/path", "Connection: Upgrade", "Upgrade: h2c")
    received = exchange(running.port, *[one] * 300, NEXT)
    assert {answer.status for answer in answers(received, *["GET"] * 301)} == {200}


def test_an_offer_to_websocket_on_a_get_is_taken(running: Service) -> None:
    with connect_websocket(f"ws://127.0.0.1:{running.port}/ws") as websocket:
        websocket.send("hello")
        assert websocket.recv() == "hello"
