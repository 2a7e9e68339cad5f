"""A tracer provider for each worker, and the instrumentation of what it uses.

The constraint to know: exporter and channel are made after the fork, since a gRPC channel does not survive one; and
nothing here waits for a collector, neither at the start nor in a request nor at the end.
"""

import importlib.util
import logging
import mmap
import os
import socket
import struct
import threading
import time
import uuid
from collections.abc import Sequence
from typing import Literal

from opentelemetry import trace
from opentelemetry.instrumentation.instrumentor import (  # type: ignore[attr-defined]
    BaseInstrumentor,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter, SpanExportResult
from opentelemetry.util.http import parse_excluded_urls

from .logging import get_logger
from .metrics.catalogue import catalogue
from .metrics.registry import registry
from .traces.request_span import RequestTracer
from .traces.sampling import RequestIds, RequestSampler
from .traces.span_queue import MOST_IN_BATCH, MOST_SPANS, REASONS, BoundedSpanProcessor
from .traces.span_redaction import LONGEST_VALUE, RedactingExporter

ExporterName = Literal["otlp", "console", "none"]
SECONDS_BETWEEN_WARNINGS = 60.0
SHUTDOWN_DEADLINE = 3.0

log = get_logger("tracing")
INSTRUMENTED = {
    "asyncpg": "opentelemetry.instrumentation.asyncpg:AsyncPGInstrumentor",
    "httpx": "opentelemetry.instrumentation.httpx:HTTPXClientInstrumentor",
    "redis": "opentelemetry.instrumentation.redis:RedisInstrumentor",
    "sqlalchemy": "opentelemetry.instrumentation.sqlalchemy:SQLAlchemyInstrumentor",
}
"""Libraries that get spans below a request, each with its instrumentor, where both are installed."""


# When the next warning may come, on the machine's monotonic clock: memory that the workers share, since this module
# is loaded before they are forked.
_next_warning = mmap.mmap(-1, 8)


def _may_warn() -> bool:
    now = time.monotonic()
    if now < struct.unpack("d", _next_warning[:])[0]:
        return False
    _next_warning[:] = struct.pack("d", now + SECONDS_BETWEEN_WARNINGS)
    return True


class CalmExporter(SpanExporter):
    """Passes spans on, and says at most once a minute, in all workers together, that they cannot be delivered."""

    def __init__(self, inner: SpanExporter, endpoint: str) -> None:
        self._inner = inner
        self._endpoint = endpoint
        self._closing = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export `spans`; a failure is logged and reported, never raised."""
        if self._closing.is_set():
            return SpanExportResult.FAILURE
        try:
            result = self._inner.export(spans)
            reason = "the collector did not take them"
        except Exception as error:  # noqa: BLE001 -- the exporter's thread must live whatever the channel does
            result, reason = SpanExportResult.FAILURE, f"{type(error).__name__}: {error}"
        if result is not SpanExportResult.SUCCESS and _may_warn():
            log.warning("spans_not_exported", endpoint=self._endpoint, reason=reason, spans=len(spans))
        return result

    def shutdown(self) -> None:
        """End the inner exporter."""
        self._closing.set()
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the inner exporter."""
        return self._inner.force_flush(timeout_millis)


class WorkerTracerProvider(TracerProvider):
    """One worker's provider. `queue` holds the spans that are to be exported, where there is an exporter."""

    queue: BoundedSpanProcessor | None = None


def _make_exporter(name: ExporterName, endpoint: str | None, timeout: float) -> SpanExporter | None:
    if name == "none":
        return None
    if name == "console":
        return RedactingExporter(ConsoleSpanExporter())
    # Imported in the worker, and only where it is used: gRPC costs 0.3 s and does not like to be forked.
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

    # CalmExporter speaks for them: they would log a pair of lines for every batch.
    for chatty in ("opentelemetry.exporter.otlp.proto.grpc", "opentelemetry.sdk._shared_internal"):
        logging.getLogger(chatty).setLevel(logging.CRITICAL)
    otlp = RedactingExporter(OTLPSpanExporter(endpoint=endpoint, timeout=timeout))
    return CalmExporter(otlp, endpoint or "the default")


def configure(
    *,
    exporter: ExporterName,
    endpoint: str | None,
    ratio: float,
    service: str,
    version: str,
    environment: str,
    namespace: str | None = None,
    timeout: float = 5.0,
    queue: int = MOST_SPANS,
    batch: int = MOST_IN_BATCH,
) -> TracerProvider:
    """Make this process's provider and install it. Call it once, in the worker, after the fork.

    `queue` is how many spans may wait for the exporter, `batch` how many it gets at a time.
    """
    for reason in REASONS:  # exposed as 0 before it first happens, whatever becomes of the exporter
        catalogue().spans_dropped.labels(reason)
    host = socket.gethostname()
    resource = Resource.create(
        {
            "service.name": service,
            "service.version": version,
            # Unique for each worker: figures of several would otherwise collide downstream.
            "service.instance.id": str(uuid.uuid4()),
            "deployment.environment.name": environment,
            "host.name": host,
            "process.pid": os.getpid(),
            **({"service.namespace": namespace} if namespace else {}),
        }
    )
    span_exporter = _make_exporter(exporter, endpoint, timeout)
    provider = WorkerTracerProvider(
        resource=resource,
        # Without an exporter a span would be made for nobody, and an exemplar would lead nowhere.
        sampler=RequestSampler(ratio if span_exporter is not None else 0.0),
        id_generator=RequestIds(),
        # Its own atexit hook would wait half a minute for a collector that is away; `shutdown` below has a deadline.
        shutdown_on_exit=False,
        span_limits=SpanLimits(max_attribute_length=LONGEST_VALUE),
    )
    if span_exporter is not None:
        provider.queue = BoundedSpanProcessor(span_exporter, catalogue().spans_dropped, queue, batch)
        provider.add_span_processor(provider.queue)
        registry().exemplar_source = exemplar
    # What a client can make the SDK complain of, header by header.
    for parser in ("opentelemetry.baggage.propagation", "opentelemetry.trace.propagation", "opentelemetry.trace.span"):
        logging.getLogger(parser).setLevel(logging.ERROR)
    trace.set_tracer_provider(provider)
    return provider


def exemplar() -> dict[str, str] | None:
    """The current span's ids as an exemplar's labels, if its trace is kept."""
    context = trace.get_current_span().get_span_context()
    if not (context.is_valid and context.trace_flags.sampled):
        return None
    return {"trace_id": trace.format_trace_id(context.trace_id), "span_id": trace.format_span_id(context.span_id)}


def request_tracer(excluded_urls: str) -> RequestTracer | None:
    """What begins and ends the spans of requests, with spans for asyncpg, Redis and httpx; None without a provider."""
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        return None
    _instrument_libraries()
    exports = not isinstance(provider, WorkerTracerProvider) or provider.queue is not None
    return RequestTracer(provider, parse_excluded_urls(excluded_urls), late=exports)


def _instrument_libraries() -> None:
    """Have the installed libraries make spans, once in a process."""
    for library, reference in INSTRUMENTED.items():
        module, _, name = reference.partition(":")
        # The parent package first: find_spec imports it, and raises where it is missing.
        if importlib.util.find_spec(library) is None or importlib.util.find_spec(module) is None:
            continue
        instrumentor: BaseInstrumentor = getattr(importlib.import_module(module), name)()
        if not instrumentor.is_instrumented_by_opentelemetry:
            instrumentor.instrument()


def shutdown(deadline: float = SHUTDOWN_DEADLINE) -> bool:
    """Send what is queued and end the provider, within `deadline` seconds; whether that was enough.

    The SDK's own time-outs do not hold while the collector is away, so it runs in a thread that is left behind.
    """
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        return True
    ending = threading.Thread(target=provider.shutdown, name="tracing-shutdown", daemon=True)
    ending.start()
    ending.join(deadline)
    if ending.is_alive() and isinstance(provider, WorkerTracerProvider) and provider.queue is not None:
        provider.queue.give_up()
    if ending.is_alive() and _may_warn():
        log.warning("spans_lost_at_shutdown", deadline_seconds=deadline)
    return not ending.is_alive()
