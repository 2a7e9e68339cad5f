"""The end of the value after a private name, and its replacement."""

import re
from typing import NamedTuple

from .credentials import REDACTED
from .identity import is_sanitised_user, sanitised_list
from .keys import Extent, Field, Kind, word_set

_PREFIXED_QUOTE = re.compile(r"[bBrRuUfF]{0,2}(\\{0,16})([\"'`])")
_OPENERS = frozenset("([{")
# A call such as Secret('...') is followed up to this length; a bracket that opens the value, to its end.
_MAX_CALL_LENGTH = 512
_BRACKET = re.compile(r"[()\[\]{}]|\"(?>(?:[^\"\\]|\\.)*)\"?|'(?>(?:[^'\\]|\\.)*)'?", re.DOTALL)
# A delimiter ends a word only if a blank, the end or another name follows: a password may contain a comma.
_WORD = re.compile(
    r"""(?>(?:[^\s\x00-\x1f\x7f-\x9f&;"'<>`|\\,()\]}]
        | ,(?!\s|$|["'\\]|[\w.\-]{1,64}[=:])
        | [)\]}](?![\s,;.)\]}"']|$)
        | \\(?![nrtu"'\\])
    )+)""",
    re.VERBOSE,
)
_NUMBER = re.compile(r"[+(]{0,2}\d(?>(?:[ .()\-+/]{0,3}\d)*)\w*+")
_MIN_LONG_DIGITS = 7
_NETWORK = (
    r"(?:\[[0-9A-Fa-f:.]{2,45}\](?::\d{1,5})?"
    r"|(?=[0-9A-Fa-f]{0,4}[.:])[0-9A-Fa-f:.]{1,63}(?<![:.])(?:::)?(?:%\w{1,16})?(?:/\d{1,3})?)"
)
_NETWORKS = re.compile(rf"{_NETWORK}(?>(?:,[ ]?{_NETWORK})*)")
# To a delimiter, the end of the line, or the next name=; blanks before it are left.
_PHRASE = re.compile(r"(?>(?:[^\s;|\"'<>&{}\\`]|[ \t](?![ \t]|[\w.\-]{1,32}=)|\\(?![nr\"'\\]))+)")
_DIGEST = re.compile("(?i:digest|aws4-hmac-sha256)[ ]")
_SCHEME = re.compile(r"(?i:(bearer|basic|token|apikey|negotiate)[ \t]{1,4})")
# Values that are not private under any name.
_EMPTY = word_set("none null nil true false undefined str int bool bytes string field required missing invalid empty")
_SAYS_NOTHING = re.compile(rf"(?i:{'|'.join(sorted(_EMPTY))})(?=[\s,;()\[\]{{}}\"'&<]|\Z)")
_SMALL_NUMBER = re.compile(r"\d{1,9}(?:\.\d{1,3})?%?")
_KEPT = re.compile(r"(?:\d{1,9}(?:\.\d{1,3})?%?|u-[0-9a-f]{16})(?![\w.-])")


class Name(NamedTuple):
    """A name in a text: its start, the start of its value, the sign between them, and its meaning."""

    start: int
    end: int
    sign: str
    field: Field


def value_of(text: str, name: Name) -> tuple[int, str]:
    """Return the end of the value of `name`, and its replacement."""
    start, found = name.end, name.field
    if name.sign == ">":
        end = text.find("<", start)
        return len(text) if end < 0 else end, REDACTED
    quote = _PREFIXED_QUOTE.match(text, start)
    if quote is not None:
        inside, end = _quoted(text, quote)
        return end, text[start : quote.end()] + _replacement(text[quote.end() : inside], found) + text[inside:end]
    number = _NUMBER.match(text, start) if found.extent is Extent.NUMBER and text[start : start + 1] == "(" else None
    if number and _is_long(number):  # (021) 8350123
        return number.end(), REDACTED
    if text[start : start + 1] in _OPENERS:
        return _balanced(text, start, len(text)), REDACTED
    end = _unquoted(text, name)
    while text[end : end + 1] == "(" and found.extent is Extent.WORD and found.kind is Kind.SECRET:
        closed = _balanced(text, end, end + _MAX_CALL_LENGTH)
        rest = _WORD.match(text, closed if text[closed - 1] == ")" else end + 1)
        end = rest.end() if rest else closed
    return end, _replacement(text[start:end], found)


