"""An exception that cannot be formatted costs neither its line, nor the response, nor the span."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from fastapi import FastAPI

from app.monitoring.logging import get_logger
from app.monitoring.tracebacks import type_name
from tests.middleware.applications import TELEMETRY, Records
from tests.middleware.wire import Wire
from tests.monitoring.conftest import Configure
from tests.monitoring.faulty import FAULTY_EXCEPTIONS

pytestmark = pytest.mark.usefixtures("maker")

# Starlette itself reads `__class__`, and raises what that raises in place of the exception.
UNHANDLED = {name: make for name, make in FAULTY_EXCEPTIONS.items() if name != "__class__ that fails"}


def failing(make: Callable[[], Exception]) -> FastAPI:
    app = FastAPI(telemetry=TELEMETRY)

    @app.get("/handled")
    async def handled() -> str:
        try:
            raise make()  # noqa: TRY301
        except Exception:  # noqa: BLE001 -- an application's
            get_logger("ours").exception("handled")
        return "well"

    @app.get("/unhandled")
    async def unhandled() -> None:
        raise make()

    return app


async def ask(app: Any, path: str) -> tuple[int, bytes]:
    """Return status and body; the exception itself is raised to the server, as Starlette does."""
    wire = Wire(path)
    raised = False
    try:
        await wire.run(app)
    except Exception:  # noqa: BLE001 -- nothing of it can be looked at
        raised = True
    assert raised == (path == "/unhandled")
    return wire.sent[0]["status"], b"".join(message.get("body", b"") for message in wire.sent)


@pytest.mark.parametrize("make", FAULTY_EXCEPTIONS.values(), ids=FAULTY_EXCEPTIONS)
async def test_a_handled_error_that_cannot_be_formatted_is_no_failed_request(
    configured: Configure, make: Callable[[], Exception]
) -> None:
    records, lines = Records(), configured()
    assert await ask(records.observe(failing(make)), "/handled") == (200, b'"well"')
    assert [line["event"] for line in lines.all()] == ["handled", "request"]
    assert type_name(type(make())) in lines.all()[0]["exception"]


@pytest.mark.parametrize("make", UNHANDLED.values(), ids=UNHANDLED)
async def test_an_unhandled_error_that_cannot_be_formatted_has_a_line_a_problem_and_a_span(
    configured: Configure, make: Callable[[], Exception]
) -> None:
    records, lines = Records(), configured()
    status, body = await ask(records.observe(failing(make)), "/unhandled")
    assert status == 500
    assert orjson.loads(body)["title"] == "Internal Server Error"
    name = type_name(type(make()))
    events = {line["event"]: line for line in lines.all()}
    assert list(events) == ["unhandled_error", "request"]
    assert name in events["unhandled_error"]["exception"]
    assert events["request"]["status"] == 500
    (span,) = records.spans()
    (event,) = span.events
    assert (event.name, (event.attributes or {})["exception.type"]) == ("exception", name)
    assert records.requests() == {("GET", "500", "/unhandled"): 1}
