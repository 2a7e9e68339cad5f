"""Alerts on metric files, series, log lines, spans and the collector: what the other alerts rest on."""

from ..model import Alert
from ..objectives import Objectives


def alerts(objectives: Objectives) -> list[Alert]:
    """Return the alerts on telemetry."""
    return [
        _unreadable(objectives),
        _refused(objectives),
        _directory(objectives),
        _log_lines(objectives),
        _spans(objectives),
    ]


def _unreadable(objectives: Objectives) -> Alert:
    own = objectives.numbers("MetricFilesUnreadable")
    window = own.duration("window")
    return Alert(
        name="MetricFilesUnreadable",
        severity=own.severity,
        expr=(
            "sum by (job, instance) (\n"
            f"  increase(baliblissed_exporter_unreadable_files_total[{window}])\n"
            f"  or increase(baliblissed_exporter_entries_left_out_total[{window}])\n"
            f") > {own.number('files')}"
        ),
        wait=own.wait,
        summary="Metric files or entries of them cannot be read",
        description=(
            "Metric files, or entries of files, of {{ $labels.instance }} ({{ $labels.job }}) that were left out in "
            'the last 10 minutes: {{ $value | printf "%.0f" }}. Totals lack what they hold; where one has fallen by '
            "it, rate() takes that for a restart of the counter."
        ),
    )


def _refused(objectives: Objectives) -> Alert:
    own = objectives.numbers("MetricSeriesRefused")
    window, limit = own.duration("window"), own.number("series")
    counters = ("baliblissed_metrics_series_refused_total", "baliblissed_metrics_writes_refused_total")
    each = "sum by (job, instance, metric)"
    grown = "\n".join(f"or {each} (increase({name}[{window}])) > {limit}" for name in counters).removeprefix("or ")
    new = "\n".join(f"or {each} ({name} unless max_over_time({name}[{window}] offset {window}))" for name in counters)
    return Alert(
        name="MetricSeriesRefused",
        severity=own.severity,
        expr=(
            f"{grown}\n{new}\n"
            f"or sum by (job, instance) (increase(baliblissed_metrics_series_lost_total[{window}])) > {limit}"
        ),
        wait=own.wait,
        summary="Series of metrics are refused or lost",
        description=(
            "{{ if $labels.metric }}{{ $labels.metric }} of {{ $labels.instance }} ({{ $labels.job }}) has refused "
            'label sets or amounts ({{ $value | printf "%.0f" }} in the last 10 minutes): label sets count in the '
            "series __overflow__, amounts nowhere.{{ else }}{{ $labels.instance }} ({{ $labels.job }}) has lost series "
            '({{ $value | printf "%.0f" }} in the last 10 minutes): the metrics directory had no room for them.{{ end '
            "}}"
        ),
        comment=(
            "A metric's first refusal makes the series of the counter, and is no increase of it: the second part tells "
            "a series that is new from one that was there before the window. It looks at ten minutes and not at one "
            "moment, since one scrape may have failed."
        ),
    )


def _directory(objectives: Objectives) -> Alert:
    own = objectives.numbers("MetricsDirectoryNearlyFull")
    free = "baliblissed_exporter_directory_free_bytes"
    return Alert(
        name="MetricsDirectoryNearlyFull",
        severity=own.severity,
        expr=(
            f"min by (job, instance) ({free}) < {own.number('free_bytes')}\n"
            f"or min by (job, instance) ({free})\n"
            "  and min by (job, instance) (\n"
            f"    {free} / ({free} + baliblissed_exporter_directory_bytes)\n"
            f"  ) < {own.number('free_share')}\n"
            f"or 0 * (job_instance:up:service == 1 unless on (job, instance) {free})"
        ),
        wait=own.wait,
        summary="The metrics directory is nearly full",
        description=(
            "{{ $value | humanize1024 }}B are left in the metrics directory of {{ $labels.instance }} ({{ $labels.job "
            "}}). When it is full new series are lost, and the numbers of workers that end cannot be archived."
        ),
        comment=(
            "An exporter that finds no room when it starts has no figures of its own: the last part takes their "
            "absence for what it is. The value is in bytes in all three."
        ),
    )


def _log_lines(objectives: Objectives) -> Alert:
    own = objectives.numbers("LogLinesDropped")
    dropped = f"increase(baliblissed_log_lines_dropped_total[{own.duration('window')}])"
    return Alert(
        name="LogLinesDropped",
        severity=own.severity,
        expr=f"sum by (job, instance, reason) ({dropped}) > {own.number('lines')}",
        wait=own.wait,
        summary="Log lines are dropped",
        description=(
            '{{ $value | printf "%.0f" }} log lines of {{ $labels.instance }} ({{ $labels.job }}) were dropped in the '
            "last 10 minutes: {{ $labels.reason }}."
        ),
    )


def _spans(objectives: Objectives) -> Alert:
    own = objectives.numbers("SpansDropped")
    dropped = f'baliblissed_spans_dropped_total{{reason!~"{own.text("planned_reasons")}"}}[{own.duration("window")}]'
    return Alert(
        name="SpansDropped",
        severity=own.severity,
        expr=f"sum by (job, instance, reason) (increase({dropped})) > {own.number('spans')}",
        wait=own.wait,
        summary="Spans are dropped",
        description=(
            '{{ $value | printf "%.0f" }} spans of {{ $labels.instance }} ({{ $labels.job }}) were dropped in the last '
            "10 minutes: {{ $labels.reason }}. Traces have gaps."
        ),
    )
