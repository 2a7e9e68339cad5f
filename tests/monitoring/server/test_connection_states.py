"""States of a connection between the limits, the pipeline and the admission of requests."""

import asyncio
import contextlib
import socket
import struct

import pytest

from app.monitoring.server.flow import PIECE_BYTES
from app.monitoring.server.limited_protocol import LINGER_SECONDS
from app.monitoring.server.limits import Limits
from tests.monitoring.server.connections import CHUNKED, GET, Wire, connected, settle

UPGRADE = b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


async def test_a_client_that_stops_reading_is_cut_off_while_its_request_waits_to_send() -> None:
    async with connected() as one:
        one.protocol.data_received(GET)
        await settle()
        one.wire.unsent = 100_000
        one.protocol.pause_writing()
        one.tick(4)
        assert not one.wire.aborted
        one.tick(1)
        assert one.wire.aborted


@pytest.mark.parametrize("keep_alive", [1, 75])
async def test_the_keep_alive_time_does_not_end_an_unread_response(keep_alive: int) -> None:
    async with connected() as one:
        one.protocol.timeout_keep_alive = keep_alive
        one.protocol.data_received(GET)
        await settle()
        one.wire.unsent = 100_000
        await one.answer(0)
        one.tick(4)
        assert not one.wire.closed
        one.tick(1)
        assert one.wire.aborted


async def test_the_keep_alive_time_begins_when_the_response_has_been_read() -> None:
    async with connected() as one:
        one.protocol.timeout_keep_alive = 2
        one.protocol.data_received(GET)
        await settle()
        await one.answer(0)
        for unsent in range(20, -1, -1):
            one.wire.unsent = unsent
            one.tick(1)
        one.tick(1)
        assert not one.wire.closed
        one.tick(1)
        assert one.wire.closed
        assert not one.wire.aborted


async def test_a_client_of_an_old_worker_has_its_time_to_read() -> None:
    async with connected() as one:
        one.state.clock = 1000
        wire = Wire()
        one.protocol = one.connect(wire)
        one.protocol.data_received(GET)
        await settle()
        wire.unsent = 100_000
        one.protocol.pause_writing()
        one.tick(4)
        assert not wire.aborted
        one.tick(1)
        assert wire.aborted


async def test_a_client_that_reads_slowly_is_not_cut_off() -> None:
    async with connected() as one:
        one.protocol.data_received(GET)
        await settle()
        one.protocol.pause_writing()
        for unsent in range(100_000, 99_980, -1):
            one.wire.unsent = unsent
            one.tick(1)
        assert not one.wire.aborted


async def test_a_client_that_reads_from_the_kernel_only_is_not_cut_off() -> None:
    client, connection = socket.socketpair()
    with client, connection:
        connection.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                connection.send(b"x" * 1000)
        wire = Wire(connection)
        async with connected() as one:
            one.protocol = one.connect(wire)
            one.protocol.data_received(GET)
            wire.unsent = 100_000  # the event loop does not write before more of the kernel's buffer is free
            for _ in range(20):
                client.recv(1000)
                one.tick(1)
            assert not wire.aborted
            one.tick(5)
            assert wire.aborted


async def test_a_connection_that_closes_with_unsent_bytes_is_cut_off() -> None:
    async with connected() as one:
        one.wire.unsent = 5
        one.wire.close()
        one.tick(5)
        assert one.wire.aborted


async def test_a_request_with_another_behind_it_learns_that_the_client_has_gone() -> None:
    async with connected() as one:
        one.protocol.data_received(GET + GET)
        await settle()
        one.wire.close()
        one.protocol.connection_lost(ConnectionResetError())
        await settle()
        assert one.application.left == ["/a"]


@pytest.mark.parametrize("in_flight", [None, 1])
async def test_a_request_that_is_refused_before_it_starts_is_not_run(in_flight: int | None) -> None:
    async with connected(in_flight=in_flight) as one:
        one.protocol.data_received(GET + CHUNKED)
        await settle()
        one.application.gates[0].set()
        while b"200 OK" not in one.wire.written:  # noqa: ASYNC110 -- the parts of one round are the point
            await asyncio.sleep(0)
        one.protocol.data_received(b"no chunk\r\n")
        await settle()
        assert b"400 Bad Request" in one.wire.written
        assert one.application.started == (["/a", "/b"] if in_flight is None else ["/a"])


async def test_a_refusal_behind_a_shed_request_is_sent() -> None:
    async with connected(in_flight=1) as one:
        other = one.connect(Wire())
        other.data_received(GET)  # holds the only slot
        one.protocol.data_received(GET + CHUNKED + b"1\r\nx\r\n")
        admission = one.state.admission
        assert admission is not None
        admission._timeout = 0.0
        admission._expire()
        one.protocol.data_received(b"no chunk\r\n")
        await settle()
        assert b"503 Service Unavailable" in one.wire.written
        assert b"400 Bad Request" in one.wire.written
        assert one.wire.ended


