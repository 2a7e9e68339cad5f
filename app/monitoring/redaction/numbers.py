"""Phone numbers, payment cards, Indonesian NIK and NPWP, US SSN: private numbers among all the others.

One pattern finds where a longer number begins; what it is, is seen from there. Each look reads a bounded number of
characters, so the whole takes time in proportion to the text.
"""

import itertools
import re
from collections.abc import Callable

from .checks import is_card, is_nik, is_timestamp
from .ids import Ids
from .keys import word_set

# What people write between digits, and a plus where a URL has it for a blank. Other makes of these are folded first.
_BETWEEN = r"(?:[ \t.()\-]{0,3}|\+)"
_START = re.compile(r"[\d+(](?<![\d%]\d)(?<!\d\.\d)(?=(?:[ \t.()\-+/_]{0,3}\d){6})")
_ZEROS = (
    *(0x660, 0x6F0, 0x7C0, 0x966, 0x9E6, 0xA66, 0xAE6, 0xB66, 0xBE6, 0xC66, 0xCE6, 0xD66, 0xE50, 0xED0, 0x1040, 0x17E0),
    *(0x1810, 0x1B50, 0xA9D0, 0xFF10, 0x1D7CE, 0x1D7D8, 0x1D7E2, 0x1D7EC, 0x1D7F6),  # Balinese, Javanese, full width
)
_FOLDED = (
    {zero + digit: str(digit) for zero in _ZEROS for digit in range(10)}
    | dict.fromkeys((0xA0, 0xAD, *range(0x2000, 0x200E), 0x202F, 0x205F, 0x2060, 0x3000, 0xFEFF), " ")
    | dict.fromkeys((*range(0x2010, 0x2016), 0x2212, 0xFE58, 0xFE63, 0xFF0D), "-")
    | {0xFF0B: "+", 0xFF08: "(", 0xFF09: ")", 0xFF0E: ".", 0x2024: "."}
)
_DIGITS = re.compile(r"\d+")
_NO_DIGIT = re.compile(r"\D+")

_TRACE = re.compile(r"(?i:trace|span)_?(?i:id)[\"']?[ ]?[:=][ ]?[\"']?\Z")

_DAY = r"(?:0?[1-9]|[12]\d|3[01])"
_MONTH = r"(?:0?[1-9]|1[0-2])"
_YEAR = r"(?:19|20)\d\d"
# Other numbers that are longer than some.
_OTHER_NUMBER = re.compile(
    rf"""(?:
        {_YEAR}(?P<d>[-/.]){_MONTH}(?P=d){_DAY}(?:[T ]\d\d:\d\d(?::\d\d(?:(?:\.\d{{1,9}}|,\d{{3}})(?!\.\d))?)?)?(?!\d)
      | {_DAY}(?P<e>[-/.]){_MONTH}(?P=e){_YEAR}(?!\d)
      | \d{{1,3}}(?:\.\d{{1,3}}){{3}}(?![\d])(?!\.\d)                             # an IPv4 address
      | (?<=\d:)[0-5]\d(?:(?:\.\d{{1,9}}|,\d{{3}})(?!\.\d))?(?:[+-]\d\d:?\d\d)?(?!\d)               # seconds
      | [+]?(?:0|[1-9]\d{{0,18}})\.\d{{1,6}}(?!\d)(?![.-]\d)                    # a decimal; +62.81234567 is none
      | (?:0|[1-9]\d{{0,18}})\.\d{{1,64}}(?:[eE][+-]?\d{{1,3}})?(?!\d)(?![.-]\d)
      | [+]?[1-9]\d{{0,2}}(?:\.\d{{3}}){{1,2}}(?:,\d{{1,2}})?(?!\d)(?![.-]\d)   # 1.250.000
      | [1-9]\d{{0,2}}(?:\.\d{{3}}){{1,5}}(?:,\d{{1,2}})?(?!\d)(?![.-]\d)
    )""",
    re.VERBOSE,
)
_MONEY_BEFORE = re.compile(r"(?:(?:\b|(?<=\\[nrt]))(?i:rp\.?|idr|usd|eur|sgd|aud)|[$€£¥])[ \u00a0]?[-+]?\Z")
_AMOUNT = re.compile(
    r"[1-9]\d{0,2}(?:(?:\.\d{3}){1,6}(?:,\d\d?)?|(?:,\d{3}){1,6}(?:\.\d\d?)?)(?!\d)|[1-9]\d{0,18}(?:[.,]\d\d?)?(?!\d)"
)

