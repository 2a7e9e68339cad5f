"""Clients of servers in this process, and both makers of request spans."""

from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor

from tests.middleware.applications import Records
from tests.monitoring.traced import Maker


@pytest.fixture(params=["layer", "instrumentation"])
def maker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run the test with either maker of request spans."""
    Maker.use_new_names(monkeypatch)
    monkeypatch.setattr(Records, "maker", request.param)
    yield request.param
    # Of any application: this takes the instrumentation of background tasks back too.
    FastAPIInstrumentor.uninstrument_app(FastAPI())


@pytest.fixture(autouse=True)
def _clients_make_no_spans() -> Iterator[None]:
    """Take back what an earlier test has instrumented: a client's own span would replace the caller's."""
    instrumentor = HTTPXClientInstrumentor()
    instrumented = instrumentor.is_instrumented_by_opentelemetry
    if instrumented:
        instrumentor.uninstrument()
    yield
    if instrumented:
        instrumentor.instrument()
