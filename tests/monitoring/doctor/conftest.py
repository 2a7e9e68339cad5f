"""A project that uses the package, and the doctor command run on it in a subprocess."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.monitoring import observability
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
            env={
                **os.environ,  # already without the settings of the shell
                "PYTHONPATH": str(root),
                "PYTHONDONTWRITEBYTECODE": "1",
                "TMPDIR": str(self.path / "scratch"),
                "OTEL_SDK_DISABLED": "true",
                **(environ or {}),
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        lines = finished.stdout.splitlines()
        head, separator, configuration = lines[0].partition("configuration: ") if lines else ("", "", "")
        if separator and not head:
            return Outcome(finished.returncode, lines[1:], finished.stderr, configuration)
        return Outcome(finished.returncode, lines, finished.stderr)


Doctor = Callable[..., Outcome]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Return an empty project."""
    (tmp_path / "scratch").mkdir()
    return Project(tmp_path)


@pytest.fixture
def doctor(project: Project) -> Doctor:
    """Return `doctor(source, **environ)`, which runs the command on `app` of a module with that source."""

    def examine(source: str = PLAIN, **environ: str) -> Outcome:
        project.write("shop.py", source)
        return project.run("doctor", "shop:app", environ=environ)

    return examine


@pytest.fixture
def scene() -> Iterator[Scene]:
    """Yield a metrics directory that this process writes to."""
    with simulated.scene() as made:
        yield made
