"""One check for each kind of option, for arguments and texts of environment variables alike.

A check returns the value in the option's type, and raises UnwantedError with the form that is wanted.
"""

import re
from collections.abc import Callable, Collection, Iterable
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .addresses import normalised_network, parse_network
from .logs.levels import parse_levels

Check = Callable[[Any], Any]
Network = IPv4Network | IPv6Network
SWITCHES = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
_HOST = re.compile(r"((\*\.)?[\w-]+(\.[\w-]+)*|\[[\da-fA-F:.]+\])(:\d{1,5})?")
_NETWORKS = "want addresses or networks such as 10.0.0.0/8, separated by commas or as a tuple"


class UnwantedError(ValueError):
    """A value is of another type or form; the message says what is wanted."""


def unknown(name: str, value: object, known: Collection[str], kind: str) -> str:
    """Return the message about a name that is not known, with up to three that are close to it."""
    close = get_close_matches(name, known)
    hint = f"; the closest {'are' if len(close) > 1 else 'is'} {', '.join(close)}" if close else ""
    return f"{name}={value!r}: no such {kind}{hint}"


def number(least: float, most: float, kind: type[Any] = int) -> Check:
    """Return a check for a number of `kind` from `least` to `most`."""
    accepted = f"a number from {least:.10g} to {most:.10g}"
    wanted = f"want {accepted}"

    def check(value: object) -> Any:
        if isinstance(value, bool) or not isinstance(value, str | int | kind):
            raise UnwantedError(wanted)
        try:
            converted = kind(value)
        except (ValueError, OverflowError) as error:
            raise UnwantedError(wanted) from error
        if not least <= converted <= most:
            raise UnwantedError(wanted)
        return converted

    check.__doc__ = accepted
    return check


def one_of(*words: str) -> Check:
    """Return a check for one of `words`."""

    def check(value: object) -> Any:
        if value not in words:
            raise UnwantedError(f"want one of {', '.join(words)}")
        return value

    return check


def any_of(*words: str) -> Check:
    """Return a check for a tuple of some of `words`."""

    def check(value: object) -> tuple[Any, ...]:
        wanted = f"want a tuple of any of {', '.join(words)}"
        if isinstance(value, str) or not isinstance(value, Iterable):
            raise UnwantedError(wanted)
        chosen = tuple(value)
        if any(word not in words for word in chosen):
            raise UnwantedError(wanted)
        return chosen

    return check


def text(value: object) -> str:
    """Check a text, which may be empty."""
    if not isinstance(value, str):
        raise UnwantedError("want text")
    return value


def collector(value: object) -> str:
    """Check the address of an OTLP collector: http:// or https://, host:port, or a unix socket for gRPC."""
    given, wanted = text(value), "want the collector's address such as http://host:4317"
    if not given or re.fullmatch(r"([\w.-]+|\[[0-9a-fA-F:.]+\]):\d{1,5}|unix:/\S+", given):
        return given
    try:
        url = urlsplit(given)
        _ = url.port  # urlsplit reads it only now
    except ValueError as error:
        raise UnwantedError(wanted) from error
    if url.scheme not in {"http", "https"} or not url.hostname or re.search(r"\s", given):
        raise UnwantedError(wanted)
    return given


def name(value: object) -> str:
    """Check a text that is not blank."""
    if not isinstance(value, str) or not value.strip():
        raise UnwantedError("want a name")
    return value


def paths(value: object) -> tuple[str, ...]:
    """Check paths of URLs: a text separated by commas, or an iterable of texts. A slash at the end is dropped."""
    given = split(value) if isinstance(value, str) else value
    if not isinstance(given, Iterable) or isinstance(given, bytes):
        raise UnwantedError("want paths such as /health, separated by commas or as a tuple")
    found = tuple(given)
    for path in found:
        if not isinstance(path, str) or not re.fullmatch("/[^/?#].*", path):
            raise UnwantedError(f"{path!r}: want a path such as /health")
    return tuple(path.rstrip("/") for path in found)


def metric_prefix(value: object) -> str:
    """Check the first word of metric names."""
    if not isinstance(value, str) or not re.fullmatch("[a-zA-Z_][a-zA-Z0-9_]*", value):
        raise UnwantedError("want letters, digits and underscores, and no digit first")
    return value


def levels(value: object) -> str:
    """Check log levels, in the form of LOG_LEVEL."""
    return str(parse_levels(text(value)))


def expressions(value: object) -> str:
    """Check regular expressions separated by commas. An empty one would match everything."""
    given = text(value)
    for expression in given.split(",") if given else ():
        try:
            re.compile(expression.strip())
        except re.error as error:
            raise UnwantedError(
                f"{expression.strip()!r}: {error}: want regular expressions separated by commas"
            ) from error
        if not expression.strip():
            raise UnwantedError("an empty expression matches every URL: want regular expressions separated by commas")
    return given


def directory(value: object) -> Path:
    """Check the path of a directory, which need not exist."""
    if not isinstance(value, str | Path) or not str(value):
        raise UnwantedError("want the path of a directory")
    return Path(value)


def switch(value: object) -> bool:
    """Check a bool or a word for one."""
    found = value if isinstance(value, bool) else SWITCHES.get(str(value).strip().lower())
    if found is None or not isinstance(value, bool | str):
        raise UnwantedError("want true or false")
    return found


def networks(value: object) -> tuple[Network, ...]:
    """Check networks: a text separated by commas, or an iterable of texts and networks."""
    parts = split(value) if isinstance(value, str) else value
    if not isinstance(parts, Iterable) or isinstance(parts, bytes):
        raise UnwantedError(_NETWORKS)
    return tuple(map(_network, parts))


def hosts(value: object) -> tuple[str, ...]:
    """Check names of hosts, with a port or without: a text separated by commas, or an iterable of texts."""
    given = split(value) if isinstance(value, str) else value
    wanted = "want hosts such as ai.internal, ai.internal:8443 or *.internal, separated by commas or as a tuple"
    if not isinstance(given, Iterable) or isinstance(given, bytes):
        raise UnwantedError(wanted)
    found = tuple(given)
    for host in found:
        if not isinstance(host, str) or not _HOST.fullmatch(host):
            raise UnwantedError(f"{host!r}: {wanted}")
    # Without a port, an address has no brackets in a request's URL.
    return tuple(host.lower().strip("[]") if host.endswith("]") else host.lower() for host in found)


def _network(part: object) -> Network:
    if isinstance(part, IPv4Network | IPv6Network):
        return normalised_network(part)
    try:
        # As text: a number or an address object is no form that the documentation has.
        return parse_network(text(part))
    except ValueError as error:
        raise UnwantedError(f"{_NETWORKS}: {part!r}: {error}") from error


def proxies(value: object) -> str:
    """Check addresses and networks of proxies, separated by commas, or `*` for any peer."""
    given = text(value)
    for part in () if given.strip() == "*" else split(given):
        try:
            parse_network(part)
        except ValueError as error:
            wanted = "want addresses or networks such as 10.0.0.0/8, separated by commas, or * alone"
            raise UnwantedError(f"{part!r}: {wanted}") from error
    return given


def split(value: str) -> tuple[str, ...]:
    """Return the words of a text separated by commas."""
    return tuple(part.strip() for part in value.split(",") if part.strip())
