"""Recognition of endpoints that expose metrics: those of the libraries, and functions that call them.

Helpers are followed for two calls within the endpoint's own module. Only types and dictionaries are read: any other
access could make a lazy object load what it stands for.
"""

import dis
import functools
from collections.abc import Iterator
from inspect import getattr_static, unwrap
from types import CodeType, FunctionType, MethodType
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from .declared import PACKAGE, collectors

MAX_CALLS = 2
MAX_FUNCTIONS = 100
_LIBRARIES = ("prometheus_client", "prometheus_fastapi_instrumentator")
_DOCUMENTATION = "fastapi.applications"  # has the endpoints of /openapi.json and /docs
COLLECTOR = "MultiProcessCollector"
_EXPOSING = frozenset({COLLECTOR, "generate_latest", "make_asgi_app", "make_wsgi_app"})
_GLOBALS = frozenset({"LOAD_GLOBAL", "LOAD_NAME"})
_Bound = tuple[FunctionType, Any]
"""A function, and the object or class that it is a method of; None for a plain function."""


def module_of(endpoint: Any) -> str:
    """Return the name of the module of a function, or of an object's class."""
    return str(getattr(endpoint, "__module__", None) or type(endpoint).__module__)


def is_ours(endpoint: Any) -> bool:
    """Return whether this package serves the endpoint."""
    return module_of(endpoint).startswith(f"{PACKAGE}.")


def exposes(endpoint: Any) -> bool:
    """Return whether an endpoint is an exposition of prometheus_client, or calls it."""
    return bool(exposers(endpoint))


def exposers(endpoint: Any) -> set[str]:
    """Return the names of the library that expose metrics and that an endpoint is made of or calls.

    `MultiProcessCollector` is among them where it refers to a registry that has one, too.
    """
    if is_ours(endpoint) or (type(endpoint) is FunctionType and endpoint.__module__ == _DOCUMENTATION):
        return set()
    found = {"make_asgi_app"} if module_of(endpoint).partition(".")[0] in _LIBRARIES else set[str]()
    adds_up = False
    level, seen = list(_functions(endpoint)), set[CodeType]()
    namespaces = {id(function.__globals__) for function, _ in level}
    for _ in range(1 + MAX_CALLS):
        following: list[_Bound] = []
        for function, owner in level:
            if function.__code__ in seen or len(seen) >= MAX_FUNCTIONS:
                continue
            seen.add(function.__code__)
            global_names, attributes = _names(function.__code__)
            found |= _EXPOSING & (attributes | (global_names - function.__globals__.keys()))
            for value, of in _values(function, owner, global_names, attributes):
                if _is_of_library(value):
                    found.add(_library_name(value))
                adds_up = adds_up or _adds_up(value)
                following += [one for one in _functions(value, of) if id(one[0].__globals__) in namespaces]
        level = following
    return found | {COLLECTOR} if found and adds_up else found


def _functions(value: Any, owner: Any = None) -> Iterator[_Bound]:
    """Yield the functions that a call of `value` runs; of a class, as Starlette's HTTPEndpoint, all its methods."""
    kind = type(value)
    if issubclass(kind, functools.partial):
        yield from _functions(value.func)
    elif kind is MethodType:
        yield from _functions(value.__func__, value.__self__)
    elif kind is FunctionType:
        yield unwrap(value), owner
    elif issubclass(kind, type):
        yield from ((member, value) for member in vars(value).values() if type(member) is FunctionType)
    else:
        call = getattr_static(kind, "__call__", None)
        if type(call) is FunctionType:
            yield call, value


def _values(
    function: FunctionType, owner: Any, global_names: frozenset[str], attributes: frozenset[str]
) -> Iterator[tuple[Any, Any]]:
    """Yield the objects that a function refers to, each with its owner: globals, closure, its object's attributes."""
    for name in global_names & function.__globals__.keys():
        value = function.__globals__[name]
        # The making of an object does not call its methods.
        if not issubclass(type(value), type) or _is_of_library(value):
            yield value, None
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents, None
        except ValueError:  # not assigned yet
            continue
    if owner is not None:
        missing = object()
        for name in attributes:
            member = getattr_static(owner, name, missing)
            if member is not missing:
                yield member, owner


def _is_of_library(value: Any) -> bool:
    kind = type(value)
    named = value if kind is FunctionType or issubclass(kind, type) else kind
    module = str(getattr(named, "__module__", ""))
    return module.partition(".")[0] == "prometheus_client" and _library_name(value) in _EXPOSING


def _library_name(value: Any) -> str:
    kind = type(value)
    named = value if kind is FunctionType or issubclass(kind, type) else kind
    # "make_asgi_app.<locals>.prometheus_app" is the result of make_asgi_app().
    return str(getattr(named, "__qualname__", "")).partition(".")[0]


def _adds_up(value: Any) -> bool:
    """Return whether an object is a registry with a MultiProcessCollector."""
    return issubclass(type(value), CollectorRegistry) and any(
        type(collector) is MultiProcessCollector for collector in collectors(value)
    )


@functools.lru_cache(maxsize=1024)
def _names(code: CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of globals in a function and the functions in it, and those of attributes and imports."""
    global_names, others = set[str](), set[str]()
    for instruction in dis.get_instructions(code):
        if instruction.opcode in dis.hasname:
            (global_names if instruction.opname in _GLOBALS else others).add(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            more = _names(constant)
            global_names |= more[0]
            others |= more[1]
    return frozenset(global_names), frozenset(others)
