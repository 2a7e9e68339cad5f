"""Redaction of any object in an event or span: it returns a bounded copy of serializable types and never raises."""

import dataclasses
import time
import uuid
from collections import OrderedDict, UserDict, namedtuple
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel, SecretStr

from app.monitoring.redaction import REDACTED, redact, redact_event, redact_text
from app.monitoring.redaction.budget import MAX_CHARACTERS, MAX_ITEMS
from app.monitoring.redaction.text import MAX_TEXT_LENGTH

MAIL = "wayan@example.com"


@dataclasses.dataclass
class Guest:
    password: str
    note: str


@dataclasses.dataclass(slots=True)
class Slotted:
    password: str
    note: str


class Named(NamedTuple):
    password: str
    note: str


class Model(BaseModel):
    password: str
    note: str


class Colour(Enum):
    RED = 1


class Attrs:
    """An object with the fields of an attrs class."""

    Attribute = namedtuple("Attribute", "name")  # noqa: PYI024
    __attrs_attrs__ = (Attribute("password"), Attribute("note"), Attribute("missing"))

    def __init__(self, password: str, note: str) -> None:
        self.password, self.note = password, note


class Struct:
    """An object with the fields of a msgspec.Struct."""

    __struct_fields__ = ("password", "note")

    def __init__(self, password: str, note: str) -> None:
        self.password, self.note = password, note


@pytest.mark.parametrize("kind", [Guest, Slotted, Named, Model, Attrs, Struct])
def test_an_object_that_declares_fields_is_redacted_by_their_names(kind: Any) -> None:
    made = kind(password="hunter22", note=f"to {MAIL}")
    assert redact({"guest": [made]}) == {"guest": [{"password": REDACTED, "note": "to [email]"}]}


@pytest.mark.parametrize("kind", [dict, OrderedDict, UserDict, MappingProxyType])
def test_any_mapping_is_one(kind: Any) -> None:
    assert redact(kind({"password": "x", "note": MAIL})) == {"password": REDACTED, "note": "[email]"}


def test_values_of_the_standard_library_are_their_text() -> None:
    moment = datetime(2026, 11, 23, 20, 41, 33, tzinfo=UTC)
    number = uuid.UUID(int=0x41111111111111114111111111111111)
    values = [
        moment,
        date(2026, 8, 12),
        timedelta(days=2),
        number,
        Decimal("1250000.50"),
        Path("/srv/app"),
        Colour.RED,
    ]
    assert redact(values) == [str(value) for value in values]
    assert redact(SecretStr("hunter22")) == "**********"


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_bytes_are_their_text_without_private_data(kind: Any) -> None:
    assert (
        redact(kind(b'{"password": "hunter22", "x": "wayan@example.com"}'))
        == 'b\'{"password": "[redacted]", "x": "[email]"}\''
    )
    assert len(redact(kind(b"x" * 10_000_000))) <= MAX_TEXT_LENGTH


def test_exceptions_and_groups_are_their_messages() -> None:
    assert redact(KeyError(MAIL)) == "'[email]'"
    assert redact(ExceptionGroup(f"for {MAIL}", [ValueError(MAIL)])) == "for [email] (1 sub-exception)"


def test_a_generator_is_not_used_up() -> None:
    numbers = (number for number in range(3))
    assert "generator" in redact(numbers)
    assert list(numbers) == [0, 1, 2]


class Hostile(Mapping[str, int]):
    """A mapping whose items raise an error when read."""

    def __getitem__(self, key: str) -> int:
        raise RuntimeError(MAIL)

    def __iter__(self) -> Iterator[str]:
        return iter(["a"])

    def __len__(self) -> int:
        return 1


class Endless:
    """An object whose __str__ recurses without end."""

    def __str__(self) -> str:
        return self.__str__()


class Wrong:
    """An object with an invalid __dataclass_fields__."""

    __dataclass_fields__ = 7


