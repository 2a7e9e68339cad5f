"""Detection of private numbers in text: phone numbers, payment cards, US SSN and the forms of packs.

One pattern finds the start of each number of seven digits or more; the forms are matched from there. Each match reads
a bounded number of characters, so the time is linear in the length of the text.
"""

import itertools
import re
from collections.abc import Callable, Sequence

from .budget import Budget
from .checks import is_card
from .ids import Ids
from .keys import word_set
from .packs import NumberForm, RedactionPack

Found = tuple[int, str] | None
"""The end of a number, and its replacement."""

# Separators between digits, and a plus, which stands for a blank in a URL. Their Unicode variants are folded first.
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
_DIGIT = re.compile(r"\d")
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
_SSN = re.compile(r"(?!000|666|9)\d{3}(?P<s>[- .]?)(?!00)\d\d(?P=s)(?!0000)\d{4}(?![-.]?\d)")

_PHONES = rf"""
    # International, with a plus or zeros before the country
    \(?\+\)?{_BETWEEN}[1-9](?:[/]?{_BETWEEN}\d){{7,14}}
  | 00[1-9]\d{{0,2}}[ .()-](?:{_BETWEEN}\d){{7,12}}
    # North American
  | \([2-9]\d\d\)[ -]?\d{{3}}[-. ]\d{{4}}
  | (?:1[-. ])?[2-9]\d\d(?P<s>[-.])[2-9]\d\d(?P=s)\d{{4}}
"""
_PHONE_LABELS = ("phone", "telephone", "tel", "whatsapp", "mobile", "cell", "fax")
_LOCAL_PHONE = re.compile(rf"\d(?:{_BETWEEN}\d){{6,12}}(?!\d)")
# Letters that may stand right before a phone number without making it a part of something else.
_LAST_DIGITS = re.compile(r"\D*+\d++\Z")
_MAX_CODE_LENGTH = 7
_MIN_INTERNATIONAL, _MIN_UNDIVIDED = 8, 10
_MAX_LABEL_DISTANCE = 48
_TIED = re.compile(r"(?>(?:[-.]\d{1,8}(?!\w))+)")
_GLUED_LABELS = word_set("tel phone ph p t m no call mobile mob cell fax n r")
_WORD_BEFORE = re.compile(r"(?<![^\W_])[^\W\d_]{1,16}\Z")
_WORD_AFTER = re.compile(r"[^\W\d_]{1,16}+(?=\d)")


class Numbers:
    """The number forms in force: the built-in ones and those of packs."""

    __slots__ = (
        "_calling_codes",
        "_checked",
        "_enough_digits",
        "_forms",
        "_glued",
        "_kinds",
        "_phone_labels",
        "_phones",
        "whole",
    )

    def __init__(self) -> None:
        self.use(())

    def use(self, packs: Sequence[RedactionPack]) -> None:
        """Add the forms of `packs` to the built-in ones."""
        self._forms = [_Form(form) for pack in packs for form in pack.forms]
        self._checked = [form for form in self._forms if not form.unmistakable]
        self._kinds: tuple[Callable[[str, int], Found], ...] = (
            *(form.find for form in self._forms if form.unmistakable),
            self._other_number,
            _ssn,
            *(form.find for form in self._checked),
            self._card,
            self._phone,
        )
        self.whole = frozenset(("[card]", *(form.replacement for form in self._checked)))
        local = [f"{pack.phones}|" for pack in packs if pack.phones]
        self._phones = re.compile(f"(?:{''.join(local)}{_PHONES})(?!\\d)", re.VERBOSE)
        words = (*_PHONE_LABELS, *(word for pack in packs for word in pack.phone_labels))
        self._phone_labels = _Labels(words, r"(?i:\b(?:{}))[.:]?[ ]?(?i:(?:no|number|nomor|is|at|me at)[.:]?[ ])?\Z")
        self._glued = _GLUED_LABELS.union(*(pack.glued_labels for pack in packs))
        self._calling_codes = [
            (pack.calling_code, pack.min_international_digits) for pack in packs if pack.calling_code
        ]
        self._enough_digits = max((_MIN_UNDIVIDED, *(least for _, least in self._calling_codes)))

    def redact(self, text: str, budget: Budget | None = None) -> str:
        """Return `text` without phone numbers, payment cards and identity numbers.

        Behind the numbers that `budget` has left, each digit becomes "#".
        """
        budget = budget or Budget()
        parts: list[str] = []
        done = position = 0
        folded = text if text.isascii() else text.translate(_FOLDED)  # of the same length
        ids = Ids(folded)
        while (start := _START.search(folded, position)) is not None:
            if budget.numbers <= 0:
                return "".join((*parts, text[done:position], _DIGIT.sub("#", text[position:])))
            budget.numbers -= 1
            end, replacement = self._look(folded, start.start(), ids)
            if replacement:
                parts += text[done : start.start()], replacement
                done = end
            position = end
        if not parts:
            return text
        parts.append(text[done:])
        return "".join(parts)

    def _look(self, text: str, start: int, ids: Ids) -> tuple[int, str]:
        """Return the end of the number at `start` and its replacement; "" if it stays."""
        before = text[start - 1 : start]
        first = _DIGITS.match(text, start)
        after = first.end() if first else start + 1  # behind a sign, the number may still begin
        end_of_id = ids.end_around(start, after)
        if end_of_id:
            return end_of_id, ""
        if before.isalnum() and not self._is_label(text, start):
            return self._checked_number(text, start) or (after, "")
        for kind in self._kinds:
            found = kind(text, start)
            if found is not None:
                return found
        return after, ""

    def _is_label(self, text: str, start: int) -> bool:
        word = _WORD_BEFORE.search(text, max(0, start - 17), start)
        return word is not None and word[0].lower() in self._glued

    def _checked_number(self, text: str, start: int) -> Found:
        """Find a number that its own digits identify, with any surrounding text."""
        found = self._card(text, start)
        for form in self._checked:
            found = found or form.find(text, start)
        return found

    def _other_number(self, text: str, start: int) -> Found:
        if _MONEY_BEFORE.search(text, max(0, start - 8), start):
            amount = _AMOUNT.match(text, start)
            if amount:
                return self._checked_number(text, start) or (amount.end(), "")
        other = _OTHER_NUMBER.match(text, start)
        return (other.end(), "") if other else None

    @staticmethod
    def _card(text: str, start: int) -> Found:
        """Find a card number of 13 to 19 digits, even if more digits follow after a blank."""
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

    def _phone(self, text: str, start: int) -> Found:
        pattern, limit = self._phones, len(text)
        if pattern.match(text, start) is None and self._phone_labels.stand_before(text, start):
            pattern = _LOCAL_PHONE
        while (match := pattern.match(text, start, limit)) is not None:
            if not _is_tail(text, match.end()):
                return (self._end_of_phone(text, match), "[phone]") if self._is_whole(match[0]) else None
            # The last digits belong to something else: 0812 3456 7890 5m30s
            limit = start + len(_LAST_DIGITS.sub("", match[0]))
        return None

    def _end_of_phone(self, text: str, match: re.Match[str]) -> int:
        """Return the end of `match` with what dashes join to it, or of a card or identity number that it overlaps."""
        groups = list(_DIGITS.finditer(text, match.start(), match.end()))
        for last, group in itertools.pairwise(groups):
            sign = "(" in text[last.end() : group.start()] or (
                group[0][0] == "0" and self._phones.match(text, group.start())
            )
            if sign and last.end() - match.start() > _MAX_CODE_LENGTH:
                return last.end()  # another number begins
            other = self._checked_number(text, group.start())
            if other:
                return other[0]
        tied = _TIED.match(text, match.end())
        return tied.end() if tied else match.end()

    def _is_whole(self, written: str) -> bool:
        """Return False for digits that a plus alone does not make a phone number: +62 361 123, +15000000."""
        if written.startswith("(") and ")" not in written:
            return False
        if not written.lstrip("(").startswith("+"):
            return True
        digits = _NO_DIGIT.sub("", written)
        if len(digits) >= self._enough_digits:
            return True
        least = next((least for code, least in self._calling_codes if digits.startswith(code)), _MIN_INTERNATIONAL)
        return len(digits) >= (max(least, _MIN_UNDIVIDED) if written == f"+{digits}" else least)


