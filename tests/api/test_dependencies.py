"""Cursors, and the forms of input that several handlers share."""

import base64
import string
from typing import Any

import orjson
import pytest
from fastapi.exceptions import RequestValidationError
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from app.api.dependencies import decode_cursor, encode_cursor
from app.api.values import Storable

RANKS = st.floats(allow_nan=False, allow_infinity=False)
SLUGS = st.text(string.ascii_lowercase + string.digits + "-", min_size=1, max_size=80)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | RANKS | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(rank=RANKS, slug=SLUGS)
def test_a_cursor_of_a_search_comes_back_exactly(rank: float, slug: str) -> None:
    assert decode_cursor(encode_cursor(rank, slug), float, str) == [rank, slug]


@given(number=st.integers(1, 2**63 - 1))
def test_a_cursor_of_an_id_comes_back_exactly(number: int) -> None:
    assert decode_cursor(encode_cursor(number), int) == [number]


@given(rank=RANKS, slug=SLUGS)
def test_a_cursor_is_short_and_needs_no_quoting_in_a_url(rank: float, slug: str) -> None:
    cursor = encode_cursor(rank, slug)
    assert len(cursor) <= 400
    assert set(cursor) <= set(string.ascii_letters + string.digits + "-_")


@given(cursor=st.text(max_size=400))
def test_any_text_is_a_position_or_a_refusal(cursor: str) -> None:
    try:
        position = decode_cursor(cursor, int)
    except RequestValidationError:
        return
    assert position is not None
    assert [type(value) for value in position] == [int]


def test_a_refusal_names_the_parameter() -> None:
    with pytest.raises(RequestValidationError) as refusal:
        decode_cursor("?", int)
    assert refusal.value.errors()[0]["loc"] == ("query", "cursor")


@given(content=JSON)
def test_a_position_has_the_kinds_that_are_wanted(content: Any) -> None:
    cursor = base64.urlsafe_b64encode(orjson.dumps(content)).decode().rstrip("=")
    wanted = isinstance(content, list) and [type(value) for value in content] == [float, str]
    if wanted and "\x00" not in content[1]:
        assert decode_cursor(cursor, float, str) == content
    else:
        with pytest.raises(RequestValidationError):
            decode_cursor(cursor, float, str)


@pytest.mark.parametrize("number", [2**63, 2**64 - 1, 2**64, 10**30, -(2**63) - 1])
def test_a_number_that_no_column_holds_is_refused(number: int) -> None:
    cursor = base64.urlsafe_b64encode(f"[{number}]".encode()).decode()
    with pytest.raises(RequestValidationError):
        decode_cursor(cursor, int)


def test_no_cursor_is_no_position() -> None:
    assert decode_cursor(None, int) is None


def test_storable_text_is_kept_and_a_nul_is_refused() -> None:
    storable = TypeAdapter(Storable)
    assert storable.validate_python("tab\tand \N{WATER WAVE}") == "tab\tand \N{WATER WAVE}"
    with pytest.raises(ValidationError, match="want text without NUL characters"):
        storable.validate_python("a\x00b")
