"""The searches for private values by their form, in a text as it is written and as it is read."""

import re
from collections.abc import Callable, Iterable, Sequence

from .budget import Budget
from .documents import documents
from .emails import find_emails
from .iban import find_ibans
from .numbers import numbers
from .spelling import Span, fold, replaced, view

# Of the same length as what it replaces, so that positions stay.
_FILLER = "|"
# Whatever is searched here but addresses has two digits at least.
_TWO_DIGITS = re.compile(r"\d\D*+\d")

_Finder = Callable[[str], Iterable[Span]]


def redact_view(text: str, budget: Budget) -> str:
    """Return `text` without the private values that only a reader who decodes it sees: wayan&#64;example.com."""
    seen = view(text)
    if seen is None:
        return text
    found = _found(seen.text, (find_emails, find_ibans, documents.find), budget)
    return seen.redact(text, found) if found else text


def redact_written(text: str, budget: Budget) -> str:
    """Return `text` without private numbers."""
    seen = fold(text)
    if _TWO_DIGITS.search(seen) is None:
        return text
    found = _found(seen, (find_ibans, documents.find), budget)
    return replaced(text, found) if found else text


def _found(text: str, finders: Sequence[_Finder], budget: Budget) -> list[Span]:
    """Return what `finders` find, and the numbers, in order.

    What one has found is out of sight of the next: an address has digits.
    """
    found: list[Span] = []
    for find in finders:
        spans = list(find(text))
        if spans:
            found += spans
            text = replaced(text, ((start, end, _FILLER * (end - start)) for start, end, _ in spans))
    found += numbers.find(text, budget)
    return sorted(found)
