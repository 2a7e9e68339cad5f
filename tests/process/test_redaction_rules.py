"""One set of redaction rules in the master, in each worker and in the exporter process."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from loadtest.programs import free_port
from tests.process.service import PATIENCE, ROOT, Service, service, wait_for

PRIVACY = """
import logging

import structlog

from app.monitoring import NumberForm, RedactionPack


def is_member(digits):
    return sum(map(int, digits)) % 10 == 0


MEMBERS = RedactionPack("members", forms=(NumberForm(r"[0-9]{7}-[0-9](?![0-9])", "[member]", is_member),))


def tell(_=None):
    fields = {"note": "1234567-2 1234567-3 0812-3456-7890", "guest": {"loyalty_number": "gold77"}}
    structlog.get_logger("told").warning("told", **fields)
    logging.getLogger("told").warning("told by stdlib: 1234567-2, loyalty_number=gold77")
"""
MAIN = """
import os

from fastapi import FastAPI
from opentelemetry import trace

from app.monitoring import Observability
from shop.privacy import tell

app = FastAPI()


@app.get("/health/ready")
def ready():
    return {}


@app.get("/tell")
def told():
    tell()
    trace.get_current_span().set_attributes({"app.note": "1234567-2", "app.loyalty_number": "gold77"})
    return os.getpid()


@app.get("/fail")
def fail():
    raise ValueError("member 1234567-2 with loyalty_number=gold77")


Observability.current().instrument(app)
"""
CONFIGURATION = """
from app.monitoring import Observability
from shop.privacy import MEMBERS, tell

observability = Observability("shop", redaction_packs=(MEMBERS,), redacted_keys=("loyalty_number",))
globals().update(
    observability.gunicorn("shop.main:app", collectors=["shop.privacy:tell"], when_ready=tell)
)
"""
NOTE, GUEST = "[member] 1234567-3 0812-3456-7890", {"loyalty_number": "[redacted]"}


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Return a directory with an application, its own pack, and a gunicorn configuration."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "privacy.py").write_text(PRIVACY)
    (tmp_path / "shop" / "main.py").write_text(MAIN)
    (tmp_path / "gunicorn_conf.py").write_text(CONFIGURATION)
    return tmp_path


def path_of(shop: Path) -> str:
    return os.pathsep.join([str(ROOT), str(shop)])


def told(output: str) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in output.splitlines() if line.startswith('{"')]
    return [record for record in records if record["event"] == "told"]


def all_processes_have_told(running: Service) -> bool:
    running.get("/tell")
    exporter = running.exporter()
    wanted = {running.process.pid, *(worker.pid for worker in running.workers()), *([exporter.pid] if exporter else [])}
    return len(wanted) == 4 and wanted <= {record["worker"] for record in told(running.output)}


def test_master_workers_and_exporter_have_the_same_rules(shop: Path) -> None:
    with service(
        shop,
        None,
        shop / "gunicorn_conf.py",
        PYTHONPATH=path_of(shop),
        OTEL_TRACES_EXPORTER="console",
        OTEL_TRACES_SAMPLER_ARG="1",
    ) as running:
        wait_for(lambda: all_processes_have_told(running), "a line of each process")
        assert running.get("/fail").status_code == 500
    for record in told(running.output):
        assert (record["note"], record["guest"]) == (NOTE, GUEST), record
    assert "told by stdlib: [member], loyalty_number=[redacted]" in running.output
    assert "ValueError: member [member] with loyalty_number=[redacted]" in running.output
    assert '"app.loyalty_number": "[redacted]"' in running.output
    assert '"app.note": "[member]"' in running.output
    for private in ("1234567-2", "gold77"):
        assert private not in running.output


@contextmanager
def sidecar(shop: Path, **variables: str) -> Iterator["subprocess.Popen[str]"]:
    """Yield a standalone exporter, as it runs beside Uvicorn workers."""
    (shop / "metrics").mkdir()
    environment = {
        **os.environ,
        "PYTHONPATH": path_of(shop),
        "PROMETHEUS_MULTIPROC_DIR": str(shop / "metrics"),
        **variables,
    }
    command = [sys.executable, "-m", "app.monitoring.exporter", "--port", str(free_port())]
    with subprocess.Popen(
        [*command, "--collect", "shop.privacy:tell"],
        cwd=shop,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(PATIENCE)


def test_an_exporter_on_its_own_takes_its_rules_from_the_environment(shop: Path) -> None:
    with sidecar(shop, REDACTION_PACKS="none", REDACTED_KEYS="loyalty_number") as exporter:
        assert exporter.stdout is not None
        (record,) = next(found for found in map(told, exporter.stdout) if found)
    assert (record["note"], record["guest"]) == ("1234567-2 1234567-3 0812-3456-7890", GUEST)


def test_an_exporter_on_its_own_refuses_a_pack_that_is_not_there(shop: Path) -> None:
    with sidecar(shop, REDACTION_PACKS="atlantis") as exporter:
        assert exporter.wait(PATIENCE) == 1
        assert exporter.stderr is not None
        assert "'atlantis': want indonesia, world, or a RedactionPack" in exporter.stderr.read()
