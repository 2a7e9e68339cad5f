"""Series of errors at 0, so that the first error of a route is an increase: `rate` does not see a series appear."""

from collections.abc import Iterable, Iterator, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from prometheus_fastapi_instrumentator import routing
from starlette.routing import BaseRoute, Mount

from .http import NO_ROUTE, HttpMetrics, known_method

STATUSES = (HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.SERVICE_UNAVAILABLE)
# Of the label sets that http_requests_total may have, none of which a response must lack for these.
MAX_SHARE = 0.25
log: structlog.typing.FilteringBoundLogger = structlog.get_logger("metrics")


def expose(metrics: HttpMetrics, routes: Sequence[BaseRoute], max_series: int) -> None:
    """Expose the counters of STATUSES for each route and method, and for requests that were answered before routing.

    None is exposed if they would take over a quarter of `max_series`.
    """
    found = {pair for pair in _methods(routes) if metrics.counts(pair[1])}
    if metrics.counts(NO_ROUTE):
        found |= {(method, NO_ROUTE) for method, _ in found}
    if len(found) * len(STATUSES) > max_series * MAX_SHARE:
        log.info("error_series_left_out", series=len(found) * len(STATUSES), max_series=max_series)
        return
    for method, handler in sorted(found):
        for status in STATUSES:
            metrics.expose(method, status, handler)


def _methods(routes: Iterable[BaseRoute], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Return method and handler of each route, named as `http.handler_of` does.

    Websockets, and applications and endpoints that do not list their methods, have none.
    """
    effective: Iterable[Any] = routing._effective_routes(list(routes))  # noqa: SLF001 -- else a second copy of it here
    for route in effective:
        if isinstance(route, Mount):
            yield from _methods(route.routes, prefix + route.path)
        else:
            for method in getattr(route, "methods", None) or ():
                yield known_method(method), prefix + route.path
