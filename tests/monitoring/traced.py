"""The two makers of request spans behind one interface, and all that differs between them.

| difference | layer | instrumentation |
|---|---|---|
| server.port of a Host header without a port | absent | of the server's socket |
| client.port | absent | of the client |
| http.request.method_original | at most 64 characters | whole where the instrumentation itself sets it |
| trace flag `random` of a caller | passed on | not passed on |
| error.type of a sampled request that raises | the exception | the status |
| error.type, attributes and times of one kept for its end | the same: the layer makes the span | |
"""

from typing import Any, Literal

import pytest
from fastapi import FastAPI
from opentelemetry.instrumentation._semconv import (
    _OpenTelemetrySemanticConventionStability as Stability,
)
from opentelemetry.instrumentation._semconv import (
    _OpenTelemetryStabilitySignalType,
    _StabilityMode,
)
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.util.http import parse_excluded_urls
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send
from structlog.testing import capture_logs

from app.monitoring.requests.layer import ObservingMiddleware
from app.monitoring.requests.placement import observe
from app.monitoring.traces.instrumented import InstrumentedTracer, instrument_fastapi
from app.monitoring.traces.request_span import RequestTracer
from tests.middleware.applications import TELEMETRY, Records
from tests.middleware.wire import Wire

Name = Literal["layer", "instrumentation"]
MAKERS: tuple[Name, ...] = ("layer", "instrumentation")
ATTRIBUTES: dict[Name, dict[str, Any]] = {
    "layer": {},
    "instrumentation": {"server.port": 8000, "client.port": 40_000},
}


class Endpoint:
    """An ASGI application that a Route takes as it is."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


class Maker:
    """One maker of request spans."""

    def __init__(self, name: Name) -> None:
        self.name: Name = name
        self.attributes = ATTRIBUTES[name]

    @staticmethod
    def use_new_names(monkeypatch: pytest.MonkeyPatch) -> None:
        """Set OTEL_SEMCONV_STABILITY_OPT_IN=http, which is read once in a process."""
        Stability._initialize()  # type: ignore[no-untyped-call]
        mapping = Stability._OTEL_SEMCONV_STABILITY_SIGNAL_MAPPING
        monkeypatch.setitem(mapping, _OpenTelemetryStabilitySignalType.HTTP, _StabilityMode.HTTP)

    async def observe(
        self,
        records: Records,
        handler: Any,
        *headers: tuple[bytes, bytes],
        provider: TracerProvider | None = None,
        late: bool = True,
        **scope: Any,
    ) -> list[dict[str, Any]]:
        """Run one request of /trips/7 through `handler`; return the lines that are logged."""
        provider = provider or records.provider
        kind = RequestTracer if self.name == "layer" else InstrumentedTracer
        tracer = kind(provider, parse_excluded_urls(records.excluded_urls), records.slow, late=late)
        layer = {**records.layer(), "tracer": tracer}
        wire = Wire("/trips/7", headers=headers, **scope)
        with capture_logs() as lines:
            try:
                if self.name == "layer":
                    await wire.run(ObservingMiddleware(handler, **layer))
                else:
                    await self._run_instrumented(wire, Endpoint(handler), layer, provider, records.excluded_urls)
            except LookupError as error:
                assert error is handler.error  # noqa: PT017 -- half an answer was out
        return [dict(line) for line in lines]

    @staticmethod
    async def _run_instrumented(
        wire: Wire, handler: ASGIApp, layer: dict[str, Any], provider: TracerProvider, excluded: str
    ) -> None:
        routes: list[BaseRoute] = [Route("/trips/{trip}", handler)]
        app = FastAPI(telemetry=TELEMETRY, routes=routes)
        instrument_fastapi(app, provider=provider, excluded_urls=excluded)
        observe(app, **layer, instrumented=True)
        try:
            await wire.run(app)
        finally:
            FastAPIInstrumentor.uninstrument_app(app)