_MIN_CARD_DIGITS = 13
_CARD = re.compile(r"[2-9](?:[ \t.\-+/_]{0,2}\d){12,18}")
_NIK = re.compile(r"\d(?:[ .-]?\d){15}(?!\d)")
_NIK_SIZES = ([16], [4, 4, 4, 4], [6, 6, 4], [2, 2, 2, 6, 4])
_NIK_BEFORE = re.compile(r"(?i:\b(?:nik|ktp|e-ktp|identity|identitas|kependudukan|kk)\b)[^\d\n]{0,24}\Z")
_NPWP = re.compile(r"\d{2}\.\d{3}\.\d{3}\.\d-\d{3}\.\d{3}(?!\d)")
_SSN = re.compile(r"(?!000|666|9)\d{3}(?P<s>[- .]?)(?!00)\d\d(?P=s)(?!0000)\d{4}(?![-.]?\d)")
_NIK_WORDS = ("nik", "ktp", "ident", "kependudukan", "kk")
_SSN_BEFORE = re.compile(r"(?i:\bssns?\b|social[ -]security)[^\d\n]{0,24}\Z")

_PHONES = re.compile(
    rf"""(?:
        # Indonesian mobile: 0812..., 62812..., +62 (0)812..., 0062 812...
        (?:[+(]{{0,2}}(?:00)?62\)?{_BETWEEN}(?:\(?0\)?{_BETWEEN})?|\(?0)8[1-9]\)?(?:{_BETWEEN}\d){{6,10}}
        # Indonesian landline: (0361) 123456, 021-1234567, 0361/123456; Bali's and Jakarta's also without a sign
      | \(?0[2-79]\d{{1,2}}\)?[ \-./]{{1,3}}\d{{3,4}}[ \-.]?\d{{2,4}}(?:[ \-.]?\d{{1,4}})?
      | \(?0[2-79]\d{{1,2}}\)?[ ]\d\d(?:[ \-.]\d\d){{2}}
      | 0(?:21|22|24|31|36[1-8]|274|251|341|411|511)\d{{6,8}}
        # International, with a plus or zeros before the country
      | \(?\+\)?{_BETWEEN}[1-9](?:[/]?{_BETWEEN}\d){{7,14}}
      | 00[1-9]\d{{0,2}}[ .()-](?:{_BETWEEN}\d){{7,12}}
        # North American
      | \([2-9]\d\d\)[ -]?\d{{3}}[-. ]\d{{4}}
      | (?:1[-. ])?[2-9]\d\d([-.])[2-9]\d\d\1\d{{4}}
    )(?!\d)""",
    re.VERBOSE,
)
_CALLED = re.compile(
    r"(?i:\b(?:phone|telephone|tel|telp|telepon|hp|handphone|wa|whatsapp|mobile|cell|fax|hubungi|kontak))"
    r"[.:]?[ ]?(?i:(?:no|number|nomor|is|at|me at)[.:]?[ ])?\Z"
)
_CALLED_WORDS = ("phone", "tel", "hp", "wa", "mobile", "cell", "fax", "hubungi", "kontak")
_LOCAL_PHONE = re.compile(rf"\d(?:{_BETWEEN}\d){{6,12}}(?!\d)")
# Letters that may stand right before a phone number without making it a part of something else.
_LAST_DIGITS = re.compile(r"\D*+\d++\Z")
_MAX_CODE_LENGTH = 7
_TIED = re.compile(r"(?>(?:[-.]\d{1,8}(?!\w))+)")
_LABELS = word_set("wa hp tel telp telepon phone ph p t m no call mobile mob cell fax nomor n r")
_WORD_BEFORE = re.compile(r"(?<![^\W_])[^\W\d_]{1,16}\Z")
_WORD_AFTER = re.compile(r"[^\W\d_]{1,16}+(?=\d)")


def redact_numbers(text: str) -> str:
    """`text` without phone numbers, payment cards and identity numbers."""
    parts: list[str] = []
    done = position = 0
    folded = text if text.isascii() else text.translate(_FOLDED)  # of the same length
    ids = Ids(folded)
    while (start := _START.search(folded, position)) is not None:
        end, replacement = _look(folded, start.start(), ids)
        if replacement:
            parts += text[done : start.start()], replacement
            done = end
        position = end
    if not parts:
        return text
    parts.append(text[done:])
    return "".join(parts)


def _look(text: str, start: int, ids: Ids) -> tuple[int, str]:
    """Where the number at `start` ends, and what is written in its place; "" for leaving it."""
    before = text[start - 1 : start]
    first = _DIGITS.match(text, start)
    after = first.end() if first else start + 1  # behind a sign, the number may still begin
    end_of_id = ids.end_around(start, after)
    if end_of_id:
        return end_of_id, ""
    if before.isalnum() and not _is_label(text, start):
        return _card(text, start) or _nik(text, start) or (after, "")
    for kind in _KINDS:
        found = kind(text, start)
        if found is not None:
            return found
    return after, ""


