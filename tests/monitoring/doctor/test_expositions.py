"""Endpoints that expose metrics themselves, through helpers and as objects."""

import functools
from collections.abc import Callable
from typing import Any

import prometheus_client
import pytest
from fastapi import FastAPI
from prometheus_client import generate_latest as latest
from prometheus_client import make_asgi_app
from starlette.endpoints import HTTPEndpoint
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.monitoring.doctor.expositions import exposes

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


def test_helpers_are_followed_for_two_calls() -> None:
    assert exposes(second)
    assert not exposes(third)
