"""Requests do not leak context into each other, and a hostile client cannot set it."""

import asyncio
from typing import Any

import pytest
import structlog
from fastapi import APIRouter, FastAPI
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import baggage, trace
from opentelemetry import context as contexts
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send
from structlog.contextvars import bind_contextvars, get_contextvars, merge_contextvars
from structlog.testing import capture_logs

from app.monitoring.logs import chain as log_chain
from app.monitoring.requests.layer import ObservingMiddleware
from tests.middleware.applications import TELEMETRY, Records, fastapi_house
from tests.middleware.wire import Wire

Headers = tuple[tuple[bytes, bytes], ...]
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = (b"traceparent", f"00-{TRACE}-{SPAN}-01".encode())


class Seen:
    """An application that records the trace, baggage and log context of each request."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        current = trace.get_current_span().get_span_context()
        self.seen.append(
            {
                "trace": trace.format_trace_id(current.trace_id),
                "span": trace.format_span_id(current.span_id),
                "sampled": current.trace_flags.sampled,
                "state": current.trace_state.to_header(),
                "baggage": dict(baggage.get_all()),
                "log": dict(get_contextvars()),
            }
        )
        bind_contextvars(left="over")
        contexts.attach(baggage.set_baggage("left", "over"))  # intentionally not detached
        structlog.get_logger().info("handled")
        await JSONResponse({})(scope, receive, send)


async def ask(*requests: Headers, ratio: float = 1.0) -> tuple[list[dict[str, Any]], Records, list[Wire]]:
    """Send requests sequentially in one task; return the recorded contexts, the layer's records and the connections."""
    seen, records = Seen(), Records(ratio=ratio)
    layer = ObservingMiddleware(seen, **records.layer())
    wires = [Wire(headers=headers) for headers in requests]
    for wire in wires:
        await wire.run(layer)
    return seen.seen, records, wires


@pytest.mark.parametrize("ratio", [0.0, 1.0])
async def test_requests_in_one_task_have_nothing_in_common(ratio: float) -> None:
    before = contexts.get_current()
    first, second = (await ask((SAMPLED, (b"baggage", b"who=me")), (), ratio=ratio))[0]
    assert first["trace"] == TRACE
    assert first["baggage"] == {"who": "me"}
    assert second["trace"] not in {TRACE, "0" * 32}
    assert second["sampled"] is (ratio == 1.0)
    assert second["baggage"] == {}
    assert first["log"].keys() == {"request_id"}
    assert {key for key, value in second["log"].items() if value is not ...} == {"request_id"}
    assert first["log"]["request_id"] != second["log"]["request_id"]
    assert trace.get_current_span() is trace.get_current_span(before)


async def test_what_surrounds_the_server_is_no_parent_of_a_request() -> None:
    token = contexts.attach(baggage.set_baggage("of", "the server"))
    span = Records().provider.get_tracer("server").start_span("serve")
    with trace.use_span(span):
        (seen,), records, _ = await ask(())
    contexts.detach(token)
    assert seen["baggage"] == {}
    assert seen["trace"] != trace.format_trace_id(span.get_span_context().trace_id)
    assert records.spans()[0].parent is None


async def test_requests_at_once_keep_their_own_ids() -> None:
    records, arrived = Records(), asyncio.Barrier(10)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await arrived.wait()
        await JSONResponse(get_contextvars()["request_id"])(scope, receive, send)

    wires = [Wire(headers=((b"x-request-id", b"%08x" % number),)) for number in range(10)]
    layer = ObservingMiddleware(app, **records.layer())
    with capture_logs(processors=[merge_contextvars]) as lines:
        await asyncio.gather(*(wire.run(layer) for wire in wires))
    assert [wire.sent[1]["body"].decode() for wire in wires] == [f'"{number:08x}"' for number in range(10)]
    assert {line["request_id"] for line in lines} == {f"{number:08x}" for number in range(10)}
    assert len({span.get_span_context().trace_id for span in records.spans()}) == 10  # type: ignore[union-attr]


async def test_a_request_id_that_is_sent_twice_is_taken_from_neither() -> None:
    _, _, (wire,) = await ask(((b"x-request-id", b"%08x" % 1), (b"x-request-id", b"%08x" % 2)))
    assert wire.scope["request_id"] not in {"00000001", "00000002"}
    assert len(wire.scope["request_id"]) == 32


