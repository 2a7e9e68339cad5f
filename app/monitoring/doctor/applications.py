"""Checks of the application: what else counts its requests, and what else serves the package's paths."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client.multiprocess import MultiProcessCollector
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Match, Mount

from ..requests.placement import is_any_observed, is_observed
from .declared import PACKAGE, Declared, collectors
from .expositions import COLLECTOR, exposers, exposes, is_ours, module_of
from .finding import Finding, listed


@dataclass(frozen=True)
class Leaf:
    """A route that answers: its path in the whole application, and its endpoint or mounted application."""

    path: str
    endpoint: Any


def second_instrumentators(app: Starlette) -> Iterator[Finding]:
    """Find the Instrumentator's own middleware in the application and in those that are mounted in it."""
    for prefix, one in _applications(app):
        for middleware in one.user_middleware:
            if str(getattr(middleware.cls, "__module__", "")).startswith("prometheus_fastapi_instrumentator"):
                yield Finding(
                    "second-instrumentator",
                    "error",
                    f"the application at {prefix or '/'} has the Instrumentator's own middleware",
                    "each request is counted twice",
                    f"remove Instrumentator().instrument(app): {PACKAGE} counts requests already",
                )


def uninstrumented(app: Starlette | None) -> Iterator[Finding]:
    """Find an application that is served without the package's layer around it, or around one mounted in it.

    `app` is None where the server's application is none of Starlette. Then any application may be the one inside it.
    """
    if not (is_any_observed() if app is None else any(is_observed(one) for _, one in _applications(app))):
        yield Finding(
            "not-instrumented",
            "warning",
            "another application than the one that is served is instrumented"
            if is_any_observed()
            else "no application is instrumented",
            "requests are not counted, logged or traced, and the application does not serve /metrics",
            "Observability.current().instrument(app), where the application is made",
        )


def foreign_collectors(declared: Declared) -> Iterator[Finding]:
    """Find registries with the library's MultiProcessCollector."""
    for registry in declared.registries:
        if any(isinstance(collector, MultiProcessCollector) for collector in collectors(registry)):
            yield _superfluous(f"{declared.named_registry(registry)} has a MultiProcessCollector")


def _superfluous(what: str) -> Finding:
    """Return the finding of a MultiProcessCollector, which reads the archive in this service's processes only."""
    return Finding(
        "multiprocess-collector",
        "warning",
        what,
        "it has the numbers of workers that have ended in this service's processes only; another program that"
        " reads the directory with it misses them, so its totals fall",
        "remove it: the metrics port serves the sum of all workers",
    )


def foreign_expositions(app: Starlette) -> Iterator[Finding]:
    """Find routes of others that expose metrics."""
    for leaf in leaves(app.routes):
        names = exposers(leaf.endpoint)
        if COLLECTOR in names:
            yield _superfluous(f"{leaf.path or '/'} is an exposition by {_named(leaf.endpoint)}")
        elif names:
            yield Finding(
                "foreign-exposition",
                "error",
                f"{leaf.path or '/'} is an exposition by {_named(leaf.endpoint)}",
                "it shows one worker's numbers",
                "remove the route: the metrics port serves the sum of all workers",
            )


def shadowed_paths(app: Starlette, paths: Sequence[str]) -> Iterator[Finding]:
    """Find routes of the application that hide the package's own, or are hidden by them.

    A route with the same path is found in any order, a catch-all only where the package's own comes after it.
    """
    ours = {leaf.path for leaf in leaves(app.routes) if is_ours(leaf.endpoint)}
    for path in sorted(ours.union(paths)):
        reached = False
        for route in app.routes:
            found = list(leaves([route]))
            if any(leaf.path == path and is_ours(leaf.endpoint) for leaf in found):
                reached = True
                continue
            same = [leaf for leaf in found if leaf.path == path]
            if any(map(exposes, (leaf.endpoint for leaf in same or found))):
                continue  # a finding of its own
            if same or (not reached and _matches(route, path)):
                names = listed(_named(leaf.endpoint) for leaf in same or found)
                yield Finding(
                    "shadowed-path",
                    "warning",
                    f"{path} is served by the package and by {names}",
                    "only the first route answers, and the other one is never called",
                    "give the application's route another path, or one that does not match everything",
                )
                break


def leaves(routes: Sequence[BaseRoute], prefix: str = "", around: frozenset[int] = frozenset()) -> Iterator[Leaf]:
    """Yield the routes that answer, with those of included routers and mounted applications.

    `around` has the ids of the lists that `routes` is in: an application may be mounted in itself.
    """
    if id(routes) in around:
        return
    around |= {id(routes)}
    for route in routes:
        included = getattr(route, "effective_candidates", None)
        if included is not None:  # FastAPI keeps an included router as one route; its paths have the prefix already
            yield from leaves(included(), prefix, around)
        elif isinstance(route, Mount):
            yield Leaf(prefix + route.path, route.app)
            yield from leaves(route.routes or (), prefix + route.path, around)
        elif hasattr(route, "endpoint"):
            yield Leaf(prefix + str(getattr(route, "path", "")), route.endpoint)


def _applications(app: Starlette) -> Iterator[tuple[str, Starlette]]:
    yield "", app
    for leaf in leaves(app.routes):
        if isinstance(leaf.endpoint, Starlette) and leaf.endpoint is not app:
            yield leaf.path, leaf.endpoint


def _matches(route: BaseRoute, path: str) -> bool:
    scope = {"type": "http", "method": "GET", "path": path, "root_path": "", "headers": []}
    return route.matches(scope)[0] is Match.FULL


def _named(endpoint: Any) -> str:
    return f"{module_of(endpoint)}.{getattr(endpoint, '__qualname__', type(endpoint).__qualname__)}"
