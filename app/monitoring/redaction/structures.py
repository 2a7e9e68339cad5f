"""Redaction of mappings, sequences and objects: by the field's name first, then by the form of each text.

A structure is copied within bounds: eight levels, a few thousand items, and a quarter of a million characters.
"""

import datetime as dt
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from .credentials import REDACTED
from .identity import is_sanitised_user, sanitised_list, sanitised_user
from .keys import MAX_KEY_LENGTH, Kind, field
from .numbers import numbers
from .objects import fields_of, is_pair, name_of, named_elsewhere, show
from .text import MAX_TEXT_LENGTH, redact_text

MAX_DEPTH = 8
MAX_ITEMS = 4096
MAX_CHARACTERS = 262_144
# Below this, a number under the plural of a private name is a count.
_COUNTS_END = 10**9
_CARDS_BEGIN, _CARDS_END = 10**14, 10**16
_TRACE = re.compile(r"[0-9a-f]{16}(?:[0-9a-f]{16})?")
# Their text holds nothing but digits and signs.
_NEVER_PRIVATE = (dt.date, dt.time, dt.timedelta, uuid.UUID)
_TRACEBACKS = frozenset({"exception", "stack"})


def redact(value: Any, depth: int = 0) -> Any:
    """Return a copy of `value` without private data at any depth; below eight levels everything is replaced."""
    return _Copy().value(value, depth)


def redact_event(event: Mapping[str, Any], *, user_key: bytes | None = None) -> dict[str, Any]:
    """Return a redacted copy of the fields of a log event, in their order.

    With `user_key` user ids become pseudonyms; without it, every user id that is not a pseudonym already is replaced.
    """
    copy: _Copy | None = None
    clean: dict[str, Any] = {}
    for key, value in event.items():
        kind = type(value)
        if kind is str and len(value) <= MAX_TEXT_LENGTH and (found := _quick(key, value)) is not None:
            clean[key] = found
        elif (kind is float or (kind is int and value < _CARDS_BEGIN)) and _rule(key) is Kind.PLAIN:
            clean[key] = value
        else:
            copy = copy or _Copy(user_key=user_key)
            copy.add(clean, key, value, 0)
    return clean


def _quick(key: Any, text: str) -> str | None:
    """Return the redacted text of a common field, or None if the field needs the full rules."""
    rule = _rule(key)
    if rule is Kind.PLAIN:
        return redact_text(text)
    if rule is Kind.TRACE:
        return text if _TRACE.fullmatch(text) else None
    return sanitised_list(text) if rule is Kind.CLIENT else None


@lru_cache(maxsize=4096)
def _rule(key: Any) -> Kind | None:
    """Return the rule for a field of this name; None if the name itself is rewritten or has another kind."""
    plain = isinstance(key, str) and len(key) <= MAX_KEY_LENGTH and key not in _TRACEBACKS
    return field(key).kind if plain and redact_text(key, one_line=True) == key else None


