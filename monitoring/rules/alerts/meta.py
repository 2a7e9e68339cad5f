"""Alerts on Prometheus and Alertmanager themselves."""

from ..model import Alert
from ..objectives import Objectives


def alerts(objectives: Objectives) -> list[Alert]:
    """Return the alerts on alerting."""
    return [_watchdog(objectives)]


def _watchdog(objectives: Objectives) -> Alert:
    own = objectives.numbers("Watchdog")
    return Alert(
        name="Watchdog",
        severity=own.severity,
        expr="vector(1)",
        summary="Alerting works",
        description=(
            "This alert always fires (value {{ $value | humanize }}); the heartbeat receiver raises the alarm when it stops."
        ),
        comment="Its silence says that Prometheus, Alertmanager or the way to the receiver is broken.",
    )
