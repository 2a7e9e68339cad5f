"""The agency's metrics: cache, AI, circuit breaker, rate limits. docs/metrics.md describes them."""

from dataclasses import dataclass
from functools import cache

from prometheus_client import Counter, Gauge, Histogram

from app.monitoring import Observability

AI_BUCKETS = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60)


@dataclass(frozen=True)
class Metrics:
    """Every metric of the agency."""

    cache_hits: Counter
    cache_misses: Counter
    ai_requests: Counter
    ai_request_duration: Histogram
    ai_tokens: Counter
    circuit_breaker_state: Gauge
    rate_limited: Counter


def build_metrics(observability: Observability) -> Metrics:
    """Declare the metrics; twice in one registry raises ValueError, as the library does."""
    counter, gauge, histogram = observability.counter, observability.gauge, observability.histogram
    return Metrics(
        cache_hits=counter("cache_hits_total", "Look-ups answered by the cache.", ["cache"]),
        cache_misses=counter("cache_misses_total", "Look-ups that had to load the value.", ["cache"]),
        ai_requests=counter("ai_requests_total", "AI requests by operation and outcome.", ["operation", "outcome"]),
        ai_request_duration=histogram(
            "ai_request_duration_seconds",
            "Time to an AI answer, upstream or offline.",
            ["operation"],
            buckets=AI_BUCKETS,
        ),
        ai_tokens=counter("ai_tokens_used_total", "Tokens as the upstream reports them.", ["operation", "kind"]),
        circuit_breaker_state=gauge(
            "circuit_breaker_state", "0 closed, 1 half open, 2 open.", ["breaker"], mode="livemostrecent"
        ),
        rate_limited=counter("rate_limited_requests_total", "Requests answered 429, by limit.", ["limit"]),
    )


@cache
def metrics() -> Metrics:
    """Return the metrics of this process. Call it after `build_observability`, whose namespace and limit they have."""
    return build_metrics(Observability.current())
