"""A helper process connected by a socket pair, the lifeline: each side sees the other's exit as end of file.

Constraint: a forked worker must not keep the pair open, or the companion would outlive its owner. A fork hook closes
all copies of lifelines in every forked child.
"""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar


class Closable(Protocol):
    """A socket or file."""

    def close(self) -> object: ...


Owned = TypeVar("Owned", bound=Closable)
_owned: "weakref.WeakSet[Closable]" = weakref.WeakSet()
# Locked while a companion is spawned: a concurrent fork would leave a copy of its end in the new child.
_spawning = threading.RLock()


def no_fork() -> contextlib.AbstractContextManager[bool]:
    """Return a lock that prevents forks. Threads of the master hold it while they use locks that a fork would copy."""
    return _spawning


def close_in_children(owned: Owned) -> Owned:
    """Register `owned` to be closed in every process forked from this one. Return it."""
    _owned.add(owned)
    return owned


def _close_owned() -> None:
    for owned in list(_owned):
        owned.close()
    _owned.clear()
    _spawning.release()


os.register_at_fork(before=_spawning.acquire, after_in_parent=_spawning.release, after_in_child=_close_owned)


class CompanionError(Exception):
    """The companion ended or timed out before it sent a line; the message says which."""


class Companion:
    """A running helper process. Its standard input is its end of the lifeline."""

    def __init__(
        self, module: str, *arguments: str, pass_fds: Sequence[int] = (), user: tuple[int, int] | None = None
    ) -> None:
        """Start `python -m module arguments...` with this process's import path and environment.

        With `user`, ids of a user and a group, it runs as that user without the groups of this process. It takes root.
        """
        uid, gid = user or (None, None)
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)  # noqa: PTH109
        with _spawning:
            self._lifeline, far_end = socket.socketpair()
            close_in_children(self._lifeline)
            with far_end:
                # A new session: Ctrl-C in a terminal reaches only the owner, which stops the companion itself.
                self._process = subprocess.Popen(
                    [sys.executable, "-m", module, *arguments],
                    stdin=far_end.fileno(),
                    env={**os.environ, "PYTHONPATH": path},
                    pass_fds=list(pass_fds),
                    start_new_session=True,
                    user=uid,
                    group=gid,
                    extra_groups=None if user is None else [],
                )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def read_line(self, timeout: float) -> bytes:
        """Return the next line from the companion. Raise CompanionError if it ends, or after `timeout` seconds."""
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

    def wait(self) -> bytes:
        """Block until the companion has ended; return what it has sent. Does not reap it: the owner of SIGCHLD does."""
        sent = b""
        with contextlib.suppress(OSError):
            while received := self._lifeline.recv(4096):
                sent += received
        return sent

    def stop(self, timeout: float = 10.0) -> None:
        """Close the lifeline, so that the companion ends. Kill it after `timeout` seconds."""
        with contextlib.suppress(OSError):  # it has ended already
            self._lifeline.shutdown(socket.SHUT_WR)
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._lifeline.close()


def announce(line: str) -> None:
    """Send one line to the owner. For the companion."""
    os.write(sys.stdin.fileno(), line.encode() + b"\n")


def wait_for_owner() -> None:
    """Block until the owner has closed the lifeline or ended. For the companion."""
    try:
        while os.read(sys.stdin.fileno(), 1):
            pass
    except OSError:
        return


def when_owner_ends(callback: Callable[[], None]) -> None:
    """Call `callback` from a thread once the owner has ended. For the companion."""

    def watch() -> None:
        wait_for_owner()
        callback()

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
