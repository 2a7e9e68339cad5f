"""Rows on which instance, pod or version is at fault."""

from .limits import ERROR_LIMITS, LATENCY_LIMITS, limit
from .panels import REQUESTS_PER_SECOND, SECONDS, SHARE, Panel, Query, lines
from .queries import recorded, recorded_quantile, with_pod

VERSION_BUCKETS = "job_version_le:http_request_duration_seconds_bucket:rate5m"
PLACE = "{{instance}} {{pod}}"


def _largest(expression: str) -> Query:
    return Query(f"topk(10, {with_pod(expression)})", PLACE)


def instances() -> list[Panel]:
    """Return requests, errors and latency of the ten instances that stand out."""
    return [
        lines(
            "Requests by instance",
            "Requests a second of each instance: the ten with most. One that has none gets no traffic.",
            REQUESTS_PER_SECOND,
            _largest(recorded("job_instance:http_requests:rate5m")),
            width=8,
        ),
        lines(
            "Error ratio by instance",
            "Share of each instance's requests that were answered 5xx: the ten worst. One bad instance among many "
            "hardly shows in the ratio of all.",
            SHARE,
            _largest(recorded("job_instance:http_errors:ratio_rate5m")),
            limit=limit("InstanceErrorRate", "error_ratio"),
            alerts=("InstanceErrorRate",),
            width=8,
        ),
        lines(
            "P95 by instance",
            "95 of 100 requests of the instance took no longer: the ten slowest.",
            SECONDS,
            _largest(recorded("job_instance:http_request_duration_seconds:p95_rate5m")),
            limit=LATENCY_LIMITS,
            width=8,
        ),
    ]


def versions() -> list[Panel]:
    """Return requests, errors and latency of each version."""
    errors, requests = recorded("job_version:http_errors:rate5m"), recorded("job_version:http_requests:rate5m")
    return [
        lines(
            "Requests by version",
            "Requests a second of each version: how far a rollout is.",
            REQUESTS_PER_SECOND,
            Query(f"sum by (version) ({requests})", "{{version}}"),
            stacked=True,
            width=8,
        ),
        lines(
            "Error ratio by version",
            "Share of each version's requests that were answered 5xx. Where the new one is worse, roll back.",
            SHARE,
            Query(f"sum by (version) ({errors}) / sum by (version) ({requests})", "{{version}}"),
            limit=ERROR_LIMITS,
            width=8,
        ),
        lines(
            "P95 by version",
            "95 of 100 requests of the version took no longer.",
            SECONDS,
            Query(recorded_quantile(0.95, VERSION_BUCKETS, "version"), "{{version}}"),
            limit=LATENCY_LIMITS,
            width=8,
        ),
    ]
