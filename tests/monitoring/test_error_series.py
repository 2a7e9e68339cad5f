"""Series of errors are there before the first error, under the labels that the error will have."""

from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, WebSocket
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from structlog.testing import capture_logs

from app.monitoring.metrics import error_series
from app.monitoring.metrics.http import NO_ROUTE, HttpMetrics
from app.monitoring.requests.placement import observe
from tests.middleware.applications import Records


async def broken(_: Request) -> Response:
    raise RuntimeError("broken on purpose")


def application() -> FastAPI:
    """Return an application whose every handler raises, with each form of route."""
    app = FastAPI(openapi_url=None)
    inner, outer = APIRouter(prefix="/inner"), APIRouter(prefix="/outer")
    inner.add_api_route("/{item}", broken, methods=["GET", "DELETE"])
    outer.include_router(inner)
    outer.add_route("/plain", broken, methods=["POST"])
    app.include_router(outer, prefix="/v1")
    app.add_api_route("/items/{item}", broken, methods=["PUT"])
    shop = Starlette(routes=[Route("/goods/{good}", broken), Mount("/deep", routes=[Route("/{path:path}", broken)])])
    app.mount("/shop", shop)
    sub = FastAPI(openapi_url=None)
    sub.add_api_route("/beaches", broken, methods=["PATCH"])
    app.mount("/sub", sub)

    @app.websocket("/socket")
    async def socket(_: WebSocket) -> None: ...

    return app


REQUESTS = [
    ("GET", "/v1/outer/inner/7"),
    ("DELETE", "/v1/outer/inner/7"),
    ("POST", "/v1/plain"),
    ("PUT", "/items/7"),
    ("GET", "/shop/goods/hat"),
    ("HEAD", "/shop/goods/hat"),
    ("GET", "/shop/deep/a/b"),
    ("HEAD", "/shop/deep/a/b"),
    ("PATCH", "/sub/beaches"),
]


def exposed(max_series: int = 10_000, **options: Any) -> tuple[FastAPI, Records]:
    """Return an observed application whose series of errors are exposed, and its metrics."""
    app, records = application(), Records(**options)
    metrics = records.layer()["metrics"]
    observe(app, metrics=metrics)
    error_series.expose(metrics, app.routes, max_series)
    return app, records


async def test_the_first_error_of_each_route_and_method_finds_its_series_at_zero() -> None:
    app, records = exposed()
    before = records.requests()
    assert set(before.values()) == {0}
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        with capture_logs():  # tracebacks
            statuses = {(await client.request(*request)).status_code for request in REQUESTS}
    assert statuses == {500}
    after = records.requests()
    assert after.keys() == before.keys()
    assert sum(after.values()) == len(REQUESTS)
    failed = {key for key, count in after.items() if count}
    routed = {key for key in after if key[1] == "500" and key[2] != NO_ROUTE}
    assert failed == routed, "and no other route has a series"


def test_a_request_that_is_shed_before_routing_finds_its_series_too() -> None:
    _, records = exposed()
    methods = {method for method, _ in REQUESTS}
    unrouted = {(method, status) for method, status, handler in records.requests() if handler == NO_ROUTE}
    assert unrouted == {(method, status) for method in methods for status in ("500", "503")}


def test_handlers_that_are_not_counted_have_no_series() -> None:
    _, records = exposed(excluded=("^/v1",))
    handlers = {handler for _, _, handler in records.requests()}
    assert handlers == {"/items/{item}", "/shop/goods/{good}", "/shop/deep/{path:path}", "/sub/beaches", NO_ROUTE}


def test_grouped_statuses_have_one_series() -> None:
    app, records = application(), Records()
    error_series.expose(HttpMetrics(records.registry, group_status_codes=True), app.routes, 10_000)
    assert {status for _, status, _ in records.requests()} == {"5xx"}


@pytest.mark.parametrize(("max_series", "made"), [(120, 30), (119, 0)])
def test_they_take_at_most_a_quarter_of_the_series_there_may_be(max_series: int, made: int) -> None:
    with capture_logs() as lines:
        _, records = exposed(max_series)
    assert len(records.requests()) == made
    left_out = [] if made else [{"event": "error_series_left_out", "series": 30, "max_series": 119}]
    assert [{name: line[name] for name in line if name != "log_level"} for line in lines] == left_out
