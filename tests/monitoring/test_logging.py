"""What a log line carries, whoever wrote it."""

import asyncio
import io
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog
from gunicorn.config import Config
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

from app.monitoring.logging import GunicornLogger, adopt_server_loggers, configure, get_logger

SECRET = "wayan@example.com"
SERVER_LOGGERS = ("uvicorn", "uvicorn.error", "uvicorn.access", "gunicorn.error", "gunicorn.access")
Configure = Callable[..., "Lines"]


class Lines:
    """What was written since `configure`."""

    def __init__(self, stream: io.StringIO) -> None:
        self._stream = stream

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    def all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    def only(self) -> dict[str, Any]:
        (line,) = self.all()
        return line


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """The test session's own logging is as before afterwards."""
    root = logging.getLogger()
    names = ("", *SERVER_LOGGERS, "httpx", "httpcore")
    loggers = [logging.getLogger(name) for name in names]
    kept = [(logger, logger.level, logger.handlers[:], logger.propagate, logger.disabled) for logger in loggers]
    structlog_kept = structlog.get_config()
    structlog.contextvars.clear_contextvars()
    yield
    structlog.contextvars.clear_contextvars()
    structlog.configure(**structlog_kept)
    for logger, level, handlers, propagate, disabled in kept:
        logger.setLevel(level)
        logger.handlers, logger.propagate, logger.disabled = handlers, propagate, disabled
    assert root.handlers == kept[0][2]


@pytest.fixture
def configured() -> Configure:
    """`configured(level="DEBUG")` sets logging up on a stream and returns what is written to it."""

    def set_up(**changes: Any) -> Lines:
        stream = io.StringIO()
        common = {"service": "bali", "version": "1.2.3", "environment": "test"}
        configure(**{"renderer": "json", "level": "INFO", "stream": stream, **common, **changes})
        return Lines(stream)

    return set_up


def test_a_line_says_when_where_and_who(configured: Configure) -> None:
    lines = configured()
    before = datetime.now(UTC)
    get_logger("cache").warning("redis_away", pause_seconds=1.0)
    line = lines.only()
    assert before <= datetime.fromisoformat(line.pop("timestamp")) <= datetime.now(UTC)
    assert line == {
        "level": "warning",
        "event": "redis_away",
        "logger": "cache",
        "service": "bali",
        "version": "1.2.3",
        "environment": "test",
        "worker": os.getpid(),
        "pause_seconds": 1.0,
    }


def test_a_record_of_the_standard_library_has_the_same_fields(configured: Configure) -> None:
    lines = configured()
    get_logger("ours").info("Started")
    extra = {"color_message": "\x1b[1mStarted\x1b[0m", "port": 8000}
    logging.getLogger("uvicorn.error").info("Started on %s", "localhost", extra=extra)
    ours, theirs = lines.all()
    assert ours.keys() == theirs.keys() - {"port"}
    assert (theirs["event"], theirs["logger"], theirs["port"]) == ("Started on localhost", "uvicorn.error", 8000)
    assert (theirs["level"], theirs["service"], theirs["worker"]) == ("info", "bali", os.getpid())


def test_what_the_request_bound_is_in_every_line(configured: Configure) -> None:
    lines = configured()
    structlog.contextvars.bind_contextvars(request_id="abc")
    get_logger("ours").info("one")
    logging.getLogger("library").warning("two")
    assert [line["request_id"] for line in lines.all()] == ["abc", "abc"]


async def test_requests_side_by_side_keep_their_own_ids(configured: Configure) -> None:
    lines = configured()
    both = asyncio.Barrier(2)

    async def request(request_id: str) -> None:
        structlog.contextvars.bind_contextvars(request_id=request_id)
        await both.wait()
        get_logger("ours").info(request_id)

    await asyncio.gather(request("a"), request("b"))
    assert all(line["request_id"] == line["event"] for line in lines.all())
    assert len(lines.all()) == 2


@pytest.mark.parametrize("sampled", [True, False])
def test_inside_a_span_a_line_carries_its_ids(configured: Configure, sampled: bool) -> None:  # noqa: FBT001
    lines = configured()
    provider = TracerProvider(sampler=ALWAYS_ON if sampled else ALWAYS_OFF, shutdown_on_exit=False)
    with provider.get_tracer("test").start_as_current_span("x") as span:
        get_logger("ours").info("inside")
        logging.getLogger("library").warning("inside")
    get_logger("ours").info("outside")
    context = span.get_span_context()
    *inside, outside = lines.all()
    for line in inside:
        assert line["trace_id"] == format(context.trace_id, "032x")
        assert line["span_id"] == format(context.span_id, "016x")
    assert not outside.keys() & {"trace_id", "span_id"}


def test_private_data_is_taken_out_of_every_field(configured: Configure) -> None:
    lines = configured()
    structlog.contextvars.bind_contextvars(user_email=SECRET)
    get_logger("ours").info(f"asked by {SECRET}", body={"notes": [SECRET], "password": "x"})
    logging.getLogger("library").warning("asked by %s", SECRET)
    assert SECRET not in lines.text
    ours, theirs = lines.all()
    assert ours["event"] == theirs["event"] == "asked by [email]"
    assert ours["body"] == {"notes": ["[email]"], "password": "[redacted]"}


