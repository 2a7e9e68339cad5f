"""The Instrumentator's http_* metrics, recorded without what its middleware does for each request.

That one matches every route a second time, builds a Request and a Response, and looks five children up by their
labels. Here the route is read from the scope after routing, and the children of a method, status and route are kept.
"""

from collections.abc import Mapping
from http import HTTPMethod
from typing import NamedTuple, TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram, Summary
from prometheus_fastapi_instrumentator import routing
from starlette.requests import HTTPConnection
from starlette.types import Scope

Metric = TypeVar("Metric")
UNKNOWN_METHOD = "_OTHER"
NO_ROUTE = "none"
METHODS = frozenset(HTTPMethod)


class _Series(NamedTuple):
    """Where a request of one method, status and route is counted."""

    total: Counter
    received: Summary
    sent: Summary
    duration: Histogram


class HttpMetrics:
    """Records requests in the metrics that `registry` holds; the Instrumentator has declared them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        known = registry._names_to_collectors  # noqa: SLF001 -- no public accessor exists
        self._total = _declared(known, "http_requests_total", Counter)
        self._received = _declared(known, "http_request_size_bytes", Summary)
        self._sent = _declared(known, "http_response_size_bytes", Summary)
        self._all = _declared(known, "http_request_duration_highr_seconds", Histogram)
        self._duration = _declared(known, "http_request_duration_seconds", Histogram)
        self._series: dict[tuple[str, int, str], _Series] = {}

    def record(
        self,
        method: str,
        status: int,
        handler: str,
        seconds: float,
        sizes: tuple[int, int],
        exemplar: dict[str, str] | None = None,
    ) -> None:
        """Count one request. `sizes` are those of the Content-Length headers of request and answer, 0 without one."""
        series = self._series.get((method, status, handler)) or self._find(method, status, handler)
        # The class's methods: those of the instance would look for the current trace, which is known here.
        Counter.inc(series.total, 1, exemplar)
        series.received.observe(sizes[0])
        series.sent.observe(sizes[1])
        Histogram.observe(self._all, seconds, exemplar)
        Histogram.observe(series.duration, seconds, exemplar)

    def _find(self, method: str, status: int, handler: str) -> _Series:
        label = method if method in METHODS else UNKNOWN_METHOD
        series = _Series(
            self._total.labels(label, str(status), handler),
            self._received.labels(handler),
            self._sent.labels(handler),
            self._duration.labels(label, handler),
        )
        # What has overflowed is asked for again: the registry counts each refusal. Odd methods would fill this table.
        if label == method and (label, str(status), handler) in self._total._metrics:  # noqa: SLF001
            self._series[method, status, handler] = series
        return series


def _declared(known: Mapping[str, object], name: str, kind: type[Metric]) -> Metric:
    found = known.get(name)
    if not isinstance(found, kind):
        raise TypeError(f"{name} is not declared as a {kind.__name__}: make the Instrumentator first")
    return found


def handler_of(scope: Scope, app: object) -> str:
    """The template of the route that has taken the request of `app`, read after routing; "none" where none has."""
    route = scope.get("route")
    if route is None:
        return NO_ROUTE
    if "app_root_path" in scope:
        # Mounted: the scope knows the inner route only. The library puts the parts together, for these requests alone.
        outer = {**scope, "app": app, "root_path": scope["app_root_path"]}
        return routing.get_route_name(HTTPConnection(outer), should_include_root_path=False) or NO_ROUTE
    return getattr(route, "path", None) or NO_ROUTE
