"""The response to a scrape, the same on both ports."""

import gzip
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from .negotiation import VARY, negotiate_coding, requested_names

# Size and speed of the levels differ little on this text.
GZIP_LEVEL = 1
MIN_GZIP_BYTES = 1024
_GZIP_MAGIC = b"\x1f\x8b"
METHODS = ("GET", "HEAD", "OPTIONS")
ALLOW = ", ".join(METHODS)
"""The value of Allow on every path that there is."""


class Expose(Protocol):
    """Return the exposition in the format that `accept` selects and its content type.

    It is restricted to the samples `names`, and gzipped if `pack` and it is not small.
    """

    def __call__(self, accept: str, *, pack: bool, names: frozenset[str] | None) -> tuple[bytes, str]: ...


class Response(NamedTuple):
    """Body and header fields of a response with status 200."""

    body: bytes
    headers: dict[str, str]


def respond(expose: Expose, accept: Sequence[str], accept_encoding: Sequence[str], query: bytes) -> Response:
    """Return the response to a scrape.

    `accept` and `accept_encoding` are the values of each field of that name, in order. No header and no query raises;
    errors of `expose` do.
    """
    coding = negotiate_coding(",".join(accept_encoding))
    body, content_type = expose(",".join(accept), pack=coding.gzip, names=requested_names(query))
    is_packed = body.startswith(_GZIP_MAGIC)
    if coding.gzip and not coding.identity and not is_packed:
        body, is_packed = compressed(body), True
    headers = {"Content-Type": content_type, "Vary": VARY}
    return Response(body, {**headers, "Content-Encoding": "gzip"} if is_packed else headers)


def compressed(body: bytes) -> bytes:
    """Return `body` as a gzip member, the same for the same body."""
    return gzip.compress(body, GZIP_LEVEL, mtime=0)
