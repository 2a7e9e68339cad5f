"""The corpus, the surroundings in which each of its values is tried, and what counts as a leak."""

import json
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, unquote

import yaml

HERE = Path(__file__).parent
_MARKED = re.compile("«([^»]*)»")
_NO_SIGN = re.compile(r"[\W_]+")
# So many letters and digits of a secret in a row are a leak.
TELLING = 6


def load(name: str) -> list[str]:
    """The values of a file of the corpus, of all its groups."""
    groups: dict[str, list[str]] = yaml.load((HERE / f"{name}.yaml").read_text(), yaml.BaseLoader)  # noqa: S506 -- everything is text
    return [value for group in groups.values() for value in group]


def without_marks(entry: str) -> str:
    """The value itself."""
    return entry.replace("«", "").replace("»", "")


def secrets(entry: str) -> list[str]:
    """What of an entry is private: the marked parts, or all of it."""
    return _MARKED.findall(entry) or [entry]


def raised(value: str) -> str:
    """The traceback of an error that quotes `value`."""

    def fail() -> None:
        raise ValueError(value)

    text = ""
    try:
        fail()
    except ValueError as error:
        text = "".join(traceback.format_exception(error))
    return text


# Each with a way to find the value again where it was left as it is.
SURROUNDINGS: dict[str, tuple[Callable[[str], str], Callable[[str], str]]] = {
    "alone": (str, str),
    "sentence": (lambda value: f"They wrote that {value} is theirs.", str),
    "in brackets": (lambda value: f"failed ({value}) twice", str),
    "json": (lambda value: json.dumps({"note": value, "n": 1}), lambda value: json.dumps(value)[1:-1]),
    "url": (lambda value: f"https://bali.test/find?q={quote(value)}&n=2", quote),
    "header": (lambda value: f"Host: bali.test\r\nX-Note: {value}\r\nAccept: */*", str),
    "traceback": (raised, str),
    "repr": (lambda value: f"got {value!r} here", lambda value: repr(value)[1:-1]),
}


def squashed(text: str) -> str:
    """Letters and digits of `text` alone, in lower case."""
    return _NO_SIGN.sub("", text).lower()


def leaks(secret: str, output: str) -> bool:
    """Whether a telling part of `secret` is still in `output`."""
    wanted = squashed(unquote(secret))
    found = squashed(unquote(unquote(output)))
    size = min(TELLING, len(wanted))
    return any(wanted[start : start + size] in found for start in range(len(wanted) - size + 1))
