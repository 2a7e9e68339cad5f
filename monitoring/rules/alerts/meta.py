"""Alerts on Prometheus and Alertmanager themselves."""

from ..model import Alert
from ..objectives import Objectives

EACH = "by (job, instance)"


def alerts(objectives: Objectives) -> list[Alert]:
    """Return the alerts on alerting."""
    return [
        _notify(objectives),
        _deliver(objectives),
        _reload(objectives, "PrometheusReloadFailed", "prometheus_config_last_reload_successful", "Prometheus"),
        _reload(objectives, "AlertmanagerReloadFailed", "alertmanager_config_last_reload_successful", "Alertmanager"),
        _evaluate(objectives),
        _watchdog(objectives),
    ]


def _notify(objectives: Objectives) -> Alert:
    own = objectives.numbers("NotificationsFailing")
    window = own.duration("window")
    return Alert(
        name="NotificationsFailing",
        severity=own.severity,
        expr=(
            f"sum {EACH} (increase(prometheus_notifications_dropped_total[{window}])) > {own.number('dropped')}\n"
            f"or max {EACH} (prometheus_notifications_alertmanagers_discovered) < {own.number('alertmanagers')}"
        ),
        wait=own.wait,
        summary="Prometheus cannot notify Alertmanager",
        description=(
            "{{ $labels.instance }} ({{ $labels.job }}) has dropped notifications, or knows no Alertmanager "
            "({{ $value | humanize }}): alerts that fire reach nobody."
        ),
        comment=(
            "A notification is dropped when no Alertmanager has taken it. Where there are several, another one of "
            "them, or a second Prometheus, tells of this; the heartbeat of Watchdog does in any case."
        ),
    )


def _deliver(objectives: Objectives) -> Alert:
    own = objectives.numbers("AlertmanagerNotificationsFailing")
    window = own.duration("window")
    return Alert(
        name="AlertmanagerNotificationsFailing",
        severity=own.severity,
        expr=(
            "sum by (job, instance, integration) (\n"
            f"  increase(alertmanager_notifications_failed_total[{window}])\n"
            f") > {own.number('failed')}"
        ),
        wait=own.wait,
        summary="Alertmanager cannot deliver notifications",
        description=(
            "{{ $value | humanize }} notifications of {{ $labels.instance }} ({{ $labels.job }}) by "
            "{{ $labels.integration }} have failed in the last 5 minutes."
        ),
    )


def _reload(objectives: Objectives, name: str, metric: str, program: str) -> Alert:
    own = objectives.numbers(name)
    return Alert(
        name=name,
        severity=own.severity,
        expr=f"min {EACH} ({metric}) == {own.number('successful')}",
        wait=own.wait,
        summary=f"{program} has refused its configuration",
        description=(
            f"{program} {{{{ $labels.instance }}}} ({{{{ $labels.job }}}}) still runs with the configuration before "
            f"the last change (last reload successful: {{{{ $value | humanize }}}})."
        ),
    )


def _evaluate(objectives: Objectives) -> Alert:
    own = objectives.numbers("RuleEvaluationFailing")
    failures = f"increase(prometheus_rule_evaluation_failures_total[{own.duration('window')}])"
    return Alert(
        name="RuleEvaluationFailing",
        severity=own.severity,
        expr=f"sum by (job, instance, rule_group) ({failures}) > {own.number('failures')}",
        wait=own.wait,
        summary="Prometheus cannot evaluate a rule",
        description=(
            "{{ $value | humanize }} evaluations of the group {{ $labels.rule_group }} of {{ $labels.instance }} "
            "({{ $labels.job }}) have failed in the last 5 minutes: an alert of it may be blind."
        ),
    )


def _watchdog(objectives: Objectives) -> Alert:
    own = objectives.numbers("Watchdog")
    return Alert(
        name="Watchdog",
        severity=own.severity,
        expr="vector(1)",
        summary="Alerting works",
        description=(
            "This alert always fires (value {{ $value | humanize }}); the heartbeat receiver raises the alarm when it "
            "stops."
        ),
        comment="Its silence says that Prometheus, Alertmanager or the way to the receiver is broken.",
    )