@pytest.mark.parametrize("value", [Hostile(), Endless(), Wrong(), Guest, Model], ids=lambda value: type(value).__name__)
def test_what_cannot_be_read_costs_its_own_value_only(value: object) -> None:
    clean = redact_event({"event": "x", "bad": value, "good": 1})
    assert (clean["event"], clean["good"]) == ("x", 1)
    assert isinstance(clean["bad"], str)
    assert MAIL not in repr(clean)


def test_structures_that_hold_themselves_end() -> None:
    knot: dict[str, Any] = {"note": MAIL}
    knot["again"] = [knot] * 50
    knot["more"] = {"x": knot, "y": [knot, (knot,)]}
    started = time.process_time()
    clean = repr(redact(knot))
    assert MAIL not in clean
    assert REDACTED in clean
    assert "[cut" in clean
    assert time.process_time() - started < 60  # without bounds there are 50 to the power of 8 items


def test_wide_structures_are_cut_and_say_so() -> None:
    assert redact(list(range(MAX_ITEMS + 10)))[-1] == "[cut 10 items]"
    clean = redact({f"k{number}": number for number in range(MAX_ITEMS + 10)})
    assert (len(clean), clean["[cut]"]) == (MAX_ITEMS + 1, "10 items")


def test_many_long_texts_are_cut_and_say_so() -> None:
    texts = ["x" * MAX_TEXT_LENGTH] * 100
    clean = redact(texts)
    assert sum(map(len, clean)) <= MAX_CHARACTERS + MAX_TEXT_LENGTH + 100 * 40
    assert clean[-1] == f"[cut {MAX_TEXT_LENGTH} characters]"
    assert redact_text("x" * 20_000).endswith(f"[cut {20_000 - MAX_TEXT_LENGTH + 512} characters]")


def test_two_private_names_stay_two_fields() -> None:
    clean = redact({"wayan@example.com": 1, "made@example.com": 2, "[email]": 3})
    assert sorted(clean.values()) == [1, 2, 3]
    assert all(key.startswith("[email]") for key in clean)


def test_keys_of_other_kinds_are_kept_or_shown() -> None:
    assert redact({1: "a", None: "b", 2.5: "c"}) == {1: "a", None: "b", 2.5: "c"}
    assert redact({(MAIL, 1): "a", b"cookie": "b"}) == {"('[email]', 1)": "a", "cookie": REDACTED}


@pytest.mark.parametrize(
    "value",
    [4111111111111111, 378282246310005, -4111111111111111, 4111111111111112, 5171012304900002, 1795466493123459],
)
def test_a_number_that_is_a_cards_is_replaced(value: int) -> None:
    becomes = {4111111111111111: "[card]", 378282246310005: "[card]", 5171012304900002: "[nik]"}
    assert redact({"n": value}) == redact_event({"n": value}) == {"n": becomes.get(value, value)}


def test_an_event_keeps_its_order() -> None:
    record = object()
    event = {"b": 1, "_record": record, "a": MAIL, "password": "x"}
    assert list(redact_event(event)) == list(event)
    assert redact_event(event)["_record"] == str(record)


@pytest.mark.parametrize("secret", [MAIL, "sk-9f8e7d6c5b4a3210", "+62 812 3456 7890"])
def test_where_the_budget_of_a_line_ends_no_half_of_a_secret_is_left(secret: str) -> None:
    full = [f"{number} " + "x " * (MAX_TEXT_LENGTH // 2 - 1) for number in range(3)]
    left = MAX_CHARACTERS - sum(map(len, full))
    for visible in range(1, len(secret), 3):
        filler = "y " * ((left - visible) // 2) + " " * ((left - visible) % 2)
        clean = redact([*full, f"{filler}{secret} and more"])
        assert secret[:3] not in clean[-1]
        assert clean[-1].startswith("y y y")
        assert clean[-1].endswith(" characters]")
