"""Requests: what burns, how many they are, how they end, how long they take, and where."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from . import board, rollout
from .firing import firing
from .limits import ERROR_LIMITS, LATENCY_LIMIT, LATENCY_LIMITS, OBJECTIVES, SLOW_SHARE_LIMIT, limit, percent
from .panels import BYTES, COUNT, REQUESTS_PER_SECOND, SECONDS, SHARE, Panel, Query, events, lines, number
from .queries import increase, quantile, rate_or_zero, recorded, recorded_quantile, series

DURATION = "http_request_duration_seconds"
CHOSEN = 'handler=~"$handler"'
REQUESTS, ERRORS = "job:http_requests:rate5m", "job:http_errors:ratio_rate5m"
SLOW = "job:http_slow_requests:ratio_rate5m"
BUCKETS = "job_le:http_request_duration_seconds_bucket:rate5m"
HANDLER_P95 = "job_handler:http_request_duration_seconds:p95_rate5m"
SIZES = "job_handler:http_response_size_bytes"


def build(*, of_the_agency: bool = True) -> Dashboard:
    """Build fastapi-overview.json. `of_the_agency` adds the panel of a metric that only the agency declares."""
    handler = board.choice(
        "handler",
        "Handler",
        "Route templates; none is a path without a route.",
        'label_values(job_handler:http_requests:rate5m{job=~"$job"}, handler)',
    )
    return board.build(
        "fastapi-overview",
        "FastAPI overview",
        "Rate, errors and duration of the API's requests, over all workers and instances. Rates are those of the last "
        "five minutes, as the alerts see them; health probes do not count.",
        {
            "At a glance": _at_a_glance(),
            "Traffic": _traffic(),
            "Errors": _errors(),
            "Latency": _latency(),
            "Instances and pods": rollout.instances(),
            "Versions in a rollout": rollout.versions(),
            "Overload": _overload(),
            "Sizes and limits" if of_the_agency else "Sizes": [
                _response_sizes(),
                *([_rate_limits()] if of_the_agency else []),
            ],
        },
        [handler],
    )


def _at_a_glance() -> list[Panel]:
    return [
        number(
            "Requests",
            "Requests a second that were answered, whatever the answer.",
            REQUESTS_PER_SECOND,
            Query(f"sum({recorded(REQUESTS)})", "requests"),
        ),
        number(
            "Error ratio",
            f"Share of requests answered 5xx: what HighErrorRate evaluates. It fires above {percent(ERROR_LIMITS[1])}. "
            f"Orange is more than the objective allows, {percent(ERROR_LIMITS[0])}.",
            SHARE,
            Query(f"max({recorded(ERRORS)})", "5xx"),
            limit=ERROR_LIMITS,
        ),
        number(
            "P99",
            "99 of 100 requests took no longer, interpolated. Requests of the assistant count here.",
            SECONDS,
            Query(recorded_quantile(0.99, BUCKETS), "P99"),
            limit=LATENCY_LIMITS,
        ),
        number(
            f"Slower than {LATENCY_LIMIT:g} s",
            f"Share of requests over {LATENCY_LIMIT:g} s, those of the assistant left out: what HighLatencyP99 "
            f"evaluates. It fires above {percent(SLOW_SHARE_LIMIT)}.",
            SHARE,
            Query(f"max({recorded(SLOW)})", f"over {LATENCY_LIMIT:g} s"),
            limit=SLOW_SHARE_LIMIT,
        ),
        firing(
            "Firing alerts",
            "Alerts of the service that fire or are pending. Each notification links to the alert's panel and runbook.",
            alerts=("RecentOutage",),
        ),
    ]


def _traffic() -> list[Panel]:
    return [
        lines(
            "Request rate by handler",
            "Requests a second by route template. none is a path that has no route.",
            REQUESTS_PER_SECOND,
            Query(f"sum by (handler) ({recorded('job_handler:http_requests:rate5m', CHOSEN)})", "{{handler}}"),
            stacked=True,
            width=8,
        ),
        lines(
            "Responses by status",
            "Responses a second by status code, over all handlers.",
            REQUESTS_PER_SECOND,
            Query(f"sum by (status) ({recorded('job_status:http_requests:rate5m')})", "{{status}}"),
            stacked=True,
            width=8,
        ),
        lines(
            "Requests and those of the day before",
            "Requests a second, and those at the same time of the day before, against which TrafficVanished judges.",
            REQUESTS_PER_SECOND,
            Query(f"sum by (job) ({recorded(REQUESTS)})", "{{job}}"),
            Query(f"sum by (job) ({recorded('job:http_requests:rate1h_day_before')})", "{{job}} the day before"),
            alerts=("TrafficVanished",),
            width=8,
        ),
    ]


def _errors() -> list[Panel]:
    return [
        lines(
            "Error ratio",
            "Share of requests answered 5xx over all handlers: the series that HighErrorRate evaluates. The lines are "
            f"what the objective allows, {percent(ERROR_LIMITS[0])}, and the alert's {percent(ERROR_LIMITS[1])}.",
            SHARE,
            Query(f"max by (job) ({recorded(ERRORS)})", "{{job}}"),
            limit=ERROR_LIMITS,
            alerts=("HighErrorRate",),
        ),
        lines(
            "Error ratio by handler",
            "Share of each route's requests that were answered 5xx.",
            SHARE,
            Query(f"max by (handler) ({recorded('job_handler:http_errors:ratio_rate5m', CHOSEN)})", "{{handler}}"),
            limit=ERROR_LIMITS,
        ),
    ]


def _latency() -> list[Panel]:
    return [
        lines(
            "Latency",
            "P50, P95 and P99, interpolated inside buckets that end at 10 s. The lines are the objective, "
            f"{LATENCY_LIMITS[0]:g} s for {percent(OBJECTIVES.slo('latency').target)}, and the hard limit, "
            f"{LATENCY_LIMIT:g} s. Dots are requests with a trace: a click leads to it, and from there to its log "
            "lines.",
            SECONDS,
            *(Query(recorded_quantile(q, BUCKETS), f"P{q * 100:.0f}") for q in (0.5, 0.95, 0.99)),
            limit=LATENCY_LIMITS,
            exemplars=Query(quantile(0.99, DURATION, where=CHOSEN), "P99 of the chosen handlers now"),
        ),
        lines(
            f"Slower than {LATENCY_LIMIT:g} s",
            f"Share of requests over {LATENCY_LIMIT:g} s, counted on a bucket's boundary: the series that "
            f"HighLatencyP99 evaluates. The line is {percent(SLOW_SHARE_LIMIT)}.",
            SHARE,
            Query(f"max by (job) ({recorded(SLOW)})", "{{job}}"),
            limit=SLOW_SHARE_LIMIT,
            alerts=("HighLatencyP99",),
        ),
        lines(
            "P95 by handler",
            "95 of 100 requests of the route took no longer. Dots are requests with a trace.",
            SECONDS,
            Query(f"max by (handler) ({recorded(HANDLER_P95, CHOSEN)})", "{{handler}}"),
            limit=LATENCY_LIMITS,
            exemplars=Query(quantile(0.95, DURATION, where=CHOSEN), "P95 of the chosen handlers now"),
            width=24,
        ),
    ]


def _overload() -> list[Panel]:
    return [
        events(
            "Requests shed",
            "Requests answered 503 under overload: queue_full at once, queue_timeout after QUEUE_TIMEOUT.",
            Query(increase("baliblissed_requests_shed_total", "reason"), "{{reason}}"),
            width=6,
        ),
        lines(
            "Shed share",
            "Requests answered 503 under overload, as a share of all. RequestsShed fires above the line.",
            SHARE,
            Query(f"max by (job) ({recorded('job:requests_shed:ratio_rate5m')})", "{{job}}"),
            limit=limit("RequestsShed", "share"),
            alerts=("RequestsShed",),
            width=6,
        ),
        lines(
            "Requests in flight",
            "Requests that are being answered, and requests that wait for a slot of MAX_IN_FLIGHT.",
            COUNT,
            Query(f"sum({series('baliblissed_requests_in_flight')})", "in flight"),
            Query(f"sum({series('baliblissed_requests_queued')})", "queued"),
            width=6,
        ),
        lines(
            "Connections",
            "Connections of clients that are open, idle ones included, by instance: the ten with most.",
            COUNT,
            Query(f"topk(10, sum by (instance) ({series('baliblissed_connections_open')}))", "{{instance}}"),
            width=6,
        ),
    ]


def _response_sizes() -> Panel:
    return lines(
        "Response size by handler",
        "Mean size of the response bodies of the last five minutes.",
        BYTES,
        Query(
            f"sum by (handler) ({recorded(f'{SIZES}_sum:rate5m', CHOSEN)})"
            f" / sum by (handler) ({recorded(f'{SIZES}_count:rate5m', CHOSEN)})",
            "{{handler}}",
        ),
    )


def _rate_limits() -> Panel:
    return lines(
        "Rate-limited requests",
        "Requests a second that were answered 429, by the limit that refused them; all handlers.",
        REQUESTS_PER_SECOND,
        Query(rate_or_zero("baliblissed_rate_limited_requests_total", "limit"), "{{limit}}"),
    )
