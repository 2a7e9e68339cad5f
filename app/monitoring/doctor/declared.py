"""The metrics and registries of this process, and the modules that hold them.

Metrics know no module, so each imported module's global names are looked through, once for one examination. Only
types are compared: `isinstance` asks an object for its class, which makes a lazy object load what it stands for.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from ..metrics.registry import registry as bounded_registry

_SKIPPED = sys.stdlib_module_names | {"prometheus_client"}


@dataclass
class Declared:
    """What `find` found. `places` has the `module.name` of an object by its id."""

    registries: list[CollectorRegistry] = field(default_factory=list)
    metrics: list[MetricWrapperBase] = field(default_factory=list)
    places: dict[int, str] = field(default_factory=dict)

    def named(self, metric: MetricWrapperBase) -> str:
        """Return the metric's name, with the module that declares it where that is known."""
        place = self.places.get(id(metric))
        return metric._name if place is None else f"{metric._name} ({place})"  # noqa: SLF001 -- no public accessor


def collectors(registry: CollectorRegistry) -> list[Collector]:
    """Return the collectors of a registry."""
    return list(registry._collector_to_names)  # noqa: SLF001 -- no public accessor exists


def find() -> Declared:
    """Find the metrics of the default and the bounded registry, and those in global names of modules."""
    found = Declared([REGISTRY, bounded_registry()])
    metrics: dict[int, MetricWrapperBase] = {}
    for place, value in _globals():
        if not issubclass(type(value), MetricWrapperBase | CollectorRegistry):
            continue
        found.places.setdefault(id(value), place)
        if isinstance(value, MetricWrapperBase):
            metrics[id(value)] = value
        elif isinstance(value, CollectorRegistry) and not any(value is known for known in found.registries):
            found.registries.append(value)
    for registry in found.registries:
        for collector in collectors(registry):
            if isinstance(collector, MetricWrapperBase):
                metrics[id(collector)] = collector
    found.metrics = list(metrics.values())
    return found


def _globals() -> Iterator[tuple[str, object]]:
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in _SKIPPED or module is None:
            continue
        # Past the module's own __getattribute__: a lazy module is imported by any access.
        try:
            names = object.__getattribute__(module, "__dict__")
        except AttributeError:  # not every entry of sys.modules is a module
            continue
        for attribute, value in list(names.items()):
            yield f"{name}.{attribute}", value
