"""The service's observability, from its settings."""

from app import __version__
from app.monitoring import Observability
from app.settings import Settings

NAMESPACE = "baliblissed"


def build_observability(settings: Settings) -> Observability:
    """Return the object that configures gunicorn and instruments the application."""
    return Observability(
        settings.otel_service_name,
        version=__version__,
        namespace=NAMESPACE,
        environment=settings.environment,
        host=settings.host,
        port=settings.port,
        metrics_host=settings.metrics_host,
        metrics_port=settings.metrics_port,
        workers=settings.web_concurrency,
        max_requests=settings.max_requests,
        max_requests_jitter=settings.max_requests_jitter,
        max_surge=settings.max_surge,
        graceful_timeout=settings.graceful_timeout,
        stop_delay=settings.stop_delay,
        kill_timeout=settings.kill_timeout,
        worker_timeout=settings.worker_timeout,
        keepalive=settings.keepalive,
        max_in_flight=settings.requests_in_flight,
        max_header_bytes=settings.max_header_bytes,
        max_header_fields=settings.max_header_fields,
        header_timeout=settings.header_timeout,
        body_timeout=settings.body_timeout,
        min_body_rate=settings.min_body_rate,
        max_connections=settings.max_connections,
        overload_exempt_paths=settings.overload_exempt_paths,
        forwarded_allow_ips=settings.forwarded_allow_ips,
        request_id_pattern=settings.request_id_pattern,
        metrics_directory=settings.metrics_directory,
        max_series=settings.max_series_per_metric,
        allowed_metrics_ips=settings.allowed_metrics_ips,
        log_level=settings.log_level,
        redaction_packs=("indonesia", "world"),
        log_format="json" if settings.environment == "production" else "console",
        trusted_upstreams=settings.trusted_upstreams,
        tracing_disabled=settings.otel_sdk_disabled,
        # None if no spans were requested: the package's checks at the start distinguish this from "none".
        traces_exporter=settings.otel_traces_exporter or ("otlp" if settings.traces_exporter == "otlp" else None),
        otlp_endpoint=settings.otel_exporter_otlp_endpoint,
        otlp_timeout=settings.otel_exporter_otlp_timeout,
        sample_ratio=_sample_ratio(settings),
        max_forced_samples=settings.max_forced_samples,
        span_queue=settings.otel_bsp_max_queue_size,
        span_batch=settings.otel_bsp_max_export_batch_size,
        excluded_urls=settings.otel_python_fastapi_excluded_urls,
    )


def _sample_ratio(settings: Settings) -> float | None:
    """Return the share of traces; without an exporter None unless it is set, which the checks distinguish as well."""
    return settings.otel_traces_sampler_arg if settings.traces_exporter == "none" else settings.trace_sample_ratio
