"""The writes of a response: one for the head and the first piece of the body, none that waits for a late piece."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from httptools import parse_url
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.config import Config

from app.monitoring.server.protocol import Protocol
from app.monitoring.server.request_head import split_target
from app.monitoring.server.response_cycle import MAX_JOINED_BYTES
from app.monitoring.server.server_state import ServerState
from tests.monitoring.server.connections import PAIR

Send = Callable[[dict[str, Any]], Awaitable[None]]
START = {"type": "http.response.start", "status": 200, "headers": [(b"Content-Length", b"5")]}
STREAM = {"type": "http.response.start", "status": 200, "headers": []}
GET, HEAD = (f"{method} / HTTP/1.1\r\nHost: x\r\n\r\n".encode() for method in ("GET", "HEAD"))


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__({"sockname": ("127.0.0.1", 1), "peername": ("127.0.0.1", 2), "socket": PAIR[0]})
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        if data:
            self.writes.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def get_write_buffer_size(self) -> int:
        return 0


def body(data: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def answered(application: Callable[[Send], Awaitable[Any]], request: bytes = GET) -> Wire:
    """Return the connection on which `application` has answered."""

    async def app(_scope: Any, _receive: Any, send: Send) -> Any:
        return await application(send)

    config: Any = Config(app, log_config=None, lifespan="off")
    config.load()
    config.loaded_app = app
    state, wire = ServerState(), Wire()
    protocol = Protocol(config, state, {})
    protocol.connection_made(wire)
    protocol.data_received(request)
    await asyncio.gather(*state.tasks)
    await asyncio.sleep(0)
    return wire


async def test_head_and_body_leave_in_one_write() -> None:
    async def application(send: Send) -> None:
        await send(START)
        await send(body(b"hello"))

    (written,) = (await answered(application)).writes
    assert written == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


async def test_the_first_piece_of_a_stream_leaves_with_the_head() -> None:
    async def application(send: Send) -> None:
        await send(STREAM)
        await send(body(b"one", more=True))
        await send(body(b"", more=True))
        await send(body(b"two"))

    first, second = (await answered(application)).writes
    assert first == b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n"
    assert second == b"3\r\ntwo\r\n0\r\n\r\n"


async def test_a_head_does_not_wait_for_a_late_piece() -> None:
    came, wires = asyncio.Event(), []

    async def application(send: Send) -> None:
        await send(START)
        await came.wait()
        await send(body(b"hello"))

    answer = asyncio.create_task(answered(application))
    for _ in range(4):
        await asyncio.sleep(0)
    assert not answer.done()
    came.set()
    wires = (await answer).writes
    assert wires == [b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", b"hello"]


async def test_a_large_piece_is_not_copied() -> None:
    large = b"x" * (MAX_JOINED_BYTES + 1)

    async def application(send: Send) -> None:
        await send({**STREAM, "headers": [(b"content-length", str(len(large)).encode())]})
        await send(body(large))

    assert (await answered(application)).writes[1] == large


async def test_a_response_to_head_has_a_head_only() -> None:
    async def application(send: Send) -> None:
        await send(START)
        await send(body(b"hello"))

    assert (await answered(application, HEAD)).writes == [b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"]


@pytest.mark.parametrize("pieces", [[], [body(b"hel", more=True)], [body(b"hello!")], [body(b"hell")]])
async def test_a_response_that_is_not_completed_is_cut_after_its_head(pieces: list[dict[str, Any]]) -> None:
    async def application(send: Send) -> None:
        await send(START)
        for piece in pieces:
            await send(piece)

    wire = await answered(application)
    assert b"".join(wire.writes).startswith(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")
    assert wire.closed


@pytest.mark.parametrize("headers", [[(b"a b", b"c")], [(b"a", b"b\r\nc: d")]], ids=["name", "value"])
async def test_a_header_that_is_none_is_not_sent(headers: list[tuple[bytes, bytes]]) -> None:
    async def application(send: Send) -> None:
        await send({**START, "headers": headers})

    wire = await answered(application)
    assert (wire.writes, wire.closed) == ([], True)


@pytest.mark.parametrize(("sent", "closed"), [(b"", True), (b"he", True), (b"hello", False)])
async def test_a_response_without_100_continue_closes_the_connection(sent: bytes, *, closed: bool) -> None:
    async def application(send: Send) -> None:
        await send(START)
        await send(body(b"hello"))

    head = b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    wire = await answered(application, head + sent)
    assert (b"connection: close" in wire.writes[0], wire.closed) == (closed, closed)


@pytest.mark.parametrize("end", ["raise", "return", "send"])
async def test_an_application_that_fails_after_its_response_leaves_the_connection_open(end: str) -> None:
    async def application(send: Send) -> Any:
        await send(START)
        await send(body(b"hello"))
        if end == "raise":
            raise ValueError
        if end == "send":
            await send(body(b"hello"))
        return end

    wire = await answered(application)
    assert wire.writes == [b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"]
    assert not wire.closed


async def test_an_application_without_an_answer_is_500() -> None:
    async def application(_send: Send) -> None:
        raise ValueError

    (written,) = (await answered(application)).writes
    assert written.startswith(b"HTTP/1.1 500 ")
    assert b"connection: close" in written


@settings(deadline=None)  # compares, does not measure
@given(st.from_regex(r"/[!-~]{0,40}", fullmatch=True))
def test_a_target_is_split_as_by_the_library(target: str) -> None:
    url = target.encode()
    parsed = parse_url(url)
    assert split_target(url)[1:] == (parsed.path, parsed.query or b"")
