"""Detection of international bank account numbers (ISO 13616): country, length and check digits."""

import re
from collections.abc import Iterator

from .spelling import Span

_COUNTRIES = {
    15: "NO",
    16: "BE",
    18: "DK FO FI GL NL SD",
    19: "MK SI",
    20: "AT BA EE KZ LT LU MN XK",
    21: "CR HR LI LV CH",
    22: "BG BH DE GB GE IE ME RS VA",
    23: "AE GI IL IQ OM SO TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST",
    26: "IS TR",
    27: "BI DJ FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HU LB NI PL SV",
    29: "BR EG PS QA UA",
    30: "JO KW MU YE",
    31: "MT SC",
    32: "LC",
    33: "RU",
}
_SIGNS = r"[ \t\r\n.,/_\-]{0,3}"
# The first check digit, which few texts have behind two letters: DE89, DE 89. Words such as "at" and "no" stand apart.
_START = re.compile(r"\d(?:(?<=[A-Za-z]{2}\d)|(?<=[A-Z]{2}[ \t._/\-]\d))(?=\d)")
_DECIMAL = re.compile(r"\D++\d++\.\d++")
_BEFORE = re.compile(r"(?<![^\W_])[A-Za-z]{2}[ \t._/\-]?\Z")
_ALL = {
    country: re.compile(rf"[A-Za-z]{{2}}(?:{_SIGNS}[A-Za-z\d]){{{length - 2}}}(?![A-Za-z\d])")
    for length, countries in _COUNTRIES.items()
    for country in countries.split()
}
_NO_SIGN = re.compile(r"[^A-Za-z\d]+")
_HEXADECIMAL = re.compile(r"[0-9a-f]+")


def find_ibans(text: str) -> Iterator[Span]:
    """Yield start, end and replacement of each account number, from the beginning of `text` to its end."""
    position = 0
    while (digit := _START.search(text, position)) is not None:
        position = digit.end()
        start = _BEFORE.search(text, max(0, digit.start() - 3), digit.start())
        pattern = _ALL.get(start[0][:2].upper()) if start else None
        match = pattern.match(text, start.start()) if start and pattern else None
        if match and _is_iban(match[0]):
            position = match.end()
            yield match.start(), position, "[iban]"


def _is_iban(written: str) -> bool:
    """Return True if the check digits are right. Lower case in one piece is an id of hexadecimal digits."""
    if _HEXADECIMAL.fullmatch(written) or _DECIMAL.fullmatch(written):
        return False
    bare = _NO_SIGN.sub("", written)
    return int("".join(str(int(sign, 36)) for sign in bare[4:] + bare[:4])) % 97 == 1
