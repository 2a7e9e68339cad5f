"""Alerts on containers and worker processes."""

from ..model import Alert
from ..objectives import Objectives


def alerts(objectives: Objectives) -> list[Alert]:
    """Return the alerts on workers."""
    return [_restarts(objectives), _crash_loop(objectives), _missing(objectives), _lag(objectives)]


def _restarts(objectives: Objectives) -> Alert:
    own = objectives.numbers("ContainerRestarting")
    window, limit = own.duration("window"), own.number("restarts")
    started = f'changes(process_start_time_seconds{{worker="exporter"}}[{window}])'
    restarted = f"increase(baliblissed_exporter_restarts_total[{window}])"
    counted = f'kube_pod_container_status_restarts_total{{container="{own.text("container")}"}}'
    return Alert(
        name="ContainerRestarting",
        severity=own.severity,
        expr=(
            "(\n"
            f"  max by (job, instance) ({started} and on (job) job:baliblissed_service:known)\n"
            f"  - (max by (job, instance) ({restarted}) or 0 * max by (job, instance) ({started}))\n"
            f") > {limit}\n"
            f"or max by (job, namespace, pod) (increase({counted}[{window}])) > {limit}"
        ),
        wait=own.wait,
        summary="A container starts again and again",
        description=(
            "{{ if $labels.pod }}The container of {{ $labels.namespace }}/{{ $labels.pod }}{{ else }}{{ "
            "$labels.instance }} ({{ $labels.job }}){{ end }} has started again {{ $value | humanize }} times in the "
            "last half hour. Requests in flight are lost each time, and counted nowhere."
        ),
        comment=(
            "An exporter that starts again with its container is a restart of the container, one that the master has "
            "started again is not. kube-state-metrics, where it is scraped, sees containers too that end before a "
            "scrape."
        ),
    )


def _crash_loop(objectives: Objectives) -> Alert:
    own = objectives.numbers("WorkerCrashLoop")
    exits = f"job_instance:worker_exits_unplanned:increase{own.duration('window')}"
    return Alert(
        name="WorkerCrashLoop",
        severity=own.severity,
        expr=f"{exits} > {own.number('exits')}",
        wait=own.wait,
        summary="Workers end again and again",
        description=(
            '{{ $value | printf "%.0f" }} workers of {{ $labels.instance }} ({{ $labels.job }}) were killed, crashed '
            "or hung in the last 5 minutes, and so it has been for 5 minutes. Requests that they were answering are "
            "lost, and counted nowhere."
        ),
        comment=(
            "A request in flight in a worker that dies gets no answer, and no metric counts it: HighErrorRate misses "
            "it."
        ),
    )


def _missing(objectives: Objectives) -> Alert:
    own = objectives.numbers("NotEnoughWorkers")
    return Alert(
        name="NotEnoughWorkers",
        severity=own.severity,
        expr=(
            'max by (job, instance) (baliblissed_workers{state="configured"})\n'
            f'- max by (job, instance) (baliblissed_workers{{state="live"}}) >= {own.number("missing")}'
        ),
        wait=own.wait,
        summary="Fewer workers run than are configured",
        description=(
            "Configured workers of {{ $labels.instance }} ({{ $labels.job }}) that have not run for 5 minutes: "
            '{{ $value | printf "%.0f" }}. The others do their work.'
        ),
    )


def _lag(objectives: Objectives) -> Alert:
    own = objectives.numbers("EventLoopLag")
    window, bound = own.duration("window"), float(own.number("lag_seconds"))
    return Alert(
        name="EventLoopLag",
        severity=own.severity,
        expr=f"job_instance:event_loop_late:ratio_rate{window} > {own.number('share')}",
        wait=own.wait,
        summary="The event loops of an instance are late",
        description=(
            f"{{{{ $value | humanizePercentage }}}} of the measurements of {{{{ $labels.instance }}}} ({{{{ "
            f"$labels.job }}}}) in the last 5 minutes found the event loop more than {bound * 1000:g} ms late: every "
            "request of the worker waits as long."
        ),
    )
