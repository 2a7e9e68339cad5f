"""Subprocesses that end with the test that started them, so that later tests are not affected."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


@contextmanager
def started(command: Sequence[str | os.PathLike[str]], **options: Any) -> Iterator["subprocess.Popen[bytes]"]:
    """Start `command` in its own session; on exit kill it if it still runs and close its pipes."""
    process: subprocess.Popen[bytes] = subprocess.Popen(command, start_new_session=True, **options)
    try:
        yield process
    finally:
        end(process)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # what is left in the buffer has no reader
                    pipe.close()


def end(process: "subprocess.Popen[bytes]") -> None:
    """Kill a session's leader with all of its process group, unless the leader has ended, and reap it."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
