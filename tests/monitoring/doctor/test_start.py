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
from app.monitoring.refusal import BOOT_ERROR
from loadtest.programs import free_port
from tests.monitoring.conftest import Configure
from tests.monitoring.doctor.conftest import INSTRUMENTED, PLAIN, ROOT, Project
from tests.monitoring.multiprocess.simulated import Scene
from tests.process.service import wait_for
from tests.processes import started

WORKERS = 4
DEFECT = "from prometheus_client import Counter\nCounter('logins', 'L', ('email',))\n"
DUBIOUS = "from prometheus_client import Info\nBUILD = Info('build', 'B')\n"
CONFIGURATION = """
from app.monitoring import Observability
globals().update(Observability("shop", namespace="shop").gunicorn("shop:app"))
"""


@contextmanager
def gunicorn(
    project: Project, source: str = "", *, application: str = INSTRUMENTED, **variables: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """Start gunicorn with four workers on an application with `source` behind it."""
    project.write("shop.py", application + source)
    project.write("gunicorn_conf.py", CONFIGURATION)
    with (
        (project.path / "output").open("wb") as log,
        started(
            [sys.executable, "-m", "gunicorn", "-c", "gunicorn_conf.py"],
            cwd=project.path,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "PORT": str(free_port()),
                "METRICS_PORT": str(free_port()),
                "WEB_CONCURRENCY": str(WORKERS),
                "PROMETHEUS_MULTIPROC_DIR": str(project.path / "metrics"),
                **variables,
            },
            stdout=log,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        yield process


def output(project: Project) -> list[str]:
    return (project.path / "output").read_text().splitlines()


def events(project: Project) -> list[dict[str, object]]:
    """Return the lines of the log."""
    return [json.loads(line) for line in output(project) if line.startswith("{")]


def findings(project: Project) -> list[dict[str, object]]:
    return [event for event in events(project) if event["event"] == "doctor_finding"]


def serving(project: Project) -> int:
    """Return how many workers have completed their start."""
    return sum(event["event"] == "Application startup complete." for event in events(project))


def test_a_service_without_findings_logs_none(project: Project) -> None:
    with gunicorn(project) as process:
        wait_for(lambda: serving(project) == WORKERS, "the workers")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert findings(project) == []


def test_an_application_that_is_not_instrumented_is_warned_about_once(project: Project) -> None:
    with gunicorn(project, application=PLAIN) as process:
        wait_for(lambda: serving(project) == WORKERS, "the workers")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    (finding,) = findings(project)
    assert (finding["code"], finding["level"]) == ("not-instrumented", "warning")


def test_an_application_that_is_not_served_does_not_count_as_instrumented(project: Project) -> None:
    other = "from app.monitoring import Observability\nother = Observability.current().instrument(FastAPI())\n"
    with gunicorn(project, other, application=PLAIN) as process:
        wait_for(lambda: serving(project) == WORKERS, "the workers")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    (finding,) = findings(project)
    assert finding["code"] == "not-instrumented"
    assert finding["what"] == "another application than the one that is served is instrumented"


def test_the_master_refuses_a_start_with_one_line(project: Project) -> None:
    (project.path / "file").write_text("")
    directory = str(project.path / "file" / "metrics")
    with gunicorn(project, PROMETHEUS_MULTIPROC_DIR=directory) as process:
        assert process.wait(30) == 1
    (line,) = [line for line in output(project) if not line.startswith("{")]
    assert line.startswith(f"error directory-not-writable: PROMETHEUS_MULTIPROC_DIR={directory!r} ")
    assert "Booting worker" not in " ".join(output(project))


def test_workers_refuse_a_start_with_one_line_and_end_the_service(project: Project) -> None:
    with gunicorn(project, DEFECT) as process:
        assert process.wait(30) == BOOT_ERROR
    # Nothing else: no traceback of a worker or of the master, and no line for each worker.
    (line,) = [line for line in output(project) if not line.startswith("{")]
    assert line.startswith("error forbidden-label: logins ")
    assert "exception" not in {key for event in events(project) for key in event}
    booted = [event for event in events(project) if str(event["event"]).startswith("Booting worker")]
    assert len(booted) <= WORKERS


FAILS = """
import contextlib, os, pathlib, time
@contextlib.asynccontextmanager
async def failing(_):
    pathlib.Path(f"boot-{os.getpid()}").touch()
    while len(list(pathlib.Path().glob("boot-*"))) < 4:
        time.sleep(0.01)
    raise RuntimeError("no database")
    yield
"""


@pytest.mark.parametrize(
    "place", ["app.router.lifespan_context = failing", "import asyncio; asyncio.run(failing(1).__aenter__())"]
)
def test_workers_that_fail_to_boot_at_one_time_end_the_service_without_a_traceback_of_the_master(
    project: Project, place: str
) -> None:
    with gunicorn(project, f"{FAILS}{place}\n") as process:
        assert process.wait(30) == BOOT_ERROR, "\n".join(output(project))
    # The lifespan of each worker, or the import of the first one.
    assert "RuntimeError: no database" in "\n".join(output(project))
    assert [event for event in events(project) if event["event"] == "uncaught_exception"] == []
    assert "HaltServer" not in "\n".join(output(project))


def test_a_reload_with_an_error_leaves_the_old_workers(project: Project) -> None:
    with gunicorn(project) as process:
        wait_for(lambda: serving(project) == WORKERS, "the workers")
        project.write("shop.py", INSTRUMENTED + DEFECT)
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: any(event["event"] == "reload_given_up" for event in events(project)), "the line")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    (line,) = [line for line in output(project) if not line.startswith("{")]
    assert line.startswith("error forbidden-label: ")


def test_warnings_are_logged_once_for_master_and_workers_also_after_a_reload(project: Project) -> None:
    with gunicorn(project, DUBIOUS, OTEL_TRACES_SAMPLER_ARG="0.5") as process:
        wait_for(lambda: serving(project) == WORKERS, "the workers")
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: serving(project) == 2 * WORKERS, "the workers of the reload")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    of_master, of_workers = findings(project)
    assert of_master["code"] == "tracing-without-endpoint"
    assert of_workers["code"] == "lost-kind"
    assert of_workers["level"] == "warning"
    assert {"what", "why", "instead"} <= of_workers.keys()


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
