"""The forms of phone numbers: international and North American ones, those of packs, and any behind a word for them."""

import itertools
import re
from collections.abc import Callable, Sequence

from .amounts import DATE
from .forms import DIGITS, Found, is_tail
from .labels import Labels, Reading
from .packs import RedactionPack

# Separators between digits, and a plus, which stands for a blank in a URL. Their Unicode variants are folded first.
_BETWEEN = r"(?:[ \t.()\-_]{0,3}|\+)"
# The countries that can be dialled, one to three digits (ITU-T E.164).
_COUNTRY = (
    r"(?:1|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]"
    r"|(?:2[1-689]|3[578]|42|5[09]|6[7-9]|8[0578]|9[679])\d)"
)
_PHONES = rf"""
    # International, with a plus or zeros before the country
    \(?\+\)?{_BETWEEN}[1-9](?:(?:/|,(?=\d{{2}}))?{_BETWEEN}\d){{7,14}}
    # Also 0011 62 ..., 001 62 ...
  | (?:(?<![#./\-])|(?<=/)(?=\d{{1,14}}[ ]))00[1-9]\d{{0,2}}[ \t.()\-_](?:{_BETWEEN}\d){{7,13}}
  | (?<![#./\-])00(?=\d{{9,13}}(?!\d))(?:1[2-9]\d\d[2-9]\d{{6}}|390\d{{6,9}}|(?!1){_COUNTRY}[1-9]\d{{5,11}})
    # North American
  | \([2-9]\d\d\)[ -]?\d{{3}}[-. ]\d{{4}}
  | (?:1[-. ])?[2-9]\d\d(?P<s>[-.])[2-9]\d\d(?P=s)\d{{4}}
"""
_LABELS = ("phone", "telephone", "tel", "whatsapp", "mobile", "cell", "fax")
_FILLERS = (
    r"no|nr|num|number|nummer|nomor|is|at|me at|号码|號碼|号|號|是|番号|번호|는|은|は|номер|número|numéro|n°|№|di"
)
# Between a word and its number, in prose, JSON and escaped JSON: phone no. 1, "phone": "1", "tel" => '1'
_GAP = (
    rf"[.:\-]{{0,2}}[ _]?(?i:(?:{_FILLERS})[.:]?){{0,2}}"
    r"[\"'\\\])]{0,4}[ \t]{0,2}[.:=#№]?>?[ \t]{0,2}[\"'\\(\[]{0,4}\Z"
)
_LOCAL_PHONE = re.compile(rf"\(?\d(?:/?{_BETWEEN}\d){{6,12}}(?!\d)")
_NO_DIGIT = re.compile(r"\D+")
_LAST_DIGITS = re.compile(r"\D*+\d++\Z")
_MAX_CODE_LENGTH = 7
_MIN_INTERNATIONAL, _MIN_UNDIVIDED = 8, 10
_TIED = re.compile(r"(?>(?:[-.]\d{1,8}(?!\w))+)")
# A number of nine digits behind a plus, such as Sweden's, ends like this if it is an amount.
_ROUND = "000"


class Phones:
    """The forms of phone numbers in force."""

    __slots__ = ("_calling_codes", "_checked_number", "_enough_digits", "_labels", "_pattern")

    def __init__(self, packs: Sequence[RedactionPack], checked_number: Callable[[Reading, int], Found]) -> None:
        """`checked_number` finds cards and identity numbers, at which a phone number before them ends."""
        self._checked_number = checked_number
        local = [f"{pack.phones}|" for pack in packs if pack.phones]
        self._pattern = re.compile(f"(?:{''.join(local)}{_PHONES})(?!\\d)", re.VERBOSE)
        self._labels = Labels((*_LABELS, *(word for pack in packs for word in pack.phone_labels)), _GAP)
        self._calling_codes = [
            (pack.calling_code, pack.min_international_digits) for pack in packs if pack.calling_code
        ]
        self._enough_digits = max((_MIN_UNDIVIDED, *(least for _, least in self._calling_codes)))

    def labelled(self, reading: Reading, start: int) -> Found:
        """Find a number of any form behind a word for phones; dates and addresses are none."""
        if not self._labels.stand_before(reading, start) or DATE.match(reading.text, start):
            return None
        return self._find(_LOCAL_PHONE, reading, start)

    def find(self, reading: Reading, start: int) -> Found:
        """Find a number whose form identifies it."""
        return self._find(self._pattern, reading, start)

    def _find(self, pattern: re.Pattern[str], reading: Reading, start: int) -> Found:
        text, limit = reading.text, len(reading.text)
        while (match := pattern.match(text, start, limit)) is not None:
            if not is_tail(text, match.end()):
                return (self._end(reading, match), "[phone]") if self._is_whole(match[0]) else None
            # The last digits belong to something else: 0812 3456 7890 5m30s
            limit = start + len(_LAST_DIGITS.sub("", match[0]))
        return None

    def _end(self, reading: Reading, match: re.Match[str]) -> int:
        """Return the end of `match` with what dashes join to it, or of a card or identity number that it overlaps."""
        text = reading.text
        groups = list(DIGITS.finditer(text, match.start(), match.end()))
        for last, group in itertools.pairwise(groups):
            sign = "(" in text[last.end() : group.start()] or (
                group[0][0] == "0" and self._pattern.match(text, group.start())
            )
            if sign and last.end() - match.start() > _MAX_CODE_LENGTH:
                return last.end()  # another number begins
            other = self._checked_number(reading, group.start())
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
        if written != f"+{digits}" or least > _MIN_INTERNATIONAL:
            return len(digits) >= least
        return len(digits) >= _MIN_UNDIVIDED - 1 and not digits.endswith(_ROUND)
