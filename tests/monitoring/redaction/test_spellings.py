"""Private values are found in every spelling: separators, escapes of Python, JSON, URLs, HTML and e-mail, scripts."""

import html
import json
import quopri
import re
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.monitoring.redaction import redact, redact_text
from app.monitoring.redaction.spelling import view

GROUPS = {
    "[card]": ("4111", "1111", "1111", "1111"),
    "[iban]": ("DE89", "3704", "0044", "0532", "0130", "00"),
    "[nik]": ("5171", "0123", "0490", "0001"),
    "[npwp]": ("09", "254", "294", "3", "407", "000"),
    "[phone]": ("+62", "812", "3456", "7890"),
}
INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff\xad"
SIGNS = [
    *INVISIBLE,
    *"\xa0\u2009\u202f\u3000\u2007\u2012\u2013\u2014\u2212 -.,_/\t",
    "\u2022",
    "\u30fb",
    " - ",
    " . ",
    " / ",
    "\n",
    "\r\n",
]
# Two phone numbers are written with these between; without its points a taxpayer number is fifteen digits.
NOT_WITHIN = {("[phone]", " / "), ("[phone]", "\n"), ("[phone]", "\r\n"), *(("[npwp]", sign) for sign in INVISIBLE)}


def shifted(text: str, zero: int) -> str:
    """Return `text` with the digits of the script whose zero is `zero`."""
    return "".join(chr(zero + int(sign)) if sign in "0123456789" else sign for sign in text)


def full_width(text: str) -> str:
    return "".join(chr(ord(sign) + 0xFEE0) if "!" <= sign <= "~" else sign for sign in text)


def each(text: str, write: Callable[[int], str]) -> str:
    """Return `text` with each sign that is neither a letter nor a digit written by `write`."""
    return "".join(sign if sign.isalnum() else write(ord(sign)) for sign in text)


SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "repr": repr,
    "ascii": ascii,
    "repr of ascii": lambda text: repr(ascii(text)),
    "repr of bytes": lambda text: repr(text.encode()),
    "JSON": json.dumps,
    "JSON in JSON": lambda text: json.dumps(json.dumps(text)),
    "unicode escapes": lambda text: each(text, "\\u{:04x}".format),
    "percent": lambda text: quote(text, safe=""),
    "percent twice": lambda text: quote(quote(text, safe=""), safe=""),
    "decimal entities": lambda text: each(text, "&#{};".format),
    "hexadecimal entities": lambda text: each(text, "&#x{:x};".format),
    "entities twice": lambda text: html.escape(each(text, "&#{};".format)),
    "quoted-printable": lambda text: quopri.encodestring(text.encode(), quotetabs=True).decode(),
    "full width": full_width,
    "full width in JSON": lambda text: json.dumps(full_width(text)),
    "Arabic digits": lambda text: shifted(text, 0x660),
    "Devanagari digits": lambda text: shifted(text, 0x966),
}


@pytest.mark.parametrize("mark", GROUPS)
def test_a_number_is_found_with_any_separator_in_any_spelling(mark: str) -> None:
    missed = {}
    for sign in SIGNS:
        if (mark, sign) in NOT_WITHIN:
            continue
        for name, spell in SPELLINGS.items():
            written = spell(sign.join(GROUPS[mark]))
            clean = redact_text(f"see {written} ok")
            # Quotation marks, which repr adds, stay; the brackets are full width where everything is.
            bare = clean.replace("'", "").replace('"', "").replace("\\", "")
            if bare not in (f"see {mark} ok", f"see b{mark} ok"):
                missed[mark, sign, name] = clean
    assert missed == {}


ADDRESSES = ("wayan.sari@example.com", "made+trip@mail.example.co.id", "ketut_88@example.org")


def test_an_email_address_is_found_in_any_spelling() -> None:
    missed = {}
    for address in ADDRESSES:
        written = {name: spell(address) for name, spell in SPELLINGS.items() if "digits" not in name}
        written |= {f"U+{ord(sign):04X} inside": address.replace("a", f"a{sign}", 1) for sign in INVISIBLE}
        written |= {f"escaped {name}": ascii(text) for name, text in written.items()}
        written |= {"commat": address.replace("@", "&commat;"), "small at": address.replace("@", "\ufe6b")}
        written["=40"] = address.replace("@", "=40")
        for name, text in written.items():
            for around in ("{}", "from {} to", "<{}>", 'x="{}",'):
                clean = redact_text(around.format(text))
                if "[email]" not in clean or any(part in clean for part in ("wayan", "sari", "ketut", "example", "co")):
                    missed[name, text] = clean
    assert missed == {}


def test_what_stands_around_an_escaped_value_keeps_its_escapes() -> None:
    assert redact_text(r"a\tb\u00e9 4111\xa01111\xa01111\xa01111\n &amp;=3D") == r"a\tb\u00e9 [card]\n &amp;=3D"
    assert redact({"note": b"caf\xc3\xa9 4111\xc2\xa01111\xc2\xa01111\xc2\xa01111"}) == {
        "note": r"b'caf\xc3\xa9 [card]'"
    }


@pytest.mark.parametrize(
    "text", ["plain", "4111 1111", "Jl. Raya 8", "?limit=20&offset=2081234567", r"C:\srv\app", "a & b", "100%", "&#x;"]
)
def test_a_text_without_escapes_has_no_view(text: str) -> None:
    seen = view(text)
    assert seen is None or (seen.text.replace("\n", "n") != text and len(seen.starts) == len(seen.text) + 1)


@settings(deadline=None, max_examples=100)
@given(st.text(max_size=20) | st.text("\\%&=#;x0u4nA\u200b\uff11 ", max_size=20))
def test_a_view_knows_where_each_character_comes_from(text: str) -> None:
    seen = view(text)
    if seen is not None:
        assert len(seen.starts) == len(seen.text) + 1
        assert seen.starts == sorted(seen.starts)
        assert 0 <= seen.starts[0] <= seen.starts[-1] == len(text)
        assert seen.redact(text, [(0, len(seen.text), "x")]) == text[: seen.starts[0]] + "x"


Surroundings = st.text(st.characters(exclude_categories=["Nd", "No", "Nl", "Cs"]), max_size=8)


@settings(deadline=None, max_examples=100)
@given(
    st.sampled_from([*GROUPS]),
    st.sampled_from(SIGNS),
    st.sampled_from([*SPELLINGS]),
    Surroundings,
    Surroundings,
    st.sampled_from([" {} ", '"{}"', "({})", "\n{}\n", "; {};"]),
)
def test_no_surrounding_lets_a_spelled_number_through(
    mark: str, sign: str, spelling: str, before: str, after: str, around: str
) -> None:
    if (mark, sign) in NOT_WITHIN:
        return
    text = before + around.format(SPELLINGS[spelling](sign.join(GROUPS[mark]))) + after
    clean = re.sub(r"<U\+[0-9A-F]+>", "", redact_text(text))  # escapes of controls have digits
    assert not any(part in clean for part in GROUPS[mark] if len(part) > 3 and part not in before + after), clean
