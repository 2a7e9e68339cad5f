"""Implementation of `Observability.instrument`."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

from fastapi import FastAPI
from starlette.applications import Starlette

from . import tracing
from .doctor.examination import refuse_unused_settings, warn_unstarted
from .doctor.lifespan import examine_at_start
from .functions import Function
from .health import Readiness
from .logs.writer import DROP_REASONS
from .metrics import error_series, event_loop, process
from .metrics.catalogue import catalogue
from .metrics.http import HttpMetrics
from .metrics.registry import prepare, registry
from .options import Options, SpanOptions
from .prometheus import Instrumentator, recorder
from .requests.placement import observe, traced_elsewhere
from .requests.proxy_headers import ProxyHeadersMiddleware
from .server import standalone
from .stop_budget import StopBudget

App = TypeVar("App", bound=Starlette)


@dataclass(frozen=True)
class Counting:
    """The requests that the http_* metrics count, and how. `functions` are called for each of them."""

    functions: list[Function]
    excluded_handlers: Sequence[str]
    should_group_status_codes: bool
    should_ignore_untemplated: bool


def instrument(
    app: App,
    options: Options,
    counting: Counting,
    spans: SpanOptions,
    *,
    readiness: Readiness | None,
    under_gunicorn: bool,
) -> App:
    """Add the request layer, proxy headers, /metrics and a worker's background tasks to `app`."""
    if not isinstance(app, Starlette):
        raise TypeError(f"instrument({type(app).__qualname__}): want a FastAPI or Starlette application")
    if under_gunicorn:
        refuse_unused_settings()
    prepare(options.namespace, options.max_series)
    # The library's options that cannot work here, and unknown ones, are refused by the Instrumentator with a reason.
    others: dict[str, Any] = {name: value for name, value in spans.items() if name not in SpanOptions.__annotations__}
    instrumentator = Instrumentator(
        excluded_handlers=counting.excluded_handlers,
        should_group_status_codes=counting.should_group_status_codes,
        should_ignore_untemplated=counting.should_ignore_untemplated,
        **others,
    )
    instrumentator.instrumentations = counting.functions  # the same list: functions may be added later
    instrumented = _instrument_spans(app, options, spans)
    maker: Literal["instrumentation", "layer"] = "instrumentation" if instrumented else "layer"
    metrics = recorder(instrumentator)
    # Created at the first request: an application that is created before the fork gets the tracer of its worker.
    tracer = partial(
        tracing.request_tracer, options.excluded_urls, maker, options.instrument_libraries, options.trusted_upstreams
    )
    observe(
        app,
        metrics=metrics,
        tracer=tracer if options.traced else None,
        instrumented=instrumented,
        request_id_pattern=options.request_id_pattern,
    )
    # FastAPI's own telemetry would create a second span, which contains the query.
    if isinstance(app, FastAPI):
        app._telemetry.update({"tracing": False, "metrics": False, "logs": False})  # noqa: SLF001 -- else the constructor's
    instrumentator.expose_to(app, options.allowed_metrics_ips)
    # First in the list: a route of the application that matches all paths would shadow it.
    app.router.routes.insert(0, app.router.routes.pop())
    app.add_middleware(ProxyHeadersMiddleware, trusted=options.forwarded_allow_ips)
    _wrap_lifespan(app, options, metrics, readiness, under_gunicorn=under_gunicorn)
    if standalone.is_worker():  # gunicorn's worker has it examined as soon as it is loaded
        examine_at_start(app)
    return app


def _wrap_lifespan(
    app: Starlette, options: Options, metrics: HttpMetrics, readiness: Readiness | None, *, under_gunicorn: bool
) -> None:
    """Put the start, the tasks and the end of a worker around the lifespan of `app`."""
    inner = app.router.lifespan_context

    @contextlib.asynccontextmanager
    async def lifespan(started: Starlette) -> AsyncIterator[Any]:
        if not under_gunicorn and not standalone.is_worker():
            warn_unstarted()
        error_series.expose(metrics, app.routes, registry().max_series)
        # The checks need what the application opens at its start and closes at its end.
        async with _tasks(options), inner(started) as state, _kept(readiness):
            yield state

    app.router.lifespan_context = lifespan


def _instrument_spans(app: Starlette, options: Options, spans: SpanOptions) -> bool:
    """Instrument `app` with opentelemetry-instrumentation-fastapi if the options ask for it. Return whether it is."""
    if spans and options.tracing != "instrumentation":
        raise TypeError(f"{', '.join(spans)}: want tracing='instrumentation', not {options.tracing!r}")
    if options.tracing != "instrumentation" or not options.traced or traced_elsewhere(app) is not None:
        return False
    if not isinstance(app, FastAPI):
        raise TypeError("tracing='instrumentation': want a FastAPI application, or tracing='layer' for Starlette")
    # An extra of the package.
    from .traces.instrumented import ProxiedClient, instrument_fastapi  # noqa: PLC0415

    instrument_fastapi(app, excluded_urls=options.excluded_urls, **spans)
    app.add_middleware(ProxiedClient)
    return True


@contextlib.asynccontextmanager
async def _kept(readiness: Readiness | None) -> AsyncIterator[None]:
    """Keep the metrics of readiness meanwhile."""
    if readiness is None:
        yield
        return
    task = asyncio.create_task(readiness.keep(catalogue()))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


@contextlib.asynccontextmanager
async def _tasks(options: Options) -> AsyncIterator[None]:
    """Collect this worker's metrics meanwhile; at the end, send the queued spans."""
    metrics = catalogue()
    for reason in DROP_REASONS:  # from 0, so that the first line is an increase
        metrics.log_lines_dropped.labels(reason)
    tasks = [
        asyncio.create_task(event_loop.watch(metrics.event_loop_lag, metrics.worker_lag.labels(process.worker_slot()))),
        asyncio.create_task(process.watch(metrics)),
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        if options.traced:
            await asyncio.to_thread(tracing.shutdown, StopBudget(options.graceful_timeout).spans)
