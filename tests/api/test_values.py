"""Types of input values: one form each, and what is described is what is checked."""

import math
import re
from datetime import date
from itertools import product
from typing import Annotated, Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema_rs import validator_for
from pydantic import BaseModel, TypeAdapter, ValidationError

from app.api.assistant import ItineraryRequest, Question
from app.api.inquiries import NewInquiry
from app.api.reviews import NewReview
from app.api.values import (
    WITHOUT_NUL,
    Day,
    Email,
    NumberDigits,
    Storable,
    Text,
    Whole,
    WholeDigits,
    WithoutNull,
)

VALID: list[tuple[type[BaseModel], dict[str, Any]]] = [
    (
        NewInquiry,
        {
            "name": "Ayu",
            "email": "ayu@example.com",
            "phone": "+62 361 123456",
            "message": "Hello.",
            "arrival": "2027-05-01",
            "departure": "2027-05-04",
            "party_size": 2,
        },
    ),
    (NewReview, {"rating": 5, "text": "fine"}),
    (Question, {"message": "Where is a temple?"}),
    (ItineraryRequest, {"days": 2, "interests": ["temple"], "budget": 100_000, "month": 5}),
]
FIELDS = [(model, content, name) for model, content in VALID for name in content]
# Values that pydantic would take for another type's, and values that no type has.
WRONG: list[Any] = [False, True, 0, 1.5, "0", "2", "2.0", "1735689600", math.nan, math.inf, -1, 2**70, [], {}, "\x00"]
WRONG += ["", " ", "\ud800", "2027-05-01T00:00:00", "20270501", "2027-W01-1", "\u0662\u0660\u0662\u0667-05-01", "false"]


def accepts(kind: Any, value: Any) -> bool:
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize(("model", "content", "name"), FIELDS, ids=lambda value: getattr(value, "__name__", None))
def test_every_field_takes_what_its_schema_says(model: type[BaseModel], content: dict[str, Any], name: str) -> None:
    validator = validator_for(model.model_json_schema(), validate_formats=True)
    for value in [content[name], *WRONG, None]:
        try:
            said = validator.is_valid({**content, name: value})
        except ValueError:  # not JSON: NaN, half a surrogate pair
            said = False
        assert accepts(model, {**content, name: value}) == said, (name, value)


async def test_a_date_is_no_number_and_no_time(client: httpx.AsyncClient) -> None:
    content = {"name": "Ayu", "email": "ayu@example.com", "message": "Hello."}
    for value in (0, 0.0, False, "0", "1735689600", 1_735_689_600, "2027-05-01T00:00:00", "20270501"):
        answer = await client.post("/api/v1/inquiries", json={**content, "arrival": value})
        assert answer.status_code == 422, value
        assert answer.json()["errors"][0]["where"] == ["body", "arrival"]


async def test_a_whole_number_is_no_boolean_and_no_text(client: httpx.AsyncClient) -> None:
    for name, value in product(("days", "budget", "month"), (False, True, "2", 1.5)):
        answer = await client.post("/api/v1/assistant/itineraries", json={"days": 2, name: value})
        assert answer.status_code == 422, (name, value)
        assert answer.json()["errors"][0]["where"] == ["body", name]


async def test_a_number_without_a_fraction_is_a_whole_number(client: httpx.AsyncClient) -> None:
    wanted = [{"days": 2, "budget": 100_000}, {"days": 2.0, "budget": 1e5}]
    answers = [await client.post("/api/v1/assistant/itineraries", json=content) for content in wanted]
    assert answers[0].json() == answers[1].json()
    assert answers[0].status_code == 200


async def test_a_number_of_a_query_has_digits_and_is_finite(client: httpx.AsyncClient) -> None:
    wrong = ["1_0", " 10", "10 ", "+", "0x10", "\u0661", "1" * 5000, "9" * 19, "", "null"]
    tried = [*product(("limit", "max_fee", "month"), [*wrong, "1.0"])]
    tried += [("min_rating", value) for value in [*wrong, "nan", "inf", "-inf", "infinity", "1e999", "0x1p1"]]
    for name, value in tried:
        answer = await client.get("/api/v1/destinations", params={name: value})
        assert answer.status_code == 422, (name, value)
        assert answer.json()["errors"][0]["where"] == ["query", name]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(value=st.text(st.sampled_from(" \t\r\n\x1c\x85\xa0a\x00\N{WATER WAVE}"), max_size=6) | st.text(max_size=6))
def test_text_is_stored_without_the_white_space_around_it(value: str) -> None:
    kind = TypeAdapter(Annotated[str, Text(5)])
    if "\x00" in value or not value.strip() or len(value) > 5:
        with pytest.raises(ValidationError):
            kind.validate_python(value)
    else:
        assert kind.validate_python(value) == value.strip()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(value=st.one_of(st.integers(), st.floats(), st.text(max_size=5), st.booleans(), st.none()))
def test_a_whole_number_is_a_number_within_its_bounds(value: object) -> None:
    within = isinstance(value, int | float) and not isinstance(value, bool) and value in range(1, 501)
    assert accepts(Annotated[int, Whole(1, 500)], value) == within


@settings(max_examples=100, deadline=None, derandomize=True)
@given(value=st.from_regex(r"[+-]?[0-9_. ]{0,5}(e[0-9]{1,3})?", fullmatch=True))
def test_the_numbers_of_a_query_are_what_they_look_like(value: str) -> None:
    if accepts(Annotated[int, WholeDigits(-100, 100)], value):
        assert re.fullmatch("[+-]?[0-9]+", value)
    if accepts(Annotated[float, NumberDigits(-100, 100)], value):
        assert -100 <= float(value) <= 100


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ("ayu@example.com", "ayu@example.com"),
        ("Ayu@Example.COM", "Ayu@example.com"),
        ("Ayu <ayu@example.com>", None),
        (" ayu@example.com", None),
        ("ayu@example.com\n", None),
        ("ayu@localhost", None),
        ("ayu@shop.test", None),
        ("ayu@shop.LOCAL", None),
        ("ayu@contest.com", "ayu@contest.com"),
        ('"a b"@example.com', None),
        ("ayu@[192.0.2.1]", None),
        (f"{'a' * 60}@{'b' * 60}.{'c' * 60}.{'d' * 60}.{'e' * 60}.com", None),
    ],
)
def test_an_email_address_is_what_its_schema_says(value: str, stored: str | None) -> None:
    validator = validator_for(TypeAdapter(Email).json_schema(), validate_formats=True)
    assert validator.is_valid(value) == (stored is not None)
    if stored is None:
        assert not accepts(Email, value)
    else:
        assert TypeAdapter(Email).validate_python(value) == stored


def test_a_date_is_read_as_it_is_written() -> None:
    assert TypeAdapter(Day).validate_python("2028-02-29") == date(2028, 2, 29)
    assert not accepts(Day, "2027-02-29")
    assert not accepts(Day, date(2027, 2, 1))  # which no JSON holds


def test_an_optional_parameter_has_no_null_in_its_schema() -> None:
    kind = TypeAdapter(Annotated[Storable | None, WithoutNull()])
    assert kind.json_schema() == {"type": "string", "pattern": WITHOUT_NUL}
    assert kind.validate_python(None) is None
