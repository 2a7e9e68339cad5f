"""gunicorn's command line and GUNICORN_CMD_ARGS replace settings after the configuration file has been read."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtest.programs import free_port
from tests.process.service import ROOT, total, wait_for
from tests.processes import started

CONFIGURATION = """
from app.monitoring import Observability

globals().update(Observability("shop", namespace="shop", workers=2, graceful_timeout=20).gunicorn("shop:app"))
"""
APPLICATION = """
import os
from fastapi import FastAPI
from app.monitoring import Observability

app = FastAPI()


@app.get("/options")
async def options() -> dict[str, object]:
    found = Observability.current().options
    shown = ("workers", "port", "graceful_timeout", "worker_timeout", "forwarded_allow_ips")
    return {"parent": os.getppid(), "pid": os.getpid(), **{name: getattr(found, name) for name in shown}}


Observability.current().instrument(app)
"""


@contextmanager
def gunicorn(path: Path, *arguments: str, **environment: str) -> Iterator["subprocess.Popen[bytes]"]:
    (path / "gunicorn_conf.py").write_text(CONFIGURATION)
    (path / "shop.py").write_text(APPLICATION)
    with (
        (path / "output").open("wb") as output,
        started(
            [sys.executable, "-m", "gunicorn", "-c", "gunicorn_conf.py", *arguments],
            cwd=path,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "PORT": str(free_port()),
                "PROMETHEUS_MULTIPROC_DIR": str(path / "metrics"),
                **environment,
            },
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        yield process


WORKER = "want a subclass of app.monitoring.server.worker.Worker"


@pytest.mark.parametrize(
    ("arguments", "environment", "line"),
    [
        (["-k", "sync"], {}, f"worker_class='sync': {WORKER}"),
        (["-k", "gthread"], {}, f"worker_class='gthread': {WORKER}"),
        ([], {"GUNICORN_CMD_ARGS": "-k uvicorn_worker.UvicornWorker"}, f"uvicorn_worker.UvicornWorker': {WORKER}"),
        (["--logger-class", "gunicorn.glogging.Logger"], {}, "want a subclass of app.monitoring.server.logger."),
        (["--preload"], {}, "preload_app=True: want False"),
        (["-w", "0"], {}, "workers=0: want a number from 1 to 256"),
        (["--timeout", "0"], {}, "timeout=0: worker_timeout=0: want a number from 1 to 3600"),
        (["--bind", "127.0.0.1:9390"], {"METRICS_PORT": "9390"}, "METRICS_PORT=9390: want a port other than PORT=9390"),
        ([], {"STOP_DELAY": "4.3"}, "STOP_DELAY=4.3: want at most 4.2, 0.21 of GRACEFUL_TIMEOUT=20"),
        (
            ["--graceful-timeout", "5"],
            {"STOP_DELAY": "3"},
            "STOP_DELAY=3: want at most 1.05, 0.21 of GRACEFUL_TIMEOUT",
        ),
    ],
)
def test_an_argument_or_a_variable_that_cannot_be_honoured_ends_the_start_with_one_line(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], line: str
) -> None:
    with gunicorn(tmp_path, *arguments, **environment) as process:
        status = process.wait(30)
    (written,) = (tmp_path / "output").read_text().splitlines()
    assert line in written
    assert status == 1
    assert not (tmp_path / "metrics").exists()


def test_other_arguments_hold_for_application_and_metrics_also_after_a_reload(tmp_path: Path) -> None:
    port, metrics_port = free_port(), free_port()
    # The command line replaces the variable of gunicorn.
    environment = {"METRICS_PORT": str(metrics_port), "GUNICORN_CMD_ARGS": "-w 1 --graceful-timeout 7 --timeout 9"}
    arguments = ["-w", "3", "--bind", f"127.0.0.1:{port}", "--forwarded-allow-ips", "10.0.0.7,10.1.0.0/16"]
    with gunicorn(tmp_path, *arguments, **environment) as process:
        expected = {
            "parent": process.pid,
            "workers": 3,
            "port": port,
            "graceful_timeout": 7,
            "worker_timeout": 9,
            "forwarded_allow_ips": "10.0.0.7,10.1.0.0/16",
        }
        before: set[int] = set()
        for reload in (False, True):
            if reload:
                before = workers(tmp_path)
                process.send_signal(signal.SIGHUP)
            wait_for(lambda: len(workers(tmp_path) - before) == 3, "three workers")  # noqa: B023 -- called at once
            found = wait_for(lambda: answer_of_others(port, before), "an answer of one of them")  # noqa: B023
            assert found.items() >= expected.items()
            text = httpx.get(f"http://127.0.0.1:{metrics_port}/metrics", timeout=10).text
            assert total(text, "shop_workers", state="configured") == 3
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def workers(path: Path) -> set[int]:
    """Return the workers that have started."""
    lines = map(json.loads, (path / "output").read_text().splitlines())
    return {line["worker"] for line in lines if line["event"] == "Application startup complete."}


def answer_of_others(port: int, workers: set[int]) -> dict[str, Any] | None:
    """Return the options in a worker that is none of `workers`, if one of them answers."""
    try:
        found: dict[str, Any] = httpx.get(f"http://127.0.0.1:{port}/options", timeout=10).json()
    except httpx.TransportError:
        return None
    return None if found["pid"] in workers else found
