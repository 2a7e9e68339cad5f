"""Hand idle keep-alive connections from a worker that retires to the workers that serve.

The descriptors (SCM_RIGHTS) of all workers' connections go through one pair of Unix datagram sockets, which the master
creates. Invariants:

- A connection belongs to one process: reading stops before its descriptor is sent, and the sender closes its own copy.
- Nothing that was read is passed on: only a connection between two messages is idle.
- Connections in the queue survive every worker, because the master holds both sockets.
- Nothing is handed over while the whole service stops.

TLS connections are not handed over, since their session is in the process: each response announces their close.
"""

import array
import os
import socket
from collections.abc import Iterator

from ..logging import get_logger

_DESCRIPTOR = array.array("i").itemsize


class Queue:
    """The sockets between the workers that retire and those that serve."""

    def __init__(self) -> None:
        self._receiving, self._sending = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._receiving.setblocking(False)
        self._sending.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor that is readable while connections are queued."""
        return self._receiving.fileno()

    def send(self, connection: socket.socket) -> bool:
        """Send a copy of the connection. Return False if the queue is full."""
        try:
            socket.send_fds(self._sending, [b"c"], [connection.fileno()])
        except OSError:  # full, or more descriptors are in flight than the kernel allows
            return False
        return True

    def receive(self) -> Iterator[socket.socket]:
        """Yield the queued connections. Raise OSError if this process has no descriptor left for one."""
        while True:
            # The kernel drops a connection for which the receiver has no descriptor.
            os.close(os.dup(self.fileno()))
            try:
                _, ancillary, flags, _ = self._receiving.recvmsg(
                    1, socket.CMSG_LEN(_DESCRIPTOR), socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return
            if flags & socket.MSG_CTRUNC:  # another thread has taken the last descriptor meanwhile
                get_logger("gunicorn.handover").error("connection_lost", reason="no descriptor was left for it")
            for _, _, data in ancillary:
                (descriptor,) = array.array("i", data[:_DESCRIPTOR])
                connection = socket.socket(fileno=descriptor)
                connection.setblocking(False)
                yield connection

    def close(self) -> None:
        """Close both sockets, in a process that is not a worker."""
        self._receiving.close()
        self._sending.close()
