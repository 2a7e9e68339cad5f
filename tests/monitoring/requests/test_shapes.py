"""Applications of all shapes inside the layer: they behave as before, and each request has its route."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException, WebSocket
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from structlog.contextvars import bind_contextvars
from structlog.testing import capture_logs
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.middleware.applications import HERE, TELEMETRY, Records, named
from tests.monitoring.requests.served import served

pytestmark = pytest.mark.usefixtures("maker")
SPAN_OF_A_WEBSOCKET = {"layer": "GET /talk/{room}", "instrumentation": "HTTP /talk/{room}"}
ORIGIN = {"origin": "https://shop.example"}


async def thing(thing: str) -> str:
    if thing == "broken":
        raise LookupError(thing)
    return thing


def house() -> FastAPI:
    """Return a new application with the same route."""
    app = FastAPI(telemetry=TELEMETRY)
    app.add_api_route("/things/{thing}", thing)
    return app


MODULE_LEVEL = {"layer": house(), "instrumentation": house()}


def counted(status: int, handler: str = "/things/{thing}", method: str = "GET") -> dict[tuple[str, str, str], float]:
    return {(method, str(status), handler): 1}


async def test_an_application_of_a_module_is_observed_after_its_routes_are_made() -> None:
    records = Records()
    async with served(records.observe(MODULE_LEVEL[records.maker])) as client:
        assert (await client.get("/things/lamp")).headers["x-request-id"]
    assert records.requests() == counted(200)


async def test_what_is_added_after_the_layer_is_inside_it() -> None:
    records, app = Records(), FastAPI(telemetry=TELEMETRY)
    records.observe(app)
    app.add_api_route("/things/{thing}", thing)
    app.add_middleware(GZipMiddleware, minimum_size=1)
    async with served(app) as client:
        answer = await client.get("/things/lamp")
    assert answer.headers["content-encoding"] == "gzip"
    assert records.requests() == counted(200)
    sent = records.registry.get_sample_value("http_response_size_bytes_sum", {"handler": "/things/{thing}"})
    assert sent == int(answer.headers["content-length"])


async def test_a_lifespan_is_not_needed() -> None:
    records = Records()
    async with served(records.observe(house()), lifespan="off") as client:
        await client.get("/things/lamp")
    assert records.requests() == counted(200)


async def test_root_path_is_no_part_of_the_route() -> None:
    records, app = Records(), house()
    app.mount("/x", house())
    async with served(records.observe(app), root_path="/api") as client:
        for path in ("/things/lamp", "/x/things/lamp"):
            assert (await client.get(path)).status_code == 200
    assert records.requests() == {**counted(200), **counted(200, "/x/things/{thing}")}


@pytest.mark.parametrize("outer", [Starlette, FastAPI])
async def test_a_layer_inside_a_mounted_application_knows_the_whole_route(outer: Any) -> None:
    records, app, inner = Records(), outer(), house()
    app.mount("/x/{tenant}", records.observe(inner))
    with capture_logs():
        async with served(app) as client:
            assert (await client.get("/x/7/things/lamp")).json() == "lamp"
            broken = await client.get("/x/7/things/broken")
    assert broken.headers["content-type"] == "application/problem+json"
    route = "/x/{tenant}/things/{thing}"
    assert records.requests() == {**counted(200, route), **counted(500, route)}


async def test_a_layer_inside_a_mounted_application_that_is_in_no_router_knows_its_own_route() -> None:
    records = Records()
    inner = records.observe(house())

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await inner(scope, receive, send)

    async with served(app, lifespan="off") as client:
        await client.get("/things/lamp")
    assert records.requests() == counted(200)


async def test_layers_of_an_application_and_of_one_mounted_in_it_count_once() -> None:
    records, app = Records(), FastAPI(telemetry=TELEMETRY)
    inside = Records()
    app.mount("/x", inside.observe(house()))
    with capture_logs() as lines:
        async with served(records.observe(app)) as client:
            for name in ("lamp", "broken"):
                await client.get(f"/x/things/{name}")
    assert records.requests() == {**counted(200, "/x/things/{thing}"), **counted(500, "/x/things/{thing}")}
    assert inside.requests() == {}
    assert [line["event"] for line in lines] == ["request", "unhandled_error", "request"]


class Binding(BaseHTTPMiddleware):
    """A middleware of the application, of the usual kind."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        bind_contextvars(shop="bali")
        answer = await call_next(request)
        answer.headers["x-own"] = request.scope["request_id"]
        return answer


