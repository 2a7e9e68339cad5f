"""Endpoints that expose metrics themselves, through helpers and as objects."""

import functools
from collections.abc import Callable
from typing import Any

import prometheus_client
import pytest
from fastapi import FastAPI
from prometheus_client import generate_latest as latest
from prometheus_client import make_asgi_app
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.endpoints import HTTPEndpoint
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.monitoring.doctor.expositions import COLLECTOR, exposers, exposes

wrapped = make_asgi_app()
pages = prometheus_client.Counter("pages", "Pages.", registry=None)


def text() -> bytes:
    return prometheus_client.generate_latest()


def page() -> Response:
    return Response(text())


def second() -> Response:
    return page()


def third() -> Response:
    return second()


def renamed() -> Response:
    return Response(latest())


async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
    await wrapped(scope, receive, send)


def closure() -> ASGIApp:
    inner = make_asgi_app()

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        await inner(scope, receive, send)

    return serve


def decorated(function: Callable[[], Any]) -> Callable[[], Any]:
    @functools.wraps(function)
    def wrapper() -> Any:
        return function()

    return wrapper


class Mounted:
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await Response(self.text())(scope, receive, send)

    def text(self) -> bytes:
        return text()


class Wrapping:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


class Endpoint(HTTPEndpoint):
    async def get(self, _request: Request) -> Response:
        return page()


def generate_latest() -> str:
    return "the latest news"


def news() -> str:
    return generate_latest()


def counted() -> None:
    pages.inc()


def recursive() -> Any:
    return recursive()


class Lazy:
    """An object that fails at any access, as one that is not set up yet."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


lazy = Lazy()


def uses_lazy() -> Any:
    return lazy.text()


@pytest.mark.parametrize(
    "endpoint",
    [
        wrapped,
        page,
        second,
        renamed,
        functools.partial(page),
        decorated(page),
        proxy,
        closure(),
        Mounted(),
        Mounted().text,
        Wrapping(wrapped),
        GZipMiddleware(wrapped),
        Endpoint,
    ],
)
def test_an_endpoint_that_exposes_metrics_is_recognized(endpoint: Any) -> None:
    assert exposes(endpoint)


@pytest.mark.parametrize(
    "endpoint",
    [
        news,
        counted,
        recursive,
        uses_lazy,
        decorated(news),
        Wrapping(GZipMiddleware(FastAPI())),
        FastAPI(),
        HTTPEndpoint,
    ],
)
def test_an_endpoint_that_does_not_is_none(endpoint: Any) -> None:
    assert not exposes(endpoint)


def everything() -> prometheus_client.CollectorRegistry:
    """Return a registry as the library's documentation makes it."""
    own = prometheus_client.CollectorRegistry()
    MultiProcessCollector(own, "/")  # type: ignore[no-untyped-call]
    return own


def old_route() -> Response:
    return Response(prometheus_client.generate_latest(everything()))


def old_route_of_a_registry() -> Callable[[], Response]:
    own = everything()  # not in a global name, where the doctor of other tests would find it
    return lambda: Response(prometheus_client.generate_latest(own))


def holds_a_registry() -> Callable[[], Response]:
    own = everything()
    return lambda: Response(str(own))


@pytest.mark.parametrize(
    ("endpoint", "collects"),
    [
        (old_route, True),
        (old_route_of_a_registry(), True),
        (make_asgi_app(everything()), True),
        (page, False),
        (make_asgi_app(), False),
        (make_asgi_app(prometheus_client.CollectorRegistry()), False),
    ],
)
def test_an_exposition_with_a_multiprocess_collector_is_told_from_one_without(
    endpoint: Any,
    collects: bool,  # noqa: FBT001
) -> None:
    assert exposes(endpoint)
    assert (COLLECTOR in exposers(endpoint)) is collects


def test_a_registry_alone_is_no_exposition() -> None:
    assert not exposes(holds_a_registry())


def test_helpers_are_followed_for_two_calls() -> None:
    assert exposes(second)
    assert not exposes(third)
