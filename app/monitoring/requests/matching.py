"""A bound for the work of a regular expression on a short text, from its own text.

Python's engine tries one way to match after the other, so nested repetitions can take years on 30 characters. The count
is an upper bound: alternatives count as if each of them could match everywhere.
"""

import re
from typing import Final

_TOKEN: Final = re.compile(
    r"""
      (?P<nothing>\(\?\#[^)]*\)|\(\?[a-zA-Z]+\))
    | (?P<atom>\(\?P=\w+\)|\\.|\[\^?\]?(?:\\.|[^\]\\])*+\])
    | (?P<opening>\((?:\?(?:P<\w+>|[:=!>]|<[=!]|[a-zA-Z-]+:|\(\w+\)))?)
    | (?P<closing>\))
    | (?P<bar>\|)
    | (?P<times>(?:[*+?]|\{(?=[\d,])(?P<least>\d*)(?P<comma>,?)(?P<most>\d*)\})(?P<kind>[+?]?))
    | (?P<character>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_MANY: Final = 10**12


class _Group:
    """The ways of a group that is being read: of its finished alternatives, of the current one, of its last item."""

    __slots__ = ("alternatives", "is_atomic", "item", "sequence")

    def __init__(self, *, is_atomic: bool = False) -> None:
        self.alternatives, self.sequence, self.item = 0, 1, 1
        self.is_atomic = is_atomic

    def add(self, ways: int) -> None:
        """Append an item."""
        self.sequence, self.item = min(_MANY, self.sequence * self.item), ways

    def end_alternative(self) -> None:
        """Begin the next alternative."""
        self.add(1)
        self.alternatives, self.sequence = self.alternatives + self.sequence, 1


def count_ways(expression: str, length: int) -> int:
    """Return an upper bound of the ways to match a part of a text of `length` characters with a valid `expression`.

    Possessive repetitions and atomic groups have one way to their outside. Without (?x).
    """
    groups = [_Group()]
    most = 1  # of what possessive repetitions and atomic groups hide
    for token in _TOKEN.finditer(expression):
        if token["opening"]:
            groups.append(_Group(is_atomic=token["opening"] == "(?>"))
        elif token["closing"]:
            group = groups.pop()
            group.end_alternative()
            most = max(most, group.alternatives)
            groups[-1].add(1 if group.is_atomic else group.alternatives)
        elif token["bar"]:
            groups[-1].end_alternative()
        elif token["times"]:
            item = groups[-1].item
            most = max(most, item)
            groups[-1].item = 1 if token["kind"] == "+" else _repeated(item, token, length)
        elif not token["nothing"]:
            groups[-1].add(1)
    groups[0].end_alternative()
    return max(most, groups[0].alternatives)


def _repeated(item: int, token: re.Match[str], length: int) -> int:
    """Return the ways of a repetition of an item that has `item` ways."""
    if token["least"] is None:
        least, bound = int(token["times"][0] == "+"), 1 if token["times"][0] == "?" else length
    else:
        least = int(token["least"] or 0)
        bound = int(token["most"]) if token["most"] else (length if token["comma"] else least)
    bound = min(bound, length)
    if item == 1:
        return max(1, bound - least + 1)
    total: int = sum(item**count for count in range(min(least, bound), bound + 1))
    return min(_MANY, total)
