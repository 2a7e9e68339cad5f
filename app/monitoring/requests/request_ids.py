"""The caller's X-Request-ID: which ones are taken over into logs, error bodies and the response.

A free text would let a caller write into logs whatever it likes, a name or an address among it. So only ids that
machines make are taken over, and those of the form that the service's own proxies make.
"""

import re
from typing import Final

from ..option_checks import UnwantedError
from ..redaction import redact_text
from .matching import count_ways

# A UUID with dashes, hexadecimal digits (a UUID without dashes among them), a ULID.
_MADE: Final = re.compile(
    rb"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
    rb"|[0-9A-Fa-f]{8,64}"
    rb"|[0-7][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{25}"
)
MAX_LENGTH: Final = 128
"""Characters that an id of the configured form may have."""
# Written into JSON and into a header as they are.
_SAFE: Final = re.compile(rb"[\w.~:/+=@-]{1,%d}" % MAX_LENGTH)
_VERBOSE: Final = re.compile(r"\(\?[a-zA-Z]*x")
# With at most 128 steps each: milliseconds.
MAX_WAYS: Final = 20_000


def accepted(given: bytes, pattern: re.Pattern[str] | None = None) -> str | None:
    """Return the caller's id if it is taken over, else None.

    `pattern` is a further form, of `compiled`. An id that redaction would change, such as a card number, is refused
    whatever its form.
    """
    if not (_MADE.fullmatch(given) or (pattern and _SAFE.fullmatch(given) and pattern.fullmatch(given.decode()))):
        return None
    request_id = given.decode()
    return request_id if redact_text(request_id) == request_id else None


def compiled(pattern: str | None) -> re.Pattern[str] | None:
    """Return the pattern of `checked`, compiled."""
    return None if pattern is None else re.compile(pattern, re.ASCII)


def checked(pattern: object) -> str:
    """Return `pattern`. Raise UnwantedError if it is no regular expression, or one that may take long."""
    if not isinstance(pattern, str) or not pattern:
        raise UnwantedError("want a regular expression for a whole id")
    try:
        is_verbose = re.compile(pattern, re.ASCII).flags & re.VERBOSE or _VERBOSE.search(pattern)
    except re.error as error:
        raise UnwantedError(f"{error}: want a regular expression for a whole id") from error
    if is_verbose or count_ways(pattern, MAX_LENGTH) > MAX_WAYS:
        raise UnwantedError(
            "may try very many ways to match an id: want at most two open repetitions, none inside another and none"
            " with (?x), such as [a-z]{2,8}-[0-9]+"
        )
    return pattern
