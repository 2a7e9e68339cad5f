"""The Instrumentator on the bounded registry, and /metrics on the application's port with its access control.

The catalogue is in a separate module, so that the exporter process does not load a web framework.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from inspect import signature
from ipaddress import IPv4Network, IPv6Network
from typing import Any, NoReturn, TypeVar

from fastapi import FastAPI, Request
from prometheus_fastapi_instrumentator import Instrumentator as LibraryInstrumentator
from prometheus_fastapi_instrumentator import metrics
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from .addresses import contains, parse_address
from .functions import plain
from .logging import get_logger
from .metrics.catalogue import LATENCY_BUCKETS
from .metrics.http import HttpMetrics
from .metrics.registry import BoundedRegistry, registry
from .multiprocess import response
from .multiprocess.aggregate import exposition
from .options import EXCLUDED_URLS
from .requests import placement
from .requests.forwarding import proxy_sign
from .tracing import request_tracer

__all__ = ["BoundedRegistry", "Instrumentator", "observe", "registry"]

App = TypeVar("App", bound=Starlette)
log = get_logger("metrics")

_LIBRARY = signature(LibraryInstrumentator).parameters
_IN_PROGRESS = (
    "the library's gauge is outside the bounded registry and keeps the value of a killed worker: make one with"
    " Observability.gauge()"
)
_ROUNDING = "a histogram needs no rounding: round info.modified_duration in a function that you add"
_SWITCH = "only instrumented applications are counted: call Observability.instrument() where the variable is set"
# The library's other options: the reason why each cannot work with the request layer, and the alternative.
REFUSED = {
    "should_group_untemplated": "raw paths as label values are unbounded: log the path instead",
    "should_include_root_path": "handlers are the application's own routes: mount it, or relabel the scrape",
    "should_round_latency_decimals": _ROUNDING,
    "round_latency_decimals": _ROUNDING,
    "should_respect_env_var": _SWITCH,
    "env_var_name": _SWITCH,
    "should_instrument_requests_inprogress": _IN_PROGRESS,
    "inprogress_name": _IN_PROGRESS,
    "inprogress_labels": _IN_PROGRESS,
    "should_exclude_streaming_duration": (
        "http_request_duration_seconds ends with the response's last byte: add a function that observes"
        " info.modified_duration_without_streaming in a Histogram of its own"
    ),
    "body_handlers": "no answer's body is held back: wrap the application in a middleware that reads it",
    "registry": "all metrics are in Observability.registry",
}


@cache
def _declare_http_metrics() -> None:
    """Declare the Instrumentator's default metrics once; applications in one process share them."""
    declared = metrics.default(
        latency_highr_buckets=LATENCY_BUCKETS, latency_lowr_buckets=LATENCY_BUCKETS, registry=registry()
    )
    if declared is None:
        raise RuntimeError("the http_* metrics are declared elsewhere in this registry")


