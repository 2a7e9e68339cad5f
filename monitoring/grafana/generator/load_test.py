"""A load test: what was offered and achieved, latency as clients and as the service saw it, alerts, worker events."""

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.models import dashboard

from . import board
from .firing import firing
from .limits import ERROR_RATIO_LIMIT, LATENCY_LIMIT, bound
from .panels import (
    COUNT,
    DATASOURCE,
    REQUESTS_PER_SECOND,
    SECONDS,
    SHARE,
    Panel,
    Query,
    buckets,
    events,
    lines,
    number,
    states,
)
from .queries import RATE_WINDOW, elsewhere, increase, quantile, rate, series

RUN = 'run="$run"'
CLIENTS, SERVER = "loadtest_request_duration_seconds", "http_request_duration_seconds"
OFFERED = "loadtest_offered_requests_per_second"
FAULTS = {"0": ("none", "green"), "1": ("active", "orange")}


def _run() -> builders.QueryVariable:
    return (
        builders.QueryVariable("run")
        .label("Run")
        .description("Load tests, the newest first.")
        .datasource(DATASOURCE)
        .query("label_values(loadtest_run_info, run)")
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_DESC)
        .multi(False)
        .include_all(False)
    )


def _rate(counter: str, by: str = "", where: str = RUN) -> str:
    return f"sum{f' by ({by}) ' if by else ''}(rate({elsewhere(counter, where)}{RATE_WINDOW}))"


def _seen(share: float) -> str:
    """Return a percentile as clients saw it."""
    return f"histogram_quantile({share:g}, {_rate(f'{CLIENTS}_bucket', 'le')})"


def build() -> Dashboard:
    """Build load-test.json."""
    return board.build(
        "load-test",
        "Load test",
        "One run of the load test, chosen by its id. Select its time range; its annotation marks it.",
        {
            "At a glance": _at_a_glance(),
            "Load": _load(),
            "Latency": _latency(),
            "Alerts and faults": _alerts(),
            "Workers": _workers(),
        },
        [_run()],
    )


def _at_a_glance() -> list[Panel]:
    failed = _rate("loadtest_requests_total", where=f'{RUN}, status=~"0|5.."')
    return [
        number(
            "Users",
            "Users that the load test runs at present.",
            COUNT,
            Query(f"sum({elsewhere('loadtest_users', RUN)})", "users"),
        ),
        number(
            "Achieved of offered",
            "Requests that were answered, as a share of those that the schedule of the users asks for.",
            SHARE,
            Query(f"{_rate('loadtest_requests_total')} / sum({elsewhere(OFFERED, RUN)})", "achieved"),
        ),
        number(
            "Failed share",
            "Share of the requests that clients saw answered 5xx, or not at all.",
            SHARE,
            Query(
                f"({failed} or 0 * {_rate('loadtest_requests_total')}) / {_rate('loadtest_requests_total')}", "failed"
            ),
            limit=ERROR_RATIO_LIMIT,
        ),
        number(
            "Late tasks",
            "Share of the tasks that began late: above 1% the clients are the bottleneck and latencies are not to be "
            "trusted.",
            SHARE,
            Query(f"{_rate('loadtest_tasks_late_total')} / {_rate('loadtest_tasks_total')}", "late"),
            limit=0.01,
        ),
    ]


def _load() -> list[Panel]:
    return [
        lines(
            "Offered and achieved rate",
            "Requests a second: what the users' schedule asks for, what clients had answered, what the service "
            "counted.",
            REQUESTS_PER_SECOND,
            Query(f"sum({elsewhere(OFFERED, RUN)})", "offered"),
            Query(_rate("loadtest_requests_total"), "achieved, by clients"),
            Query(rate("http_requests_total"), "answered, by the service"),
        ),
        lines(
            "Answers by status",
            "Answers a second as clients saw them; 0 is no answer at all: a reset or a time-out.",
            REQUESTS_PER_SECOND,
            Query(_rate("loadtest_requests_total", "status"), "{{status}}"),
            stacked=True,
        ),
    ]


def _latency() -> list[Panel]:
    return [
        lines(
            "Percentiles of clients",
            "P50, P95 and P99 to the last byte, as clients saw them. The lines are the objective and the hard limit.",
            SECONDS,
            *(Query(_seen(q), f"P{q * 100:.0f}") for q in (0.5, 0.95, 0.99)),
            limit=(bound("latency"), LATENCY_LIMIT),
        ),
        lines(
            "Percentiles of the service",
            "The same as the service measured them. A gap to the clients is time in queues in front of the service.",
            SECONDS,
            *(Query(quantile(q, SERVER), f"P{q * 100:.0f}") for q in (0.5, 0.95, 0.99)),
            limit=(bound("latency"), LATENCY_LIMIT),
        ),
        buckets(
            "Buckets of clients",
            "How many requests of the clients fell into each bucket.",
            Query(f"sum by (le) (increase({elsewhere(f'{CLIENTS}_bucket', RUN)}{RATE_WINDOW}))", "{{le}}"),
        ),
        buckets(
            "Buckets of the service",
            "How many requests fell into each bucket of the service, whose boundaries are the same.",
            Query(f"sum by (le) (increase({series(f'{SERVER}_bucket')}{RATE_WINDOW}))", "{{le}}"),
        ),
    ]


def _alerts() -> list[Panel]:
    return [
        firing("Alert timeline", "Alerts of the service while the load test ran: pending, then firing.", width=16),
        states(
            "Faults",
            "Faults that the load test makes: ai is an AI upstream that answers 500.",
            FAULTS,
            Query(f"max by (fault) ({elsewhere('loadtest_fault_active', RUN)})", "{{fault}}"),
            width=8,
        ),
    ]


def _workers() -> list[Panel]:
    return [
        events(
            "Worker exits",
            "Workers that ended while the load test ran, by reason.",
            Query(increase("baliblissed_worker_exits_total", "reason"), "{{reason}}"),
            width=8,
        ),
        events(
            "Worker boots",
            "Workers that were started while the load test ran.",
            Query(increase("baliblissed_worker_boots_total"), "boots"),
            width=8,
        ),
        lines(
            "Event-loop lag by worker",
            "The largest lag of each worker in the last 15 s: a worker that is blocked stands out.",
            SECONDS,
            Query(
                f"max by (instance, worker) ({series('baliblissed_worker_event_loop_lag_seconds')})",
                "{{instance}} {{worker}}",
            ),
            width=8,
        ),
    ]
