"""An application with OpenTelemetry's own instrumentation, which creates the spans of requests instead of ours."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from opentelemetry import trace
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.trace import SpanKind
from structlog.testing import capture_logs

from tests.middleware.applications import TELEMETRY, Records
from tests.monitoring.requests.served import served

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = {"traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01"}


@pytest.fixture
def house() -> Iterator[FastAPI]:
    app = FastAPI(telemetry=TELEMETRY)

    @app.get("/things/{name}")
    async def thing(name: str) -> str:
        if name == "broken":
            raise LookupError(name)
        return trace.format_trace_id(trace.get_current_span().get_span_context().trace_id)

    app.add_exception_handler(Exception, lambda _request, _error: JSONResponse("own", 500))
    yield app
    if getattr(app, "_is_instrumented_by_opentelemetry", False):
        FastAPIInstrumentor.uninstrument_app(app)


def add(way: str, app: FastAPI, records: Records) -> None:
    """Observe and instrument `app` in the order of `way`."""
    if way == "before":
        FastAPIInstrumentor.instrument_app(app, tracer_provider=records.provider)
        records.observe(app)
    elif way == "after":
        records.observe(app)
        FastAPIInstrumentor.instrument_app(app, tracer_provider=records.provider)
    else:
        app.add_middleware(OpenTelemetryMiddleware, tracer_provider=records.provider)
        records.observe(app)


@pytest.mark.parametrize("lifespan", ["on", "off"])
@pytest.mark.parametrize("way", ["before", "after", "middleware"])
async def test_a_request_has_one_span_and_the_line_has_its_trace(house: FastAPI, way: str, lifespan: Any) -> None:
    records = Records()
    add(way, house, records)
    with capture_logs() as lines:
        async with served(house, lifespan=lifespan) as client:
            answers = [await client.get(f"/things/{name}", headers=CALLER) for name in ("lamp", "rug", "broken")]
    assert [answer.json() for answer in answers] == [TRACE_ID, TRACE_ID, "own"]
    assert records.requests() == {
        ("GET", "200", "/things/{name}"): 2,
        ("GET", "500", "/things/{name}"): 1,
    }
    assert len([span for span in records.spans() if span.kind is SpanKind.SERVER]) == 3
    said = [line for line in lines if line["event"] in {"request", "unhandled_error"}]
    assert [line["event"] for line in said] == ["request", "request", "unhandled_error", "request"]
    if way == "middleware":  # a span that has ended below Starlette's own handling of the exception
        said = said[:2]
    assert {line["trace_id"] for line in said} == {TRACE_ID}


async def test_fastapis_own_telemetry_makes_no_second_span(monkeypatch: pytest.MonkeyPatch) -> None:
    records, app = Records(), FastAPI()
    app.add_api_route("/", lambda: "root")
    app._telemetry["tracer_provider"] = records.provider
    async with served(records.observe(app)) as client:
        await client.get("/")
    assert [span.name for span in records.spans()] == ["GET /"]
