"""The contents of Python values: names as text, fields of objects, pairs. Nothing here raises for a faulty object."""

import dataclasses
from collections import deque
from collections.abc import Collection, ItemsView, Iterable, KeysView, Mapping, ValuesView
from typing import Any

from .keys import MAX_KEY_LENGTH, Kind, field, is_secret_key

_PLAIN = frozenset({str, int, float, bool, dict, list, tuple, type(None)})
_COLLECTIONS = (list, tuple, set, frozenset, deque, KeysView, ValuesView, ItemsView)
_NAMES = ("name", "key", "field", "header")


def plain(value: Any) -> Any:
    """Return a text or number of a derived class as one of the built-in class, whose methods do not raise."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if issubclass(kind, str):
        return str.__str__(value)
    if issubclass(kind, int):
        return int.__int__(value)
    return float.__float__(value) if issubclass(kind, float) else value


def show(value: object) -> str:
    """Return the text of `value`, as a plain str."""
    try:
        return str.__str__(str(plain(value)))
    except Exception:  # noqa: BLE001 -- an object that cannot be shown is no reason to lose the line
        return unreadable(value)


def unreadable(value: object) -> str:
    """Return what stands for a value that cannot be read: its type's name."""
    return f"[{type.__dict__['__name__'].__get__(type(value))}]"


def name_of(key: Any) -> str | None:
    """Return a key as text; None for a number."""
    kind = type(key)
    if issubclass(kind, str):
        return str.__str__(key)
    if issubclass(kind, bytes):
        return bytes.__getitem__(key, slice(-MAX_KEY_LENGTH, None)).decode("latin-1")
    return None if key is None or issubclass(kind, int | float) else show(key)


def items_of(value: Any) -> Collection[Any] | None:
    """Return the items of a built-in collection without names; None for any other value."""
    return value if isinstance(value, _COLLECTIONS) else None


def fields_of(value: Any) -> Mapping[Any, Any] | None:
    """Return the fields of a mapping or of an object that declares them; None for any other value."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, type):
        return None
    if hasattr(type(value), "model_fields"):  # pydantic
        return dict(vars(value))
    names = _declared(value)
    return {name: getattr(value, name) for name in names if hasattr(value, name)} if names else None


def _declared(value: Any) -> list[str]:
    """Return the field names of a dataclass, attrs class, msgspec structure or named tuple."""
    kind = type(value)
    if dataclasses.is_dataclass(value):
        return [declared.name for declared in dataclasses.fields(value)]
    if hasattr(kind, "__attrs_attrs__"):
        return [attribute.name for attribute in kind.__attrs_attrs__]
    names: Iterable[str] = getattr(kind, "__struct_fields__", ())
    return list(names or (getattr(kind, "_fields", ()) if isinstance(value, tuple) else ()))


def named_elsewhere(fields: Mapping[Any, Any]) -> str | None:
    """Return the field that another one names: {"name": "password", "value": ...}, or an error's "loc" and "input"."""
    if "input" in fields and "loc" in fields:
        return "input"
    if "value" not in fields:
        return None
    names = [fields.get(key) for key in _NAMES]
    return "value" if any(isinstance(name, str) and is_secret_key(name) for name in names) else None


def is_pair(value: Any) -> bool:
    """Return True if `value` is a private name with its value, as in a list of headers."""
    if not isinstance(value, list | tuple) or len(value) != 2 or hasattr(value, "_fields"):  # noqa: PLR2004
        return False
    name = name_of(value[0])
    return name is not None and len(name) <= MAX_KEY_LENGTH and field(name).kind is not Kind.PLAIN