class _Copy:
    """A copy in progress and its remaining budget."""

    __slots__ = ("characters", "items", "user_key")

    def __init__(self, *, user_key: bytes | None = None) -> None:
        self.user_key = user_key
        self.items = MAX_ITEMS
        self.characters = MAX_CHARACTERS

    def value(self, value: Any, depth: int) -> Any:
        """Return a copy of `value`, which is `depth` levels below the top."""
        if isinstance(value, str):
            return self._text(value)
        if value is None or isinstance(value, int | float):
            return self._number(value)
        if isinstance(value, bytes | bytearray):
            return self._text(repr(bytes(value[: MAX_TEXT_LENGTH + 1])))
        if isinstance(value, _NEVER_PRIVATE) or depth >= MAX_DEPTH:
            return str(value) if isinstance(value, _NEVER_PRIVATE) else REDACTED
        try:
            return self._structure(value, depth)
        except Exception:  # noqa: BLE001 -- an object that cannot be read is no reason to lose the line
            return f"[{type(value).__name__}]"

    def _text(self, text: str, *, one_line: bool = False) -> str:
        if self.characters <= 0:
            return f"[cut {len(text)} characters]"
        clean = redact_text(text, one_line=one_line)
        self.characters -= len(clean)
        return clean

    @staticmethod
    def _number(value: float | None) -> Any:
        """Keep a number unless it is a card's or a pack's. Phone numbers are as long as many durations."""
        if not isinstance(value, int) or not _CARDS_BEGIN <= value < _CARDS_END:
            return value
        text = redact_text(str(int(value)))
        return text if text in numbers.whole else value

    def _structure(self, value: Any, depth: int) -> Any:
        fields = fields_of(value)
        if fields is not None:
            return self._mapping(fields, depth)
        if isinstance(value, list | tuple | set | frozenset):
            return self._sequence(value, len(value), depth)
        return self._text(show(value))

    def _mapping(self, fields: Mapping[Any, Any], depth: int) -> dict[Any, Any]:
        clean: dict[Any, Any] = {}
        private = named_elsewhere(fields)
        for count, (key, value) in enumerate(fields.items()):
            if self.items <= 0:
                clean["[cut]"] = f"{len(fields) - count} items"
                break
            self.items -= 1
            if private is not None and key == private:
                clean[key] = REDACTED
            else:
                self.add(clean, key, value, depth)
        return clean

    def _sequence(self, values: Iterable[Any], length: int, depth: int) -> list[Any]:
        clean: list[Any] = []
        for count, value in enumerate(values):
            if self.items <= 0:
                clean.append(f"[cut {length - count} items]")
                break
            self.items -= 1
            if is_pair(value):
                pair: dict[Any, Any] = {}
                self.add(pair, value[0], value[1], depth + 1)
                clean.append([self.value(value[0], depth + 2), *pair.values()])
            else:
                clean.append(self.value(value, depth + 1))
        return clean

    def add(self, clean: dict[Any, Any], key: Any, value: Any, depth: int) -> None:
        """Add a field to `clean`. A private name is replaced, and stays distinct from others."""
        name = name_of(key)
        if name is None:
            clean[key] = self.value(value, depth + 1)
            return
        shown, kind = redact_text(name, one_line=True), field(name).kind
        if shown in clean:
            shown = f"{shown} ({len(clean)})"
        if kind is Kind.PLAIN:
            clean[shown] = self.value(value, depth + 1)
        else:
            clean[shown] = _BY_KIND[kind](self, value, depth)

    def countable(self, value: Any, _depth: int) -> Any:
        """Keep counts such as prompt_tokens, which contain no token."""
        is_count = isinstance(value, int | float) and abs(value) < _COUNTS_END
        return value if is_count else REDACTED

    def trace(self, value: Any, depth: int) -> Any:
        """Keep an id of hexadecimal digits, which may all be decimal by chance."""
        return value if isinstance(value, str) and _TRACE.fullmatch(value) else self.value(value, depth + 1)

    def client(self, value: Any, depth: int) -> Any:
        """Return the network of one address or of several; a host name is no guest's address."""
        if isinstance(value, list | tuple):
            return [self.client(item, depth) for item in value[:MAX_ITEMS]]
        if value is None or isinstance(value, int | float):
            return value
        text = value if isinstance(value, str) else show(value)
        network = sanitised_list(text) if len(text) <= MAX_TEXT_LENGTH else None
        return self._text(text, one_line=True) if network is None else network

    def user(self, value: Any, _depth: int) -> Any:
        """Return a pseudonym."""
        if value is None or is_sanitised_user(value):
            return value
        return REDACTED if self.user_key is None else sanitised_user(show(value), self.user_key)


_BY_KIND: dict[Kind, Callable[[_Copy, Any, int], Any]] = {
    Kind.SECRET: lambda _copy, _value, _depth: REDACTED,
    Kind.COUNTABLE: _Copy.countable,
    Kind.TRACE: _Copy.trace,
    Kind.CLIENT: _Copy.client,
    Kind.USER: _Copy.user,
}

# The cached rules depend on the tables of names and on the packs.
forget = _rule.cache_clear
