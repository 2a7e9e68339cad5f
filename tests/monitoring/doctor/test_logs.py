"""Findings about logging that the application sets up itself, after the package."""

import json
import signal

import httpx
import pytest

from loadtest.programs import free_port
from tests.monitoring.doctor import test_start, test_start_without_gunicorn
from tests.monitoring.doctor.conftest import PLAIN, Doctor, Examine, Project
from tests.process.service import wait_for

HANDLER = "'h': {'class': 'logging.StreamHandler'}"
STRUCTLOG = "import structlog\nfrom structlog.processors import add_log_level, JSONRenderer\n"


def dict_config(settings: str, *, keep: bool = True) -> str:
    return (
        "from logging.config import dictConfig\n"
        f"dictConfig({{'version': 1, 'disable_existing_loggers': {not keep}, 'handlers': {{{HANDLER}}}, {settings}}})\n"
    )


@pytest.mark.parametrize(
    "source",
    [
        dict_config("'root': {'handlers': ['h']}"),
        "import logging\nlogging.basicConfig(force=True)\n",
        "import logging\nclass Own(logging.Handler): ...\nlogging.basicConfig(handlers=[Own()], force=True)\n",
        "import logging\nlogging.getLogger().handlers.clear()\n",
    ],
)
def test_a_replaced_handler_of_the_root_logger_is_found(doctor: Doctor, source: str) -> None:
    outcome = doctor(PLAIN + source)
    assert outcome.lines[0].startswith("warning root-handler: the handlers of the root logger were replaced by ")
    assert outcome.status == 0


@pytest.mark.parametrize(
    ("source", "named"),
    [
        (dict_config("'loggers': {'shop': {'handlers': ['h']}}"), "shop (StreamHandler)"),
        (dict_config("'loggers': {'uvicorn.error': {'handlers': ['h']}}"), "uvicorn.error (StreamHandler)"),
        ("import logging\nlogging.getLogger('a.b').addHandler(logging.FileHandler('log'))\n", "a.b (FileHandler)"),
        ("import logging\nlogging.getLogger().addHandler(logging.StreamHandler())\n", "root (StreamHandler)"),
        (
            "from logging.handlers import *\nimport logging\nlogging.getLogger('a').addHandler(QueueHandler(None))",
            "a (QueueHandler)",
        ),
        (
            "import logging\nfrom rich.logging import RichHandler\nlogging.getLogger('a').addHandler(RichHandler())\n",
            "a (RichHandler)",
        ),
    ],
)
def test_a_handler_that_writes_by_itself_is_found_at_any_logger(doctor: Doctor, source: str, named: str) -> None:
    assert named in doctor(PLAIN + source).only("logger-handler")


def test_loggers_of_the_server_that_were_disabled_are_found(doctor: Doctor) -> None:
    line = doctor(PLAIN + dict_config("'loggers': {'shop': {'level': 'INFO'}}", keep=False)).only("disabled-logger")
    assert "uvicorn.error" in line
    assert "uvicorn.access" not in line


@pytest.mark.parametrize(
    ("configured", "replaced"),
    [
        ("processors=[add_log_level, JSONRenderer()]", "processors;"),
        ("logger_factory=structlog.PrintLoggerFactory()", "logger_factory;"),
        (
            "processors=[add_log_level, JSONRenderer()], logger_factory=structlog.PrintLoggerFactory()",
            "processors and logger_factory;",
        ),
        ("processors=[*structlog.get_config()['processors'], JSONRenderer()]", "processors;"),
    ],
)
def test_a_replaced_configuration_of_structlog_is_found(doctor: Doctor, configured: str, replaced: str) -> None:
    line = doctor(f"{STRUCTLOG}structlog.configure({configured})\n{PLAIN}").only("structlog-configuration")
    assert f"has replaced {replaced}" in line


