"""Schemathesis finds nothing in the service: a short form of `make fuzz`.

Schemathesis runs in a process of its own: pytest would rewrite the assertions of its several hundred modules.
"""

import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from app.main import create_app
from app.settings import ROOT, Settings
from loadtest.programs import free_port
from tests.conftest import ADMIN_KEY
from tests.process.service import wait_for

UNLIMITED = "1000000/second"


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


def fuzz(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command of `make fuzz`."""
    command = [sys.executable, "-m", "tests.fuzz", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)


def test_every_operation_does_what_the_document_says(make_settings: Callable[..., Settings]) -> None:
    rates = dict.fromkeys(("rate_limit_writes", "rate_limit_ai", "rate_limit_keys"), UNLIMITED)
    app = create_app(make_settings(log_level="ERROR", **rates))
    with served(app) as url:
        words = {"--url": url, "--key": ADMIN_KEY, "--seed": "1", "--cases": "1", "--examples": "1"}
        done = fuzz(*(word for pair in words.items() for word in pair))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^seed 1: \d+ requests, 0 findings, \d+ s$", done.stdout, re.MULTILINE)
    answers = re.findall(r"^ +\d+ ([A-Z]+ /.*) (\d{3})$", done.stdout, re.MULTILINE)
    operations = {f"{method.upper()} {path}" for path, item in app.openapi()["paths"].items() for method in item}
    assert {operation for operation, status in answers if status in {"200", "201"}} == operations
    assert not {"429", "503"} & {status for _, status in answers}


def test_a_wrong_argument_is_refused() -> None:
    done = fuzz("--seed", "-1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("error: --seed -1: want 0 to 4294967295\n")
