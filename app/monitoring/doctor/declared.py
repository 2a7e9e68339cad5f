"""The metrics and registries of this process, and the modules that hold them.

A metric does not record its module, so the global names of all imported modules are searched, once an examination. Only
types are compared: `isinstance` reads an object's `__class__`, which makes a lazy object load its target.
"""

import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from ..metrics.registry import registry as bounded_registry

PACKAGE = __package__.rpartition(".")[0]
_SKIPPED = sys.stdlib_module_names | {"prometheus_client"}


@dataclass
class Declared:
    """The result of `find`. `places` has module and name of each object in a module, by the object's id."""

    registries: list[CollectorRegistry] = field(default_factory=list)
    metrics: list[MetricWrapperBase] = field(default_factory=list)
    places: dict[int, list[tuple[str, str]]] = field(default_factory=dict)

    def named(self, metric: MetricWrapperBase) -> str:
        """Return the metric's name, with the module that declares it where that is known."""
        # No public accessor of the name exists.
        return " ".join([metric._name, *(f"({module}.{name})" for module, name in self._declaring(metric))])  # noqa: SLF001

    def modules(self, metric: MetricWrapperBase) -> list[str]:
        """Return the module that declares the metric, where it is known."""
        return [module for module, _ in self._declaring(metric)]

    def _declaring(self, metric: MetricWrapperBase) -> list[tuple[str, str]]:
        """Return the first place of the metric, or nothing."""
        places = self.places.get(id(metric), [])
        # A module that imports the metric has it too: the one that declares it has its name in its text.
        declaring = places if len(places) < 2 else [one for one in places if _mentions(one[0], metric)]  # noqa: PLR2004
        return (declaring or places)[:1]

    def named_registry(self, registry: CollectorRegistry) -> str:
        """Return where the registry is."""
        if registry is REGISTRY:
            return "the default registry"
        if registry is bounded_registry():
            return f"the registry of {PACKAGE}"
        return ".".join(self.places[id(registry)][0])


def collectors(registry: CollectorRegistry) -> list[Collector]:
    """Return the collectors of a registry, which has none where its class has not called `super().__init__()`."""
    return list(vars(registry).get("_collector_to_names", ()))  # no public accessor exists


def find() -> Declared:
    """Find the metrics of the default and the bounded registry, and those in global names of modules."""
    found = Declared([REGISTRY, bounded_registry()])
    metrics: dict[int, MetricWrapperBase] = {}
    for module, name, value in module_globals():
        if not issubclass(type(value), MetricWrapperBase | CollectorRegistry):
            continue
        found.places.setdefault(id(value), []).append((module, name))
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


def module_globals() -> Iterator[tuple[str, str, object]]:
    """Yield module, name and value of the global names of imported modules, those of the package left out."""
    for module_name, module in list(sys.modules.items()):
        if module_name.partition(".")[0] in _SKIPPED or f"{module_name}.".startswith(f"{PACKAGE}."):
            continue
        # Past the module's own __getattribute__: a lazy module is imported by any access.
        try:
            names = object.__getattribute__(module, "__dict__")
        except AttributeError:  # not every entry of sys.modules is a module
            continue
        for name, value in list(names.items()):
            yield module_name, name, value


def _mentions(module: str, metric: MetricWrapperBase) -> bool:
    try:
        return metric._original_name in inspect.getsource(sys.modules[module])  # noqa: SLF001
    except (OSError, TypeError):  # no source, as in a compiled module
        return False
