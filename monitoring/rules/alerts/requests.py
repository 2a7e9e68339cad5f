"""Alerts on what clients see: errors, latency, traffic."""

from ..model import Alert
from ..objectives import Objectives
from ..recorded import DAY_BEFORE


def alerts(objectives: Objectives) -> list[Alert]:
    """Return the alerts on requests."""
    return [
        _errors(objectives),
        _latency(objectives),
        _vanished(objectives),
        _instance_errors(objectives),
        _shed(objectives),
    ]


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
        comment=(
            "It resolves when clients are turned away before they reach the service: NotReady, DependencyDown and "
            "TrafficVanished go on."
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


def _vanished(objectives: Objectives) -> Alert:
    own = objectives.numbers("TrafficVanished")
    return Alert(
        name="TrafficVanished",
        severity=own.severity,
        expr=(
            f"(job:http_requests:rate5m or 0 * {DAY_BEFORE})\n"
            f"/ ({DAY_BEFORE} > {own.number('minimum_requests_per_second')}) < {own.number('share')}"
        ),
        wait=own.wait,
        summary="Requests no longer arrive",
        description=(
            "The requests of {{ $labels.job }} are {{ $value | humanizePercentage }} of those at the same time of the "
            "day before. Probes do not count."
        ),
        comment="A job of which nothing is scraped any more counts as one without requests.",
    )


def _instance_errors(objectives: Objectives) -> Alert:
    own = objectives.numbers("InstanceErrorRate")
    return Alert(
        name="InstanceErrorRate",
        severity=own.severity,
        expr=(
            f"job_instance:http_errors:ratio_rate5m > {own.number('error_ratio')}\n"
            f"and job_instance:http_requests:rate5m > {own.number('minimum_requests_per_second')}\n"
            f"and job_instance:http_errors:ratio_rate5m\n"
            f"  > on (job) group_left () ({own.number('factor')} * job:http_errors:ratio_rate5m)"
        ),
        wait=own.wait,
        summary="One instance fails more requests than the others",
        description=(
            "{{ $value | humanizePercentage }} of the requests of {{ $labels.instance }} ({{ $labels.job }}) in the "
            "last 5 minutes were answered with a 5xx status, a larger share than of the other instances."
        ),
        comment="The share of the whole job is thinned out by its other instances, so it does not show a bad one.",
    )


def _shed(objectives: Objectives) -> Alert:
    own = objectives.numbers("RequestsShed")
    return Alert(
        name="RequestsShed",
        severity=own.severity,
        expr=f"job:requests_shed:ratio_rate{objectives.window} > {own.number('share')}",
        wait=own.wait,
        summary="Requests are shed under overload",
        description=(
            "{{ $value | humanizePercentage }} of the requests of {{ $labels.job }} were answered 503 for want of a "
            "slot: the queue was full, or they had waited in it for too long."
        ),
    )
