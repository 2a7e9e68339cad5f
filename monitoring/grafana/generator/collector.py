"""The row on the OpenTelemetry Collector."""

from .limits import OBJECTIVES, limit
from .panels import BYTES, PER_SECOND, SHARE, Panel, Query, lines, states
from .queries import RATE_WINDOW, elsewhere

COLLECTOR = f'job="{OBJECTIVES.jobs["collector"]}"'
UP = {"0": ("down", "red"), "1": ("up", "green")}


def _rate(counter: str, by: str) -> str:
    return f"sum by ({by}) (rate({elsewhere(counter, COLLECTOR)}{RATE_WINDOW}))"


def panels() -> list[Panel]:
    """Return the panels of the collector's figures about itself."""
    queue = [elsewhere(f"otelcol_exporter_queue_{what}", COLLECTOR) for what in ("size", "capacity")]
    return [
        states(
            "Collector",
            "The collector answers scrapes, or does not. Without it no trace arrives; the service drops its spans and "
            "counts them.",
            UP,
            Query(f"min by (instance) ({elsewhere('up', COLLECTOR)})", "{{instance}}"),
            alerts=("CollectorDown",),
            width=8,
        ),
        lines(
            "Spans accepted and refused",
            "Spans a second that the receivers took, and refused because the memory limiter or a queue is full.",
            PER_SECOND,
            Query(_rate("otelcol_receiver_accepted_spans_total", "receiver"), "accepted {{receiver}}"),
            Query(_rate("otelcol_receiver_refused_spans_total", "receiver"), "refused {{receiver}}"),
            alerts=("CollectorRefusing",),
            width=8,
        ),
        lines(
            "Spans sent and failed",
            "Spans a second that were sent to the trace store, and those that the collector gave up.",
            PER_SECOND,
            Query(_rate("otelcol_exporter_sent_spans_total", "exporter"), "sent {{exporter}}"),
            Query(_rate("otelcol_exporter_send_failed_spans_total", "exporter"), "failed {{exporter}}"),
            alerts=("CollectorFailing",),
            width=8,
        ),
        lines(
            "Queues of the collector",
            "How full the queue of each exporter is. At 100% it drops what comes; CollectorFailing fires above the "
            "line.",
            SHARE,
            Query(f"max by (exporter) ({queue[0]} / {queue[1]})", "{{exporter}}"),
            limit=limit("CollectorFailing", "queue_share"),
        ),
        lines(
            "Memory of the collector",
            "Resident memory. Its limiter refuses spans while the heap, a part of it, is above 300 MiB.",
            BYTES,
            Query(f"max by (instance) ({elsewhere('otelcol_process_memory_rss_bytes', COLLECTOR)})", "{{instance}}"),
        ),
    ]
