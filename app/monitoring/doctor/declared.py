"""The metrics and registries of this process, and the modules that hold them.

A metric does not record its module, so the global names of all imported modules are searched, once an examination. Only
types are compared: `isinstance` reads an object's `__class__`, which makes a lazy object load its target.
"""

import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from ..metrics.registry import registry as bounded_registry

PACKAGE = __package__.rpartition(".")[0]
_SKIPPED = sys.stdlib_module_names | {"prometheus_client"}
_Named = list[tuple[str, object]]
# The modules that the master has searched before it forks, and the objects that it has found in them. A worker which
# reads them again would copy the pages of all their objects.
_searched: dict[str, tuple[object, _Named]] = {}
# Classes, and whether `find` searches for their objects. There are thousands of objects, and issubclass is slow for
# some abstract classes.
_kinds: "WeakKeyDictionary[type, bool]" = WeakKeyDictionary()


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
    for module, name, value in _searched_globals():
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


def search_imported() -> None:
    """Search the modules that are imported now; `find` does not search them again. Call it in the master."""
    for name, module in _modules():
        _searched[name] = module, _search(module)


def _searched_globals() -> Iterator[tuple[str, str, object]]:
    """Yield module, name and value of the metrics and registries among the global names of imported modules."""
    for module_name, module in _modules():
        known, found = _searched.get(module_name, (None, []))
        yield from ((module_name, name, value) for name, value in (found if known is module else _search(module)))


def module_globals() -> Iterator[tuple[str, str, object]]:
    """Yield module, name and value of the global names of imported modules, those of the package left out."""
    for module_name, module in _modules():
        yield from ((module_name, name, value) for name, value in _names(module))


def _search(module: object) -> _Named:
    return [(name, value) for name, value in _names(module) if _is_searched_for(type(value))]


def _names(module: object) -> _Named:
    # Past the module's own __getattribute__: a lazy module is imported by any access.
    try:
        return list(object.__getattribute__(module, "__dict__").items())
    except AttributeError:  # not every entry of sys.modules is a module
        return []


def _is_searched_for(kind: type) -> bool:
    if kind not in _kinds:
        _kinds[kind] = issubclass(kind, MetricWrapperBase | CollectorRegistry)
    return _kinds[kind]


def _modules() -> Iterator[tuple[str, object]]:
    """Yield the imported modules and their names, those of the package left out."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] not in _SKIPPED and not f"{name}.".startswith(f"{PACKAGE}."):
            yield name, module


def _mentions(module: str, metric: MetricWrapperBase) -> bool:
    try:
        return metric._original_name in inspect.getsource(sys.modules[module])  # noqa: SLF001
    except (OSError, TypeError):  # no source, as in a compiled module
        return False
