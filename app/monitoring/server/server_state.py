"""The state of a worker's connections."""

from typing import TYPE_CHECKING, cast

from uvicorn import server

from .admission import Admission
from .handover import Queue
from .limits import Limits
from .room import Room

if TYPE_CHECKING:
    from .protocol import Protocol


class ServerState(server.ServerState):
    """The state of a worker's connections.

    `queue` is set while connections are handed over as soon as they are idle, `closing` once each response is to be the
    last on its connection. `clock` counts the seconds of a Sweeper. `admission` is None if requests in flight are not
    bounded.
    """

    admission: Admission | None = None
    queue: Queue | None = None
    closing = False
    clock = 0

    def __init__(self, limits: Limits | None = None) -> None:
        super().__init__()
        self.limits = limits or Limits()
        self.room = Room(self)

    def close_after_responses(self) -> None:
        """Announce the close of each connection with its next response."""
        self.queue, self.closing = None, True
        for connection in self.connections:
            if hasattr(connection, "announce_close"):  # not a websocket
                cast("Protocol", connection).announce_close()

    def awaits_first_request(self) -> bool:
        """Return whether a connection has not had a request."""
        return any(getattr(connection, "is_new", False) for connection in self.connections)