class Instrumentator(LibraryInstrumentator):
    """The library's Instrumentator on the bounded registry, exposing the aggregate of all workers.

    Pass it to `observe`. Functions added with `add`, before or after, are called with the library's `metrics.Info` for
    each counted request. Raise TypeError or ValueError if an option would have no effect.
    """

    def __init__(
        self,
        *,
        should_group_status_codes: bool = False,
        should_ignore_untemplated: bool = False,
        excluded_handlers: Sequence[str] = ("^/metrics$",),
        **refused: object,
    ) -> None:
        for name, value in refused.items():
            if name not in _LIBRARY:
                raise TypeError(f"{name}={value!r}: the Instrumentator has no such option")
            if value != _LIBRARY[name].default:
                raise ValueError(f"{name}={value!r} has no effect here: {REFUSED.get(name, 'it is not supported')}")
        if isinstance(excluded_handlers, str):
            raise TypeError(f"excluded_handlers={excluded_handlers!r}: want a sequence of regular expressions")
        super().__init__(
            should_group_status_codes=should_group_status_codes,
            should_ignore_untemplated=should_ignore_untemplated,
            excluded_handlers=list(excluded_handlers),
            registry=registry(),
        )
        _declare_http_metrics()

    def add(self, *functions: Callable[[metrics.Info], Any] | None) -> "Instrumentator":
        """Call each function for each counted request. Raise TypeError if one is a coroutine function."""
        super().add(*plain(functions))
        return self

    def instrument(self, *_: Any, **__: Any) -> NoReturn:
        """Raise TypeError if called: the library's middleware would count each request a second time."""
        raise TypeError("instrument() would count each request twice: call Observability.instrument(app)")

    def expose(self, *_: Any, **__: Any) -> NoReturn:
        """Raise TypeError if called: the library's endpoint has no access control."""
        raise TypeError("expose() has no access control and covers one worker only: call Observability.instrument(app)")

    def expose_to(self, app: Starlette, networks: Sequence[IPv4Network | IPv6Network]) -> None:
        """Serve /metrics on the application's port to socket peers in `networks`; other peers get 403.

        So does a request that a proxy has forwarded, because its peer is the proxy. What it says of itself can only
        deny access, never grant it.

        The response is the metrics port's. The library's `expose` aggregates with its own collector and has no access
        control.
        """

        async def metrics_endpoint(request: Request) -> Response:
            sign = proxy_sign(request.scope)
            if sign is not None or not allows(networks, request.scope.get("peer") or request.scope.get("client")):
                _log_refusal(sign)
                return Response("metrics are not served to this address\n", 403, media_type="text/plain")
            if request.method == "OPTIONS":
                return Response(headers={"Allow": response.ALLOW})
            accept, accept_encoding = map(request.headers.getlist, ("accept", "accept-encoding"))
            found = await run_in_threadpool(_respond, accept, accept_encoding, request.scope["query_string"])
            return Response(found.body, headers=found.headers)

        if isinstance(app, FastAPI):
            app.add_api_route("/metrics", metrics_endpoint, methods=[*response.METHODS], include_in_schema=False)
        else:
            app.add_route("/metrics", metrics_endpoint, methods=[*response.METHODS])


def _respond(accept: Sequence[str], accept_encoding: Sequence[str], query: bytes) -> response.Response:
    def expose(accept: str, *, pack: bool, names: frozenset[str] | None) -> tuple[bytes, str]:
        return exposition(accept, registry(), registry().max_series, pack=pack, names=names)

    return response.respond(expose, accept, accept_encoding, query)


def recorder(instrumentator: Instrumentator) -> HttpMetrics:
    """Return what records requests by the options of `instrumentator`, to which functions may be added later."""
    return HttpMetrics(
        registry(),
        excluded=instrumentator.excluded_handlers,
        ignore_untemplated=instrumentator.should_ignore_untemplated,
        group_status_codes=instrumentator.should_group_status_codes,
        instrumentations=instrumentator.instrumentations,
    )


def observe(
    app: App, *, metrics: Instrumentator | None = None, traces: bool = False, excluded_urls: str = EXCLUDED_URLS
) -> App:
    """Put the observing layer around `app`, and return `app`.

    Call it before the application handles anything, in a factory or beside a module-level application. Middleware,
    handlers and instrumentation may be added before or after. With `metrics`, requests are counted as that
    Instrumentator says. With `traces`, each has a span of the provider that `tracing.configure` has made in the worker,
    except for URLs that match `excluded_urls`. Raise RuntimeError if `app` has started, or is observed.
    """
    return placement.observe(
        app,
        metrics=None if metrics is None else recorder(metrics),
        tracer=partial(request_tracer, excluded_urls) if traces else None,
    )


def allows(networks: Sequence[IPv4Network | IPv6Network], peer: Sequence[Any] | None) -> bool:
    """Return True if the socket's peer, `(host, port)`, is in `networks`."""
    address = parse_address(peer[0]) if peer else None  # a Unix socket has none
    return address is not None and contains(networks, address)


@cache
def _log_refusal(sign: str | None) -> None:
    """Log once for each sign why /metrics is refused: a scraper that gets 403 is told no more than that."""
    reason = "the peer is in no network of ALLOWED_METRICS_IPS" if sign is None else "a proxy has forwarded the request"
    log.warning("metrics_refused", reason=reason, sign=sign, hint="scrape METRICS_PORT, which proxies do not reach")