@pytest.mark.parametrize(
    ("sinks", "named"),
    [
        ("", "<stderr>"),
        ("logger.remove(); logger.add('log.txt')", "log.txt"),
        ("logger.remove(); logger.add(print)", "print"),
        ("from app.monitoring.logging import adopt_loguru; adopt_loguru(); logger.add('log.txt')", "log.txt"),
    ],
)
def test_sinks_of_loguru_that_write_are_found(doctor: Doctor, sinks: str, named: str) -> None:
    assert named in doctor(f"{PLAIN}from loguru import logger\n{sinks}\n").only("loguru-sinks")


@pytest.mark.parametrize(
    "source",
    [
        f"{STRUCTLOG}structlog.configure(processors=[add_log_level, *structlog.get_config()['processors']])\n",
        f"{STRUCTLOG}structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(20))\n",
        "import logging\nlogging.basicConfig(level='DEBUG')\n",
        "import logging\nlogging.getLogger('a').addHandler(logging.NullHandler())\n",
        "import logging\nclass Own(logging.Handler): ...\nlogging.getLogger('a').addHandler(Own())\n",
        dict_config("'loggers': {'shop': {'level': 'DEBUG'}}"),
        "from app.monitoring.logging import adopt_loguru\nadopt_loguru()\n",
        "import sentry_sdk\nsentry_sdk.init(debug=False)\n",
    ],
)
def test_what_keeps_redaction_is_not_found(doctor: Doctor, source: str) -> None:
    outcome = doctor(PLAIN + source)
    assert outcome.lines == ["0 findings"], outcome.errors


def test_a_factory_is_examined_after_its_call(project: Project, examine: Examine) -> None:
    project.write(
        "shop.py",
        "import logging\nfrom fastapi import FastAPI\n\ndef create():\n"
        "    logging.basicConfig(force=True)\n    return FastAPI()\n",
    )
    outcome = examine("shop:create()")
    assert [line.split(":")[0] for line in outcome.lines] == ["warning root-handler", "warning logger-handler"]


ROUTE = """
@app.get("/login")
async def login():
    structlog.get_logger("shop").info("login", email="wayan@example.com", password="hunter2")
    return {}

@app.get("/broken")
async def broken():
    raise LookupError("wayan@example.com")
"""
CONFIGURE = "structlog.configure(processors=[add_log_level, JSONRenderer()], cache_logger_on_first_use=True)\n"
IN_LIFESPAN = f"""
import contextlib
@contextlib.asynccontextmanager
async def lifespan(_):
    {CONFIGURE}    yield
app.router.lifespan_context = lifespan
"""
INSTRUMENT = "from app.monitoring import Observability\nObservability.current().instrument(app)\n"


@pytest.mark.parametrize(("place", "codes"), [(CONFIGURE, ["structlog-configuration"]), (IN_LIFESPAN, [])])
def test_under_gunicorn_requests_are_served_and_lines_redacted(project: Project, place: str, codes: list[str]) -> None:
    port = str(free_port())
    with test_start.gunicorn(
        project, application=PLAIN + STRUCTLOG + place + ROUTE + INSTRUMENT, PORT=port, WEB_CONCURRENCY="1"
    ) as process:
        wait_for(lambda: test_start.serving(project) == 1, "the worker")
        assert httpx.get(f"http://127.0.0.1:{port}/login").status_code == httpx.codes.OK
        assert httpx.get(f"http://127.0.0.1:{port}/broken").status_code == httpx.codes.INTERNAL_SERVER_ERROR
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert [event["code"] for event in test_start.findings(project)] == codes
    lines = {str(event["event"]): event for event in test_start.events(project)}
    assert (lines["login"]["password"], lines["login"]["level"]) == ("[redacted]", "info")
    assert lines["unhandled_error"]["level"] == "error"
    assert "wayan@example.com" not in json.dumps(test_start.output(project))


def test_under_uvicorn_a_warning_is_logged_once(project: Project) -> None:
    source = STRUCTLOG + CONFIGURE
    with test_start_without_gunicorn.uvicorn(project, source, 2) as process:
        wait_for(lambda: test_start_without_gunicorn.serving(project) == 2, "the workers")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    events = test_start_without_gunicorn.events(project)
    assert [event["code"] for event in events if event["event"] == "doctor_finding"] == ["structlog-configuration"]
