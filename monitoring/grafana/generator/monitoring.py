"""The monitoring of the monitoring: targets, logs and traces on their way, collector, Prometheus, Alertmanager."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from . import board, collector
from .firing import firing
from .limits import OBJECTIVES, limit
from .panels import COUNT, PER_SECOND, SECONDS, SHARE, Panel, Query, events, lines, number, states
from .queries import RATE_WINDOW, elsewhere, increase, recorded, series

UP = {"0": ("down", "red"), "1": ("up", "green")}
RELOADED = {"0": ("failed", "red"), "1": ("loaded", "green")}
DISCOVERED = "prometheus_notifications_alertmanagers_discovered"
PROMETHEUS, ALERTMANAGER = (f'job="{OBJECTIVES.jobs[name]}"' for name in ("prometheus", "alertmanager"))


def build() -> Dashboard:
    """Build monitoring.json."""
    return board.build(
        "monitoring",
        "Monitoring",
        "Scrapes that fail, logs and spans that are lost, the collector, Prometheus and Alertmanager: the other "
        "dashboards and the alerts are right only while these work.",
        {
            "At a glance": _at_a_glance(),
            "Targets": _targets(),
            "Logs and spans": _lost(),
            "Collector": collector.panels(),
            "Prometheus": _prometheus(),
            "Alertmanager": _alertmanager(),
        },
    )


def _at_a_glance() -> list[Panel]:
    return [
        number(
            "Targets up",
            "Share of the service's targets that answer scrapes.",
            SHARE,
            Query(f"min({recorded('job:up:avg')})", "up"),
            floor=limit("TargetDown", "share"),
        ),
        number(
            "Instances",
            "Targets of the service, those that do not answer included.",
            COUNT,
            Query(f"sum({recorded('job:instances:count')})", "instances"),
        ),
        firing(
            "Heartbeat",
            "Watchdog always fires. A gap is a Prometheus that does not evaluate; the receiver of the heartbeat "
            "notices.",
            'alertname="Watchdog"',
            meanings={"1": ("pending", "yellow"), "2": ("beats", "green")},
            alerts=("Watchdog",),
            width=12,
        ).height(4),
    ]


def _targets() -> list[Panel]:
    return [
        lines(
            "Targets up",
            "Share of the targets of each job that answer scrapes. TargetDown fires below the line.",
            SHARE,
            Query(f"min by (job) ({recorded('job:up:avg')})", "{{job}}"),
            floor=limit("TargetDown", "share"),
            alerts=("TargetDown",),
            width=8,
        ).max(1),
        states(
            "Targets by instance",
            "Targets that answer scrapes, or do not: those that do not are among the ten.",
            UP,
            Query(f"bottomk(10, max by (instance) ({recorded('job_instance:up:service')}))", "{{instance}}"),
            alerts=("InstanceDown",),
            width=8,
        ),
        lines(
            "Time of scrapes",
            "How long a scrape takes: the ten slowest targets. At the scrape's time-out a target counts as down.",
            SECONDS,
            Query(f"topk(10, max by (instance) ({series('scrape_duration_seconds')}))", "{{instance}}"),
            width=8,
        ),
    ]


def _lost() -> list[Panel]:
    return [
        events(
            "Log lines dropped",
            "Log lines that were not written: the output is read too slowly, or fails.",
            Query(increase("baliblissed_log_lines_dropped_total", "reason"), "{{reason}}"),
            alerts=("LogLinesDropped",),
        ),
        events(
            "Spans dropped",
            "Spans that did not reach the collector: queue_full, export_failed or shutdown.",
            Query(increase("baliblissed_spans_dropped_total", "reason"), "{{reason}}"),
            alerts=("SpansDropped",),
        ),
    ]


def _increase(counter: str, job: str, by: str = "") -> str:
    return f"sum{f' by ({by}) ' if by else ''}(increase({elsewhere(counter, job)}{RATE_WINDOW}))"


def _reloads(program: str, job: str, alert: str) -> Panel:
    return states(
        f"Configuration of {program}",
        f"Result of the last reload of the configuration. After a failure {program} runs with the old one.",
        RELOADED,
        Query(
            f"min by (instance) ({elsewhere(f'{program.lower()}_config_last_reload_successful', job)})", "{{instance}}"
        ),
        alerts=(alert,),
        width=8,
    )


def _prometheus() -> list[Panel]:
    evaluated = elsewhere("prometheus_rule_group_last_duration_seconds", PROMETHEUS)
    return [
        events(
            "Notifications that fail",
            "Notifications that Prometheus could not send, by Alertmanager. Where there are several, one is enough.",
            Query(_increase("prometheus_notifications_errors_total", PROMETHEUS, "alertmanager"), "{{alertmanager}}"),
            width=8,
        ),
        _reloads("Prometheus", PROMETHEUS, "PrometheusReloadFailed"),
        events(
            "Rules that fail",
            "Evaluations of rules that failed, and those that were missed because the one before still ran.",
            Query(_increase("prometheus_rule_evaluation_failures_total", PROMETHEUS), "failed"),
            Query(_increase("prometheus_rule_group_iterations_missed_total", PROMETHEUS), "missed"),
            alerts=("RuleEvaluationFailing",),
            width=8,
        ),
        events(
            "Notifications dropped",
            "Notifications that Prometheus gave up, since no Alertmanager took them or its queue was full.",
            Query(_increase("prometheus_notifications_dropped_total", PROMETHEUS), "dropped"),
            alerts=("NotificationsFailing",),
            width=8,
        ),
        lines(
            "Alertmanagers",
            "Alertmanagers that Prometheus knows. With none, alerts reach nobody.",
            COUNT,
            Query(f"min by (instance) ({elsewhere(DISCOVERED, PROMETHEUS)})", "{{instance}}"),
            floor=limit("NotificationsFailing", "alertmanagers"),
            width=8,
        ),
        lines(
            "Time of rule groups",
            "How long the last evaluation of each group took. It has to stay below the group's interval.",
            SECONDS,
            Query(f"topk(10, max by (rule_group) ({evaluated}))", "{{rule_group}}"),
            width=8,
        ),
        lines(
            "Series in memory",
            "Series that Prometheus holds in its head block; docs/scale.md says from where on to shard.",
            COUNT,
            Query(f"sum by (instance) ({elsewhere('prometheus_tsdb_head_series', PROMETHEUS)})", "{{instance}}"),
            width=8,
        ),
    ]


def _alertmanager() -> list[Panel]:
    sent = f"sum by (integration) (rate({elsewhere('alertmanager_notifications_total', ALERTMANAGER)}{RATE_WINDOW}))"
    return [
        events(
            "Notifications of Alertmanager that fail",
            "Notifications that no receiver took, by integration.",
            Query(_increase("alertmanager_notifications_failed_total", ALERTMANAGER, "integration"), "{{integration}}"),
            alerts=("AlertmanagerNotificationsFailing",),
            width=8,
        ),
        _reloads("Alertmanager", ALERTMANAGER, "AlertmanagerReloadFailed"),
        lines(
            "Notifications of Alertmanager",
            "Notifications a second, by integration.",
            PER_SECOND,
            Query(sent, "{{integration}}"),
            width=8,
        ),
    ]
