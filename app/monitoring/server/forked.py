"""Children that a worker forks: os.fork, process pools, and multiprocessing with the start method `fork`.

Such a child has a copy of each descriptor and signal handler of its worker. Without the hooks of this module a SIGTERM
to the child sets the worker's stop in motion through the shared wake-up descriptor, the child keeps the port and the
clients' connections open, and its garbage collector ends the worker's connections to databases.

- Signals have their default action in the child, and stop signals are not blocked.
- Stream sockets read and write /dev/null: listeners, connections of clients, databases and exporters. The descriptors
  stay valid, so objects that close them later do not close a file that the child has opened.
- Event loops of the worker poll nothing, since a child that unregisters a descriptor would do so for the worker.

Pairs of sockets (`socketpair`, `multiprocessing.Pipe`), datagram sockets, standard streams, and sockets that are marked
as inheritable are left alone. So are children of children, and children that replace themselves by another program,
where the kernel closes the descriptors.
"""

import contextlib
import os
import select
import signal
import socket
import stat
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from ..companion import Closable

STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})
DESCRIPTORS, EVENT_LOOP = Path("/proc/self/fd"), "anon_inode:[eventpoll]"
MIN_DESCRIPTOR = 3  # the standard streams stay, sockets or not
GRPC_SUPPORTS_FORKS = os.environ.get("GRPC_ENABLE_FORK_SUPPORT", "").lower() in {"1", "t", "true", "y", "yes"}


class _Isolation:
    """Hooks that isolate the children of this process, once it is a worker."""

    worker = 0
    listeners: Sequence[socket.socket] = ()
    owned: Sequence[Closable] = ()
    mask = threading.local()

    @classmethod
    def before(cls) -> None:
        """Block the signals that have a handler: in the child it would write into the worker's wake-up descriptor."""
        if cls.worker:
            cls.mask.kept = signal.pthread_sigmask(signal.SIG_BLOCK, _handled())

    @classmethod
    def after_in_parent(cls) -> None:
        """Restore the mask."""
        if cls.worker:
            signal.pthread_sigmask(signal.SIG_SETMASK, cls.mask.kept)

    @classmethod
    def after_in_child(cls) -> None:
        """Isolate a child of the worker."""
        if not cls.worker:
            return
        cls.worker = 0
        becomes_a_program = _becomes_a_program(cls.mask.kept)
        signal.set_wakeup_fd(-1)
        for number in _handled():
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, cls.mask.kept - STOP_SIGNALS)
        if not becomes_a_program:  # it would close them anyway
            for one in cls.owned:  # first, because it frees descriptors
                one.close()
            _release({listener.fileno() for listener in cls.listeners})


os.register_at_fork(
    before=_Isolation.before, after_in_parent=_Isolation.after_in_parent, after_in_child=_Isolation.after_in_child
)


def isolate_children(listeners: Sequence[socket.socket], owned: Sequence[Closable]) -> None:
    """Isolate the children of this process, a worker, from now on. `owned` is closed in each of them."""
    _Isolation.worker, _Isolation.listeners, _Isolation.owned = os.getpid(), listeners, owned


def _handled() -> set[signal.Signals]:
    """Return the signals that have a handler in Python."""
    return {number for number in signal.valid_signals() if callable(signal.getsignal(number))}


def _becomes_a_program(mask: set[int]) -> bool:
    """Return whether this child of a fork, before which `mask` was set, is about to execute another program.

    `subprocess` calls the hooks of forks if it has a `preexec_fn`, uvloop always. Both set up the program's standard
    streams afterwards, which may be sockets of the worker. uvloop's library blocks nearly all signals until then.
    """
    caller = sys._getframe(1).f_back  # noqa: SLF001 -- of the hook
    if caller is not None and caller.f_globals.get("__name__") == "subprocess":
        return True
    return bool(signal.pthread_sigmask(signal.SIG_BLOCK, ()) - mask - _handled())


def _release(listeners: set[int]) -> None:
    """Replace the listeners, and the streams and event loops among the other descriptors."""
    descriptors = [int(entry.name) for entry in DESCRIPTORS.iterdir()]
    null, nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC), select.epoll()
    for number in (number for number in descriptors if number >= MIN_DESCRIPTOR):
        with contextlib.suppress(OSError):  # the descriptor of the directory listing, closed since
            if number in listeners or _is_stream(number):
                os.dup2(null, number, inheritable=False)
            elif _is_event_loop(number):
                os.dup2(nothing.fileno(), number, inheritable=False)
    os.close(null)
    nothing.close()


def _is_stream(number: int) -> bool:
    """Return whether a descriptor is a stream socket that is neither inheritable nor one of a pair."""
    if not stat.S_ISSOCK(os.fstat(number).st_mode) or os.get_inheritable(number):
        return False
    # With a default time-out the constructor would change the worker's copy to non-blocking, too.
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(None)
    found = socket.socket(fileno=number)
    try:
        return found.type == socket.SOCK_STREAM and not _is_of_pair(found)
    finally:
        found.detach()
        socket.setdefaulttimeout(timeout)


def _is_of_pair(found: socket.socket) -> bool:
    """Return whether a stream is one of a pair: neither it nor its peer has a name."""
    try:
        return found.family == socket.AF_UNIX and not found.getsockname() and not found.getpeername()
    except OSError:  # it is not connected
        return False


def _is_event_loop(number: int) -> bool:
    # gRPC, if it is told to support forks, has replaced its own before the hooks run.
    return not GRPC_SUPPORTS_FORKS and str((DESCRIPTORS / str(number)).readlink()) == EVENT_LOOP
