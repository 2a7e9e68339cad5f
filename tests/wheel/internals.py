"""Static analysis of a package: the libraries whose internals it uses."""

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

# Public members of namedtuple, despite the underscore.
PUBLIC = {"_replace", "_asdict", "_fields"}
# Expressions that rely on internals and do not look so, and the library behind them, where the module does not import
# it or the name has no underscore.
HIDDEN = {
    "instance._connection": "asyncpg",  # passed in by asyncpg's instrumentation
    "integration.LoguruIntegration.setup_once": "sentry-sdk",  # only sentry_sdk.init calls it
    "message.record": "loguru",  # the form of a record's level and exception
}


@dataclass
class Uses:
    """Distributions that a module imports, and its expressions that access another object's internals."""

    libraries: set[str] = field(default_factory=set)
    internals: set[str] = field(default_factory=set)


def uses(module: Path) -> Uses:
    """Return the uses of `module`. Private names that the module itself defines are ignored."""
    tree = ast.parse(module.read_text())
    own = set(_defined(tree))
    found = Uses()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            text = ast.unparse(node)
            if text in HIDDEN:
                found.internals.add(text)
                found.libraries.add(HIDDEN[text])
            elif _private(node.attr) and node.attr not in own and not _is_self(node.value):
                found.internals.add(text)
            continue
        names = _imported(node)
        if names and any(_private(part) for name in names for part in name.split(".")):
            found.internals.add(ast.unparse(node))
        found.libraries |= {distribution for name in names for distribution in _distributions(name)}
    return found


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0:
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def _distributions(name: str) -> list[str]:
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names:
        return []
    if top == "opentelemetry":  # a namespace shared by many distributions
        words = name.split(".")
        return ["opentelemetry-" + {"sdk": "sdk", "exporter": "exporter-otlp-proto-grpc"}.get(words[1], "api")]
    return [distribution.lower().replace("_", "-") for distribution in _providers()[top]]


@cache
def _providers() -> Mapping[str, list[str]]:
    return packages_distributions()


def _private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in PUBLIC


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in {"self", "cls"}


def _defined(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