async def test_a_websocket_behind_an_unanswered_request_is_not_opened() -> None:
    async with connected() as one:
        one.protocol.data_received(GET + UPGRADE)
        await settle()
        await one.answer(0)
        assert one.application.started == ["/a", "/ws"]
        assert b"101" not in one.wire.written


async def test_the_head_of_a_request_has_no_deadline_while_the_one_before_is_not_answered() -> None:
    async with connected() as one:
        one.protocol.data_received(GET + GET + b"GET /c HTTP")
        await settle()
        one.protocol.flow.pause_reading()  # this application reads, which resumes it
        one.tick(10)
        await one.answer(0)
        await one.answer(1)
        assert one.wire.written.count(b"200 OK") == 2
        assert b"408" not in one.wire.written


async def test_a_connection_that_was_told_to_close_ends_with_the_body_of_an_answered_request() -> None:
    async with connected() as one:
        one.protocol.data_received(CHUNKED + b"1\r\nx\r\n")
        await settle()
        await one.answer(0)
        assert not one.wire.closed
        one.protocol.shutdown()
        one.protocol.data_received(b"0\r\n\r\n")
        await settle()
        assert one.wire.closed


async def test_a_refused_request_does_not_ask_for_its_body() -> None:
    async with connected() as one:
        one.protocol.data_received(CHUNKED.replace(b"Host: x", b"Host: x\r\nExpect: 100-continue") + b"no chunk\r\n")
        await settle()
        assert b"400 Bad Request" in one.wire.written
        assert one.application.left == ["/b"]
        assert b"100 Continue" not in one.wire.written


@pytest.mark.parametrize("beyond", [-40, 20])
@pytest.mark.parametrize("cut", [10, 3000, 65_536])
async def test_the_size_of_a_head_does_not_depend_on_the_message_before(beyond: int, cut: int) -> None:
    async with connected(Limits(max_header_bytes=65_536)) as one:
        one.protocol.data_received(b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n")
        await settle()
        await one.answer(0)
        sent = b"c" * 100 + GET[:-2] + b"A: " + b"x" * (65_536 + beyond) + b"\r\n\r\n"
        one.protocol.data_received(sent[: 100 + cut])
        one.protocol.data_received(sent[100 + cut :])
        await settle()
        assert one.application.started == ["/b", "/a"][: 1 + (beyond < 0)]
        assert (b"431" in one.wire.written) == (beyond > 0)


async def test_a_head_of_the_limit_is_accepted_before_its_body_comes() -> None:
    async with connected(Limits(max_header_bytes=65_536)) as one:
        one.protocol.data_received(CHUNKED[:-2] + b"A: " + b"x" * (65_536 - 40) + b"\r\n\r\n")
        await settle()
        assert one.application.started == ["/b"]
        assert one.wire.written == b""


async def test_a_head_that_does_not_end_is_refused_near_the_limit() -> None:
    async with connected(Limits(max_header_bytes=65_536)) as one:
        one.protocol.data_received(b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nab")
        await settle()
        await one.answer(0)
        head = GET[:-2] + b"A: "
        one.protocol.data_received(b"c" + head + b"x" * (65_536 + PIECE_BYTES + 1 - len(head)))
        await settle()
        assert b"431" in one.wire.written


async def test_a_refusal_does_not_cut_the_response_before_it() -> None:
    async with connected() as one:
        one.protocol.data_received(GET)
        await settle()
        await one.answer(0)
        one.wire.unsent = 5_000_000
        one.protocol.data_received(b"no request\r\n\r\n")
        for _ in range(5 * LINGER_SECONDS):
            one.wire.unsent -= 100_000
            one.tick(1)
        assert not one.wire.aborted
        one.wire.unsent = 0
        one.tick(LINGER_SECONDS)
        assert not one.wire.aborted
        one.tick(1)
        assert one.wire.aborted


async def test_a_rejection_does_not_cut_the_response_before_it() -> None:
    async with connected(in_flight=1, queued=0) as one:
        one.connect(Wire()).data_received(GET)
        one.wire.unsent = 5_000_000
        one.protocol.data_received(CHUNKED + b"11170\r\n" + b"x" * 70_000 + b"\r\n0\r\n\r\n" + GET)
        await settle()
        assert one.wire.written.count(b"503 Service Unavailable") == 1
        for _ in range(5 * LINGER_SECONDS):
            one.wire.unsent -= 100_000
            one.tick(1)
        assert not one.wire.closed
        one.wire.unsent = 0
        one.tick(LINGER_SECONDS + 1)
        assert one.wire.aborted
        assert one.application.started == ["/a"]


@pytest.mark.parametrize("in_flight", [None, 1])
@pytest.mark.parametrize(("how", "started"), [("resets", []), ("ends its side", ["/a"])])
async def test_the_first_request_of_a_client_that_has_reset_is_not_run(
    in_flight: int | None, how: str, started: list[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    with accepted, client:
        if how == "resets":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        else:
            client.shutdown(socket.SHUT_WR)
        async with connected(in_flight=in_flight) as one:
            wire = Wire(accepted)
            one.connect(wire).data_received(GET)
            await settle()
            assert one.application.started == started
            assert wire.aborted is (how == "resets")
