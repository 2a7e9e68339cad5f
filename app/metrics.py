"""The agency's metrics: cache, AI, circuit breaker, rate limits, database, Redis. docs/metrics.md describes them.

Every label value of a counter or histogram has a series with 0 from the start, so that its first event is an increase.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Generic, Literal, TypeVar, get_args

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from app.monitoring import Observability

AI_BUCKETS = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60)
QUERY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
# From one round trip within a host to the time-out of a call with its repetition.
REDIS_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)

CACHES = ("destinations", "catalogue", "itineraries")
LIMITS = ("reviews", "inquiries", "assistant", "keys")
TOKEN_KINDS = ("prompt", "completion")
AIOperation = Literal["chat", "itinerary"]
AIOutcome = Literal["success", "offline", "timeout", "rejected", "circuit_open", "cancelled", "error"]
UpstreamName = Literal["ai"]
UpstreamOutcome = Literal[
    "success",
    "timeout",
    "unreachable",
    "rate_limited",
    "server_error",
    "invalid_answer",
    "rejected",
    "cancelled",
    "error",
]
Query = Literal[
    "list_destinations",
    "get_destination",
    "suggest_destinations",
    "load_catalogue",
    "list_reviews",
    "add_review",
    "list_inquiries",
    "add_inquiry",
    "delete_idempotency_keys",
    "migrate",
    "ping",
]
"""An operation on the database: the statements between taking a connection and its return."""
ConnectionState = Literal["in_use", "idle"]
QueryError = Literal[
    "pool_timeout",
    "connect_failed",
    "connection_lost",
    "timeout",
    "read_only",
    "conflict",
    "resources",
    "schema",
    "statement",
]
RedisCommand = Literal[
    "get", "mget", "set", "delete", "lease", "release", "hgetall", "hincrby", "hset", "rate_limit", "ping"
]
"""A step that the service asks of Redis: a command, or a few of them."""
RedisFailure = Literal["timeout", "connection", "refused", "other", "not_asked"]

Name = TypeVar("Name", bound=str)
Reason = TypeVar("Reason", bound=str)


@dataclass(frozen=True)
class DatabaseMetrics:
    """The metrics of the pool and of the queries on its connections."""

    pool_size: Gauge
    pool_connections: Gauge
    pool_waiting: Gauge
    pool_wait: Histogram
    pool_timeouts: Counter
    query_duration: Histogram
    errors: Counter


@dataclass(frozen=True)
class RedisMetrics:
    """The metrics of calls to Redis."""

    command_duration: Histogram
    errors: Counter


@dataclass(frozen=True)
class Metrics:
    """Every metric of the agency."""

    cache_hits: Counter
    cache_misses: Counter
    ai_requests: Counter
    ai_request_duration: Histogram
    ai_tokens: Counter
    circuit_breaker_state: Gauge
    upstream_requests: Counter
    upstream_request_duration: Histogram
    database: DatabaseMetrics
    redis: RedisMetrics
    rate_limited: Counter


class Calls(Generic[Name, Reason]):
    """Durations and errors of calls by a bounded name, with the series looked up once and not at each call."""

    def __init__(self, durations: Histogram, errors: Counter, names: Iterable[Name], reasons: Iterable[Reason]) -> None:
        names = tuple(names)
        self._durations = {name: durations.labels(name) for name in names}
        self._errors = {(name, reason): errors.labels(name, reason) for name, reason in product(names, reasons)}

    def ended(self, name: Name, seconds: float) -> None:
        """Record the duration of a call that has ended, with or without an error."""
        self._durations[name].observe(seconds)

    def failed(self, name: Name, reason: Reason) -> None:
        """Count an error of a call."""
        self._errors[name, reason].inc()


def build_metrics(observability: Observability) -> Metrics:
    """Declare the metrics; twice in one registry raises ValueError, as the library does."""
    counter, gauge, histogram = observability.counter, observability.gauge, observability.histogram
    metrics = Metrics(
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
        upstream_requests=counter(
            "upstream_requests_total", "Requests to an upstream by outcome.", ["upstream", "outcome"]
        ),
        upstream_request_duration=histogram(
            "upstream_request_duration_seconds",
            "Time to an upstream's answer or failure.",
            ["upstream"],
            buckets=AI_BUCKETS,
        ),
        database=_build_database_metrics(observability),
        redis=_build_redis_metrics(observability),
        rate_limited=counter("rate_limited_requests_total", "Requests answered 429, by limit.", ["limit"]),
    )
    _preset(metrics.cache_hits, CACHES)
    _preset(metrics.cache_misses, CACHES)
    _preset(metrics.ai_requests, get_args(AIOperation), get_args(AIOutcome))
    _preset(metrics.ai_request_duration, get_args(AIOperation))
    _preset(metrics.ai_tokens, get_args(AIOperation), TOKEN_KINDS)
    _preset(metrics.upstream_requests, get_args(UpstreamName), get_args(UpstreamOutcome))
    _preset(metrics.upstream_request_duration, get_args(UpstreamName))
    _preset(metrics.rate_limited, LIMITS)
    return metrics


def _build_database_metrics(observability: Observability) -> DatabaseMetrics:
    counter, gauge, histogram = observability.counter, observability.gauge, observability.histogram
    metrics = DatabaseMetrics(
        pool_size=gauge("database_pool_size", "Connections that the pools may have at most."),
        pool_connections=gauge("database_pool_connections", "Connections of the pools by state.", ["state"]),
        pool_waiting=gauge("database_pool_waiting", "Requests that wait for a free connection."),
        pool_wait=histogram(
            "database_pool_wait_seconds",
            "Time until a request had a connection, or failed to get one.",
            buckets=QUERY_BUCKETS,
        ),
        pool_timeouts=counter("database_pool_timeouts_total", "Requests that got no free connection in time."),
        query_duration=histogram(
            "database_query_duration_seconds",
            "Time of an operation on its connection.",
            ["operation"],
            buckets=QUERY_BUCKETS,
        ),
        errors=counter("database_errors_total", "Database operations that failed, by reason.", ["operation", "reason"]),
    )
    _preset(metrics.query_duration, get_args(Query))
    _preset(metrics.errors, get_args(Query), get_args(QueryError))
    _preset(metrics.pool_connections, get_args(ConnectionState))
    return metrics


def _build_redis_metrics(observability: Observability) -> RedisMetrics:
    metrics = RedisMetrics(
        command_duration=observability.histogram(
            "redis_command_duration_seconds", "Time of a call to Redis.", ["command"], buckets=REDIS_BUCKETS
        ),
        errors=observability.counter(
            "redis_errors_total", "Calls to Redis that failed, by reason.", ["command", "reason"]
        ),
    )
    _preset(metrics.command_duration, get_args(RedisCommand))
    _preset(metrics.errors, get_args(RedisCommand), get_args(RedisFailure))
    return metrics


def _preset(metric: MetricWrapperBase, *values: Iterable[str]) -> None:
    """Make the series of every combination of label values."""
    for labels in product(*values):
        metric.labels(*labels)


@cache
def metrics() -> Metrics:
    """Return the metrics of this process. Call it after `build_observability`, whose namespace and limit they have."""
    return build_metrics(Observability.current())
