"""The observing layer around test applications."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import httpx
import pytest
import structlog
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from app.main import create_app
from app.middleware.body_limit import BodyLimitMiddleware
from app.middleware.middleware import MIDDLEWARE, add_layers
from app.monitoring.addresses import embedded_address
from app.monitoring.redaction import sanitised_address
from app.monitoring.requests.layer import ObservingMiddleware
from app.settings import Settings
from tests.fixtures import running

SCOPE: Scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "client": ("198.51.100.7", 1)}


async def show(request: Request) -> JSONResponse:
    """Respond with the request id and peer that the layer puts into the scope."""
    structlog.get_logger().info("in the handler")
    return JSONResponse({"request_id": request.scope["request_id"], "peer": list(request.scope["peer"] or [])})


async def half(_request: Request) -> StreamingResponse:
    """Stream a response that fails after its first chunk."""

    async def body() -> AsyncIterator[bytes]:
        yield b"half"
        raise LookupError("in the middle")

    return StreamingResponse(body())


async def boom(_request: Request) -> JSONResponse:
    raise LookupError("before the start")


APP = ObservingMiddleware(
    Starlette(routes=[Route("/show/{name}", show), Route("/half", half), Route("/boom", boom)]),
)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client with address 198.51.100.7 that re-raises unhandled application errors."""
    transport = httpx.ASGITransport(APP, client=("198.51.100.7", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as opened:
        yield opened


async def nothing() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def ignore(_message: Message) -> None:
    """Discard the message."""


TAKEN_OVER = [
    "123e4567-e89b-12d3-a456-426614174000",
    "F47AC10B-58CC-4372-A567-0E02B2C3D479",
    "01hf4z3y8w9n0v6q2k7b5c1d3e",
    "01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "4bf92f3577b34da6a3ce929d0e0e4736",
    "DEADBEEF",
    "f" * 64,
    "00000000",
]
REPLACED = [
    *("", "a", "mine", "abc-1.2_3", "Z" * 64, "wayan-sari-ubud", "passport.B1234567", "deadbee", "f" * 65, "g" * 32),
    *("123e4567-e89b-12d3-a456-42661417400", "123e4567-e89b-12d3-a456-4266141740000", "81ARZ3NDEKTSV4RRFFQ69G5FAV"),
    *("01ARZ3NDEKTSV4RRFFQ69G5FAU", "-a", "a b", "a/b", "é", 'a"', "a%0A", "<script>", "deadbeef\u0660", "0xdeadbeef"),
]
PRIVATE_IDS = ["4111111111111111", "081234567890", "078-05-1120", "sk-proj-abcdefghijklmnopqrstuvwx"]


@pytest.mark.parametrize("given", PRIVATE_IDS)
async def test_an_id_that_is_private_is_not_taken_over(client: httpx.AsyncClient, given: str) -> None:
    with capture_logs() as lines:
        answer = await client.get("/show/x", headers={"X-Request-ID": given})
    assert given not in answer.headers["X-Request-ID"]
    assert given not in str(lines)


@pytest.mark.parametrize("given", TAKEN_OVER)
async def test_an_id_that_machines_make_is_taken_over(client: httpx.AsyncClient, given: str) -> None:
    answer = await client.get("/show/x", headers={"X-Request-ID": given})
    assert answer.headers["X-Request-ID"] == answer.json()["request_id"] == given


@pytest.mark.parametrize("given", REPLACED)
async def test_any_other_request_id_is_replaced(client: httpx.AsyncClient, given: str) -> None:
    answer = await client.get("/show/x", headers={b"X-Request-ID": given.encode()})
    made = answer.headers["X-Request-ID"]
    assert made == answer.json()["request_id"]
    assert len(made) == 32
    assert set(made) <= set("0123456789abcdef")


async def test_every_request_gets_an_id_of_its_own(client: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(client.get("/show/x") for _ in range(20)))
    assert len({answer.headers["X-Request-ID"] for answer in answers}) == 20


async def test_a_request_is_one_access_log_line(client: httpx.AsyncClient) -> None:
    with capture_logs(processors=[merge_contextvars]) as lines:
        answer = await client.get("/show/quokka?secret=1", headers={"X-Request-ID": "5eedc0de"})
    handler, access = lines
    assert handler == {"event": "in the handler", "log_level": "info", "request_id": "5eedc0de"}
    assert access.pop("duration_ms") >= 0
    assert access == {
        "event": "request",
        "log_level": "info",
        "request_id": "5eedc0de",
        "method": "GET",
        "route": access["route"],
        "status": answer.status_code,
        "client_ip": "198.51.100.0/24",
    }
    assert "quokka" not in str(lines)
    assert "secret" not in str(lines)


async def test_the_access_log_names_the_route_and_not_the_path(client: httpx.AsyncClient) -> None:
    class Routed:
        path = "/show/{name}"

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = Routed()
        await JSONResponse({})(scope, receive, send)

    with capture_logs() as lines:
        await ObservingMiddleware(app)(dict(SCOPE), nothing, ignore)
        await client.get("/not/there")
    assert [(line["route"], line["status"]) for line in lines] == [("/show/{name}", 200), ("none", 404)]


async def test_the_log_context_of_one_request_does_not_reach_the_next(client: httpx.AsyncClient) -> None:
    structlog.contextvars.bind_contextvars(left="over")
    with capture_logs(processors=[merge_contextvars]) as lines:
        await client.get("/show/x")
    assert len(lines) == 2
    assert all("left" not in line for line in lines)


async def test_the_peer_of_the_socket_is_noted_before_anybody_changes_it() -> None:
    seen: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["client"] = ("203.0.113.9", 2)
        seen.append(scope["peer"])
        await JSONResponse({})(scope, receive, send)

    with capture_logs() as lines:
        await ObservingMiddleware(app)(dict(SCOPE), nothing, ignore)
    assert seen == [("198.51.100.7", 1)]
    assert [line["client_ip"] for line in lines] == ["203.0.113.0/24"]


async def test_an_error_before_the_answer_is_a_problem() -> None:
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError("quokka")

    async def keep(message: Message) -> None:
        sent.append(message)

    with capture_logs() as lines, pytest.raises(LookupError, match="quokka"):
        await ObservingMiddleware(app)(dict(SCOPE), nothing, keep)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[0]["status"] == 500
    assert b"quokka" not in sent[1]["body"]
    assert [(line["event"], line.get("status")) for line in lines] == [("unhandled_error", None), ("request", 500)]


async def test_an_error_after_the_start_of_the_answer_is_raised_again(client: httpx.AsyncClient) -> None:
    with capture_logs() as lines, pytest.raises(LookupError, match="in the middle"):
        await client.get("/half")
    assert [(line["event"], line.get("status")) for line in lines] == [("unhandled_error", None), ("request", 500)]


async def test_a_client_that_goes_away_before_the_answer_is_499() -> None:
    waiting = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        waiting.set()
        await asyncio.Event().wait()

    with capture_logs() as lines:
        request = asyncio.create_task(ObservingMiddleware(app)(dict(SCOPE), nothing, ignore))
        await waiting.wait()
        request.cancel()
        await asyncio.wait([request])
    assert request.cancelled()
    assert [(line["event"], line["status"]) for line in lines] == [("request", 499)]


@pytest.mark.parametrize(
    ("kind", "layer"),
    [
        ("lifespan", ObservingMiddleware),
        ("lifespan", partial(BodyLimitMiddleware, limit=1)),
        ("websocket", partial(BodyLimitMiddleware, limit=1)),
    ],
)
async def test_what_is_no_request_passes_untouched(kind: str, layer: Callable[[ASGIApp], ASGIApp]) -> None:
    seen: list[tuple[Any, ...]] = []

    async def app(*arguments: Any) -> None:
        seen.append(arguments)

    scope: Scope = {"type": kind, "headers": []}
    with capture_logs() as lines:
        await layer(app)(scope, nothing, ignore)
    assert seen == [({"type": kind, "headers": []}, nothing, ignore)]
    assert lines == []


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("198.51.100.7", "198.51.100.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"),
        ("::1", "::/48"),
        (None, "local"),
        ("", "local"),
        ("/run/app.sock", "local"),
        ("198.51.100.7:80", "local"),
    ],
)
def test_an_address_is_cut_to_its_network(address: str | None, network: str) -> None:
    assert sanitised_address(address) == network


