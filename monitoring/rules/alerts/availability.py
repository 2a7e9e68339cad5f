"""Alerts on targets, readiness and dependencies."""

from ..model import Alert
from ..objectives import Objectives


def alerts(objectives: Objectives) -> list[Alert]:
    """Return the alerts on availability."""
    return [
        _ready(objectives),
        _instance_ready(objectives),
        _dependency(objectives),
        _optional_dependency(objectives),
        _targets(objectives),
        _instance(objectives),
        _recent(objectives),
    ]


def _ready(objectives: Objectives) -> Alert:
    own = objectives.numbers("NotReady")
    return Alert(
        name="NotReady",
        severity=own.severity,
        expr=f"job:ready:avg < {own.number('share')}",
        wait=own.wait,
        keep=own.keep,
        summary="Most instances are not ready",
        description=(
            "Only {{ $value | humanizePercentage }} of the instances of {{ $labels.job }} pass their required health "
            "checks. The others get no traffic where a load balancer heeds readiness."
        ),
        comment="Needs no requests: while all instances are taken out of service there are none.",
    )


def _instance_ready(objectives: Objectives) -> Alert:
    own = objectives.numbers("InstanceNotReady")
    most = objectives.numbers("NotReady").number("share")
    return Alert(
        name="InstanceNotReady",
        severity=own.severity,
        expr=f"job_instance:ready:min == 0\nand on (job) job:ready:avg >= {most}",
        wait=own.wait,
        summary="An instance is not ready",
        description=(
            "{{ $labels.instance }} ({{ $labels.job }}) has not passed its required health checks for 10 minutes "
            "(ready is {{ $value | humanize }}). Most of the others have."
        ),
        comment="Where most are not ready NotReady says so once, and not once for each.",
    )


def _dependency(objectives: Objectives) -> Alert:
    own = objectives.numbers("DependencyDown")
    return Alert(
        name="DependencyDown",
        severity=own.severity,
        expr=(
            f'job_dependency:dependency_up:avg{{dependency=~"{_dependencies(objectives, "critical")}"}}'
            f" < {own.number('share')}"
        ),
        wait=own.wait,
        keep=own.keep,
        summary="{{ $labels.dependency }} is down",
        description=(
            "Only {{ $value | humanizePercentage }} of the instances of {{ $labels.job }} reach {{ $labels.dependency "
            "}}. Alerts on what follows from it are inhibited meanwhile."
        ),
        comment=(
            "It fires before what it causes, which waits for two minutes or more, and goes on until the errors have "
            "left the windows of the others, so that it inhibits them from their first moment to their last."
        ),
    )


def _optional_dependency(objectives: Objectives) -> Alert:
    own = objectives.numbers("OptionalDependencyDown")
    others = _dependencies(objectives, "critical", "none")
    return Alert(
        name="OptionalDependencyDown",
        severity=own.severity,
        expr=f'job_dependency:dependency_up:avg{{dependency!~"{others}"}} < {own.number("share")}',
        wait=own.wait,
        summary="{{ $labels.dependency }} is down",
        description=(
            "Only {{ $value | humanizePercentage }} of the instances of {{ $labels.job }} reach {{ $labels.dependency "
            "}}. Requests are answered without it, more slowly."
        ),
        comment="A dependency that slo.yaml does not name is one of these.",
    )


def _targets(objectives: Objectives) -> Alert:
    own = objectives.numbers("TargetDown")
    known = f"last_over_time(job:up:avg[{own.duration('remembered')}])"
    return Alert(
        name="TargetDown",
        severity=own.severity,
        expr=(
            f"job:up:avg < {own.number('share')}\n"
            f"or 0 * ({known} unless job:up:avg)\n"
            f"or absent(baliblissed_workers) unless on () {known}"
        ),
        wait=own.wait,
        summary="Prometheus cannot scrape the service",
        description=(
            "{{ if $labels.job }}Only {{ $value | humanizePercentage }} of the targets of {{ $labels.job }} answer "
            "scrapes.{{ else }}No target exposes the metrics of the service (absent is {{ $value | humanize }}).{{ end "
            "}} Every other alert on it is blind meanwhile."
        ),
        comment=(
            "The second part is for a job that has no target any more, while another deployment has some. absent() "
            "fires where there never was one: a fresh Prometheus whose discovery finds no pod, or scrapes the wrong "
            "port. No name of a job is needed."
        ),
    )


def _instance(objectives: Objectives) -> Alert:
    own = objectives.numbers("InstanceDown")
    most = objectives.numbers("TargetDown").number("share")
    return Alert(
        name="InstanceDown",
        severity=own.severity,
        expr=f"job_instance:up:service == 0\nand on (job) job:up:avg >= {most}",
        wait=own.wait,
        summary="An instance does not answer scrapes",
        description=(
            "{{ $labels.instance }} ({{ $labels.job }}) has not answered a scrape for 10 minutes (up is "
            "{{ $value | humanize }}). No other alert sees it."
        ),
        comment="Where most do not answer TargetDown says so once, and not once for each.",
    )


def _recent(objectives: Objectives) -> Alert:
    own = objectives.numbers("RecentOutage")
    paged = f'alertname=~"{own.text("pages")}",alertstate="firing",service="{objectives.service}",job=~".+"'
    ended = f"max_over_time(ALERTS{{{paged}}}[{own.duration('window')}])"
    return Alert(
        name="RecentOutage",
        severity=own.severity,
        expr=f'max by (job, outage, dependency) (\n  label_replace({ended}, "outage", "$1", "alertname", "(.+)")\n)',
        summary="{{ $labels.outage }} has paged a short time ago",
        description=(
            "{{ $labels.outage }} of {{ $labels.job }} has fired within the last 35 minutes (value {{ $value | "
            "humanize }}). Nobody is notified of this alert: it inhibits those that still see the outage in their "
            "windows."
        ),
        comment=(
            "Alertmanager inhibits the fast burn rates by it. Their window of half an hour holds an outage for half an "
            "hour after its end. `outage` and `dependency` say which budgets that outage has burnt."
        ),
    )


def _dependencies(objectives: Objectives, *severities: str) -> str:
    """Return the dependencies of these severities as a regular expression."""
    return "|".join(sorted(name for name, given in objectives.dependencies.items() if given in severities))
