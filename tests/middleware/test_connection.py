"""WebSockets have a request id, a context, a handshake span and one log line, but no http_* metrics."""

import asyncio
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, WebSocket
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Scope
from starlette.websockets import WebSocketDisconnect
from structlog.contextvars import get_contextvars
from structlog.testing import capture_logs

from app.monitoring.requests.layer import ObservingMiddleware
from tests.middleware.applications import TELEMETRY, Records

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Socket:
    """The server side of a WebSocket whose client sends the given messages and disconnects."""

    def __init__(self, path: str, *headers: tuple[bytes, bytes], incoming: tuple[Message, ...] = ()) -> None:
        self.scope: Scope = {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": path,
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"testserver"), *headers],
            "client": ("198.51.100.7", 1),
            "server": ("127.0.0.1", 8000),
            "subprotocols": [],
            "extensions": {"websocket.http.response": {}},
        }
        self.incoming = [{"type": "websocket.connect"}, *incoming]
        self.sent: list[Message] = []

    async def receive(self) -> Message:
        return self.incoming.pop(0) if self.incoming else {"type": "websocket.disconnect", "code": 1001}

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    async def run(self, app: ASGIApp) -> tuple[list[dict[str, Any]], BaseException | None]:
        """Run `app`; return the log lines and the exception it raised, if any."""
        raised = None
        with capture_logs() as lines:
            try:
                await app(self.scope, self.receive, self.send)
            except BaseException as error:  # noqa: BLE001 -- any exception is returned
                raised = error
        return [dict(line) for line in lines], raised


async def echo(socket: WebSocket, name: str) -> None:
    await socket.accept(headers=[(b"x-request-id", b"another")])
    context = trace.get_current_span().get_span_context()
    ids = [socket.scope["request_id"], get_contextvars()["request_id"], f"{context.trace_id:032x}"]
    await socket.send_json([name, *ids])
    while True:
        await socket.send_text(await socket.receive_text())


async def closed(socket: WebSocket) -> None:
    await socket.accept()
    await socket.close(4000)


async def refused(socket: WebSocket) -> None:
    await socket.close()


async def denied(socket: WebSocket) -> None:
    await socket.send_denial_response(PlainTextResponse("not you", 401))


async def boom(_socket: WebSocket) -> None:
    raise LookupError("before the answer")


async def half(socket: WebSocket) -> None:
    await socket.accept()
    raise LookupError("in the middle")


async def silent(_socket: WebSocket) -> None:
    return


async def late(socket: WebSocket) -> None:
    await socket.receive()
    await socket.receive()


async def cancelled(_socket: WebSocket) -> None:
    raise asyncio.CancelledError


def application() -> FastAPI:
    """Return an application with one WebSocket route for each way to end."""
    app, router = FastAPI(telemetry=TELEMETRY), APIRouter()
    router.add_api_websocket_route("/echo/{name}", echo)
    for handler in (closed, refused, denied, boom, half, silent, late, cancelled):
        router.add_api_websocket_route(f"/{handler.__name__}", handler)
    app.include_router(router, prefix="/ws")
    return app


@pytest.mark.parametrize(
    ("path", "events", "status", "code", "raised"),
    [
        ("/ws/echo/x", ["websocket"], 101, 1001, None),
        ("/ws/closed", ["websocket"], 101, 4000, None),
        ("/ws/refused", ["websocket"], 403, 1000, None),
        ("/ws/denied", ["websocket"], 401, None, None),
        ("/ws/boom", ["unhandled_error", "websocket"], 500, 1011, LookupError),
        ("/ws/half", ["unhandled_error", "websocket"], 101, 1011, LookupError),
        ("/ws/silent", ["websocket"], 500, None, None),
        ("/ws/late", ["websocket"], 499, 1001, None),
        ("/ws/cancelled", ["websocket"], 499, None, asyncio.CancelledError),
        ("/nowhere", ["websocket"], 403, 1000, None),
    ],
)
@pytest.mark.usefixtures("maker")
async def test_a_websocket_has_one_line_one_span_and_no_metric(
    path: str, events: list[str], status: int, code: int | None, raised: type[BaseException] | None
) -> None:
    records, socket = Records(), Socket(path)
    lines, error = await socket.run(records.observe(application()))
    assert [line["event"] for line in lines] == events
    line = lines[-1]
    route = "none" if path == "/nowhere" else path.replace("/x", "/{name}")
    assert (line["status"], line["code"], line["route"]) == (status, code, route)
    assert line["client_ip"] == "198.51.100.0/24"
    assert (type(error) if error else None) is raised
    assert records.requests() == {}
    (span,) = records.spans()
    assert span.kind is SpanKind.SERVER
    attributes = dict(span.attributes or {})
    assert (attributes["http.request.method"], attributes["url.scheme"]) == ("GET", "ws")
    assert attributes["http.response.status_code"] == status
    assert attributes.get("http.route", "none") == route
    assert (span.status.status_code is StatusCode.ERROR) is (status >= 500)
    assert ("error.type" in attributes) is (status >= 500)


async def test_a_websocket_has_a_request_id_and_the_trace_of_its_caller() -> None:
    records = Records(ratio=0.0)
    socket = Socket("/ws/echo/x", (b"x-request-id", b"5eedc0de"), (b"traceparent", PARENT.encode()))
    await socket.run(records.observe(application()))
    accepted, answer = socket.sent
    assert [value for name, value in accepted["headers"] if name == b"x-request-id"] == [b"5eedc0de"]
    assert answer["text"] == f'["x","5eedc0de","5eedc0de","{PARENT[3:35]}"]'
    assert socket.scope["peer"] == ("198.51.100.7", 1)
    assert [span.name for span in records.spans()] == ["GET /ws/echo/{name}"]


async def test_the_span_is_the_handshakes_and_does_not_wait_for_the_end() -> None:
    records = Records()
    spans_when_accepted: list[object] = []

    async def app(_scope: Scope, _receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        spans_when_accepted.extend(records.spans())
        raise WebSocketDisconnect(1000)

    lines, error = await Socket("/").run(ObservingMiddleware(app, **records.layer()))
    assert error is None
    assert len(spans_when_accepted) == len(records.spans()) == 1
    assert [line["event"] for line in lines] == ["websocket"]


async def test_a_handshake_that_fails_is_kept_where_nothing_else_is() -> None:
    records = Records(ratio=0.0)
    app = records.observe(application())
    for path in ("/ws/echo/x", "/ws/boom"):
        await Socket(path).run(app)
    (span,) = records.spans()
    assert span.attributes is not None
    assert (span.name, span.attributes["sampling.kept_because"]) == ("GET /ws/boom", "error")
    assert span.attributes["error.type"] == "LookupError"


async def test_a_websocket_leaves_no_span_to_whoever_runs_next_in_its_context() -> None:
    await Socket("/ws/closed").run(ObservingMiddleware(application(), **Records().layer()))
    assert trace.get_current_span() is trace.INVALID_SPAN


async def test_a_handshake_whose_answer_cannot_be_sent_has_failed() -> None:
    async def gone(message: Message) -> None:
        raise OSError(message["type"])

    records, socket = Records(), Socket("/ws/closed")
    socket.send = gone  # type: ignore[method-assign]
    lines, _ = await socket.run(ObservingMiddleware(application(), **records.layer()))
    (span,) = records.spans()
    assert (span.attributes or {})["http.response.status_code"] == lines[-1]["status"] != 101
