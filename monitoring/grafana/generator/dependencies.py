"""Dependencies of the service: readiness, database, Redis, AI upstream; from metrics and from spans."""

from collections.abc import Sequence

from grafana_foundation_sdk.builders.dashboard import Dashboard

from . import board, spans
from .limits import limit
from .panels import COUNT, PER_SECOND, REQUESTS_PER_SECOND, SECONDS, SHARE, Panel, Query, events, lines, states
from .queries import increase, quantile, rate, recorded, series, share

READY = {"0": ("not ready", "red"), "1": ("ready", "green")}
REACHED = {"0": ("away", "red"), "1": ("reached", "green")}
POOL, WAIT = "baliblissed_database_pool_connections", "baliblissed_database_pool_wait_seconds"
QUERIES, COMMANDS = "baliblissed_database_query_duration_seconds", "baliblissed_redis_command_duration_seconds"
UPSTREAM, ANSWERS = "baliblissed_upstream_requests_total", "baliblissed_upstream_request_duration_seconds"
SIZE, IN_USE = "baliblissed_database_pool_size", 'state="in_use"'


def build(*, of_the_agency: bool = True) -> Dashboard:
    """Build dependencies.json. `of_the_agency` adds the panels of metrics that only the agency declares."""
    rows: dict[str, Sequence[Panel]] = {"Readiness": _readiness()}
    if of_the_agency:
        rows |= {
            "Database pool": _pool(),
            "Queries": _queries(),
            "Redis": _redis(),
            "AI upstream": _upstream(),
        }
    rows["Spans"] = spans.panels()
    return board.build(
        "dependencies",
        "Dependencies",
        "Readiness of the instances, and the databases and upstreams behind them.",
        rows,
    )


def _readiness() -> list[Panel]:
    return [
        lines(
            "Ready instances",
            "Share of the instances whose workers all pass the required checks. NotReady fires below the line.",
            SHARE,
            Query(f"min by (job) ({recorded('job:ready:avg')})", "{{job}}"),
            floor=limit("NotReady", "share"),
            alerts=("NotReady",),
            width=8,
        ).max(1),
        states(
            "Readiness by instance",
            "The worst worker of each instance at its last check: the ten instances that are ready least.",
            READY,
            Query(f"bottomk(10, min by (instance) ({recorded('job_instance:ready:min')}))", "{{instance}}"),
            alerts=("InstanceNotReady",),
            width=16,
        ),
        lines(
            "Instances that reach each dependency",
            "Share of the instances whose workers all reach it. DependencyDown and OptionalDependencyDown fire below "
            "the line.",
            SHARE,
            Query(f"min by (dependency) ({recorded('job_dependency:dependency_up:avg')})", "{{dependency}}"),
            floor=limit("DependencyDown", "share"),
            alerts=("DependencyDown", "OptionalDependencyDown"),
            width=8,
        ).max(1),
        states(
            "Dependencies by instance",
            "The worst worker of each instance at its last check: the ten worst.",
            REACHED,
            Query(
                f"bottomk(10, min by (instance, dependency) ({series('baliblissed_dependency_up')}))",
                "{{dependency}} {{instance}}",
            ),
            width=16,
        ),
    ]


def _pool() -> list[Panel]:
    return [
        lines(
            "Connections of the pool",
            "Connections of all workers that run a query and that are idle, and how many there may be.",
            COUNT,
            Query(f"sum by (state) ({series(POOL)})", "{{state}}"),
            Query(f"sum({series(SIZE)})", "at most"),
            width=8,
        ),
        lines(
            "Fullest pools",
            "Share of each instance's connections that run a query: the ten fullest.",
            SHARE,
            Query(
                f"topk(10, sum by (instance) ({series(POOL, IN_USE)}) / sum by (instance) ({series(SIZE)}))",
                "{{instance}}",
            ),
            limit=1,
            width=8,
        ),
        lines(
            "Waiting for a connection",
            "Requests that wait for a free connection at this moment, by instance: the ten with most.",
            COUNT,
            Query(f"topk(10, sum by (instance) ({series('baliblissed_database_pool_waiting')}))", "{{instance}}"),
            alerts=("DatabasePoolExhausted",),
            width=8,
        ),
        lines(
            "Wait for a connection",
            "P50 and P99 of the time until a request had a connection, or gave up.",
            SECONDS,
            Query(quantile(0.5, WAIT), "P50"),
            Query(quantile(0.99, WAIT), "P99"),
        ),
        events(
            "Pool time-outs",
            "Requests that got no free connection in time.",
            Query(increase("baliblissed_database_pool_timeouts_total"), "time-outs"),
        ),
    ]


def _calls(what: str, histogram: str, errors: str, label: str, text: str) -> list[Panel]:
    """Return rate, P95 and errors of calls by a label."""
    legend = f"{{{{{label}}}}}"
    return [
        lines(
            f"{what} by {label}",
            f"Number a second. {text}.",
            PER_SECOND,
            Query(rate(f"{histogram}_count", label), legend),
            stacked=True,
            width=8,
        ),
        lines(
            f"P95 of {what.lower() if what != 'Redis' else what} by {label}",
            f"95 of 100 took no longer, failures included. {text}.",
            SECONDS,
            Query(quantile(0.95, histogram, label), legend),
            width=8,
        ),
        events(
            f"Errors of {what.lower() if what != 'Redis' else what}",
            f"Failures by {label} and reason. {text}.",
            Query(increase(errors, f"{label}, reason"), f"{legend} {{{{reason}}}}"),
            width=8,
        ),
    ]


def _queries() -> list[Panel]:
    text = "Operations on the database: the statements between taking a connection and its return"
    return _calls("Queries", QUERIES, "baliblissed_database_errors_total", "operation", text)


def _redis() -> list[Panel]:
    text = "Calls to Redis: a command, or the few of one step"
    return _calls("Redis", COMMANDS, "baliblissed_redis_errors_total", "command", text)


def _upstream() -> list[Panel]:
    failed = share(UPSTREAM, part='upstream="ai", outcome!="success"', whole='upstream="ai"')
    return [
        lines(
            "Upstream requests by outcome",
            "Requests to the AI upstream a second, by how it answered them. What the circuit breaker refuses is not "
            "sent and does not count.",
            REQUESTS_PER_SECOND,
            Query(rate(UPSTREAM, "outcome", 'upstream="ai"'), "{{outcome}}"),
            stacked=True,
            width=8,
        ),
        lines(
            "Failed share of upstream requests",
            "Share of the requests to the AI upstream that gave no answer.",
            SHARE,
            Query(failed, "failed"),
            width=8,
        ),
        lines(
            "Time of upstream requests",
            "P50 and P95 of the time to the upstream's answer or failure.",
            SECONDS,
            Query(quantile(0.5, ANSWERS, where='upstream="ai"'), "P50"),
            Query(quantile(0.95, ANSWERS, where='upstream="ai"'), "P95"),
            width=8,
        ),
    ]
