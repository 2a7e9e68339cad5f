"""A helper process tied to this one's life by a socket pair: either side sees the other's death as end of file.

The constraint to know: a forked worker must not keep the pair open, or the companion would outlive its owner.
Every copy of a lifeline is therefore closed in every forked child, without anybody having to remember it.
"""

import contextlib
import os
import select
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar


class Closable(Protocol):
    """A socket or a file."""

    def close(self) -> object: ...


Owned = TypeVar("Owned", bound=Closable)
_owned: "weakref.WeakSet[Closable]" = weakref.WeakSet()
# Held while a companion is spawned: a fork in between would leave a copy of the far end in the new child.
_spawning = threading.RLock()


def no_fork() -> contextlib.AbstractContextManager[bool]:
    """Hold this around what a thread of the master does with locks: a fork in between would copy them locked."""
    return _spawning


def close_in_children(owned: Owned) -> Owned:
    """Have every process forked from this one close its copy of `owned`."""
    _owned.add(owned)
    return owned


def _close_owned() -> None:
    for owned in list(_owned):
        owned.close()
    _owned.clear()
    _spawning.release()


os.register_at_fork(before=_spawning.acquire, after_in_parent=_spawning.release, after_in_child=_close_owned)


class CompanionError(Exception):
    """The companion ended, or said nothing in time; the message says which."""


class Companion:
    """One started helper process; its standard input is its end of the lifeline."""

    def __init__(self, module: str, *arguments: str, pass_fds: Sequence[int] = ()) -> None:
        """Start `python -m module arguments...` with this process's import path and environment."""
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)  # noqa: PTH109
        with _spawning:
            self._lifeline, far_end = socket.socketpair()
            close_in_children(self._lifeline)
            with far_end:
                # A session of its own: Ctrl-C in a terminal reaches the owner, who decides when this ends.
                self._process = subprocess.Popen(
                    [sys.executable, "-m", module, *arguments],
                    stdin=far_end.fileno(),
                    env={**os.environ, "PYTHONPATH": path},
                    pass_fds=list(pass_fds),
                    start_new_session=True,
                )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def read_line(self, timeout: float) -> bytes:
        """The next line that the companion sends on its lifeline; raises CompanionError after `timeout` seconds."""
        self._lifeline.settimeout(timeout)
        line = b""
        try:
            while not line.endswith(b"\n"):
                received = self._lifeline.recv(4096)
                if not received:
                    raise CompanionError("it ended before it was ready")
                line += received
        except TimeoutError as error:
            raise CompanionError(f"it was not ready after {timeout:g} s") from error
        finally:
            self._lifeline.settimeout(None)
        return line

    def wait(self) -> None:
        """Block until the companion has ended, without reaping it: that is for whoever owns SIGCHLD."""
        try:
            while self._lifeline.recv(4096):
                pass
        except OSError:
            return

    def stop(self, timeout: float = 10.0) -> None:
        """Ask the companion to end by closing the lifeline, and kill it after `timeout` seconds."""
        with contextlib.suppress(OSError):  # it has gone already
            self._lifeline.shutdown(socket.SHUT_WR)
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._lifeline.close()


def announce(line: str) -> None:
    """In the companion: send one line to the owner."""
    os.write(sys.stdin.fileno(), line.encode() + b"\n")


def wait_for_owner() -> None:
    """In the companion: block until the owner has closed the lifeline or died."""
    try:
        while os.read(sys.stdin.fileno(), 1):
            pass
    except OSError:
        return


def owner_is_gone(patience: float) -> bool:
    """In the companion: whether the owner is gone, after at most `patience` seconds of waiting for that."""
    readable, _, _ = select.select([sys.stdin], [], [], patience)
    return bool(readable) and not os.read(sys.stdin.fileno(), 1)


def when_owner_ends(callback: Callable[[], None]) -> None:
    """In the companion: call `callback` from a thread once the owner is gone."""

    def watch() -> None:
        wait_for_owner()
        callback()

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