class _Labels:
    """Words that label the number after them; they replace the braces of `pattern`."""

    __slots__ = ("_pattern", "_words")

    def __init__(self, words: Sequence[str], pattern: str) -> None:
        words = [word.lower() for word in words]
        self._pattern = re.compile(pattern.replace("{}", "|".join(map(re.escape, words))))
        # e-ktp is where ktp is.
        self._words = [word for word in words if not any(other != word and other in word for other in words)]

    def stand_before(self, text: str, start: int) -> bool:
        """Return True if one of the words precedes `start`. Searching for the words first saves most searches."""
        before = text[max(0, start - _MAX_LABEL_DISTANCE) : start]
        lower = before.lower()
        for word in self._words:
            if word in lower:
                return self._pattern.search(before) is not None
        return False


_LABELS = r"(?i:\b(?:{})\b)[^\d\n]{0,24}\Z"
_SSN_LABELS = _Labels(("ssn", "ssns", "social security", "social-security"), _LABELS)


class _Form:
    """A pack's form, compiled."""

    __slots__ = ("_check", "_groups", "_labels", "_pattern", "replacement", "unmistakable")

    def __init__(self, form: NumberForm) -> None:
        self.replacement = form.replacement
        self.unmistakable = form.unmistakable
        self._check = form.check
        self._pattern = re.compile(form.pattern)
        self._groups = [list(sizes) for sizes in form.groups]
        self._labels = _Labels(form.labels, _LABELS) if form.labels else None

    def find(self, text: str, start: int) -> Found:
        """Return the number at `start` if it has this form."""
        match = self._pattern.match(text, start)
        if match is None or (_is_tail(text, match.end()) and not self.unmistakable):
            return None
        groups = _DIGITS.findall(match[0])
        fits = not self._groups or [len(group) for group in groups] in self._groups
        if fits and self._check is not None:
            try:
                fits = self._check("".join(groups))
            except Exception:  # noqa: BLE001 -- of a service's own; a number too many is hidden rather than one shown
                fits = True
        if fits or (self._labels is not None and self._labels.stand_before(text, start)):
            return match.end(), self.replacement
        return None


def _ssn(text: str, start: int) -> Found:
    match = _SSN.match(text, start)
    if match and (match["s"] == "-" or _SSN_LABELS.stand_before(text, start)):
        return match.end(), "[ssn]"
    return None


def _is_tail(text: str, end: int) -> bool:
    """Return True if letters or digits continue the number, as in an id."""
    return _WORD_AFTER.match(text, end) is not None


numbers = Numbers()
