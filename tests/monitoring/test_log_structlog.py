"""Lines of an application that configures structlog itself: no call fails, and what passes through us is redacted."""

import json
import logging
import sys
from collections.abc import Callable
from typing import Any

import orjson
import pytest
import structlog
from structlog import stdlib

from app.monitoring.logging import get_logger, replaced_in_structlog
from tests.monitoring.conftest import Configure

SECRET = "wayan@example.com"
JSON = structlog.processors.JSONRenderer()


def log(logger: Any = None) -> None:
    (logger or structlog.get_logger("shop")).warning("login", email=SECRET, password="hunter2", room=7)


@pytest.mark.parametrize(
    "processors",
    [
        [structlog.processors.add_log_level, JSON],
        [structlog.processors.JSONRenderer(serializer=lambda event, **_: orjson.dumps(event))],
        [structlog.processors.JSONRenderer(serializer=lambda event, **_: orjson.dumps(event) + b"\n")],
        [stdlib.filter_by_level, stdlib.add_logger_name, stdlib.add_log_level, JSON],
        [stdlib.ProcessorFormatter.wrap_for_formatter],
        [stdlib.render_to_log_kwargs],
        [lambda _logger, _method, event: event],
    ],
)
def test_fields_of_another_chain_are_redacted_by_name(configured: Configure, processors: list[Any]) -> None:
    lines = configured()
    structlog.configure(processors=processors)
    log()
    line = lines.only()
    assert (line["event"], line["level"], line["logger"], line["room"]) == ("login", "warning", "shop", 7)
    assert (line["email"], line["password"], line["service"]) == ("[redacted]", "[redacted]", "bali")


@pytest.mark.parametrize(
    "renderer",
    [
        structlog.processors.KeyValueRenderer(),
        structlog.processors.LogfmtRenderer(),
        structlog.dev.ConsoleRenderer(colors=False),
        stdlib.render_to_log_args_and_kwargs,
        lambda _logger, _method, event: bytearray(str(event).encode()),
        lambda _logger, _method, event: ((str(event), "more"), {}),
        lambda _logger, _method, event: ((event,), {"extra": 3, "stack_info": True}),
        lambda _logger, _method, event: "{no JSON " + str(event),
    ],
)
def test_text_of_another_renderer_is_redacted(configured: Configure, renderer: Any) -> None:
    lines = configured()
    structlog.configure(processors=[renderer])
    log()
    assert lines.only()["level"] == "warning"
    assert "login" in lines.text
    assert SECRET not in lines.text
    assert "hunter2" not in lines.text


def test_an_object_that_cannot_be_read_loses_the_event_and_not_the_request(configured: Configure) -> None:
    class Closed:
        def __str__(self) -> str:
            raise RuntimeError(SECRET)

    lines = configured()
    structlog.configure(processors=[lambda *_: ((Closed(),), {})])
    log()
    assert (lines.only()["event"], lines.only()["error"]) == ("log_event_not_readable", "RuntimeError")


@pytest.mark.parametrize("renderer", ["json", "console"])
@pytest.mark.parametrize(
    "factory",
    [
        structlog.PrintLoggerFactory,
        structlog.WriteLoggerFactory,
        lambda: structlog.BytesLoggerFactory(sys.stdout.buffer),
    ],
)
def test_another_factory_gets_redacted_lines(
    configured: Configure, capfdbinary: pytest.CaptureFixture[bytes], renderer: str, factory: Callable[[], Any]
) -> None:
    configured(renderer=renderer)
    structlog.configure(logger_factory=factory())
    log()
    sys.stdout.flush()
    (line,) = capfdbinary.readouterr().out.decode().splitlines()
    assert SECRET not in line
    assert "hunter2" not in line
    assert line.startswith('{"timestamp"' if renderer == "json" else "20")
    assert renderer == "console" or json.loads(line)["event"] == "login"


def test_the_factory_of_the_standard_library_comes_back_to_our_handler(configured: Configure) -> None:
    lines = configured()
    structlog.configure(logger_factory=stdlib.LoggerFactory(), wrapper_class=stdlib.BoundLogger)
    log()
    assert "login" in lines.only()["event"]
    assert SECRET not in lines.text
    assert "hunter2" not in lines.text


@pytest.mark.parametrize("wrapper", [stdlib.BoundLogger, structlog.make_filtering_bound_logger(logging.INFO)])
def test_another_wrapper_class_keeps_the_chain(configured: Configure, wrapper: Any) -> None:
    lines = configured()
    structlog.configure(wrapper_class=wrapper)
    log()
    assert lines.only()["password"] == "[redacted]"
    assert replaced_in_structlog() == []


def test_lines_of_the_package_are_redacted_through_another_chain(configured: Configure) -> None:
    lines = configured()
    structlog.configure(processors=[structlog.processors.format_exc_info, JSON])
    get_logger("request").exception("unhandled_error", exc_info=ValueError(SECRET))
    line = lines.only()
    assert (line["event"], line["level"], line["logger"]) == ("unhandled_error", "error", "request")
    assert "ValueError: [email]" in line["exception"]


def test_processors_in_front_of_the_chain_replace_nothing(configured: Configure) -> None:
    def shop(_logger: Any, _method: str, event: Any) -> Any:
        return {**event, "shop": SECRET}

    lines = configured()
    ours = structlog.get_config()["processors"]
    structlog.configure(processors=[shop, *ours])
    log()
    assert lines.only()["shop"] == "[email]"
    assert replaced_in_structlog() == []
    structlog.configure(processors=[*ours[:-1], shop, ours[-1]])
    assert replaced_in_structlog() == ["processors"]
    structlog.configure(processors=ours[-1:], logger_factory=structlog.PrintLoggerFactory())
    assert replaced_in_structlog() == ["processors", "logger_factory"]
