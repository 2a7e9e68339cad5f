"""docs/api.md lists the names that the documents tell adopters to use, with the fields of classes."""

import ast
import builtins
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import pytest

from app.monitoring import Options
from app.monitoring.requests import placement
from app.settings import ROOT
from tests import api_reference

INSTALLED = api_reference.INSTALLED
PUBLIC = [
    (module, name, getattr(importlib.import_module(api_reference.PACKAGE + module), name))
    for module in api_reference.MODULES
    for name in importlib.import_module(api_reference.PACKAGE + module).__all__
]
CLASSES = [(module, name) for module, name, found in PUBLIC if is_dataclass(found)]
MEMBERS = [
    (f"{module}.{name}", member)
    for module, name, found in PUBLIC
    if inspect.isclass(found)
    for member in vars(found).values()
    if inspect.isroutine(member) and not member.__name__.startswith("_")
]


@cache
def listed() -> dict[str, str]:
    """Return the entry of each public name, by its dotted name; an empty one for modules and commands."""
    found: dict[str, str] = {}
    for section in re.split(r"^## ", api_reference.PAGE.read_text(), flags=re.MULTILINE)[1:]:
        module, *entries = re.split(r"^### ", section, flags=re.MULTILINE)
        found[module.split()[0]] = ""
        for entry in entries:
            name, _, text = entry.partition("\n")
            if name.startswith("python -m "):
                found[name.split()[2]] = ""
            else:
                found[f"{module.split()[0]}.{name}"] = text
    return found


@pytest.mark.parametrize(("module", "name"), CLASSES)
def test_the_fields_of_a_public_class_are_listed_with_their_types(module: str, name: str) -> None:
    found = getattr(importlib.import_module(api_reference.PACKAGE + module), name)
    entry = listed()[f"{INSTALLED}{module}.{name}"]
    if "The same as" not in entry and found is not Options:
        assert [one.name for one in fields(found) if f"\n- `{one.name}: " not in entry] == []


@pytest.mark.parametrize(("owner", "member"), MEMBERS, ids=lambda one: getattr(one, "__name__", one))
def test_the_whole_docstring_of_a_method_is_in_the_reference(owner: str, member: Callable[..., object]) -> None:
    entry = listed()[f"{INSTALLED}{owner}"]
    text = inspect.cleandoc(member.__doc__ or "")
    assert "The same as" in entry or " ".join(text.split()) in " ".join(entry.split())


def annotations(found: object) -> Iterator[ast.expr]:
    """Yield the annotations of a function, or of the public members of a class."""
    (made,) = ast.parse(textwrap.dedent(inspect.getsource(found))).body  # type: ignore[arg-type]
    members = made.body if isinstance(made, ast.ClassDef) else [made]
    for member in members:
        if isinstance(member, ast.AnnAssign) and not ast.unparse(member.target).startswith("_"):
            yield member.annotation
        elif isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef) and (
            member.name == "__init__" or not member.name.startswith("_")
        ):
            given = member.args
            arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
            yield from (one.annotation for one in arguments if one is not None and one.annotation is not None)
            if member.returns is not None:
                yield member.returns


def own_names(module: ModuleType) -> set[str]:
    """Return the names that a module of the package defines itself or imports from another one, without TypeVars."""
    tree = ast.parse(inspect.getsource(module))
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]
    targets = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    found = {alias.asname or alias.name for node in imported for alias in node.names}
    found |= {node.name for node in tree.body if isinstance(node, ast.ClassDef)} | set(map(ast.unparse, targets))
    return {name for name in found if not isinstance(getattr(module, name, None), TypeVar)}


def private_types(found: object, module: ModuleType) -> set[str]:
    """Return the types in the annotations of `found` that only a private module of the package has."""
    public = {name for _, name, _ in PUBLIC}
    texts = [one.value if isinstance(one, ast.Constant) else ast.unparse(one) for one in annotations(found)]
    named = {name for text in texts for name in re.findall(r"[A-Za-z_]\w*", str(text))}
    return (named & own_names(module)) - public


@pytest.mark.parametrize(("module", "name", "found"), PUBLIC, ids=[f"{module}.{name}" for module, name, _ in PUBLIC])
def test_the_types_of_public_signatures_are_public(module: str, name: str, found: object) -> None:
    if inspect.isclass(found) or inspect.isfunction(found):
        home = sys.modules[found.__module__]
        assert home.__name__.startswith(api_reference.PACKAGE), f"{module}.{name}"
        assert private_types(found, home) == set()


def test_a_private_type_in_a_signature_is_found() -> None:
    assert private_types(placement.observe, placement) == {"HttpMetrics", "RequestTracer", "MakeTracer"}


DOCUMENTS = sorted({*(ROOT / "docs").glob("*.md"), ROOT / "app" / "monitoring" / "README.md"} - {api_reference.PAGE})
NAME = r"(?:prefork_observability|app\.monitoring)"


def required(text: str) -> Iterator[str]:
    """Yield the dotted names of the package, and of its object and its doctor, that a document has."""
    for dotted in re.findall(rf"\b{NAME}((?:\.[A-Za-z_]\w*)+)", text):
        yield INSTALLED + dotted
    for module, names in re.findall(rf"^from {NAME}([.\w]*) import (.+)$", text, re.MULTILINE):
        yield from (f"{INSTALLED}{module}.{name.strip()}" for name in names.split(","))
    for module, function in re.findall(rf"\b{NAME}([.\w]*):(\w+)", text):
        yield f"{INSTALLED}{module}.{function}"
    for member in re.findall(r"\bObservability(?:\(.*?\))?(?:\.current\(\))?\.(\w+)", text):
        yield f"{INSTALLED}.Observability.{member}"
    for function in re.findall(r"\bdoctor\.([a-z_]+)\(", text):
        yield f"{INSTALLED}.doctor.{function}"
    for error in re.findall(r"\b[A-Z]\w+Error\b", text):
        if not hasattr(builtins, error):
            yield f"{error}"


def is_listed(name: str) -> bool:
    """Return True if docs/api.md has `name`, as a module, a name of one, a member of a class, or an exception."""
    home, _, member = name.rpartition(".")
    if name in listed() or f"\n- `{member}" in listed().get(home, ""):
        return True
    return not home and any(one.endswith(f".{name}") for one in listed())


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_the_names_that_a_document_has_are_public(path: Path) -> None:
    assert [name for name in required(path.read_text()) if not is_listed(name)] == []


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("`prefork_observability.server.worker.Worker`", ["prefork_observability.server.worker.Worker"]),
        ("from app.monitoring.health import A, B", [f"prefork_observability.health{x}" for x in ("", ".A", ".B")]),
        ("prefork_observability-0.1.0-py3", []),
        ("Observability('shop').current().add(f)", ["prefork_observability.Observability.add"]),
        ("doctor.examine(app)", ["prefork_observability.doctor.examine"]),
        ("raises CardinalityError or TypeError", ["CardinalityError"]),
    ],
)
def test_the_names_in_a_text_are_found(text: str, names: list[str]) -> None:
    assert list(required(text)) == names


@pytest.mark.parametrize(
    "name",
    [
        "prefork_observability.companion",
        "prefork_observability.redaction.portable",
        "prefork_observability.Observability.x",
    ],
)
def test_other_names_are_not_public(name: str) -> None:
    assert not is_listed(name)
