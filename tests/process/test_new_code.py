"""SIGHUP loads the code of the service as it is then: a copy of the service changes between two reloads."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.process.service import ROOT, Service, gone, service, wait_for

# Imports what the master does, and says what a worker imports besides.
REMAINDER = """
import importlib, json, sys
import gunicorn_conf
from app.monitoring.server.configuration import PRELOADED
for name in (*PRELOADED, *gunicorn_conf.LIBRARIES):
    importlib.import_module(name)
libraries, master = set(sys.modules), [name for name in sys.modules if name.startswith("app.")]
import app.main
new = {name.partition(".")[0] for name in set(sys.modules) - libraries} - sys.stdlib_module_names
print(json.dumps([sorted(new), sorted(name for name in master if not name.startswith("app.monitoring"))]))
"""


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """Return a copy of the service's code."""
    tree = tmp_path / "service"
    shutil.copytree(ROOT / "app", tree / "app", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "gunicorn_conf.py", tree)
    return tree


@pytest.fixture
def started(copied: Path, tmp_path: Path, addresses: dict[str, str]) -> Iterator[Service]:
    configuration = tmp_path / "copied_conf.py"
    configuration.write_text(f"import sys\nsys.path.insert(0, {str(copied)!r})\nfrom gunicorn_conf import *\n")
    with service(tmp_path, None, configuration, **addresses) as running:
        # A worker that still imports the application would read files that the test is writing.
        wait_for(lambda: running.output.count("Application startup complete.") == 2, "both workers")
        yield running


def reload(running: Service) -> None:
    before: list[psutil.Process] = running.workers()
    os.kill(running.process.pid, signal.SIGHUP)
    wait_for(lambda: gone(before) and len(running.workers()) == len(before), "the workers of the reload")


def test_every_module_of_the_service_has_its_new_code_after_a_reload(copied: Path, started: Service) -> None:
    schema = started.get("/openapi.json").json()["info"]
    # In a module that only workers import, in one that the master imports too, and in the package around them.
    for module, old, new in (
        ("main.py", 'title="BaliBlissed"', 'title="New title"'),
        ("settings.py", "class Settings(BaseSettings):", "NEW = 1\n\n\nclass Settings(BaseSettings):"),
        ("__init__.py", schema["version"], "77.7.7"),
    ):
        file = copied / "app" / module
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))
    main = copied / "app" / "main.py"
    main.write_text(main.read_text() + "\nfrom app.settings import NEW as NEW\n")
    reload(started)
    found = {json.dumps(started.get("/openapi.json").json()["info"]) for _ in range(10)}
    assert found == {json.dumps({**schema, "title": "New title", "version": "77.7.7"})}
    assert started.stop() == 0
    assert "hook_failed" not in started.output


def test_the_master_imports_every_library_and_no_code_that_a_reload_would_miss() -> None:
    done = subprocess.run(
        [sys.executable, "-c", REMAINDER], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    new, master = json.loads(done.stdout)
    # FastAPI imports pydantic's old interface when it sees the first model.
    assert new == ["app", "pydantic"]
    assert master == ["app.embedded", "app.embedded_servers", "app.observability", "app.settings"]
