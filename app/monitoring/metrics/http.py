"""The Instrumentator's http_* metrics, recorded at a lower cost per request than with its middleware.

The library's middleware matches every route a second time, builds a Request and a Response, and looks up five children
by their labels. Here the route is read from the scope after routing, and the children of a method, status and route
are cached.
"""

import re
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from http import HTTPMethod, HTTPStatus
from types import SimpleNamespace
from typing import Any, ClassVar, TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram, Summary
from prometheus_client.samples import Exemplar
from prometheus_fastapi_instrumentator import routing
from prometheus_fastapi_instrumentator.metrics import Info
from starlette.requests import HTTPConnection
from starlette.types import Scope

from ..multiprocess import values

Metric = TypeVar("Metric")
UNKNOWN_METHOD = "_OTHER"
NO_ROUTE = "none"
METHODS = frozenset(HTTPMethod)


class _Series:
    """The values of the library's metrics for one method, status and route."""

    def __init__(self, total: Any, received: Any, sent: Any, duration: Any, everything: Any) -> None:
        self.requests = total._value  # noqa: SLF001
        self._sizes = [received._sum, sent._sum, received._count, sent._count]  # noqa: SLF001
        self._sums = [duration._sum, everything._sum]  # noqa: SLF001
        self._bounds, self._buckets = duration._upper_bounds, duration._buckets  # noqa: SLF001
        self._all_bounds, self._all_buckets = everything._upper_bounds, everything._buckets  # noqa: SLF001

    def add(self, seconds: float, received: int, sent: int) -> None:
        """Count one request."""
        self.requests.inc(1)
        for value, amount in zip(self._sizes, (received, sent, 1, 1), strict=True):
            value.inc(amount)
        for value in self._sums:
            value.inc(seconds)
        self.bucket(seconds).inc(1)
        self._all_buckets[bisect_left(self._all_bounds, seconds)].inc(1)

    def bucket(self, seconds: float) -> Any:
        """Return the route's bucket for a duration. A binary search; the library's is linear."""
        return self._buckets[bisect_left(self._bounds, seconds)]


class _SharedSeries(_Series):
    """The same for values in shared files: nine additions under one lock, at a quarter of the cost of nine locks."""

    _process: object = None

    def add(self, seconds: float, received: int, sent: int) -> None:
        process = values.process()
        with process.lock:
            if self._process is not process:
                self._locate(process)
            if not self._one_file_per_kind:
                super().add(seconds, received, sent)
                return
            # Adds as SharedValue.inc does. `cells` is read each time: it is replaced when the file grows.
            self._counter.cells[self._total] += 1.0
            cells = self._summary.cells
            received_bytes, sent_bytes, received_count, sent_count = self._size_cells
            cells[received_count] += 1.0
            cells[sent_count] += 1.0
            if received:
                cells[received_bytes] += received
            if sent:
                cells[sent_bytes] += sent
            cells = self._histogram.cells
            duration, everything = self._sum_cells
            cells[duration] += seconds
            cells[self._bucket_cells[bisect_left(self._bounds, seconds)]] += 1.0
            cells[everything] += seconds
            cells[self._all_bucket_cells[bisect_left(self._all_bounds, seconds)]] += 1.0

    def _locate(self, process: object) -> None:
        """Look up the cells of the values: one file for each kind, unless a full directory has refused some series."""
        self._process = process
        self._counter, self._total = values.locate(self.requests)
        sizes = [values.locate(value) for value in self._sizes]
        times = [values.locate(value) for value in (*self._sums, *self._buckets, *self._all_buckets)]
        self._summary, self._histogram = sizes[0][0], times[0][0]
        self._one_file_per_kind = len({id(file) for file, _ in sizes}) == len({id(file) for file, _ in times}) == 1
        self._size_cells = [cell for _, cell in sizes]
        cells = [cell for _, cell in times]
        first = 2 + len(self._buckets)
        self._sum_cells, self._bucket_cells, self._all_bucket_cells = cells[:2], cells[2:first], cells[first:]


class _DiscardedValue:
    """The value of a request that is not counted."""

    def set_exemplar(self, _exemplar: Exemplar) -> None:
        """Ignore the exemplar."""

    def inc(self) -> None:
        """Do nothing."""


_NOTHING = _DiscardedValue()


class _Uncounted(_Series):
    """The series of requests that are not counted."""

    def __init__(self) -> None:
        self.requests = _DiscardedValue()

    def add(self, seconds: float, received: int, sent: int) -> None:
        """Do nothing."""

    def bucket(self, _seconds: float) -> Any:
        """Return a value that keeps no exemplar."""
        return self.requests


