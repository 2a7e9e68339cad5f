"""`make test-image` reports missing prerequisites first: one a line, with the reason and the command that gets it."""

import os
import subprocess
from pathlib import Path

import pytest

from app.embedded_servers import AS_NOBODY
from app.settings import ROOT

SCRIPT = ROOT / "tests" / "deploy" / "images" / "build.sh"
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="says first that it wants root")


def require(path: Path, **environment: str) -> tuple[int, list[str]]:
    """Exit status and lines of `build.sh require` with nothing in its environment but this."""
    done = subprocess.run(
        ["/bin/bash", SCRIPT, "require"],
        env={"PATH": str(path), **environment},
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr.splitlines()


def install(directory: Path, *programs: str, status: int = 0) -> Path:
    """Install programs that exit with `status` whatever the arguments; return the directory."""
    for name in programs:
        (directory / name).write_text(f"#!/bin/sh\nexit {status}\n")
        (directory / name).chmod(0o755)
    return directory


@AS_ROOT
def test_all_that_is_missing_is_said_at_once(tmp_path: Path) -> None:
    status, lines = require(tmp_path)
    assert status == 1
    assert [line.split()[0] for line in lines] == ["docker", "dockerd", "debootstrap"]
    assert "apt-get install docker.io" in lines[0]
    assert "apt-get install debootstrap" in lines[2]


@AS_ROOT
def test_where_apt_is_nothing_is_missing_since_the_command_installs_it(tmp_path: Path) -> None:
    assert require(install(tmp_path, "apt-get")) == (0, [])


@AS_ROOT
def test_with_the_programs_there_apt_is_not_wanted_and_the_engine_is_started(tmp_path: Path) -> None:
    assert require(install(tmp_path, "docker", "dockerd", "debootstrap", status=1)) == (0, [])


@AS_ROOT
@pytest.mark.parametrize("answers", [True, False])
def test_an_engine_that_is_named_has_to_answer(tmp_path: Path, *, answers: bool) -> None:
    programs = install(tmp_path, "docker", "dockerd", "debootstrap", status=0 if answers else 1)
    status, lines = require(programs, DOCKER_HOST="unix:///nonexistent.sock")
    assert status == (0 if answers else 1)
    assert [line.partition(" (")[0] for line in lines] == (
        [] if answers else ["no engine answers at DOCKER_HOST=unix:///nonexistent.sock"]
    )


def test_without_root_that_is_said_with_the_rest() -> None:
    # Root switches to nobody, who can still read the checkout.
    command = AS_NOBODY if os.geteuid() == 0 else ()
    done = subprocess.run(
        [*command, "/bin/bash", SCRIPT, "require"], stderr=subprocess.PIPE, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("not root (")
    assert "sudo make test-image" in done.stderr
