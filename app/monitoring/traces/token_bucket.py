"""A token bucket: a rate on average, and one second's tokens at once."""

import threading
import time
from collections.abc import Callable


class TokenBucket:
    """Give `rate` tokens a second, at most one second's at once, and one at once if the rate is below 1 and above 0.

    Thread-safe. `clock` returns seconds and never steps back.
    """

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._size = max(rate, 1.0) if rate > 0 else 0.0
        self._clock = clock
        self._tokens = self._size
        self._filled = clock()
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Take a token; return False if there is none."""
        with self._lock:
            now = self._clock()
            self._tokens = min(self._size, self._tokens + (now - self._filled) * self._rate)
            self._filled = now
            taken = self._tokens >= 1.0
            self._tokens -= taken
        return taken
