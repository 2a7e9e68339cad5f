"""The agency's metrics in a registry of a test's own."""

from prometheus_client import CollectorRegistry

from app.metrics import Metrics, build_metrics
from app.monitoring import Observability
from app.observability import NAMESPACE


class _Isolated(Observability):
    """The object of the service, with a registry of its own in place of the process's."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(namespace=NAMESPACE)
        self._registry = registry

    @property
    def registry(self) -> CollectorRegistry:  # type: ignore[override]  # some tests have a plain one
        return self._registry


def metrics_in(registry: CollectorRegistry) -> Metrics:
    """Declare the agency's metrics in `registry`. `Observability.current()` stays as it is."""
    before = Observability._current
    try:
        return build_metrics(_Isolated(registry))
    finally:
        Observability._current = before
