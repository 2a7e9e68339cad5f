"""Detection of private numbers in text: phone numbers, payment cards, US SSN and the forms of packs.

One pattern finds the start of each number of seven digits or more; the forms are matched from there. Each match reads
a bounded number of characters, so the time is linear in the length of the text.
"""

import re
from collections.abc import Callable, Iterator, Sequence

from .amounts import amount_end, other_number_end
from .budget import Budget
from .forms import DIGITS, Form, Found, card, ssn
from .keys import word_set
from .labels import UNSPACED, Reading
from .packs import RedactionPack
from .phones import Phones
from .spelling import Span

_DIGIT = re.compile(r"\d")
_START = re.compile(r"[\d+(](?<![\d%]\d)(?<!\d\.\d)(?=(?:(?:[ \t.()\-+/_]{0,3}|[,\n]|\r\n)\d){6})")
# Letters that may stand right before a phone number without making it a part of something else.
_GLUED_LABELS = word_set("tel phone ph p t m no call mobile mob cell fax n r")
_WORD_BEFORE = re.compile(r"(?<![^\W_])[^\W\d_]{1,16}\Z")


class Numbers:
    """The number forms in force: the built-in ones and those of packs."""

    __slots__ = ("_checked", "_forms", "_glued", "_kinds", "_phones", "whole")

    def __init__(self) -> None:
        self.use(())

    def use(self, packs: Sequence[RedactionPack]) -> None:
        """Add the forms of `packs` to the built-in ones."""
        self._forms = [Form(form) for pack in packs for form in pack.forms]
        self._checked = [form for form in self._forms if not form.unmistakable]
        self._phones = Phones(packs, self._checked_number)
        self._kinds: tuple[Callable[[Reading, int], Found], ...] = (
            *(form.find for form in self._forms if form.unmistakable),
            self._amount,
            self._phones.labelled,
            _other_number,
            ssn,
            *(form.find for form in self._checked),
            card,
            self._phones.find,
        )
        self.whole = frozenset(("[card]", *(form.replacement for form in self._checked)))
        self._glued = _GLUED_LABELS.union(*(pack.glued_labels for pack in packs))

    def find(self, text: str, budget: Budget | None = None) -> Iterator[Span]:
        """Yield start, end and replacement of each phone, payment card and identity number, in their order.

        Behind the numbers that `budget` has left, each digit becomes "#".
        """
        budget = budget or Budget()
        position = 0
        reading = Reading(text)
        while (start := _START.search(text, position)) is not None:
            if budget.numbers <= 0:
                yield from ((digit.start(), digit.end(), "#") for digit in _DIGIT.finditer(text, position))
                return
            budget.numbers -= 1
            position, replacement = self._look(reading, start.start())
            if replacement:
                yield start.start(), position, replacement

    def _look(self, reading: Reading, start: int) -> tuple[int, str]:
        """Return the end of the number at `start` and its replacement; "" if it stays."""
        text = reading.text
        before = text[start - 1 : start]
        first = DIGITS.match(text, start)
        after = first.end() if first else start + 1  # behind a sign, the number may still begin
        end_of_id = reading.ids.end_around(start, after)
        if end_of_id:
            return end_of_id, ""
        if before.isalnum() and before < UNSPACED and not self._is_label(text, start):
            return self._checked_number(reading, start) or (after, "")
        for kind in self._kinds:
            found = kind(reading, start)
            if found is not None:
                return found
        return after, ""

    def _is_label(self, text: str, start: int) -> bool:
        word = _WORD_BEFORE.search(text, max(0, start - 17), start)
        return word is not None and word[0].lower() in self._glued

    def _checked_number(self, reading: Reading, start: int) -> Found:
        """Find a number that its own digits identify, with any surrounding text."""
        found = card(reading, start)
        for form in self._checked:
            found = found or form.find(reading, start)
        return found

    def _amount(self, reading: Reading, start: int) -> Found:
        end = amount_end(reading.text, start)
        return (self._checked_number(reading, start) or (end, "")) if end else None


def _other_number(reading: Reading, start: int) -> Found:
    end = other_number_end(reading.text, start)
    return (end, "") if end else None


numbers = Numbers()
