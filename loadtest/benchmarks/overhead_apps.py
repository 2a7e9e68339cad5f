"""One small JSON route among many, bare, as the libraries' READMEs assemble it, and with this project's package.

Each is made in a process of its own: what the libraries install is installed for the whole process.
"""

import logging as stdlib_logging
import os
import time
import uuid
from typing import TYPE_CHECKING

import structlog
from fastapi import FastAPI, Request, Response
from opentelemetry import trace
from pydantic import BaseModel
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint

if TYPE_CHECKING:
    from app.monitoring import Observability

KIND, ROUTES, RATIO, ENDPOINT = "OVERHEAD_KIND", "OVERHEAD_ROUTES", "OVERHEAD_RATIO", "OVERHEAD_ENDPOINT"


class Place(BaseModel):
    """The response model of the measured route."""

    slug: str
    name: str
    rating: float
    language: str


def routes(app: FastAPI, count: int) -> FastAPI:
    """Add `count` routes; the measured one, /api/v1/places/{slug}, is the last of them."""

    async def other(item: str) -> dict[str, str]:
        return {"item": item}

    async def place(slug: str, language: str = "en") -> Place:
        return Place(slug=slug, name="Tanah Lot", rating=4.7, language=language)

    for number in range(count - 1):
        app.add_api_route(f"/api/v1/things-{number}/{{item}}", other)
    app.add_api_route("/api/v1/places/{slug}", place)
    return app


def bare(count: int) -> FastAPI:
    """Return FastAPI and nothing else."""
    return routes(FastAPI(), count)


def naive(count: int, ratio: float, endpoint: str) -> FastAPI:
    """Return an application with the three libraries as their READMEs show them."""
    # Here, because what is imported decides what the other assemblies pay.
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor  # noqa: PLC0415
    from prometheus_fastapi_instrumentator import Instrumentator  # noqa: PLC0415

    _export_spans(ratio, endpoint)
    _write_lines()
    app = FastAPI()
    app.add_middleware(LoggingMiddleware)
    routes(app, count)
    Instrumentator().instrument(app).expose(app)
    FastAPIInstrumentor.instrument_app(app)
    return app


def _export_spans(ratio: float, endpoint: str) -> None:
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio  # noqa: PLC0415

    provider = TracerProvider(
        resource=Resource.create({"service.name": "naive"}), sampler=ParentBasedTraceIdRatio(ratio)
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, insecure=True)))
    trace.set_tracer_provider(provider)


def _write_lines() -> None:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(stdlib_logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(),
    )


class LoggingMiddleware(BaseHTTPMiddleware):
    """One line a request."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Answer, and log what was answered."""
        structlog.contextvars.clear_contextvars()
        request_id = request.headers.get("x-request-id", str(uuid.uuid4()))
        structlog.contextvars.bind_contextvars(request_id=request_id)
        started = time.perf_counter()
        response = await call_next(request)
        context = trace.get_current_span().get_span_context()
        structlog.get_logger().info(
            "request",
            method=request.method,
            path=request.url.path,
            status=response.status_code,
            duration=time.perf_counter() - started,
            client=request.client.host if request.client else None,
            trace_id=format(context.trace_id, "032x"),
            span_id=format(context.span_id, "016x"),
        )
        response.headers["x-request-id"] = request_id
        return response


def observability(ratio: float, endpoint: str) -> "Observability":
    """Return the package with every signal on; addresses and the metrics directory come from the environment."""
    from app.monitoring import Observability  # noqa: PLC0415

    return Observability(
        "full",
        version="1",
        namespace="benchmark",
        environment="production",
        workers=1,
        traces_exporter="otlp",
        otlp_endpoint=endpoint,
        sample_ratio=ratio,
    )


def full(count: int, ratio: float, endpoint: str) -> FastAPI:
    """Return an application with the same signals, set up with the package as docs/adopting.md shows.

    Under gunicorn, where overhead_gunicorn.py has set up the worker, `start_worker` does nothing.
    """
    package = observability(ratio, endpoint).start_worker()
    return package.instrument(routes(FastAPI(), count))


def make(kind: str, count: int, ratio: float, endpoint: str) -> FastAPI:
    """Return the application named `kind`, which logs to standard output."""
    if kind == "bare":
        return bare(count)
    return {"naive": naive, "full": full}[kind](count, ratio, endpoint)


def served() -> FastAPI:
    """Return the application for gunicorn that OVERHEAD_KIND and the related variables select."""
    environment = os.environ
    return make(environment[KIND], int(environment[ROUTES]), float(environment[RATIO]), environment[ENDPOINT])
