"""A process that is measured can fork while its threads run measured code."""

import os
import sys
from pathlib import Path

from tests.process.service import PATIENCE, ROOT
from tests.processes import started

PROGRAM = """
import os, threading
import tests.coverage_forks
from app.monitoring.redaction.checks import passes_luhn

def spin():
    while not over.is_set():
        passes_luhn("4111111111111111")

over = threading.Event()
threads = [threading.Thread(target=spin) for _ in range(3)]
for thread in threads:
    thread.start()
for _ in range(10):  # one of the first three hangs where the lock is not renewed
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
over.set()
for thread in threads:
    thread.join()
"""


def test_children_forked_while_threads_run_measured_code_end(tmp_path: Path) -> None:
    variables = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    command = [sys.executable, "-m", "coverage", "run", f"--rcfile={ROOT / 'pyproject.toml'}", "--source=app"]
    program = tmp_path / "forks.py"
    program.write_text(PROGRAM)
    environment = {**variables, "COVERAGE_FILE": str(tmp_path / "data"), "PYTHONPATH": str(ROOT)}
    with started([*command, str(program)], cwd=ROOT, env=environment) as process:
        assert process.wait(PATIENCE) == 0
    assert len(list(tmp_path.glob("data.*"))) > 10
