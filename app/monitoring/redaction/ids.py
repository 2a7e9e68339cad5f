"""Machine-made ids whose digits may look like a phone or card number: UUIDs, hashes, ULIDs, trace contexts."""

import re

_ID = re.compile(
    r"""(?:(?<![0-9A-Za-z])|(?<=\\[nrt]))(?:
        [0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}          # UUID
      | [0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}              # traceparent
      | (?=[0-9]*+[A-Fa-f])(?:0x)?[0-9A-Fa-f]{12,}+                    # a hash or any number in hexadecimal
      | (?=[0-9]*+[A-Z])[0-7][0-9A-HJKMNP-TV-Z]{25}                    # ULID
    )(?![0-9A-Za-z])""",
    re.VERBOSE,
)
_TOKEN = re.compile(r"[0-9A-Za-z-]++")


class Ids:
    """The ids of one text. Ask from its beginning to its end; each token is read once."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._token_end = 0
        self._spans: list[tuple[int, int]] = []

    def end_around(self, start: int, end: int) -> int:
        """Return the end of the id that contains the digits from `start` to `end`; 0 if there is none."""
        text = self._text
        before, after = text[start - 1 : start], text[end : end + 1]
        if not (before.isalnum() or after.isalnum() or before == "-" or after == "-"):
            return 0
        if start >= self._token_end:
            self._read(start)
        while self._spans and self._spans[-1][1] <= start:
            self._spans.pop()
        return self._spans[-1][1] if self._spans and self._spans[-1][0] <= start else 0

    def _read(self, start: int) -> None:
        text, first = self._text, start
        while first > self._token_end and (
            text[first - 1] == "-" or (text[first - 1].isalnum() and text[first - 1].isascii())
        ):
            first -= 1
        token = _TOKEN.match(text, first)
        self._token_end = token.end() if token else start + 1
        self._spans = [found.span() for found in _ID.finditer(text, first, self._token_end)][::-1]  # the next one last
