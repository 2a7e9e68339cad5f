"""Spans of a request across its dependencies, and their export while the collector is unavailable."""

import json
import os
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context
from structlog.testing import capture_logs

from app.monitoring import tracing
from app.monitoring.metrics.registry import registry
from app.monitoring.traces import exporter as exporters
from app.monitoring.traces.exporter import ExporterName
from tests.middleware.wire import Wire
from tests.process.service import ROOT

COMMON: dict[str, Any] = {"endpoint": None, "ratio": 1.0, "service": "bali", "version": "1.2.3", "environment": "test"}
SEND_ONE = """
import sys
from opentelemetry import trace
from app.monitoring import tracing
tracing.configure(
    exporter=sys.argv[1], endpoint=sys.argv[2], ratio=1.0, service="bali", version="1.2.3", environment="test"
)
with trace.get_tracer("test").start_as_current_span("swim", attributes={"place": "Sanur"}):
    pass
print("sent", tracing.shutdown(20.0))
"""
CONFIGURE_IN_CHILDREN = """
import os
from app.monitoring import tracing
for _ in range(3):
    if os.fork() == 0:
        provider = tracing.configure(
            exporter="none", endpoint=None, ratio=1.0, service="bali", version="1", environment="test"
        )
        print(provider.resource.attributes["service.instance.id"], flush=True)
        os._exit(0)
    os.wait()
"""
FAIL_IN_CHILDREN = """
import os
from app.monitoring.traces import exporter
class Away:
    def export(self, spans):
        raise OSError("away")
for _ in range(3):
    if os.fork() == 0:
        exporter.ReportingExporter(Away(), "collector").export([])
        exporter.ReportingExporter(Away(), "collector").export([])
        os._exit(0)
    os.wait()
"""


class Inner(SpanExporter):
    """An exporter with a configurable result, which can be blocked."""

    def __init__(self, result: SpanExportResult | Exception = SpanExportResult.SUCCESS) -> None:
        self.result = result
        self.exported = 0
        self.ended = False
        self.free = threading.Event()
        self.free.set()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.free.wait()
        self.exported += len(spans) or 1
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    def shutdown(self) -> None:
        self.ended = True

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return timeout_millis == 7


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """An OTLP collector that stores the requests it receives."""

    def __init__(self) -> None:
        self.requests: list[Any] = []

    def Export(self, request: Any, _context: Any) -> Any:  # noqa: N802 -- the name is the protocol's
        self.requests.append(request)
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture(autouse=True)
def _may_warn() -> Iterator[None]:
    """Reset the time of the next warning before and after each test."""
    exporters._next_warning[:] = bytes(8)
    yield
    exporters._next_warning[:] = bytes(8)


def is_sampled(provider: TracerProvider, parent: TraceFlags | None = None) -> bool:
    """Return True if `provider` samples a span whose remote parent has the flags `parent`. None means no parent."""
    context = None
    if parent is not None:
        context = set_span_in_context(NonRecordingSpan(SpanContext(1, 2, is_remote=True, trace_flags=parent)))
    return bool(provider.get_tracer("test").start_span("x", context).get_span_context().trace_flags.sampled)


def test_a_provider_says_which_service_and_which_process_it_is(installed: list[TracerProvider]) -> None:
    first = tracing.configure(exporter="none", namespace="shop", **COMMON)
    second = tracing.configure(exporter="none", **COMMON)
    assert installed == [first, second]
    attributes = dict(first.resource.attributes)
    instance = attributes.pop("service.instance.id")
    assert uuid.UUID(str(instance))
    assert instance != second.resource.attributes["service.instance.id"]
    assert {name: value for name, value in attributes.items() if not name.startswith("telemetry.sdk.")} == {
        "service.name": "bali",
        "service.namespace": "shop",
        "service.version": "1.2.3",
        "deployment.environment.name": "test",
        "host.name": socket.gethostname(),
        "process.pid": os.getpid(),
    }


def test_every_worker_is_an_instance_of_its_own() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CONFIGURE_IN_CHILDREN], cwd=ROOT, capture_output=True, text=True, check=True
    )
    instances = done.stdout.split()
    assert len(instances) == len(set(instances)) == 3


@pytest.mark.parametrize(("exporter", "spans"), [("none", 0), ("console", 1)])
async def test_a_failed_request_is_kept_only_where_somebody_takes_its_span(
    installed: list[TracerProvider], monkeypatch: pytest.MonkeyPatch, exporter: ExporterName, spans: int
) -> None:
    monkeypatch.setattr(registry(), "exemplar_source", None)
    provider = tracing.configure(exporter=exporter, **{**COMMON, "ratio": 0.0})
    kept = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = tracing.request_tracer("")
    assert tracer is not None
    scope = Wire().scope
    assert tracer.end(tracer.begin(scope, None), None, 500, 0.1) is bool(spans)
    assert len(kept.get_finished_spans()) == spans
    assert (registry().exemplar_source is not None) is bool(spans)


def test_a_client_cannot_fill_the_log_through_headers_that_the_sdk_complains_of(
    installed: list[TracerProvider], caplog: pytest.LogCaptureFixture
) -> None:
    tracing.configure(exporter="none", **COMMON)
    tracer = tracing.request_tracer("")
    assert tracer is not None
    parent = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    odd = b",".join([b"what is this"] * 500)
    for name in (b"baggage", b"tracestate"):
        tracer.begin(Wire(headers=((b"traceparent", parent), (name, odd))).scope, parent)
    assert caplog.records == []


