"""Every way a request can end: what is counted, what is logged, what its span says and what the server gets to see."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from fastapi import BackgroundTasks, FastAPI, HTTPException
from opentelemetry.trace import StatusCode
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.testing import capture_logs

from app.monitoring.requests.layer import ObservingMiddleware
from tests.middleware.applications import HERE, TELEMETRY, Records, in_two_parts, that_breaks
from tests.middleware.wire import Wire

UVICORNS_LAST_WORD = "Task cancelled, timeout graceful shutdown exceeded"
Handler = Callable[[Request], Awaitable[Response]]


async def end(app: ASGIApp, wire: Wire | None = None) -> tuple[list[str], Any, BaseException | None]:
    """Return the logged events, the one status of all signals, and the exception that reaches the server."""
    records, raised = Records(), None
    wire = wire or Wire()
    with capture_logs() as lines:
        try:
            await wire.run(ObservingMiddleware(app, **records.layer()))
        except BaseException as error:  # noqa: BLE001 -- whatever it is
            raised = error
    (counted,) = records.requests().items()
    (span,) = records.spans()
    (line,) = [line for line in lines if line["event"] == "request"]
    assert counted == (("GET", str(line["status"]), line["route"]), 1)
    assert span.attributes is not None
    assert span.attributes["http.response.status_code"] == line["status"]
    assert (span.status.status_code is StatusCode.ERROR) is (line["status"] >= 500)
    assert wire.headers.count((b"x-request-id", wire.scope["request_id"].encode())) == 1 if wire.sent else True
    return [line["event"] for line in lines], line["status"], raised


def handled_by(handler: Handler) -> ASGIApp:
    """Return an application that consists of one handler."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await (await handler(Request(scope, receive, send)))(scope, receive, send)

    return app


def sends(*messages: Message) -> ASGIApp:
    """Return an application that sends these messages and returns."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        for message in messages:
            await send(dict(message))

    return app


def raises(error: BaseException, *messages: Message) -> ASGIApp:
    """Return an application that sends these messages and fails."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await sends(*messages)(scope, receive, send)
        raise error

    return app


START: Message = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]}
UNAVAILABLE: Message = {"type": "http.response.start", "status": 503, "headers": []}
PART: Message = {"type": "http.response.body", "body": b"one", "more_body": True}
LAST: Message = {"type": "http.response.body", "body": b"one"}
PATH: Message = {"type": "http.response.pathsend", "path": "/etc/hostname"}
HINT: Message = {"type": "http.response.early_hint", "links": []}
WITH_TRAILERS: Message = {**START, "trailers": True}
TRAILER: Message = {"type": "http.response.trailers", "headers": []}


@pytest.mark.parametrize(
    "app",
    [
        sends(START, LAST),
        sends(HINT, START, LAST),
        sends(START, PART, LAST),
        sends(START, PATH),
        sends(WITH_TRAILERS, LAST, TRAILER),
        sends(WITH_TRAILERS, LAST, {**TRAILER, "more_trailers": True}, TRAILER),
        sends(WITH_TRAILERS, LAST),  # they were promised and did not come; the body is whole
    ],
)
async def test_a_whole_answer_ends_with_its_status(app: ASGIApp) -> None:
    assert await end(app) == (["request"], 200, None)


@pytest.mark.parametrize(
    ("messages", "over"),
    [
        ((START, PART, PART, LAST), [False, False, False, True]),
        ((START, PATH), [False, True]),
        ((WITH_TRAILERS, LAST, {**TRAILER, "more_trailers": True}, TRAILER), [False, False, False, True]),
    ],
)
async def test_a_request_is_over_with_its_last_message_and_not_before(
    messages: tuple[Message, ...], over: list[bool]
) -> None:
    records, seen = Records(), []

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        for message in messages:
            await send(dict(message))
            seen.append(bool(records.requests()))

    await Wire().run(ObservingMiddleware(app, **records.layer()))
    assert seen == over


@pytest.mark.parametrize(
    ("messages", "counted"),
    [
        ((START, LAST), [False, True]),
        (({**START, "headers": []}, {**LAST, "body": b""}), [False, True]),
        ((HINT, START, LAST), [False, False, True]),
        ((START, PART, {**LAST, "body": b""}), [False, False, False]),
        ((START, {**LAST, "body": b"another length"}), [False, False]),
        ((WITH_TRAILERS, LAST), [False, False]),
        ((UNAVAILABLE, LAST), [False, False]),
    ],
    ids=["one part", "no content", "after a hint", "stream", "another length than announced", "trailers", "5xx"],
)
async def test_an_answer_of_one_part_is_counted_before_the_server_has_it_and_others_after(
    messages: tuple[Message, ...], counted: list[bool]
) -> None:
    records, wire = Records(), Wire()
    seen = []
    pass_on = wire.send

    async def send(message: Message) -> None:
        seen.append(bool(records.requests()))
        await pass_on(message)

    wire.send = send  # type: ignore[method-assign]
    await wire.run(ObservingMiddleware(sends(*messages), **records.layer()))
    assert seen == counted
    assert sum(records.requests().values()) == 1


