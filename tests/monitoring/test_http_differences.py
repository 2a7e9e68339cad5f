"""Intended differences from the library's middleware: each by name, with the counts of both."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import BackgroundTasks, FastAPI
from prometheus_client import CollectorRegistry
from starlette.responses import StreamingResponse

from tests.middleware.wire import Wire
from tests.monitoring.oracle import Call, applications, both, drive, exposed

Requests = dict[tuple[str, str, str], float]


async def cancelled(app: Any) -> None:
    """Send a request that waits, and cancel it as the server does."""
    wire = Wire("/echo", "POST")
    wire.incoming.clear()
    request = asyncio.create_task(wire.run(app))
    await asyncio.sleep(0)
    request.cancel()
    await asyncio.wait([request])


async def gone_in_mid_stream(app: Any) -> None:
    """Disconnect after the first part of a response; the server reports it with a message."""
    wire = Wire("/stream")
    say = wire.send

    async def send_and_leave(message: Any) -> None:
        await say(message)
        if message.get("more_body"):
            wire.hang_up()
            await asyncio.Event().wait()  # the rest is never asked for

    wire.send = send_and_leave  # type: ignore[method-assign]
    await wire.run(app)


async def broken_pipe(app: Any) -> None:
    """Disconnect before the response is sent; the server raises."""
    try:
        await Wire("/items/7", spec="2.4", breaks_at=0).run(app)
    except OSError:
        return


def asking(*calls: Call) -> Callable[[Any], Awaitable[None]]:
    """Return a function that sends `calls`. The library's ValueError for a bad Content-Length is ignored."""

    async def ask(app: Any) -> None:
        for call in calls:
            try:
                await drive(app, [call])
            except ValueError:
                continue

    return ask


def by_request(registry: CollectorRegistry) -> Requests:
    """Return requests by method, status and handler."""
    return {
        (sample.labels["method"], sample.labels["status"], sample.labels["handler"]): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "http_requests_total"
    }


@dataclass
class Difference:
    """An intended difference: the requests that each side counts."""

    why: str
    house: str
    do: Callable[[Any], Awaitable[None]]
    theirs: Requests
    ours: Requests


DIFFERENCES = [
    Difference(
        "a failure in mid-stream is a failure",
        "fastapi",
        asking(Call("/half")),
        theirs={("GET", "200", "/half"): 1},
        ours={("GET", "500", "/half"): 1},
    ),
    Difference(
        "a request that was cancelled has not failed: its client has left",
        "fastapi",
        cancelled,
        theirs={("POST", "500", "/echo"): 1},
        ours={("POST", "499", "/echo"): 1},
    ),
    Difference(
        "a client that leaves in mid-stream has no whole answer",
        "fastapi",
        gone_in_mid_stream,
        theirs={("GET", "200", "/stream"): 1},
        ours={("GET", "499", "/stream"): 1},
    ),
    Difference(
        "a client that left before the answer has none",
        "fastapi",
        broken_pipe,
        theirs={("GET", "200", "/items/{item}"): 1},
        ours={("GET", "499", "/items/{item}"): 1},
    ),
    Difference(
        "a redirect makes no series for each path",
        "fastapi",
        asking(Call("/slashed"), Call("/v1/beaches/1/"), Call("/v1/beaches/2/")),
        theirs={("GET", "307", path): 1 for path in ("/slashed", "/v1/beaches/1/", "/v1/beaches/2/")},
        ours={("GET", "307", "none"): 3},
    ),
    Difference(
        "nor does one inside of a mounted application",
        "starlette",
        asking(Call("/slashed"), Call("/a/1/c/2/")),
        theirs={("GET", "307", "/slashed"): 1, ("GET", "307", "/a/1/c/2/"): 1},
        ours={("GET", "307", "none"): 2},
    ),
    Difference(
        "odd methods share one series",
        "starlette",
        asking(Call("/any", "BREW"), Call("/any", "PURGE"), Call("/any", "PROPFIND")),
        theirs={("BREW", "200", "/any"): 1, ("PURGE", "200", "/any"): 1, ("PROPFIND", "405", "/any"): 1},
        ours={("_OTHER", "200", "/any"): 2, ("_OTHER", "405", "/any"): 1},
    ),
    Difference(
        "what is excluded is a route, not a path that nobody has taken",
        "starlette",
        asking(Call("/metrics")),
        theirs={},
        ours={("GET", "404", "none"): 1},
    ),
    Difference(
        "the routes of a host are routes",
        "starlette",
        asking(Call("/goods/1", headers={"host": "shop.example"}), Call("/goods", headers={"host": "shop.example"})),
        theirs={("GET", "200", "none"): 1, ("GET", "404", "none"): 1},
        ours={("GET", "200", "/goods/{good}"): 1, ("GET", "404", "none"): 1},
    ),
]


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda difference: difference.why)
async def test_we_differ_on_purpose(difference: Difference) -> None:
    instrumented, theirs, observed, ours = applications(difference.house)
    await difference.do(instrumented)
    await difference.do(observed)
    assert by_request(theirs) == difference.theirs
    assert by_request(ours) == difference.ours
    for name, (kind, text, _) in exposed(theirs).items():
        assert exposed(ours)[name][:2] == (kind, text)


