"""A project that uses the package, and the doctor command run on it in a subprocess or in the process of the test."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.monitoring import observability
from app.monitoring.doctor import command
from tests.monitoring.multiprocess import simulated
from tests.monitoring.multiprocess.simulated import Scene

# The repository root, or the directory of these tests if only the package is installed.
ROOT = Path(__file__).resolve().parents[3]
DIRECTORY = Path(str(observability.__file__)).parent
PLAIN = "from fastapi import FastAPI\napp = FastAPI()\n"
INSTRUMENTED = f"{PLAIN}from app.monitoring import Observability\nObservability.current().instrument(app)\n"


@dataclass(frozen=True)
class Outcome:
    """Exit status and output of the command: the configuration that it has read, and the lines after that."""

    status: int
    lines: list[str]
    errors: str
    configuration: str | None = None

    @classmethod
    def of(cls, status: int, output: str, errors: str) -> "Outcome":
        """Split the configuration off the output."""
        lines = output.splitlines()
        head, separator, configuration = lines[0].partition("configuration: ") if lines else ("", "", "")
        if separator and not head:
            return cls(status, lines[1:], errors, configuration)
        return cls(status, lines, errors)

    def only(self, code: str) -> str:
        """Return the only output line, whose finding must have this code."""
        (line,) = self.lines
        assert line.split(": ")[0].split()[1] == code, self.lines
        return line


@dataclass(frozen=True)
class Project:
    """A directory of files in which the command is run."""

    path: Path

    def write(self, name: str, text: str) -> None:
        """Write a file and create its parent directories."""
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables of the command. Tracing is disabled."""
        return {
            "PYTHONDONTWRITEBYTECODE": "1",
            "TMPDIR": str(self.path / "scratch"),
            "OTEL_SDK_DISABLED": "true",
        }

    def run(
        self,
        *arguments: str,
        package: str = "app.monitoring",
        root: Path = ROOT,
        environ: Mapping[str, str] | None = None,
    ) -> Outcome:
        """Run `python -m <package> ...`. Tracing is disabled unless `environ` enables it."""
        finished = subprocess.run(
            [sys.executable, "-W", "error", "-m", package, *arguments],
            cwd=self.path,
            # The settings of the shell have already been removed.
            env={**os.environ, "PYTHONPATH": str(root), **self.variables, **(environ or {})},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Outcome.of(finished.returncode, finished.stdout, finished.stderr)


Examine = Callable[..., Outcome]
Doctor = Callable[..., Outcome]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Return an empty project."""
    (tmp_path / "scratch").mkdir()
    return Project(tmp_path)


@pytest.fixture
def examine(project: Project, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Examine:
    """Return `examine(reference, configuration, **environ)`: the command in this process, without its interpreter.

    The application is imported in a process of its own, as always.
    """

    def call(reference: str = "shop:app", configuration: str | None = None, **environ: str) -> Outcome:
        handler = signal.getsignal(signal.SIGTERM)
        capfd.readouterr()
        with monkeypatch.context() as patch:
            patch.chdir(project.path)
            patch.setattr(sys, "path", [str(project.path), str(ROOT), *sys.path])
            for name, value in {**project.variables, **environ}.items():
                patch.setenv(name, value)
            try:
                status = command.run(reference, configuration)
            finally:
                signal.signal(signal.SIGTERM, handler)
        return Outcome.of(status, *capfd.readouterr())

    return call


@pytest.fixture
def doctor(project: Project, examine: Examine) -> Doctor:
    """Return `doctor(source, **environ)`, which examines `app` of a module with that source."""

    def call(source: str = PLAIN, **environ: str) -> Outcome:
        project.write("shop.py", source)
        return examine(**environ)

    return call


@pytest.fixture
def scene() -> Iterator[Scene]:
    """Yield a metrics directory that this process writes to."""
    with simulated.scene() as made:
        yield made
