"""`.venv` is made once, and again if the interpreter changes; a changed lock is installed into it."""

import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from app.settings import ROOT
from tests import interpreter

Make = Callable[..., subprocess.CompletedProcess[str]]
LOCKS = "requirements-setup.lock", "requirements.lock", "requirements-dev.lock"
# Records its calls, and fails if the checkout has a file named `broken`.
INSTALLER = '#!/bin/sh\ntest ! -e broken && echo "$(basename "$0") $1" >> installed\n'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a checkout with the set-up's files and its own python3. Its environments have no packages."""
    root = tmp_path / "checkout"
    (root / "tests").mkdir(parents=True)
    (root / "programs").mkdir()
    shutil.copy(ROOT / "Makefile", root)
    source = (ROOT / "tests" / "interpreter.py").read_text()
    assert "with_pip=True" in source
    (root / "tests" / "interpreter.py").write_text(source.replace("with_pip=True", "with_pip=False"))
    for lock in LOCKS:
        (root / lock).touch()
    for name in ("pip", "uv"):
        (root / "programs" / name).write_text(INSTALLER)
        (root / "programs" / name).chmod(0o755)
    base = Path(sys.base_prefix) / "bin" / "python{}.{}".format(*sys.version_info)
    for name in ("python3", "chosen"):
        # A script, not a link: environments link to the interpreter that it runs and outlive the script.
        (root / "programs" / name).write_text(f'#!/bin/sh\nexec "{base}" "$@"\n')
        (root / "programs" / name).chmod(0o755)
    return root


@pytest.fixture
def make(checkout: Path) -> Make:
    """Return `make(PYTHON=...)`, which sets up the checkout with installers that only record their calls."""
    environment = {"PATH": f"{checkout / 'programs'}:/usr/bin:/bin", "HOME": str(checkout)}

    def run(**variables: str) -> subprocess.CompletedProcess[str]:
        words = [f"{name}={value}" for name, value in variables.items()]
        return subprocess.run(
            ["make", ".venv/.ready", "BIN=programs", *words],  # noqa: S607 -- make is what the README asks for
            cwd=checkout,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def is_set_up(checkout: Path, make: Make, **variables: str) -> bool:
    """Run make, which has to succeed, and return whether it has made the environment from the start."""
    mark = checkout / ".venv" / "mark"
    if mark.parent.exists():
        mark.touch()
    done = make(**variables)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (checkout / ".venv" / "bin" / "python").exists()
    return not mark.exists()


def test_an_environment_is_set_up_once(checkout: Path, make: Make) -> None:
    assert is_set_up(checkout, make)
    calls = (checkout / "installed").read_text().splitlines()
    assert [call for call in calls if call != "pip config"] == ["pip install", "uv pip"]
    assert not is_set_up(checkout, make)
    assert (checkout / "installed").read_text().splitlines() == calls


def test_a_changed_lock_is_installed_into_the_same_environment(checkout: Path, make: Make) -> None:
    assert is_set_up(checkout, make)
    (checkout / "installed").unlink()
    stamp = (checkout / ".venv" / ".ready").stat().st_mtime_ns
    os.utime(checkout / "requirements.lock", ns=(stamp + 1, stamp + 1))
    assert not is_set_up(checkout, make)
    assert (checkout / "installed").exists()


def test_another_interpreter_gets_an_environment_of_its_own(checkout: Path, make: Make) -> None:
    assert is_set_up(checkout, make)
    record = checkout / ".venv" / ".python"
    times = record.stat()
    record.write_text(re.sub(r" \d\.\d+", " 3.1", record.read_text()))
    os.utime(record, ns=(times.st_atime_ns, times.st_mtime_ns))
    (checkout / "installed").unlink()
    assert is_set_up(checkout, make)
    assert (checkout / "installed").exists()


def test_an_environment_whose_interpreter_is_gone_is_made_again(checkout: Path, make: Make) -> None:
    assert is_set_up(checkout, make)
    python = checkout / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to(checkout / "removed")
    assert is_set_up(checkout, make)


def test_a_moved_checkout_is_set_up_again(checkout: Path, make: Make) -> None:
    assert is_set_up(checkout, make)
    record = checkout / ".venv" / ".python"
    record.write_text(record.read_text().replace(str(checkout), str(checkout.with_name("before"))))
    assert is_set_up(checkout, make)


@pytest.mark.parametrize("lock_changed", [False, True], ids=["first", "lock changed"])
def test_an_interrupted_set_up_starts_again(checkout: Path, make: Make, *, lock_changed: bool) -> None:
    if lock_changed:
        assert is_set_up(checkout, make)
        stamp = (checkout / ".venv" / ".ready").stat().st_mtime_ns
        os.utime(checkout / "requirements.lock", ns=(stamp + 1, stamp + 1))
    (checkout / "broken").touch()
    assert make().returncode != 0
    assert not (checkout / ".venv" / ".ready").exists()
    (checkout / "broken").unlink()
    assert is_set_up(checkout, make)


def test_the_interpreter_that_was_chosen_stays_until_it_is_gone(checkout: Path, make: Make) -> None:
    record = checkout / ".venv" / ".python"
    assert is_set_up(checkout, make, PYTHON="chosen")
    assert not is_set_up(checkout, make)
    assert record.read_text().startswith("chosen\n")
    assert not is_set_up(checkout, make, PYTHON="python3"), "it is the same interpreter under another name"
    assert record.read_text().startswith("python3\n")
    assert not is_set_up(checkout, make, PYTHON="chosen")
    (checkout / "programs" / "chosen").unlink()
    assert not is_set_up(checkout, make)
    assert record.read_text().startswith("python3\n")


def test_the_environments_own_interpreter_can_make_it_again(checkout: Path, make: Make) -> None:
    assert is_set_up(checkout, make)
    (checkout / ".venv" / ".ready").unlink()
    assert is_set_up(checkout, make, PYTHON=".venv/bin/python")


def test_a_missing_interpreter_is_named_before_anything_is_made(checkout: Path, make: Make) -> None:
    done = make(PYTHON="python3.99")
    assert done.returncode != 0
    assert done.stderr.startswith("PYTHON=python3.99 was not found: name a Python 3.11 to 3.14 with PYTHON=...\nmake: ")
    assert not (checkout / ".venv").exists()


def test_an_empty_name_of_an_interpreter_is_refused(checkout: Path, make: Make) -> None:
    done = make(PYTHON="")
    assert done.returncode != 0
    assert done.stderr.startswith("PYTHON= was not found: name a Python 3.11 to 3.14 with PYTHON=...\nmake: ")
    assert not (checkout / ".venv").exists()


def test_an_interpreter_may_have_a_space_in_its_path(checkout: Path, make: Make) -> None:
    (checkout / "programs" / "chosen").rename(checkout / "programs" / "chosen one")
    assert is_set_up(checkout, make, PYTHON="programs/chosen one")
    assert not is_set_up(checkout, make)


def test_an_environment_that_cannot_be_written_is_one_line(checkout: Path, make: Make) -> None:
    # A file in its place: root may write to a directory that is read-only.
    (checkout / ".venv").symlink_to("/dev/null/none")
    done = make()
    assert done.returncode != 0
    line, *rest = done.stderr.splitlines()
    assert line.startswith(".venv cannot be made: ")
    assert all(other.startswith("make: ") for other in rest)


def test_an_unusable_interpreter_is_refused_before_anything_is_made(checkout: Path, make: Make) -> None:
    script = checkout / "tests" / "interpreter.py"
    script.write_text(script.read_text().replace("NEWEST = (3, 11), (3, 14)", "NEWEST = (3, 8), (3, 9)"))
    done = make()
    assert done.returncode != 0
    lines = done.stderr.splitlines()
    assert re.fullmatch(
        r"Python 3\.8 to 3\.9 is needed, .+ is 3\.\d+\.\d+: name another with PYTHON=python3\.9", lines[0]
    )
    assert not [line for line in lines[1:] if not line.startswith("make: ")]
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize("version", [(3, 10, 13), (3, 15, 0), (2, 7, 18), (4, 0, 0)])
def test_versions_without_wheels_are_refused(version: tuple[int, ...]) -> None:
    message = interpreter.find_version_problem(version)
    assert message.startswith("Python 3.11 to 3.14 is needed")
    assert f" is {'.'.join(map(str, version))}: name another with PYTHON=python3.1" in message


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 12, 9), (3, 13, 0), (3, 14, 2)])
def test_versions_with_wheels_are_accepted(version: tuple[int, ...]) -> None:
    assert interpreter.find_version_problem(version) == ""


