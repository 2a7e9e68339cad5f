"""The base of requests and websockets: request id, peer, context for logs and traces."""

import random
import re
from contextvars import ContextVar, copy_context
from functools import lru_cache
from typing import Any

import orjson
from opentelemetry import context as contexts
from starlette.types import Receive, Scope, Send
from structlog.contextvars import STRUCTLOG_KEY_PREFIX, bind_contextvars, clear_contextvars, get_contextvars

from ..addresses import normalised_host
from ..logging import TrustedLogger, get_logger
from ..logs.deduplication import mark
from ..redaction import sanitised_address
from ..traces.lazy_tracer import LazyTracer
from ..traces.request_span import RequestSpan, RequestTracer
from .request_ids import accepted

FAILED = 500
# nginx's status for a client that disconnected before the response was complete.
CLIENT_CLOSED_REQUEST = 499
# uvicorn's message for tasks that it cancels at the end of a worker's drain: the client is still connected.
_DRAIN_TIMEOUT_MESSAGE = "Task cancelled, timeout graceful shutdown exceeded"

# All fields of these lines are created here or validated.
access = TrustedLogger("access")
log = get_logger("request")


class Entry:
    """A scope with the server's callables for receiving and sending."""

    __slots__ = ("_app", "_receive", "_received", "_scope", "_send", "_span", "_variables", "request_id")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        # A mounted application replaces "app". "router" is the outermost router, and set at this point only if the
        # layer is inside a mounted application.
        self._app = scope.get("router") or scope.get("app")
        self._received = 0
        self._span: RequestSpan | None = None

    def enter(self, tracer: RequestTracer | LazyTracer | None, id_pattern: re.Pattern[str] | None = None) -> Any:
        """Read the headers and bind the context. Return the token for `detach`."""
        scope = self._scope
        headers = scope["headers"]
        found = dict(headers)
        given = _single(headers, b"x-request-id") if b"x-request-id" in found else b""
        if b"content-length" in found:
            self._received = size(found[b"content-length"])
        self.request_id = (given and accepted(given, id_pattern)) or f"{random.getrandbits(128):032x}"
        scope["request_id"] = self.request_id
        # The socket's peer, before a middleware inside replaces it from a proxy's header.
        client = scope.get("client")
        if client and ":" in client[0]:
            scope["client"] = client = (normalised_host(client[0]), client[1])
        scope["peer"] = client
        was_empty = _clear_context()
        _REQUEST_ID.set(self.request_id)
        token = None
        if tracer is not None:
            # FastAPI's own spans are disabled in the application; this disables them in mounted applications.
            scope.setdefault("fastapi.telemetry", None)
            traceparent = _single(headers, b"traceparent") if b"traceparent" in found else None
            self._span = span = tracer.begin(scope, traceparent)
            token = None if span is None else tracer.attach(span)
        self._variables = len(copy_context()) if was_empty else -1
        return token

    def plain(self) -> bool:
        """Return True if the only log field in the context is the request id."""
        return len(copy_context()) == self._variables or len(get_contextvars()) <= 1

    def client(self) -> str:
        """Return the client's network, for the log."""
        client = self._scope.get("client")
        return sanitised_address(client[0] if client else None)


def _single(headers: list[tuple[bytes, bytes]], name: bytes) -> bytes:
    """Return the value of a header; empty if it is missing, or sent twice and therefore ambiguous."""
    values = [value for key, value in headers if key == name]
    return values[0] if len(values) == 1 else b""


def _clear_context() -> bool:
    """Clear log fields bound by earlier code in this context. Return True if there were none."""
    for variable in copy_context():
        if variable.name.startswith(STRUCTLOG_KEY_PREFIX):
            clear_contextvars()
            return False
    return True


def _variable() -> ContextVar[str]:
    """Return structlog's variable for the request id. Setting it costs a tenth of `bind_contextvars`."""
    bind_contextvars(request_id="")
    return next(variable for variable in copy_context() if variable.name == f"{STRUCTLOG_KEY_PREFIX}request_id")


_REQUEST_ID = copy_context().run(_variable)


def members(fields: dict[str, Any]) -> str:
    """Return `fields` as members of a JSON object."""
    return orjson.dumps(fields).decode()[1:-1]


@lru_cache(maxsize=1024)
def quoted(text: str) -> str:
    """Return `text` as JSON. Cached, for values that recur."""
    return orjson.dumps(text).decode()


def log_failure(error: Exception, **fields: str) -> None:
    """Log an unhandled exception with its traceback, and mark it so that the server does not log it again."""
    log.error("unhandled_error", exc_info=error, **fields)
    mark(error)


def detach(token: Any) -> None:
    """Detach the context that `enter` has attached."""
    if token is not None:
        contexts.detach(token)


def size(value: bytes) -> int:
    """Return the Content-Length; 0 if it is missing or not a plausible number."""
    return int(value) if value.isdigit() and len(value) < 16 else 0  # noqa: PLR2004 -- that would be a petabyte


def cancelled_status(error: BaseException) -> int:
    """Return the status of a request whose task was cancelled with `error`, by a shutdown or a disconnected client."""
    return FAILED if _DRAIN_TIMEOUT_MESSAGE in error.args else CLIENT_CLOSED_REQUEST
