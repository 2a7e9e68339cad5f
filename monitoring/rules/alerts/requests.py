"""Alerts on what clients see: errors, latency, traffic."""

from ..model import Alert
from ..objectives import Objectives


def alerts(objectives: Objectives) -> list[Alert]:
    """Return the alerts on requests."""
    return [_errors(objectives), _latency(objectives)]


def _errors(objectives: Objectives) -> Alert:
    own = objectives.numbers("HighErrorRate")
    return Alert(
        name="HighErrorRate",
        severity=own.severity,
        expr=(
            f"job:http_errors:ratio_rate5m > {own.number('error_ratio')}\n"
            f"and job:http_requests:rate5m > {own.number('minimum_requests_per_second')}"
        ),
        wait=own.wait,
        summary="More than 5% of requests fail",
        description=(
            "{{ $value | humanizePercentage }} of the requests of {{ $labels.job }} in the last 5 minutes were "
            "answered with a 5xx status."
        ),
    )


def _latency(objectives: Objectives) -> Alert:
    own = objectives.numbers("HighLatencyP99")
    allowed = f"{round(1 - float(own.number('quantile')), 9):.10g}"
    return Alert(
        name="HighLatencyP99",
        severity=own.severity,
        expr=(
            f"job:http_slow_requests:ratio_rate5m > {allowed}\n"
            f"and job:http_measured_requests:rate5m > {own.number('minimum_requests_per_second')}"
        ),
        wait=own.wait,
        summary="P99 latency is over 2 s",
        description=(
            "{{ $value | humanizePercentage }} of the requests of {{ $labels.job }} in the last 5 minutes took longer "
            "than 2 s; the objective allows 1%. Counted from the histogram's 2.0 boundary, without interpolation; the "
            "AI assistant is left out, because it waits for its upstream."
        ),
    )
