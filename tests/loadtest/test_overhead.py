"""The assembly `full` of the overhead benchmark is the package as its users have it. Nothing here looks at a time."""

import json
import os
import subprocess
import sys
from pathlib import Path

from app.monitoring.multiprocess.aggregate import Aggregate
from app.settings import ROOT
from tests.process.service import total

THREE_REQUESTS = """
import asyncio
from loadtest.benchmarks.overhead import _requests
from loadtest.benchmarks.overhead_apps import make

async def send():
    app = make("full", 31, 0.0, "http://127.0.0.1:1")
    async with app.router.lifespan_context(app):
        await _requests(app, 3)

asyncio.run(send())
"""


def test_the_package_counts_and_logs_each_request_of_the_full_assembly(tmp_path: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    command = [sys.executable, "-c", THREE_REQUESTS]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["route"] for line in lines if line["event"] == "request"] == ["/api/v1/places/{slug}"] * 3
    assert "doctor_finding" not in done.stdout
    exposition = Aggregate(tmp_path).exposition("")[0].decode()
    assert total(exposition, "http_requests_total", handler="/api/v1/places/{slug}") == 3
    assert total(exposition, "process_cpu_seconds_total", worker="0") > 0  # by a task of the lifespan
