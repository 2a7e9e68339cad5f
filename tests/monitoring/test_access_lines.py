"""Access lines bypass the chain, unless more than the request id is bound to the context."""

from typing import Any

import pytest
import structlog
from starlette.types import Receive, Scope, Send

from app.monitoring.requests.layer import ObservingMiddleware
from tests.middleware.applications import Records
from tests.middleware.wire import Wire
from tests.monitoring.conftest import Configure


def binding(**fields: Any) -> Any:
    """Return an application that binds `fields` and responds."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        structlog.contextvars.bind_contextvars(**fields)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return app


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("bound", [{}, {"booking": 7}, {"guest": "made@example.com"}])
async def test_what_is_bound_is_in_the_line_and_redacted(
    configured: Configure, bound: dict[str, Any], *, traced: bool
) -> None:
    lines = configured()
    await Wire("/x").run(ObservingMiddleware(binding(**bound), **(Records().layer() if traced else {})))
    line = lines.only()
    assert line["event"] == "request"
    assert {key: line.get(key) for key in bound} == {
        key: "[email]" if key == "guest" else value for key, value in bound.items()
    }
    assert list(line)[:4] == ["timestamp", "level", "event", "logger"]
    assert ("trace_id" in line) is traced
    assert len(line["request_id"]) == 32


async def test_both_ways_write_the_same_line(configured: Configure) -> None:
    lines = configured()
    for bound in ({}, {"booking": 7}):
        await Wire("/x", headers=((b"x-request-id", b"5eedc0de"),)).run(ObservingMiddleware(binding(**bound)))
    past, through = lines.all()
    for line in (past, through):
        assert line.pop("timestamp")
        assert line.pop("duration_ms") >= 0
    assert through.pop("booking") == 7
    assert past == through


async def test_what_an_earlier_request_in_the_same_context_has_bound_is_in_no_line(configured: Configure) -> None:
    lines = configured()
    await Wire("/x").run(ObservingMiddleware(binding(booking=7)))
    structlog.contextvars.bind_contextvars(left="over")
    await Wire("/x").run(ObservingMiddleware(binding(booking=8)))
    await Wire("/x").run(ObservingMiddleware(binding()))
    assert [line.get("booking") for line in lines.all()] == [7, 8, None]
    assert not [line for line in lines.all() if "left" in line]


@pytest.mark.parametrize(("level", "written"), [("INFO", 1), ("INFO,access=WARNING", 0), ("WARNING,access=INFO", 1)])
async def test_the_level_of_access_lines_holds_for_both_ways(configured: Configure, level: str, written: int) -> None:
    lines = configured(level=level)
    for bound in ({}, {"booking": 7}):
        await Wire("/x").run(ObservingMiddleware(binding(**bound)))
    assert [line["logger"] for line in lines.all()] == ["access"] * 2 * written