async def test_the_answer_has_one_request_id_and_it_is_ours() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await JSONResponse({}, headers={"X-Request-ID": "the application's"})(scope, receive, send)

    wire = Wire(headers=((b"x-request-id", b"5eedc0de"),))
    await wire.run(ObservingMiddleware(app))
    assert [value for name, value in wire.headers if name == b"x-request-id"] == [b"5eedc0de"]


HOSTILE = [
    b"",
    b" mine",
    b"mine ",
    b"mi\nne",
    b"mine\n",
    b"mi\x00ne",
    b"\xff\xfe",
    b"-mine",
    b"a" * 65,
    b'{"a":1}',
    b"../a",
]


@pytest.mark.parametrize("value", HOSTILE)
async def test_a_hostile_request_id_is_not_taken_over(value: bytes) -> None:
    _, _, (wire,) = await ask(((b"x-request-id", value),))
    assert set(wire.scope["request_id"]) <= set("0123456789abcdef")
    assert len(wire.scope["request_id"]) == 32


@given(value=st.binary(max_size=80))
async def test_whatever_the_request_id_is_the_answers_is_plain(value: bytes) -> None:
    _, _, (wire,) = await ask(((b"x-request-id", value),))
    ((_, answered),) = [pair for pair in wire.headers if pair[0] == b"x-request-id"]
    assert answered.replace(b"-", b"").isalnum()
    assert len(answered) <= 64


async def test_two_traceparents_are_taken_from_neither() -> None:
    other = (b"traceparent", f"00-{'1' * 32}-{'2' * 16}-01".encode())
    (seen,), records, _ = await ask((SAMPLED, other), ratio=0.0)
    assert seen["trace"] not in {TRACE, "1" * 32}
    assert records.spans() == ()


async def test_a_line_of_a_kept_request_has_its_ids_even_where_another_span_is_current() -> None:
    records = Records()
    chain = log_chain.processors({})

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with records.provider.get_tracer("handler").start_as_current_span("inner"):
            await JSONResponse({})(scope, receive, send)

    with capture_logs(processors=[chain[-1]]) as lines:
        await Wire().run(ObservingMiddleware(app, **records.layer()))
    (request,) = [span for span in records.spans() if span.name == "GET"]
    assert request.context is not None
    assert lines[0]["span_id"] == trace.format_span_id(request.context.span_id)


async def test_fastapi_makes_no_spans_of_its_own_nor_do_those_that_are_mounted_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    records = Records()
    # FastAPI's own telemetry is enabled if the process has a tracer provider.
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: records.provider)
    inner = FastAPI()
    router = APIRouter()
    router.add_api_route("/x/{y}", lambda: "far inside")
    inner.include_router(router)
    middle = Starlette(routes=[Mount("/inner", inner)])
    app = FastAPI(telemetry=TELEMETRY)
    app.mount("/middle", middle)
    wire = Wire("/middle/inner/x/1")
    await wire.run(records.observe(app))
    assert wire.status == 200
    assert [span.name for span in records.spans()] == ["GET /middle/inner/x/{y}"]


async def test_every_route_of_the_house_makes_one_span_with_its_template() -> None:
    records = Records()
    app = records.observe(fastapi_house())
    paths = {
        "/items/7": "/items/{item}",
        "/v1/beaches/sanur": "/v1/beaches/{name}",
        "/v2/islands/bali/beaches/kuta": "/v2/islands/{island}/beaches/{name}",
        "/v2/shop/goods/hat": "/v2/shop/goods/{good}",
        "/tenants/one/near/beaches/kuta": "/tenants/{tenant}/near/beaches/{name}",
        "/static/wire.py": "/static",
    }
    for path in paths:
        await Wire(path).run(app)
    found = [(span.name, (span.attributes or {})["http.route"]) for span in records.spans()]
    assert found == [(f"GET {route}", route) for route in paths.values()]
    await Wire("/nowhere").run(app)
    last = records.spans()[-1]
    assert (last.name, "http.route" in (last.attributes or {})) == ("GET", False)


async def test_a_handler_that_ends_the_context_early_harms_nobody() -> None:
    async def show(request: Request) -> JSONResponse:
        contexts.attach(contexts.Context())
        return JSONResponse(request.scope["request_id"])

    records = Records()
    app = records.observe(Starlette(routes=[Route("/", show)]))
    wires = [Wire(), Wire()]
    for wire in wires:
        await wire.run(app)
    assert [wire.status for wire in wires] == [200, 200]
    assert [span.parent for span in records.spans()] == [None, None]
