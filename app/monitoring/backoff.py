"""Exponential back-off for restarts and retries."""

import time
from collections.abc import Callable


class Backoff:
    """The delay before each restart: `first` seconds, doubled after each short run, at most `longest`.

    A run of more than `longest` seconds counts as healthy and sets the delay back to `first`.
    """

    def __init__(self, first: float, longest: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._first, self._longest, self._clock = first, longest, clock
        self._next = first
        self._started = clock()

    def started(self) -> None:
        """Note that a run begins now."""
        self._started = self._clock()

    def ended(self) -> float:
        """Note that the run has ended. Return the seconds to wait before the next one."""
        if self._clock() - self._started > self._longest:
            self._next = self._first
        delay = self._next
        self._next = min(delay * 2, self._longest)
        return delay
