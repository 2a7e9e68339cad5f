"""One timer a worker for the time limits of all its connections, instead of one a request."""

import asyncio

from .limited_protocol import LimitedProtocol
from .server_state import ServerState

TICK_SECONDS = 1.0


class Sweeper:
    """Advances the clock of a worker's connections and closes those that are overdue.

    The clock counts sweeps and not time: while the event loop is blocked, no time passes for clients whose bytes wait
    to be read. A time-out of n seconds takes effect n to n + 1 seconds after the event.
    """

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(TICK_SECONDS, self._sweep)

    def _sweep(self) -> None:
        self._timer = self._loop.call_later(TICK_SECONDS, self._sweep)
        self._state.clock += 1
        for connection in list(self._state.connections):
            if isinstance(connection, LimitedProtocol):
                connection.sweep()
        self._state.room.make_room()

    def stop(self) -> None:
        """Sweep no more."""
        self._timer.cancel()
