"""Alerts on the OpenTelemetry Collector."""

from ..model import Alert
from ..objectives import Objectives


def alerts(objectives: Objectives) -> list[Alert]:
    """Return the alerts on the collector."""
    return [_down(objectives), _refusing(objectives), _failing(objectives)]


def _down(objectives: Objectives) -> Alert:
    own = objectives.numbers("CollectorDown")
    job = f'job="{objectives.jobs["collector"]}"'
    return Alert(
        name="CollectorDown",
        severity=own.severity,
        expr=f"max by (job) (up{{{job}}}) == {own.number('up')}\nor absent(up{{{job}}})",
        wait=own.wait,
        summary="The collector cannot be scraped",
        description=(
            "No instance of {{ $labels.job }} answers scrapes (value {{ $value | humanize }}). Spans are dropped; "
            "requests, metrics and logs are not affected."
        ),
    )


def _refusing(objectives: Objectives) -> Alert:
    own = objectives.numbers("CollectorRefusing")
    refused = f"increase(otelcol_receiver_refused_spans_total[{own.duration('window')}])"
    return Alert(
        name="CollectorRefusing",
        severity=own.severity,
        expr=f"sum by (job, instance) ({refused}) > {own.number('spans')}",
        wait=own.wait,
        summary="The collector refuses spans",
        description=(
            "{{ $labels.instance }} ({{ $labels.job }}) has refused {{ $value | humanize }} spans in the last 5 "
            "minutes, most likely because its memory is at the limit of memory_limiter."
        ),
    )


def _failing(objectives: Objectives) -> Alert:
    own = objectives.numbers("CollectorFailing")
    window = own.duration("window")
    return Alert(
        name="CollectorFailing",
        severity=own.severity,
        expr=(
            "sum by (job, instance, exporter) (\n"
            f"  increase(otelcol_exporter_send_failed_spans_total[{window}])\n"
            f"  or increase(otelcol_exporter_enqueue_failed_spans_total[{window}])\n"
            f"  or increase(otelcol_exporter_send_failed_metric_points_total[{window}])\n"
            f") > {own.number('spans')}\n"
            "or max by (job, instance, exporter) (otelcol_exporter_queue_size)\n"
            "/ max by (job, instance, exporter) (otelcol_exporter_queue_capacity)\n"
            f"> {own.number('queue_share')}"
        ),
        wait=own.wait,
        summary="The collector cannot deliver",
        description=(
            "The exporter {{ $labels.exporter }} of {{ $labels.instance }} ({{ $labels.job }}) fails to deliver, or "
            'its queue is nearly full ({{ $value | printf "%.2f" }}): what is in the queue is lost when it is full.'
        ),
        comment="Failures count once all retries have failed, after five minutes: the queue shows it sooner.",
    )
