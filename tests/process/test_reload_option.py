"""gunicorn's `reload`: changed code is served without a lost request, and broken code is not served."""

import contextlib
import json
from pathlib import Path

from tests.process.replacement import APPLICATION, Connection, configured, replace_code, wait_for_workers
from tests.process.service import gone, service, wait_for

CHANGED = APPLICATION.replace("return os.getpid()", "return -os.getpid()")


def test_a_changed_file_replaces_the_workers_and_broken_code_does_not(tmp_path: Path) -> None:
    with service(tmp_path, None, configured(tmp_path, "{'reload': True}")) as running:
        wait_for_workers(running)
        with contextlib.closing(Connection(running)) as connection:
            before = running.workers()
            assert connection.ask() > 0

            replace_code(tmp_path, "def broken(:\n")
            wait_for(lambda: "worker_failed_to_boot" in running.output, "the line")
            assert running.workers() == before
            assert connection.ask() in {worker.pid for worker in before}

            replace_code(tmp_path, CHANGED)
            wait_for(lambda: gone(before) and len(running.workers()) == len(before), "the new workers")
            assert connection.ask() < 0
        assert running.stop() == 0
        errors = [line for line in running.output.splitlines() if '"level":"error"' in line]
        events = {json.loads(line)["event"] for line in errors if "exited with code 1" not in line}
        assert events == {"Exception in worker process", "worker_failed_to_boot"}
