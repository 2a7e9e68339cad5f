"""The contents of Python values: names as text, fields of objects, pairs. Nothing here raises for a faulty object."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from .keys import MAX_KEY_LENGTH, Kind, field, is_secret_key

_NAMES = ("name", "key", "field", "header")


def show(value: object) -> str:
    """Return the text of `value`."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001 -- an object that cannot be shown is no reason to lose the line
        return f"[{type(value).__name__}]"


def name_of(key: Any) -> str | None:
    """Return a key as text; None for a number."""
    if isinstance(key, str):
        return key
    if isinstance(key, bytes):
        return key[-MAX_KEY_LENGTH:].decode("latin-1")
    return None if key is None or isinstance(key, int | float) else show(key)


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
