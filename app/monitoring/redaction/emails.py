"""Detection of e-mail addresses in text."""

import re
from collections.abc import Iterator

EMAIL = "[email]"

_LOCAL = r"\w.%+\-!#$*^~"
_LABEL = r"(?>(?:[\w\-]|\\u[0-9A-Fa-f]{4})+)"
_EMAIL = re.compile(
    rf"""(?:"\w[^"\n@]{{0,62}}"|(?<![{_LOCAL}])(?<!://)(?:[oOdD]')?[{_LOCAL}]++)@
    (?:\[[\dA-Fa-f.:]{{3,45}}\]|{_LABEL}(?>(?:\.{_LABEL})+))""",
    re.VERBOSE,
)
_TOP_LEVEL = re.compile(r"[^\W\d_]{2}|\\u")
_VERSION = re.compile(r"v?\d++\.\d")


def redact_email(text: str) -> str:
    """Return `text` without e-mail addresses."""
    return _EMAIL.sub(lambda match: EMAIL if _is_email(match) else match[0], text) if "@" in text else text


def find_emails(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield start, end and replacement of each e-mail address, from the beginning of `text` to its end."""
    if "@" in text:
        for match in _EMAIL.finditer(text):
            if _is_email(match):
                yield match.start(), match.end(), EMAIL


def _is_email(match: re.Match[str]) -> bool:
    local, _, domain = match[0].rpartition("@")
    escaped = local in ("n", "r", "t") and match.string[match.start() - 1 : match.start()] == "\\"
    if local == "git" or escaped:  # the user of every repository's address; a decorator in a text of Python's
        return False
    if domain.startswith("["):
        return True
    if _VERSION.match(domain):  # react@18.2.0
        return False
    return any(_TOP_LEVEL.match(label) for label in domain.split(".")[1:])
