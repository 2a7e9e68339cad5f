"""Errors at the import of the application, and settings that gunicorn does not get, under a real gunicorn."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.monitoring.refusal import BOOT_ERROR
from loadtest.programs import free_port
from tests.process.service import ROOT

APP_LOAD_ERROR = 4
CONFIGURATION = """
from app.monitoring import Observability
globals().update(Observability("shop", namespace="shop").gunicorn("{application}"))
"""
UNUSED = """
from app.monitoring import Observability
Observability("shop", namespace="shop").gunicorn("shop:app")
wsgi_app = "shop:app"
"""
INSTRUMENTED = """
from fastapi import FastAPI
from app.monitoring import Observability
app = Observability.current().instrument(FastAPI())
"""
FAILS = "def connect():\n    raise RuntimeError('no database')\nconnect()\n"


def ended(directory: Path, configuration: str, source: str) -> "subprocess.CompletedProcess[str]":
    """Run gunicorn with two workers until it ends."""
    (directory / "shop.py").write_text(source)
    (directory / "gunicorn_conf.py").write_text(configuration)
    return subprocess.run(
        [sys.executable, "-m", "gunicorn", "-c", "gunicorn_conf.py"],
        cwd=directory,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PORT": str(free_port()),
            "METRICS_PORT": str(free_port()),
            "WEB_CONCURRENCY": "2",
            "PROMETHEUS_MULTIPROC_DIR": str(directory / "metrics"),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def exceptions(done: "subprocess.CompletedProcess[str]") -> list[str]:
    events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return [event["exception"] for event in events if event["event"] == "Exception in worker process"]


@pytest.mark.parametrize(
    ("application", "source", "line", "status"),
    [
        ("no_shop.main:app", "", "'no_shop.main:app': No module named 'no_shop': want a module that ", APP_LOAD_ERROR),
        ("shop:no_app", "", "Failed to find attribute 'no_app' in 'shop'.", APP_LOAD_ERROR),
        (
            "shop:app",
            "from app.monitoring import Observability\nObservability('shop', port=0)\n",
            "port=0: want a number from 1 to 65535",
            BOOT_ERROR,
        ),
        (
            "shop:app",
            "from app.monitoring import Observability\nObservability.current().counter('a', 'A', ['email'])\n",
            "shop_a: label 'email' has one value a user or request: put it into a log line",
            BOOT_ERROR,
        ),
        ("shop:app", "import sys\nsys.exit('DATABASE_URL is not set')\n", "DATABASE_URL is not set", BOOT_ERROR),
    ],
    ids=["module", "attribute", "option", "label", "exit"],
)
def test_an_error_of_the_configuration_is_one_line_and_ends_the_service(
    tmp_path: Path, application: str, source: str, line: str, status: int
) -> None:
    done = ended(tmp_path, CONFIGURATION.format(application=application), source)
    assert done.returncode == status
    (written,) = done.stderr.splitlines()
    assert written.startswith(line)
    assert exceptions(done) == []


def test_two_workers_that_end_at_the_same_time_end_the_service_with_their_status(tmp_path: Path) -> None:
    blocked = "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])"
    source = f"import os, signal, time\n{blocked}\ntime.sleep(0.3)\nos._exit({BOOT_ERROR})\n"
    done = ended(tmp_path, CONFIGURATION.format(application="shop:app"), source)
    assert done.returncode == BOOT_ERROR
    events = [json.loads(line)["event"] for line in done.stdout.splitlines()]
    assert sum(f"exited with code {BOOT_ERROR}" in event for event in events) == 2
    assert events[-1] == "Reason: Worker failed to boot."
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("source", "first", "last"),
    [
        (FAILS, 'shop.py", line 3, in <module>', "RuntimeError: no database"),
        ("def (:\n", 'shop.py", line 1', "SyntaxError: invalid syntax"),
        ("import no_library\n", 'shop.py", line 1, in <module>', "ModuleNotFoundError: No module named 'no_library'"),
    ],
    ids=["error", "syntax", "dependency"],
)
def test_a_traceback_has_the_functions_of_the_application_only_and_is_logged_once(
    tmp_path: Path, source: str, first: str, last: str
) -> None:
    done = ended(tmp_path, CONFIGURATION.format(application="shop:app"), source)
    assert (done.returncode, done.stderr) == (BOOT_ERROR, "")
    (trace,) = exceptions(done)
    head = next(line for line in trace.splitlines() if line.startswith("  File "))
    assert head.endswith(first)
    assert trace.splitlines()[-1] == last
    assert "gunicorn" not in trace.replace(str(tmp_path), "")


def test_settings_that_the_file_does_not_use_refuse_the_start_before_a_worker(tmp_path: Path) -> None:
    done = ended(tmp_path, UNUSED, INSTRUMENTED)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("[")]
    assert line.startswith("error unused-settings: ")
    assert line.endswith('instead: globals().update(Observability(...).gunicorn("module:app")) in gunicorn_conf.py')
    assert "Booting worker" not in done.stderr


@pytest.mark.parametrize("worker", ["sync", "uvicorn_worker.UvicornWorker"])
def test_a_worker_of_another_class_refuses_the_start_where_the_file_has_a_hook_of_its_own(
    tmp_path: Path, worker: str
) -> None:
    hook = f"def on_starting(server): ...\nworker_class = {worker!r}\ncontrol_socket_disable = True\n"
    done = ended(tmp_path, UNUSED + hook, INSTRUMENTED)
    assert done.returncode == BOOT_ERROR
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("[")]
    assert line.startswith("error unused-settings: ")
