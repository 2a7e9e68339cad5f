"""The response to a request that is shed, 503 with Retry-After and a problem (RFC 9457), and the pause after it."""

import asyncio
from collections.abc import Callable, Sequence
from http import HTTPStatus
from itertools import cycle

import orjson

from .fixed_response import fixed_response

# In turn, so that clients that are rejected together do not come back together.
RETRY_AFTER_SECONDS = (1, 2, 3)
# Seconds for which the requests of a connection wait after the first rejection in a row, the second and so on. They
# limit the rate of a client that retries at once.
PAUSES_SECONDS = (0.0, 0.05, 0.1, 0.25, 0.5, 1.4)
# Pauses end together: a wake-up of the event loop for each would cost as much as the rejection.
TICK_SECONDS = 0.05
# Rejections of a worker in one second after which the pause is one second, also after the first in a row: they share
# the CPU with the requests that are served. Fewer make it shorter in proportion.
REJECTIONS_OF_A_SECOND = 400
_BODY = orjson.dumps(
    {
        "type": "about:blank",
        "title": HTTPStatus.SERVICE_UNAVAILABLE.phrase,
        "status": HTTPStatus.SERVICE_UNAVAILABLE,
        "detail": "The service is overloaded. Nothing was done; try again later.",
    }
)


class Rejections:
    """The bytes of the response, until the server's default headers (the date) change."""

    def __init__(self) -> None:
        self._headers: Sequence[tuple[bytes, bytes]] | None = None
        self._made: dict[tuple[bool, bool, int], bytes] = {}
        self._seconds = cycle(RETRY_AFTER_SECONDS)

    def response(self, headers: Sequence[tuple[bytes, bytes]], *, head: bool, keep_alive: bool) -> bytes:
        """Return a response with the server's default headers, without the body if the request was a HEAD."""
        if headers is not self._headers:
            self._headers = headers
            self._made.clear()
        key = (head, keep_alive, next(self._seconds))
        found = self._made.get(key)
        if found is None:
            found = self._made[key] = fixed_response(
                HTTPStatus.SERVICE_UNAVAILABLE,
                headers,
                "application/problem+json",
                _BODY,
                head=head,
                close=not keep_alive,
                retry_after=key[-1],
            )
        return found


class Pauses:
    """Calls functions at the end of pauses, each up to TICK_SECONDS late."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ends: dict[int, list[Callable[[], object]]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, end: Callable[[], object], seconds: float) -> None:
        """Call `end` in `seconds`."""
        tick = int((self._loop.time() + seconds) / TICK_SECONDS) + 1
        self._ends.setdefault(tick, []).append(end)
        if self._timer is None:
            self._set_timer()

    def _set_timer(self) -> None:
        self._timer = self._loop.call_later(TICK_SECONDS, self._ring)

    def _ring(self) -> None:
        now = int(self._loop.time() / TICK_SECONDS)
        for tick in sorted(tick for tick in self._ends if tick <= now):
            for end in self._ends.pop(tick):
                self._loop.call_soon(end)  # so that one that fails does not keep the others
        self._timer = None
        if self._ends:
            self._set_timer()


def pause_after(rejected: int, lately: int = 0) -> float:
    """Return the seconds for which a connection waits after `rejected` rejections in a row.

    `lately` are those of the whole worker in a second. A few do not delay the first in a row.
    """
    alone = PAUSES_SECONDS[min(rejected, len(PAUSES_SECONDS)) - 1]
    shared = min(PAUSES_SECONDS[-1], lately / REJECTIONS_OF_A_SECOND)
    return max(alone, shared) if shared >= TICK_SECONDS else alone
