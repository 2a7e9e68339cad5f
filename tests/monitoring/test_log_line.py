"""A line is JSON, fits into an atomic pipe write, and marks what was cut."""

import enum
import json
import select
import traceback
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from app.monitoring.logs.line import CUT, IDENTITY, MAX_LINE_BYTES, encode

PATIENT = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example]
)
WHO = {
    "timestamp": "2026-01-01T00:00:00.000000Z",
    "level": "error",
    "event": "failed",
    "logger": "app.cache",
    "service": "baliblissed-backend",
    "request_id": "0123456789abcdef0123456789abcdef",
    "trace_id": "f" * 32,
    "span_id": "e" * 16,
}
# Long texts are made of short ones: hypothesis draws no thousand characters by itself.
texts = st.builds(
    lambda text, times: text * times, st.text(st.characters(exclude_categories=[])), st.sampled_from([1, 40, 900, 6000])
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=60) | st.dictionaries(texts, inner, max_size=60),
    max_leaves=30,
)
keys = texts | st.sampled_from(["exception", "stack", "event", "truncated", "fields_left_out", *IDENTITY])
events = st.dictionaries(keys, values, max_size=60)


def decoded(event: dict[str, Any]) -> dict[str, Any]:
    line = encode(event)
    assert len(line) <= MAX_LINE_BYTES
    assert line.endswith(b"\n")
    assert b"\n" not in line[:-1]
    read: dict[str, Any] = orjson.loads(line)
    assert read == json.loads(line)
    return read


def test_the_limit_is_what_linux_promises_of_a_pipe() -> None:
    assert MAX_LINE_BYTES == 4096
    assert MAX_LINE_BYTES <= select.PIPE_BUF or select.PIPE_BUF == 512, "macOS promises less"


@PATIENT
@given(events)
@example({"exception": "x" * 5000, **{f"field{number}": "y" * 500 for number in range(60)}})
@example({"k" * 5000: 1, "deep": {"a": {"b": {"c": ["z" * 5000]}}}})
@example({key: {"inner": "v" * 5000} for key in IDENTITY} | {"event": ["x"] * 3000})
@example({"event": '"\\\x00' * 2000, "stack": "\ud800" * 3000, "number": 2**70, "list": [[1] * 50] * 50})
def test_any_event_is_one_line_of_json_within_the_limit(event: dict[str, Any]) -> None:
    decoded(event)


@PATIENT
@given(events)
@example({f"field{number}": "x" * 500 for number in range(60)})
def test_what_leads_from_a_line_to_its_story_survives_whatever_stands_beside_it(event: dict[str, Any]) -> None:
    line = decoded({**event, **WHO})
    assert {key: line[key] for key in WHO} == WHO


@given(st.dictionaries(st.text(), st.text() | st.booleans() | st.integers(-(2**63), 2**64 - 1), max_size=8))
def test_an_event_that_fits_is_left_as_it_is(event: dict[str, Any]) -> None:
    assert decoded(event) == event


@PATIENT
@given(events)
def test_a_line_that_was_cut_shows_where(event: dict[str, Any]) -> None:
    event.pop("truncated", None)
    line = decoded({**event, **WHO})
    assert "truncated" not in line or (
        line["truncated"] is True and (CUT in json.dumps(line) or line["fields_left_out"])
    )


@PATIENT
@given(events)
def test_a_line_that_was_cut_is_not_cut_again(event: dict[str, Any]) -> None:
    line = encode({**event, **WHO})
    assert encode(orjson.loads(line)) == line


@PATIENT
@given(st.text('é€😀\x00"\\a', min_size=1), st.integers(1_500, 6_000))
def test_no_character_is_cut_in_half(text: str, times: int) -> None:
    whole = text * times
    for key in ("body", "event"):
        cut = decoded({**WHO, key: whole})[key]
        assert cut == whole or (cut.endswith(CUT) and whole.startswith(cut.removesuffix(CUT)))


