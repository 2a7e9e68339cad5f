"""OpenTelemetry's variables that limit a span: attributes, events, links, and the length of values.

Constraint: imports nothing of OpenTelemetry, whose SDK reads one of them at its import. The length is applied to
redacted values only: a value that is cut first may end inside of a card number, which redaction then misses.
"""

from dataclasses import dataclass
from typing import Final, Self

from .variables import value_of, whole_number

MAX_COUNT: Final = 2**31 - 1
UNLIMITED: Final = "unset"
"""The SDK's word for no limit, in any case."""
FIRST_READ: Final = "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT"
DEFAULT_COUNT: Final = 128
_COUNTS: Final = {
    "attributes": (FIRST_READ, "OTEL_ATTRIBUTE_COUNT_LIMIT"),
    "event_attributes": ("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"),
    "link_attributes": ("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"),
    "events": ("OTEL_SPAN_EVENT_COUNT_LIMIT",),
    "links": ("OTEL_SPAN_LINK_COUNT_LIMIT",),
}
SPAN_LENGTH: Final = "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT"
LENGTH: Final = "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one span; None is none."""

    attributes: int | None = DEFAULT_COUNT
    event_attributes: int | None = DEFAULT_COUNT
    link_attributes: int | None = DEFAULT_COUNT
    events: int | None = DEFAULT_COUNT
    links: int | None = DEFAULT_COUNT
    span_length: int | None = None
    """Characters of a value of a span's attribute."""
    length: int | None = None
    """Characters of a value of an attribute of events and links."""

    @classmethod
    def read(cls) -> Self:
        """Return the limits of the variables. Raise TracingConfigurationError if one is no number."""
        counts = {part: _of(names, DEFAULT_COUNT) for part, names in _COUNTS.items()}
        return cls(**counts, span_length=_of((SPAN_LENGTH, LENGTH), None), length=_of((LENGTH,), None))


def check_first_read() -> None:
    """Raise TracingConfigurationError if the variable that the SDK reads at its import is wrong."""
    _of((FIRST_READ,), None)


def _of(names: tuple[str, ...], default: int | None) -> int | None:
    """Return the limit of the first variable that is set."""
    for name in names:
        value = value_of(name)
        if value.lower() == UNLIMITED:
            return None
        if value:
            return whole_number(name, 0, MAX_COUNT, "a limit")
    return default
