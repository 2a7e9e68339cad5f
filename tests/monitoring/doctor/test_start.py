"""The examination at the start: what it refuses, logs and leaves alone, under a real gunicorn."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fastapi import FastAPI

from app.monitoring.doctor import ExaminationError, Finding, Situation, enforce, examine
from app.monitoring.multiprocess import values
from app.settings import ROOT
from tests.monitoring.conftest import Configure
from tests.monitoring.doctor.conftest import PLAIN, Project
from tests.monitoring.multiprocess.simulated import Scene
from tests.process.service import wait_for
from tests.processes import started

WORKERS = 3
CONFIGURATION = f"""
import os
os.makedirs("metrics")
os.environ["PROMETHEUS_MULTIPROC_DIR"] = os.path.abspath("metrics")
from app.monitoring import doctor, logging
from uvicorn_worker import UvicornWorker

class Worker(UvicornWorker):
    def load_wsgi(self):
        super().load_wsgi()
        doctor.refuse_start(self.wsgi)
        with open("examined", "a") as file:
            file.write("x")

logging.configure(renderer="json", level="INFO", service="shop", version="1", environment="test")
worker_class = Worker
wsgi_app = "shop:app"
bind = "127.0.0.1:0"
workers = {WORKERS}
control_socket_disable = True
"""


@contextmanager
def gunicorn(project: Project, source: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Start gunicorn with workers that examine the application."""
    project.write("shop.py", PLAIN + source)
    project.write("configuration.py", CONFIGURATION)
    with started(
        [sys.executable, "-m", "gunicorn", "-c", "configuration.py"],
        cwd=project.path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        yield process


def test_an_error_ends_the_service_with_one_line(project: Project) -> None:
    source = "from prometheus_client import Counter\nCounter('logins', 'L', ('email',))\n"
    with gunicorn(project, source) as process:
        output = process.communicate(timeout=30)[0].decode()
    # 3 from the first worker that fails. gunicorn ends with 1 when another one fails while it stops for that.
    assert process.returncode in {1, 3}
    assert len([line for line in output.splitlines() if line.startswith("error forbidden-label: ")]) == 1
    assert "ExaminationError" not in output


def test_a_warning_is_logged_once_for_all_workers(project: Project) -> None:
    source = "from prometheus_client import Info\nBUILD = Info('build', 'B')\n"
    examined = project.path / "examined"
    with gunicorn(project, source) as process:
        wait_for(lambda: examined.exists() and len(examined.read_text()) == WORKERS, "the workers' examinations")
        process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=30)[0].decode()
    lines = [json.loads(line) for line in output.splitlines() if "doctor_finding" in line]
    (line,) = lines
    assert line["level"] == "warning"
    assert line["code"] == "lost-kind"
    assert line["instead"]


def test_errors_are_raised_with_a_line_each_after_the_warnings_were_logged(configured: Configure) -> None:
    lines = configured()
    error, other = (Finding(code, "error", "This\nis", "it matters", "that") for code in ("one", "other"))
    with pytest.raises(ExaminationError) as caught:
        enforce([error, Finding("third", "warning", "w", "w", "w"), other])
    assert caught.value.findings == (error, other)
    assert str(caught.value).splitlines() == [
        "error one: This is; it matters; instead: that",
        "error other: This is; it matters; instead: that",
    ]
    assert lines.only()["code"] == "third"


def test_the_examination_leaves_nothing_in_the_metrics(scene: Scene) -> None:
    before = scene.samples()
    examine(FastAPI(), Situation(directory=scene.directory))
    examine(FastAPI(), Situation(directory=scene.directory))
    assert scene.samples() == before
    assert [file.name for file in scene.directory.iterdir() if "probe" in file.name] == []


def test_a_full_directory_is_a_warning_for_a_worker(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "gone"))
    found = examine(FastAPI(), Situation(directory=scene.directory))
    (finding,) = [finding for finding in found if finding.code == "directory-full"]
    assert finding.severity == "warning"
    assert values.process().refused == 0


def test_one_process_without_a_directory_is_a_service_too(project: Project) -> None:
    # Info and functions work there, as the library has them.
    project.write(
        "single.py",
        """
        from fastapi import FastAPI
        from prometheus_client import Gauge, Info
        from app.monitoring.doctor import examine
        Info("build", "B")
        Gauge("size", "S").set_function(lambda: 1)
        assert examine(FastAPI()) == []
        """,
    )
    subprocess.run(
        [sys.executable, "single.py"], cwd=project.path, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True
    )