@pytest.mark.parametrize(
    ("found", "named"),
    [
        (("linux", "x86_64", "", ""), "linux on x86_64 with another C library than glibc"),
        (("linux", "x86_64", "glibc", "2.17"), "linux on x86_64 with glibc 2.17"),
        (("linux", "riscv64", "glibc", "2.36"), "linux on riscv64:"),
        (("win32", "AMD64", "", ""), "win32 on AMD64:"),
    ],
    ids=["musl", "old glibc", "machine", "system"],
)
def test_platforms_without_wheels_are_refused(found: tuple[str, str, str, str], named: str) -> None:
    assert f"this is {named}" in interpreter.find_platform_problem(*found)


@pytest.mark.parametrize(
    "found", [("linux", "aarch64", "glibc", "2.28"), ("linux", "x86_64", "glibc", "2.36"), ("darwin", "arm64", "", "")]
)
def test_platforms_with_wheels_are_accepted(found: tuple[str, str, str, str]) -> None:
    assert interpreter.find_platform_problem(*found) == ""


def test_a_missing_module_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    assert interpreter.find_module_problem() == ""
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    version = ".".join(platform.python_version_tuple()[:2])
    assert f"apt-get install python{version}-venv" in interpreter.find_module_problem()


def test_the_project_names_the_same_versions_everywhere() -> None:
    oldest, newest = (".".join(map(str, version)) for version in (interpreter.OLDEST, interpreter.NEWEST))
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    prefix = "Programming Language :: Python :: "
    classifiers = [item.removeprefix(prefix) for item in settings["project"]["classifiers"] if item.startswith(prefix)]
    minors = range(interpreter.OLDEST[1], interpreter.NEWEST[1] + 1)
    assert classifiers == [f"3.{minor}" for minor in minors]
    assert settings["project"]["requires-python"] == f">={oldest}"
    assert settings["tool"]["mypy"]["python_version"] == oldest
    assert f"--python-version {oldest} " in (ROOT / "Makefile").read_text()
    for document in ("Makefile", "README.md"):
        assert f"Python {oldest} to {newest}" in (ROOT / document).read_text(), document
