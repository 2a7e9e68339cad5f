"""The limit of a worker's connections.

At the limit, the connection that has waited longest for a request is closed for each new one. If none waits, up to
RESERVED_CONNECTIONS more are accepted for probes. Beyond these, the listener is paused until a connection ends.
"""

import itertools
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..logging import get_logger

if TYPE_CHECKING:
    from .limited_protocol import LimitedProtocol
    from .server_state import ServerState

# Connections beyond the limit, on which only the paths of `overload_exempt_paths` are served.
RESERVED_CONNECTIONS = 16
# Share of the connections that a search has to find before it is repeated within one second.
MIN_FOUND_SHARE = 1 / 16
SECONDS_BETWEEN_LINES = 60


def _nothing() -> bool:
    return False


class Room:
    """Decides which connections a worker keeps."""

    def __init__(self, state: "ServerState") -> None:
        self._state = state
        self._waiting: deque[LimitedProtocol] = deque()
        self._next_search = self._next_line = 0
        self.next_order = itertools.count(1).__next__
        self.paused = False
        self.accept_more: Callable[[], object] = _nothing
        self.pause: Callable[[], bool] = _nothing
        self.resume: Callable[[], object] = _nothing

    @property
    def full(self) -> bool:
        """True if there are more connections than the limit."""
        return len(self._state.connections) > self._state.limits.max_connections

    @property
    def at_limit(self) -> bool:
        """True if one more connection would exceed the limit."""
        return len(self._state.connections) >= self._limit

    def admits(self, connection: "LimitedProtocol") -> bool:
        """Make room for a new connection. Return False if it is one of the reserved."""
        self.accept_more()
        if not self.full or self.evict(connection):
            return True
        if not self.paused and len(self._state.connections) >= self._limit + RESERVED_CONNECTIONS:
            self._pause()
        return False

    def _pause(self) -> None:
        self.paused = self.pause()
        if self.paused and self._state.clock >= self._next_line:
            self._next_line = self._state.clock + SECONDS_BETWEEN_LINES
            get_logger("gunicorn.connections").warning("accepting_paused", connections=len(self._state.connections))

    @property
    def _limit(self) -> int:
        return self._state.limits.max_connections

    def make_room(self) -> None:
        """Close connections that wait, while the listener is paused."""
        if self.paused:
            for _ in range(len(self._state.connections) - self._limit):
                if not self.evict(None):
                    break
            self.connection_ended()  # websockets end without a call

    def connection_ended(self) -> None:
        """Accept connections again, if that was paused and there is room."""
        if self.paused and len(self._state.connections) <= self._limit + RESERVED_CONNECTIONS // 2:
            self.paused = False
            self.resume()

    def evict(self, newcomer: "LimitedProtocol | None") -> bool:
        """Close the connection that has waited longest. Return False if none waits."""
        if self._evict_found(newcomer) or (self._search(newcomer) and self._evict_found(newcomer)):
            return True
        self._next_search = self._state.clock + 1
        return False

    def _evict_found(self, newcomer: "LimitedProtocol | None") -> bool:
        """Close the first connection of the queue that still waits. Those before it leave the queue."""
        while self._waiting:
            connection = self._waiting.popleft()
            if connection is not newcomer and connection.waits and not connection.has_unread:
                connection.evict()
                return True
        return False

    def _search(self, newcomer: "LimitedProtocol | None") -> bool:
        """Fill the queue of connections that wait. If few do, the next search is in the next second."""
        clock = self._state.clock
        if clock < self._next_search:
            return False
        connections: set[Any] = self._state.connections  # websockets too
        found = [one for one in connections if one is not newcomer and getattr(one, "waits", False)]
        self._waiting.extend(sorted(found, key=lambda one: (one.since, one.order)))
        few = len(found) < len(self._state.connections) * MIN_FOUND_SHARE
        self._next_search = clock + 1 if few else clock
        return bool(found)
