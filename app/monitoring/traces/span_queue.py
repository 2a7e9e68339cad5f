"""Spans on their way to the exporter: so many and no more, and those that do not arrive are counted."""

import threading
from collections.abc import Sequence
from typing import Literal

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from prometheus_client import Counter

Reason = Literal["queue_full", "export_failed", "shutdown"]
REASONS: tuple[Reason, ...] = ("queue_full", "export_failed", "shutdown")
MOST_SPANS = 2048
MOST_IN_BATCH = 512


class BoundedSpanProcessor(SpanProcessor):
    """The SDK's BatchSpanProcessor, holding `most` spans at a time, those that are being sent included.

    They are sent `batch` at a time, or every five seconds (OTEL_BSP_SCHEDULE_DELAY). The SDK's own would drop its
    oldest spans and say so in the log only. `dropped` is counted by reason.
    """

    def __init__(
        self, exporter: SpanExporter, dropped: Counter, most: int = MOST_SPANS, batch: int = MOST_IN_BATCH
    ) -> None:
        self._most = most
        # Made now, so that each reason is exposed as 0 before it first happens.
        self._dropped = {reason: dropped.labels(reason) for reason in REASONS}
        self._lock = threading.Lock()
        self._held = 0
        self._closed = False
        self._batches = BatchSpanProcessor(
            _Accounting(exporter, self), max_queue_size=most, max_export_batch_size=min(most, batch)
        )

    def on_end(self, span: ReadableSpan) -> None:
        """Take `span`, or count it as dropped. Never waits."""
        context = span.get_span_context()
        if context is None or not context.trace_flags.sampled:
            return
        with self._lock:
            taken = self._held < self._most and not self._closed
            self._held += taken
        if taken:
            self._batches.on_end(span)
        else:
            self._dropped["shutdown" if self._closed else "queue_full"].inc()

    def delivered(self, spans: int, result: SpanExportResult) -> None:
        """The exporter is done with so many spans."""
        with self._lock:
            if not self._held:
                return  # given up already
            self._held -= spans
        if result is not SpanExportResult.SUCCESS:
            self._dropped["shutdown" if self._closed else "export_failed"].inc(spans)

    def shutdown(self) -> None:
        """Send what is held; may take as long as the exporter does."""
        self._closed = True
        self._batches.shutdown()  # type: ignore[no-untyped-call]
        self.give_up()

    def give_up(self) -> None:
        """Count what is still held as dropped: nobody waits for it any longer."""
        self._closed = True
        with self._lock:
            lost, self._held = self._held, 0
        self._dropped["shutdown"].inc(lost)

    def force_flush(self, timeout_millis: int | None = None) -> bool:
        """Send what is held now."""
        return bool(self._batches.force_flush(timeout_millis))


class _Accounting(SpanExporter):
    """Tells the processor what has become of a batch."""

    def __init__(self, inner: SpanExporter, processor: BoundedSpanProcessor) -> None:
        self._inner = inner
        self._processor = processor

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._inner.export(spans)
        finally:
            self._processor.delivered(len(spans), result)
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)
