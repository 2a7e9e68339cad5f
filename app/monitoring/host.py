"""CPU, memory and disk of the host or container, for a service that collects figures of its own beside them.

Name a function that takes a `Catalogue` in `Observability.gunicorn(collectors=...)`. Only the exporter process calls
it, every few seconds.
"""

from .metrics.catalogue import Catalogue
from .metrics.host import HostMetrics, collect, memory

__all__ = ["Catalogue", "HostMetrics", "collect", "memory"]
