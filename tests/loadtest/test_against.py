"""The command for a service that runs already: its refusals. tests/adoption/test_steps.py runs it on a service."""

import os
import subprocess
import sys

import pytest

from app.settings import ROOT
from loadtest.programs import free_port

USERS = "loadtest/locustfile.py"


def against(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command against a port that nobody listens on."""
    nobody = f"http://127.0.0.1:{free_port()}"
    command = ["-m", "loadtest.against", "--url", nobody, "--metrics-url", f"{nobody}/metrics", *arguments]
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: --locustfile"),
        (["--locustfile", "no-such.py"], "--locustfile no-such.py: no such file"),
        (["--locustfile", USERS, "--users", "0"], "--users 0: want 1 to 1000"),
        (["--locustfile", USERS, "--seconds", "86400"], "--seconds 86400: want 1 to 3600"),
        (["--locustfile", USERS], "not run to its end: All connection attempts failed"),
    ],
)
def test_a_run_that_cannot_be_made_is_refused_with_the_reason(arguments: list[str], message: str) -> None:
    done = against(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
