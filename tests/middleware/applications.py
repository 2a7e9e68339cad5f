"""Applications with every kind of route, and an observing layer whose metrics and spans a test can read."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from fastapi import APIRouter, BackgroundTasks, FastAPI, HTTPException, Request, Response
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.util.http import parse_excluded_urls
from prometheus_client import CollectorRegistry
from prometheus_fastapi_instrumentator import metrics as library
from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Host, Mount, Route, Router
from starlette.staticfiles import StaticFiles

from app.monitoring.metrics.catalogue import LATENCY_BUCKETS
from app.monitoring.metrics.http import HttpMetrics
from app.monitoring.requests.placement import observe
from app.monitoring.traces.instrumented import InstrumentedTracer, instrument_fastapi
from app.monitoring.traces.request_span import RequestTracer
from app.monitoring.traces.sampling import RequestIds, RequestSampler

TELEMETRY: Any = {"tracing": False, "metrics": False, "logs": False}
HERE = Path(__file__).parent


@dataclass
class Records:
    """Metrics and spans of a layer, in a separate registry and an in-memory exporter.

    `maker` selects what creates the spans of FastAPI applications: the layer or opentelemetry-instrumentation-fastapi.
    """

    maker: ClassVar[Literal["layer", "instrumentation"]] = "layer"

    ratio: float = 1.0
    slow: float = 2.0
    excluded_urls: str = ""
    excluded: tuple[str, ...] = ("^/metrics$",)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    exporter: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)

    def __post_init__(self) -> None:
        library.default(
            latency_highr_buckets=LATENCY_BUCKETS, latency_lowr_buckets=LATENCY_BUCKETS, registry=self.registry
        )
        self.provider = TracerProvider(
            sampler=RequestSampler(self.ratio), id_generator=RequestIds(), shutdown_on_exit=False
        )
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    def layer(self) -> dict[str, Any]:
        """Return the keyword arguments of ObservingMiddleware."""
        tracer = RequestTracer(self.provider, parse_excluded_urls(self.excluded_urls), self.slow)
        return {"metrics": HttpMetrics(self.registry, excluded=self.excluded), "tracer": tracer}

    def observe(self, app: Any) -> Any:
        """Return `app` with the layer as its outermost middleware."""
        if self.maker == "layer" or not isinstance(app, FastAPI):
            return observe(app, **self.layer())
        instrument_fastapi(app, provider=self.provider, excluded_urls=self.excluded_urls)
        tracer = InstrumentedTracer(self.provider, parse_excluded_urls(self.excluded_urls), self.slow)
        return observe(app, **{**self.layer(), "tracer": tracer}, instrumented=True)

    def requests(self) -> dict[tuple[str, str, str], float]:
        """Return the number of requests by method, status and handler."""
        return {
            (sample.labels["method"], sample.labels["status"], sample.labels["handler"]): sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == "http_requests_total"
        }

    def spans(self) -> tuple[ReadableSpan, ...]:
        """Return the finished spans."""
        return self.exporter.get_finished_spans()


async def named(request: StarletteRequest) -> Response:
    """Respond with the method and path of the request."""
    return PlainTextResponse(f"{request.method} {request.url.path}")


async def missing(_request: StarletteRequest) -> Response:
    return PlainTextResponse("nothing here", 404)


async def in_two_parts() -> AsyncIterator[bytes]:
    yield b"one"
    yield b"two"


async def that_breaks() -> AsyncIterator[bytes]:
    yield b"half"
    raise LookupError("in the middle")


def _resource() -> APIRouter:
    router = APIRouter(prefix="/beaches")

    @router.get("/{name}")
    async def beach(name: str) -> dict[str, str]:
        return {"name": name}

    @router.post("/{name}", status_code=201)
    async def add(name: str, body: dict[str, Any]) -> dict[str, Any]:
        return {"name": name, **body}

    router.add_route("/{name}/plain", named)
    return router


def _failures(app: FastAPI) -> None:
    @app.get("/refused/{code}")
    async def refused(code: int) -> None:
        raise HTTPException(code)

    @app.get("/boom")
    async def boom() -> None:
        raise LookupError("before the start")

    @app.get("/half")
    async def half() -> StreamingResponse:
        return StreamingResponse(that_breaks())


def _plain_routes(app: FastAPI) -> None:
    @app.get("/items/{item}")
    async def item(item: int) -> dict[str, int]:
        return {"item": item}

    @app.get("/slashed/")
    async def slashed() -> str:
        return "slashed"

    @app.get("/files/{path:path}")
    async def files(path: str) -> str:
        return path

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(in_two_parts())

    @app.get("/task")
    async def task(tasks: BackgroundTasks) -> str:
        tasks.add_task(lambda: None)
        return "later"

    @app.post("/echo")
    async def echo(request: Request) -> Response:
        return Response(await request.body())

    @app.get("/metrics")
    async def exposed() -> str:
        return ""


def fastapi_house(*, redirect_slashes: bool = True) -> FastAPI:
    """Return a FastAPI application with nested routers and mounted applications of each kind."""
    app = FastAPI(telemetry=TELEMETRY, redirect_slashes=redirect_slashes)
    _plain_routes(app)
    _failures(app)
    app.add_route("/old/{way}", named)
    app.add_route("/old/{way}/gone", missing)
    outer = APIRouter(prefix="/islands/{island}")
    outer.include_router(_resource())
    outer.mount("/shop", Starlette(routes=[Route("/goods/{good}", named)]))
    app.include_router(outer, prefix="/v2")
    app.include_router(_resource(), prefix="/v1")
    app.mount("/starlette", Starlette(routes=[Route("/rooms/{room}", named), Route("/gone", missing)]))
    inner = FastAPI()
    inner.include_router(_resource(), prefix="/near")
    app.mount("/tenants/{tenant}", inner)
    app.mount("/static", StaticFiles(directory=HERE))
    return app


def starlette_house() -> Starlette:
    """Return a Starlette application with nested mounts and a host route."""

    async def boom(_request: StarletteRequest) -> Response:
        raise LookupError("before the start")

    async def any_method(request: StarletteRequest) -> Response:
        return JSONResponse(request.method)

    async def half(_request: StarletteRequest) -> Response:
        return StreamingResponse(that_breaks())

    return Starlette(
        routes=[
            Route("/items/{item:int}", named),
            Route("/slashed/", named),
            Route("/boom", boom),
            Route("/half", half),
            Route("/any", any_method, methods=["GET", "POST", "BREW", "PURGE"]),
            Mount("/a", routes=[Mount("/{b}", routes=[Route("/c/{d}", named)])]),
            Mount("/static", StaticFiles(directory=HERE)),
            Host("shop.example", Router([Route("/goods/{good}", named)])),
        ]
    )
