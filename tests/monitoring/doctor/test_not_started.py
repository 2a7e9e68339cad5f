"""The warning of a worker that serves an instrumented application and was never set up."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from app.monitoring.callers import caller
from loadtest.programs import free_port
from tests.monitoring.doctor.conftest import ROOT, Project
from tests.process.service import wait_for
from tests.processes import started

SOURCE = """
from fastapi import FastAPI
from app.monitoring import Observability

app = Observability("shop").instrument(FastAPI())
"""
GUNICORN = ("gunicorn", "-k", "uvicorn_worker.UvicornWorker", "--no-control-socket", "--bind", "127.0.0.1:{port}")
UVICORN = ("uvicorn", "--port", "{port}")
STARTED = "Application startup complete."


@contextmanager
def serving(project: Project, workers: int, *command: str, source: str = SOURCE) -> Iterator[None]:
    """Serve the application until all workers have started."""
    project.write("shop.py", source)
    port = str(free_port())
    with (
        (project.path / "output").open("wb") as output,
        started(
            [sys.executable, "-m", *(word.format(port=port) for word in command), "shop:app"],
            cwd=project.path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        wait_for(lambda: text(project).count(STARTED) == workers, "the workers")
        yield
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def text(project: Project) -> str:
    return (project.path / "output").read_text()


def warnings(project: Project) -> list[str]:
    return [line for line in text(project).splitlines() if "not-started" in line]


@pytest.mark.parametrize("command", [(*GUNICORN, "--workers", "2"), (*UVICORN, "--workers", "2")], ids=lambda it: it[0])
def test_each_worker_that_was_not_set_up_warns_once(project: Project, command: tuple[str, ...]) -> None:
    with serving(project, 2, *command):
        pass
    assert len(warnings(project)) == 2
    assert "metrics count this process only and logs are not redacted" in warnings(project)[0]
    assert "start with gunicorn -c gunicorn_conf.py, or call start_worker()" in warnings(project)[0]


@pytest.mark.parametrize("option", [(), ("--reload",)])
def test_the_only_process_of_a_server_does_not_warn(project: Project, option: tuple[str, ...]) -> None:
    with serving(project, 1, *UVICORN, *option):
        pass
    assert warnings(project) == []


def test_a_worker_that_was_set_up_does_not_warn(project: Project) -> None:
    source = SOURCE.replace('("shop")', f'("shop", metrics_directory={str(project.path / "metrics")!r}).start_worker()')
    with serving(project, 2, *UVICORN, "--workers", "2", source=source):
        pass
    assert warnings(project) == []


TEST = """
import multiprocessing
import gunicorn.arbiter, uvicorn.main, uvicorn_worker
from fastapi.testclient import TestClient
from shop import app

def test():
    with TestClient(app) as client:
        assert client.get("/docs").status_code == 200

if __name__ == "__main__":
    test()
    child = multiprocessing.get_context("spawn").Process(target=test)
    child.start()
    child.join()
    assert child.exitcode == 0
"""


def test_an_application_that_a_test_runs_does_not_warn_in_a_child_either(project: Project) -> None:
    project.write("shop.py", SOURCE)
    project.write("test_shop.py", TEST)
    done = subprocess.run(
        [sys.executable, "test_shop.py"],
        cwd=project.path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "not-started" not in done.stdout + done.stderr


def test_the_function_that_a_call_comes_from_is_found() -> None:
    frame = caller(__name__, "test_the_function_that_a_call_comes_from_is_found")
    assert frame is not None
    assert frame.f_globals is globals()
    assert caller(__name__, "text") is None
