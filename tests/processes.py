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


def communicate(process: "subprocess.Popen[bytes]", patience: float) -> tuple[bytes, bytes]:
    """Read all output and wait for the end; raise TimeoutExpired if nothing comes for `patience` seconds."""
    received = -1
    while True:
        try:
            return process.communicate(timeout=patience)
        except subprocess.TimeoutExpired as waited:
            # A busy machine makes the process slow; one that hangs writes nothing more.
            if len(waited.output or b"") <= received:
                raise
            received = len(waited.output or b"")


def end(process: "subprocess.Popen[bytes]") -> None:
    """Kill a session's leader with all of its process group, unless the leader has ended, and reap it."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
