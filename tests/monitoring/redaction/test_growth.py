"""Redaction takes linear time for any text: checked by the structure of patterns and the characters they read.

No test measures time; `loadtest/benchmarks/redaction.py` does.
"""

import importlib
import itertools
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from app.monitoring import redaction as _redaction
from app.monitoring.redaction import private, redact, redact_text
from app.monitoring.redaction import text as texts
from app.monitoring.redaction.budget import Budget
from app.monitoring.redaction.characters import escape
from app.monitoring.redaction.documents import documents
from app.monitoring.redaction.numbers import numbers
from app.monitoring.redaction.spelling import Span
from app.monitoring.redaction.text import MAX_TEXT_LENGTH, scrub
from tests.monitoring.redaction.corpus import HERE

MODULES = [
    importlib.import_module(f"{_redaction.__name__}.{found.name}")
    for found in pkgutil.iter_modules(_redaction.__path__)
]
_parser = importlib.import_module("re._parser")  # without types
UNBOUNDED = _parser.MAXREPEAT

HOSTILE: list[str] = yaml.safe_load((HERE / "hostile.yaml").read_text())
AROUND = [
    ("", ""),
    ("password=", ""),
    ("", "@"),
    ('{"token":"', '"}'),
    ("http://", "@h"),
    ("a@", ".com"),
    ("Cookie: ", "!"),
]


