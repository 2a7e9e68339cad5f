"""Credentials that have a form of their own: private keys, Bearer and Basic, user info of URLs.

Every unbounded repetition here is possessive and begins where a lookbehind or a literal lets it begin once, so that a
text is read a bounded number of times whatever it holds.
"""

import base64
import binascii
import re

from .keys import word_set
from .vendor_keys import redact_vendor_keys

REDACTED = "[redacted]"

# A key that was cut off reaches to the end of the text.
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----(?>(?:[^-]|-(?!----END))*)(?:-----END[A-Z0-9 ]{0,60}-{0,5})?"
)
_SCHEME = re.compile(r"(?i:\b(bearer|basic))([ \t]{1,4}|%20|\+)([\w.~+/=-]{6,}+)(?!@)")
_PARAMETER = re.compile(r"[a-z_]{2,20}=[^=]")  # of a challenge: Bearer realm=...
_BEARER_PROSE = word_set(
    """token tokens authentication authorization scheme schemes header headers credentials realm format access
    security required missing invalid expired"""
)

# User info, also where a password holds what should have been percent-encoded: postgresql://bali:pa/ss@db
_AUTHORITY = re.compile(
    r"""(?<=://)(?:
        (?=[^\s/?#"'<>\\`@]*+@)[^\s/?#"'<>\\`]*+
      | (?!\[)[^\s/?#"'<>\\`:@]*+:(?!\d{1,5}(?![^\s/?#"'<>\\`]))[^\s"'<>`]{1,256}@[^\s/?#"'<>\\`]*+
    )""",
    re.VERBOSE,
)
# People's accounts; elsewhere the user is a role of the service.
_PERSONAL_SCHEMES = (
    "http",
    "https",
    "ws",
    "wss",
    "ftp",
    "ftps",
    "sftp",
    "ssh",
    "git",
    "smtp",
    "smtps",
    "imap",
    "imaps",
)


def redact_urls_and_keys(text: str) -> str:
    """Return `text` without private keys and without the user info of URLs."""
    if "-----BEGIN" in text:
        text = _PRIVATE_KEY.sub("[private key]", text)
    return _AUTHORITY.sub(_user_info, text) if "://" in text else text


def redact_credentials(text: str) -> str:
    """Return `text` without keys and tokens of a known form."""
    text = redact_vendor_keys(text)
    lower = text.lower()
    return _SCHEME.sub(_after_scheme, text) if "bearer" in lower or "basic" in lower else text


def _user_info(match: re.Match[str]) -> str:
    user, _, host = match[0].rpartition("@")
    scheme = re.split(r"[^\w+.-]", match.string[max(0, match.start() - 24) : match.start() - 3])[-1].lower()
    name, colon, password = user.partition(":")
    if scheme in _PERSONAL_SCHEMES:
        return match[0] if name == "git" and not colon else f"{REDACTED}@{host}"
    return f"{name}:{REDACTED}@{host}" if password else match[0]


def _after_scheme(match: re.Match[str]) -> str:
    scheme, blank, value = match[1], match[2], match[3]
    private = _is_basic(value) if scheme.lower() == "basic" else _is_bearer(scheme, value)
    return f"{scheme}{blank}{REDACTED}" if private else match[0]


def _is_basic(value: str) -> bool:
    """Return True for base64 of user:password; "basic breakfast" is none."""
    bare = value.partition("=")[0].rstrip(".")  # a path may follow
    try:
        return b":" in base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except (binascii.Error, ValueError):
        return False


def _is_bearer(scheme: str, value: str) -> bool:
    """Return True for a token, False for the next word of a sentence."""
    if value.lower().rstrip(".") in _BEARER_PROSE or _PARAMETER.match(value):
        return False
    mixed = not value.isalpha() or not (value.islower() or value.istitle())
    return mixed or scheme != "bearer" or len(value) >= 16  # noqa: PLR2004