@given(address=st.ip_addresses())
def test_no_whole_address_is_ever_logged(address: Any) -> None:
    network = ipaddress.ip_network(sanitised_address(str(address)))
    meant = embedded_address(address)
    meant = getattr(meant, "sixtofour", None) or meant
    assert network.prefixlen == (24 if meant.version == 4 else 48)
    assert meant in network


async def test_a_request_without_an_address_is_local() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await JSONResponse({})(scope, receive, send)

    with capture_logs() as lines:
        await ObservingMiddleware(app)({**SCOPE, "client": None}, nothing, ignore)
    assert [line["client_ip"] for line in lines] == ["local"]


def layers(app: Any) -> list[str]:
    """Return the class names of the middleware stack of `app`, outermost first."""
    names = []
    while hasattr(app, "app"):
        names.append(type(app).__name__)
        app = app.app
    return names


async def test_the_running_application_has_the_layers_in_the_order_of_the_docstring(
    make_settings: Callable[..., Settings],
) -> None:
    app = create_app(make_settings())
    async with running(app) as client:
        await client.get("/health/live")
    assert layers(app.middleware_stack)[: 6 + len(MIDDLEWARE)] == [
        "ObservingMiddleware",
        "ServerErrorMiddleware",
        "ExceptionTelemetryMiddleware",
        "AppBodyLimitMiddleware",
        "ProxyHeadersMiddleware",
        *(getattr(layer.cls, "__name__", "") for layer in MIDDLEWARE),
        "ExceptionMiddleware",
    ]


def test_the_first_layer_of_the_list_is_the_outermost(monkeypatch: pytest.MonkeyPatch) -> None:
    class Inner(BodyLimitMiddleware):
        """A second middleware."""

    monkeypatch.setattr("app.middleware.middleware.MIDDLEWARE", (*MIDDLEWARE, Middleware(Inner, limit=1)))
    app = FastAPI()
    add_layers(app)
    assert layers(app.build_middleware_stack())[3:6] == ["HeadMiddleware", "BodyLimitMiddleware", "Inner"]
