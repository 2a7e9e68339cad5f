"""The corpus of private values, the contexts in which each is tested, and the check for leaks."""

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
# Number of consecutive letters and digits of a secret that count as a leak.
TELLING = 6


def load(name: str) -> list[str]:
    """Return the values of all groups in a corpus file."""
    groups: dict[str, list[str]] = yaml.load((HERE / f"{name}.yaml").read_text(), yaml.BaseLoader)  # noqa: S506 -- everything is text
    return [value for group in groups.values() for value in group]


def without_marks(entry: str) -> str:
    """Return the entry without its « » marks."""
    return entry.replace("«", "").replace("»", "")


def secrets(entry: str) -> list[str]:
    """Return the private parts of an entry: the marked ones, or the whole entry."""
    return _MARKED.findall(entry) or [entry]


def raised(value: str) -> str:
    """Return the traceback of an error whose message is `value`."""

    def fail() -> None:
        raise ValueError(value)

    text = ""
    try:
        fail()
    except ValueError as error:
        text = "".join(traceback.format_exception(error))
    return text.replace(str(HERE), "/srv")  # the directory of the tests may contain the digits of a short secret


# Each context, with the form of the value to search for if it was not redacted.
CONTEXTS: dict[str, tuple[Callable[[str], str], Callable[[str], str]]] = {
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
    """Return only the letters and digits of `text`, in lower case."""
    return _NO_SIGN.sub("", text).lower()


def leaks(secret: str, output: str) -> bool:
    """Return True if `output` contains TELLING consecutive letters and digits of `secret`, or all of a shorter one."""
    wanted = squashed(unquote(secret))
    found = squashed(unquote(unquote(output)))
    size = min(TELLING, len(wanted))
    return any(wanted[start : start + size] in found for start in range(len(wanted) - size + 1))
