"""Text as its reader sees it: escapes decoded, invisible characters left out, variants of ASCII folded.

Numbers and addresses are searched in this view, and what is found is replaced in the text itself, whose other escapes
stay. Constraint: ASCII without escapes, which is most of what is logged, has no view of its own and costs one search.
"""

import html
import re
from collections.abc import Iterable, Iterator
from html.entities import html5
from typing import NamedTuple

Span = tuple[int, int, str]
"""Start, end and replacement of a private value."""

_ZEROS = (
    *(0x660, 0x6F0, 0x7C0, 0x966, 0x9E6, 0xA66, 0xAE6, 0xB66, 0xBE6, 0xC66, 0xCE6, 0xD66, 0xE50, 0xED0, 0x1040, 0x17E0),
    *(0x1810, 0x1B50, 0xA9D0, 0xFF10, 0x1D7CE, 0x1D7D8, 0x1D7E2, 0x1D7EC, 0x1D7F6),  # Balinese, Javanese, full width
)
_BLANKS = (0xA0, 0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000)
_DASHES = (*range(0x2010, 0x2016), 0x2043, 0x2212, 0x2E3A, 0x2E3B, 0xFE58, 0xFE63)
_INVISIBLE = (
    0xAD,
    0x34F,
    0x61C,
    0x180E,
    *range(0x200B, 0x2010),
    *range(0x202A, 0x202F),
    *range(0x2060, 0x2070),
    0xFEFF,
)
_FOLDED = (
    {0xFF00 + code - 0x20: chr(code) for code in range(0x21, 0x7F)}
    | {zero + digit: str(digit) for zero in _ZEROS for digit in range(10)}
    | dict.fromkeys(_BLANKS, " ")
    | dict.fromkeys(_DASHES, "-")
    | {0xFE6B: "@", 0xFE52: ".", 0x2024: ".", 0x3002: ".", 0xFF61: ".", 0xB7: ".", 0x2215: "/", 0x2044: "/"}
    | dict.fromkeys((0x2022, 0x2027, 0x2219, 0x22C5, 0x30FB, 0xFF65), ".")  # bullets and middle dots
)
_INVISIBLE_FOLDED = _FOLDED | dict.fromkeys(_INVISIBLE, " ")

# The long vowel of Japanese, which is written for a dash between digits.
_BAR = re.compile("(?<=\\d)\u30fc(?=\\d)")

# What the view leaves out or writes otherwise. A run of bytes is decoded as one: UTF-8 takes several for a character.
_SIGNS = "".join(map(chr, _INVISIBLE))
# The first character has a class of its own, so that the search can skip to it.
_SPELLED = re.compile(
    rf"""[\\%&={_SIGNS}](?:
        (?<=\\)(?<!\\\\)\\*+(?:x[0-9A-Fa-f]{{2}}(?>(?:\\{{1,16}}x[0-9A-Fa-f]{{2}})*)
            |u[0-9A-Fa-f]{{4}}|U[0-9A-Fa-f]{{8}}|[nrtfv])
      | (?<=%)[0-9A-Fa-f]{{2}}(?>(?:%[0-9A-Fa-f]{{2}})*)
      | (?<=&)(?:\#[0-9]{{1,7}}|\#[xX][0-9A-Fa-f]{{1,6}}|[A-Za-z]{{2,31}}(?=;));?
      | (?<==)(?:[0-9A-F]{{2}}(?>(?:=[0-9A-F]{{2}})*)|\r?\n)
      | (?<=[{_SIGNS}])
    )""",
    re.VERBOSE,
)
_BYTE = re.compile(r"(?:\\{1,16}x|[%=])([0-9A-Fa-f]{2})")
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "f": " ", "v": " "}
# Escapes are escaped again by each format around them: JSON in JSON, a query in a URL in a query.
_LAYERS = 4
_QUOTED_SIGNS = frozenset("\t\r\n ()+-./@")
_NUMBER_SIGNS = frozenset("-./,+()=")
_MAX_NUMBER = 40
# 4111=20-=201111; not the 1 of p1=20
_NUMBER_BEFORE = re.compile(r"(?<![^\W_])(?:[A-Z]{2})?\d{1,24}(?:=[0-9A-F]{2}|[\-./,+()]){0,3}\Z")
_UNIT = re.compile(r"(?i:px|r?em|pt|v[hw]|[kmgt]i?b|m?s|min|[hdkm])(?![\w-])")  # max=40mb.x


class View(NamedTuple):
    """A text as it is read, and where each of its characters, and its end, begins in the text itself."""

    text: str
    starts: list[int]

    def redact(self, source: str, spans: Iterable[Span]) -> str:
        """Return `source`, of which this is the view, with `spans` of the view replaced."""
        return replaced(source, ((self.starts[start], self.starts[end], mark) for start, end, mark in spans))


