"""An environment as a user's: the wheel with the dependencies that it declares, and nothing of this repository."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
SOURCE = ROOT / "app" / "monitoring"
PACKAGE = "prefork_observability"
EXTRAS = frozenset(tomllib.loads((SOURCE / "pyproject.toml").read_text())["project"]["optional-dependencies"])


@dataclass(frozen=True)
class Environment:
    """A virtual environment with the package installed from `wheel`."""

    directory: Path
    wheel: Path

    @property
    def python(self) -> Path:
        """The interpreter."""
        return self.directory / "bin" / "python"

    @property
    def packages(self) -> Path:
        """The directory of the installed packages."""
        return next(self.directory.glob("lib/python*/site-packages"))

    def run(self, *arguments: str | Path, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the interpreter in `cwd` and return what it printed."""
        environment = {**plain_environment(), **variables}
        return subprocess.run(
            [self.python, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
        )

    def add(self, *distributions: str) -> None:
        """Install `distributions` beside, in the releases of the development lock or of the file in WHEEL_PINS."""
        constraints = self.directory.with_name("constraints.txt")
        constraints.write_text(_constraints(os.environ.get("WHEEL_PINS")))
        _install("install", "--python", self.python, "--constraint", constraints, *distributions)


def plain_environment() -> dict[str, str]:
    """Return the variables of this process without those that would lead an interpreter back to the repository."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "COV", "PYTEST")) and name != "VIRTUAL_ENV"
    }


def make(directory: Path, extras: Iterable[str] = EXTRAS) -> Environment:
    """Build the wheel and install it with `extras` into `directory`.

    The lock is a constraint alone: it chooses releases, and what the wheel does not declare is not installed.
    """
    wheels = directory / "wheel"
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    _checked([*build, "--no-build-isolation", "--wheel-dir", wheels, SOURCE])
    (wheel,) = wheels.iterdir()
    made = Environment(directory / "environment", wheel)
    _checked([BIN / "uv", "venv", "--quiet", "--python", sys.executable, made.directory])
    made.add(f"prefork-observability[{','.join(sorted(extras))}] @ {wheel.as_uri()}")
    return made


def pinned(path: Path) -> dict[str, list[str]]:
    """Return the requirements of a pin file by distribution, with their environment markers and without hashes."""
    found: dict[str, list[str]] = {}
    for name, release in re.findall(r"^([\w.-]+)(?:\[.*?\])?(==[^\\\n]+)", path.read_text(), re.MULTILINE):
        found.setdefault(name, []).append(f"{name}{release.rstrip()}")
    return found


def _constraints(pins: str | None) -> str:
    chosen = pinned(ROOT / "requirements-dev.lock") | (pinned(ROOT / pins) if pins else {})
    return "".join(f"{requirement}\n" for requirements in chosen.values() for requirement in requirements)


def _install(*arguments: str | Path) -> None:
    """Run uv's pip from the cache, else from the index that pip is configured for."""
    command = [BIN / "uv", "pip", *arguments, "--quiet"]
    if subprocess.run([*command, "--offline"], capture_output=True, check=False).returncode == 0:
        return
    index = subprocess.run(
        [BIN / "pip", "config", "get", "global.index-url"], capture_output=True, text=True, check=False
    ).stdout.strip()
    variables = {**os.environ, "UV_SYSTEM_CERTS": "1", **({"UV_DEFAULT_INDEX": index} if index else {})}
    _checked(command, variables)


def _checked(command: Sequence[str | Path], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
