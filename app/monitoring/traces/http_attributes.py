"""Attributes of request spans, by OpenTelemetry's semantic conventions for HTTP servers.

Paths, queries, hosts and user agents are left as they are: the exporter redacts them. Addresses of clients are cut to
their networks here, as in the log.
"""

import re
from functools import lru_cache
from typing import Final

from opentelemetry.util.types import AttributeValue
from starlette.types import Scope

from ..metrics.http import METHODS, known_method
from ..redaction import sanitised_address
from ..tracebacks import type_name
from .span_redaction import MAX_VALUE_LENGTH

SERVER_ERROR: Final = 500
MAX_METHOD_LENGTH: Final = 64
HOST: Final = re.compile(r"[\w.:\[\]-]+", re.ASCII)
# A name, an IPv4 address or an IPv6 address in brackets, with or without a port.
_HOST_AND_PORT = re.compile(rb"(?:\[([0-9A-Fa-f:.]{2,45})\]|([\w.-]{1,253}))(?::(\d{1,5}))?")


def method_of(scope: Scope) -> str:
    """Return the request's method; the handshake of a websocket is a GET."""
    return str(scope.get("method", "GET"))


def span_name(scope: Scope) -> str:
    """Return the span's name before its route is known."""
    method = method_of(scope)
    return method if method in METHODS else "HTTP"


def request_attributes(scope: Scope) -> dict[str, AttributeValue]:
    """Return the attributes that are known when a request begins."""
    method = method_of(scope)
    known = known_method(method)
    found: dict[str, AttributeValue] = {
        "http.request.method": known,
        "url.scheme": scope.get("scheme", "http"),
        "url.path": scope["path"][:MAX_VALUE_LENGTH],
        "network.protocol.version": scope.get("http_version", "1.1"),
    }
    if known != method:
        found["http.request.method_original"] = method[:MAX_METHOD_LENGTH]
    query = scope.get("query_string")
    if query:
        found["url.query"] = query.decode("latin-1")[:MAX_VALUE_LENGTH]
    _add_addresses(found, scope)
    host = None
    for name, value in scope["headers"]:
        if name == b"host":
            host = value
        elif name == b"user-agent":
            found["user_agent.original"] = value.decode("latin-1")[:MAX_VALUE_LENGTH]
    _add_server(found, scope, host)
    return found


def result_attributes(handler: str | None, status: int, error: BaseException | None) -> dict[str, AttributeValue]:
    """Return the attributes that are known when a request ends."""
    found: dict[str, AttributeValue] = {"http.response.status_code": status}
    if handler is not None:
        found["http.route"] = handler
    if status >= SERVER_ERROR:
        found["error.type"] = str(status) if error is None else type_name(type(error))
    return found


def client_address(scope: Scope) -> dict[str, AttributeValue]:
    """Return the network of the client as an attribute, nothing for a server on a Unix socket."""
    client = scope.get("client")
    return {"client.address": sanitised_address(client[0])} if client else {}


def _add_addresses(found: dict[str, AttributeValue], scope: Scope) -> None:
    """Add the networks of the client, as trusted proxies name it, and of the peer of the socket."""
    found.update(client_address(scope))
    peer = scope.get("peer", scope.get("client"))
    if peer:
        found["network.peer.address"] = sanitised_address(peer[0])


def _add_server(found: dict[str, AttributeValue], scope: Scope, host: bytes | None) -> None:
    """Add host and port of the Host header; without a valid one, the server's own address."""
    address, port = (_parsed(host) if host else None) or scope.get("server") or (None, None)
    if address:
        found["server.address"] = address
        if port:
            found["server.port"] = port


@lru_cache(maxsize=256)
def _parsed(host: bytes) -> tuple[str, int | None] | None:
    """Return name and port of a Host header, None if it is not valid."""
    match = _HOST_AND_PORT.fullmatch(host)
    return match and ((match[1] or match[2]).decode(), int(match[3]) if match[3] else None)
