"""Alerts on containers and worker processes."""

from ..model import Alert
from ..objectives import Objectives


def alerts(objectives: Objectives) -> list[Alert]:
    """Return the alerts on workers."""
    return [_crash_loop(objectives), _missing(objectives)]


def _crash_loop(objectives: Objectives) -> Alert:
    own = objectives.numbers("WorkerCrashLoop")
    exits = f'baliblissed_worker_exits_total{{reason!~"{own.text("planned_reasons")}"}}[{own.duration("window")}]'
    return Alert(
        name="WorkerCrashLoop",
        severity=own.severity,
        expr=f"sum by (job, instance) (increase({exits})) > {own.number('exits')}",
        wait=own.wait,
        summary="Workers end again and again",
        description=(
            '{{ $value | printf "%.0f" }} workers of {{ $labels.instance }} ({{ $labels.job }}) were killed, crashed or hung in '
            "the last 5 minutes, and so it has been for 5 minutes. Requests that they were answering are lost, and counted "
            "nowhere."
        ),
        comment="A request in flight in a worker that dies gets no answer, and no metric counts it: HighErrorRate misses it.",
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
