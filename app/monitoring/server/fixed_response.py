"""The bytes of a response that the server itself sends, without an application."""

from collections.abc import Iterable
from http import HTTPStatus


def fixed_response(
    status: HTTPStatus,
    headers: Iterable[tuple[bytes, bytes]],
    content_type: str,
    body: bytes,
    *,
    head: bool,
    close: bool,
    retry_after: int | None = None,
) -> bytes:
    """Return a response with `headers` before its own, without the body if the request was a HEAD.

    `retry_after` is in seconds.
    """
    lines = [f"HTTP/1.1 {status} {status.phrase}".encode()]
    lines += [name + b": " + value for name, value in headers]
    lines += [f"content-type: {content_type}".encode(), f"content-length: {len(body)}".encode()]
    if retry_after is not None:
        lines.append(f"retry-after: {retry_after}".encode())
    if close:
        lines.append(b"connection: close")
    return b"\r\n".join([*lines, b"", b"" if head else body])
