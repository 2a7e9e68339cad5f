"""Private data is taken out by key and by value, and nothing else is."""

import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.monitoring.redaction import REDACTED, is_secret_key, redact, redact_text
from app.monitoring.redaction.structures import MAX_DEPTH

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
SECRET = "wayan@example.com"
Nested = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner)
        | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=4)
    ),
    max_leaves=20,
)


SECRET_KEYS = """
    password PASSWORD db_password Authorization Set-Cookie cookies X-API-Key apikey api_key access_token tokens
    client-secret credentials email guest_email mail phone address accessToken clientSecret GuestEmail
"""


@pytest.mark.parametrize("key", SECRET_KEYS.split())
def test_a_field_of_a_private_name_is_replaced_whatever_it_holds(key: str) -> None:
    assert is_secret_key(key)
    for value in ("plain", 7, None, ["a"], {"b": 1}):
        assert redact({key: value}) == {key: REDACTED}


@pytest.mark.parametrize(
    "key", ["route", "tokens_used", "email_sent", "secretary", "monkey", "token_kind", "addressee", "key", "place"]
)
def test_a_field_of_another_name_is_kept(key: str) -> None:
    assert redact({key: "Ubud"}) == {key: "Ubud"}


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (f"mail from {SECRET}!", "mail from [email]!"),
        ("ni.made+trip@mail.co.id, x", "[email], x"),
        (f"token {JWT} end", "token [jwt] end"),
        ("Authorization: Bearer abcdef123456", "Authorization: Bearer [redacted]"),
        ("basic dXNlcjpwYXNz", "basic [redacted]"),
        ("postgresql://bali:s3cret@db:5432/x", "postgresql://bali:[redacted]@db:5432/x"),
        ("redis://:s3cret@cache/0", "redis://:[redacted]@cache/0"),
        ("key sk-abcdefgh12345678", "key [key]"),
    ],
)
def test_a_private_value_is_replaced_under_any_name(text: str, clean: str) -> None:
    assert redact_text(text) == clean
    assert redact({"note": [text]}) == {"note": [clean]}


@pytest.mark.parametrize(
    "text",
    [
        "4bf92f3577b34da6a3ce929d0e0e4736",
        str(uuid.UUID(int=0x1234567890ABCDEF1234567890ABCDEF)),
        "2026-11-23T20:41:33.123456Z",
        "IDR 1,250,000.00",
        "-8.409518,115.188919",
        "+62 361 123",
        "http://127.0.0.1:8000/api/v1/destinations/ubud?limit=5",
        "postgresql://postgres@/postgres?host=/run",
        "a basic room",
        "risk-free",
    ],
)
def test_ids_times_prices_and_places_stay_as_they_are(text: str) -> None:
    assert redact_text(text) == text


@pytest.mark.parametrize("value", [1, 1.5, True, None, 2**70, float("inf")])
def test_numbers_stay_numbers(value: object) -> None:
    assert redact({"value": [value]}) == {"value": [value]}


def test_private_data_is_found_at_any_depth() -> None:
    found = redact({"guests": [{"name": "Wayan", "contact": {"email": "x", "notes": (SECRET, {SECRET})}}]})
    assert found == {
        "guests": [{"name": "Wayan", "contact": {"email": REDACTED, "notes": ["[email]", ["[email]"]]}}],
    }


def test_a_key_that_is_itself_private_is_replaced() -> None:
    assert redact({"visits": {SECRET: 3}}) == {"visits": {"[email]": 3}}


def test_an_object_is_shown_as_its_text_without_private_data() -> None:
    class Guest:
        def __str__(self) -> str:
            return f"Guest({SECRET})"

    assert redact({"guest": Guest(), "error": ValueError(SECRET)}) == {"guest": "Guest([email])", "error": "[email]"}
    assert redact(b"wayan@example.com") == "b'[email]'"


def test_an_object_that_cannot_be_shown_does_not_raise() -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError(SECRET)

    assert SECRET not in str(redact({"guest": Broken()}))


def test_past_the_deepest_level_everything_is_replaced() -> None:
    value: Any = "Ubud"
    for _ in range(MAX_DEPTH):
        value = [value]
    assert str(redact(value)).count("Ubud") == 1
    assert str(redact([value])).count("Ubud") == 0
    assert REDACTED in str(redact([value]))


def test_a_structure_that_contains_itself_ends() -> None:
    endless: list[Any] = ["Ubud"]
    endless.append(endless)
    assert REDACTED in str(redact(endless))


def test_the_original_is_not_changed() -> None:
    original = {"email": "x", "notes": [SECRET]}
    redact(original)
    assert original == {"email": "x", "notes": [SECRET]}


@PATIENT
@given(Nested)
def test_whatever_comes_nothing_is_raised(value: Any) -> None:
    redact(value)


@PATIENT
@given(Nested, st.sampled_from([SECRET, JWT, "Bearer abcdefgh", "sk-1234567890"]), st.text(max_size=5))
def test_a_private_value_beside_anything_is_gone(value: Any, secret: str, text: str) -> None:
    assert secret not in repr(redact({"value": value, "note": f"{text} {secret} {text}"}))


@PATIENT
@given(st.recursive(st.integers() | st.sampled_from(["Ubud", "1.5"]), st.lists, max_leaves=20))
def test_redacting_twice_changes_nothing_more(value: Any) -> None:
    assert redact(redact(value)) == redact(value)


def test_a_number_of_tokens_stays_and_tokens_do_not() -> None:
    assert redact({"prompt_tokens": 11, "access_tokens": ["abc"]}) == {"prompt_tokens": 11, "access_tokens": REDACTED}
