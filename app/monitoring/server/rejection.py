"""The response to a request that is shed: 503 with Retry-After and a problem (RFC 9457), built once and sent often."""

from collections.abc import Sequence
from http import HTTPStatus
from itertools import cycle

import orjson

from .fixed_response import fixed_response

# In turn, so that clients that are rejected together do not come back together.
RETRY_AFTER_SECONDS = (1, 2, 3)
# Seconds for which a connection is not read after the first rejection in a row, the second and so on. They limit the
# rate of a client that retries at once.
PAUSES_SECONDS = (0.0, 0.05, 0.1, 0.25, 0.5, 1.25)
# Rejections of a worker in one second after which the pause is one second, also after the first in a row: they share
# the CPU with the requests that are served. Fewer make it shorter in proportion.
REJECTIONS_OF_A_SECOND = 500
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


def pause_after(rejected: int, lately: int = 0) -> float:
    """Return the seconds for which a connection is not read after `rejected` rejections in a row.

    `lately` are those of the whole worker in the last second.
    """
    alone = PAUSES_SECONDS[min(rejected, len(PAUSES_SECONDS)) - 1]
    return max(alone, min(PAUSES_SECONDS[-1], lately / REJECTIONS_OF_A_SECOND))
