"""Types of input values that are described in the OpenAPI document exactly as they are checked.

Values of JSON have one form each: no number stands for a date, no string for a number. PostgreSQL stores no NUL, and
pydantic refuses halves of a surrogate pair, so neither gets to a statement.
"""

import re
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Annotated, Any

from email_validator import SPECIAL_USE_DOMAIN_NAMES, EmailNotValidError
from email_validator import validate_email as parse_email
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

NUL = "\x00"
# `$` of Python's expressions, which tools that read the document use, also matches before a line feed at the end.
WITHOUT_NUL = r"^[^\x00]*$"
NOT_BLANK = r"^[^\x00]*[^\s\x00][^\x00]*$"
MAX_EMAIL = 254
_WHOLE = re.compile(r"[+-]?[0-9]{1,19}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,19}(\.[0-9]{1,19})?([eE][+-]?[0-9]{1,3})?")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class RequestModel(BaseModel):
    """A request's JSON. A value of another JSON type is refused: false is no number, and "2" neither."""

    model_config = ConfigDict(strict=True)


def storable(text: str) -> str:
    """Return `text`; raise ValueError if PostgreSQL cannot store it."""
    if NUL in text:  # which JSON and percent-encoding allow
        raise ValueError("want text without NUL characters")
    return text


Storable = Annotated[str, AfterValidator(storable), Field(json_schema_extra={"pattern": WITHOUT_NUL})]
"""Text of a query."""


@dataclass(frozen=True)
class Text:
    """Text of up to `longest` characters that is not blank, for `Annotated[str, Text(80)]`.

    White space around it is removed. It counts towards the length, so that the length is that of the document.
    """

    longest: int

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the check of the length, then that of the characters."""
        text = core_schema.str_schema(min_length=1, max_length=self.longest, strict=True)
        return core_schema.no_info_after_validator_function(_trimmed, text)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        """Return the JSON schema of the text as it is sent."""
        return {**handler(schema), "pattern": NOT_BLANK}


class WithoutNull:
    """Describe an optional value without null, which no query and no header can carry: `Annotated[int | None, ...]`."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        """Return the JSON schema of the value where it is given."""
        described: dict[str, Any] = handler(schema)
        (given,) = (option for option in described.pop("anyOf") if option != {"type": "null"})
        return {**described, **given}


def _trimmed(text: str) -> str:
    trimmed = storable(text).strip()
    if not trimmed:
        raise ValueError("want text that is not blank")
    return trimmed


def _email(text: str) -> str:
    # pydantic's EmailStr also takes "Ayu <ayu@example.com>" and drops the name, which no schema says.
    try:
        return parse_email(text, check_deliverability=False).normalized
    except EmailNotValidError as error:
        raise ValueError("want an e-mail address") from error


def _any_case(word: str) -> str:
    return "".join(f"[{letter}{letter.upper()}]" for letter in word)


_RESERVED = "|".join(map(_any_case, SPECIAL_USE_DOMAIN_NAMES))
_EMAIL_SCHEMA: dict[str, Any] = {
    "format": "email",
    # The format, or what tools take for it, also has display names, quotes, addresses of hosts, and no dot.
    "pattern": r'^[^\s@"<>]+@[^\s@<>\[]+\.[^\s@<>.\]]+$',
    "not": {"pattern": f"[@.]({_RESERVED})$"},
}
Email = Annotated[
    str, Field(min_length=3, max_length=MAX_EMAIL, json_schema_extra=_EMAIL_SCHEMA), AfterValidator(_email)
]
"""An e-mail address without a display name. Its domain need not exist, but names such as .test never receive mail."""


def _day(value: object) -> object:
    if isinstance(value, str) and _DAY.fullmatch(value):
        return date.fromisoformat(value)  # whose ValueError says what is out of range
    raise ValueError("want a date such as 2027-05-01")


Day = Annotated[date, BeforeValidator(_day)]
"""A date as YYYY-MM-DD. pydantic takes times, other forms, and numbers as seconds since 1970 as well."""


@dataclass(frozen=True)
class Whole:
    """A whole number of JSON for `Annotated[int, Whole(1, 5)]`; both bounds belong to it.

    2.0 is 2: JSON has one type of numbers, and a JSON schema's integer is any of them without a fraction.
    """

    lowest: int
    highest: int

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the check of the type, then that of the bounds."""
        number = core_schema.int_schema(ge=self.lowest, le=self.highest, strict=True)
        return core_schema.no_info_before_validator_function(_without_fraction, number)


def _without_fraction(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


@dataclass(frozen=True)
class WholeDigits:
    """A whole number of a query, in decimal digits, for `Annotated[int, WholeDigits(1, 100)]`."""

    lowest: int
    highest: int

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the check of the form, then that of the bounds."""
        number = core_schema.int_schema(ge=self.lowest, le=self.highest)
        return core_schema.no_info_before_validator_function(partial(_written, _WHOLE), number)


@dataclass(frozen=True)
class NumberDigits:
    """A finite number of a query, in decimal digits, for `Annotated[float, NumberDigits(1, 5)]`."""

    lowest: float
    highest: float

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the check of the form, then that of the bounds."""
        number = core_schema.float_schema(ge=self.lowest, le=self.highest, allow_inf_nan=False)
        return core_schema.no_info_before_validator_function(partial(_written, _NUMBER), number)


def _written(form: re.Pattern[str], value: object) -> object:
    """Refuse what pydantic takes beside digits, such as 1_000, white space and inf."""
    if isinstance(value, str) and not form.fullmatch(value):
        raise ValueError("want a number in decimal digits")
    return value
