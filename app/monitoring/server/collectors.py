"""The check of the exporter's collectors before the start: a wrong one would end each exporter that is started."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from ..multiprocess.values import DIRECTORY
from .master import EXPORTER, StartError

HOST_COLLECTOR = f"{__package__.rpartition('.')[0]}.host:collect"


def check_collectors(collectors: Sequence[str]) -> None:
    """Raise StartError unless each collector is the `module:function` of a function that can be imported.

    A process of its own imports them: the master's modules are the workers' too, and are not loaded again at SIGHUP.
    """
    if isinstance(collectors, str) or not all(isinstance(one, str) for one in collectors):
        raise StartError(f"collectors={collectors!r}: want a list of module:function")
    given = [one for one in collectors if one != HOST_COLLECTOR]
    if not given:
        return
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)  # noqa: PTH109
    with tempfile.TemporaryDirectory(prefix="collectors-") as directory:
        checked = subprocess.run(
            [sys.executable, "-m", EXPORTER, "--check", *(f"--collect={one}" for one in given)],
            # Metrics of their modules must not be in the service's directory.
            env={**os.environ, "PYTHONPATH": path, DIRECTORY: directory},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    if checked.returncode:
        *_, reason = ["", *checked.stderr.strip().splitlines()]
        raise StartError(f"collectors={list(collectors)!r}: {reason or f'status {checked.returncode}'}")
