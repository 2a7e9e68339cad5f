"""What `Observability.instrument` does to an application."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from fastapi import FastAPI
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from . import doctor, tracing
from .metrics import event_loop, process
from .metrics.catalogue import catalogue
from .metrics.registry import prepare
from .options import Options, SpanOptions
from .prometheus import Instrumentator
from .requests.placement import observe, traced_elsewhere
from .server import standalone

CANCEL_INTERVAL = 0.1
# Share of graceful_timeout, and seconds, that the spans still to be sent have at the end. The worker drains requests
# for 0.7 of it (server/worker.py); the application's own shutdown has the rest.
SPAN_SHARE, MAX_SPAN_SECONDS = 0.12, 3.0


def instrument(app: FastAPI, options: Options, spans: SpanOptions) -> FastAPI:
    """Add the request layer, proxy headers, /metrics and the tasks of a worker to `app`."""
    prepare(options.namespace, options.max_series)
    instrumentator = Instrumentator()
    instrumented = _instrument_spans(app, options, spans)
    # Made at the first request: an application that is made before the fork gets the tracer of its worker.
    tracer = partial(
        tracing.request_tracer,
        options.excluded_urls,
        "instrumentation" if instrumented else "layer",
        options.instrument_libraries,
    )
    observe(
        app,
        metrics=instrumentator.recorder(),
        tracer=tracer if options.traced else None,
        instrumented=instrumented,
    )
    app.state.instrumentator = instrumentator
    # FastAPI's own telemetry would make a second span, with the query in it.
    app._telemetry.update({"tracing": False, "metrics": False, "logs": False})  # noqa: SLF001 -- else the constructor's
    instrumentator.expose_to(app, options.allowed_metrics_ips)
    # Before every route of the application: one that matches all paths would hide it.
    app.router.routes.insert(0, app.router.routes.pop())
    app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=options.forwarded_allow_ips)
    inner = app.router.lifespan_context

    @contextlib.asynccontextmanager
    async def lifespan(started: FastAPI) -> AsyncIterator[Any]:
        async with _tasks(options.graceful_timeout), inner(started) as state:
            yield state

    app.router.lifespan_context = lifespan
    if standalone.is_worker():  # gunicorn's worker has it examined as soon as it is loaded
        doctor.examine_at_start(app)
    return app


def _instrument_spans(app: FastAPI, options: Options, spans: SpanOptions) -> bool:
    """Have opentelemetry-instrumentation-fastapi make the spans of requests if it is to; return whether it does."""
    if spans and options.tracing != "instrumentation":
        raise TypeError(f"{', '.join(spans)}: want tracing='instrumentation', not {options.tracing!r}")
    if options.tracing != "instrumentation" or not options.traced or traced_elsewhere(app) is not None:
        return False
    # An extra of the package.
    from .traces.instrumented import ProxiedClient, instrument_fastapi  # noqa: PLC0415

    instrument_fastapi(app, excluded_urls=options.excluded_urls, **spans)
    app.add_middleware(ProxiedClient)
    return True


@contextlib.asynccontextmanager
async def _tasks(graceful_timeout: float) -> AsyncIterator[None]:
    """Take the figures of this worker meanwhile; at the end send the spans that wait."""
    metrics = catalogue()
    tasks = [
        asyncio.create_task(event_loop.watch(metrics.event_loop_lag, metrics.worker_lag.labels(process.worker_slot()))),
        asyncio.create_task(process.watch(metrics)),
    ]
    try:
        yield
    finally:
        await end_tasks(tasks)
        await asyncio.to_thread(tracing.shutdown, min(MAX_SPAN_SECONDS, SPAN_SHARE * graceful_timeout))


async def end_tasks(tasks: "list[asyncio.Task[None]]") -> None:
    """Cancel `tasks` until they have ended: a library can take a cancellation for a time-out, and the task goes on."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_INTERVAL)
