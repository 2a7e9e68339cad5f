"""The text of exceptions with their tracebacks, for log lines and spans.

Constraint: nothing here raises, whatever attributes and methods an exception has, and the work is bounded: Python's own
formatting reads every exception of a chain and of a group, and every frame.
"""

import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from traceback import StackSummary, TracebackException
from types import TracebackType
from typing import Any, Final

MAX_FRAMES: Final = 400
"""Frames of an exception and those that it belongs to, up to which Python formats them."""
MAX_EXCEPTIONS: Final = 16
"""Exceptions of a chain and its groups, up to which Python formats them. Of more, these are formatted."""
# Of more frames, those next to the handler and to the error.
_FIRST, _LAST = 10, 50
_MAX_NOTES = 10
_CAUSED = "\nThe above exception was the direct cause of the following exception:\n\n"
_DURING = "\nDuring handling of the above exception, another exception occurred:\n\n"

Raised = tuple[type[BaseException], BaseException | None, TracebackType | None]
"""Type, value and traceback of an exception. The value may be missing."""


def raised(exc_info: Any) -> Raised | None:
    """Return the exception that the argument `exc_info` of a log call means; None if there is none.

    An exception, a triple as `sys.exc_info` returns it, or any other true value, for the exception being handled.
    """
    if issubclass(type(exc_info), BaseException):
        return type(exc_info), exc_info, _traceback_of(exc_info)
    if issubclass(type(exc_info), tuple) and tuple.__len__(exc_info) == 3:  # noqa: PLR2004
        kind, value, trace = tuple.__iter__(exc_info)
        trace = trace if type(trace) is TracebackType else None
        if issubclass(type(value), BaseException):
            return type(value), value, trace
        if issubclass(type(kind), type) and issubclass(kind, BaseException):
            return kind, None, trace
    if not _is_true(exc_info):
        return None
    kind, value, trace = sys.exc_info()
    return None if kind is None else (kind, value, trace)


def _is_true(value: Any) -> bool:
    try:
        return bool(value)
    except Exception:  # noqa: BLE001 -- it is not one of the values that stand for no exception
        return True


def _traceback_of(error: BaseException) -> TracebackType | None:
    trace = BaseException.__dict__["__traceback__"].__get__(error)
    return trace if type(trace) is TracebackType else None


def type_name(kind: type[BaseException]) -> str:
    """Return the full name of an exception's type."""
    try:
        module, name = kind.__module__, kind.__qualname__
        return str(name) if module == "builtins" else f"{module}.{name}"
    except Exception:  # noqa: BLE001 -- of a metaclass
        return "exception"


def format_exception(found: Raised) -> str:
    """Return the traceback as Python prints it, without the newline at its end.

    A bounded text in the same form if Python's formatting raises, or if there is too much to format.
    """
    kind, error, trace = found
    if error is None:
        return f"{_frames(trace)}{type_name(kind)}"
    with suppress(Exception):
        if _is_small(error, trace):
            text = "".join(TracebackException(kind, error, trace, compact=True).format())
            return text.removesuffix("\n")
    return _chain(error, trace).removesuffix("\n")


def message_of(error: BaseException) -> str:
    """Return the text of `error`, as a plain str."""
    try:
        return str.__str__(str(error))
    except Exception:  # noqa: BLE001 -- Python's own words
        return "<exception str() failed>"


def _is_small(error: BaseException, trace: TracebackType | None) -> bool:
    """Return True if no more than MAX_EXCEPTIONS and MAX_FRAMES have to be formatted."""
    seen: set[int] = set()
    pending = [error]
    frames = _count(trace)
    while pending:
        one = pending.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        frames += _count(one.__traceback__) if one is not error else 0
        if len(seen) > MAX_EXCEPTIONS or frames > MAX_FRAMES:
            return False
        pending += [next_one for next_one in (one.__cause__, one.__context__) if next_one is not None]
        if isinstance(one, BaseExceptionGroup):
            pending += one.exceptions[: MAX_EXCEPTIONS + 1]
    return True


def _count(trace: TracebackType | None) -> int:
    return sum(1 for _ in islice(_walk(trace), MAX_FRAMES + 1))


def _walk(trace: TracebackType | None) -> Iterator[TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _chain(error: BaseException, trace: TracebackType | None) -> str:
    """Return the tracebacks of `error` and of those that it was raised from, the oldest first."""
    parts: list[str] = []
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        if len(seen) == MAX_EXCEPTIONS:
            parts.append("[cut: earlier exceptions]\n")
            break
        seen.add(id(one))
        parts.append(f"{_frames(trace)}{_final(one)}\n")
        one, sign = _earlier(one)
        if one is not None and id(one) not in seen:
            parts.append(sign)
            trace = _traceback_of(one)
    return "".join(reversed(parts))


def _earlier(error: BaseException) -> tuple[BaseException | None, str]:
    """Return the exception that `error` was raised from, and Python's words for that."""
    fields = BaseException.__dict__
    cause: BaseException | None = fields["__cause__"].__get__(error)
    if cause is not None:
        return cause, _CAUSED
    hidden = fields["__suppress_context__"].__get__(error)
    return (None if hidden else fields["__context__"].__get__(error)), _DURING


def _frames(trace: TracebackType | None) -> str:
    if trace is None:
        return ""
    number = sum(1 for _ in _walk(trace))
    left_out = max(0, number - _FIRST - _LAST)
    parts = ["Traceback (most recent call last):\n"]
    for count, one in enumerate(_walk(trace)):
        if left_out and count == _FIRST:
            parts.append(f"  [cut {left_out} frames]\n")
        if not _FIRST <= count < _FIRST + left_out:
            parts.append(_frame(one))
    return "".join(parts)


def _frame(trace: TracebackType) -> str:
    frame = trace.tb_frame
    with suppress(Exception):
        return "".join(StackSummary.extract(iter([(frame, trace.tb_lineno)])).format())
    return f'  File "{frame.f_code.co_filename}", line {trace.tb_lineno}, in {frame.f_code.co_name}\n'


def _final(error: BaseException) -> str:
    """Return the lines below a traceback: type, message, notes and the first members of a group."""
    name, message = type_name(type(error)), message_of(error)
    lines = [f"{name}: {message}" if message else name]
    with suppress(Exception):
        notes = error.__notes__[:_MAX_NOTES]
        lines += [str.__str__(note) for note in notes if isinstance(note, str)]
    if issubclass(type(error), BaseExceptionGroup):
        members = BaseExceptionGroup.__dict__["exceptions"].__get__(error)
        lines += [f"  | {type_name(type(one))}: {message_of(one)}" for one in members[:MAX_EXCEPTIONS]]
        if len(members) > MAX_EXCEPTIONS:
            lines.append(f"  | [cut {len(members) - MAX_EXCEPTIONS} exceptions]")
    return "\n".join(lines)
