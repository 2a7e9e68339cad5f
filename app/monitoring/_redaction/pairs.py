"""Private values behind their names in running text: password=..., "token": "...", Cookie: ..., --secret ..., <pin>...

The names are found by one pattern that reads each of them once; where a value ends is then seen from its first
character. Text that a value covers is not read again, so the whole is one pass.
"""

import re
from collections.abc import Iterator

from app.monitoring._redaction.credentials import REDACTED
from app.monitoring._redaction.identity import is_sanitised_user, sanitised_list
from app.monitoring._redaction.keys import LONGEST_KEY, TAILS, Extent, Field, Kind, field, is_secret_key, word_set

_NAME = re.compile(
    r"""(?<![\w.\-])(?:
        (?P<flag>--[\w.\-]++)[ \t]{1,4}(?![-=:])
      | (?P<name>[\w.\-]++)
        (?:(?:\\{0,16}["'`]|[\])]|%5D|%22|%27){1,4}+)?+[ \t]{0,4}
        (?P<sign>={1,3}>?|:=|:(?!:|//)|>|,(?=[ ]?[bBuU]?\\{0,16}["']))[ \t]{0,4}
    )""",
    re.VERBOSE,
)
_PREFIXED_QUOTE = re.compile(r"[bBrRuUfF]{0,2}(\\{0,16})([\"'`])")
_OPENERS = frozenset("([{")
# How far a call such as Secret('...') is followed; a bracket that opens the value is followed to its end.
_LONGEST_CALL = 512
_BRACKET = re.compile(r"[()\[\]{}]|\"(?:[^\"\\]|\\.)*+\"?|'(?:[^'\\]|\\.)*+'?", re.DOTALL)
# A delimiter ends a word where it is one: a comma inside a password is none.
_WORD = re.compile(
    r"""(?:[^\s&;"'<>`|\\,()\]}]
        | ,(?!\s|$|["'\\]|[\w.\-]{1,64}[=:])
        | [)\]}](?![\s,;.)\]}"']|$)
        | \\(?![nrtu"'\\])
    )++""",
    re.VERBOSE,
)
_NUMBER = re.compile(r"[+(]{0,2}\d(?:[ .()\-+/]{0,3}\d)*+\w*+")
_NETWORKS = re.compile(r"[0-9A-Fa-f.:%\[\]/]++(?:,[ ]?[0-9A-Fa-f.:%\[\]/]++)*+")
# To a delimiter, the end of the line, or the next name=; blanks before it are left.
_PHRASE = re.compile(r"(?:[^\s;|\"'<>&{}\\`]|[ \t](?![ \t]|[\w.\-]{1,32}=)|\\(?![nr\"'\\]))++")
_SCHEME = re.compile(r"(?i:(bearer|basic|token|apikey|negotiate)[ \t]{1,4})")
# What a value may say without telling anything.
_EMPTY = word_set(
    """none null nil true false undefined str int bool bytes string field required missing invalid empty"""
)
_SMALL_NUMBER = re.compile(r"\d{1,9}(?:\.\d{1,3})?%?")
# Words that end a name of several: "API key:", "date of birth:", "No. HP:"
_LAST_WORDS = TAILS | word_set(
    "key keys id number no code birth name hp string license licence lahir kredit address addr wa"
)
# What of `text` this engine has written, and no name: [email]
_MARKS = word_set("email phone card nik npwp ssn jwt key")
# A part of a form: name="password", an empty line, the value
_PART = re.compile(
    r"""(name=\\{0,8}"([\w.\-\[\]]{1,64})\\{0,8}"[^\r\n\\]{0,80}(?:\r?\n|(?:\\{1,8}r)?\\{1,8}n){2})[^\r\n\\]++"""
)
# A name in quotes begins a pair of name and value in a bracket of its own, as headers do: ("cookie", "a=b")
_PAIR = re.compile(r"(?:\(|[\[,][ ]?\[)[ ]?[bBuU]?\\{0,16}[\"']$")
_BEFORE = re.compile(r"(?:[\w.\-]{1,24}[ ]){1,3}$")
_RANDOM = re.compile(r"(?=[\w\-]*+$)(?=\D*+\d)(?=[^A-Za-z]*+[A-Za-z]).{8,}")
_CHANGES = re.compile(r"[A-Za-z](?=\d)|\d(?=[A-Za-z])|[a-z](?=[A-Z])")
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


def redact_pairs(text: str) -> str:
    """`text` without the values that stand behind a private name."""
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
    while (match := _NAME.search(text, position)) is not None:
        position = match.end()
        found = _field_of(match, text)
        if found is None:
            continue
        end, replacement = _value(text, match, found)
        if end > position:
            yield position, end, replacement
            position = end


