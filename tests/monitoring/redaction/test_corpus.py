"""Each corpus value in each context: private values are redacted, ordinary values stay."""

from typing import Any

import pytest

from app.monitoring.redaction import redact, redact_event, redact_text
from app.monitoring.redaction import text as texts
from tests.monitoring.redaction.corpus import CONTEXTS, leaks, load, secrets, without_marks

PRIVATE = load("private")
ORDINARY = load("ordinary")
# Required: this many values of each kind, and at most one changed ordinary value per this many. None is changed.
MIN_VALUES = 300


def test_the_corpus_is_large_and_says_nothing_twice() -> None:
    for values in (PRIVATE, ORDINARY):
        assert len(values) == len(set(values)) > MIN_VALUES


@pytest.mark.parametrize("context", CONTEXTS)
def test_nothing_private_is_left(context: str) -> None:
    make, _ = CONTEXTS[context]
    cleaned = {entry: redact_text(make(without_marks(entry))) for entry in PRIVATE}
    left = {entry: text for entry, text in cleaned.items() if any(leaks(secret, text) for secret in secrets(entry))}
    assert left == {}


@pytest.mark.parametrize("context", CONTEXTS)
def test_ordinary_values_stay(context: str) -> None:
    make, written = CONTEXTS[context]
    cleaned = {value: redact_text(make(value)) for value in ORDINARY}
    touched = {value: text for value, text in cleaned.items() if written(value) not in text}
    assert touched == {}


@pytest.mark.parametrize("context", CONTEXTS)
def test_what_was_redacted_stays_as_it_is(context: str) -> None:
    make, _ = CONTEXTS[context]
    for value in (*map(without_marks, PRIVATE), *ORDINARY):
        once = redact_text(make(value))
        assert redact_text(once) == once


def _structures(value: str) -> list[Any]:
    return [
        {"note": value},
        {"notes": [{"deep": ({"deeper": [value]},)}]},
        # Non-ASCII characters would be escaped in the text of bytes.
        {"body": value.encode() if value.isascii() else b""},
        {"error": ValueError(value)},
        {value: 1},
        [("x-note", value)],
        {"both": {value}},
    ]


def test_nothing_private_is_left_in_structures_events_and_attributes() -> None:
    left = []
    for entry in PRIVATE:
        value = without_marks(entry)
        found = [redact(structure) for structure in _structures(value)]
        found += [redact_event({"event": "x", "note": value}), redact_event({"exception.message": value})]
        left += [item for item in map(repr, found) if any(leaks(secret, item) for secret in secrets(entry))]
    assert left == []


def test_ordinary_values_stay_in_structures_events_and_attributes() -> None:
    touched = []
    for value in ORDINARY:
        event = {"event": "x", "note": value, "notes": [value, {"deep": value}]}
        if redact(event) != event or redact_event(event) != event:
            touched.append(value)
    assert touched == []


def test_a_secret_that_the_cut_goes_through_is_not_left_in_half(monkeypatch: pytest.MonkeyPatch) -> None:
    length = 2_048
    monkeypatch.setattr(texts, "MAX_TEXT_LENGTH", length)
    left = {}
    for entry in PRIVATE:
        value = without_marks(entry)
        for reach in range(2, len(value), max(1, len(value) // 4)):
            text = "." * (length - reach - 1) + " " + value + " " + "." * length
            clean = redact_text(text)
            assert len(clean) <= length
            kept, _, _ = clean.rpartition("[cut ")
            if any(leaks(secret, kept) for secret in secrets(entry)):
                left[entry] = kept.strip(".")
    assert left == {}


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("0812 3456 7890 5m30s", "[phone] 5m30s"),
        ("0812 3456-7890-99887766", "[phone]"),
        ("+15000000 4111 1111 1111 1111", "[phone]"),
        ("081234567890 081298765432", "[phone] [phone]"),
        ("+6281234567890 (0361) 123456", "[phone] [phone]"),
        ("4111 1111 1111 1111 12/28", "[card] 12/28"),
        (r"Cookie: a=b\r\nAccept: */*", r"Cookie: [redacted]\r\nAccept: */*"),
        ("x:wayan@example.com:y", "x:[email]:y"),
        ("user[email]=someone", "user[email]=[redacted]"),
        ("https://bali.test/?token=abc&page=2#top", "https://bali.test/?token=[redacted]&page=2#top"),
        ("Authorization: Digest a=b", "Authorization: [redacted]"),
        ("Authorization: Bearer a1b2c3 status=401", "Authorization: Bearer [redacted] status=401"),
        ("password=x, page=2", "password=[redacted], page=2"),
        ("address: Jl. Raya 8, Ubud status=200", "address: [redacted] status=200"),
        ("198.51.100.77:54321 - GET", "198.51.100.0/24:54321 - GET"),
        ("tokens: 5]+62 812 3456 7890", "tokens: 5][phone]"),
        ("redis://:s3cret@cache/0", "redis://:[redacted]@cache/0"),
        ("https://wayan:s3cret@bali.test/", "https://[redacted]@bali.test/"),
        ("/find?q=call%20081234567890%20now&n=2", "/find?q=call%20[phone]%20now&n=2"),
    ],
)
def test_what_stands_around_a_private_value_is_kept(text: str, clean: str) -> None:
    assert redact_text(text) == clean
