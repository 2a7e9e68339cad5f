"""Each listing of "One signal alone" in docs/adopting.md works without the object and without the other signals."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.settings import ROOT
from tests.adoption import page

# Asks the listing's application within its lifespan, and prints each answer.
ASK = """
import asyncio
import httpx

async def ask():
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://shop") as shop:
        for path in {paths}:
            print((await shop.get(path)).text)

asyncio.run(ask())
"""
LOADED = """
import sys
print(sorted({"prometheus_client", "fastapi", "gunicorn", "opentelemetry.sdk", "uvicorn"} & set(sys.modules)))
from app.monitoring import Observability
print(Observability._current)
"""


def run(file: str, directory: Path, more: str = "") -> str:
    """Return what the listing prints in a process of its own, with `more` after it."""
    program = page.listing(file).replace("prefork_observability", "app.monitoring") + more + LOADED
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", program],
        cwd=ROOT,
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *printed, loaded, current = done.stdout.splitlines()
    assert current == "None"
    return "\n".join([*printed, loaded])


def test_metrics_alone_are_counted_and_served(tmp_path: Path) -> None:
    printed = run("shop/only_metrics.py", tmp_path, ASK.format(paths=["/orders/id", "/metrics"]))
    assert 'orders_total{country="id"} 1.0' in printed
    assert 'http_requests_total{handler="/orders/{country}",method="GET",status="200"} 1.0' in printed
    assert "trace_id" not in printed


def test_logs_alone_are_redacted_lines_of_json(tmp_path: Path) -> None:
    *lines, loaded = run("shop/only_logs.py", tmp_path).splitlines()
    first, second = map(json.loads, lines)
    assert (first["event"], first["country"], first["email"]) == ("order_taken", "id", "[redacted]")
    assert (second["event"], second["logger"]) == ("no answer for [email]", "shop.mail")
    assert loaded == "[]"


def test_traces_alone_have_a_span_for_each_request(tmp_path: Path) -> None:
    printed = run("shop/only_traces.py", tmp_path, ASK.format(paths=["/orders/id"]))
    assert '"name": "GET /orders/{country}"' in printed
    assert '"service.name": "shop"' in printed
    assert "prometheus_client" in printed.splitlines()[-1], "the page says that traces need the metrics module"


@pytest.mark.parametrize(("name", "status"), [("database", "pass"), ("mail", "warn")])
def test_health_alone_runs_checks(tmp_path: Path, name: str, status: str) -> None:
    body, loaded = run("shop/only_health.py", tmp_path, "import json\nprint(json.dumps([fit, body]))\n").splitlines()
    result: list[Any] = json.loads(body)
    assert result[0] is True
    assert result[1]["checks"][name]["status"] == status
    assert loaded == "[]"
