"""Clients of servers in this process."""

from collections.abc import Iterator

import pytest
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor

from app.monitoring.traces.libraries import instrument_libraries


@pytest.fixture(autouse=True)
def _clients_make_no_spans() -> Iterator[None]:
    """Undo an earlier test's instrumentation: a client's own span would replace the caller's."""
    instrumentor = HTTPXClientInstrumentor()
    instrumented = instrumentor.is_instrumented_by_opentelemetry
    if instrumented:
        instrumentor.uninstrument()
    yield
    if instrumented:
        instrument_libraries(["httpx"])
