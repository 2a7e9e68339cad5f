"""A gauge that a process exposes only once it has set it."""

from collections.abc import Iterable
from typing import Any

from prometheus_client import Gauge

from ..multiprocess import values


class LateGauge(Gauge):
    """A gauge of which nothing is exposed before its first `set`. Only `set` works.

    Another gauge is 0 in each process that has declared it, master and exporter among them: over processes the minimum
    would be that 0. The first value is stored with the series, so that no scrape finds 0 before it.
    """

    _value: Any

    def _metric_init(self) -> None:
        self._value = None

    def set(self, value: float) -> None:
        """Set the value."""
        if self._value is None:
            with values.starting_at(value):
                super()._metric_init()
        super().set(value)

    def _child_samples(self) -> Iterable[Any]:
        return () if self._value is None else super()._child_samples()
