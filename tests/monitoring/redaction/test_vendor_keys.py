"""Keys that vendors' prefixes identify are redacted; detect-secrets is the oracle."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from typing import Any

import detect_secrets.plugins
import pytest
from detect_secrets.plugins.base import RegexBasedDetector
from detect_secrets.plugins.keyword import DENYLIST

from app.monitoring.redaction import is_secret_key, redact, redact_event, redact_text
from tests.monitoring.redaction.corpus import CONTEXTS
from tests.monitoring.redaction.vendor_keys import MAX_LEFT, made, templates

# Addresses are no secrets: they are cut to networks.
WITHOUT_FORM = {"IPPublicDetector"}
ORACLE = [(name, template) for name, group in templates()["oracle"].items() for template in group]
EVERY = ORACLE + [(name, template) for name, group in templates()["vendors"].items() for template in group]


def plugins() -> Iterator[type[RegexBasedDetector]]:
    for found in pkgutil.iter_modules(detect_secrets.plugins.__path__, "detect_secrets.plugins."):
        module = importlib.import_module(found.name)
        for _, kind in inspect.getmembers(module, inspect.isclass):
            if issubclass(kind, RegexBasedDetector) and kind is not RegexBasedDetector:
                yield kind


PLUGINS: dict[str, Any] = {kind.__name__: kind for kind in plugins()}


def left(parts: list[str], output: str) -> list[str]:
    """Return pieces of the random parts that `output` still has."""
    size = MAX_LEFT + 1
    pieces = (part[start : start + size] for part in parts for start in range(len(part) - size + 1))
    return [piece for piece in pieces if piece in output]


def test_every_plugin_of_the_oracle_has_templates() -> None:
    assert set(templates()["oracle"]) == set(PLUGINS) - WITHOUT_FORM


@pytest.mark.parametrize(("name", "template"), ORACLE)
def test_the_oracle_finds_the_keys_and_nothing_after_redaction(name: str, template: str) -> None:
    plugin = PLUGINS[name]()
    for key, parts in made(template):
        assert [found for line in key.splitlines() for found in plugin.analyze_string(line)], f"{key}: no sample"
        clean = redact_text(key)
        assert left(parts, clean) == []
        assert [found for line in clean.splitlines() for found in plugin.analyze_string(line) if "[" not in found] == []


def test_keys_of_vendors_are_redacted_in_every_context() -> None:
    kept = []
    for _, template in EVERY:
        for key, parts in made(template)[:1]:
            texts = [redact_text(make(key)) for make, _ in CONTEXTS.values()]
            texts += [repr(redact({"notes": [key], "body": key.encode()})), repr(redact_event({"event": key}))]
            kept += [(key, text) for text in texts if left(parts, text)]
    assert kept == []


def test_a_key_is_found_behind_escapes_and_other_words() -> None:
    key, parts = made("hvs.<w24>")[0]
    for text in (f"a\\n{key}", f"a\\t{key}", f"VAULT_{key}", f"x={key}&y=1", f"%20{key}", f"({key})", f"key={key}"):
        assert left(parts, redact_text(text)) == [], text
    assert redact_text(f"token_{key} was used") == "token_[key] was used"


@pytest.mark.parametrize("mark", ["[key]", "[jwt]", "[private key]"])
def test_the_marks_of_keys_stay(mark: str) -> None:
    assert redact_text(f"found {mark} here") == f"found {mark} here"


def test_the_names_that_detect_secrets_knows_are_private() -> None:
    for pattern in DENYLIST:
        for name in (pattern.replace("_?", "_"), pattern.replace("_?", ""), f"my_{pattern.replace('_?', '-')}"):
            assert is_secret_key(name), name
