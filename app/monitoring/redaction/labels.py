"""Words that say what the number after them is."""

import re
from bisect import bisect_right
from collections.abc import Iterable

from .ids import Ids

_MAX_DISTANCE = 48
# From here on scripts write words together and are read without blanks: Thai, Chinese, Japanese, Korean.
UNSPACED = "\u0e00"
_LATIN_BEFORE, _LATIN_AFTER = r"(?<![^\W\d_\u0e00-\uffff])", r"(?![^\W\d_\u0e00-\uffff])"


def word_pattern(words: Iterable[str], *, whole: bool = False) -> str:
    """Return a pattern of any of `words`, longer ones first; if `whole`, no letter follows them.

    Scripts that write words together have no boundaries between them.
    """
    longest_first = sorted({word.lower() for word in words}, key=lambda word: (-len(word), word))
    spaced = "|".join(re.escape(word) for word in longest_first if word[0] < UNSPACED)
    others = "|".join(re.escape(word) for word in longest_first if word[0] >= UNSPACED)
    found = [f"{_LATIN_BEFORE}(?:{spaced}){_LATIN_AFTER if whole else ''}"] if spaced else []
    return f"(?i:{'|'.join([*found, others] if others else found)})"


class Roots:
    """A test that is cheaper than a search for words, and never False where one of them is."""

    __slots__ = ("_all", "_ascii")

    def __init__(self, words: Iterable[str]) -> None:
        lower = {word.lower() for word in words}
        # e-ktp is where ktp is.
        self._all = sorted(word for word in lower if not any(other != word and other in word for other in lower))
        self._ascii = [word for word in self._all if word.isascii()]

    def are_in(self, text: str) -> bool:
        """Return True if `text` contains one of the words, in any case."""
        lower = text.lower()
        for word in self._ascii if lower.isascii() else self._all:  # noqa: SIM110 -- any() takes twice as long
            if word in lower:
                return True
        return False


def _is_replacement(text: str, word: re.Match[str]) -> bool:
    """Return True for the word of "[phone] 1200": what was a number labels no other one."""
    start, end = word.span()
    return text[start - 1 : start] == "[" and text[end : end + 2] == "] "


class Labels:
    """Words that label the number after them, with nothing but `gap` between."""

    __slots__ = ("_gap", "_pattern", "_roots")

    def __init__(self, words: Iterable[str], gap: str, *, whole: bool = False) -> None:
        words = list(words)
        self._roots = Roots(words)
        self._pattern = re.compile(word_pattern(words, whole=whole)) if words else None
        self._gap = re.compile(gap)

    def ends(self, text: str) -> list[int]:
        """Return the ends of these words in `text`. Searching for the words first saves most searches."""
        if self._pattern is None or not self._roots.are_in(text):
            return []
        return [found.end() for found in self._pattern.finditer(text) if not _is_replacement(text, found)]

    def stand_before(self, reading: "Reading", start: int) -> bool:
        """Return True if one of the words precedes the number at `start`."""
        ends = reading.ends(self)
        last = bisect_right(ends, start) - 1
        return (
            last >= 0
            and start - ends[last] <= _MAX_DISTANCE
            and self._gap.match(reading.text, ends[last], start) is not None
        )


class Reading:
    """One text that is searched for numbers, with what is found in it once for all of them."""

    __slots__ = ("_ends", "ids", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.ids = Ids(text)
        self._ends: dict[Labels, list[int]] = {}

    def ends(self, labels: Labels) -> list[int]:
        """Return the ends of the words of `labels` in the text."""
        ends = self._ends.get(labels)
        if ends is None:
            ends = self._ends[labels] = labels.ends(self.text)
        return ends
