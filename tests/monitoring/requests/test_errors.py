"""An exception of a route: observed by the layer, with Starlette's response."""

import contextlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException
from fastapi.responses import JSONResponse
from opentelemetry.trace import StatusCode
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from structlog.testing import capture_logs

from app.monitoring.requests.placement import observe
from tests.middleware.applications import TELEMETRY, Records, that_breaks
from tests.monitoring.conftest import Configure
from tests.monitoring.requests.served import served

pytestmark = pytest.mark.usefixtures("maker")
# The instrumentation's span has ended with the answer, when Starlette raises the exception.
ERROR_TYPE = {"layer": ("LookupError",), "instrumentation": ("500", "503")}


async def boom() -> None:
    raise LookupError("no such beach")


def with_boom(**options: Any) -> FastAPI:
    app = FastAPI(telemetry=TELEMETRY, **options)
    app.add_api_route("/boom", boom)
    return app


def assert_observed(records: Records, lines: list[Any], status: int = 500, maker: str = "") -> None:
    """Assert one count, one span with the exception, one line with the traceback and one for the request."""
    assert records.requests() == {("GET", str(status), "/boom"): 1}
    (span,) = records.spans()
    assert span.status.status_code is StatusCode.ERROR
    assert [event.name for event in span.events] == ["exception"]
    assert span.attributes is not None
    assert span.attributes["error.type"] in ERROR_TYPE[maker or records.maker]
    events = [(line["event"], line.get("status")) for line in lines if "event" in line]
    assert events == [("unhandled_error", None), ("request", status)]


@pytest.mark.parametrize("key", [Exception, 500])
@pytest.mark.parametrize("status", [500, 503])
async def test_the_applications_own_handler_answers(key: Any, status: int) -> None:
    records, app = Records(), with_boom()

    async def own(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"own": str(error), "id": request.scope["request_id"]}, status)

    records.observe(app)
    app.add_exception_handler(key, own)
    with capture_logs() as lines:
        async with served(app) as client:
            answer = await client.get("/boom")
    assert answer.status_code == status
    assert answer.json() == {"own": "no such beach", "id": answer.headers["x-request-id"]}
    assert_observed(records, lines, status)


async def test_a_handler_that_is_no_coroutine_answers_too() -> None:
    records, app = Records(), with_boom()
    app.add_exception_handler(Exception, lambda _request, _error: JSONResponse("own", 500))
    async with served(records.observe(app)) as client:
        assert (await client.get("/boom")).json() == "own"


async def test_a_handler_may_answer_as_if_nothing_had_failed() -> None:
    records, app = Records(), with_boom()
    app.add_exception_handler(Exception, lambda _request, _error: JSONResponse("own", 404))
    async with served(records.observe(app)) as client:
        assert (await client.get("/boom")).status_code == 404
    assert records.requests() == {("GET", "404", "/boom"): 1}


async def test_debug_shows_its_traceback() -> None:
    records, app = Records(), with_boom(debug=True)
    with capture_logs() as lines:
        async with served(records.observe(app)) as client:
            answer = await client.get("/boom", headers={"accept": "text/html"})
    assert "Starlette Debugger" in answer.text
    assert "no such beach" in answer.text
    assert_observed(records, lines)


@pytest.mark.parametrize("framework", ["fastapi", "starlette"])
async def test_without_a_handler_the_answer_is_a_problem_with_the_request_id(framework: str) -> None:
    async def fails(_request: Request) -> None:
        await boom()

    app = with_boom() if framework == "fastapi" else Starlette(routes=[Route("/boom", fails)])
    records = Records()
    with capture_logs() as lines:
        async with served(records.observe(app)) as client:
            answer = await client.get("/boom")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert "beach" not in answer.text
    assert app.exception_handlers.get(Exception) is None, "the application's own table stays as it was"
    assert_observed(records, lines, maker="layer" if framework == "starlette" else "")


async def test_a_handler_that_fails_leaves_the_answer_to_us() -> None:
    records, app = Records(), with_boom()

    async def own(_request: Request, _error: Exception) -> JSONResponse:
        raise TypeError("the handler is broken")

    app.add_exception_handler(Exception, own)
    with capture_logs() as lines:
        async with served(records.observe(app)) as client:
            answer = await client.get("/boom")
    assert answer.headers["content-type"] == "application/problem+json"
    assert records.requests() == {("GET", "500", "/boom"): 1}
    assert [type(line["exc_info"]) for line in lines if line["event"] == "unhandled_error"] == [TypeError]


