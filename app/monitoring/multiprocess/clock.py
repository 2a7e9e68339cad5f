"""The order of writes of several processes by their timestamps, also after the system clock has been set back.

A timestamp is credible until shortly after now; a later one was written before the clock was set back, and counts as
now. What a reader has seen before such a step stays older than what is written after it.
"""

import sys
import time

TOLERANCE_SECONDS = 1.0


class WriteClock:
    """The clock of one reader. Call `look` before each reading."""

    def __init__(self) -> None:
        self._now = time.time()
        self._offset = self._now - time.monotonic()
        self._set_back = 0.0

    def look(self) -> float:
        """Return the seconds by which the system clock has been set back since the last call, 0 if it has not."""
        self._now = time.time()
        before, self._offset = self._offset, self._now - time.monotonic()
        step = before - self._offset
        if step <= TOLERANCE_SECONDS:
            return 0.0
        self._set_back += step
        return step

    def credible(self, timestamp: float) -> float:
        """Return a Unix time as it counts: a time from the future is now."""
        if timestamp <= self._now + TOLERANCE_SECONDS:
            return timestamp
        return min(time.time(), timestamp)  # now for NaN too

    def order(self, timestamp: float) -> float:
        """Return the place of a write in the order of writes, for one that is first seen now."""
        return self.credible(timestamp) + self._set_back

    def timestamp(self, order: float) -> float:
        """Return the Unix time of a place in the order of writes, by the clock as it is set now."""
        return order - self._set_back


def later_than_never(timestamp: float) -> float:
    """Return a Unix time above 0, which stands for a gauge that was never set."""
    return max(timestamp, sys.float_info.min)
