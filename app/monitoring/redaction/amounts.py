"""Numbers that are longer than some and no phone numbers: dates, times, decimals, amounts of money, IPv4 addresses."""

import re

_DAY = r"(?:0?[1-9]|[12]\d|3[01])"
_MONTH = r"(?:0?[1-9]|1[0-2])"
_YEAR = r"(?:19|20)\d\d"
_DATE = rf"""
        {_YEAR}(?P<d>[-/.]){_MONTH}(?P=d){_DAY}(?:[T ]\d\d:\d\d(?::\d\d(?:(?:\.\d{{1,9}}|,\d{{3}})(?!\.\d))?)?)?(?!\d)
      | {_DAY}(?P<e>[-/.]){_MONTH}(?P=e){_YEAR}(?!\d)
      | \d{{1,3}}(?:\.\d{{1,3}}){{3}}(?![\d])(?!\.\d)                             # an IPv4 address
      | (?<=\d:)[0-5]\d(?:(?:\.\d{{1,9}}|,\d{{3}})(?!\.\d))?(?:[+-]\d\d:?\d\d)?(?!\d)               # seconds
"""
DATE = re.compile(_DATE, re.VERBOSE)
"""A date, time or address, which is one behind any word."""
_OTHER_NUMBER = re.compile(
    rf"""(?:{_DATE}
      | [+]?(?:0|[1-9]\d{{0,18}})\.\d{{1,6}}(?!\d)(?![.-]\d)                    # a decimal; +62.81234567 is none
      | (?:0|[1-9]\d{{0,18}})\.\d{{1,64}}(?:[eE][+-]?\d{{1,3}})?(?!\d)(?![.-]\d)
      | [+]?[1-9]\d{{0,2}}(?:\.\d{{3}}){{1,2}}(?:,\d{{1,2}})?(?!\d)(?![.-]\d)   # 1.250.000
      | [1-9]\d{{0,2}}(?:\.\d{{3}}){{1,5}}(?:,\d{{1,2}})?(?!\d)(?![.-]\d)
      | [+]?[1-9]\d{{0,2}}(?:,\d{{3}}){{1,5}}(?:\.\d{{1,2}})?(?!\d)(?![,.-]\d)  # 1,250,000
    )""",
    re.VERBOSE,
)
_MONEY_BEFORE = re.compile(r"(?:(?:\b|(?<=\\[nrt]))(?i:rp\.?|idr|usd|eur|sgd|aud)|[$€£¥])[ \u00a0]?[-+]?\Z")
_AMOUNT = re.compile(
    r"[1-9]\d{0,2}(?:(?:\.\d{3}){1,6}(?:,\d\d?)?|(?:,\d{3}){1,6}(?:\.\d\d?)?)(?!\d)|[1-9]\d{0,18}(?:[.,]\d\d?)?(?!\d)"
)


def amount_end(text: str, start: int) -> int:
    """Return the end of the amount at `start` if a currency precedes it; else 0."""
    if _MONEY_BEFORE.search(text, max(0, start - 8), start):
        amount = _AMOUNT.match(text, start)
        if amount:
            return amount.end()
    return 0


def other_number_end(text: str, start: int) -> int:
    """Return the end of the date, decimal or amount at `start`; 0 if there is none."""
    other = _OTHER_NUMBER.match(text, start)
    return other.end() if other else 0
