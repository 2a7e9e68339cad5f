"""Reading OpenTelemetry's environment variables, and the error that refuses one.

Constraint: imports nothing of OpenTelemetry. Its modules read some variables at their import.
"""

import os
from collections.abc import Iterable
from importlib.metadata import entry_points
from typing import Final

PREFIX: Final = "OTEL_"


class TracingConfigurationError(ValueError):
    """An environment variable for traces has a value that cannot be honoured. A `secret` one is not repeated."""

    def __init__(self, name: str, value: str, wanted: str, *, secret: bool = False) -> None:
        super().__init__(f"{name}: {wanted}" if secret else f"{name}={value!r}: {wanted}")
        self.name, self.value, self.wanted = name, value, wanted


def value_of(name: str) -> str:
    """Return the variable's value; an empty one counts as unset, as OpenTelemetry defines it."""
    return os.environ.get(name, "").strip()


def first_of(*names: str) -> tuple[str, str]:
    """Return name and value of the first variable that is set, else of the last."""
    for name in names[:-1]:
        if value := value_of(name):
            return name, value
    return names[-1], value_of(names[-1])


def of_otlp(part: str) -> tuple[str, str]:
    """Return name and value of the OTLP variable for traces if it is set, else of the one for all signals."""
    return first_of(f"OTEL_EXPORTER_OTLP_TRACES_{part}", f"OTEL_EXPORTER_OTLP_{part}")


def whole_number(name: str, least: int, most: int, unit: str) -> int | None:
    """Return the variable as a number of `unit`, None if it is unset.

    Raise TracingConfigurationError if it is none from `least` to `most`.
    """
    value = value_of(name)
    if not value:
        return None
    number = int(value) if value.isascii() and value.isdecimal() and len(value) <= len(str(most)) else -1
    if not least <= number <= most:
        raise TracingConfigurationError(name, value, f"want {unit}: a whole number from {least} to {most}")
    return number


def installed(group: str) -> set[str]:
    """Return the names of the installed entry points of `group`."""
    return {point.name for point in entry_points(group=group)}


def check_installed(name: str, group: str, parts: Iterable[str], hints: dict[str, str] | None = None) -> None:
    """Raise TracingConfigurationError if one of `parts`, which the variable `name` has, is no entry point of `group`.

    `hints` are the distributions that contain names which may be missing.
    """
    known = installed(group)
    for part in parts:
        if part not in known:
            wanted = f"want {'none or ' if hints else ''}any of {', '.join(sorted(known))}"
            source = f"; {part} is in {hints[part]}" if hints and part in hints else ""
            raise TracingConfigurationError(name, value_of(name), f"{part!r} is not installed; {wanted}{source}")


def drop_empty() -> None:
    """Remove empty variables of OpenTelemetry from the environment, so that they count as unset.

    The SDK takes an empty limit or provider for a wrong one and raises, some of them at its import.
    """
    for name in [name for name, value in os.environ.items() if name.startswith(PREFIX) and not value.strip()]:
        del os.environ[name]