@pytest.mark.parametrize(
    ("exporter", "ratio", "root"), [("console", 0.0, False), ("console", 1.0, True), ("none", 1.0, False)]
)
def test_a_root_is_sampled_by_ratio_if_anybody_takes_it_and_a_child_as_its_parent(
    installed: list[TracerProvider], exporter: ExporterName, ratio: float, *, root: bool
) -> None:
    provider = tracing.configure(exporter=exporter, **{**COMMON, "ratio": ratio})
    assert is_sampled(provider) is root
    assert is_sampled(provider, TraceFlags(TraceFlags.SAMPLED)) is True
    assert is_sampled(provider, TraceFlags(TraceFlags.DEFAULT)) is False


@pytest.mark.parametrize(("name", "processors"), [("none", 0), ("console", 1), ("otlp", 1)])
def test_each_exporter_has_its_processor_and_none_has_none(
    installed: list[TracerProvider], name: ExporterName, processors: int
) -> None:
    provider = tracing.configure(exporter=name, **COMMON)
    assert len(provider._active_span_processor._span_processors) == processors


def test_the_console_exporter_prints_the_span() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SEND_ONE, "console", ""], cwd=ROOT, capture_output=True, text=True, check=True
    )
    span, _ = json.JSONDecoder().raw_decode(done.stdout)
    assert (span["name"], span["attributes"]) == ("swim", {"place": "Sanur"})
    assert done.stdout.endswith("sent True\n")


def test_a_span_reaches_a_collector_over_grpc() -> None:
    collector, server = Collector(), grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        command = [sys.executable, "-c", SEND_ONE, "otlp", endpoint]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    finally:
        server.stop(None).wait()
    assert done.stdout == "sent True\n"
    ((resource_spans,),) = [request.resource_spans for request in collector.requests]
    attributes = {item.key: item.value.string_value for item in resource_spans.resource.attributes}
    ((span,),) = [scope.spans for scope in resource_spans.scope_spans]
    assert (attributes["service.name"], span.name) == ("bali", "swim")


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (SpanExportResult.FAILURE, "the collector did not take them"),
        (ConnectionError("refused"), "ConnectionError: refused"),
    ],
)
def test_a_collector_that_is_away_is_said_once_a_minute(
    monkeypatch: pytest.MonkeyPatch, result: SpanExportResult | Exception, reason: str
) -> None:
    reporting = exporters.ReportingExporter(Inner(result), "http://collector:4317")
    with capture_logs() as lines:
        assert [reporting.export([]) for _ in range(5)] == [SpanExportResult.FAILURE] * 5
        monkeypatch.setattr(exporters, "SECONDS_BETWEEN_WARNINGS", 0.0)
        exporters._next_warning[:] = bytes(8)
        reporting.export([])
    assert [line["event"] for line in lines] == ["spans_not_exported"] * 2
    assert (lines[0]["reason"], lines[0]["endpoint"]) == (reason, "http://collector:4317")
    assert lines[0]["log_level"] == "warning"


def test_all_workers_together_say_it_once() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FAIL_IN_CHILDREN], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.count("spans_not_exported") == 1


def test_an_exporter_that_is_well_is_passed_on_to_in_silence() -> None:
    reporting = exporters.ReportingExporter(inner := Inner(), "x")
    with capture_logs() as lines:
        assert reporting.export([]) is SpanExportResult.SUCCESS
        assert (reporting.force_flush(7), reporting.force_flush()) == (True, False)
        reporting.shutdown()
        assert reporting.export([]) is SpanExportResult.FAILURE
    assert (lines, inner.exported, inner.ended) == ([], 1, True)


def test_shutdown_sends_what_is_queued(installed: list[TracerProvider]) -> None:
    provider, inner = tracing.WorkerTracerProvider(shutdown_on_exit=False), Inner()
    provider.add_span_processor(BatchSpanProcessor(inner))
    installed.append(provider)
    provider.get_tracer("test").start_span("x").end()
    assert tracing.shutdown(30.0) is True
    assert (inner.exported, inner.ended) == (1, True)


def test_a_provider_of_the_applications_own_is_flushed_and_not_shut_down(installed: list[TracerProvider]) -> None:
    provider, inner = TracerProvider(shutdown_on_exit=False), Inner()
    provider.add_span_processor(BatchSpanProcessor(inner))
    installed.append(provider)
    for sent in (1, 2):
        provider.get_tracer("test").start_span("x").end()
        assert tracing.shutdown(30.0) is True
        assert (inner.exported, inner.ended) == (sent, False)
    provider.shutdown()


def test_shutdown_gives_up_on_a_stuck_exporter_at_its_deadline(installed: list[TracerProvider]) -> None:
    provider, inner = TracerProvider(shutdown_on_exit=False), Inner()
    inner.free.clear()
    provider.add_span_processor(BatchSpanProcessor(inner))
    installed.append(provider)
    provider.get_tracer("test").start_span("x").end()
    try:
        with capture_logs() as lines:
            assert tracing.shutdown(0.05) is False
        assert lines == [{"event": "spans_lost_at_shutdown", "deadline_seconds": 0.05, "log_level": "warning"}]
    finally:
        inner.free.set()


def test_shutdown_without_a_provider_is_done_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "get_tracer_provider", trace.NoOpTracerProvider)
    assert tracing.shutdown(0.0) is True
