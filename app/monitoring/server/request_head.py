"""Checks of a request's head beyond those of the parser (RFC 9112)."""

from urllib.parse import unquote

import httptools

from .limits import HEADER_BYTES, HOST, NOT_IMPLEMENTED, RefusedError

Headers = list[tuple[bytes, bytes]]
OLD_VERSIONS = frozenset({"0.9", "1.0"})


def check_size(url: bytes, headers: Headers, limit: int) -> None:
    """Raise RefusedError if the head is larger than `limit` bytes. Names and values count without blanks between."""
    if len(url) + sum(len(name) + len(value) for name, value in headers) > limit:
        raise RefusedError(HEADER_BYTES)


def checked_fields(headers: Headers, version: str) -> dict[bytes, bytes]:
    """Return the headers by name. Raise RefusedError unless there is one Host and the only coding is chunked."""
    fields = dict(headers)
    if len(fields) != len(headers):  # a name is repeated
        if sum(name == b"host" for name, _ in headers) > 1:
            raise RefusedError(HOST)
        codings = [value for name, value in headers if name == b"transfer-encoding"]
        if codings:
            fields[b"transfer-encoding"] = b",".join(codings)
    if b"host" not in fields and version not in OLD_VERSIONS:
        raise RefusedError(HOST)
    if fields.get(b"transfer-encoding", b"chunked").strip().lower() != b"chunked":
        raise RefusedError(NOT_IMPLEMENTED)
    return fields


def split_target(url: bytes) -> tuple[str, bytes, bytes]:
    """Return the path, raw path and query of a target. Raise HttpParserInvalidURLError if it cannot be parsed."""
    if url.startswith(b"/") and b"#" not in url:
        raw, _, query = url.partition(b"?")
    else:
        parsed = httptools.parse_url(url)
        raw, query = parsed.path or b"/", parsed.query or b""
    path = raw.decode("ascii")
    return unquote(path) if "%" in path else path, raw, query


def without_upgrade(method: bytes, url: bytes, version: str, headers: Headers) -> bytes:
    """Return the head without its offer to upgrade, which a server may ignore (RFC 9110, 7.8)."""
    lines = [b"%b %b HTTP/%b" % (method, url, version.encode())]
    lines += [name + b": " + value for name, value in headers if name != b"upgrade"]
    return b"\r\n".join([*lines, b"", b""])
