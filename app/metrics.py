"""The agency's metrics: cache, AI, circuit breaker, rate limits. docs/metrics.md describes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from app.monitoring import Observability
from app.observability import NAMESPACE

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


def build_metrics(registry: CollectorRegistry) -> Metrics:
    """Declare the metrics in `registry`; twice in one registry raises ValueError, as the library does."""

    def counter(name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, namespace=NAMESPACE, registry=registry)

    def gauge(name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, namespace=NAMESPACE, registry=registry, multiprocess_mode="livemostrecent")

    def histogram(name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(name, text, labels, namespace=NAMESPACE, registry=registry, buckets=buckets)

    return Metrics(
        cache_hits=counter("cache_hits_total", "Look-ups answered by the cache.", "cache"),
        cache_misses=counter("cache_misses_total", "Look-ups that had to load the value.", "cache"),
        ai_requests=counter("ai_requests_total", "AI requests by operation and outcome.", "operation", "outcome"),
        ai_request_duration=histogram(
            "ai_request_duration_seconds",
            "Time to an AI answer, upstream or offline.",
            AI_BUCKETS,
            "operation",
        ),
        ai_tokens=counter("ai_tokens_used_total", "Tokens as the upstream reports them.", "operation", "kind"),
        circuit_breaker_state=gauge("circuit_breaker_state", "0 closed, 1 half open, 2 open.", "breaker"),
        rate_limited=counter("rate_limited_requests_total", "Requests answered 429, by limit.", "limit"),
    )


@cache
def metrics() -> Metrics:
    """Return the metrics of this process. Call it after `build_observability`, whose namespace and limit they have."""
    return build_metrics(Observability.current().registry)
