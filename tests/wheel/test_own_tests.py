"""The package's own tests pass under its own name, where nothing of this repository is installed.

`make test` runs those of SUBSET; `make test-wheel` runs all.
"""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wheel.environment import PACKAGE, ROOT, Environment

# Libraries that the tests need beside the package, at the releases of the development lock.
LIBRARIES = (
    *("pytest", "hypothesis", "pyyaml", "rich", "phonenumbers"),
    "sqlalchemy[asyncio]",
)
HELPERS = (
    "tests/__init__.py",
    "tests/fixtures.py",
    "tests/processes.py",
    "tests/plain_http.py",
    "tests/middleware/__init__.py",
    "tests/middleware/applications.py",
    "tests/middleware/wire.py",
    "tests/process/__init__.py",
    "tests/process/raw.py",
    "tests/process/service.py",
    "loadtest/__init__.py",
    "loadtest/programs.py",
    "loadtest/serving.py",
)
TESTS = ROOT / "tests" / "monitoring"
LEFT_OUT = {
    "test_metrics.py": "reads the service's own metrics and docs/metrics.md",
    "test_otel_document.py": "reads docs/opentelemetry.md",
    "doctor/test_document.py": "reads docs/doctor.md and examines the service",
    "redaction/test_vendor_keys.py": "needs detect-secrets, of which only this test knows",
}
SUBSET = (
    "test_tracing.py",
    "test_children.py",
    "test_libraries.py",
    "test_tracing_option.py",
    "test_logging.py",
    "test_instrumentator.py",
    "test_exposure.py",
    "multiprocess/test_aggregate.py",
    "multiprocess/test_values.py",
    "multiprocess/test_companion.py",
    "redaction/test_structures.py",
)
CONFIGURATION = """
[pytest]
addopts = -ra --strict-markers -p anyio -p no:randomly
filterwarnings = error
anyio_mode = auto
faulthandler_timeout = 120
"""


def copied(text: str) -> str:
    """Return `text` under the name of the package."""
    return re.sub(r"\bapp\.monitoring\b", PACKAGE, text.replace("from app import monitoring", f"import {PACKAGE}"))


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield a directory with only the package's tests and their helpers."""
    directory = tmp_path_factory.mktemp("suite")
    tests = [path for path in TESTS.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    left_out = {TESTS / name for name in LEFT_OUT}
    for path in [*tests, *(ROOT / name for name in HELPERS)]:
        if path in left_out:
            continue
        target = directory / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".py":
            target.write_text(copied(path.read_text()))
        else:
            shutil.copy(path, target)
    (directory / "tests" / "conftest.py").write_text(
        copied((ROOT / "tests" / "wheel" / "copied_conftest.py").read_text())
    )
    (directory / "pytest.ini").write_text(CONFIGURATION)
    yield directory
    shutil.rmtree(directory)


def test_the_copy_names_nothing_of_the_repository(suite: Path) -> None:
    imports = re.compile(r"^\s*(?:from|import) app\b", re.MULTILINE)
    assert [path for path in suite.rglob("*.py") if imports.search(path.read_text())] == []
    assert [name for name in LEFT_OUT if not (TESTS / name).is_file()] == []


def test_the_package_passes_its_own_tests(
    installed_wheel: Environment, suite: Path, empty_database_url: str, redis_url: str
) -> None:
    installed_wheel.add(*LIBRARIES)
    everything = os.environ.get("WHEEL_TESTS") == "all"
    chosen = ["."] if everything else list(SUBSET)
    done = installed_wheel.run(
        *("-m", "pytest", "-q", *(f"tests/monitoring/{name}" for name in chosen)),
        cwd=suite,
        TESTS_DATABASE_URL=empty_database_url,
        TESTS_REDIS_URL=redis_url,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    assert "passed" in done.stdout
    assert "skipped" not in done.stdout