def _field_of(match: re.Match[str], text: str) -> Field | None:
    """What the name says, where that makes the value private."""
    start = match.start()
    name = match["flag"] or match["name"]
    sign = match["sign"]
    before = text[start - 1 : start]
    if sign == "," and not _PAIR.search(text, max(0, start - 24), start):
        return None
    if (sign == ">" and before not in ("<", ":")) or _is_mark(match, text):
        return None
    found = field(name)
    if found.kind is Kind.PLAIN and before in ("\\", "%"):  # an escape's letters are none of the name's
        name = name[2:] if before == "%" else name[5:] if name[0] == "u" else name[1:]
        found = field(name)
    if found.kind is Kind.PLAIN and _is_private_here(found.words, match, text):
        return Field(Kind.SECRET, Extent.WORD, found.words)
    if found.kind is Kind.PLAIN and found.words[-1:] and found.words[-1] in _LAST_WORDS and sign in (":", "="):
        words = _BEFORE.search(text, max(0, start - LONGEST_KEY // 2), start)
        found = field(words[0] + name) if words else found
    return None if found.kind in (Kind.PLAIN, Kind.TRACE) else found


def _is_mark(match: re.Match[str], text: str) -> bool:
    """Whether this is what stands in place of a value: [email]. In user[email]=... it is a name."""
    name = match["name"]
    if name not in _MARKS or text[match.start() - 1 : match.start()] != "[":
        return False
    return match["sign"] == ":" or not text[match.start() - 2 : match.start() - 1].isalnum()


def _is_private_here(words: tuple[str, ...], match: re.Match[str], text: str) -> bool:
    """Whether a plain name has a private value for what stands around it."""
    if words == ("key",):
        return match["sign"] == "=" and _is_made(text, match)
    if words == ("code",):  # of OAuth, in a URL
        return text[match.start() - 1 : match.start()] in ("?", "&") and _is_long(text, match.end())
    return words == ("input",) and ("'loc'" in text or '"loc"' in text)  # what a validation error quotes


def _is_long(text: str, position: int) -> bool:
    word = _WORD.match(text, position)
    return word is not None and len(word[0]) >= 10 and not word[0].isdigit()  # noqa: PLR2004


def _is_made(text: str, match: re.Match[str]) -> bool:
    """Whether the value of a plain "key" looks made up by a machine: not the name of a cache's entry."""
    word = _WORD.match(text, match.end())
    if word is None or _UUID.fullmatch(word[0]):
        return False
    if text[match.start() - 1 : match.start()] in ("?", "&"):
        return len(word[0]) >= 8 and not word[0].isdigit()  # noqa: PLR2004
    return _RANDOM.fullmatch(word[0]) is not None and len(_CHANGES.findall(word[0])) > 1


def _value(text: str, match: re.Match[str], found: Field) -> tuple[int, str]:
    """Where the value at the end of `match` ends, and what is written in its place."""
    start = match.end()
    if match["sign"] == ">":
        end = text.find("<", start)
        return len(text) if end < 0 else end, REDACTED
    quote = _PREFIXED_QUOTE.match(text, start)
    if quote is not None:
        inside, end = _quoted(text, quote)
        return end, text[start : quote.end()] + _replacement(text[quote.end() : inside], found) + text[inside:end]
    if text[start : start + 1] in _OPENERS:
        return _balanced(text, start, len(text)), REDACTED
    end = _unquoted(text, match, found)
    while text[end : end + 1] == "(" and found.extent is Extent.WORD:
        closed = _balanced(text, end, end + _LONGEST_CALL)
        rest = _WORD.match(text, closed if text[closed - 1] == ")" else end + 1)
        end = rest.end() if rest else closed
    return end, _replacement(text[start:end], found)


def _replacement(value: str, found: Field) -> str:
    """What is written in place of `value`."""
    low = value.strip().lower()
    if low in _EMPTY or not low:
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
    """Where the text in quotes ends, and where the quotes do; quotes that nobody closes end with the line."""
    position = _closing(text, quote[1], quote[2], quote.end())
    if position >= 0:
        return position, position + len(quote[0].lstrip("bBrRuUfF"))
    end = _line_end(text, quote.end())
    return end, end


def _closing(text: str, escapes: str, mark: str, start: int) -> int:
    """Where the next quotation mark stands that has just these backslashes before it; -1 for nowhere."""
    closer = escapes + mark
    position = start
    while (position := text.find(closer, position)) >= 0:
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
    """Where the bracket that opens at `start` is closed; `limit`, as far as it was read, if it is not."""
    depth = 0
    for bracket in _BRACKET.finditer(text, start, limit):
        if bracket[0] in _OPENERS:
            depth += 1
        elif bracket[0] in (")", "]", "}"):
            depth -= 1
            if depth == 0:
                return bracket.end()
    return min(limit, len(text))


def _unquoted(text: str, match: re.Match[str], found: Field) -> int:
    start = match.end()
    if found.extent is Extent.LINE:
        return _end_of_header(text, match, found)
    pattern = _NETWORKS if found.kind is Kind.CLIENT else _PATTERNS[found.extent]
    value = pattern.match(text, start) or _WORD.match(text, start)
    end = value.end() if value else start
    if text[end : end + 1] == "%":  # a blank as URLs have it
        word = _WORD.match(text, end)
        return word.end() if word else end
    return end


def _end_of_header(text: str, match: re.Match[str], found: Field) -> int:
    """The end of the line, of the quotes around the header, or of a token behind a scheme that has one only."""
    start = match.end()
    scheme = _SCHEME.match(text, start)
    if scheme and found.words[-1:] == ("authorization",):
        if text[scheme.end() : scheme.end() + 1] in _OPENERS:
            return _balanced(text, scheme.end(), len(text))
        word = _WORD.match(text, scheme.end())
        return word.end() if word else scheme.end()
    before = text[match.start() - 1 : match.start()]
    end = _line_end(text, start)
    stops = [text.find(stop, start, end) for stop in ("\r", "\\r", "\\n")]
    if before in ('"', "'", "`"):
        escapes = text[max(0, match.start() - 17) : match.start() - 1]
        stops.append(_closing(text[:end], escapes[len(escapes.rstrip("\\")) :], before, start))
    return min([end, *(stop for stop in stops if stop >= 0)])


_PATTERNS = {Extent.WORD: _WORD, Extent.PHRASE: _PHRASE, Extent.NUMBER: _NUMBER}
