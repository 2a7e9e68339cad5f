"""The one pure-ASGI layer of ours around a request: its id, its log context, its access-log line, its last resort."""

import ipaddress
import re
import time
import uuid
from http import HTTPStatus

import structlog
from opentelemetry import trace
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import problem
from app.monitoring.logging import get_logger

# An id that others chose goes into logs and headers, so only a plain form is taken over.
_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

access = get_logger("access")
log = get_logger("request")


class ObservingMiddleware:
    """Answers X-Request-ID, binds it to every log line of the request, and logs one line when the request is over."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _SAFE_ID.fullmatch(given) else uuid.uuid4().hex
        scope["request_id"] = request_id
        # Who is at the other end of the socket, before any proxy's header is believed further in.
        scope["peer"] = scope.get("client")
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        status: int | None = None

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except Exception as error:
            log.exception("unhandled_error")
            trace.get_current_span().record_exception(error)
            if status is not None:
                raise  # half an answer is out: the server must cut the connection
            response = problem(HTTPStatus.INTERNAL_SERVER_ERROR, request_id=request_id, instance=scope["path"])
            await response(scope, receive, send_with_id)
        finally:
            self._log(scope, status, time.perf_counter() - started)

    @staticmethod
    def _log(scope: Scope, status: int | None, seconds: float) -> None:
        access.info(
            "request",
            method=scope["method"],
            route=getattr(scope.get("route"), "path", "none"),
            # nginx's number for a client that went away before there was an answer
            status=status or 499,
            duration_ms=round(seconds * 1000, 2),
            client_ip=sanitise_address(scope["client"][0] if scope.get("client") else None),
        )


def sanitise_address(address: str | None) -> str:
    """The network of an address, without its last 8 bits (IPv4) or last 80 (IPv6); "local" for anything else."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return "local"
    prefix = 24 if parsed.version == 4 else 48  # noqa: PLR2004
    return str(ipaddress.ip_network((parsed, prefix), strict=False))
