"""A tracer provider for each worker, and the instrumentation of the libraries that it uses.

Exporter and channel are made after the fork, since a gRPC channel does not survive one. Nothing here waits for a
collector: not the start, not a request, not the shutdown. The operator's OpenTelemetry variables win over arguments;
traces/environment.py lists and checks them.
"""

import os
import socket
import threading
import uuid
from collections.abc import Collection
from typing import Final, Literal

import structlog
from opentelemetry import trace
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.util.http import parse_excluded_urls

from .metrics.catalogue import catalogue
from .metrics.registry import registry
from .traces import propagation
from .traces.callers_decisions import MAX_FORCED_SAMPLES, CallersDecisions
from .traces.environment import TracingConfigurationError, general_exclusions, sampling, schedule_delay
from .traces.exporter import make_exporter, may_warn
from .traces.libraries import instrument_libraries
from .traces.limiting import sdk_limits
from .traces.limits import Limits
from .traces.request_span import RequestTracer
from .traces.sampling import RequestIds, RequestSampler
from .traces.span_queue import MAX_BATCH_SIZE, MAX_QUEUE_SIZE, REASONS, BoundedSpanProcessor
from .traces.span_redaction import MAX_VALUE_LENGTH
from .traces.variables import drop_empty

__all__ = [
    "TracingConfigurationError",
    "configure",
    "exemplar",
    "instrument_libraries",
    "shutdown",
]

RequestSpans = Literal["layer", "instrumentation"]
"""The maker of request spans: the layer of this package, or opentelemetry-instrumentation-fastapi."""
SHUTDOWN_DEADLINE: Final = 3.0

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("tracing")


class WorkerTracerProvider(TracerProvider):
    """One worker's provider."""

    queue: BoundedSpanProcessor | None = None
    """The spans that wait for the exporter, if there is one."""
    keep_failures = True
    """Keep unsampled requests that fail or are slow."""


def configure(
    *,
    exporter: Literal["otlp", "console", "none"],
    endpoint: str | None,
    ratio: float,
    service: str,
    version: str,
    environment: str,
    namespace: str | None = None,
    timeout: float | None = None,
    queue: int = MAX_QUEUE_SIZE,
    batch: int = MAX_BATCH_SIZE,
    trusted_upstreams: Collection[str] | None = None,
    max_forced_samples: float = MAX_FORCED_SAMPLES,
) -> TracerProvider:
    """Make this process's provider and install it. Call it once, in the worker, after the fork.

    `queue` is the number of spans that may wait for the exporter, `batch` the number that it gets at a time, `timeout`
    the seconds of one export. `trusted_upstreams` are hosts that get the tracestate and baggage of callers, redacted;
    None leaves them as they are, at first none. `max_forced_samples` bounds the requests a second that are sampled only
    because their callers say so. Raise TracingConfigurationError if an OpenTelemetry variable cannot be
    honoured.
    """
    drop_empty()
    chosen = sampling(ratio)
    for reason in REASONS:  # exposed as 0 before the first drop, with or without an exporter
        catalogue().spans_dropped.labels(reason)
    span_exporter = make_exporter(exporter, endpoint, timeout)
    provider = WorkerTracerProvider(
        resource=_resource(service, version, environment, namespace),
        # Without an exporter no span is of use, and an exemplar would lead nowhere.
        sampler=RequestSampler(
            chosen.ratio if span_exporter is not None else 0.0,
            parent_based=chosen.parent_based,
            callers=CallersDecisions(max_forced_samples, catalogue().caller_samples),
        ),
        id_generator=RequestIds(),
        # The SDK's atexit hook would wait half a minute for a collector that is away; `shutdown` below has a deadline.
        shutdown_on_exit=False,
        span_limits=sdk_limits(Limits.read(), MAX_VALUE_LENGTH),
    )
    provider.keep_failures = chosen.keep_failures
    if span_exporter is not None:
        provider.queue = BoundedSpanProcessor(span_exporter, catalogue().spans_dropped, queue, batch, schedule_delay())
        provider.add_span_processor(provider.queue)
        registry().exemplar_source = exemplar
    propagation.install(trusted_upstreams)
    trace.set_tracer_provider(provider)
    return provider


def _resource(service: str, version: str, environment: str, namespace: str | None) -> Resource:
    """Return the resource of this process; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win over arguments."""
    own = Resource.create(
        {
            "service.name": service,
            "service.version": version,
            # Unique for each worker, so that their telemetry does not collide downstream.
            "service.instance.id": str(uuid.uuid4()),
            "deployment.environment.name": environment,
            "host.name": socket.gethostname(),
            "process.pid": os.getpid(),
            **({"service.namespace": namespace} if namespace else {}),
        }
    )
    return own.merge(OTELResourceDetector().detect())


def exemplar() -> dict[str, str] | None:
    """Return the current span's ids as an exemplar's labels if its trace is sampled, else None."""
    context = trace.get_current_span().get_span_context()
    if not (context.is_valid and context.trace_flags.sampled):
        return None
    return {"trace_id": trace.format_trace_id(context.trace_id), "span_id": trace.format_span_id(context.span_id)}


def request_tracer(
    excluded_urls: str,
    spans: RequestSpans = "layer",
    libraries: Collection[str] | None = None,
    trusted_upstreams: Collection[str] | None = None,
) -> RequestTracer | None:
    """Return the tracer of requests, and instrument `libraries`, by default all known ones. None without a provider.

    `trusted_upstreams` is that of `configure`.

    Call it in the worker, after `configure`.
    """
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        return None
    propagation.install(trusted_upstreams)  # the application may have replaced provider and propagators
    instrument_libraries(libraries)
    late = not isinstance(provider, WorkerTracerProvider) or (provider.queue is not None and provider.keep_failures)
    excluded = ",".join(filter(None, (excluded_urls, general_exclusions())))
    kind = RequestTracer
    if spans == "instrumentation":
        from .traces.instrumented import InstrumentedTracer  # noqa: PLC0415 -- an option, and slow to import

        kind = InstrumentedTracer
    return kind(provider, parse_excluded_urls(excluded), late=late)


def shutdown(deadline: float = SHUTDOWN_DEADLINE) -> bool:
    """Export the queue and shut this package's provider down; return whether `deadline` seconds were enough.

    Another provider is flushed only: it may outlast this application. The SDK's own time-outs do not hold while the
    collector is away, so a thread does it, which is left behind.
    """
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        return True
    end = provider.shutdown if isinstance(provider, WorkerTracerProvider) else provider.force_flush
    ending = threading.Thread(target=end, name="tracing-shutdown", daemon=True)
    ending.start()
    ending.join(deadline)
    if ending.is_alive() and isinstance(provider, WorkerTracerProvider) and provider.queue is not None:
        provider.queue.give_up()
    if ending.is_alive() and may_warn():
        log.warning("spans_lost_at_shutdown", deadline_seconds=deadline)
    return not ending.is_alive()
