"""Generated keys of vendors: random values of the templates in vendor_keys.yaml, from a fixed seed."""

import base64
import json
import random
import re
import string
import uuid
from functools import cache

import yaml

from tests.monitoring.redaction.corpus import HERE

_PART = re.compile(r"<([awlUxdbgsj])(\d+)>")
_LETTERS = {
    "a": string.ascii_letters + string.digits,
    "w": string.ascii_letters + string.digits + "_-",
    "l": string.ascii_lowercase + string.digits,
    "U": string.ascii_uppercase + string.digits,
    "x": "0123456789abcdef",
    "d": string.digits,
    "b": string.ascii_letters + string.digits + "+/",
}
SAMPLES = 5
# Characters of a random part that may be left behind a replacement, such as the "-2" of dapi...-2.
MAX_LEFT = 5


@cache
def templates() -> dict[str, dict[str, list[str]]]:
    """Return the templates of `oracle` and `vendors`, by name."""
    found: dict[str, dict[str, list[str]]] = yaml.safe_load((HERE / "vendor_keys.yaml").read_text())
    return found


def made(template: str) -> list[tuple[str, list[str]]]:
    """Return keys made of `template`, each with its random parts."""
    dice = random.Random(template)  # noqa: S311 -- not a secret
    return [_one(template, dice) for _ in range(SAMPLES)]


def _one(template: str, dice: random.Random) -> tuple[str, list[str]]:
    parts: list[str] = []

    def part(match: re.Match[str]) -> str:
        parts.append(_random(match[1], int(match[2]), dice))
        return parts[-1]

    return _PART.sub(part, template), [part for part in parts if len(part) > MAX_LEFT]


def _random(kind: str, length: int, dice: random.Random) -> str:
    if kind == "g":
        return str(uuid.UUID(int=dice.getrandbits(128), version=4))
    if kind == "s":  # with a leading digit of 3 to 9 base64 of ASCII digits begins with M, N or O
        digits = "".join(dice.choices("123456789", k=length * 3 // 4))
        return base64.b64encode(digits.encode()).decode().rstrip("=")[:length].ljust(length, "A")
    if kind == "j":
        content = {"alg": "".join(dice.choices(_LETTERS["a"], k=length // 2))}
        return base64.urlsafe_b64encode(json.dumps(content, separators=(",", ":")).encode()).decode().rstrip("=")
    return "".join(dice.choices(_LETTERS[kind], k=length))
