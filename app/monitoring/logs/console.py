"""The console renderer for development.

Constraint: values may come from clients, so control characters are escaped: a value can neither forge a line nor
control the terminal.
"""

from typing import Any

import structlog
from structlog.types import EventDict, WrappedLogger

_INDENT = "    "
# Fields that the renderer wants to be text.
_TEXTS = frozenset({"timestamp", "level", "event", "logger", "exception", "stack"})


class Console:
    """A renderer of events as lines, coloured if `colors`, with the traceback indented below."""

    def __init__(self, *, colors: bool) -> None:
        self._render = structlog.dev.ConsoleRenderer(
            colors=colors, exception_formatter=structlog.dev.plain_traceback, pad_event_to=0
        )

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> bytes:
        shown = {printable(str(key)): _shown(key, value) for key, value in event.items()}
        return f"{self._render(logger, method, shown)}\n".encode()


def _shown(key: str, value: Any) -> Any:
    if not isinstance(value, str):
        # Others are rendered as their repr, which has no control characters.
        return printable(str(value)) if key in _TEXTS else value
    if key in {"exception", "stack"}:
        return "\n".join(_INDENT + printable(line.expandtabs(4)) for line in value.splitlines())
    return printable(value)


def printable(text: str) -> str:
    """Return `text` with non-printable characters as Python escapes."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )
