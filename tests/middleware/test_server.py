"""The observing layer on a real uvicorn: disconnects, keep-alive, pipelining and shutdown."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request, WebSocket
from opentelemetry import baggage, trace
from starlette.responses import StreamingResponse
from structlog.testing import capture_logs
from websockets.asyncio.client import connect

from tests.middleware.applications import TELEMETRY, Records

HTTP: list[Literal["httptools", "h11"]] = ["httptools", "h11"]
Requests = dict[tuple[str, str, str], float]


@dataclass
class House:
    """An application whose blocking handlers set `entered` and wait for `free`."""

    records: Records = field(default_factory=Records)
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    free: asyncio.Event = field(default_factory=asyncio.Event)
    seen: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)

    def application(self) -> FastAPI:
        app = FastAPI(telemetry=TELEMETRY)
        for path in ("/wait", "/drip", "/read", "/show"):
            app.add_api_route(path, getattr(self, path[1:]), methods=["GET", "POST"])
        app.add_api_websocket_route("/ws", self.socket)
        observed: FastAPI = self.records.observe(app)
        return observed

    async def wait(self) -> str:
        self.entered.set()
        await self.free.wait()
        return "done"

    async def drip(self) -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            yield b"one"
            self.entered.set()
            await self.free.wait()
            yield b"two"

        return StreamingResponse(parts())

    async def read(self, request: Request) -> int:
        self.entered.set()
        return len(await request.body())

    async def show(self, request: Request) -> str:
        context = trace.get_current_span().get_span_context()
        self.seen.append((request.scope["request_id"], f"{context.trace_id:032x}", dict(baggage.get_all())))
        return "shown"

    async def socket(self, socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(socket.scope["request_id"])
        await socket.receive_text()

    async def counted(self) -> Requests:
        """Wait until a request is counted and return the counts."""
        while not self.records.requests():  # noqa: ASYNC110 -- the registry sets no event
            await asyncio.sleep(0.001)
        return self.records.requests()


@asynccontextmanager
async def serving(house: House, http: Literal["httptools", "h11"], **options: Any) -> AsyncIterator[tuple[Any, int]]:
    """Yield a running server of the application, and its port."""
    config = uvicorn.Config(
        house.application(), port=0, http=http, log_config=None, lifespan="off", access_log=False, **options
    )
    server = uvicorn.Server(config)
    server.capture_signals = nullcontext  # type: ignore[method-assign, assignment]
    running = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 -- uvicorn sets no event
        await asyncio.sleep(0.001)
    try:
        yield server, server.servers[0].sockets[0].getsockname()[1]
    finally:
        house.free.set()
        server.should_exit = True
        await running


async def leave(port: int, request: bytes, entered: asyncio.Event) -> None:
    """Send `request`, wait for its handler, and close the connection."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    await entered.wait()
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("http", HTTP)
async def test_a_client_that_leaves_in_mid_stream_is_499(http: Any) -> None:
    house = House()
    async with serving(house, http) as (_, port):
        await leave(port, b"GET /drip HTTP/1.1\r\nhost: x\r\n\r\n", house.entered)
        assert await house.counted() == {("GET", "499", "/drip"): 1}


@pytest.mark.parametrize("http", HTTP)
async def test_a_client_that_leaves_while_its_body_is_read_is_499(http: Any) -> None:
    house = House()
    async with serving(house, http) as (_, port):
        request = b"POST /read HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf"
        await leave(port, request, house.entered)
        assert await house.counted() == {("POST", "499", "/read"): 1}


@pytest.mark.parametrize("http", HTTP)
async def test_a_client_whose_going_nobody_asks_about_is_counted_by_the_answer(http: Any) -> None:
    house = House()
    async with serving(house, http) as (server, port):
        await leave(port, b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n", house.entered)
        while server.server_state.connections:  # noqa: ASYNC110 -- uvicorn sets no event
            await asyncio.sleep(0.001)
        house.free.set()
        assert await house.counted() == {("GET", "200", "/wait"): 1}


@pytest.mark.parametrize("http", HTTP)
@pytest.mark.parametrize("path", ["/wait", "/drip"])
async def test_a_request_that_a_shutdown_cuts_short_is_500(http: Any, path: str) -> None:
    house = House()
    with capture_logs() as lines:
        async with serving(house, http, timeout_graceful_shutdown=0) as (server, port):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            await house.entered.wait()
            server.should_exit = True
            counted = await house.counted()
            writer.close()
    assert counted == {("GET", "500", path): 1}
    assert [line["status"] for line in lines if line["event"] == "request"] == [500]


@pytest.mark.parametrize("http", HTTP)
async def test_requests_that_are_sent_in_one_go_share_nothing(http: Any) -> None:
    house, trace_id = House(), "4bf92f3577b34da6a3ce929d0e0e4736"
    async with serving(house, http) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        first = (
            b"GET /show HTTP/1.1\r\nhost: x\r\nx-request-id: 0ddba115\r\nbaggage: who=me\r\n"
            b"traceparent: 00-%s-00f067aa0ba902b7-01\r\n\r\n" % trace_id.encode()
        )
        last = b"GET /show HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        writer.write(first + last.replace(b"connection: close\r\n", b"") + last)
        await reader.read()
        writer.close()
    assert house.seen[0] == ("0ddba115", trace_id, {"who": "me"})
    assert len({request_id for request_id, _, _ in house.seen}) == 3
    assert len({trace_id for _, trace_id, _ in house.seen}) == 3
    assert [found for _, _, found in house.seen[1:]] == [{}, {}]
    assert [span.parent is None for span in house.records.spans()] == [False, True, True]


async def test_requests_on_one_connection_share_nothing() -> None:
    house = House()
    async with (
        serving(house, "httptools") as (_, port),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        for _ in range(3):
            assert (await client.get("/show")).status_code == 200
    assert len({request_id for request_id, _, _ in house.seen}) == 3
    assert len({trace_id for _, trace_id, _ in house.seen}) == 3


@pytest.mark.parametrize("ws", ["websockets-sansio", "wsproto"])
async def test_a_websocket_of_a_real_client(ws: str) -> None:
    house = House()
    with capture_logs() as lines:
        async with serving(house, "httptools", ws=ws) as (_, port):
            headers = {"X-Request-ID": "5eedc0de"}
            async with connect(f"ws://127.0.0.1:{port}/ws", additional_headers=headers) as socket:
                assert socket.response is not None
                assert socket.response.headers.get_all("x-request-id") == ["5eedc0de"]
                assert await socket.recv() == "5eedc0de"
    (line,) = [line for line in lines if line["event"] == "websocket"]
    assert (line["route"], line["status"], line["code"]) == ("/ws", 101, 1000)
    assert house.records.requests() == {}
    assert [span.name for span in house.records.spans()] == ["GET /ws"]


async def test_a_head_that_is_refused_has_an_id_and_is_counted() -> None:
    house = House()
    async with (
        serving(house, "httptools") as (_, port),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        answer = await client.head("/show")
        assert answer.status_code == 405
        assert answer.headers["x-request-id"]
    assert house.records.requests() == {("HEAD", "405", "/show"): 1}
