"""A request with a body is admitted once the body has come. In this process."""

import socket

import pytest

from tests.monitoring.server.connections import CHUNKED, GET, Connected, Wire, connected, settle

HEAD = b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
LARGE_HEAD = HEAD.replace(b"9", b"200000")
EXPECTING = HEAD.replace(b"Host: x", b"Host: x\r\nExpect: 100-continue")
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
BODY = b"x" * 9


def in_flight(one: Connected) -> int:
    admission = one.state.admission
    assert admission is not None
    return admission.in_flight


async def test_a_client_that_does_not_send_its_body_takes_no_slot() -> None:
    async with connected(in_flight=1, queued=0) as one:
        for _ in range(5):
            one.connect(Wire()).data_received(HEAD)
        one.protocol.data_received(HEAD + BODY[:3])
        await settle()
        assert (one.application.started, in_flight(one)) == ([], 0)
        one.protocol.data_received(BODY[3:])
        await settle()
        assert (one.application.started, in_flight(one)) == (["/b"], 1)
        await one.answer(0)
        assert (one.application.bytes_read, in_flight(one)) == (9, 0)
        assert b"200 OK" in one.wire.written


@pytest.mark.parametrize(
    "request_",
    [
        HEAD + BODY,
        CHUNKED + b"1\r\nx\r\n0\r\n\r\n",
        HEAD.replace(b"9", b"0"),
        HEAD.replace(b"Content-Length: 9\r\n", b""),
        EXPECTING + BODY,
    ],
    ids=["length", "chunked", "no bytes", "no body", "sent at once"],
)
async def test_a_request_that_has_come_is_started_at_once(request_: bytes) -> None:
    async with connected(in_flight=1) as one:
        one.protocol.data_received(request_)
        assert in_flight(one) == 1
        await settle()
        await one.answer(0)
        assert b"200 OK" in one.wire.written
        assert one.wire.written.count(CONTINUE) <= 1
        assert one.protocol.idle


@pytest.mark.parametrize(("size", "started"), [(65_536, []), (65_537, ["/b"])])
async def test_a_large_body_is_admitted_before_its_end(size: int, started: list[str]) -> None:
    async with connected(in_flight=1) as one:
        one.protocol.data_received(LARGE_HEAD + b"x" * size)
        await settle()
        assert one.application.started == started
        one.protocol.data_received(b"x" * (200_000 - size))
        await settle()
        await one.answer(0)
        assert one.application.bytes_read == 200_000
        assert one.protocol.idle


@pytest.mark.parametrize("in_flight", [None, 1])
async def test_a_request_that_needs_no_slot_is_started_at_its_head(in_flight: int | None) -> None:
    path = b"/b" if in_flight is None else b"/health/b"
    async with connected(in_flight=in_flight) as one:
        one.protocol.data_received(EXPECTING.replace(b"/b", path))
        await settle()
        assert one.application.started == [path.decode()]
        assert one.wire.written == CONTINUE


async def test_an_expected_body_is_asked_for_while_a_slot_is_free() -> None:
    async with connected(in_flight=1) as one:
        one.protocol.data_received(EXPECTING)
        assert one.wire.written == CONTINUE
        await settle()
        assert (one.application.started, in_flight(one)) == ([], 0)
        one.protocol.data_received(BODY)
        await settle()
        await one.answer(0)
        assert one.application.bytes_read == 9
        assert one.wire.written.startswith(CONTINUE + b"HTTP/1.1 200 OK")


async def test_an_expected_body_is_not_asked_for_in_the_queue() -> None:
    client, connection = socket.socketpair()
    async with connected(in_flight=1) as one:
        with client, connection:
            one.protocol.data_received(GET)
            wire = Wire(connection)
            one.connect(wire).data_received(EXPECTING)
            await settle()
            assert wire.written == b""
            await one.answer(0)
            assert one.application.started == ["/a", "/b"]
            assert wire.written == CONTINUE


async def test_an_expected_body_is_not_asked_for_by_a_rejection() -> None:
    async with connected(in_flight=1, queued=0) as one:
        one.connect(Wire()).data_received(GET)
        one.protocol.data_received(EXPECTING)
        await settle()
        assert one.wire.written.startswith(b"HTTP/1.1 503 ")
        assert b"connection: close" in one.wire.written


@pytest.mark.parametrize("head", [HEAD, EXPECTING])
@pytest.mark.parametrize("before", [b"", GET])
async def test_a_body_that_does_not_come_is_refused(head: bytes, before: bytes) -> None:
    async with connected(in_flight=1) as one:
        one.protocol.data_received(before + head)
        await settle()
        started = list(one.application.started)
        if before:
            one.tick(9)
            await one.answer(0)
        one.tick(3)
        assert b"408" not in one.wire.written
        one.tick(2)
        assert b"408 Request Timeout" in one.wire.written
        one.protocol.data_received(BODY)
        await settle()
        assert (one.application.started, in_flight(one)) == (started, 0)


@pytest.mark.parametrize("head", [HEAD, EXPECTING])
async def test_a_body_behind_another_request_is_awaited_after_it(head: bytes) -> None:
    async with connected(in_flight=1) as one:
        one.protocol.data_received(GET + head)
        await settle()
        assert CONTINUE not in one.wire.written
        await one.answer(0)
        assert (one.application.started, in_flight(one)) == (["/a"], 0)
        assert (one.wire.written.count(CONTINUE), one.wire.reads) == (int(head is EXPECTING), True)
        one.protocol.data_received(BODY + GET)
        await settle()
        await one.answer(1)
        await one.answer(2)
        assert one.application.started == ["/a", "/b", "/a"]
        assert one.wire.written.count(b"200 OK") == 3


async def test_a_body_that_comes_while_the_request_before_is_running_is_admitted_after_it() -> None:
    async with connected(in_flight=1) as one:
        one.protocol.data_received(GET + HEAD + BODY[:1])
        await settle()
        one.protocol.data_received(BODY[1:])  # had been read before reading was paused
        await settle()
        await one.answer(0)
        assert one.application.started == ["/a", "/b"]


async def test_a_client_that_leaves_before_its_body_has_come_is_forgotten() -> None:
    async with connected(in_flight=1) as one:
        one.protocol.data_received(HEAD)
        one.wire.close()
        one.protocol.connection_lost(None)
        await settle()
        assert (one.application.started, in_flight(one)) == ([], 0)


async def test_a_malformed_body_is_refused_before_the_request_is_admitted() -> None:
    async with connected(in_flight=1) as one:
        one.protocol.data_received(CHUNKED)
        one.protocol.data_received(b"no chunk\r\n")
        await settle()
        assert b"400 Bad Request" in one.wire.written
        assert one.application.started == []


async def test_a_connection_that_waits_for_a_body_is_neither_idle_nor_closed_at_a_stop() -> None:
    async with connected(in_flight=1) as one:
        one.protocol.data_received(HEAD)
        assert not one.protocol.idle
        assert not one.protocol.waits
        one.protocol.shutdown()
        assert not one.wire.closed
        one.protocol.data_received(BODY)
        await settle()
        await one.answer(0)
        assert b"200 OK" in one.wire.written
        assert b"connection: close" in one.wire.written
        assert one.wire.closed