@PATIENT
@given(st.text('é€😀\x00"\\a\n', min_size=1), st.integers(1_500, 6_000))
def test_a_traceback_is_cut_in_its_middle(text: str, times: int) -> None:
    whole = text * times
    cut = decoded({**WHO, "exception": whole})["exception"]
    head, _, tail = cut.partition(CUT)
    assert whole.startswith(head)
    assert whole.endswith(tail)


def made_up(depth: int, message: str) -> str:
    frames = "".join(f'  File "app/module{at}.py", line {at}, in function{at}\n    call{at}()\n' for at in range(depth))
    return f"Traceback (most recent call last):\n{frames}ValueError: {message}"


@pytest.mark.parametrize("length", [10, 9_000])
def test_the_innermost_frames_and_the_errors_own_words_survive(length: int) -> None:
    cut = decoded({**WHO, "exception": made_up(300, "what went wrong " + "x" * length + " to the end")})["exception"]
    assert cut.startswith("Traceback (most recent call last):\n")
    assert 'module299.py", line 299, in function299\n    call299()\nValueError: what went wrong xxx' in cut
    assert "function295" in cut
    assert "function150" not in cut
    assert cut.endswith("x to the end")


def there(depth: int) -> None:
    if depth:
        back(depth - 1)
    raise ValueError("the words " + "y" * 5_000 + "\nof the last one")


def back(depth: int) -> None:
    there(depth)


def test_of_a_group_of_exceptions_too() -> None:
    try:
        there(150)
    except ValueError as error:
        text = "".join(traceback.format_exception(ExceptionGroup("a group", [KeyError("first"), error])))
    cut = decoded({**WHO, "exception": text})["exception"]
    assert len(cut) < len(text) // 3
    assert cut.startswith("  | ExceptionGroup: a group")
    assert 'raise ValueError("the words " + "y" * 5_000' in cut
    assert "ValueError: the words yyy" in cut
    assert "of the last one" in cut


def test_a_long_field_gives_way_to_short_ones_and_the_exception_gets_the_most_room() -> None:
    line = decoded({**WHO, "body": "b" * 9_000, "exception": made_up(200, "x"), "route": "/x", "status": 500})
    assert (line["route"], line["status"], line["event"]) == ("/x", 500, "failed")
    assert len(line["exception"]) > 2_000
    assert 300 < len(line["body"]) < 800


def test_of_many_fields_the_first_are_kept_and_the_others_counted() -> None:
    line = decoded({**WHO, **{f"field{number:03}": "x" * 50 for number in range(200)}})
    kept = [key for key in line if key.startswith("field0")]
    assert kept == sorted(kept)
    assert len(kept) >= 30
    assert line["fields_left_out"] == 200 - len(kept)


def test_structures_stay_what_they_are() -> None:
    body = {"id": 7, "notes": ["short", "n" * 9_000, "never seen"], "more": 1}
    cut = decoded({**WHO, "body": body})["body"]
    assert cut["id"] == 7
    assert cut["notes"][0] == "short"
    assert cut["notes"][1].startswith("nnn")
    assert cut["notes"][1].endswith(CUT)
    assert cut["notes"][2:] == [CUT]
    assert cut["..."] == CUT


class Odd:
    def __str__(self) -> str:
        raise RuntimeError


class Number(enum.IntEnum):
    HUGE = 2**70


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("\ud800x", "\ufffdx"),
        (2**64, str(2**64)),
        (2**64 - 1, 2**64 - 1),
        (-(2**63), -(2**63)),
        (10**5_000, "int"),
        (Number.HUGE, str(int(Number.HUGE))),
        (float("inf"), None),
        ({(1, 2): {3: "a"}}, {"(1, 2)": {"3": "a"}}),
        ((1, "\udfff"), [1, "\ufffd"]),
        (Odd(), "Odd"),
        (b"x", "b'x'"),
    ],
    ids=["surrogate", "long", "unsigned", "signed", "endless", "enum", "infinite", "keys", "tuple", "odd", "bytes"],
)
def test_what_json_lacks_is_shown_as_well_as_it_can_be(value: object, shown: object) -> None:
    assert decoded({"value": value}) == {"value": shown}
