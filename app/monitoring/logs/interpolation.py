"""The text of a message and its positional arguments, as `%` formats them.

Constraint: it does not raise, and it takes bounded time: an argument with more than MAX_ITEMS items is replaced by a
redacted copy of its beginning.
"""

import copy
import logging
from collections import deque
from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

from ..redaction import redact

MAX_ITEMS: Final = 1_000
_CONTAINERS = (dict, list, tuple, set, frozenset, deque)


def interpolated(message: Any, arguments: tuple[Any, ...]) -> dict[str, Any]:
    """Return the fields of a message with `arguments`, as structlog formats them: the event, or event and arguments.

    A single mapping names the values: `"%(city)s", {"city": "Ubud"}`.
    """
    try:
        values: Any = arguments
        if len(arguments) == 1 and isinstance(arguments[0], Mapping) and arguments[0]:
            values = arguments[0]
        return {"event": message % _bounded(message, values)}
    except Exception as error:  # noqa: BLE001 -- arguments that do not fit must not lose the line
        return {"event": message, "arguments": arguments, "error": type(error).__name__}


def message_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return the fields of a record's message: the event, or event and arguments if they do not fit."""
    try:
        message, arguments = bounded(record.msg), _bounded(record.msg, record.args)
        if message is not record.msg or arguments is not record.args:
            record = copy.copy(record)  # other handlers see the original
            record.msg, record.args = message, arguments
        return {"event": record.getMessage()}
    except Exception as error:  # noqa: BLE001 -- arguments that do not fit must not lose the line
        return {"event": record.msg, "arguments": record.args, "error": type(error).__name__}


def _bounded(message: Any, arguments: Any) -> Any:
    if type(arguments) is tuple:
        short = tuple(map(bounded, arguments))
        return arguments if all(map(_is_same, short, arguments)) else short
    if isinstance(message, str) and "%(" in message:  # reads single values
        return arguments
    return bounded(arguments)


def _is_same(one: Any, other: Any) -> bool:
    return one is other


def bounded(value: Any) -> Any:
    """Return `value`, or a redacted copy of its beginning if it has more than MAX_ITEMS items at any depth."""
    items = 0
    pending = [value]
    while pending:
        one = pending.pop()
        if not issubclass(type(one), _CONTAINERS):
            continue
        found = list(islice(one.values() if issubclass(type(one), dict) else one, MAX_ITEMS + 1))
        items += len(found)
        if items > MAX_ITEMS:
            return redact(value)
        pending += found
    return value