def hostile(piece: str, length: int, around: tuple[str, str] = ("", "")) -> str:
    return around[0] + (piece * (length // len(piece) + 1))[:length] + around[1]


def patterns() -> Iterator[tuple[str, Any, re.Pattern[str]]]:
    """Yield the patterns of the modules and those compiled from packs, with name and owner."""
    for module in MODULES:
        for name, value in vars(module).items():
            if isinstance(value, re.Pattern):
                yield name, module, value
    phones = numbers._phones
    labels = [form.labels for form in numbers._forms if form.labels]
    owners: list[Any] = [documents, phones, phones._labels, *numbers._forms, *labels]
    for owner in owners:
        for name in type(owner).__slots__:
            if isinstance(getattr(owner, name), re.Pattern):
                yield name, owner, getattr(owner, name)


def repetitions(tree: Any, *, last: bool, inside: int) -> Iterator[tuple[str, int, bool, int]]:
    """Yield kind, upper bound, is-last flag and product of the enclosing bounds of each repetition."""
    items = list(tree)
    for number, (operation, argument) in enumerate(items):
        is_last = last and number == len(items) - 1
        kind = str(operation)
        if kind in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            _, most, body = argument
            yield kind, int(most), is_last, inside
            factor = 1 if kind == "POSSESSIVE_REPEAT" else min(int(most), 10_000)
            yield from repetitions(body, last=False, inside=inside * factor)
        elif kind == "BRANCH":
            for branch in argument[1]:
                yield from repetitions(branch, last=is_last, inside=inside)
        elif kind == "ATOMIC_GROUP" and [str(one) for one, _ in argument] == ["MAX_REPEAT"]:
            # Equivalent to a possessive repetition, which Python before 3.11.5 handles incorrectly for groups.
            _, most, body = argument[0][1]
            yield "POSSESSIVE_REPEAT", int(most), is_last, inside
            yield from repetitions(body, last=False, inside=inside)
        elif kind in ("SUBPATTERN", "ATOMIC_GROUP", "ASSERT", "ASSERT_NOT"):
            body = argument if kind == "ATOMIC_GROUP" else argument[-1]
            yield from repetitions(body, last=is_last and kind != "ASSERT", inside=inside)


@pytest.mark.parametrize(
    ("name", "module", "pattern"), list(patterns()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_no_pattern_can_go_back_over_a_text_of_any_length(name: str, module: Any, pattern: re.Pattern[str]) -> None:
    """Unbounded repetitions are possessive or at the end of the pattern; all other bounds are small."""
    tree = _parser.parse(pattern.pattern, pattern.flags)
    for kind, most, is_last, inside in repetitions(tree, last=True, inside=1):
        if most >= UNBOUNDED:
            assert kind == "POSSESSIVE_REPEAT" or is_last, f"{module}: {name} goes back"
            assert kind == "POSSESSIVE_REPEAT" or inside == 1, f"{module}: {name} repeats what repeats"
        elif kind != "POSSESSIVE_REPEAT":
            assert most * inside <= 512, f"{module}: {name} repeats {most} times within {inside}"


@pytest.mark.parametrize(
    ("name", "module", "pattern"), list(patterns()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_no_group_repeats_possessively(name: str, module: Any, pattern: re.Pattern[str]) -> None:
    """Before 3.11.5 (Debian 12 has 3.11.2) Python keeps the text of the last, failed iteration of such a group."""
    tree = _parser.parse(pattern.pattern, pattern.flags)
    assert "POSSESSIVE_REPEAT" not in set(groups(tree)), f"{module}: {name}: want (?>(?:...)*)"


def groups(tree: Any) -> Iterator[str]:
    """Yield the kind of each repetition of more than a single character."""
    for operation, argument in tree:
        kind = str(operation)
        if kind in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            body = list(argument[2])
            if len(body) > 1 or str(body[0][0]) not in ("IN", "LITERAL", "NOT_LITERAL", "ANY"):
                yield kind
            yield from groups(body)
        elif kind == "BRANCH":
            for branch in argument[1]:
                yield from groups(branch)
        elif kind in ("SUBPATTERN", "ATOMIC_GROUP", "ASSERT", "ASSERT_NOT"):
            yield from groups(argument if kind == "ATOMIC_GROUP" else argument[-1])


class Counting:
    """A pattern that counts the characters it reads."""

    def __init__(self, pattern: re.Pattern[str], tally: list[int]) -> None:
        self._pattern, self._tally = pattern, tally

    def _count(self, found: re.Match[str] | None, text: str, start: int, end: int) -> re.Match[str] | None:
        self._tally[0] += 1 + (found.end() if found else min(end, len(text))) - start
        return found

    def search(self, text: str, start: int = 0, end: int = 2**60) -> re.Match[str] | None:
        return self._count(self._pattern.search(text, start, end), text, start, end)

    def match(self, text: str, start: int = 0, end: int = 2**60) -> re.Match[str] | None:
        found = self._pattern.match(text, start, end)
        self._tally[0] += 1 + (found.end() - start if found else 0)
        return found

    def fullmatch(self, text: str) -> re.Match[str] | None:
        self._tally[0] += 1 + len(text)
        return self._pattern.fullmatch(text)

    def finditer(self, text: str, start: int = 0, end: int = 2**60) -> Iterator[re.Match[str]]:
        position = start
        for found in self._pattern.finditer(text, start, end):
            self._tally[0] += 1 + found.end() - position
            position = found.end()
            yield found
        self._tally[0] += max(0, min(end, len(text)) - position)

    def findall(self, text: str) -> list[Any]:
        self._tally[0] += len(text)
        return self._pattern.findall(text)

    def sub(self, replacement: Any, text: str) -> str:
        self._tally[0] += len(text)
        return self._pattern.sub(replacement, text)


@pytest.fixture
def tally(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Replace all patterns by counting ones; return a list whose only item is the number of characters read."""
    counted = [0]
    for name, module, pattern in patterns():
        monkeypatch.setattr(module, name, Counting(pattern, counted))
    values = importlib.import_module(f"{_redaction.__name__}.values")
    made = {extent: Counting(pattern, counted) for extent, pattern in values._PATTERNS.items()}
    monkeypatch.setattr(values, "_PATTERNS", made)
    return counted


@pytest.mark.parametrize("piece", HOSTILE)
def test_four_times_the_text_is_read_four_times_as_often(piece: str, tally: list[int]) -> None:
    for around in AROUND:
        counts = []
        for length in (1_000, 4_000) if any(around) else (1_000, 4_000, 16_000):
            tally[0] = 0
            scrub(hostile(piece, length, around), Budget(numbers=length))
            counts.append(tally[0])
        for fewer, more in itertools.pairwise(counts):
            assert more <= 6 * fewer + 3_000, (around, counts)
        assert counts[1] <= 4_000 * 300, (around, counts)


@pytest.mark.parametrize("piece", HOSTILE)
def test_a_text_that_is_longer_than_the_limit_comes_to_an_end(piece: str) -> None:
    """The text is not truncated here: a pattern that backtracks would take hours."""
    text = hostile(piece, 20_000)
    assert (
        escape(scrub(text, Budget(numbers=len(text))), one_line=True).isprintable() or "\t" in text or "\u00a0" in text
    )


@pytest.mark.parametrize("piece", HOSTILE)
def test_a_million_characters_cost_no_more_than_what_is_kept(piece: str, tally: list[int]) -> None:
    text = hostile(piece, 1_000_000)
    assert len(redact_text(text)) <= MAX_TEXT_LENGTH
    assert len(str(redact({text: [text, text.encode()]}))) < 10 * MAX_TEXT_LENGTH
    assert tally[0] <= 6 * MAX_TEXT_LENGTH * 1_000


def test_texts_that_were_looked_through_are_remembered_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "_clean", set())
    for number in range(3 * texts._MAX_CLEAN):
        redact_text(f"harmless {number}")
        assert len(texts._clean) <= texts._MAX_CLEAN


def test_a_text_of_one_digit_is_not_searched_for_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[str] = []

    def find(text: str) -> list[Span]:
        searched.append(text)
        return []

    monkeypatch.setattr(private, "find_ibans", find)
    for number in ("5", "15", "\uff11\uff15"):
        scrub(f"booking {number} for somebody: paid")
    assert [text[:10] for text in searched] == ["booking 15"] * 3  # full width is searched as read, and as written


def test_of_bytes_no_more_is_read_than_is_shown() -> None:
    class Counted(bytes):
        def __getitem__(self, part: Any) -> Any:
            found = super().__getitem__(part)
            read.append(len(found))
            return found

    read: list[int] = []
    redact({"body": Counted(10_000_000)})
    assert read == [MAX_TEXT_LENGTH + 1]
