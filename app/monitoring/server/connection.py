"""The states of an HTTP connection between its messages, as other parts of a worker see them."""

import array
import fcntl
import termios

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ..metrics.catalogue import catalogue
from . import limits
from .flow import Flow
from .server_state import ServerState

# Between two messages; in a head; in a body; refused or upgraded, and further bytes are discarded.
IDLE, HEAD, BODY, REFUSED = range(4)


class Connection(HttpToolsProtocol):
    """Uvicorn's protocol with states. A subclass sets `flow`, `since`, `order` and `_stage`."""

    server_state: ServerState
    flow: Flow
    since = 0
    """The clock's value at the last step of the message, or at its end."""
    order = 0
    """The number of the connection in this worker."""
    transferred = False
    """Another worker has handed the connection over, so it has had requests."""
    _stage = IDLE

    @property
    def idle(self) -> bool:
        """True if no part of a request has been read and no part of a response is unsent."""
        return (
            self._stage == IDLE
            and (self.cycle is None or self.cycle.response_complete)
            and not self.pipeline
            and not self.transport.is_closing()
            and not self.flow.read_paused
            and not self.flow.held
            and self.transport.get_write_buffer_size() == 0
        )

    @property
    def waits(self) -> bool:
        """True while no request has come, a head is incomplete, or the connection is idle for more than a second."""
        if self._stage == HEAD:
            return not self.transport.is_closing() and (self.cycle is None or self.cycle.response_complete)
        unused = self.cycle is None and not self.transferred
        return self.idle and (unused or self.server_state.clock - self.since > 1)

    @property
    def is_new(self) -> bool:
        """True until the head of the first request is complete."""
        unused = self.cycle is None and not self.transferred
        return unused and self._stage in {IDLE, HEAD} and not self.transport.is_closing()

    @property
    def has_unread(self) -> bool:
        """True if the client has sent bytes that are not parsed, or that the kernel holds."""
        if self.flow.unparsed:
            return True
        return self._in_kernel(termios.FIONREAD) > 0

    @property
    def unsent(self) -> int:
        """The bytes of responses that the client has not received. 0 if the kernel has taken all of them."""
        buffered = self.transport.get_write_buffer_size()
        # The event loop fills the kernel's buffer, of up to megabytes, only when a third of it is free.
        return buffered + self._in_kernel(termios.TIOCOUTQ) if buffered else 0

    def _in_kernel(self, queue: int) -> int:
        """Return the bytes in a queue of the socket, FIONREAD or TIOCOUTQ. 0 if it is closed or has no such queue."""
        socket, size = self.transport.get_extra_info("socket"), array.array("i", [0])
        if socket is None:
            return 0
        try:
            fcntl.ioctl(socket.fileno(), queue, size)
        except OSError:
            return 0
        return size[0]

    def evict(self) -> None:
        """Close this waiting connection in favour of a new one."""
        catalogue().connections_rejected.labels(limits.EVICTED).inc()
        self.transport.abort()  # close() would wait until the client has read the last response
