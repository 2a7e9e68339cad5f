"""Outgoing calls have child spans if the request is sampled, and none otherwise; the decision is propagated."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.monitoring import tracing
from app.monitoring.traces import propagation
from loadtest.serving import serving
from tests.middleware.applications import TELEMETRY, Records
from tests.middleware.wire import Wire

pytestmark = pytest.mark.usefixtures("maker")
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Downstream:
    """An application that records the trace headers of its requests."""

    def __init__(self) -> None:
        self.traceparents: list[str | None] = []
        self.tracestates: list[str | None] = []

    async def answer(self, request: Request) -> Response:
        self.traceparents.append(request.headers.get("traceparent"))
        self.tracestates.append(request.headers.get("tracestate"))
        return JSONResponse({})


@asynccontextmanager
async def house(records: Records, database_url: str, redis_url: str) -> AsyncIterator[tuple[Any, Downstream]]:
    """Yield an application and the HTTP server that it calls, besides PostgreSQL and Redis.

    The application responds with the status in the path.
    """
    downstream = Downstream()
    # Instruments the three libraries. A host that is not trusted gets no tracestate.
    assert tracing.request_tracer("", trusted_upstreams=["127.0.0.1"]) is not None
    redis, connection = Redis.from_url(redis_url), await asyncpg.connect(database_url)
    async with serving(Starlette(routes=[Route("/", downstream.answer)])) as address, httpx.AsyncClient() as client:

        async def ask(request: Request) -> Response:
            await connection.fetchval("SELECT 1")
            await redis.ping()
            await client.get(address)
            return Response(status_code=int(request.path_params["status"]))

        yield records.observe(FastAPI(telemetry=TELEMETRY, routes=[Route("/{status}", ask)])), downstream
    propagation.install(())
    await redis.aclose()
    await connection.close()


@pytest.mark.parametrize(
    ("path", "ratio", "traceparent", "excluded", "kept"),
    [
        ("/200", 0.0, None, "", 0),
        ("/500", 0.0, None, "", 1),
        ("/200", 1.0, f"00-{TRACE}-{CALLER}-00", "", 0),
        ("/500", 1.0, f"00-{TRACE}-{CALLER}-00", "", 1),
        ("/500", 1.0, None, "/500", 0),
        ("/500", 1.0, f"00-{TRACE}-{CALLER}-01", "/500", 0),
    ],
)
async def test_children_of_a_request_that_is_not_sampled_make_no_spans_and_tell_others(
    database_url: str,
    redis_url: str,
    spans: InMemorySpanExporter,
    path: str,
    ratio: float,
    traceparent: str | None,
    excluded: str,
    kept: int,
) -> None:
    records = Records(ratio=ratio, excluded_urls=excluded)
    headers = ((b"traceparent", traceparent.encode()), (b"tracestate", b"vendor=1")) if traceparent else ()
    async with house(records, database_url, redis_url) as (app, downstream):
        spans.clear()
        wire = Wire(path, headers=headers)
        await wire.run(app)
        assert wire.status == int(path[1:])
        found = spans.get_finished_spans()
    assert found == ()
    assert len(records.spans()) == kept
    (sent,) = downstream.traceparents
    assert sent is not None
    assert sent.endswith("-00")
    assert downstream.tracestates == ["vendor=1" if traceparent else None]
    assert (sent[3:35] == TRACE) is (traceparent is not None)
    for span in records.spans():
        assert span.context is not None
        assert f"{span.context.trace_id:032x}" == sent[3:35]


@pytest.mark.parametrize(("ratio", "traceparent"), [(1.0, None), (0.0, f"00-{TRACE}-{CALLER}-01")])
async def test_children_of_a_request_that_is_sampled_are_below_it(
    database_url: str, redis_url: str, spans: InMemorySpanExporter, ratio: float, traceparent: str | None
) -> None:
    records = Records(ratio=ratio)
    headers = ((b"traceparent", traceparent.encode()),) if traceparent else ()
    async with house(records, database_url, redis_url) as (app, downstream):
        spans.clear()
        await Wire("/200", headers=headers).run(app)
        children = spans.get_finished_spans()
    (request,) = records.spans()
    assert request.context is not None
    assert {
        child.instrumentation_scope.name.rpartition(".")[2] for child in children if child.instrumentation_scope
    } == {
        "asyncpg",
        "redis",
        "httpx",
    }
    for child in children:
        assert child.parent is not None
        assert child.parent.span_id == request.context.span_id
    (call,) = [child for child in children if child.attributes and "httpx" in str(child.instrumentation_scope)]
    assert call.context is not None
    assert downstream.traceparents == [f"00-{request.context.trace_id:032x}-{call.context.span_id:016x}-01"]