async def test_a_part_that_the_server_refuses_for_its_length_makes_it_500() -> None:
    error = RuntimeError("Response content longer than Content-Length")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def refuse(message: Message) -> None:
            if message["type"] == "http.response.body":
                raise error
            await send(message)

        await ObservingMiddleware(sends(START, {**LAST, "body": b"longer"}), **records.layer())(scope, receive, refuse)

    records = Records()
    with pytest.raises(RuntimeError, match="longer than"):
        await Wire().run(app)
    assert records.requests() == {("GET", "500", "none"): 1}


async def test_a_failure_before_the_answer_is_answered_and_raised() -> None:
    wire, error = Wire(), LookupError("quokka")
    assert await end(raises(error), wire) == (["unhandled_error", "request"], 500, error)
    assert wire.status == 500
    assert (b"content-type", b"application/problem+json") in wire.headers
    assert b"quokka" not in wire.sent[1]["body"]


async def test_a_failure_in_mid_stream_is_500_and_raised_so_that_the_server_cuts_the_connection() -> None:
    error = LookupError("quokka")
    assert await end(raises(error, START, PART)) == (["unhandled_error", "request"], 500, error)


async def test_a_failure_behind_the_answer_is_logged_and_raised_and_the_request_stays_as_it_was() -> None:
    error = LookupError("quokka")
    assert await end(raises(error, START, LAST)) == (["request", "unhandled_error"], 200, error)


async def test_a_failure_behind_an_answer_of_5xx_is_that_of_the_answer() -> None:
    error = LookupError("quokka")
    assert await end(raises(error, UNAVAILABLE, LAST)) == (["unhandled_error", "request"], 503, error)


@pytest.mark.parametrize("error", [LookupError("quokka"), HTTPException(418)])
async def test_a_background_task_that_fails_is_logged_and_leaves_the_answer(error: Exception) -> None:
    app = FastAPI(telemetry=TELEMETRY)

    async def fail() -> None:
        raise error

    @app.get("/")
    async def task(tasks: BackgroundTasks) -> str:
        tasks.add_task(fail)
        return "soon"

    records, wire = Records(), Wire()
    with capture_logs() as lines, pytest.raises((LookupError, RuntimeError)):
        await wire.run(records.observe(app))
    assert [line["event"] for line in lines] == ["request", "unhandled_error"]
    assert records.requests() == {("GET", "200", "/"): 1}
    assert wire.status == 200


@pytest.mark.parametrize("spec", ["2.3", "2.4"])
async def test_a_stream_that_breaks_is_500_and_raised(spec: str) -> None:
    async def handler(_request: Request) -> Response:
        return StreamingResponse(that_breaks())

    events, status, raised = await end(handled_by(handler), Wire(spec=spec))
    assert (events, status, type(raised)) == (["unhandled_error", "request"], 500, LookupError)


async def test_what_an_application_cannot_read_is_no_client_that_has_gone() -> None:
    async def that_cannot_be_read() -> AsyncIterator[bytes]:
        yield b"one"
        raise ConnectionResetError("the store has hung up")

    async def handler(_request: Request) -> Response:
        return StreamingResponse(that_cannot_be_read())

    # From ASGI 2.4 on Starlette takes every OSError for a client that has gone.
    events, status, raised = await end(handled_by(handler), Wire(spec="2.4"))
    assert (events, status, type(raised)) == (["unhandled_error", "request"], 500, ClientDisconnect)


@pytest.mark.parametrize("messages", [(), (START,), (START, PART)])
async def test_an_application_that_returns_without_an_answer_has_failed(messages: tuple[Message, ...]) -> None:
    assert await end(sends(*messages)) == (["request"], 500, None)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
async def test_what_ends_the_process_ends_the_request_as_failed_and_goes_on(error: BaseException) -> None:
    assert await end(raises(error)) == (["request"], 500, error)


@pytest.mark.parametrize("messages", [(), (START,), (START, PART)])
async def test_a_request_that_is_cancelled_is_499_and_the_cancellation_goes_on(messages: tuple[Message, ...]) -> None:
    error = asyncio.CancelledError()
    assert await end(raises(error, *messages)) == (["request"], 499, error)


