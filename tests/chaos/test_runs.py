"""Short chaos runs with seeds of their own: `make chaos` makes one last a quarter of an hour."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.settings import ROOT

# Longer than a run may take on a busy machine: it starts no action after SECONDS, and waits for each to settle.
SECONDS, PATIENCE_SECONDS = 12, 300


def run(seed: int, *more: str) -> subprocess.CompletedProcess[str]:
    """Play a short run as `make chaos` does."""
    return subprocess.run(
        [sys.executable, "-m", "loadtest.chaos", "--seconds", str(SECONDS), "--seed", str(seed), *more],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def directory_of(done: subprocess.CompletedProcess[str]) -> Path:
    """Return the directory of a run's results."""
    return Path(done.stdout.rpartition("results: ")[2].strip()).parent


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_short_run_loses_nothing(seed: int) -> None:
    done = run(seed)
    assert done.returncode == 0, done.stdout + done.stderr
    directory = directory_of(done)
    summary = json.loads((directory / "summary.json").read_text())
    assert (summary["seed"], summary["verdict"], summary["violations"]) == (seed, "passed", [])
    assert summary["actions"], "no action was taken"
    assert summary["requests"]["acknowledged_writes"] > 0
    assert (directory / "chart.svg").read_text().startswith("<svg ")


def test_a_wrong_argument_is_refused() -> None:
    done = run(1, "--only", "explode")
    assert done.returncode == 2
    assert "--only 'explode' is no action: want one of reload, " in done.stderr
