"""Events for people in front of a terminal, in development.

The constraint to know: what others wrote is in there, so a value can neither forge a line nor drive the terminal.
"""

from typing import Any

import structlog
from structlog.types import EventDict, WrappedLogger

_INDENT = "    "


class Console:
    """Renders an event as a line, coloured if `colors`, with its traceback indented below."""

    def __init__(self, *, colors: bool) -> None:
        self._render = structlog.dev.ConsoleRenderer(
            colors=colors, exception_formatter=structlog.dev.plain_traceback, pad_event_to=0
        )

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> bytes:
        shown = {printable(key): _shown(key, value) for key, value in event.items()}
        return f"{self._render(logger, method, shown)}\n".encode()


def _shown(key: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value  # the renderer takes its repr, in which nothing is left that a terminal obeys
    if key in {"exception", "stack"}:
        return "\n".join(_INDENT + printable(line.expandtabs(4)) for line in value.splitlines())
    return printable(value)


def printable(text: str) -> str:
    """`text` with escapes, as Python would write them, for all that is no visible character or a space."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )
