"""The examination in workers of Uvicorn: before the lifespan, with one line for all of them."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from app.monitoring.doctor import notes
from loadtest.programs import free_port
from tests.monitoring.doctor.conftest import ROOT, Project
from tests.process.service import wait_for
from tests.processes import started

STARTUP_FAILURE = 3
WORKERS = 3
BEFORE = """
import contextlib
from pathlib import Path
from fastapi import FastAPI
from app.monitoring import Observability

observability = Observability("shop", namespace="shop").start_worker()

@contextlib.asynccontextmanager
async def lifespan(app):
    Path("lifespan").write_text("")
    yield

app = FastAPI(lifespan=lifespan)
"""
DEFECT = "from prometheus_client import Counter\nCounter('logins', 'L', ('email',))\n"
DUBIOUS = "from prometheus_client import Info\nBUILD = Info('build', 'B')\n"


@contextmanager
def uvicorn(
    project: Project, source: str, workers: int, *arguments: str, **variables: str
) -> Iterator["subprocess.Popen[bytes]"]:
    project.write("shop.py", BEFORE + source + "observability.instrument(app)\n")
    with (
        (project.path / "output").open("wb") as output,
        started(
            [
                *(sys.executable, "-m", "uvicorn", "shop:app", "--port", str(free_port()), "--workers", str(workers)),
                *arguments,
            ],
            cwd=project.path,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "PROMETHEUS_MULTIPROC_DIR": str(project.path / "metrics"),
                "UVICORN_PROXY_HEADERS": "false",
                **variables,
            },
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        yield process


def lines(project: Project) -> list[str]:
    return (project.path / "output").read_text().splitlines()


def events(project: Project) -> list[dict[str, object]]:
    return [json.loads(line) for line in lines(project) if line.startswith("{")]


def serving(project: Project) -> int:
    return sum(event["event"] == "Application startup complete." for event in events(project))


@pytest.mark.parametrize("workers", [1, WORKERS])
def test_an_error_ends_the_start_with_one_line_and_no_lifespan(project: Project, workers: int) -> None:
    with uvicorn(project, DEFECT, workers) as process:
        status = process.wait(30)
    # The process manager ends with 0 whatever the status of its workers is.
    assert status == (STARTUP_FAILURE if workers == 1 else 0)
    assert sum(line.startswith("error forbidden-label: logins ") for line in lines(project)) == 1
    assert "Traceback" not in " ".join(lines(project))
    assert "exception" not in {key for event in events(project) for key in event}
    assert not (project.path / "lifespan").exists()
    assert serving(project) == 0


def test_a_warning_is_logged_once_at_each_start(project: Project) -> None:
    for _ in range(2):
        with uvicorn(project, DUBIOUS, WORKERS) as process:
            wait_for(lambda: serving(project) == WORKERS, "the workers")
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        (finding,) = [event for event in events(project) if event["event"] == "doctor_finding"]
        assert finding["code"] == "lost-kind"
        assert (project.path / "lifespan").exists()


@pytest.mark.parametrize("workers", [1, WORKERS])
def test_surroundings_end_the_start_before_the_directory_is_made(project: Project, workers: int) -> None:
    with uvicorn(project, "", workers, PROMETHEUS_MULTIPROC_DIR="/proc/metrics") as process:
        status = process.wait(30)
    assert status == (STARTUP_FAILURE if workers == 1 else 0)
    refusals = [line for line in lines(project) if line.startswith("error ")]
    # One that Uvicorn has started in place of a worker that took too long writes the line again.
    assert 1 <= len(refusals) <= 1 + sum(line.endswith(" died") for line in lines(project))
    (refusal,) = set(refusals)
    assert refusal.startswith("error directory-not-writable: PROMETHEUS_MULTIPROC_DIR='/proc/metrics' ")
    assert "Traceback" not in " ".join(lines(project))
    assert not (project.path / "lifespan").exists()


@pytest.mark.parametrize(
    ("arguments", "listens"),
    [(["--host", "127.0.0.1", "--host=0.0.0.0"], "0.0.0.0:"), (["--uds=shop.sock"], "unix:shop.sock")],
)
def test_warnings_about_the_surroundings_are_logged_once_for_all_workers(
    project: Project, arguments: list[str], listens: str
) -> None:
    with uvicorn(project, DUBIOUS, WORKERS, *arguments) as process:
        wait_for(lambda: serving(project) == WORKERS, "the workers")
        (first, *_) = [
            event["worker"] for event in events(project) if event["event"] == "Application startup complete."
        ]
        os.kill(int(str(first)), signal.SIGKILL)
        wait_for(lambda: serving(project) == WORKERS + 1, "its successor")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    found = [event for event in events(project) if event["event"] == "doctor_finding"]
    assert [finding["code"] for finding in found] == ["untrusted-proxies", "lost-kind"]
    assert listens in str(found[0]["what"])


TRUSTED = "10.0.0.7"


@pytest.mark.parametrize(
    ("arguments", "variables", "found"),
    [
        # Uvicorn's own middleware is the only one that reads its option and its variable.
        (["--forwarded-allow-ips", TRUSTED, "--proxy-headers"], {}, ["proxy-headers"]),
        (["--forwarded-allow-ips", TRUSTED], {}, ["untrusted-proxies"]),
        (["--proxy-headers", "--no-proxy-headers"], {"FORWARDED_ALLOW_IPS": TRUSTED}, []),
        ([], {"FORWARDED_ALLOW_IPS": TRUSTED, "UVICORN_PROXY_HEADERS": "1"}, ["proxy-headers"]),
        ([], {"UVICORN_PROXY_HEADERS": "true"}, ["untrusted-proxies", "proxy-headers"]),
        ([], {"UVICORN_PROXY_HEADERS": "", "UVICORN_FORWARDED_ALLOW_IPS": TRUSTED}, ["proxy-headers"]),
        (["--host", "127.0.0.1"], {}, []),
    ],
)
def test_proxies_are_read_from_the_command_then_from_its_variables(
    project: Project, arguments: list[str], variables: dict[str, str], found: list[str]
) -> None:
    with uvicorn(project, "", 1, *arguments, UVICORN_HOST="0.0.0.0", **variables) as process:  # noqa: S104
        wait_for(lambda: serving(project) == 1, "the process")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in {0, -signal.SIGTERM}
    assert [event["code"] for event in events(project) if event["event"] == "doctor_finding"] == found


def test_a_process_without_start_worker_is_not_examined(project: Project) -> None:
    # Tests of an application and single processes: nothing reads their metrics as a sum.
    project.write(
        "alone.py",
        """
        import asyncio
        from fastapi import FastAPI
        from app.monitoring import Observability
        from prometheus_client import Counter

        Counter("logins", "L", ("email",))
        app = Observability("shop").instrument(FastAPI())
        assert "lifespan" not in vars(app.router)
        """,
    )
    subprocess.run(
        [sys.executable, "alone.py"], cwd=project.path, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True
    )


def test_a_refusal_is_the_first_one_again_after_a_while(monkeypatch: pytest.MonkeyPatch, project: Project) -> None:
    monkeypatch.setattr(notes, "_descriptor", os.open(project.path / "notes", os.O_RDWR | os.O_CREAT))
    assert [notes.is_first_refusal(), notes.is_first_refusal()] == [True, False]
    monkeypatch.setattr(notes, "REFUSAL_SECONDS", 0.0)
    assert notes.is_first_refusal()
    os.close(notes._descriptor)
