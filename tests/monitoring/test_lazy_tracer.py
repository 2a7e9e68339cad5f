"""A tracer that the layer makes at its first chance, once."""

from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send
from structlog.testing import capture_logs

from app.monitoring.requests.layer import ObservingMiddleware
from tests.middleware.applications import Records
from tests.middleware.wire import Wire

ANSWER = PlainTextResponse("well")


class Make:
    """Return the tracer of `records` and count the calls."""

    def __init__(self, records: Records | None) -> None:
        self.tracer = records.layer()["tracer"] if records else None
        self.calls = 0

    def __call__(self) -> Any:
        self.calls += 1
        return self.tracer


async def talk(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "websocket.accept"})


async def test_the_first_request_makes_the_tracer_and_has_a_span() -> None:
    make = Make(records := Records())
    layer = ObservingMiddleware(ANSWER, tracer=make)
    await Wire().run(layer)
    await Wire().run(layer)
    assert (len(records.spans()), make.calls) == (2, 1)
    assert layer.tracer is make.tracer


async def test_the_first_websocket_makes_the_tracer_and_has_a_span() -> None:
    make = Make(records := Records())
    await Wire(type="websocket").run(ObservingMiddleware(talk, tracer=make))
    assert (len(records.spans()), make.calls) == (1, 1)


async def test_the_lifespan_makes_the_tracer() -> None:
    async def lifespan(_scope: Scope, _receive: Receive, _send: Send) -> None:
        assert layer.tracer is make.tracer

    async def nothing() -> Message:
        return {"type": "lifespan.startup"}

    make = Make(Records())
    layer = ObservingMiddleware(lifespan, tracer=make)
    assert make.calls == 0
    await layer({"type": "lifespan"}, nothing, Wire().send)
    assert make.calls == 1


async def test_a_tracer_that_cannot_be_made_is_logged_once_and_requests_and_lifespan_go_on() -> None:
    def make() -> Any:
        raise ValueError("no such exporter")

    reached = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append(scope["type"])
        if scope["type"] == "http":
            await ANSWER(scope, receive, send)

    layer = ObservingMiddleware(app, tracer=make)
    with capture_logs() as lines:
        await layer({"type": "lifespan"}, Wire().receive, Wire().send)
        await Wire().run(layer)
        await Wire().run(layer)
    (line,) = [line for line in lines if line["event"] == "tracer_not_made"]
    assert (line["log_level"], line["exc_info"]) == ("error", True)
    assert (reached, layer.tracer) == (["lifespan", "http", "http"], None)


@pytest.mark.parametrize(("app", "kind"), [(ANSWER, "http"), (talk, "websocket")])
async def test_without_a_tracer_requests_have_no_ids_of_a_trace(app: Any, kind: str) -> None:
    make = Make(None)
    layer = ObservingMiddleware(app, tracer=make)
    with capture_logs() as lines:
        await Wire(type=kind).run(layer)
        await Wire(type=kind).run(layer)
    assert ["trace_id" in line for line in lines] == [False, False]
    assert (layer.tracer, make.calls) == (None, 1)
