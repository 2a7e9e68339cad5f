"""Redaction of running text: the order of the searches, texts that need none, and the cut of long texts."""

import re
from urllib.parse import quote, unquote

from .budget import Budget
from .characters import escape
from .credentials import redact_credentials, redact_urls_and_keys
from .emails import redact_email
from .networks import redact_networks
from .pairs import redact_pairs
from .private import redact_view, redact_written

# A longer text is cut, which bounds the time for one value.
MAX_TEXT_LENGTH = 16_384
# Characters before a cut that are dropped too: they may be part of a secret.
_MARGIN = 512
# Without any of these a text holds nothing private: signs, digits, a long word, the name of a scheme.
_SUSPECT = re.compile(r"[@%=:>+&\uff20\ufe6b\d]|[\w-]{12}|(?i:earer|asic)[ \t+]|--|[\"'],")
# Ids and times that every event has. Hexadecimal must have a letter: 16 digits may be a payment card.
_KNOWN = re.compile(
    r"(?=[0-9]{0,31}[a-f-])[0-9a-f]{8}(?:[0-9a-f]{8}(?:[0-9a-f]{16})?|(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
    r"|20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)"
)
_PART_OF_URL = re.compile(r"""[^\s"'<>&=?#;,]++""")
_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")
_LAYERS = 3
_PASSES = 5
# Separators between a name and its value.
_SIGN = re.compile(r"[=:>]|--|[\"'],")

# Texts that were looked through and left as they are. Most of an event's are the same ones again and again.
_clean: set[str] = set()
_MAX_CLEAN = 4096
_MAX_CLEAN_LENGTH = 80


def redact_text(text: str, *, one_line: bool = False) -> str:
    """Return `text` without private data and without characters that could forge a log line.

    Private data is replaced by "[email]", "[phone]", "[card]" and the like, or by "[redacted]" behind a private name.
    Newlines and tabs stay unless `one_line`. More than 16,384 characters are cut, and the end says how many. Behind 256
    places where a telephone, card or identity number may begin, each digit becomes "#".
    """
    return redact_within(text, Budget(), one_line=one_line)


def redact_within(text: str, budget: Budget, *, one_line: bool = False) -> str:
    """Return the same, cut where `budget` ends, which other texts of one line or span share."""
    if len(text) > MAX_TEXT_LENGTH:
        return _cut(text, MAX_TEXT_LENGTH, one_line=one_line, budget=budget)
    if text in _clean:
        return text
    if _KNOWN.fullmatch(text) is not None:
        return text
    if len(text) > budget.characters:
        return _cut(text, budget.characters, one_line=one_line, budget=budget)
    budget.characters -= len(text)
    found = _settled(text, budget) if _SUSPECT.search(text) is not None else text
    found = escape(found, one_line=one_line)
    if found == text:
        _remember(text)
    return found if len(found) <= MAX_TEXT_LENGTH else _shorten(found, len(found))


def _settled(text: str, budget: Budget) -> str:
    """Return `text` scrubbed until nothing more is found: removing a number can complete a name."""
    before = left = budget.numbers
    for _ in range(_PASSES):
        budget.numbers = before  # each pass reads the same numbers
        clean = scrub(text, budget)
        left = min(left, budget.numbers)
        if clean == text:
            break
        text = clean
    budget.numbers = left
    return text


def scrub(text: str, budget: Budget | None = None, layer: int = 0) -> str:
    """Return `text` without private data, of any length and with any characters. Takes linear time.

    Values after private names are replaced first: they may have any form, and may contain a part of another.
    """
    budget = budget or Budget()
    if "-----BEGIN" in text or "://" in text:
        text = redact_urls_and_keys(text)
    if _SIGN.search(text) is not None:
        text = redact_pairs(text)
    text = redact_credentials(text)
    if "%" in text and layer < _LAYERS:
        text = _PART_OF_URL.sub(lambda match: _decoded(match[0], budget, layer), text)
    before = budget.numbers
    text = redact_email(redact_view(text, budget))
    seen, budget.numbers = budget.numbers, before  # both read the same numbers
    text = redact_written(text, budget)
    budget.numbers = min(seen, budget.numbers)
    return redact_networks(text)


def _decoded(token: str, budget: Budget, layer: int) -> str:
    """Return a percent-encoded part of a URL unchanged unless its decoded form is private."""
    if "%" not in token or _ENCODED.search(token) is None:
        return token
    plain = unquote(token)
    clean = scrub(plain, budget, layer + 1)
    return token if clean == plain else quote(clean, safe="/[]#").replace("%3A//", "://")


def _cut(text: str, length: int, *, one_line: bool, budget: Budget) -> str:
    """Return the beginning of `text`, redacted, of which `length` characters are read at most.

    More is redacted than is kept: half a secret is not recognised.
    """
    length = max(0, min(length, budget.characters))
    budget.characters -= length
    return _shorten(escape(_settled(text[:length], budget), one_line=one_line), len(text))


def _shorten(clean: str, length: int) -> str:
    kept = clean[: max(0, min(len(clean), MAX_TEXT_LENGTH) - _MARGIN)]
    return f"{kept}[cut {length - len(kept)} characters]"


def _remember(text: str) -> None:
    if len(text) <= _MAX_CLEAN_LENGTH and text.isprintable():
        if len(_clean) >= _MAX_CLEAN:
            _clean.clear()
        _clean.add(text)


def forget() -> None:
    """Clear the cache of texts that were left unchanged: other rules may change them."""
    _clean.clear()