SIZES: dict[str, tuple[float | None, float]] = {
    # Content-Length, what the library adds to http_request_size_bytes_sum, what we add; None: the request breaks
    "12": (12, 12),
    "0": (0, 0),
    "-5": (-5, 0),
    " 7": (7, 0),
    "1_0": (10, 0),
    "twelve": (None, 0),
    "1.5": (None, 0),
    "": (None, 0),
    "9" * 20: (float("9" * 20), 0),
    "9" * 400: (0, 0),  # an infinite amount, which the package has prometheus-client ignore
    "9" * 5000: (None, 0),
}


@pytest.mark.parametrize("announced", SIZES, ids=lambda text: text[:6] or "nothing")
async def test_a_content_length_that_is_no_number_of_bytes_counts_as_none(announced: str) -> None:
    instrumented, theirs, observed, ours = applications("fastapi")
    headers = ((b"content-length", announced.encode()),)
    try:
        await Wire("/items/7", headers=headers).run(instrumented)
    except (ValueError, OverflowError):
        assert SIZES[announced][0] is None
    else:
        assert received(theirs) == SIZES[announced][0]
    wire = Wire("/items/7", headers=headers)
    await wire.run(observed)
    assert (wire.status, received(ours)) == (200, SIZES[announced][1])


def received(registry: CollectorRegistry) -> float | None:
    """Return the bytes that requests have announced."""
    return registry.get_sample_value("http_request_size_bytes_sum", {"handler": "/items/{item}"})


async def test_the_answer_to_an_exception_has_a_size_since_it_is_ours() -> None:
    theirs, ours = await both("fastapi", [Call("/boom")])
    assert by_request(theirs) == by_request(ours) == {("GET", "500", "/boom"): 1}
    sent = {"handler": "/boom"}
    assert theirs.get_sample_value("http_response_size_bytes_sum", sent) == 0
    assert (ours.get_sample_value("http_response_size_bytes_sum", sent) or 0) > 0


class Clock:
    """A clock that only advances when it is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("path", "theirs", "ours"),
    [("/parts", 5.0, 5.0), ("/later", 67.0, 7.0)],
    ids=["up to the last byte of a stream", "without the task behind an answer"],
)
async def test_what_a_duration_is(monkeypatch: pytest.MonkeyPatch, path: str, theirs: float, ours: float) -> None:
    clock = Clock()
    monkeypatch.setattr("prometheus_fastapi_instrumentator.middleware.default_timer", clock)
    monkeypatch.setattr("app.monitoring.requests.layer.time", SimpleNamespace(perf_counter=clock))
    taken = []
    for app, registry in by_pairs(applications("fastapi")):
        add_slow_routes(app, clock)
        await drive(app, [Call(path)])
        taken.append(registry.get_sample_value("http_request_duration_highr_seconds_sum"))
    assert taken == [theirs, ours]


def by_pairs(made: tuple[Any, CollectorRegistry, Any, CollectorRegistry]) -> list[tuple[Any, CollectorRegistry]]:
    """Return each application with its registry."""
    return [(made[0], made[1]), (made[2], made[3])]


def add_slow_routes(app: FastAPI, clock: Clock) -> None:
    """Add routes that advance the clock while they respond."""

    async def parts() -> AsyncIterator[bytes]:
        clock.now += 2
        yield b"one"
        clock.now += 3
        yield b"two"

    async def task() -> None:
        clock.now += 60

    @app.get("/parts")
    async def streamed() -> StreamingResponse:
        return StreamingResponse(parts())

    @app.get("/later")
    async def later(tasks: BackgroundTasks) -> str:
        clock.now += 7
        tasks.add_task(task)
        return "soon"
