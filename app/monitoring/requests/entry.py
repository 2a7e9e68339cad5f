"""What a request and a websocket have in common where they come in: an id, a peer, a context for logs and traces."""

import random
import re
from contextvars import ContextVar, copy_context
from functools import lru_cache
from typing import Any

import orjson
from opentelemetry import context as contexts
from starlette.types import Receive, Scope, Send
from structlog.contextvars import STRUCTLOG_KEY_PREFIX, bind_contextvars, clear_contextvars, get_contextvars

from ..logging import TrustedLogger, get_logger
from ..logs.once import mark
from ..redaction import redact_text, sanitised_address
from ..traces.lazy_tracer import LazyTracer
from ..traces.request_span import RequestSpan, RequestTracer

# An id that others chose goes into logs and headers, so only a plain form is taken over.
_SAFE_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
FAILED = 500
# nginx's number for a client that went away before there was a whole answer.
CLIENT_CLOSED_REQUEST = 499
# uvicorn cancels with this what is left when a worker's time to drain is over: the client is still there.
_TIME_IS_UP = "Task cancelled, timeout graceful shutdown exceeded"

# Whatever stands in these lines is made here, or taken over in a form that is known.
access = TrustedLogger("access")
log = get_logger("request")


class Entry:
    """One scope that has come in, with the server's two callables."""

    __slots__ = ("_app", "_receive", "_received", "_scope", "_send", "_span", "_variables", "request_id")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        # A mounted application puts itself in the place of "app". The outermost router stays, and is there on entry
        # only if the layer stands inside a mounted application.
        self._app = scope.get("router") or scope.get("app")
        self._received = 0
        self._span: RequestSpan | None = None

    def enter(self, tracer: RequestTracer | LazyTracer | None) -> Any:
        """Read the headers, bind the context; returns what `detach` wants."""
        scope = self._scope
        headers = scope["headers"]
        found = dict(headers)
        given = _only(headers, b"x-request-id") if b"x-request-id" in found else b""
        if b"content-length" in found:
            self._received = size(found[b"content-length"])
        self.request_id = (given and _taken_over(given)) or f"{random.getrandbits(128):032x}"
        scope["request_id"] = self.request_id
        # Who is at the other end of the socket, before any proxy's header is believed further in.
        scope["peer"] = scope.get("client")
        fresh = _clear_context()
        _REQUEST_ID.set(self.request_id)
        token = None
        if tracer is not None:
            # Its own spans are switched off where the application is made; this reaches those that are mounted in it.
            scope.setdefault("fastapi.telemetry", None)
            traceparent = _only(headers, b"traceparent") if b"traceparent" in found else None
            self._span = span = tracer.begin(scope, traceparent)
            token = None if span is None else tracer.attach(span)
        self._variables = len(copy_context()) if fresh else -1
        return token

    def plain(self) -> bool:
        """True if the context holds nothing for the log but the request id."""
        return len(copy_context()) == self._variables or len(get_contextvars()) <= 1

    def client(self) -> str:
        """The client's network, for the log."""
        client = self._scope.get("client")
        return sanitised_address(client[0] if client else None)


def _only(headers: list[tuple[bytes, bytes]], name: bytes) -> bytes:
    """The value of a header; nothing where it is sent twice, since nobody knows which was meant."""
    values = [value for key, value in headers if key == name]
    return values[0] if len(values) == 1 else b""


def _taken_over(given: bytes) -> str | None:
    """The caller's id, if it has a plain form and is nothing private: a card's or a telephone's number would be."""
    if not _SAFE_ID.fullmatch(given):
        return None
    request_id = given.decode()
    return request_id if redact_text(request_id) == request_id else None


def _clear_context() -> bool:
    """Forget what others have bound for the log; whether there was nothing."""
    for variable in copy_context():
        if variable.name.startswith(STRUCTLOG_KEY_PREFIX):
            clear_contextvars()
            return False
    return True


def _variable() -> ContextVar[str]:
    """structlog's own variable for a request's id: setting it is a tenth of what `bind_contextvars` costs."""
    bind_contextvars(request_id="")
    return next(variable for variable in copy_context() if variable.name == f"{STRUCTLOG_KEY_PREFIX}request_id")


_REQUEST_ID = copy_context().run(_variable)


def members(fields: dict[str, Any]) -> str:
    """`fields` as members of a JSON object."""
    return orjson.dumps(fields).decode()[1:-1]


@lru_cache(maxsize=1024)
def quoted(text: str) -> str:
    """`text` as JSON; for what comes again and again."""
    return orjson.dumps(text).decode()


def log_failure(error: Exception, **fields: str) -> None:
    """Log an unhandled exception with its traceback, and mark it so that the server does not log it again."""
    log.error("unhandled_error", exc_info=error, **fields)
    mark(error)


def detach(token: Any) -> None:
    """Undo what `enter` has attached."""
    if token is not None:
        contexts.detach(token)


def size(value: bytes) -> int:
    """Return the Content-Length; 0 if it is missing or not a plausible number."""
    return int(value) if value.isdigit() and len(value) < 16 else 0  # noqa: PLR2004 -- that would be a petabyte


def cut_short(error: BaseException) -> int:
    """The status of a request whose task was cancelled with `error`: by a shutdown, or because its client left."""
    return FAILED if _TIME_IS_UP in error.args else CLIENT_CLOSED_REQUEST
