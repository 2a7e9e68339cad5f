"""The forms of private numbers whose own digits, or a word before them, identify them: cards, SSN, those of packs."""

import re

from .checks import is_card
from .labels import Labels, Reading
from .packs import NumberForm

Found = tuple[int, str] | None
"""The end of a number, and its replacement."""

DIGITS = re.compile(r"\d+")
_WORD_AFTER = re.compile(r"[^\W\d_\u0e00-\uffff]{1,16}+(?=\d)")
_TRACE = re.compile(r"(?i:trace|span)_?(?i:id)[\"']?[ ]?[:=][ ]?[\"']?\Z")

_MIN_CARD_DIGITS = 13
# Of issuers, all of whom begin with 2 to 6, in groups; of anybody in one piece.
_CARD = re.compile(r"(?:[2-6]|[7-9](?=\d{12}))(?:(?:[ \t.\-+/_]{0,3}|[,\n]|\r\n)\d){12,18}")
# Signs that also stand between numbers of their own: only whole groups of a card's, all with the same one.
_LISTED = re.compile(r"[,\n]")
_LAYOUTS = ([4, 4, 4, 4], [4, 6, 5], [4, 6, 4], [4, 4, 4, 4, 3])
_NO_DIGIT = re.compile(r"\D+")
_SSN = re.compile(r"(?!000|666|9)\d{3}(?P<s>[- .]?)(?!00)\d\d(?P=s)(?!0000)\d{4}(?![-.]?\d)")
_GAP = r"[^\d\n]{0,24}\Z"
_SSN_LABELS = Labels(("ssn", "ssns", "social security", "social-security"), _GAP, whole=True)


def is_tail(text: str, end: int) -> bool:
    """Return True if letters and digits continue the number that ends at `end`, as in an id."""
    return _WORD_AFTER.match(text, end) is not None


def card(reading: Reading, start: int) -> Found:
    """Find a card number of 13 to 19 digits, even if more digits follow after a blank."""
    text = reading.text
    match = _CARD.match(text, start)
    if match is None or _TRACE.search(text, max(0, start - 16), start):
        return None
    groups = list(DIGITS.finditer(match[0]))
    if text[match.end() : match.end() + 1].isdigit():
        groups.pop()
    digits = [group[0] for group in groups]
    length = sum(map(len, digits))
    while length >= _MIN_CARD_DIGITS:
        end = start + groups[len(digits) - 1].end()
        if is_card(digits) and not is_tail(text, end) and _is_one_number(text[start:end], digits):
            return end, "[card]"
        length -= len(digits.pop())
    return None


def _is_one_number(written: str, digits: list[str]) -> bool:
    """Return False for a list of numbers with commas or newlines between them."""
    if _LISTED.search(written) is None:
        return True
    return len(set(_NO_DIGIT.findall(written))) == 1 and [len(group) for group in digits] in _LAYOUTS


def ssn(reading: Reading, start: int) -> Found:
    """Find a US social security number: with dashes, or behind its name."""
    match = _SSN.match(reading.text, start)
    if match and (match["s"] == "-" or _SSN_LABELS.stand_before(reading, start)):
        return match.end(), "[ssn]"
    return None


class Form:
    """A pack's form, compiled."""

    __slots__ = ("_check", "_groups", "_pattern", "labels", "replacement", "unmistakable")

    def __init__(self, form: NumberForm) -> None:
        self.replacement = form.replacement
        self.unmistakable = form.unmistakable
        self._check = form.check
        self._pattern = re.compile(form.pattern)
        self._groups = [list(sizes) for sizes in form.groups]
        self.labels = Labels(form.labels, _GAP, whole=True) if form.labels else None

    def find(self, reading: Reading, start: int) -> Found:
        """Return the number at `start` if it has this form."""
        text = reading.text
        match = self._pattern.match(text, start)
        if match is None or (is_tail(text, match.end()) and not self.unmistakable):
            return None
        groups = DIGITS.findall(match[0])
        fits = not self._groups or [len(group) for group in groups] in self._groups
        if fits and self._check is not None:
            try:
                fits = self._check("".join(groups))
            except Exception:  # noqa: BLE001 -- of a service's own; a number too many is hidden rather than one shown
                fits = True
        if fits or (self.labels is not None and self.labels.stand_before(reading, start)):
            return match.end(), self.replacement
        return None
