"""Requests: how many, how they end, how long they take. Metrics of the Instrumentator."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from . import board
from .limits import ERROR_RATIO_LIMIT, LATENCY_BOUND, LATENCY_LIMIT, SLOW_SHARE_LIMIT
from .panels import BYTES, REQUESTS_PER_SECOND, SECONDS, SHARE, Panel, Query, lines, number
from .queries import mean, quantile, rate, rate_or_zero, share, slower_than

REQUESTS = "http_requests_total"
DURATION = "http_request_duration_seconds"
CHOSEN = 'handler=~"$handler"'
FAILED = 'status=~"5.."'


def _error_ratio(by: str = "") -> str:
    return share(REQUESTS, of=REQUESTS, part=FAILED, by=by, where=CHOSEN)


def _response_sizes() -> Panel:
    return lines(
        "Response size by handler",
        "Mean size of the response bodies that were sent in the window.",
        BYTES,
        Query(mean("http_response_size_bytes", "handler", CHOSEN), "{{handler}}"),
    )


def _rate_limits() -> Panel:
    return lines(
        "Rate-limited requests",
        "Requests a second that were answered 429, by the limit that refused them; all handlers.",
        REQUESTS_PER_SECOND,
        Query(rate_or_zero("baliblissed_rate_limited_requests_total", "limit"), "{{limit}}"),
    )


def build(*, of_the_agency: bool = True) -> Dashboard:
    """Build fastapi-overview.json. `of_the_agency` adds the panel of a metric that only the agency declares."""
    handler = board.choice(
        "handler",
        "Handler",
        "Route templates; none is a path without a route.",
        'label_values(http_requests_total{job=~"$job", instance=~"$instance"}, handler)',
    )
    return board.build(
        "fastapi-overview",
        "FastAPI overview",
        "Rate, errors and duration of the API's requests, over all workers and instances.",
        {
            "At a glance": _at_a_glance(),
            "Traffic": _traffic(),
            "Errors": _errors(),
            "Latency": _latency(),
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
            Query(rate(REQUESTS, where=CHOSEN), "requests"),
        ),
        number(
            "Error ratio",
            "Share of requests answered 5xx. HighErrorRate watches 5%.",
            SHARE,
            Query(_error_ratio(), "5xx"),
            limit=ERROR_RATIO_LIMIT,
        ),
        number(
            "P99",
            "99 of 100 requests took no longer. HighLatencyP99 watches 2 s.",
            SECONDS,
            Query(quantile(0.99, DURATION, where=CHOSEN), "P99"),
            limit=LATENCY_LIMIT,
        ),
        number(
            "Slower than 2 s",
            "Share of requests over 2 s, counted and not interpolated. Above 1% the P99 is above 2 s.",
            SHARE,
            Query(slower_than(LATENCY_BOUND, DURATION, where=CHOSEN), "over 2 s"),
            limit=SLOW_SHARE_LIMIT,
        ),
    ]


def _traffic() -> list[Panel]:
    return [
        lines(
            "Request rate by handler",
            "Requests a second by route template. none is a path that has no route.",
            REQUESTS_PER_SECOND,
            Query(rate(REQUESTS, "handler", CHOSEN), "{{handler}}"),
            stacked=True,
        ),
        lines(
            "Responses by status",
            "Responses a second by status code.",
            REQUESTS_PER_SECOND,
            Query(rate(REQUESTS, "status", CHOSEN), "{{status}}"),
            stacked=True,
        ),
    ]


def _errors() -> list[Panel]:
    return [
        lines(
            "Error ratio",
            "Share of requests answered 5xx, over all chosen handlers. The line is the alert's 5%.",
            SHARE,
            Query(_error_ratio(), "5xx"),
            limit=ERROR_RATIO_LIMIT,
            alerts=("HighErrorRate",),
        ),
        lines(
            "Error ratio by handler",
            "Share of each route's requests that were answered 5xx.",
            SHARE,
            Query(_error_ratio("handler"), "{{handler}}"),
            limit=ERROR_RATIO_LIMIT,
        ),
    ]


def _latency() -> list[Panel]:
    return [
        lines(
            "Latency",
            "P50, P95 and P99, interpolated inside buckets that end at 10 s. The line is the objective, 2 s. "
            "Dots are requests with a trace.",
            SECONDS,
            *(Query(quantile(q, DURATION, where=CHOSEN), f"P{q * 100:.0f}") for q in (0.5, 0.95, 0.99)),
            limit=LATENCY_LIMIT,
            exemplars=True,
        ),
        lines(
            "Slower than 2 s",
            "Share of requests over 2 s, counted on a bucket's boundary: what HighLatencyP99 evaluates. "
            "The line is 1%.",
            SHARE,
            Query(slower_than(LATENCY_BOUND, DURATION, where=CHOSEN), "over 2 s"),
            limit=SLOW_SHARE_LIMIT,
            alerts=("HighLatencyP99",),
        ),
        lines(
            "P95 by handler",
            "95 of 100 requests of the route took no longer. Dots are requests with a trace.",
            SECONDS,
            Query(quantile(0.95, DURATION, "handler", CHOSEN), "{{handler}}"),
            limit=LATENCY_LIMIT,
            exemplars=True,
            width=24,
        ),
    ]
