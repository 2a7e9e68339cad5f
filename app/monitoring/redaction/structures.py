"""Redaction of mappings, sequences and objects: by the field's name first, then by the form of each text.

A structure is copied within bounds: eight levels, and the items, characters and numbers of budget.py.

Constraint: nothing here raises, whatever the objects' own methods do.
"""

import datetime as dt
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from .budget import Budget
from .credentials import REDACTED
from .identity import is_sanitised_user, sanitised_list, sanitised_user
from .keys import MAX_KEY_LENGTH, Kind, field
from .numbers import numbers
from .objects import fields_of, is_pair, items_of, name_of, named_elsewhere, plain, show, unreadable
from .text import MAX_TEXT_LENGTH, redact_text, redact_within

MAX_DEPTH = 8
# Below this, a number under the plural of a private name is a count.
_COUNTS_END = 10**9
_CARDS_BEGIN, _CARDS_END = 10**14, 10**16
# Python may refuse to show longer ones.
_MAX_SHOWN = 10**640
_TRACE = re.compile(r"[0-9a-f]{16}(?:[0-9a-f]{16})?")
# Their text holds nothing but digits and signs.
_NEVER_PRIVATE = (dt.date, dt.time, dt.timedelta, uuid.UUID)
_TRACEBACKS = frozenset({"exception", "stack"})


def redact(value: Any, depth: int = 0) -> Any:
    """Return a copy of `value` without private data at any depth; below eight levels everything is replaced.

    Of more than 1,000 items and 65,536 characters, the rest is left out, and a note says how much.
    """
    return _Copy(Budget()).value(value, depth)


def redact_field(key: str, value: Any, budget: Budget) -> tuple[str, Any]:
    """Return a field's name and a copy of its value without private data, within `budget`."""
    clean: dict[str, Any] = {}
    _Copy(budget).add(clean, key, value, 0)
    return clean.popitem()


def redact_event(event: Mapping[str, Any], *, user_key: bytes | None = None) -> dict[str, Any]:
    """Return a redacted copy of the fields of a log event, in their order.

    With `user_key` user ids become pseudonyms; without it, every user id that is not a pseudonym already is replaced.
    """
    budget = Budget()
    copy: _Copy | None = None
    clean: dict[str, Any] = {}
    for key, value in event.items():
        kind = type(value)
        try:
            if kind is str and len(value) <= MAX_TEXT_LENGTH and (found := _quick(key, value, budget)) is not None:
                clean[key] = found
            elif (kind is float or (kind is int and -_CARDS_BEGIN < value < _CARDS_BEGIN)) and _rule(key) is Kind.PLAIN:
                clean[key] = value
            else:
                copy = copy or _Copy(budget, user_key=user_key)
                copy.add(clean, key, value, 0)
        except Exception:  # noqa: BLE001 -- one field is no reason to lose the line
            clean[unreadable(key)] = unreadable(value)
    return clean


