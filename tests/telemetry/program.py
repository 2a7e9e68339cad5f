"""The collector's program. Where it cannot be had, the tests that need it are skipped with the reason; CI fails."""

import subprocess
from pathlib import Path

import pytest

from app.settings import ROOT
from tests.alerts.programs import refuse

SCRIPT = ROOT / "tests" / "telemetry" / "collector.sh"
CACHE = ROOT / "build" / "programs"
NONE = 1


def collector_program(cache: Path = CACHE) -> Path:
    """Return the path of a collector that accepts the shipped configuration; build it on the first call."""
    done = subprocess.run([SCRIPT, cache], cwd=ROOT, capture_output=True, text=True, check=False)
    reason = done.stderr.strip().rpartition("\n")[2]
    if done.returncode == NONE:
        refuse(reason)
    if done.returncode != 0:
        pytest.fail(reason or f"{SCRIPT.name} ended with status {done.returncode}")
    return ROOT / done.stdout.strip()