def _replacement(value: str, found: Field) -> str:
    """Return the replacement of `value`."""
    low = value.strip().lower()
    if low in _EMPTY or not low or (len(low) == 1 and not low.isalnum()):  # unexpected token: ')'
        return value
    if found.kind is Kind.CLIENT:
        return sanitised_list(value) or value
    if found.kind is Kind.USER and is_sanitised_user(value):
        return value
    if (found.kind is Kind.COUNTABLE or found.words == ("tokens",)) and _SMALL_NUMBER.fullmatch(value):
        return value
    scheme = _SCHEME.match(value)
    return f"{scheme[0]}{REDACTED}" if scheme and found.words[-1:] == ("authorization",) else REDACTED


def _quoted(text: str, quote: re.Match[str]) -> tuple[int, int]:
    """Return the ends of the quoted text and of its quotes; unclosed quotes end with the line."""
    position = _closing(text, quote[1], quote[2], quote.end(), len(text))
    if position >= 0:
        return position, position + len(quote[0].lstrip("bBrRuUfF"))
    end = _line_end(text, quote.end())
    return end, end


def _closing(text: str, escapes: str, mark: str, start: int, limit: int) -> int:
    """Return the position of the next quotation mark after exactly these backslashes; -1 if there is none."""
    closer = escapes + mark
    position = start
    while (position := text.find(closer, position, limit)) >= 0:
        before = position
        while before > start and text[before - 1] == "\\":
            before -= 1
        if before == position:  # behind another backslash it belongs to the value, however often that was escaped
            return position
        position += len(closer)
    return -1


def _line_end(text: str, start: int) -> int:
    end = text.find("\n", start)
    return len(text) if end < 0 else end


def _balanced(text: str, start: int, limit: int) -> int:
    """Return the position after the bracket that closes the one at `start`; `limit` if it is not closed."""
    depth = 0
    for bracket in _BRACKET.finditer(text, start, limit):
        if bracket[0] in _OPENERS:
            depth += 1
        elif bracket[0] in (")", "]", "}"):
            depth -= 1
            if depth == 0:
                return bracket.end()
    return min(limit, len(text))


def _unquoted(text: str, name: Name) -> int:
    start, found = name.end, name.field
    if found.extent is Extent.LINE:
        return _end_of_header(text, name)
    countable = found.kind in (Kind.COUNTABLE, Kind.USER) or found.words == ("tokens",)
    kept = (countable and _KEPT.match(text, start)) or _SAYS_NOTHING.match(text, start)
    if kept:
        return kept.end()
    pattern = _NETWORKS if found.kind is Kind.CLIENT else _PATTERNS[found.extent]
    value = pattern.match(text, start) or _WORD.match(text, start)
    end = value.end() if value else start
    number = _NUMBER.match(text, start) if found.extent is Extent.WORD else None
    if number and number.end() > end and _is_long(number):  # a phone's, with blanks
        end = number.end()
    if text[end : end + 1] == "%":  # a blank as URLs have it
        word = _WORD.match(text, end)
        return word.end() if word else end
    return end


def _is_long(number: re.Match[str]) -> bool:
    return sum(map(str.isdigit, number[0])) >= _MIN_LONG_DIGITS


def _end_of_header(text: str, name: Name) -> int:
    """Return the end of the line, of the quotes around the header, or of the token after a scheme that has only one."""
    start = name.end
    scheme = _SCHEME.match(text, start)
    if scheme and name.field.words[-1:] == ("authorization",):
        if text[scheme.end() : scheme.end() + 1] in _OPENERS:
            return _balanced(text, scheme.end(), len(text))
        word = _WORD.match(text, scheme.end())
        return word.end() if word else scheme.end()
    before = text[name.start - 1 : name.start]
    if _DIGEST.match(text, start):  # its parameters have quotes of their own
        before = ""
    end = _line_end(text, start)
    stops = [text.find(stop, start, end) for stop in ("\r", "\\r", "\\n")]
    if before in ('"', "'", "`") and not text[max(0, name.start - 2) : name.start - 1].isalnum():
        escapes = text[max(0, name.start - 17) : name.start - 1]
        stops.append(_closing(text, escapes[len(escapes.rstrip("\\")) :], before, start, end))
    return min([end, *(stop for stop in stops if stop >= 0)])


_PATTERNS = {Extent.WORD: _WORD, Extent.PHRASE: _PHRASE, Extent.NUMBER: _NUMBER}
