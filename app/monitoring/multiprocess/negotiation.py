"""Content negotiation of a scrape by RFC 9110, section 12.5. No header raises: a malformed element is ignored.

prometheus-client's `choose_encoder` takes the first range that it knows, reads no weight, and raises on a version that
is quoted or no number. For the headers that Prometheus sends, both give the same answer.

A scrape that accepts none of the formats gets the text format 0.0.4, as from the library: RFC 9110 permits this in
place of 406, and whoever opens the URL with an odd client can read it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple
from urllib.parse import parse_qs

from prometheus_client.openmetrics.exposition import ALLOWUTF8, DOTS, UNDERSCORES, VALUES

VARY = "Accept, Accept-Encoding"
OPENMETRICS = "application/openmetrics-text"
TEXT = "text/plain"
_OFFERED_VERSIONS = {OPENMETRICS: ("1.0.0",), TEXT: ("0.0.4", "1.0.0")}
_ESCAPINGS = frozenset({ALLOWUTF8, UNDERSCORES, DOTS, VALUES})
# A quoted string may contain separators; one without its closing quote extends to the end.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[,;]|[^",;]++', re.DOTALL)
_WEIGHT = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")
_MEDIA_RANGE = re.compile(r"[^/\s]+/[^/\s]+")


class Form(NamedTuple):
    """A format of the exposition: media type, its version, and the escaping scheme of names.

    `escaping` is empty where the content type does not name it; names are then escaped with underscores.
    """

    media_type: str
    version: str
    escaping: str = ""

    @property
    def openmetrics(self) -> bool:
        """True for OpenMetrics, False for the Prometheus text format."""
        return self.media_type == OPENMETRICS

    @property
    def scheme(self) -> str:
        """The escaping scheme of names."""
        return self.escaping or UNDERSCORES

    @property
    def content_type(self) -> str:
        """The value of Content-Type."""
        end = f"; escaping={self.escaping}" if self.escaping else ""
        return f"{self.media_type}; version={self.version}; charset=utf-8{end}"


PLAIN = Form(TEXT, "0.0.4")
"""The default format, which every Prometheus reads."""


@dataclass(frozen=True)
class Coding:
    """The content coding of a response. `identity` is True if the client also accepts no coding."""

    gzip: bool
    identity: bool


class _Element(NamedTuple):
    """An element of Accept or Accept-Encoding: its value in lower case, parameters and weight."""

    value: str
    parameters: dict[str, str]
    weight: float


def _elements(header: str) -> Iterator[_Element]:
    """Yield the elements of a list header. Skip those that are empty or have a malformed weight."""
    for separates, tokens in groupby(_TOKEN.findall(header), ",".__eq__):
        if separates:
            continue
        parts = ["".join(part) for is_end, part in groupby([*tokens], ";".__eq__) if not is_end]
        value = parts[0].strip().lower() if parts else ""
        parameters: dict[str, str] = {}
        for part in parts[1:]:
            name, _, text = part.partition("=")
            parameters.setdefault(name.strip().lower(), _unquoted(text.strip()))
        weight = parameters.pop("q", "1")
        if value and _WEIGHT.fullmatch(weight):
            yield _Element(value, parameters, float(weight))


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL) if text[:1] == '"' == text[-1:] and text[1:] else text


def negotiate(accept: str) -> Form:
    """Return the format that the value of Accept prefers; PLAIN if it accepts none.

    The format of the highest weight wins. Of equal ones, it is the first that is named and newer than PLAIN, as in the
    library, then PLAIN. A range without a version means OpenMetrics 1.0.0 or PLAIN; an unknown escaping scheme means
    underscores.
    """
    ranges = [element for element in _elements(accept) if _MEDIA_RANGE.fullmatch(element.value)]
    named = [form for element in ranges if (form := _named(element)) is not None and form != PLAIN]
    candidates = [*dict.fromkeys([*named, PLAIN, Form(OPENMETRICS, "1.0.0")])]
    best = max(candidates, key=lambda form: _weight(form, ranges))  # the first of equal ones
    return best if _weight(best, ranges) > 0 else PLAIN


def _named(element: _Element) -> Form | None:
    """Return the format that a media range names; None for a wildcard or a format that is not offered."""
    versions = _OFFERED_VERSIONS.get(element.value)
    if versions is None:
        return None
    version = element.parameters.get("version", "")
    if not version:
        return Form(element.value, versions[0])
    if version not in versions:
        return None
    if version == PLAIN.version:
        return PLAIN
    escaping = element.parameters.get("escaping", UNDERSCORES)
    return Form(element.value, version, escaping if escaping in _ESCAPINGS else UNDERSCORES)


def _weight(form: Form, ranges: list[_Element]) -> float:
    """Return the weight of the most specific range that matches; 0 if none does."""
    kind = form.media_type.partition("/")[0]
    matching: list[tuple[int, float]] = []
    for element in ranges:
        if element.value == form.media_type:
            named = _named(element)
            if not element.parameters.get("version"):
                matching.append((2, element.weight))
            elif named is not None and (named.version, named.scheme) == (form.version, form.scheme):
                matching.append((3, element.weight))
        elif element.value == f"{kind}/*":
            matching.append((1, element.weight))
        elif element.value == "*/*":
            matching.append((0, element.weight))
    return max(matching, default=(0, 0.0))[1]


def negotiate_coding(accept_encoding: str) -> Coding:
    """Return the content coding that the value of Accept-Encoding prefers.

    Without the header there is no coding, as in the library. Neither is there if both gzip and identity are refused.
    """
    weights: dict[str, float] = {}
    for element in _elements(accept_encoding):
        weights.setdefault("gzip" if element.value == "x-gzip" else element.value, element.weight)
    others = weights.get("*")
    gzip = weights.get("gzip", others or 0.0)
    identity = weights.get("identity", others)
    if identity is None:  # acceptable, but less than what the client names
        return Coding(gzip=gzip > 0, identity=True)
    wanted = gzip > 0 and (gzip > identity or (gzip == identity and "gzip" in weights))
    return Coding(gzip=wanted, identity=identity > 0 or gzip == 0)


def requested_names(query: bytes) -> frozenset[str] | None:
    """Return the sample names that `name[]` in a query string restricts the exposition to; None without one.

    Empty values are ignored, as in the library.
    """
    found = parse_qs(query.decode("utf-8", "replace")).get("name[]")
    return None if found is None else frozenset(found)
