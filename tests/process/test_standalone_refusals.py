"""A start that the package refuses under Uvicorn and `fastapi run`: one line, and no worker is started again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.monitoring.refusal import BOOT_ERROR
from loadtest.programs import free_port
from tests.process.service import ROOT

APPLICATION = """
from app.monitoring import Observability

observability = Observability("shop", namespace="shop").start_worker()

from fastapi import FastAPI

app = observability.instrument(FastAPI())
"""
UNSET = "PROMETHEUS_MULTIPROC_DIR='': want a directory that the workers and the exporter share"
UVICORN = ("uvicorn", "shop:app", "--no-proxy-headers")
# Without the option Uvicorn replaces a worker whose import takes longer than 5 s.
WORKERS = ("--workers", "3", "--timeout-worker-healthcheck", "15")


def ended(directory: Path, command: tuple[str, ...], source: str, **variables: str) -> tuple[int, list[str]]:
    """Run a server until it ends; return its status and the lines that are none of the server's."""
    (directory / "shop.py").write_text(source)
    done = subprocess.run(
        [sys.executable, "-m", *command, "--port", str(free_port())],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    own = ("INFO:", "ERROR:", " ⚡️ Starting FastAPI")
    return done.returncode, [line for line in done.stdout.splitlines() if line.strip() and not line.startswith(own)]


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (UVICORN, BOOT_ERROR),
        # The process manager ends with 0 whatever the status of its workers is.
        ((*UVICORN, *WORKERS), 0),
        # The process manager imports the application too, before its first worker.
        (("fastapi", "run", "shop.py", "--workers", "3"), BOOT_ERROR),
    ],
    ids=["uvicorn", "uvicorn-workers", "fastapi"],
)
def test_without_a_directory_a_server_ends_with_one_line(tmp_path: Path, command: tuple[str, ...], status: int) -> None:
    assert ended(tmp_path, command, APPLICATION) == (status, [UNSET])


def test_workers_of_fastapi_run_end_where_its_process_manager_does_not_import_the_application(tmp_path: Path) -> None:
    # It has no option for the health check, so one of the workers may have been replaced.
    status, lines = ended(tmp_path, ("fastapi", "run", "--entrypoint", "shop:app", "--workers", "3"), APPLICATION)
    assert status == 0
    assert UNSET in lines


@pytest.mark.parametrize(
    ("source", "variables", "line"),
    [
        (APPLICATION.replace('"shop",', '"shop", port=0,'), {}, "port=0: want a number from 1 to 65535"),
        (APPLICATION, {"OTEL_PROPAGATORS": "b4"}, "OTEL_PROPAGATORS='b4': 'b4' is not installed; want none or any of "),
        (APPLICATION, {"OTEL_TRACES_SAMPLER": "some"}, "OTEL_TRACES_SAMPLER='some': want one of always_on, "),
        (
            APPLICATION + "observability.counter('logins', 'L', ['email'])\n",
            {},
            "shop_logins: label 'email' has one value a user or request: ",
        ),
    ],
    ids=["option", "propagator", "sampler", "label"],
)
def test_workers_of_uvicorn_end_with_one_line(
    tmp_path: Path, source: str, variables: dict[str, str], line: str
) -> None:
    given = {
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics"),
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        **variables,
    }
    status, (written,) = ended(tmp_path, (*UVICORN, *WORKERS), source, **given)
    assert status == 0
    assert written.startswith(line)