def _is_label(text: str, start: int) -> bool:
    word = _WORD_BEFORE.search(text, max(0, start - 17), start)
    return word is not None and word[0].lower() in _LABELS


def _other_number(text: str, start: int) -> tuple[int, str] | None:
    if _MONEY_BEFORE.search(text, max(0, start - 8), start):
        amount = _AMOUNT.match(text, start)
        if amount:
            return _card(text, start) or _nik(text, start) or (amount.end(), "")
    other = _OTHER_NUMBER.match(text, start)
    return (other.end(), "") if other else None


def _npwp(text: str, start: int) -> tuple[int, str] | None:
    match = _NPWP.match(text, start)
    return (match.end(), "[npwp]") if match else None


def _ssn(text: str, start: int) -> tuple[int, str] | None:
    match = _SSN.match(text, start)
    if match and (match["s"] == "-" or _names(text, start, _SSN_BEFORE, ("ssn", "social"))):
        return match.end(), "[ssn]"
    return None


def _nik(text: str, start: int) -> tuple[int, str] | None:
    match = _NIK.match(text, start)
    if match is None or _is_tail(text, match.end()):
        return None
    groups = _DIGITS.findall(match[0])
    digits = "".join(groups)
    alone = [len(group) for group in groups] in _NIK_SIZES and is_nik(digits) and not is_timestamp(digits)
    return (match.end(), "[nik]") if alone or _names(text, start, _NIK_BEFORE, _NIK_WORDS) else None


def _names(text: str, start: int, pattern: re.Pattern[str], words: tuple[str, ...]) -> bool:
    """Whether what stands before `start` says what the number is. Looking for the words first saves most searches."""
    before = text[max(0, start - 48) : start]
    lower = before.lower()
    return any(word in lower for word in words) and pattern.search(before) is not None


def _card(text: str, start: int) -> tuple[int, str] | None:
    """A card's number of 13 to 19 digits, whatever digits may follow behind a blank."""
    match = _CARD.match(text, start)
    if match is None or _TRACE.search(text, max(0, start - 16), start):
        return None
    groups = list(_DIGITS.finditer(match[0]))
    if text[match.end() : match.end() + 1].isdigit():
        groups.pop()
    while sum(len(group[0]) for group in groups) >= _MIN_CARD_DIGITS:
        end = start + groups[-1].end()
        if is_card([group[0] for group in groups]) and not _is_tail(text, end):
            return end, "[card]"
        groups.pop()
    return None


def _is_tail(text: str, end: int) -> bool:
    """Whether more letters and digits are glued to the number, as in an id."""
    return _WORD_AFTER.match(text, end) is not None


def _phone(text: str, start: int) -> tuple[int, str] | None:
    pattern, limit = _PHONES, len(text)
    if pattern.match(text, start) is None and _names(text, start, _CALLED, _CALLED_WORDS):
        pattern = _LOCAL_PHONE
    while (match := pattern.match(text, start, limit)) is not None:
        if not _is_tail(text, match.end()):
            return (_end_of_phone(text, match), "[phone]") if _is_whole(match[0]) else None
        # The last digits belong to something else: 0812 3456 7890 5m30s
        limit = start + len(_LAST_DIGITS.sub("", match[0]))
    return None


def _end_of_phone(text: str, match: re.Match[str]) -> int:
    """The end of `match` with what dashes tie to it, or of a card or NIK that it reaches into."""
    groups = list(_DIGITS.finditer(text, match.start(), match.end()))
    for last, group in itertools.pairwise(groups):
        sign = "(" in text[last.end() : group.start()] or (group[0][0] == "0" and _PHONES.match(text, group.start()))
        if sign and last.end() - match.start() > _MAX_CODE_LENGTH:
            return last.end()  # another number begins
        other = _card(text, group.start()) or _nik(text, group.start())
        if other:
            return other[0]
    tied = _TIED.match(text, match.end())
    return tied.end() if tied else match.end()


def _is_whole(written: str) -> bool:
    """A plus alone makes no phone number: +62 361 123 lacks digits, and +15000000 may be a difference."""
    if written.startswith("(") and ")" not in written:
        return False
    if not written.lstrip("(").startswith("+"):
        return True
    digits = _NO_DIGIT.sub("", written)
    return len(digits) >= (10 if digits.startswith("62") or written == f"+{digits}" else 8)


_KINDS: tuple[Callable[[str, int], tuple[int, str] | None], ...] = (_npwp, _other_number, _ssn, _nik, _card, _phone)
