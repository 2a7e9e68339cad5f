"""The command `doctor module:app`: examine an application in a process of its own, and print the findings.

The process is a session of its own, which ends with the command, whatever threads and children the import has left.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from ..multiprocess import values
from .examination import examine_surroundings
from .finding import Finding
from .situation import Situation

NO_ERRORS, ERRORS, NOT_IMPORTED = 0, 1, 2
STOP_TIMEOUT_SECONDS = 5.0
# The usual name, and the one that gunicorn reads by itself.
CONFIGURATIONS = ("gunicorn_conf.py", "gunicorn.conf.py")
INSPECTION = f"{__package__.rpartition('.')[0]}.inspection"


def run(reference: str, configuration: str | None = None) -> int:
    """Print the configuration that was read and a line for each finding, and return the exit status.

    It is 1 with errors, 2 if the application or the configuration could not be read. `configuration` is a file for
    gunicorn, by default that of the working directory, if there is one.
    """
    signal.signal(signal.SIGTERM, _stop)
    file = configuration or next((name for name in CONFIGURATIONS if Path(name).is_file()), "")
    with tempfile.TemporaryDirectory(prefix="doctor-") as directory:
        result = _inspected(reference, Path(directory), file)
        if "error" in result:
            sys.stderr.write(f"{result['error']}\n")
            return NOT_IMPORTED
        source = f"environment ({result['unused']})" if "unused" in result else file or "environment"
        sys.stdout.write(f"configuration: {source}\n")
        situation = _situation(result, Path(directory))
        findings = [Finding(**fields) for fields in result["findings"]] + examine_surroundings(situation)
    findings.sort(key=lambda finding: finding.severity != "error")
    for finding in findings:
        sys.stdout.write(f"{finding}\n")
    if not findings:
        sys.stdout.write("0 findings\n")
    return ERRORS if any(finding.severity == "error" for finding in findings) else NO_ERRORS


def _situation(result: dict[str, Any], examined: Path) -> Situation:
    """Return the situation of gunicorn's configuration, else of the environment.

    The directory is the service's own where one is known, not the one with which the application was `examined`.
    """
    situation = own = Situation.from_environment()
    if "situation" in result:
        fields = result["situation"]
        situation = Situation(
            **{
                **fields,
                "bind": tuple(fields["bind"]),
                "paths": tuple(fields["paths"]),
                "directory": Path(fields["directory"]),
            }
        )
    if situation.directory in {None, examined}:
        situation = replace(situation, directory=own.directory or examined)
    return situation


def _inspected(reference: str, directory: Path, configuration: str) -> dict[str, Any]:
    """Return the result of the inspection; an `error` where its process ended without one."""
    reader, writer = os.pipe()
    with os.fdopen(reader) as pipe:
        try:
            process = _started(reference, directory, configuration, writer)
        finally:
            os.close(writer)
        with _ending(process):
            line = pipe.readline()
            if not line:
                return {"error": f"{reference} was not examined: its process ended with status {process.wait()}"}
            result: dict[str, Any] = json.loads(line)
            # Its own end comes first: exit hooks of the application may remove files.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_TIMEOUT_SECONDS)
            return result


def _started(reference: str, directory: Path, configuration: str, writer: int) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry or os.getcwd() for entry in sys.path)}  # noqa: PTH109
    if environment.get(values.DIRECTORY):
        # Set from the start, as it will be for the service, but not to the service's directory: it may be running.
        environment[values.DIRECTORY] = str(directory)
    return subprocess.Popen(
        [sys.executable, "-m", INSPECTION, reference, str(directory), configuration, str(writer)],
        stdin=subprocess.DEVNULL,
        # Standard output is for findings: redirect what the application prints at its import.
        stdout=sys.stderr.fileno(),
        env=environment,
        pass_fds=[writer],
        start_new_session=True,
    )


@contextmanager
def _ending(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Afterwards end the process and the children that it has left in its session."""
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 -- the signature is Python's
    raise SystemExit(128 + number)
