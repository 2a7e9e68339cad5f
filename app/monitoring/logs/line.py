"""One event as one line of JSON that a pipe takes whole.

The constraint to know: writes of several processes to one pipe do not mix up to PIPE_BUF bytes, 4,096 on Linux. A
longer event is cut: what was cut carries `...[cut]`, and the line says `"truncated": true`.
"""

import re
from bisect import bisect_right
from collections.abc import MutableMapping
from typing import Any, Final

import orjson

LIMIT: Final = 4_096
CUT: Final = "...[cut]"
# What leads from a line to the rest of its story is kept before everything else.
IDENTITY: Final[tuple[str, ...]] = ("timestamp", "level", "logger", "service", "request_id", "trace_id", "span_id")
_MAX_IDENTITY_BYTES = 160
_MAX_FIELDS = 40
_MIN_NESTED_BYTES = 40  # less of a nested value than this many bytes says nothing
# Shares of the room where several fields are long.
_WEIGHTS = {"event": 2, "exception": 6, "stack": 2}
_FRAME = re.compile(r'^([ |+-]{0,80})File "[^\n]*\n(?:\1  [^\n]*\n)*', re.MULTILINE)
_SURROGATES = re.compile("[\ud800-\udfff]")


def encode(event: MutableMapping[str, Any]) -> bytes:
    """`event` as UTF-8 JSON with its newline, 4,096 bytes at most."""
    line = _dump(event)
    return line if len(line) <= LIMIT else _dump(shorten(orjson.loads(line)))


def _dump(event: MutableMapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(event, default=str, option=orjson.OPT_APPEND_NEWLINE)
    except (TypeError, ValueError):  # a key that is no string, a lone surrogate, a number over 64 bits
        return orjson.dumps(_plain(event), option=orjson.OPT_APPEND_NEWLINE)


def _plain(value: Any) -> Any:
    """`value` in what JSON has; an object that cannot even say what it is becomes its type's name."""
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
    except Exception:  # noqa: BLE001 -- a line is worth more than what one object of it says
        return type(value).__name__


def shorten(event: dict[str, Any]) -> dict[str, Any]:
    """`event`, of what JSON has, cut so that its line fits."""
    kept = {key: _cut(event[key], _MAX_IDENTITY_BYTES) for key in IDENTITY if key in event}
    others = {key: value for key, value in event.items() if key not in kept and key != "truncated"}
    closing: dict[str, Any] = {"fields_left_out": len(others), "truncated": True}
    costs = {key: _cost(key, others[key]) for key in sorted(others, key=lambda key: key not in _WEIGHTS)[:_MAX_FIELDS]}
    shares = _share(costs, LIMIT - _size(kept) - _size(closing))
    for key in [key for key in others if key in shares]:  # in their own order: lines of one kind look alike
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
    """Bytes of one field with its colon and comma."""
    return _size(key) + _size(value) + 2


def _cut(value: Any, room: int, key: str = "") -> Any:
    """`value` in `room` bytes of JSON, which are enough for the mark at least."""
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
    """As much of `text` as fits beside the mark; the share `head` of that is its beginning, the rest its end."""
    if _size(text) <= room:
        return text

    def around(number: int) -> str:
        first = int(number * head)
        return text[:first] + CUT + text[len(text) - number + first :]

    most = min(len(text), room)  # a character takes a byte at least
    return around(max(0, bisect_right(range(most + 1), room, key=lambda number: _size(around(number))) - 1))


def _cut_traceback(text: str, room: int) -> str:
    """A traceback without its middle: the frames next to the error are kept, and the error's own words."""
    end = max((frame.end() for frame in _FRAME.finditer(text)), default=0)
    frames, words = text[:end], text[end:]
    words = _cut_text(words, max(room // 2, room - _size(frames)), 0.7)
    return _cut_text(frames, room - _size(words) + 2, 0.2) + words
