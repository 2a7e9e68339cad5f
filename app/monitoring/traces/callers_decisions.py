"""A bound on what callers may have sampled beyond this service's own ratio.

Any client can send a sampled traceparent, or a trace id that the ratio samples, with each request. Each such request
costs the CPU of its spans, of their redaction and their export.
"""

import time
from collections.abc import Callable
from typing import Final, Literal

from prometheus_client import Counter

from .token_bucket import TokenBucket

Decision = Literal["honoured", "refused"]
DECISIONS: Final[tuple[Decision, ...]] = ("honoured", "refused")
MAX_FORCED_SAMPLES: Final = 10.0
"""Requests a second of a worker, by default."""


class CallersDecisions:
    """Honour `rate` decisions a second of callers for sampling, and count each by what became of it."""

    def __init__(self, rate: float, counter: Counter, clock: Callable[[], float] = time.monotonic) -> None:
        self._bucket = TokenBucket(rate, clock)
        # Created here so that each decision is exposed as 0 before the first request.
        self._honoured, self._refused = (counter.labels(decision) for decision in DECISIONS)

    def honour(self) -> bool:
        """Return whether the next decision is honoured."""
        honoured = self._bucket.take()
        (self._honoured if honoured else self._refused).inc()
        return honoured
