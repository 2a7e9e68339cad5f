"""Redaction of private data in everything that leaves the process, by the field's name and by the value's form.

Log events, spans and error bodies go through it. It knows neither structlog nor OpenTelemetry: plain values come in,
and copies go out. docs/redaction.md says what is replaced by what, and what stays.
"""

from .configuration import configure
from .credentials import REDACTED
from .identity import sanitised_address, sanitised_user
from .keys import is_secret_key
from .packs import NumberForm, PackError, RedactionPack
from .structures import redact, redact_event
from .text import redact_text

__all__ = [
    "REDACTED",
    "NumberForm",
    "PackError",
    "RedactionPack",
    "configure",
    "is_secret_key",
    "redact",
    "redact_event",
    "redact_text",
    "sanitised_address",
    "sanitised_user",
]
