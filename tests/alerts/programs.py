"""The programs that read what ships. Where one is missing its tests are skipped with a reason; in CI they fail."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

PACKAGES = {"promtool": "prometheus", "amtool": "prometheus-alertmanager"}


def require(name: str) -> str:
    """Return the path of program `name`. If it is missing, skip the test, or fail it if CI=true is set."""
    path = shutil.which(name)
    if path is None:
        refuse(f"{name} is not on PATH: install {PACKAGES.get(name, name)}")
    return path


def refuse(reason: str) -> NoReturn:
    """Skip the test for `reason`; fail it where CI=true is set."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def run(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run program `name`; its two outputs come as one text in `stdout`."""
    command = [require(name), *map(str, arguments)]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=60)