def fold(text: str) -> str:
    """Return `text`, of the same length, with digits and signs of other scripts as ASCII, invisible ones as blanks."""
    return text if text.isascii() else _BAR.sub("-", text).translate(_INVISIBLE_FOLDED)


def view(text: str) -> View | None:
    """Return the view of `text`, or None if it reads as it is written."""
    found: View | None = None
    for _ in range(_LAYERS):
        written = found.text if found else text
        plain = written if written.isascii() else _BAR.sub("-", written).translate(_FOLDED)
        pieces = list(_pieces(plain)) if _SPELLED.search(plain) is not None else []
        if not pieces and plain == written:
            break
        found = _joined(plain, pieces, found)
    return found


def replaced(text: str, spans: Iterable[Span]) -> str:
    """Return `text` with each of `spans`, which are in order, replaced."""
    parts: list[str] = []
    done = 0
    for start, end, mark in spans:
        parts += text[done:start], mark
        done = end
    if not parts:
        return text
    parts.append(text[done:])
    return "".join(parts)


def _joined(plain: str, pieces: list[tuple[int, int, str]], outer: View | None) -> View:
    """Return the view of `plain` with `pieces` replaced; positions are those of the outermost text."""
    parts: list[str] = []
    starts: list[int] = []
    done = 0
    for start, end, character in pieces:
        parts += plain[done:start], character
        starts.extend(range(done, start))
        if character:
            starts.append(start)
        done = end
    parts.append(plain[done:])
    starts.extend(range(done, len(plain) + 1))
    return View("".join(parts), starts if outer is None else [outer.starts[start] for start in starts])


def _pieces(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield start, end and character of each escape; the character is empty where nothing is seen."""
    for match in _SPELLED.finditer(text):
        written = match[0]
        first = written[0]
        if first == "&":
            character = _entity(written)
            if character:
                yield match.start(), match.end(), character
        elif first == "=":
            if written[1] in "\r\n":
                yield match.start(), match.end(), ""
            elif _is_quoted_printable(match):
                yield from _bytes(match)
        elif first == "%" or (first == "\\" and written.lstrip("\\")[0] == "x"):
            yield from _bytes(match)
        elif first == "\\":
            yield match.start(), match.end(), _escape(written.lstrip("\\"))
        else:
            yield match.start(), match.end(), ""


def _escape(name: str) -> str:
    return _ESCAPED[name] if name in _ESCAPED else _character(int(name[1:], 16))


def _character(code: int) -> str:
    return chr(code) if code < 0x110000 else "\ufffd"  # noqa: PLR2004 -- the end of Unicode


def _entity(written: str) -> str:
    """Return the character of an HTML entity; "" for several characters or none."""
    character = html.unescape(written) if written[1] == "#" else html5.get(written[1:], "")
    return character if len(character) == 1 else ""


def _bytes(run: re.Match[str]) -> Iterator[tuple[int, int, str]]:
    """Yield the characters of a run of escaped bytes: of UTF-8 where it is valid, else of Latin-1."""
    found = list(_BYTE.finditer(run[0]))
    codes = bytes(int(one[1], 16) for one in found)
    at = 0
    while at < len(codes):
        size = _size(codes, at)
        start, end = run.start() + found[at].start(), run.start() + found[at + size - 1].end()
        yield start, end, codes[at : at + size].decode("utf-8" if size > 1 else "latin-1")
        at += size


def _size(codes: bytes, at: int) -> int:
    """Return the number of bytes of the UTF-8 character at `at`; 1 if there is none."""
    first = codes[at]
    size = 2 if 0xC2 <= first < 0xE0 else 3 if 0xE0 <= first < 0xF0 else 4 if 0xF0 <= first < 0xF5 else 1  # noqa: PLR2004
    try:
        return size if size == 1 or len(codes[at : at + size].decode("utf-8")) == 1 else 1
    except UnicodeDecodeError:
        return 1


def _is_quoted_printable(match: re.Match[str]) -> bool:
    """Return True for =40 in an address, =20 in a number and bytes of UTF-8; False for the value of limit=20."""
    text, start = match.string, match.start()
    if len(match[0]) > 3:  # noqa: PLR2004 -- several bytes
        return True
    if match[0] == "=3D":
        return True
    if chr(int(match[0][1:], 16)) not in _QUOTED_SIGNS:
        return False
    following = text[match.end() : match.end() + 1]
    if match[0] == "=40":
        return following.isalpha() and _UNIT.match(text, match.end()) is None
    is_number = following.isdigit() or following in _NUMBER_SIGNS
    return is_number and _NUMBER_BEFORE.search(text, max(0, start - _MAX_NUMBER), start) is not None
