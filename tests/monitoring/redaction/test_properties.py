"""Generated e-mails, phones, cards and NIKs are redacted in any context; ids, times and numbers are kept."""

import string
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.monitoring.redaction import redact, redact_event, redact_text
from app.monitoring.redaction.text import MAX_TEXT_LENGTH
from tests.monitoring.redaction.corpus import leaks, load, squashed, without_marks

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
MORE = settings(PATIENT, max_examples=400)
PRIVATE = [without_marks(entry) for entry in load("private")]
ORDINARY = load("ordinary")

ISSUERS = [
    *[("4", 16), ("4", 13), ("4", 19), ("51", 16), ("55", 16), ("2221", 16), ("2720", 16), ("34", 15), ("37", 15)],
    *[("36", 14), ("38", 14), ("6011", 16), ("65", 16), ("3528", 16), ("62", 16), ("62", 19), ("5018", 16)],
]

Words = st.text(st.characters(exclude_categories=["Nd", "No", "Nl", "Cs"]), max_size=12)
Brackets = st.sampled_from([" {} ", '"{}"', "'{}'", "({})", "<{}>", ": {},", "\n{}\n", "\t{}|", " {}. ", ";{};"])


def digits(least: int, most: int | None = None) -> st.SearchStrategy[str]:
    return st.text("0123456789", min_size=least, max_size=least if most is None else most)


def grouped(number: str, sizes: tuple[int, ...], sign: str) -> str:
    parts, start = [], 0
    for size in sizes:
        parts.append(number[start : start + size])
        start += size
    return sign.join(part for part in (*parts, number[start:]) if part)


@st.composite
def emails(draw: st.DrawFn) -> str:
    plain = string.ascii_letters + string.digits
    local = draw(st.text(plain, min_size=6, max_size=20)) + draw(st.sampled_from(["", ".x", "+trip", "_y", "-z"]))
    domain = draw(st.sampled_from(["example.com", "post.example.org", "example.co.id", "a-b.example.net"]))
    return f"{local}{draw(st.sampled_from(['@', '@', '%40']))}{domain}"


@st.composite
def phones(draw: st.DrawFn) -> str:
    sign = draw(st.sampled_from(["", " ", "-", "."]))
    if draw(st.booleans()):
        country = draw(st.sampled_from(["1", "44", "49", "61", "65", "81", "91", "353", "971"]))
        return f"+{country}{sign}" + sign.join((draw(digits(3)), draw(digits(3)), draw(digits(4))))
    operator = draw(st.sampled_from(["11", "12", "13", "21", "52", "57", "78", "81", "96"]))
    start = draw(st.sampled_from(["0", "+62", "+62 ", "+62-", "62", "+62 (0)", "0062"]))
    return start + sign.join(("8" + operator, draw(digits(4)), draw(digits(3, 4))))


@st.composite
def cards(draw: st.DrawFn) -> str:
    prefix, length = draw(st.sampled_from(ISSUERS))
    body = prefix + draw(digits(length - len(prefix) - 1))
    total = sum(sum(divmod(int(digit) * (2 - place % 2), 10)) for place, digit in enumerate(reversed(body)))
    number = f"{body}{-total % 10}"
    sizes = (4, 6) if length < 16 and length > 13 else (4, 4, 4, 4)
    return grouped(number, sizes, draw(st.sampled_from(["", " ", "-"])))


@st.composite
def niks(draw: st.DrawFn) -> str:
    # Without 16 to 18 (southern Sumatra): these look like microseconds and are redacted only if labelled as a NIK.
    province = draw(st.sampled_from([11, 31, 32, 33, 34, 35, 36, 51, 52, 53, 61, 64, 71, 73, 81, 91, 94]))
    regency = draw(st.integers(1, 30) | st.integers(71, 79))
    day = draw(st.integers(1, 31)) + draw(st.sampled_from([0, 40]))
    place = f"{province}{regency:02}{draw(st.integers(1, 60)):02}"
    born = f"{day:02}{draw(st.integers(1, 12)):02}{draw(digits(2))}"
    return f"{place}{born}{draw(st.integers(1, 9999)):04}"


Private = emails() | phones() | cards() | niks()


@PATIENT
@given(Private, Words, Words, Brackets)
def test_nothing_private_is_left_whatever_stands_around_it(value: str, before: str, after: str, around: str) -> None:
    for text in (redact_text(before + around.format(value) + after), repr(redact({before: [value, {"x": value}]}))):
        assert not leaks(value, text) or leaks(value, before + after + around)