@pytest.mark.parametrize(("name", "status"), [("lamp", 200), ("broken", 500)])
async def test_an_own_base_http_middleware_works(name: str, status: int) -> None:
    records, app = Records(), house()
    app.add_middleware(Binding)
    with capture_logs() as lines:
        async with served(records.observe(app)) as client:
            answer = await client.get(f"/things/{name}")
    assert answer.status_code == status
    assert answer.headers.get("x-own", answer.headers["x-request-id"]) == answer.headers["x-request-id"]
    assert records.requests() == counted(status)
    assert [line["event"] for line in lines].count("unhandled_error") == (status == 500)


async def test_cors_answers_as_without_the_layer() -> None:
    answers = []
    for observed in (False, True):
        app = house()
        app.add_middleware(CORSMiddleware, allow_origins=[ORIGIN["origin"]])

        @app.get("/refused")
        async def refused() -> None:
            raise HTTPException(403)

        with capture_logs():
            async with served(Records().observe(app) if observed else app) as client:
                preflight = {**ORIGIN, "access-control-request-method": "GET"}
                found = [
                    await client.options("/things/lamp", headers=preflight),
                    await client.get("/things/lamp", headers=ORIGIN),
                    await client.get("/refused", headers=ORIGIN),
                    await client.get("/things/broken", headers=ORIGIN),
                ]
        answers.append([(answer.status_code, answer.headers.get("access-control-allow-origin")) for answer in found])
    assert answers[0] == answers[1]
    assert [allowed for _, allowed in answers[1][:3]] == [ORIGIN["origin"]] * 3


async def test_static_files_have_the_route_of_their_mount() -> None:
    records, app = Records(), house()
    app.mount("/static", StaticFiles(directory=HERE))
    async with served(records.observe(app)) as client:
        assert (await client.get("/static/wire.py")).status_code == 200
        assert (await client.get("/static/nothing.py")).status_code == 404
    assert records.requests() == {**counted(200, "/static"), **counted(404, "/static")}


async def test_server_sent_events_arrive_one_by_one() -> None:
    records, app = Records(), house()

    async def events() -> AsyncIterator[str]:
        for number in range(2):
            yield f"data: {number}\n\n"
            assert records.requests() == {}, "the request lasts"

    @app.get("/events")
    async def stream() -> StreamingResponse:
        return StreamingResponse(events(), media_type="text/event-stream")

    async with served(records.observe(app)) as client, client.stream("GET", "/events") as answer:
        lines = [line async for line in answer.aiter_lines() if line]
    assert lines == ["data: 0", "data: 1"]
    assert records.requests() == counted(200, "/events")


@pytest.mark.parametrize("fails", [False, True])
async def test_a_websocket_has_its_span_and_its_line(*, fails: bool) -> None:
    records, app = Records(), house()

    @app.websocket("/talk/{room}")
    async def talk(socket: WebSocket, room: str) -> None:
        await socket.accept()
        if fails:
            raise LookupError(room)
        await socket.send_text(room)
        await socket.close()

    with capture_logs() as lines:
        async with served(records.observe(app)) as client:
            socket = await connect(f"ws://{client.base_url.host}:{client.base_url.port}/talk/blue", proxy=None)
            if fails:
                with pytest.raises(ConnectionClosed):
                    await socket.recv()
            else:
                assert await socket.recv() == "blue"
            await socket.close()
    events = [line["event"] for line in lines]
    assert events == ["unhandled_error", "websocket"] if fails else ["websocket"]
    assert lines[-1]["route"] == "/talk/{room}"
    assert [span.name for span in records.spans()] == [SPAN_OF_A_WEBSOCKET[records.maker]]


async def test_a_websocket_of_a_mounted_application_with_the_layer_has_the_whole_route() -> None:
    records, app, inner = Records(), FastAPI(telemetry=TELEMETRY), house()

    @inner.websocket("/talk/{room}")
    async def talk(socket: WebSocket, room: str) -> None:
        await socket.accept()
        await socket.send_text(room)

    app.mount("/x", records.observe(inner))
    with capture_logs() as lines:
        async with served(app) as client:
            socket = await connect(f"ws://{client.base_url.host}:{client.base_url.port}/x/talk/blue", proxy=None)
            assert await socket.recv() == "blue"
            await socket.close()
    assert [line["route"] for line in lines] == ["/x/talk/{room}"]


async def test_mounts_in_mounts_of_starlette_are_named_whole() -> None:
    records = Records()
    app = Starlette(routes=[Mount("/a", routes=[Mount("/{b}", routes=[Route("/c/{d}", named)])])])
    async with served(records.observe(app)) as client:
        assert (await client.get("/a/1/c/2")).status_code == 200
    assert records.requests() == counted(200, "/a/{b}/c/{d}")
