"""The arguments that `tracing.configure` passes to the SDK, and the SDK features it disables."""

import logging
import subprocess
import sys
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from prometheus_client import CollectorRegistry

from app.monitoring import Options, tracing
from app.monitoring.arguments import tracing_arguments
from app.monitoring.metrics.catalogue import build_catalogue
from app.monitoring.metrics.registry import registry
from app.monitoring.traces.exporter import ExporterName
from app.monitoring.traces.span_queue import REASONS
from app.monitoring.traces.span_redaction import MAX_VALUE_LENGTH
from tests.monitoring.test_tracing import COMMON, SEND_ONE, Inner
from tests.process.service import ROOT


def test_one_value_is_kept_up_to_a_length_that_can_be_redacted(installed: list[TracerProvider]) -> None:
    provider = tracing.configure(exporter="console", **COMMON)
    span = provider.get_tracer("test").start_span("x", attributes={"note": "x" * 100_000})
    assert isinstance(span, ReadableSpan)
    assert len(str((span.attributes or {})["note"])) == MAX_VALUE_LENGTH


@pytest.mark.parametrize(
    ("environment", "namespace"),
    [({}, None), ({"METRICS_NAMESPACE": "asia"}, "asia"), ({"METRICS_NAMESPACE": ""}, None)],
)
def test_a_service_has_the_namespace_that_it_was_given_and_no_other(
    installed: list[TracerProvider], environment: dict[str, str], namespace: str | None
) -> None:
    options = Options.read({"service": "shop"}, environment)
    provider = tracing.configure(**tracing_arguments(options))
    assert provider.resource.attributes.get("service.namespace") == namespace


@pytest.mark.parametrize("name", ["none", "otlp"])
def test_every_reason_for_a_dropped_span_is_exposed_as_0(
    installed: list[TracerProvider], monkeypatch: pytest.MonkeyPatch, name: ExporterName
) -> None:
    own = CollectorRegistry()
    made = build_catalogue(own)
    monkeypatch.setattr(tracing, "catalogue", lambda: made)
    tracing.configure(exporter=name, **COMMON)
    values = [own.get_sample_value("baliblissed_spans_dropped_total", {"reason": reason}) for reason in REASONS]
    assert values == [0, 0, 0]


def test_the_queue_and_its_exporter_are_as_large_and_as_patient_as_they_are_told(
    installed: list[TracerProvider], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, Any] = {}

    class Exporter(Inner):
        def __init__(self, **options: Any) -> None:
            super().__init__()
            made.update(options)

    monkeypatch.setattr("opentelemetry.exporter.otlp.proto.grpc.trace_exporter.OTLPSpanExporter", Exporter)
    monkeypatch.setattr(registry(), "exemplar_source", None)
    common = {**COMMON, "endpoint": "http://collector:4317"}
    provider = tracing.configure(exporter="otlp", timeout=1.5, queue=3, batch=2, **common)
    assert (made["endpoint"], made["timeout"]) == ("http://collector:4317", 1.5)
    assert isinstance(provider, tracing.WorkerTracerProvider)
    assert provider.queue is not None
    assert provider.queue._max_queue_size == 3
    assert provider.queue._batches._batch_processor._max_export_batch_size == 2


def test_the_end_of_the_interpreter_waits_for_no_collector() -> None:
    """The deadline of `shutdown` applies only once it has been called."""
    script = SEND_ONE.replace(
        'print("sent", tracing.shutdown(20.0))', "print(trace.get_tracer_provider()._atexit_handler)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "none", ""], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "None\n"


def test_the_sdks_own_lines_about_a_failed_export_are_not_written(installed: list[TracerProvider]) -> None:
    tracing.configure(exporter="otlp", **COMMON)
    for name in ("opentelemetry.exporter.otlp.proto.grpc.exporter", "opentelemetry.sdk._shared_internal"):
        assert not logging.getLogger(name).isEnabledFor(logging.ERROR)
