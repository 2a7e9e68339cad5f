"""Schemathesis finds nothing in the service: a short form of `make fuzz`, in this process."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import uvicorn
from fastapi import FastAPI

from app.main import create_app
from app.settings import Settings
from loadtest.programs import free_port
from tests.conftest import ADMIN_KEY
from tests.fuzz import __main__ as command
from tests.fuzz.fuzzing import LIMITS, fuzz
from tests.process.service import wait_for

RATES = {name.lower(): rate for name, rate in LIMITS.items()}


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Serve `app` in a thread, on an event loop of its own; yield its address."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started, "the server")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)


def test_every_operation_does_what_the_document_says(make_settings: Callable[..., Settings]) -> None:
    app = create_app(make_settings(log_level="ERROR", **RATES))
    with served(app) as url:
        outcome = fuzz(url, seed=1, examples=1, key=ADMIN_KEY)
    assert outcome.findings == []
    operations = {f"{method.upper()} {path}" for path, item in app.openapi()["paths"].items() for method in item}
    assert outcome.served() == operations
    assert not any(status in {429, 503} for _, status in outcome.responses)


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--cases", "0"], "--cases 0: want 1 or more"), (["--seed", "-1"], "--seed -1: want 0 to 4294967295")],
)
def test_a_wrong_argument_is_refused(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        command.main(words)
    assert message in capsys.readouterr().err
