"""The searches for private values by their form, in a text as it is written and as it is read."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from .budget import Budget
from .documents import documents
from .emails import find_emails
from .iban import find_ibans
from .numbers import numbers
from .spelling import Span, fold, replaced, view

# Of the same length as what it replaces, so that positions stay.
_FILLER = "|"


def redact_view(text: str, budget: Budget) -> str:
    """Return `text` without the private values that only a reader who decodes it sees: wayan&#64;example.com."""
    seen = view(text)
    if seen is None:
        return text
    found = _found(seen.text, (find_emails, *_finders(budget)))
    return seen.redact(text, found) if found else text


def redact_written(text: str, budget: Budget) -> str:
    """Return `text` without private numbers."""
    found = _found(fold(text), _finders(budget))
    return replaced(text, found) if found else text


def _finders(budget: Budget) -> tuple[Callable[[str], Iterable[Span]], ...]:
    return find_ibans, documents.find, partial(numbers.find, budget=budget)


def _found(text: str, finders: Sequence[Callable[[str], Iterable[Span]]]) -> list[Span]:
    """Return what `finders` find, in order. What one has found is out of sight of the next: an address has digits."""
    found: list[Span] = []
    for find in finders:
        spans = list(find(text))
        if spans:
            found += spans
            text = replaced(text, ((start, end, _FILLER * (end - start)) for start, end, _ in spans))
    return sorted(found)
