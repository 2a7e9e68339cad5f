"""tracing="instrumentation": the spans, attributes and hooks of opentelemetry-instrumentation-fastapi."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, WebSocket
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.util.http import parse_excluded_urls

from app.monitoring.requests.layer import ObservingMiddleware
from app.monitoring.requests.placement import observe
from app.monitoring.traces.instrumented import InstrumentedTracer, instrument_fastapi
from app.monitoring.traces.span_redaction import RedactingExporter
from tests.middleware.applications import Records, fastapi_house
from tests.middleware.wire import Wire
from tests.monitoring.traced import Maker
from tests.process.service import ROOT

Instrument = Callable[..., FastAPI]
DIRTY = {
    "authorization": "Bearer abcdef0123456789",
    "cookie": "session=hunter2hunter2",
    "x-api-key": "sk-9f8e7d6c5b4a3210",
    "x-forwarded-for": "203.0.113.9",
    "x-note": "from made.sari@ubud-villas.example",
    "x-plain": "beach",
    "user-agent": "curl/8 (made.sari@ubud-villas.example)",
}
SECRETS = ("abcdef0123456789", "hunter2", "9f8e7d6c", "203.0.113.9", "ubud-villas", "198.51.100.7")


@pytest.fixture
def instrument() -> Iterator[Instrument]:
    """Yield `instrument(records, app, **options)`, which adds the layer and the instrumentation to `app`."""
    made: list[FastAPI] = []

    def around(records: Records, app: FastAPI, **options: Any) -> FastAPI:
        tracer = InstrumentedTracer(records.provider, parse_excluded_urls(records.excluded_urls))
        instrument_fastapi(app, provider=records.provider, excluded_urls=records.excluded_urls, **options)
        observe(app, **{**records.layer(), "tracer": tracer}, instrumented=True)
        made.append(app)
        return app

    yield around
    for app in made:
        FastAPIInstrumentor.uninstrument_app(app)


async def get(app: FastAPI, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=("198.51.100.7", 40_000))
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        return await client.get(path, headers=headers)


def exported(records: Records) -> InMemorySpanExporter:
    """Return an exporter that receives the redacted spans of `records`."""
    kept = InMemorySpanExporter()
    records.provider.add_span_processor(SimpleSpanProcessor(RedactingExporter(kept)))
    return kept


@pytest.mark.parametrize("names", ["old", "new"])
async def test_captured_headers_and_addresses_leave_redacted(
    instrument: Instrument, monkeypatch: pytest.MonkeyPatch, names: str
) -> None:
    if names == "new":
        Maker.use_new_names(monkeypatch)
    records = Records()
    kept = exported(records)
    app = instrument(records, fastapi_house(), request_headers=[".*"], response_headers=["content-type"])
    assert (await get(app, "/items/7?token=hunter2hunter2&a=1", DIRTY)).status_code == 200
    (span,) = kept.get_finished_spans()
    assert [secret for secret in SECRETS if secret in span.to_json()] == []
    found = dict(span.attributes or {})
    assert found["http.request.header.x_plain"] == ("beach",)
    assert found["http.response.header.content_type"] == ("application/json",)
    assert found["client.address" if names == "new" else "net.peer.ip"] == "198.51.100.0/24"


async def test_headers_are_captured_by_the_variables(instrument: Instrument, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST", "x-plain,x-note")
    monkeypatch.setenv("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS", "x-note")
    records = Records()
    await get(instrument(records, fastapi_house()), "/items/7", DIRTY)
    (span,) = records.spans()
    headers = {key: value for key, value in (span.attributes or {}).items() if ".header." in key}
    assert headers == {"http.request.header.x_plain": ("beach",), "http.request.header.x_note": ("[REDACTED]",)}


async def test_the_server_hook_writes_to_the_span(instrument: Instrument) -> None:
    def hook(span: Span, scope: dict[str, Any]) -> None:
        span.set_attribute("tenant", scope["path"])

    records = Records()
    await get(instrument(records, fastapi_house(), server_request_hook=hook), "/items/7")
    (span,) = records.spans()
    assert (span.attributes or {})["tenant"] == "/items/7"


async def test_receive_and_send_have_spans_only_for_their_hooks(instrument: Instrument) -> None:
    def hook(span: Span, _scope: dict[str, Any], _message: dict[str, Any]) -> None:
        span.set_attribute("hooked", value=True)

    def hooked(records: Records) -> list[ReadableSpan]:
        return [span for span in records.spans() if (span.attributes or {}).get("hooked")]

    without, with_hook = Records(), Records()
    await get(instrument(without, fastapi_house()), "/items/7")
    await get(instrument(with_hook, fastapi_house(), client_response_hook=hook), "/items/7")
    assert [span.kind for span in without.spans()] == [SpanKind.SERVER]
    assert {span.name for span in hooked(with_hook)} == {"GET /items/{item} http send"}
    assert not [span for span in with_hook.spans() if span.name.endswith("receive")]


@pytest.mark.parametrize(("path", "answered"), [("/boom", 500), ("/half", 200)])
async def test_an_error_is_recorded_once(
    instrument: Instrument, monkeypatch: pytest.MonkeyPatch, path: str, answered: int
) -> None:
    Maker.use_new_names(monkeypatch)
    records = Records()
    answer = await get(instrument(records, fastapi_house()), path)
    assert answer.status_code == answered
    (span,) = records.spans()
    assert [event.name for event in span.events] == ["exception"]
    assert span.status.status_code is StatusCode.ERROR
    found = span.attributes or {}
    assert (found["http.response.status_code"], found["error.type"], found["http.route"]) == (500, "500", path)


async def test_by_the_old_names_an_error_has_the_old_status(instrument: Instrument) -> None:
    records = Records()
    await get(instrument(records, fastapi_house()), "/half")
    (span,) = records.spans()
    assert (span.attributes or {})["http.status_code"] == 500
    assert "http.response.status_code" not in (span.attributes or {})


async def test_an_application_with_fastapis_own_telemetry_has_one_span_of_the_server(instrument: Instrument) -> None:
    app = FastAPI(telemetry={"tracer_provider": (records := Records()).provider})
    app.get("/items/{item}")(lambda item: item)
    await get(instrument(records, app), "/items/7")
    assert [span.name for span in records.spans() if span.kind is SpanKind.SERVER] == ["GET /items/{item}"]


async def test_a_websockets_span_is_its_handshakes(instrument: Instrument, monkeypatch: pytest.MonkeyPatch) -> None:
    Maker.use_new_names(monkeypatch)
    records, app, open_spans = Records(), FastAPI(), []

    @app.websocket("/talk/{room}")
    async def talk(socket: WebSocket, room: str) -> None:
        await socket.accept()
        open_spans.append(len(records.spans()))
        await socket.send_text(room)
        await socket.close()

    wire = Wire("/talk/7", type="websocket", scheme="ws", subprotocols=[])
    wire.incoming = [{"type": "websocket.connect"}]
    await wire.run(instrument(records, app))
    assert [message["type"] for message in wire.sent] == ["websocket.accept", "websocket.send", "websocket.close"]
    (span,) = records.spans()
    assert open_spans == [1]
    assert (span.attributes or {})["http.response.status_code"] == 101
    assert (span.attributes or {})["http.route"] == "/talk/{room}"


async def test_a_request_that_the_instrumentation_did_not_see_has_our_span() -> None:
    records = Records()
    tracer = InstrumentedTracer(records.provider, parse_excluded_urls(""))
    app = fastapi_house()
    app.add_middleware(ObservingMiddleware, **{**records.layer(), "tracer": tracer})
    await get(app, "/items/7")
    (span,) = records.spans()
    assert (span.name, span.instrumentation_scope and span.instrumentation_scope.name) == (
        "GET /items/{item}",
        "app.monitoring",
    )


MADE_BEFORE_THE_FORK = """
import asyncio, os, sys
from functools import partial
import httpx
from fastapi import FastAPI
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from app.monitoring import tracing
from app.monitoring.requests.placement import observe

reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
app = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False})
app.get("/items/{item}")(lambda item: item)
app.get("/health")(lambda: "well")
instrumented = sys.argv[1] == "instrumentation"
if instrumented:
    from app.monitoring.traces.instrumented import instrument_fastapi
    instrument_fastapi(app, excluded_urls="/health")
observe(app, tracer=partial(tracing.request_tracer, "/health", sys.argv[1]), instrumented=instrumented)

async def ask():
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://testserver") as client:
        await client.get("/items/7")
        await client.get("/health")

if os.fork() == 0:
    tracing.configure(
        exporter="console", endpoint=None, ratio=1.0, service="bali", version="1", environment="test"
    )
    asyncio.run(ask())
    tracing.shutdown(20.0)
    print("metrics", reader.get_metrics_data())
    sys.stdout.flush()
    os._exit(0)
os.wait()
"""


@pytest.mark.parametrize("maker", ["layer", "instrumentation"])
def test_an_app_that_is_made_before_the_fork_has_spans(maker: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MADE_BEFORE_THE_FORK, maker], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.count('"kind": "SpanKind.SERVER"') == 1
    assert '"name": "GET /items/{item}"' in done.stdout
    assert "metrics None" in done.stdout
    assert done.stderr == ""
