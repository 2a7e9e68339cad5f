"""`Observability(tracing=...)`: who makes the spans of requests, and their attributes, whoever it is."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from opentelemetry import trace
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Span, SpanKind
from structlog.testing import capture_logs

from app.monitoring import Observability
from app.monitoring.metrics.registry import current_namespace, registry
from app.monitoring.traces.span_redaction import RedactingExporter
from tests.fixtures import running
from tests.monitoring.traced import Maker

LAYER, INSTRUMENTATION = Observability.__module__.rpartition(".")[0], "opentelemetry.instrumentation.fastapi"
PROXY = ("10.1.2.3", 40_000)
DIRTY = {
    "host": "shop.example:8443",
    "user-agent": "curl/8 (made.sari@ubud-villas.example)",
    "x-forwarded-for": "203.0.113.9",
    "x-forwarded-proto": "https",
    "x-note": "from made.sari@ubud-villas.example",
    "x-plain": "beach",
}
SECRETS = ("made.sari", "203.0.113.9", "10.1.2.3")


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(Observability, "_current", None)
    yield
    FastAPIInstrumentor.uninstrument_app(FastAPI())  # and the instrumentation of background tasks


def observability(tracing: Any, **options: Any) -> Observability:
    return Observability(
        "shop",
        namespace=current_namespace(),
        max_series=registry().max_series,
        tracing=tracing,
        forwarded_allow_ips=PROXY[0],
        **options,
    )


async def read(request: Request) -> int:
    return len(await request.body())


def shop() -> FastAPI:
    app = FastAPI()
    app.add_api_route("/items/{item}", lambda item: item, methods=["GET", "BREW"])
    app.add_api_route("/items/{item}", read, methods=["POST"])
    app.add_api_route("/health", lambda: "well")
    return app


def kinds(spans: InMemorySpanExporter) -> list[tuple[str, SpanKind]]:
    """Return scope and kind of each span."""
    return [
        (span.instrumentation_scope.name, span.kind)
        for span in spans.get_finished_spans()
        if span.instrumentation_scope
    ]


def sent(spans: InMemorySpanExporter) -> ReadableSpan:
    """Return the only span, as it is exported."""
    kept = InMemorySpanExporter()
    RedactingExporter(kept).export(spans.get_finished_spans())
    (span,) = kept.get_finished_spans()
    return span


@pytest.mark.parametrize(
    ("tracing", "expected"),
    [
        ("layer", [(LAYER, SpanKind.SERVER)]),
        ("instrumentation", [(INSTRUMENTATION, SpanKind.SERVER)]),
        ("none", []),
    ],
)
async def test_a_request_has_the_span_of_the_chosen_maker(
    spans: InMemorySpanExporter, tracing: str, expected: list[tuple[str, SpanKind]]
) -> None:
    app = observability(tracing).instrument(shop())
    with capture_logs() as lines:
        async with running(app) as client:
            spans.clear()
            await client.get("/items/7")
            await client.get("/health")
    assert kinds(spans) == expected
    line = next(line for line in lines if line["event"] == "request")
    made = [trace.format_trace_id(span.context.trace_id) for span in spans.get_finished_spans() if span.context]
    assert line.get("trace_id") == (made[0] if made else None)


@pytest.mark.parametrize(
    ("tracing", "names", "scheme"),
    [
        ("layer", "new", "url.scheme"),
        ("instrumentation", "new", "url.scheme"),
        ("instrumentation", "old", "http.scheme"),
    ],
)
async def test_attributes_of_the_semantic_conventions_leave_redacted(
    spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch, tracing: str, names: str, scheme: str
) -> None:
    if names == "new":
        Maker.use_new_names(monkeypatch)
    app = observability(tracing).instrument(shop())
    async with running(app, PROXY) as client:
        spans.clear()
        assert (await client.request("BREW", "/items/7", headers=DIRTY)).status_code == 200
    span = sent(spans)
    assert (
        dict(span.attributes or {}).items()
        >= {
            "http.request.method_original": "BREW",
            "user_agent.original": "curl/8 ([email])",
            "client.address": "203.0.113.0/24",
            "network.peer.address": "10.1.2.0/24",
            "server.address": "shop.example",
            "server.port": 8443,
            scheme: "https",
            "http.route": "/items/{item}",
        }.items()
    )
    assert [secret for secret in SECRETS if secret in span.to_json()] == []


async def test_hooks_and_captured_headers_of_the_instrumentation_work(
    spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST", "x-.*")
    monkeypatch.setenv("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE", "content-type")
    monkeypatch.setenv("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS", "x-forwarded-proto")

    def note(name: str) -> Any:
        def hook(span: Span, _scope: dict[str, Any], *_message: Any) -> None:
            span.set_attribute("hook", name)

        return hook

    app = observability("instrumentation").instrument(
        shop(),
        server_request_hook=note("server"),
        client_request_hook=note("receive"),
        client_response_hook=note("send"),
    )
    async with running(app, PROXY) as client:
        spans.clear()
        assert (await client.post("/items/7", headers=DIRTY, content="xyz")).json() == 3
    kept = InMemorySpanExporter()
    RedactingExporter(kept).export(spans.get_finished_spans())
    found = {
        str((span.attributes or {}).get("hook")): dict(span.attributes or {}) for span in kept.get_finished_spans()
    }
    assert found.keys() == {"server", "receive", "send"}
    server = found["server"]
    assert server["http.request.header.x_note"] == ("from [email]",)
    assert server["http.request.header.x_plain"] == ("beach",)
    assert server["http.request.header.x_forwarded_proto"] == ("[REDACTED]",)
    assert server["http.response.header.content_type"] == ("application/json",)
    assert [secret for span in kept.get_finished_spans() for secret in SECRETS if secret in span.to_json()] == []


@pytest.mark.parametrize("tracing", ["layer", "none"])
def test_hooks_without_the_instrumentation_are_refused(tracing: str) -> None:
    with pytest.raises(TypeError, match=f"server_request_hook: want tracing='instrumentation', not '{tracing}'"):
        observability(tracing).instrument(shop(), server_request_hook=lambda *_: None)


@pytest.mark.parametrize("tracing", ["layer", "instrumentation"])
@pytest.mark.parametrize(
    ("way", "maker"),
    [
        ("instrumented before", "FastAPIInstrumentor"),
        ("middleware before", "OpenTelemetryMiddleware"),
        ("middleware after", "OpenTelemetryMiddleware"),
    ],
)
async def test_an_application_that_is_instrumented_already_has_one_span_and_a_line_says_so(
    spans: InMemorySpanExporter, tracing: str, way: str, maker: str
) -> None:
    app = shop()
    if way == "instrumented before":
        FastAPIInstrumentor.instrument_app(app, exclude_spans=["receive", "send"])
    elif way == "middleware before":
        app.add_middleware(OpenTelemetryMiddleware, exclude_spans=["receive", "send"])
    observability(tracing).instrument(app)
    if way == "middleware after":
        app.add_middleware(OpenTelemetryMiddleware, exclude_spans=["receive", "send"])
    with capture_logs() as lines:
        async with running(app) as client:
            spans.clear()
            await client.get("/items/7")
    assert [kind for _, kind in kinds(spans)] == [SpanKind.SERVER]
    (warning,) = [line for line in lines if line["event"] == "requests_traced_elsewhere"]
    assert (warning["log_level"], warning["by"]) == ("warning", maker)
    assert warning["instead"] == f"remove {maker}, or choose tracing='none'"
    (request,) = [line for line in lines if line["event"] == "request"]
    (span,) = spans.get_finished_spans()
    assert span.context is not None
    assert request["trace_id"] == trace.format_trace_id(span.context.trace_id)


async def test_a_second_instrumentation_after_ours_makes_no_second_span(spans: InMemorySpanExporter) -> None:
    app = observability("instrumentation").instrument(shop())
    FastAPIInstrumentor.instrument_app(app)
    async with running(app) as client:
        spans.clear()
        await client.get("/items/7")
    assert kinds(spans) == [(INSTRUMENTATION, SpanKind.SERVER)]


async def test_without_tracing_an_instrumentation_of_the_applications_own_is_left_alone(
    spans: InMemorySpanExporter,
) -> None:
    app = shop()
    FastAPIInstrumentor.instrument_app(app, exclude_spans=["receive", "send"])
    observability("none").instrument(app)
    with capture_logs() as lines:
        async with running(app) as client:
            spans.clear()
            await client.get("/items/7")
    assert kinds(spans) == [(INSTRUMENTATION, SpanKind.SERVER)]
    assert "requests_traced_elsewhere" not in {line["event"] for line in lines}


@pytest.mark.parametrize("tracing", ["layer", "instrumentation", "none"])
async def test_a_provider_of_the_applications_own_outlasts_every_lifespan(
    monkeypatch: pytest.MonkeyPatch, tracing: str
) -> None:
    own, kept = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    own.add_span_processor(SimpleSpanProcessor(kept))
    flushed: list[str] = []
    monkeypatch.setattr(own, "force_flush", lambda: flushed.append("flushed"))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: own)
    for _ in range(2):
        kept.clear()
        app = observability(tracing, instrument_libraries=()).instrument(shop())
        async with running(app) as client:
            await client.get("/items/7")
        with own.get_tracer("own").start_as_current_span("after"):
            pass
        assert [span.name for span in kept.get_finished_spans()] == ["GET /items/{item}"] * (tracing != "none") + [
            "after"
        ]
    assert len(flushed) == (0 if tracing == "none" else 2)


@pytest.mark.parametrize("tracing", ["layer", "instrumentation"])
async def test_the_span_around_a_client_in_the_same_process_is_not_taken_for_an_excluded_requests(
    spans: InMemorySpanExporter, tracing: str
) -> None:
    app = observability(tracing).instrument(shop())
    async with running(app) as client:
        spans.clear()
        with trace.get_tracer("test").start_as_current_span("around") as around:
            answer: httpx.Response = await client.get("/health")
            assert around.is_recording()
    assert answer.status_code == 200
    (span,) = [span for span in spans.get_finished_spans() if span.name == "around"]
    assert span.attributes == {}
