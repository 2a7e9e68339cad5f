"""The limits of a worker's connections, and the responses to messages that exceed one."""

from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from ..options import Options
from .fixed_response import fixed_response


@dataclass(frozen=True)
class Limits:
    """The options of `Options` that concern connections, under the same names."""

    max_header_bytes: int = Options.max_header_bytes
    max_header_fields: int = Options.max_header_fields
    header_timeout: int = Options.header_timeout
    body_timeout: int = Options.body_timeout
    min_body_rate: int = Options.min_body_rate
    max_connections: int = Options.max_connections
    overload_exempt_paths: tuple[str, ...] = Options.overload_exempt_paths

    @classmethod
    def of(cls, options: Options) -> "Limits":
        """Return the limits of a service."""
        return cls(
            options.max_header_bytes,
            options.max_header_fields,
            options.header_timeout,
            options.body_timeout,
            options.min_body_rate,
            options.max_connections,
            options.overload_exempt_paths,
        )

    def exempts(self, path: str) -> bool:
        """Return whether a path is one of `overload_exempt_paths` or below one."""
        return any(path == prefix or path.startswith(f"{prefix.rstrip('/')}/") for prefix in self.overload_exempt_paths)


@dataclass(frozen=True)
class Refusal:
    """The response to a message that is not served. `reason` is the label of the counter."""

    reason: str
    status: HTTPStatus
    text: str
    retry_after: int | None = None

    def response(self, headers: Iterable[tuple[bytes, bytes]], *, head: bool) -> bytes:
        """Return the bytes of the response, which announces the close. `headers` are those of every response."""
        return fixed_response(
            self.status,
            headers,
            "text/plain; charset=utf-8",
            self.text.encode(),
            head=head,
            close=True,
            retry_after=self.retry_after,
        )


class RefusedError(Exception):
    """Raised in a callback of the parser, to stop it."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.text)
        self.refusal = refusal


_TOO_LARGE = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
HEADER_BYTES: Final = Refusal("header_bytes", _TOO_LARGE, "Request head too large.")
HEADER_FIELDS: Final = Refusal("header_fields", _TOO_LARGE, "Too many header lines.")
HEADER_TIMEOUT: Final = Refusal("header_timeout", HTTPStatus.REQUEST_TIMEOUT, "The request head took too long.")
BODY_TIMEOUT: Final = Refusal("body_timeout", HTTPStatus.REQUEST_TIMEOUT, "The request body took too long.")
MALFORMED: Final = Refusal("malformed", HTTPStatus.BAD_REQUEST, "Invalid HTTP request received.")
HOST: Final = Refusal("host", HTTPStatus.BAD_REQUEST, "Want one Host header.")
NOT_IMPLEMENTED: Final = Refusal("not_implemented", HTTPStatus.NOT_IMPLEMENTED, "Not implemented.")
NO_ROOM: Final = Refusal("max_connections", HTTPStatus.SERVICE_UNAVAILABLE, "Too many connections.", retry_after=1)
# Connections that are closed to make room for others, and those whose client does not read the end of a response.
EVICTED: Final = "evicted"
UNREAD: Final = "response_unread"
_REFUSALS = (HEADER_BYTES, HEADER_FIELDS, HEADER_TIMEOUT, BODY_TIMEOUT, MALFORMED, HOST, NOT_IMPLEMENTED, NO_ROOM)
REASONS: Final = (*(refusal.reason for refusal in _REFUSALS), EVICTED, UNREAD)
"""Reasons for which connections are rejected."""