@st.composite
def timestamps(draw: st.DrawFn) -> str:
    zone = timezone(timedelta(minutes=draw(st.integers(-47, 56)) * 15))
    moment = draw(st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(zone)))  # noqa: DTZ001
    seconds = draw(st.integers(1_500_000_000_000_000, 1_999_999_999_999_999))
    shown = [
        moment.isoformat(),
        str(moment),
        moment.strftime("%d/%b/%Y:%H:%M:%S %z"),
        moment.strftime("%Y%m%dT%H%M%SZ"),
    ]
    shown += [str(seconds), str(seconds // 1000), str(seconds // 1_000_000), str(seconds / 1_000_000)]
    return draw(st.sampled_from(shown))


@st.composite
def amounts(draw: st.DrawFn) -> str:
    amount = draw(st.integers(1, 10**12))
    return draw(
        st.sampled_from([f"Rp {amount:,}".replace(",", "."), f"IDR {amount:,}.00", f"Rp{amount}", f"${amount:,}"])
    )


Floats = st.floats(allow_nan=False, allow_infinity=False).map(repr)
Places = st.tuples(st.floats(-90, 90), st.floats(-180, 180)).map("{0[0]:.6f},{0[1]:.6f}".format)
Hashes = st.binary(min_size=8, max_size=32).map(bytes.hex).filter(lambda text: not text.isdigit())
Numbers = st.integers(-(10**9), 10**9).map(str)
Ordinary = Numbers | Floats | Places | timestamps() | amounts() | Hashes | st.uuids().map(str)
Plain = st.sampled_from(
    ["{}", "at {} then", '{{"x": "{}"}}', "/a/{0}/b?c={0}&d=1", "x={}", "({})", "[{}]", "took {}ms"]
)


@MORE
@given(Ordinary, Plain)
def test_ids_times_prices_places_and_numbers_stay(value: str, around: str) -> None:
    text = around.format(value)
    assert redact_text(text) == text


@PATIENT
@given(st.integers(-(10**13), 10**13) | st.floats(allow_nan=False) | st.booleans() | st.none())
def test_numbers_of_an_event_stay_numbers(value: object) -> None:
    assert redact_event({"value": value}) == {"value": value}


Pieces = st.sampled_from(
    [*PRIVATE, *ORDINARY, *" ,:=&;\"'()[]{}<>/?%\\\n-+.|@", "token", "--", "%20", "\\n", '", "', "'0"]
)


@MORE
@given(st.lists(Pieces | st.text(max_size=5), max_size=5).map("".join), st.booleans())
def test_redacting_again_changes_nothing_more(text: str, one_line: bool) -> None:  # noqa: FBT001
    once = redact_text(text, one_line=one_line)
    assert redact_text(once, one_line=one_line) == once


@PATIENT
@given(st.text(min_size=1, max_size=30), st.integers(1, 40_000), Words)
def test_what_comes_out_is_bounded_and_says_how_much_was_cut(piece: str, times: int, end: str) -> None:
    text = piece * min(times, 40_000 // len(piece)) + end
    clean = redact_text(text)
    assert len(clean) <= MAX_TEXT_LENGTH
    assert ("characters]" in clean) >= (len(text) > MAX_TEXT_LENGTH)


Moments = st.datetimes(datetime(1900, 1, 1), datetime(2099, 1, 1))  # noqa: DTZ001
Nested = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary() | Moments,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=8) | st.integers() | st.binary(max_size=8), inner, max_size=4)
    ),
    max_leaves=10,
)


@PATIENT
@given(
    st.dictionaries(st.text(max_size=12) | st.sampled_from(["password", "client_ip", "user_id"]), Nested, max_size=6)
)
def test_no_event_raises_or_is_changed_and_each_field_is_kept(event: dict[str, Any]) -> None:
    before = repr(event)
    clean = redact_event(event)
    assert repr(event) == before
    assert len(clean) == len(event)
    assert redact_event(clean) == clean


@pytest.mark.parametrize("value", PRIVATE[:40])
def test_a_leak_would_be_noticed(value: str) -> None:
    assert leaks(value, f"x {value} y")
    assert not leaks(value, "x [email] y")
    assert squashed(value)
