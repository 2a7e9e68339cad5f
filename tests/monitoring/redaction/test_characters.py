"""No text of others begins a line, moves the cursor or turns the writing around."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.monitoring.redaction import redact, redact_event, redact_text
from app.monitoring.redaction.characters import escape

LINE_BREAKS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
OVERRIDES = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
TERMINAL = ["\x1b[31m", "\x1b]0;title\x07", "\x9b2J", "\x08\x08\x08", "\x7f", "\x00"]
INVISIBLE = "\u200b\u2060\ufeff\ufff9\U000e0041\u180e"


@pytest.mark.parametrize("text", [*LINE_BREAKS, *OVERRIDES, *TERMINAL, *INVISIBLE, "\ud800", "a\r\nb"])
def test_one_line_stays_one_line(text: str) -> None:
    for clean in (
        redact_text(f"guest {text} said", one_line=True),
        *redact_event({f"guest {text} said": 1}),
    ):
        assert clean.isprintable()
        assert len(clean.splitlines()) == 1
        clean.encode()


def test_json_escapes_newlines_itself_and_gets_nothing_else() -> None:
    everything = "".join(
        map(chr, [*range(0x3000), *range(0xD7F0, 0xE010), *range(0xFE00, 0x10000), *range(0xE0000, 0xE0080)])
    )
    clean = "".join(redact_text(everything[start : start + 64]) for start in range(0, len(everything), 64))
    assert set(clean) & set(LINE_BREAKS + OVERRIDES) == {"\n"}
    assert {unicodedata.category(char) for char in set(clean) - {"\n", "\t"}} & {"Cc", "Cs", "Zl", "Zp"} == set()


def test_a_newline_is_written_as_people_know_it() -> None:
    assert redact_text("a\nb\r\nc\x1b[0m\u202e", one_line=True) == "a\\nb\\r\\nc<U+001B>[0m<U+202E>"
    assert redact_text("a\nb\tc\r") == "a\nb\tc\\r"


@pytest.mark.parametrize("text", ["Café — déjà vu", "日本語", "بالي", "नमस्ते", "👩‍👩‍👧", "ᬩᬮᬶ", "a\u00adb", "tab\there"])
def test_what_people_write_stays(text: str) -> None:
    assert redact_text(text, one_line=True) == text


def test_the_names_of_fields_are_one_line_everywhere() -> None:
    assert list(redact({"a\nb": {"c\x1bd": 1}})) == ["a\\nb"]
    assert redact({"a\nb": {"c\x1bd": 1}}) == {"a\\nb": {"c<U+001B>d": 1}}


@given(st.text(), st.booleans())
def test_escaping_leaves_nothing_unsafe_and_is_done_once(text: str, one_line: bool) -> None:  # noqa: FBT001
    clean = escape(text, one_line=one_line)
    assert escape(clean, one_line=one_line) == clean
    assert not set(clean) & set((LINE_BREAKS if one_line else LINE_BREAKS[1:]) + OVERRIDES + "\x1b\x9b")
    clean.encode()
