"""The library's own middleware and ours around the same application."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_fastapi_instrumentator import Instrumentator, metrics
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from app.monitoring.metrics.catalogue import LATENCY_BUCKETS
from tests.middleware.applications import Records, fastapi_house, starlette_house

DURATIONS = ("http_request_duration_seconds", "http_request_duration_highr_seconds")
Key = tuple[Any, ...]


def _starlette_without_redirects() -> Any:
    app = starlette_house()
    app.router.redirect_slashes = False
    return app


class Copying:
    """A middleware that passes on a copy of the scope, so that the router's additions are lost."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(dict(scope), receive, send)


class Refusing:
    """A middleware that responds itself."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = scope["type"] == "http" and scope["method"] == "POST"
        await (PlainTextResponse("too large", 413) if refused else self.app)(scope, receive, send)


def _behind(*layers: tuple[Any, dict[str, Any]]) -> Any:
    app = fastapi_house()
    for layer, options in layers:
        app.add_middleware(layer, **options)
    return app


HOUSES: dict[str, Callable[[], Any]] = {
    "fastapi": fastapi_house,
    "starlette": starlette_house,
    "fastapi without redirects": lambda: fastapi_house(redirect_slashes=False),
    "starlette without redirects": _starlette_without_redirects,
    "fastapi behind others": lambda: _behind((Refusing, {}), (CORSMiddleware, {"allow_origins": ["*"]})),
    "fastapi behind a copy": lambda: _behind((Copying, {})),
}


@dataclass
class Call:
    """One request."""

    path: str
    method: str = "GET"
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes = b""


def exposed(registry: CollectorRegistry) -> dict[str, tuple[str, str, dict[Key, float | None]]]:
    """Return type, help and samples of each metric. Of durations only the series and their counts."""
    found: dict[str, tuple[str, str, dict[Key, float | None]]] = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        samples: dict[Key, float | None] = {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for sample in family.samples
            if not sample.name.endswith("_created")
        }
        if family.name in DURATIONS:
            samples = {key: value if str(key[0]).endswith("_count") else None for key, value in samples.items()}
        if not family.name.endswith("_created"):
            found[family.name] = (family.type, family.documentation, samples)
    return found


async def drive(app: Any, calls: list[Call]) -> None:
    """Send the calls one after the other, suppressing the application's exceptions."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        for call in calls:
            await client.request(call.method, call.path, headers=call.headers, content=call.content)


def applications(house: str) -> tuple[Any, CollectorRegistry, Any, CollectorRegistry]:
    """Return the same application with the library's middleware and with ours, each with its registry."""
    theirs = CollectorRegistry()
    instrumented = HOUSES[house]()
    library = Instrumentator(should_group_status_codes=False, excluded_handlers=["^/metrics$"], registry=theirs)
    set_of_metrics = metrics.default(
        latency_highr_buckets=LATENCY_BUCKETS, latency_lowr_buckets=LATENCY_BUCKETS, registry=theirs
    )
    assert set_of_metrics is not None
    library.add(set_of_metrics).instrument(instrumented)
    ours = Records()
    return instrumented, theirs, ours.observe(HOUSES[house]()), ours.registry


async def both(house: str, calls: list[Call]) -> tuple[CollectorRegistry, CollectorRegistry]:
    """Return the registries of the library's middleware and of ours after the same calls."""
    instrumented, theirs, observed, ours = applications(house)
    await drive(instrumented, calls)
    await drive(observed, calls)
    return theirs, ours
