"""The spans of the service's own requests and of what it asks of others."""

import asyncio

import httpx
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from loadtest.fake_ai import fake_ai
from tests.conftest import Application


async def test_a_request_and_all_that_it_asks_are_one_trace(
    application: Application, spans: InMemorySpanExporter
) -> None:
    async with fake_ai() as ai, application(ai_base_url=ai.url) as client:
        parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        question = {"message": "Where to swim?"}
        answer = await client.post("/api/v1/assistant/chat", json=question, headers={"traceparent": parent})
        assert answer.status_code == 200, answer.text
    found = [span for span in spans.get_finished_spans() if span.context.trace_id == int(parent[3:35], 16)]
    (request,) = [span for span in found if span.kind is SpanKind.SERVER]
    assert request.name == "POST /api/v1/assistant/chat"
    assert request.parent is not None
    assert request.parent.span_id == int(parent[36:52], 16)
    scopes = {span.instrumentation_scope.name.rpartition(".")[2] for span in found if span.instrumentation_scope}
    assert scopes == {"monitoring", "assistant", "asyncpg", "redis", "httpx"}
    ids = {span.context.span_id for span in found}
    assert all(span.parent and span.parent.span_id in ids for span in found if span is not request)
    assert not [span for span in found if span.name.endswith(("http send", "http receive"))]


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/health", "/metrics"])
async def test_probes_and_scrapes_make_no_spans_at_all(
    application: Application, spans: InMemorySpanExporter, path: str
) -> None:
    async with application() as client:
        spans.clear()
        assert (await client.get(path)).status_code == 200
        assert [span.name for span in spans.get_finished_spans()] == []


async def test_a_look_at_the_breaker_that_nobody_asked_for_makes_no_spans(
    application: Application, spans: InMemorySpanExporter
) -> None:
    async with application() as client:
        assert isinstance(client._transport, httpx.ASGITransport)
        breaker = client._transport.app.state.services.concierge.breaker  # type: ignore[attr-defined]
        looked = asyncio.Event()
        state = breaker.state

        async def look() -> None:
            await state()
            looked.set()

        breaker.state = look
        spans.clear()
        watching = asyncio.create_task(breaker.watch(0.0))
        await looked.wait()
        watching.cancel()
        assert [span.name for span in spans.get_finished_spans()] == []
        await state()
        assert spans.get_finished_spans()


async def test_a_new_connection_makes_no_span_beside_that_of_the_request_s_statement(
    application: Application, spans: InMemorySpanExporter
) -> None:
    async with application() as client:
        assert isinstance(client._transport, httpx.ASGITransport)
        database = client._transport.app.state.services.database  # type: ignore[attr-defined]
        await database._expire()
        spans.clear()
        assert (await client.get("/api/v1/destinations")).status_code == 200
        statements = [str((span.attributes or {}).get("db.statement")) for span in spans.get_finished_spans()]
    assert any("FROM destinations" in statement for statement in statements)
    assert not any("pg_backend_pid" in statement for statement in statements)
