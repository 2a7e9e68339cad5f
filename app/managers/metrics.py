"""MetricsManager: the host figures of the service, which the exporter process takes every few seconds."""

from functools import cache

from app.monitoring.host import Catalogue, HostMetrics, memory

__all__ = ["MetricsManager", "collect", "memory"]


class MetricsManager(HostMetrics):
    """Sets the system_* gauges of a catalogue from CPU, memory and disk of the host or container."""


@cache
def _manager() -> MetricsManager:
    return MetricsManager()


def collect(metrics: Catalogue) -> None:
    """Update the host's gauges; called by the exporter."""
    _manager().collect(metrics)
