"""Warnings of a failure that many requests meet: one an interval, with the number of those left out."""

import time
from typing import Any

import structlog

INTERVAL_SECONDS = 10.0
MAX_KINDS = 100


class Throttle:
    """Logs the first warning of each kind at once, and further ones of the kind once in `interval` seconds."""

    def __init__(self, log: "structlog.typing.FilteringBoundLogger", interval: float = INTERVAL_SECONDS) -> None:
        self._log = log
        self._interval = interval
        # By kind: when the next one may be logged, and the number left out since the last one.
        self._kinds: dict[tuple[str, str], tuple[float, int]] = {}

    def warning(self, event: str, error: str, **fields: Any) -> None:
        """Log `event`, unless one with the same event and type of `error`, its text before ":", was just logged.

        A line after lines that were left out has their number as `suppressed`.
        """
        kind, now = (event, error.partition(":")[0]), time.monotonic()
        due, suppressed = self._kinds.get(kind, (0.0, 0))
        if now < due:
            self._kinds[kind] = (due, suppressed + 1)
            return
        if len(self._kinds) >= MAX_KINDS:
            self._kinds.clear()
        self._kinds[kind] = (now + self._interval, 0)
        if suppressed:
            fields["suppressed"] = suppressed
        self._log.warning(event, error=error, **fields)