def _quick(key: Any, text: str, budget: Budget) -> str | None:
    """Return the redacted text of a common field, or None if the field needs the full rules."""
    rule = _rule(key)
    if rule is Kind.PLAIN:
        return redact_within(text, budget)
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

    __slots__ = ("budget", "user_key")

    def __init__(self, budget: Budget, *, user_key: bytes | None = None) -> None:
        self.user_key = user_key
        self.budget = budget

    def value(self, value: Any, depth: int) -> Any:
        """Return a copy of `value`, which is `depth` levels below the top."""
        try:
            return self._value(plain(value), depth)
        except Exception:  # noqa: BLE001 -- an object that cannot be read is no reason to lose the line
            return unreadable(value)

    def _value(self, value: Any, depth: int) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if value is None or isinstance(value, int | float):
            return self._number(value)
        if isinstance(value, bytes | bytearray):
            return self._text(repr(bytes(value[: MAX_TEXT_LENGTH + 1])))
        if isinstance(value, _NEVER_PRIVATE) or depth >= MAX_DEPTH:
            return str(value) if isinstance(value, _NEVER_PRIVATE) else REDACTED
        return self._structure(value, depth)

    def _text(self, text: str, *, one_line: bool = False) -> str:
        return redact_within(text, self.budget, one_line=one_line)

    def _number(self, value: float | None) -> Any:
        """Keep a number unless it is a card's or a pack's. Phone numbers are as long as many durations."""
        if not isinstance(value, int) or -_CARDS_BEGIN < value < _CARDS_BEGIN:
            return value
        if not -_MAX_SHOWN < value < _MAX_SHOWN:
            return self._text(show(value))
        text = redact_text(str(value)) if _CARDS_BEGIN <= value < _CARDS_END else ""
        return text if text in numbers.whole else value

    def _structure(self, value: Any, depth: int) -> Any:
        fields = fields_of(value)
        if fields is not None:
            return self._mapping(fields, depth)
        items = items_of(value)
        if items is not None:
            return self._sequence(items, len(value), lambda item: self._item(item, depth))
        return self._text(show(value))

    def _mapping(self, fields: Mapping[Any, Any], depth: int) -> dict[Any, Any]:
        clean: dict[Any, Any] = {}
        private = named_elsewhere(fields)
        for count, (key, value) in enumerate(fields.items()):
            if self.budget.items <= 0:
                clean["[cut]"] = f"{len(fields) - count} items"
                break
            self.budget.items -= 1
            if private is not None and key == private:
                clean[key] = REDACTED
            else:
                self.add(clean, key, value, depth)
        return clean

    def _sequence(self, values: Iterable[Any], length: int, item: Callable[[Any], Any]) -> list[Any]:
        clean: list[Any] = []
        for count, value in enumerate(values):
            if self.budget.items <= 0:
                clean.append(f"[cut {length - count} items]")
                break
            self.budget.items -= 1
            clean.append(item(value))
        return clean

    def _item(self, value: Any, depth: int) -> Any:
        if not _is_pair(value):
            return self.value(value, depth + 1)
        pair: dict[Any, Any] = {}
        self.add(pair, value[0], value[1], depth + 1)
        return [self.value(value[0], depth + 2), *pair.values()]

    def add(self, clean: dict[Any, Any], key: Any, value: Any, depth: int) -> None:
        """Add a field to `clean`. A private name is replaced, and stays distinct from others."""
        key = plain(key)
        name = name_of(key)
        if name is None:
            clean[key] = self.value(value, depth + 1)
            return
        shown, kind = redact_within(name, self.budget, one_line=True), field(name).kind
        if shown in clean:
            shown = f"{shown} ({len(clean)})"
        try:
            clean[shown] = (
                self.value(value, depth + 1) if kind is Kind.PLAIN else _BY_KIND[kind](self, plain(value), depth)
            )
        except Exception:  # noqa: BLE001 -- an object that cannot be read is no reason to lose the line
            clean[shown] = unreadable(value)

    def countable(self, value: Any, _depth: int) -> Any:
        """Keep counts such as prompt_tokens, which contain no token."""
        is_count = isinstance(value, int | float) and abs(value) < _COUNTS_END
        return value if is_count else REDACTED

    def trace(self, value: Any, depth: int) -> Any:
        """Keep an id of hexadecimal digits, which may all be decimal by chance."""
        return value if isinstance(value, str) and _TRACE.fullmatch(value) else self.value(value, depth + 1)

    def client(self, value: Any, depth: int) -> Any:
        """Return the network of one address or of several; a host name is no guest's address."""
        items = items_of(value)
        if items is not None and depth < MAX_DEPTH:
            return self._sequence(items, len(items), lambda item: self.client(item, depth + 1))
        if items is not None or value is None or isinstance(value, int | float | Mapping):
            return self.value(value, depth + 1)
        text = show(value)
        network = sanitised_list(text) if len(text) <= MAX_TEXT_LENGTH else None
        return self._text(text, one_line=True) if network is None else network

    def user(self, value: Any, _depth: int) -> Any:
        """Return a pseudonym."""
        if value is None or is_sanitised_user(value):
            return value
        if self.user_key is None or items_of(value) is not None or fields_of(value) is not None:
            return REDACTED
        return sanitised_user(show(value), self.user_key)


def _is_pair(value: Any) -> bool:
    try:
        return is_pair(value)
    except Exception:  # noqa: BLE001 -- it is reported where the value is copied
        return False


_BY_KIND: dict[Kind, Callable[[_Copy, Any, int], Any]] = {
    Kind.SECRET: lambda _copy, _value, _depth: REDACTED,
    Kind.COUNTABLE: _Copy.countable,
    Kind.TRACE: _Copy.trace,
    Kind.CLIENT: _Copy.client,
    Kind.USER: _Copy.user,
}

# The cached rules depend on the tables of names and on the packs.
forget = _rule.cache_clear
