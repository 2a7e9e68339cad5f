"""Files that containers read: the users there own none of them, so others need the right to read."""

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from app.settings import ROOT
from tests.deploy.conftest import Run, Service, mounts, run

SCRIPT = "monitoring/file_modes.sh"


@pytest.fixture
def checkout(services: dict[str, Service], tmp_path: Path) -> Path:
    """Return a copy of what is mounted and of the script, as umask 022 leaves it."""
    paths = {source for service in services.values() for source in mounts(service).values()}
    for path in ["docker-compose.yaml", SCRIPT, *sorted(paths)]:
        source, copy = ROOT / path, tmp_path / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy)
    assert run("chmod", "-R", "u=rwX,go=rX", tmp_path).returncode == 0
    return tmp_path


def check(directory: Path) -> Run:
    return run(directory / SCRIPT)


def test_containers_can_read_everything_that_is_mounted_here() -> None:
    done = check(ROOT)
    assert done.returncode == 0, done.stderr


def test_a_checkout_that_only_its_owner_reads_is_named_with_the_command_that_mends_it(
    checkout: Path, services: dict[str, Service]
) -> None:
    assert check(checkout).returncode == 0
    assert run("chmod", "-R", "go=", checkout / "monitoring").returncode == 0
    refused = check(checkout)
    assert refused.returncode == 1
    for service in services.values():
        for source in mounts(service).values():
            assert f"  ./{source}\n" in refused.stderr, "a mount that the script does not find"
    command = refused.stderr.splitlines()[-1].split()
    subprocess.run(command, cwd=checkout, check=True)
    assert check(checkout).returncode == 0


@pytest.mark.parametrize(
    ("path", "mode"), [("monitoring/alertmanager.yml", 0o640), ("monitoring/rules", 0o754), ("monitoring/rules", 0o711)]
)
def test_one_file_or_directory_is_enough(checkout: Path, path: str, mode: int) -> None:
    (checkout / path).chmod(mode)
    refused = check(checkout)
    assert refused.returncode == 1
    named = [line.strip() for line in refused.stderr.splitlines() if line.startswith("  ./")]
    assert named == [f"./{path}"]


def test_make_up_checks_before_it_starts_anything() -> None:
    text = (ROOT / "Makefile").read_text()
    (target,) = [block for block in text.split("\n\n") if block.startswith("up:")]
    (_, first, second) = target.splitlines()
    assert first.strip(" \t@") == SCRIPT
    assert "docker compose up" in second


def test_the_image_is_readable_whatever_the_checkout_was(dockerfile: list[tuple[str, str]], tmp_path: Path) -> None:
    copied = [number for number, (name, rest) in enumerate(dockerfile) if name == "COPY" and "--from" not in rest]
    (_, after), *_ = dockerfile[copied[-1] + 1 :]
    command = after.partition(" && ")[0].split()
    assert (command[0], command[-1]) == ("chmod", "/app")
    (tmp_path / "app").mkdir(mode=0o700)
    module = tmp_path / "app" / "main.py"
    module.touch(mode=0o600)
    assert run(*command[:-1], tmp_path).returncode == 0
    assert stat.S_IMODE(module.stat().st_mode) == 0o644
    assert stat.S_IMODE(module.parent.stat().st_mode) == 0o755
