"""Fixtures of every test, without the service: the package's tests take them where only the package is installed."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from app.monitoring import tracing
from app.monitoring.traces.sampling import RequestIds, RequestSampler
from tests.middleware.applications import Records
from tests.monitoring.traced import Maker


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@asynccontextmanager
async def running(app: FastAPI, peer: tuple[str, int] = ("127.0.0.1", 40_000)) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of `app` while its lifespan runs; requests seem to come from `peer`."""
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=peer)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            yield client


@pytest.fixture(scope="session")
def exporter() -> InMemorySpanExporter:
    """Return an exporter with the spans of this process, from the first test that requests it."""
    kept = InMemorySpanExporter(max_spans=10_000)
    provider = TracerProvider(sampler=RequestSampler(1.0), id_generator=RequestIds(), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    trace.set_tracer_provider(provider)
    # Once in a process: with another provider in its place for a while, the libraries would be bound to that one.
    tracing.request_tracer("")
    return kept


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> InMemorySpanExporter:
    """Return an exporter with the spans of this test."""
    exporter.clear()
    return exporter


@pytest.fixture(params=["layer", "instrumentation"])
def maker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run the test with either maker of request spans."""
    Maker.use_new_names(monkeypatch)
    monkeypatch.setattr(Records, "maker", request.param)
    yield request.param
    # Of any application: this takes the instrumentation of background tasks back too.
    FastAPIInstrumentor.uninstrument_app(FastAPI())
