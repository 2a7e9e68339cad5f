"""docs/api.md lists the names that the documents tell adopters to use, with the fields of classes."""

import importlib
import re
from dataclasses import fields, is_dataclass
from functools import cache

import pytest

from app.monitoring import Options
from tests import api_reference

INSTALLED = api_reference.INSTALLED
CLASSES = [
    (module, name)
    for module in api_reference.MODULES
    for name in importlib.import_module(api_reference.PACKAGE + module).__all__
    if is_dataclass(getattr(importlib.import_module(api_reference.PACKAGE + module), name))
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
