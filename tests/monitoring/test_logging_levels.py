"""Levels: LOG_LEVEL for our loggers and the standard library's, and those of the servers."""

import logging
import sys
from collections.abc import Callable
from typing import Any

import pytest
from gunicorn.config import Config

from app.monitoring.logging import SERVERS, adopt_server_loggers, get_logger
from app.monitoring.server.logger import GunicornLogger
from tests.monitoring.conftest import Configure


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


@pytest.mark.parametrize("make", [get_logger, logging.getLogger], ids=["ours", "standard library"])
@pytest.mark.parametrize(
    ("name", "lowest"),
    [
        ("other", "warning"),
        ("library", "debug"),
        ("library.part.x", "debug"),
        ("library.part", "error"),
        ("li", "error"),
    ],
)
def test_a_level_of_its_own_holds_for_a_logger_and_those_below_it(
    configured: Configure, make: Callable[[str], Any], name: str, lowest: str
) -> None:
    lines = configured(level="WARNING,library=DEBUG,library.part=ERROR,library.part.x=debug,li=ERROR")
    levels = ["debug", "info", "warning", "error", "critical"]
    for level in levels:
        getattr(make(name), level)("event")
    assert [line["level"] for line in lines.all()] == levels[levels.index(lowest) :]


def test_a_bound_logger_keeps_its_level(configured: Configure) -> None:
    lines = configured(level="ERROR,ours=INFO")
    get_logger("ours").bind(a=1).info("event")
    get_logger("others").bind(a=1).info("event")
    assert lines.only()["a"] == 1


def test_the_servers_loggers_take_levels_too_and_keep_them(configured: Configure) -> None:
    lines = configured(level="INFO,uvicorn.error=WARNING,gunicorn=ERROR,httpx=INFO")
    logging.getLogger("uvicorn.error").setLevel(logging.DEBUG)  # as uvicorn_worker does
    adopt_server_loggers()
    assert GunicornLogger(Config()).loglevel == logging.ERROR
    for name in ("uvicorn", "uvicorn.error", "gunicorn.error", "httpx", "httpcore"):
        logging.getLogger(name).info("event")
    assert [line["logger"] for line in lines.all()] == ["uvicorn", "httpx"]


def test_a_new_set_up_forgets_the_levels_of_the_old_one(configured: Configure) -> None:
    configured(level="INFO,library=ERROR")
    lines = configured()
    logging.getLogger("library").warning("event")
    assert lines.only()["event"] == "event"


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
    adopt_server_loggers()  # as a worker does after uvicorn has set up its own
    assert not logging.getLogger("uvicorn.access").hasHandlers()  # what uvicorn asks before it puts a line together


def test_the_servers_loggers_write_through_the_root_once(configured: Configure) -> None:
    lines = configured()
    for name in SERVERS:
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