@pytest.mark.parametrize("messages", [(), (START,), (START, PART)])
async def test_a_request_that_a_shutdown_cuts_short_is_500_since_its_client_is_there(
    messages: tuple[Message, ...],
) -> None:
    error = asyncio.CancelledError(UVICORNS_LAST_WORD)
    assert await end(raises(error, *messages)) == (["request"], 500, error)


async def wait_for_the_body(request: Request) -> Response:
    return JSONResponse(len(await request.body()))


async def poll(request: Request) -> Response:
    assert await request.is_disconnected()
    return JSONResponse("too late")


async def stream(_request: Request) -> Response:
    return StreamingResponse(in_two_parts())


async def fail_afterwards(request: Request) -> Response:
    await request.receive()
    raise LookupError("and this is a failure of ours")


@pytest.mark.parametrize(
    ("handler", "events"),
    [
        (wait_for_the_body, ["request"]),
        (poll, ["request"]),
        (fail_afterwards, ["request", "unhandled_error"]),
    ],
)
async def test_a_client_that_is_said_to_have_gone_before_the_answer_is_499(handler: Handler, events: list[str]) -> None:
    wire = Wire()
    wire.incoming.clear()
    wire.hang_up()
    found, status, error = await end(handled_by(handler), wire)
    assert (found, status) == (events, 499)
    assert (error is not None) is ("unhandled_error" in events)


async def test_a_body_that_breaks_off_is_499_whatever_fastapi_answers_to_nobody() -> None:
    app, records, wire = FastAPI(telemetry=TELEMETRY), Records(), Wire("/", "POST")

    @app.post("/")
    async def take(body: dict[str, int]) -> dict[str, int]:
        return body

    wire.incoming = [{"type": "http.request", "body": b'{"a": ', "more_body": True}]
    wire.hang_up()
    await wire.run(records.observe(app))
    assert wire.status == 400
    assert records.requests() == {("POST", "499", "/"): 1}


async def test_a_client_that_goes_away_in_mid_stream_is_499_at_once_and_not_after_the_task_behind() -> None:
    records, wire, statuses = Records(), Wire(), []

    async def parts() -> AsyncIterator[bytes]:
        yield b"one"
        wire.hang_up()
        await asyncio.Event().wait()

    async def task() -> None:
        statuses.append(list(records.requests()))

    tasks = BackgroundTasks()
    tasks.add_task(task)

    async def handler(_request: Request) -> Response:
        return StreamingResponse(parts(), background=tasks)

    await wire.run(ObservingMiddleware(handled_by(handler), **records.layer()))
    assert statuses == [[("GET", "499", "none")]]


@pytest.mark.parametrize(
    ("handler", "messages", "too_late"),
    [(stream, 4, 4), (lambda _request: whole(), 2, 1), (lambda _request: file(), 2, 1)],
)
async def test_a_server_that_raises_because_the_client_has_gone_makes_it_499(
    handler: Any, messages: int, too_late: int
) -> None:
    for breaks_at in range(too_late):
        wire = Wire(spec="2.4", breaks_at=breaks_at)
        assert await end(handled_by(handler), wire) == (["request"], 499, None)
    # An answer of one part is counted when it is handed over.
    for breaks_at in range(too_late, messages + 1):
        assert await end(handled_by(handler), Wire(spec="2.4", breaks_at=breaks_at)) == (["request"], 200, None)


async def whole() -> Response:
    return JSONResponse("whole")


async def file() -> Response:
    return FileResponse(HERE / "wire.py")


@pytest.mark.parametrize("breaks_at", [0, 1])
async def test_a_client_that_goes_away_undoes_no_failure(breaks_at: int) -> None:
    wire, error = Wire(spec="2.4", breaks_at=breaks_at), LookupError("quokka")
    assert await end(raises(error), wire) == (["unhandled_error", "request"], 500, error)
    wire = Wire(spec="2.4", breaks_at=1)
    assert await end(sends(UNAVAILABLE, PART, LAST), wire) == (["request"], 503, None)


async def test_what_comes_after_the_end_changes_nothing() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await sends(START, LAST)(scope, receive, send)
        assert (await receive())["type"] == "http.request"
        assert (await receive())["type"] == "http.disconnect"

    wire = Wire()
    wire.hang_up()
    assert await end(app, wire) == (["request"], 200, None)


async def test_a_client_that_has_gone_is_said_to_the_application_which_may_stop() -> None:
    sent = []

    async def endless(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send(dict(START))
        for number in range(10):
            await send(dict(PART))
            sent.append(number)

    assert await end(endless, Wire(spec="2.4", breaks_at=3)) == (["request"], 499, None)
    assert sent == [0, 1]