class Failing:
    """A middleware of the application that fails."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            raise LookupError("in a middleware")
        await self.app(scope, receive, send)


async def test_an_exception_in_a_middleware_is_like_one_in_a_route() -> None:
    records, app = Records(), with_boom()
    app.add_middleware(Failing)
    app.add_exception_handler(Exception, lambda _request, _error: JSONResponse("own", 500))
    with capture_logs() as lines:
        async with served(records.observe(app)) as client:
            assert (await client.get("/boom")).json() == "own"
    assert_observed(records, lines)


@pytest.mark.parametrize("status", [418, 503])
async def test_an_http_exception_is_an_answer_and_no_failure(status: int) -> None:
    records, app = Records(), FastAPI(telemetry=TELEMETRY)

    @app.get("/refused")
    async def refused() -> None:
        raise HTTPException(status, headers={"X-Kind": "teapot"})

    with capture_logs() as lines:
        async with served(records.observe(app)) as client:
            answer = await client.get("/refused")
    assert (answer.status_code, answer.headers["x-kind"]) == (status, "teapot")
    assert records.requests() == {("GET", str(status), "/refused"): 1}
    assert [line["event"] for line in lines] == ["request"]


async def test_a_dependency_sees_the_exception_and_one_that_fails_at_its_end_fails_the_request() -> None:
    records, app, seen = Records(), FastAPI(telemetry=TELEMETRY), []

    def watches() -> Iterator[None]:
        try:
            yield
        except LookupError as error:
            seen.append(error)
            raise

    def breaks() -> Iterator[None]:
        yield
        raise LookupError("on the way out")

    app.add_api_route("/boom", boom, dependencies=[Depends(watches)])
    app.add_api_route("/exit", lambda: "whole", dependencies=[Depends(breaks)])
    with capture_logs() as lines:
        async with served(records.observe(app)) as client:
            assert (await client.get("/boom")).status_code == 500
            exit_status = (await client.get("/exit")).status_code
    assert len(seen) == 1
    assert records.requests() == {("GET", "500", "/boom"): 1, ("GET", str(exit_status), "/exit"): 1}
    assert [line["event"] for line in lines].count("unhandled_error") == 2


async def test_a_background_task_that_fails_is_logged_behind_the_answer() -> None:
    records, app = Records(), FastAPI(telemetry=TELEMETRY)

    @app.get("/task")
    async def task(tasks: BackgroundTasks) -> str:
        tasks.add_task(boom)
        return "soon"

    with capture_logs() as lines:
        async with served(records.observe(app)) as client:
            assert (await client.get("/task")).json() == "soon"
    assert records.requests() == {("GET", "200", "/task"): 1}
    assert [line["event"] for line in lines] == ["request", "unhandled_error"]


async def test_half_an_answer_is_cut_off_whatever_handler_there_is() -> None:
    records, app = Records(), FastAPI(telemetry=TELEMETRY)
    app.add_api_route("/half", lambda: StreamingResponse(that_breaks()), response_model=None)
    app.add_exception_handler(Exception, lambda _request, _error: JSONResponse("own", 500))
    with capture_logs() as lines:
        async with served(records.observe(app)) as client:
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get("/half")
    assert records.requests() == {("GET", "500", "/half"): 1}
    assert [line["event"] for line in lines] == ["unhandled_error", "request"]


async def test_a_test_client_raises_the_exception_as_without_the_layer() -> None:
    transport = httpx.ASGITransport(Records().observe(with_boom()))
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        with pytest.raises(LookupError, match="no such beach"):
            await client.get("/boom")


@pytest.mark.parametrize("path", ["/boom", "/half"])
async def test_the_log_has_one_traceback_although_the_server_logs_too(configured: Configure, path: str) -> None:
    lines, app = configured(), with_boom()
    app.add_api_route("/half", lambda: StreamingResponse(that_breaks()), response_model=None)
    async with served(Records().observe(app)) as client:
        with contextlib.suppress(httpx.RemoteProtocolError):
            await client.get(path)
    assert [line["event"] for line in lines.all() if "exception" in line] == ["unhandled_error"]


async def test_the_servers_record_of_an_exception_outside_the_layer_is_written(configured: Configure) -> None:
    lines = configured()
    async with served(Failing(Records().observe(with_boom()))) as client:
        assert (await client.get("/boom")).status_code == 500
    assert [line["logger"] for line in lines.all() if "exception" in line] == ["uvicorn.error"]


async def test_an_application_is_observed_once_and_before_it_starts() -> None:
    app = with_boom()
    observe(app)
    with pytest.raises(RuntimeError, match="observed already"):
        observe(app)
    started = with_boom()
    async with served(started):
        with pytest.raises(RuntimeError, match="has started"):
            observe(started)
