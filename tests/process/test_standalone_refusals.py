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
WORKERS = ("--workers", "3")


def ended(directory: Path, command: tuple[str, ...], source: str, **variables: str) -> tuple[int, list[str]]:
    """Run a server until it ends; return its status and the lines that are none of the server's.

    A worker that the server has started in place of one that took too long may repeat the last line.
    """
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
    own = (
        "INFO",
        "ERROR",
        " ⚡️ Starting FastAPI",
        " 🐍 Using import string",
        " 🌐 Server started",
        "    Doc",
        "  Logs:",
    )
    lines = [line for line in done.stdout.splitlines() if line.strip() and not line.startswith(own)]
    replaced = done.stdout.count(" died")
    if replaced and 1 < len(lines) <= 1 + replaced:
        lines = list(dict.fromkeys(lines))
    return done.returncode, lines


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (UVICORN, BOOT_ERROR),
        # The process manager ends with 0 whatever the status of its workers is.
        ((*UVICORN, *WORKERS), 0),
        # The process manager imports the application too, before its first worker.
        (("fastapi", "run", "shop.py", *WORKERS), BOOT_ERROR),
        (("fastapi", "run", "--entrypoint", "shop:app", *WORKERS), 0),
    ],
    ids=["uvicorn", "uvicorn-workers", "fastapi", "fastapi-workers"],
)
def test_without_a_directory_a_server_ends_with_one_line(tmp_path: Path, command: tuple[str, ...], status: int) -> None:
    assert ended(tmp_path, command, APPLICATION) == (status, [UNSET])


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
    status, written = ended(tmp_path, (*UVICORN, *WORKERS), source, **given)
    assert status == 0
    assert len(written) == 1, written
    assert written[0].startswith(line)


def test_a_worker_that_is_told_to_stop_while_it_imports_the_application_writes_nothing(tmp_path: Path) -> None:
    # Uvicorn handles signals during the import. The first worker refuses meanwhile, and the others are told once.
    stopped = """
import multiprocessing, time
from app.monitoring.callers import caller

if not multiprocessing.current_process().name.endswith("-1"):
    server = caller("uvicorn.server", "serve").f_locals["self"]
    while not server.should_exit:
        time.sleep(0.01)
"""
    source = stopped + APPLICATION.replace('"shop",', '"shop", port=0,')
    written = ended(tmp_path, (*UVICORN, *WORKERS), source, PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "metrics"))
    assert written == (0, ["port=0: want a number from 1 to 65535"])