class HttpMetrics:
    """A recorder of requests in the metrics that the Instrumentator has declared in `registry`.

    A request is not counted if an expression in `excluded` is found in its handler, or if no route matched and
    `ignore_untemplated` is set. `group_status_codes` labels 204 as 2xx. The middleware calls each function in
    `instrumentations` for each counted request.
    """

    current: ClassVar["HttpMetrics | None"] = None
    """The recorder that was made last in this process."""

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        excluded: Iterable[str | re.Pattern[str]] = (),
        ignore_untemplated: bool = False,
        group_status_codes: bool = False,
        instrumentations: Sequence[Callable[[Info], None]] = (),
    ) -> None:
        HttpMetrics.current = self
        self.instrumentations = instrumentations
        self._excluded = [re.compile(pattern) for pattern in excluded]
        self._ignore_untemplated = ignore_untemplated
        self._group_status_codes = group_status_codes
        known = registry._names_to_collectors  # noqa: SLF001 -- no public accessor exists
        self._total = _declared(known, "http_requests_total", Counter)
        self._received = _declared(known, "http_request_size_bytes", Summary)
        self._sent = _declared(known, "http_response_size_bytes", Summary)
        self._all = _declared(known, "http_request_duration_highr_seconds", Histogram)
        self._duration = _declared(known, "http_request_duration_seconds", Histogram)
        self._series: dict[tuple[str, int, str], _Series] = {}
        self._unrouted: dict[tuple[str, int], Counter | _DiscardedValue] = {}

    def record(
        self,
        method: str,
        status: int,
        handler: str,
        seconds: float,
        received: int,
        sent: int,
        exemplar: dict[str, str] | None = None,
    ) -> None:
        """Count one request of a known method.

        `received` and `sent` are the Content-Length of request and response, 0 without one. `exemplar` is set on the
        request's counter and on the duration bucket of its route.
        """
        series = self._series.get((method, status, handler)) or self._find(method, status, handler)
        series.add(seconds, received, sent)
        if exemplar is not None:
            # Set on the values: the metrics' methods would look up the current trace, which is known here, and validate
            # labels that are always the same two.
            now = time.time()
            series.requests.set_exemplar(Exemplar(exemplar, 1.0, now))
            series.bucket(seconds).set_exemplar(Exemplar(exemplar, seconds, now))

    def record_unrouted(self, method: str, status: int) -> None:
        """Count a request that was answered before its route was known, in the total only.

        Thousands of rejections that take no time would hide slow responses in the durations.
        """
        counter = self._unrouted.get((method, status))
        if counter is None:
            counter = self._total.labels(method, self.label(status), NO_ROUTE) if self.counts(NO_ROUTE) else _NOTHING
            self._unrouted[method, status] = counter
        counter.inc()

    def expose(self, method: str, status: int, handler: str) -> None:
        """Expose the counter of such requests, at 0 if there were none."""
        self._total.labels(method, self.label(status), handler)

    def counts(self, handler: str) -> bool:
        """Return True if requests of `handler` are counted."""
        if handler == NO_ROUTE and self._ignore_untemplated:
            return False
        return not any(pattern.search(handler) for pattern in self._excluded)

    def label(self, status: int) -> str:
        """Return the `status` label of a response."""
        return f"{status // 100}xx" if self._group_status_codes else str(status)

    def _find(self, method: str, status: int, handler: str) -> _Series:
        if not self.counts(handler):
            return self._series.setdefault((method, status, handler), _Uncounted())
        label = self.label(status)
        total = self._total.labels(method, label, handler)
        kind = _SharedSeries if isinstance(total._value, values.SharedValue) else _Series  # noqa: SLF001
        series = kind(
            total,
            self._received.labels(handler),
            self._sent.labels(handler),
            self._duration.labels(method, handler),
            self._all,
        )
        # An overflowed series is not cached: the registry counts each refusal.
        if (method, label, handler) in self._total._metrics:  # noqa: SLF001
            self._series[method, status, handler] = series
        return series


def _declared(known: Mapping[str, object], name: str, kind: type[Metric]) -> Metric:
    found = known.get(name)
    if not isinstance(found, kind):
        raise TypeError(f"{name} is not declared as a {kind.__name__}: create the Instrumentator first")
    return found


def known_method(method: str) -> str:
    """Return the `method` label: an HTTP method, or `_OTHER`."""
    return method if method in METHODS else UNKNOWN_METHOD


def handler_of(scope: Scope, app: object, status: int) -> str:
    """Return the template of the route that matched a request of `app`, "none" if none did. Call it after routing."""
    if "app_root_path" not in scope:
        # A route of an included router lacks the prefix; FastAPI's context has the route with it.
        included = scope.get("fastapi", {}).get("effective_route_context")
        route = scope.get("route") if included is None else included.starlette_route or included
        path: str | None = getattr(route, "path", None)
        if path:
            return path
        if status == HTTPStatus.NOT_FOUND and "endpoint" not in scope:
            return NO_ROUTE
    return _match_again(scope, app) or NO_ROUTE


def _match_again(scope: Scope, app: object) -> str | None:
    """Return the library's route name, which matches again. For scopes with no route or only a mounted application's.

    The library takes a redirect's raw path for a template, so it gets the routes of `app` without its router.
    """
    routes = SimpleNamespace(routes=getattr(app, "routes", None))
    outer = {**scope, "app": routes, "root_path": scope.get("app_root_path", scope.get("root_path", ""))}
    outer.pop("fastapi", None)
    return routing.get_route_name(HTTPConnection(outer), should_include_root_path=False)
