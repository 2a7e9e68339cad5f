"""Redaction packs: the private names and the number forms of one locale, beside those that hold everywhere.

Constraint: a pack is data. Its checks are functions of modules, so that the exporter process can have them.
"""

import importlib
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

_REPLACEMENT = re.compile(r"\[[a-z]{2,16}\]")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


class PackError(ValueError):
    """A pack cannot be used; the message states the fault and the expected form."""


@dataclass(frozen=True)
class NumberForm:
    """One form of private numbers, such as an identity number."""

    pattern: str
    """A regular expression that is matched where a number begins. Bound every repetition: it reads any caller's text.

    A look-ahead such as `(?!\\d)` at its end keeps it from matching the beginning of a longer number.
    """
    replacement: str
    """A word in brackets, such as "[nik]"."""
    check: Callable[[str], bool] | None = None
    """A module-level function that returns True if the digits, without separators, are such a number."""
    groups: tuple[tuple[int, ...], ...] = ()
    """The sizes of the groups in which it is written; empty for any."""
    labels: tuple[str, ...] = ()
    """Words before a number that identify it: `check` and `groups` do not apply to such a number."""
    unmistakable: bool = False
    """Match it before dates, amounts and IP addresses: its punctuation alone identifies it."""

    def __post_init__(self) -> None:
        _compiled(self.pattern, self.replacement)
        if _REPLACEMENT.fullmatch(self.replacement) is None:
            raise PackError(f"{self.replacement!r}: want a replacement such as '[nik]'")


@dataclass(frozen=True)
class RedactionPack:
    """The private names and number forms of one locale. Names are words in lower case: "nomor hp"."""

    name: str
    """Lower-case letters, digits and underscores, a letter first."""
    number_keys: tuple[str, ...] = ()
    """Names of values that are digits with blanks and dashes between."""
    word_keys: tuple[str, ...] = ()
    """Names of values that reach to the next blank."""
    phrase_keys: tuple[str, ...] = ()
    """Names of values of several words."""
    whole_keys: tuple[str, ...] = ()
    """Names that are private alone, and too common as the last word of another."""
    tails: tuple[str, ...] = ()
    """Words that may follow a private name."""
    forms: tuple[NumberForm, ...] = ()
    """Identity numbers and the like."""
    phones: str = ""
    """A verbose regular expression of local phone numbers, bounded as those of `forms`."""
    phone_labels: tuple[str, ...] = ()
    """Words before a phone number of any form: "hp 1234567"."""
    glued_labels: tuple[str, ...] = ()
    """Words that may be written together with a phone number: "wa0812..."."""
    document_labels: tuple[str, ...] = ()
    """Words before the number of a document or an account, which may have letters too: "paspor C1234567"."""
    calling_code: str = ""
    """The country's telephone prefix in digits, without the plus sign."""
    min_international_digits: int = 8
    """Fewer digits with `calling_code` are no phone number."""

    def __post_init__(self) -> None:
        if _NAME.fullmatch(self.name) is None:
            raise PackError(f"{self.name!r}: want a pack's name of lower-case letters, digits and underscores")
        for declared in fields(self):
            value = getattr(self, declared.name)
            if isinstance(declared.default, tuple) and not isinstance(value, tuple):
                raise PackError(f"{self.name}.{declared.name}={value!r}: want a tuple")
        _compiled(self.phones, f"{self.name}.phones", re.VERBOSE)


def phrases(text: str) -> tuple[str, ...]:
    """Return the phrases of a comma-separated text."""
    return tuple(phrase.strip() for phrase in text.replace("\n", " ").split(","))


def _compiled(pattern: str, owner: str, flags: int = 0) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern, flags)
    except re.error as error:
        raise PackError(f"{owner}: {pattern!r}: {error}: want a regular expression") from error
    if compiled.groups and owner.endswith(".phones"):
        raise PackError(f"{owner}: want groups without numbers and names: (?:...)")
    return compiled


def as_data(pack: RedactionPack) -> dict[str, Any]:
    """Return `pack` as JSON-compatible data. Raise PackError if another process cannot import a check."""
    return {**asdict(replace(pack, forms=())), "forms": [_form_as_data(form) for form in pack.forms]}


def _form_as_data(form: NumberForm) -> dict[str, Any]:
    return {**asdict(replace(form, check=None)), "check": form.check and _reference(form)}


def _reference(form: NumberForm) -> str:
    module, name = getattr(form.check, "__module__", ""), getattr(form.check, "__qualname__", "")
    # gunicorn's configuration is loaded as __config__, which no other process can import.
    if module.startswith("__") or getattr(sys.modules.get(module), name, None) is not form.check:
        raise PackError(f"{form.replacement}: check={form.check!r}: want a function of a module that can be imported")
    return f"{module}:{name}"


def from_data(data: Mapping[str, Any]) -> RedactionPack:
    """Return the pack that `as_data` has serialized. Raise PackError if a check cannot be imported."""
    forms = tuple(_form_from_data(form) for form in data["forms"])
    rest: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
    return RedactionPack(**{**rest, "forms": forms})


def _form_from_data(data: Mapping[str, Any]) -> NumberForm:
    lists = {"groups": tuple(tuple(sizes) for sizes in data["groups"]), "labels": tuple(data["labels"])}
    return NumberForm(**{**data, **lists, "check": data["check"] and _imported(data["check"])})


def _imported(reference: str) -> Callable[[str], bool]:
    module, _, name = reference.partition(":")
    try:
        check: Callable[[str], bool] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise PackError(f"{reference!r}: {error}: want module:function") from error
    return check
