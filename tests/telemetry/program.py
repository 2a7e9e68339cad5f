"""The collector's program. Where it cannot be had, the tests that need it are skipped with the reason; CI fails."""

import subprocess
from pathlib import Path

from app.settings import ROOT
from tests.alerts.programs import refuse

SCRIPT = ROOT / "tests" / "telemetry" / "collector.sh"
CACHE = ROOT / "build" / "programs"


def collector_program(cache: Path = CACHE) -> Path:
    """The path of a collector that takes the shipped configuration; the first time this builds one."""
    done = subprocess.run([SCRIPT, cache], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        refuse(done.stderr.strip().rpartition("\n")[2] or f"{SCRIPT.name} ended with status {done.returncode}")
    return ROOT / done.stdout.strip()