def test_an_exception_becomes_text_without_private_data(configured: Configure) -> None:
    lines = configured()
    try:
        int(SECRET)
    except ValueError:
        get_logger("ours").exception("failed")
        logging.getLogger("library").exception("failed")
    assert SECRET not in lines.text
    for line in lines.all():
        assert line["level"] == "error"
        assert "Traceback (most recent call last)" in line["exception"]
        assert "ValueError: invalid literal for int() with base 10: '[email]'" in line["exception"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({1, 2}, [1, 2]),
        (ValueError("x"), "x"),
        (datetime(2026, 1, 1, tzinfo=UTC), "2026-01-01 00:00:00+00:00"),
        (float("nan"), None),
        ({1: "a"}, {"1": "a"}),
        ("line\nbreak", "line\nbreak"),
    ],
)
def test_any_value_becomes_one_line_of_json(configured: Configure, value: object, shown: object) -> None:
    lines = configured()
    get_logger("ours").info("event", value=value)
    assert lines.only()["value"] == shown


@pytest.mark.parametrize("value", [2**70, "\ud800", {(1, 2): "a"}], ids=["long", "surrogate", "tuple"])
def test_a_value_that_json_cannot_hold_costs_neither_the_caller_nor_the_line(
    configured: Configure, value: object
) -> None:
    lines = configured()
    get_logger("ours").info("event", value=value)
    assert lines.only()["event"] == "event"


def test_lines_below_the_level_are_not_written(configured: Configure) -> None:
    lines = configured(level="WARNING")
    for logger in (get_logger("ours"), logging.getLogger("library")):
        logger.info("quiet")
        logger.warning("loud")
    assert [line["event"] for line in lines.all()] == ["loud", "loud"]


def test_at_debug_level_debug_lines_are_written(configured: Configure) -> None:
    lines = configured(level="DEBUG")
    get_logger("ours").debug("fine")
    logging.getLogger("library").debug("fine")
    assert [line["level"] for line in lines.all()] == ["debug", "debug"]


@pytest.mark.parametrize(("level", "written"), [("INFO", 1), ("DEBUG", 1), ("ERROR", 0)])
def test_the_http_clients_information_is_left_out(configured: Configure, level: str, written: int) -> None:
    lines = configured(level=level)
    logging.getLogger("httpx").info("HTTP Request: GET")
    logging.getLogger("httpcore").warning("trouble")
    assert len(lines.all()) == written


def test_the_servers_access_log_is_silent(configured: Configure) -> None:
    lines = configured()
    logging.getLogger("uvicorn.access").critical("GET / 200")
    assert lines.text == ""


def test_the_servers_loggers_write_through_the_root_once(configured: Configure) -> None:
    lines = configured()
    for name in SERVER_LOGGERS:
        logger = logging.getLogger(name)
        logger.addHandler(logging.StreamHandler(sys.stderr))
        logger.propagate = False
    adopt_server_loggers()
    logging.getLogger("gunicorn.error").warning("once")
    logging.getLogger("uvicorn").warning("once")
    assert [line["event"] for line in lines.all()] == ["once", "once"]


def test_gunicorns_logger_is_ours(configured: Configure, capfd: pytest.CaptureFixture[str]) -> None:
    lines = configured(level="WARNING")
    logger = GunicornLogger(Config())
    logger.info("Booting worker")
    logger.warning("Worker %s was %s", 7, "killed")
    line = lines.only()
    assert (line["event"], line["logger"]) == ("Worker 7 was killed", "gunicorn.error")
    assert logger.loglevel == logging.WARNING
    assert capfd.readouterr() == ("", "")


def test_configuring_again_replaces_what_was_before(configured: Configure) -> None:
    first, second = configured(), configured(service="other")
    get_logger("ours").info("event")
    logging.getLogger("library").warning("event")
    assert first.text == ""
    assert [line["service"] for line in second.all()] == ["other", "other"]


def test_the_console_is_for_people(configured: Configure) -> None:
    lines = configured(renderer="console")
    structlog.contextvars.bind_contextvars(request_id="abc")
    get_logger("ours").info("redis_away", guest=SECRET)
    logging.getLogger("library").warning("two")
    first, second = lines.text.splitlines()
    assert "redis_away" in first
    assert "guest=[email]" in first.replace("'", "")
    assert "request_id=abc" in first
    assert "two" in second
    assert "\x1b[" not in lines.text
    assert "service" not in lines.text


def test_on_the_console_nobody_forges_a_line(configured: Configure) -> None:
    lines = configured(renderer="console")
    get_logger("ours").info("asked\n2026-11-23 [info] forged", guest="\x1b[31mx\r\u2028")

    def fail() -> None:
        raise ValueError(f"{SECRET}\n2026-11-23 [info] forged")

    try:
        fail()
    except ValueError:
        get_logger("ours").exception("failed")
        logging.getLogger("library").exception("failed")
    assert SECRET not in lines.text
    assert not set("\x1b\r\u2028") & set(lines.text)
    assert not [line for line in lines.text.splitlines() if line.startswith(("2026-11-23", "ValueError"))]
    assert lines.text.count("ValueError: [email]") == 2


def test_a_field_of_the_callers_own_that_begins_with_an_underscore_is_redacted_too(configured: Configure) -> None:
    lines = configured()
    get_logger("ours").info("event", _password="hunter22", **{SECRET: 1})
    assert lines.only()["_password"] == "[redacted]"
    assert lines.only()["[email]"] == 1


def test_lines_go_to_standard_output_unless_told_otherwise(
    configured: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    configured(stream=None)
    structlog.get_logger("ours").info("event")
    logging.getLogger("library").warning("event")
    output, errors = capsys.readouterr()
    assert [json.loads(line)["event"] for line in output.splitlines()] == ["event", "event"]
    assert errors == ""
