"""The JSON renderer: one event as one line of at most PIPE_BUF bytes.

Constraint: writes of several processes to one pipe are atomic up to PIPE_BUF bytes, 4,096 on Linux. Longer events are
truncated: cut values contain `...[cut]`, and the line has `"truncated": true`.
"""

import re
from bisect import bisect_right
from collections.abc import MutableMapping
from typing import Any, Final

import orjson

MAX_LINE_BYTES: Final = 4_096
CUT: Final = "...[cut]"
# Fields that correlate a line with others: they are kept before all others.
IDENTITY: Final[tuple[str, ...]] = ("timestamp", "level", "logger", "service", "request_id", "trace_id", "span_id")
_MAX_IDENTITY_BYTES = 160
_MAX_FIELDS = 40
_MIN_NESTED_BYTES = 40  # a shorter part of a nested value is omitted
# Weights of long fields when they share the available bytes.
_WEIGHTS = {"event": 2, "exception": 6, "stack": 2}
_FRAME = re.compile(r'^([ |+-]{0,80})File "[^\n]*\n(?:\1  [^\n]*\n)*', re.MULTILINE)
_SURROGATES = re.compile("[\ud800-\udfff]")


class Line(bytes):
    """A line of our renderers, which is redacted. Other bytes may be those of another renderer."""

    __slots__ = ()


def encode(event: MutableMapping[str, Any]) -> bytes:
    """Return `event` as UTF-8 JSON with a newline, at most 4,096 bytes."""
    line = _dump(event)
    return line if len(line) <= MAX_LINE_BYTES else _dump(shorten(orjson.loads(line)))


def _dump(event: MutableMapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(event, default=str, option=orjson.OPT_APPEND_NEWLINE)
    except (TypeError, ValueError):  # a key that is not a string, a lone surrogate, an integer over 64 bits
        return orjson.dumps(_plain(event), option=orjson.OPT_APPEND_NEWLINE)


def _plain(value: Any) -> Any:
    """Return `value` as JSON types; other objects become their str, or their type's name if str fails."""
    if isinstance(value, dict):
        return {_text(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**64:
        return value
    return _text(value)


def _text(value: object) -> str:
    try:
        return _SURROGATES.sub("\ufffd", str(value))
    except Exception:  # noqa: BLE001 -- one object must not lose the line
        return type(value).__name__


def shorten(event: dict[str, Any]) -> dict[str, Any]:
    """Return `event`, which has JSON types only, truncated so that its line fits."""
    kept = {key: _cut(event[key], _MAX_IDENTITY_BYTES) for key in IDENTITY if key in event}
    others = {key: value for key, value in event.items() if key not in kept and key != "truncated"}
    closing: dict[str, Any] = {"fields_left_out": len(others), "truncated": True}
    costs = {key: _cost(key, others[key]) for key in sorted(others, key=lambda key: key not in _WEIGHTS)[:_MAX_FIELDS]}
    shares = _share(costs, MAX_LINE_BYTES - _size(kept) - _size(closing))
    for key in [key for key in others if key in shares]:  # the event's order is kept
        room = shares[key] - _size(key) - 2
        if room >= min(_size(others[key]), _size(CUT)):
            kept[key] = _cut(others.pop(key), room, key)
    closing["fields_left_out"] = len(others)
    if not others:
        del closing["fields_left_out"]
    return kept | closing


def _share(costs: dict[str, int], room: int) -> dict[str, int]:
    """Return the bytes for each field: its size, or an equal share of what smaller fields leave of `room`."""
    shares = {}
    weights = {key: _WEIGHTS.get(key, 1) for key in costs}
    left = sum(weights.values())
    for key in sorted(costs, key=lambda key: costs[key] / weights[key]):
        shares[key] = min(costs[key], room * weights[key] // left)
        room -= shares[key]
        left -= weights[key]
    return shares


def _size(value: Any) -> int:
    return len(orjson.dumps(value))


def _cost(key: str, value: Any) -> int:
    """Return the bytes of one field with its colon and comma."""
    return _size(key) + _size(value) + 2


def _cut(value: Any, room: int, key: str = "") -> Any:
    """Return `value` truncated to `room` bytes of JSON, which is at least the size of the mark."""
    if _size(value) <= room:
        return value
    if isinstance(value, str):
        return _cut_traceback(value, room) if key in {"exception", "stack"} else _cut_text(value, room, 1)
    if room < _MIN_NESTED_BYTES or not isinstance(value, dict | list):
        return CUT
    return _cut_dict(value, room) if isinstance(value, dict) else _cut_list(value, room)


def _cut_dict(value: dict[str, Any], room: int) -> dict[str, Any]:
    kept = {}
    room -= _size({"...": CUT}) + 1
    for key, item in value.items():
        left = room - _size(key) - 2
        if _size(item) > left:
            if left >= _MIN_NESTED_BYTES:
                kept[key] = _cut(item, left)
            break
        kept[key] = item
        room = left - _size(item)
    return kept | {"...": CUT}


def _cut_list(value: list[Any], room: int) -> list[Any]:
    kept = []
    room -= _size([CUT]) + 1
    for item in value:
        if _size(item) > room:
            if room >= _MIN_NESTED_BYTES:
                kept.append(_cut(item, room))
            break
        kept.append(item)
        room -= _size(item) + 1
    return [*kept, CUT]


def _cut_text(text: str, room: int, head: float) -> str:
    """Return as much of `text` as fits with the mark: the share `head` from its beginning, the rest from its end."""
    if _size(text) <= room:
        return text

    def around(number: int) -> str:
        first = int(number * head)
        return text[:first] + CUT + text[len(text) - number + first :]

    most = min(len(text), room)  # a character takes at least a byte
    return around(max(0, bisect_right(range(most + 1), room, key=lambda number: _size(around(number))) - 1))


def _cut_traceback(text: str, room: int) -> str:
    """Return a traceback without its middle frames, keeping those next to the error and the error's message."""
    end = max((frame.end() for frame in _FRAME.finditer(text)), default=0)
    frames, message = text[:end], text[end:]
    message = _cut_text(message, max(room // 2, room - _size(frames)), 0.7)
    return _cut_text(frames, room - _size(message) + 2, 0.2) + message
