"""A service whose standard streams are closed or unread: it serves, and its descriptors get no log line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.process.replacement import configured, reload
from tests.process.service import ROOT, Service, service, wait_for

CLOSED = "standard output is closed: log lines are discarded"
# Starts the command with streams that nobody reads.
UNREAD = """
import os, sys
reading, writing = os.pipe()
for number in map(int, sys.argv[1]):
    os.dup2(writing, number)
os.close(reading)
os.close(writing)
os.execv(sys.argv[2], sys.argv[2:])
"""


def use(running: Service) -> None:
    """Ask, reload, ask again, stop."""
    wait_for(lambda: len(running.workers()) == 2, "both workers")
    assert running.answers("/pid")
    reload(running)
    assert running.answers("/pid")
    assert running.total("http_requests_total", handler="/pid") == 2
    assert running.stop() == 0


def streams(running: Service) -> set[tuple[int, str]]:
    """The standard streams of all processes of the service, with what they are."""
    return {
        (number, str(Path(f"/proc/{process.pid}/fd/{number}").readlink()))
        for process in running.family()
        for number in range(1, 3)
    }


@pytest.mark.parametrize(
    ("redirection", "closed"),
    [(">&-", {1}), ("2>&-", {2}), (">&- 2>&-", {1, 2}), ("<&- >&- 2>&-", {1, 2})],
    ids=["output", "errors", "both", "all three"],
)
def test_a_service_with_closed_streams_serves_and_has_nothing_else_in_their_place(
    tmp_path: Path, redirection: str, closed: set[int]
) -> None:
    launcher = ("sh", "-c", f'exec "$@" {redirection}', "sh")
    with service(tmp_path, None, configured(tmp_path), "http", launcher) as running:
        assert {number for number, file in streams(running) if file == os.devnull} == closed
        assert len(streams(running)) == 2
        use(running)
        assert running.output.count(CLOSED) == (closed == {1})
        assert "Traceback" not in running.output


@pytest.mark.parametrize("unread", ["1", "12"], ids=["output", "output and errors"])
def test_a_service_whose_reader_has_gone_serves(tmp_path: Path, unread: str) -> None:
    launcher = (sys.executable, "-c", UNREAD, unread)
    with service(tmp_path, None, configured(tmp_path), "http", launcher) as running:
        wait_for(lambda: running.total("shop_log_lines_dropped_total", reason="write_failed") > 0, "the count")
        use(running)
        assert "Traceback" not in running.output


def test_a_descriptor_that_another_file_has_by_now_is_left_to_it(tmp_path: Path) -> None:
    other = tmp_path / "other"
    program = f"""
import os, sys
assert os.open({str(other)!r}, os.O_WRONLY | os.O_CREAT) == 1
from app.monitoring.logging import configure, get_logger
configure(renderer="json", level="INFO", service="shop", version="1", environment="test")
get_logger("told").info("told")
print("told")
"""
    command = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, f"{CLOSED}\n")
    assert other.read_text() == ""
