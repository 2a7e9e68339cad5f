"""The Instrumentator's http_* metrics, recorded without what its middleware does for each request.

That one matches every route a second time, builds a Request and a Response, and looks five children up by their
labels. Here the route is read from the scope after routing, and the children of a method, status and route are kept.
"""

import time
from bisect import bisect_left
from collections.abc import Mapping
from http import HTTPMethod, HTTPStatus
from types import SimpleNamespace
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram, Summary
from prometheus_client.samples import Exemplar
from prometheus_fastapi_instrumentator import routing
from starlette.requests import HTTPConnection
from starlette.types import Scope

Metric = TypeVar("Metric")
UNKNOWN_METHOD = "_OTHER"
NO_ROUTE = "none"
METHODS = frozenset(HTTPMethod)


class _Timer:
    """The values of a histogram. Its own method looks for the bucket one by one, and for an exemplar."""

    __slots__ = ("_bounds", "_buckets", "_sum")

    def __init__(self, histogram: Any) -> None:
        self._bounds, self._buckets, self._sum = histogram._upper_bounds, histogram._buckets, histogram._sum  # noqa: SLF001

    def observe(self, seconds: float, exemplar: Exemplar | None = None) -> None:
        self._sum.inc(seconds)
        bucket = self._buckets[bisect_left(self._bounds, seconds)]
        bucket.inc(1)
        if exemplar is not None:
            bucket.set_exemplar(exemplar)


class _Series:
    """Where requests of one method, status and route are counted: the values behind the library's metrics."""

    __slots__ = ("received", "received_bytes", "requests", "sent", "sent_bytes", "timer")

    def __init__(self, total: Any, received: Any, sent: Any, duration: Any) -> None:
        self.requests = total._value  # noqa: SLF001
        self.received, self.received_bytes = received._count, received._sum  # noqa: SLF001
        self.sent, self.sent_bytes = sent._count, sent._sum  # noqa: SLF001
        self.timer = _Timer(duration)


class HttpMetrics:
    """Records requests in the metrics that `registry` holds; the Instrumentator has declared them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        known = registry._names_to_collectors  # noqa: SLF001 -- no public accessor exists
        self._total = _declared(known, "http_requests_total", Counter)
        self._received = _declared(known, "http_request_size_bytes", Summary)
        self._sent = _declared(known, "http_response_size_bytes", Summary)
        self._all = _Timer(_declared(known, "http_request_duration_highr_seconds", Histogram))
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
        """Count one request of a known method.

        `sizes` are those of the Content-Length headers of request and answer, 0 without one. The exemplar is where it
        can be looked for: on the request's own count and on the duration of its route.
        """
        series = self._series.get((method, status, handler)) or self._find(method, status, handler)
        series.received.inc(1)
        series.sent.inc(1)
        if sizes[0]:
            series.received_bytes.inc(sizes[0])
        if sizes[1]:
            series.sent_bytes.inc(sizes[1])
        series.requests.inc(1)
        self._all.observe(seconds)
        if exemplar is None:
            series.timer.observe(seconds)
        else:
            # The values behind the metrics, not their methods: those would look for the current trace, which is known
            # here, and check labels that are always the same two.
            now = time.time()
            series.requests.set_exemplar(Exemplar(exemplar, 1.0, now))
            series.timer.observe(seconds, Exemplar(exemplar, seconds, now))

    def _find(self, method: str, status: int, handler: str) -> _Series:
        series = _Series(
            self._total.labels(method, str(status), handler),
            self._received.labels(handler),
            self._sent.labels(handler),
            self._duration.labels(method, handler),
        )
        # What has overflowed is asked for again: the registry counts each refusal.
        if (method, str(status), handler) in self._total._metrics:  # noqa: SLF001
            self._series[method, status, handler] = series
        return series


def _declared(known: Mapping[str, object], name: str, kind: type[Metric]) -> Metric:
    found = known.get(name)
    if not isinstance(found, kind):
        raise TypeError(f"{name} is not declared as a {kind.__name__}: make the Instrumentator first")
    return found


def known_method(method: str) -> str:
    """The method as a label: one of HTTP's, or `_OTHER`."""
    return method if method in METHODS else UNKNOWN_METHOD


def handler_of(scope: Scope, app: object, status: int) -> str:
    """The template of the route that has taken the request of `app`, read after routing; "none" where none has."""
    if "app_root_path" not in scope:
        # A route of an included router does not know the prefix; FastAPI notes who does.
        included = scope.get("fastapi", {}).get("effective_route_context")
        route = scope.get("route") if included is None else included.starlette_route or included
        path: str | None = getattr(route, "path", None)
        if path:
            return path
        if status == HTTPStatus.NOT_FOUND and "endpoint" not in scope:
            return NO_ROUTE
    return _look_up(scope, app) or NO_ROUTE


def _look_up(scope: Scope, app: object) -> str | None:
    """The library's answer, which matches again: where the scope has none, or that of a mounted application only.

    It takes a redirect's raw path for a template, so it is shown the routes of `app` and not its router.
    """
    routes = SimpleNamespace(routes=getattr(app, "routes", None))
    outer = {**scope, "app": routes, "root_path": scope.get("app_root_path", scope.get("root_path", ""))}
    outer.pop("fastapi", None)
    return routing.get_route_name(HTTPConnection(outer), should_include_root_path=False)
