"""The one engine that takes private data out of what leaves the process: by the key's name and by the value's form."""

import re
from collections.abc import Mapping
from typing import Any

REDACTED = "[redacted]"
_SECRET_KEY = re.compile(
    r"(?:^|_)(?:authorization|cookie|password|passwd|secret|token|api_?key|credential|e?mail|phone|address)s?$"
)
# Bounded repetitions: each pattern reads hostile input in linear time.
_PRIVATE_VALUES = (
    (re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}"), "[email]"),
    (re.compile(r"\beyJ[\w-]{5,2048}\.[\w-]{2,4096}\.[\w-]{2,1024}"), "[jwt]"),
    (re.compile(r"(?i)\b(bearer|basic)\s{1,4}[\w.~+/=-]{6,4096}"), r"\1 [redacted]"),
    (re.compile(r"(://[^\s:/@]{0,64}:)[^\s/@]{1,256}@"), r"\1[redacted]@"),
    (re.compile(r"\bsk-[\w-]{8,256}"), "[key]"),
)
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
DEEPEST = 8


def is_secret_key(key: str) -> bool:
    """Whether a field of this name is private whatever it holds. Case, dashes and humps do not matter."""
    return _SECRET_KEY.search(_HUMP.sub("_", key).lower().replace("-", "_")) is not None


def redact_text(text: str) -> str:
    """`text` with e-mail addresses, tokens, keys and URLs' passwords replaced."""
    for pattern, replacement in _PRIVATE_VALUES:
        text = pattern.sub(replacement, text)
    return text


def redact(value: Any, depth: int = 0) -> Any:
    """A copy of `value` without private data, at any depth; past eight levels everything is replaced."""
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, int | float | bool | None):
        return value
    if depth >= DEEPEST:
        return REDACTED
    if isinstance(value, Mapping):
        return {_redact_key(key): _redact_field(key, item, depth) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item, depth + 1) for item in value]
    return redact_text(_show(value))


def _redact_key(key: Any) -> Any:
    return redact_text(key) if isinstance(key, str) else key


def _redact_field(key: Any, value: Any, depth: int) -> Any:
    private = isinstance(key, str) and is_secret_key(key) and not _is_count(key, value)
    return REDACTED if private else redact(value, depth + 1)


def _is_count(key: str, value: Any) -> bool:
    """prompt_tokens and the like say how many, and hold none."""
    return key.endswith("_tokens") and isinstance(value, int)


def _show(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 -- an object that cannot be shown is no reason to lose the line
        return f"[{type(value).__name__}]"
