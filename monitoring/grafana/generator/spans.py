"""Dependencies as the collector's span metrics show them: sampled requests only, by span."""

from .panels import PER_SECOND, SECONDS, Panel, Query, lines
from .queries import RATE_WINDOW, elsewhere

CALLS, DURATION = "traces_span_metrics_calls_total", "traces_span_metrics_duration_seconds_bucket"
CLIENTS = 'span_kind="SPAN_KIND_CLIENT"'
FAILED = 'status_code="STATUS_CODE_ERROR"'


def _rate(where: str) -> str:
    return f"sum by (span_name) (rate({elsewhere(CALLS, where)}{RATE_WINDOW}))"


def panels() -> list[Panel]:
    """Return rate, errors and latency of the ten client spans that stand out."""
    seconds = f"sum by (le, span_name) (rate({elsewhere(DURATION, CLIENTS)}{RATE_WINDOW}))"
    return [
        lines(
            "Client spans by name",
            "Calls a second that traces hold, by span: statements, Redis commands, upstream requests; the ten most "
            "frequent. Sampled requests only: for rates see the rows above.",
            PER_SECOND,
            Query(f"topk(10, {_rate(CLIENTS)})", "{{span_name}}"),
            width=8,
        ),
        lines(
            "Client spans with an error",
            "Calls a second whose span has an error, by span: the ten most frequent.",
            PER_SECOND,
            Query(f"topk(10, {_rate(f'{CLIENTS}, {FAILED}')})", "{{span_name}}"),
            width=8,
        ),
        lines(
            "P95 of client spans",
            "95 of 100 calls took no longer: the ten slowest spans.",
            SECONDS,
            Query(f"topk(10, histogram_quantile(0.95, {seconds}))", "{{span_name}}"),
            width=8,
        ),
    ]
