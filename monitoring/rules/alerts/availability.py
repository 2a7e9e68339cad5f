"""Alerts on targets, readiness and dependencies."""

from ..model import Alert
from ..objectives import Objectives


def alerts(objectives: Objectives) -> list[Alert]:
    """Return the alerts on availability."""
    return [_targets(objectives)]


def _targets(objectives: Objectives) -> Alert:
    own = objectives.numbers("TargetDown")
    return Alert(
        name="TargetDown",
        severity=own.severity,
        expr=f"job:up:avg < {own.number('share')}\nor absent(baliblissed_workers) unless on () job:up:avg",
        wait=own.wait,
        summary="Prometheus cannot scrape the service",
        description=(
            "{{ if $labels.job }}Only {{ $value | humanizePercentage }} of the targets of {{ $labels.job }} answer "
            "scrapes.{{ else }}No target exposes the metrics of the service (absent is {{ $value | humanize }}).{{ end "
            "}} Every other alert on it is blind meanwhile."
        ),
        comment=(
            "absent() fires where there is nothing to be down: a fresh Prometheus whose discovery finds no pod, or "
            "scrapes the wrong port. No name of a job is needed."
        ),
    )
