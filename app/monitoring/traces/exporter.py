"""The span exporters: console, and OTLP over gRPC or HTTP, each behind redaction.

Make an exporter after the fork: a gRPC channel does not survive one.
"""

import importlib
import logging
import mmap
import struct
import threading
import time
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal

import structlog
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter, SpanExportResult

from .environment import GRPC_EXPORTER, HTTP_EXPORTER, batch_timeout, otlp_protocol
from .limiting import LimitingExporter
from .limits import Limits
from .span_redaction import RedactingExporter
from .transport import (
    CREDENTIAL_PROVIDERS,
    Files,
    credential_provider,
    is_insecure,
    otlp_compression,
    otlp_endpoint,
    otlp_timeout,
)

ExporterName = Literal["otlp", "console", "none"]
SECONDS_BETWEEN_WARNINGS = 60.0

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("tracing")
# Each logs a pair of lines for every batch that fails; ReportingExporter reports instead.
_NOISY_LOGGERS = (
    "opentelemetry.exporter.otlp.proto.grpc",
    "opentelemetry.exporter.otlp.proto.http",
    "opentelemetry.sdk._shared_internal",
)
# The earliest time of the next warning on the monotonic clock, in memory that all workers share: this module is
# imported before they are forked.
_next_warning = mmap.mmap(-1, 8)


def may_warn() -> bool:
    """Return true at most once a minute in all workers together."""
    now = time.monotonic()
    if now < struct.unpack("d", _next_warning[:])[0]:
        return False
    _next_warning[:] = struct.pack("d", now + SECONDS_BETWEEN_WARNINGS)
    return True


class ReportingExporter(SpanExporter):
    """Pass spans on; log failures at most once a minute in all workers together. Never raises."""

    def __init__(self, inner: SpanExporter, endpoint: str) -> None:
        self._inner = inner
        self._endpoint = endpoint
        self._closing = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export `spans`; a failure is logged and returned, never raised."""
        if self._closing.is_set():
            return SpanExportResult.FAILURE
        try:
            result = self._inner.export(spans)
            reason = "the collector did not take them"
        except Exception as error:  # noqa: BLE001 -- an error would end the exporter's thread
            result, reason = SpanExportResult.FAILURE, f"{type(error).__name__}: {error}"
        if result is not SpanExportResult.SUCCESS and may_warn():
            log.warning("spans_not_exported", endpoint=self._endpoint, reason=reason, spans=len(spans))
        return result

    def shutdown(self) -> None:
        """Shut the inner exporter down."""
        self._closing.set()
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the inner exporter."""
        return self._inner.force_flush(timeout_millis)


def make_exporter(name: ExporterName, endpoint: str | None, timeout: float | None) -> SpanExporter | None:
    """Return the exporter `name`, None for "none". `endpoint` and `timeout` (seconds) yield to the variables of traces.

    The http/protobuf exporter itself reads the variables of headers, files and compression, the one of gRPC those of
    headers.
    """
    if name == "none":
        return None
    if name == "console":
        return _redacting(ConsoleSpanExporter())
    protocol = otlp_protocol()
    # Imported in the worker and only if it is used: gRPC takes 0.3 s and must not be forked.
    module = importlib.import_module(GRPC_EXPORTER if protocol == "grpc" else HTTP_EXPORTER)
    for logger in _NOISY_LOGGERS:
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    address = otlp_endpoint(endpoint, protocol)
    options = _grpc_options(address) if protocol == "grpc" else {}
    otlp = module.OTLPSpanExporter(endpoint=address, timeout=batch_timeout(otlp_timeout(timeout)), **options)
    return ReportingExporter(_redacting(otlp), address or "the default")


def _redacting(exporter: SpanExporter) -> SpanExporter:
    """Return `exporter` behind redaction, and the limits of values behind that."""
    limits = Limits.read()
    return RedactingExporter(exporter if limits == Limits() else LimitingExporter(exporter, limits))


def _grpc_options(address: str | None) -> dict[str, Any]:
    """Return the arguments that gRPC's exporter would read wrongly: each file falls back to that of all signals."""
    import grpc  # type: ignore[import-untyped]  # noqa: PLC0415 -- in the worker only

    kind = grpc.Compression.Gzip if otlp_compression() == "gzip" else grpc.Compression.NoCompression
    options: dict[str, Any] = {"insecure": is_insecure(address), "compression": kind}
    if not options["insecure"]:
        options["credentials"] = _credentials(grpc)
    return options


def _credentials(grpc: Any) -> Any:
    _, provider = credential_provider()
    if provider:
        (point,) = entry_points(group=CREDENTIAL_PROVIDERS, name=provider)
        return point.load()()
    files = Files.read()
    paths = (files.certificate, files.client_key, files.client_certificate)
    return grpc.ssl_channel_credentials(*(Path(path).read_bytes() if path else None for path in paths))
