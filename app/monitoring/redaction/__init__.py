"""Redaction of private data in everything that leaves the process, by the field's name and by the value's form.

Log events, spans and error bodies go through it. It knows neither structlog nor OpenTelemetry: plain values come in,
and copies go out. docs/redaction.md says what is replaced by what, and what stays.
"""

from .characters import escape
from .configuration import SHIPPED, configure
from .credentials import REDACTED
from .identity import sanitised_address, sanitised_user
from .keys import is_secret_key
from .packs import NumberForm, PackError, RedactionPack
from .structures import MAX_DEPTH, redact, redact_event
from .text import MAX_TEXT_LENGTH, redact_text

__all__ = [
    "MAX_DEPTH",
    "MAX_TEXT_LENGTH",
    "REDACTED",
    "SHIPPED",
    "NumberForm",
    "PackError",
    "RedactionPack",
    "configure",
    "escape",
    "is_secret_key",
    "redact",
    "redact_event",
    "redact_text",
    "sanitised_address",
    "sanitised_user",
]
