"""A bounded span processor that counts the spans it drops."""

import threading
from collections.abc import Sequence
from typing import Literal

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from prometheus_client import Counter

Reason = Literal["queue_full", "export_failed", "shutdown"]
REASONS: tuple[Reason, ...] = ("queue_full", "export_failed", "shutdown")
MAX_QUEUE_SIZE = 2048
MAX_BATCH_SIZE = 512
DEFAULT_SCHEDULE_DELAY = 5000
# The SDK has no use for it, and reads a variable without it, whose wrong value it logs with a traceback.
_UNUSED_TIMEOUT = 30_000


class BoundedSpanProcessor(SpanProcessor):
    """The SDK's BatchSpanProcessor with at most `max_queue_size` spans, those being exported included.

    Spans are exported `max_batch_size` at a time, or every `schedule_delay` milliseconds, by default 5000. A full queue
    drops new spans; the SDK's own would drop the oldest ones and only log it. `dropped` counts them by reason.
    """

    def __init__(
        self,
        exporter: SpanExporter,
        dropped: Counter,
        max_queue_size: int = MAX_QUEUE_SIZE,
        max_batch_size: int = MAX_BATCH_SIZE,
        schedule_delay: int | None = None,
    ) -> None:
        self._max_queue_size = max_queue_size
        # Created here so that each reason is exposed as 0 before its first drop.
        self._dropped = {reason: dropped.labels(reason) for reason in REASONS}
        self._lock = threading.Lock()
        self._held = 0
        self._closed = False
        self._batches = BatchSpanProcessor(
            _Accounting(exporter, self),
            max_queue_size=max_queue_size,
            max_export_batch_size=min(max_queue_size, max_batch_size),
            schedule_delay_millis=schedule_delay or DEFAULT_SCHEDULE_DELAY,
            export_timeout_millis=_UNUSED_TIMEOUT,
        )

    def on_end(self, span: ReadableSpan) -> None:
        """Queue `span`, or count it as dropped. Never blocks."""
        context = span.get_span_context()
        if context is None or not context.trace_flags.sampled:
            return
        with self._lock:
            taken = self._held < self._max_queue_size and not self._closed
            self._held += taken
        if taken:
            self._batches.on_end(span)
        else:
            self._dropped["shutdown" if self._closed else "queue_full"].inc()

    def delivered(self, spans: int, result: SpanExportResult) -> None:
        """Subtract `spans`, which the exporter has finished with, from the queue's length."""
        with self._lock:
            if not self._held:
                return  # given up already
            self._held -= spans
        if result is not SpanExportResult.SUCCESS:
            self._dropped["shutdown" if self._closed else "export_failed"].inc(spans)

    def shutdown(self) -> None:
        """Export the queue; may block as long as the exporter does."""
        self._closed = True
        self._batches.shutdown()  # type: ignore[no-untyped-call]
        self.give_up()

    def give_up(self) -> None:
        """Count the queue as dropped: the deadline of the shutdown has passed."""
        self._closed = True
        with self._lock:
            lost, self._held = self._held, 0
        self._dropped["shutdown"].inc(lost)

    def force_flush(self, timeout_millis: int | None = None) -> bool:
        """Export the queue now."""
        return bool(self._batches.force_flush(timeout_millis))


class _Accounting(SpanExporter):
    """Report the result of each batch to the processor."""

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
