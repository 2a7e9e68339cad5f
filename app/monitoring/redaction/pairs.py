"""Redaction of named values in running text: password=..., "token": "...", Cookie: ..., --secret ..., <pin>...

One pattern finds the names and reads each of them once; the first character of a value decides where it ends. The
text of a value is not searched again, so the text is read in one pass.
"""

import re
from collections.abc import Iterator

from .credentials import REDACTED
from .keys import MAX_KEY_LENGTH, Extent, Field, Kind, field, is_secret_key, tables
from .values import Name, value_of

_NAME = re.compile(
    r"""(?<![\w.\-])(?:
        (?P<flag>--[\w.\-]++)[ \t]{1,4}(?![-=:])
      | (?P<name>[\w.\-]++)
        (?>(?:\\{0,16}["'`]|[\])]|%5D|%22|%27){0,4})[ \t]{0,4}
        (?P<sign>={1,3}>?|:=|:(?!:|//)|>|,(?=[ ]?[bBuU]?\\{0,16}["']))[ \t]{0,4}
    )""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\A(?:[nrt]|u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2})")
_FORM = re.compile(r"(?<![\w\\])[A-Za-z_]\w{0,63}\[\Z")
# A part of a form: name="password", an empty line, the value
_PART = re.compile(
    r"""(name=\\{0,8}"([\w.\-\[\]]{1,64})\\{0,8}"[^\r\n\\]{0,80}(?:\r?\n|(?:\\{1,8}r)?\\{1,8}n){2})[^\r\n\\]++"""
)
# A name in quotes begins a pair of name and value in a bracket of its own, as headers do: ("cookie", "a=b")
_PAIR = re.compile(r"(?:\(|[\[,][ ]?\[)[ ]?[bBuU]?\\{0,16}[\"']\Z")
_BEFORE = re.compile(r"(?:[\w.\-]{1,24}[ ]){1,3}\Z")
_CODE = re.compile(r"[^\s&#;,\"'<>()]{10,}+")
_MADE = re.compile(r"[\w\-]{8,}+(?![:/.]\w)")
_MADE_IN_QUERY = re.compile(r"[\w\-]{8,}+")
_CHANGES = re.compile(r"[A-Za-z](?=\d)|\d(?=[A-Za-z])|[a-z](?=[A-Z])")
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


def redact_pairs(text: str) -> str:
    """Return `text` without the values that follow a private name."""
    if "form-data" in text:
        text = _PART.sub(lambda part: f"{part[1]}{REDACTED}" if is_secret_key(part[2]) else part[0], text)
    parts: list[str] = []
    done = 0
    for start, end, replacement in _private_values(text):
        parts += text[done:start], replacement
        done = end
    parts.append(text[done:])
    return "".join(parts)


def _private_values(text: str) -> Iterator[tuple[int, int, str]]:
    position = 0
    is_error = "'loc'" in text or '"loc"' in text
    while (match := _NAME.search(text, position)) is not None:
        position = match.end()
        found = _field_of(match, text, is_error=is_error)
        if found is None:
            continue
        end, replacement = value_of(text, Name(match.start(), position, match["sign"], found))
        if end > position:
            yield position, end, replacement
            position = end


def _field_of(match: re.Match[str], text: str, *, is_error: bool) -> Field | None:
    """Return the meaning of the name if it makes the value private."""
    start = match.start()
    name = match["flag"] or match["name"]
    sign = match["sign"]
    before = text[start - 1 : start]
    if sign == "," and not _PAIR.search(text, max(0, start - 24), start):
        return None
    if (sign == ">" and before not in ("<", ":")) or _is_mark(match, text):
        return None
    found = field(name)
    if before in ("\\", "%") and (found.kind is Kind.PLAIN or len(found.words) > 1):
        name = (
            _ESCAPE.sub("", name) if before == "\\" else name[2:]
        )  # the letters of an escape are not part of the name
        found = field(name)
    if found.kind is Kind.PLAIN and _is_private_here(found.words, match, text, is_error=is_error):
        return Field(Kind.SECRET, Extent.WORD, found.words)
    if found.kind is Kind.PLAIN and found.words[-1:] and found.words[-1] in tables.last_words and sign in (":", "="):
        words = _BEFORE.search(text, max(0, start - MAX_KEY_LENGTH // 2), start)
        found = field(words[0] + name) if words else found
    return None if found.kind in (Kind.PLAIN, Kind.TRACE) else found


def _is_mark(match: re.Match[str], text: str) -> bool:
    """Return True for a replacement such as [email]. In user[email]=... it is a name."""
    name = match["name"]
    if name not in tables.marks or text[match.start() - 1 : match.start()] != "[":
        return False
    return match["sign"] == ":" or not _FORM.search(text, max(0, match.start() - MAX_KEY_LENGTH), match.start())


def _is_private_here(words: tuple[str, ...], match: re.Match[str], text: str, *, is_error: bool) -> bool:
    """Return True if the surrounding text makes the value of a plain name private."""
    if words == ("key",):
        return match["sign"] == "=" and _is_made(text, match)
    if words == ("code",):  # of OAuth, in a URL
        word = _CODE.match(text, match.end())
        return text[match.start() - 1 : match.start()] in ("?", "&") and word is not None and not word[0].isdigit()
    return words == ("input",) and is_error  # what a validation error quotes


def _is_made(text: str, match: re.Match[str]) -> bool:
    """Return True if the value of a plain "key" looks generated, unlike the name of a cache entry."""
    in_query = text[match.start() - 1 : match.start()] in ("?", "&")
    word = (_MADE_IN_QUERY if in_query else _MADE).match(text, match.end())
    if word is None or _UUID.fullmatch(word[0]):
        return False
    return not word[0].isdigit() if in_query else len(_CHANGES.findall(word[0])) > 1
