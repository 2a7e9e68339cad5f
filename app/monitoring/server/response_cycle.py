"""One request and its response on a connection: the head and the first piece of the body leave in one write."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from uvicorn._types import ASGI3Application, ASGISendEvent, HTTPResponseBodyEvent, HTTPResponseStartEvent
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import (
    HEADER_RE,
    HEADER_VALUE_RE,
    STATUS_LINE,
    RequestResponseCycle,
)
from uvicorn.protocols.utils import get_client_addr, get_path_with_query_string

if TYPE_CHECKING:
    from .limited_protocol import LimitedProtocol

# Larger pieces of a body are written on their own instead of being copied.
MAX_JOINED_BYTES = 1 << 16
WITHOUT_BODY = frozenset({204, 304})
CONTROLS = frozenset({b"content-length", b"transfer-encoding", b"connection"})
MAX_NAMES = 1024
# Names of headers that have been checked, with their lower-case form.
_NAMES: dict[bytes, bytes] = {}
_nothing: Callable[[], None] = lambda: None  # noqa: E731 -- as Uvicorn's


class ResponseCycle(RequestResponseCycle):
    """Uvicorn's cycle, which writes the head and the body separately: two system calls and two segments a response.

    The head is held back until the first piece of the body, at most until the next iteration of the event loop.
    """

    disconnected = response_started = response_complete = False
    has_body = False
    """True if the head announces a body."""
    more_body = True
    chunked_encoding: bool | None = None
    expected_content_length = 0
    _held = b""

    def __init__(self, protocol: "LimitedProtocol", *, expects_continue: bool, keep_alive: bool) -> None:
        # Not super().__init__, which takes eleven arguments.
        self.scope = protocol.scope
        self.transport = protocol.transport
        self.flow = protocol.flow
        self.logger = protocol.logger
        self.access_log = protocol.access_log
        self.access_logger = protocol.access_logger
        self.default_headers = protocol.server_state.default_headers
        self.message_event = asyncio.Event()
        self.on_response = protocol.on_response_complete
        self.keep_alive = keep_alive
        self.waiting_for_100_continue = expects_continue
        self.body = bytearray()
        self._loop = protocol.loop

    @property
    def lacks_body(self) -> bool:
        """True until the body has come, or as much of it as is read before the application asks."""
        return self.more_body and len(self.body) <= HIGH_WATER_LIMIT

    async def run_asgi(self, app: ASGI3Application) -> None:
        """Run the application. A response that it does not complete is sent or cut."""
        result: Any = None
        try:
            result = await app(self.scope, self.receive, self.send)  # type: ignore[func-returns-value]
        except BaseException as error:
            self.logger.error("Exception in ASGI application\n", exc_info=error)  # noqa: TRY400 -- of any exception
            await self._end()
        else:
            if result is not None:
                self.logger.error("ASGI callable should return None, but returned '%s'.", result)
                self._close()
            elif not self.response_complete and not self.disconnected:
                step = "completing" if self.response_started else "starting"
                self.logger.error("ASGI callable returned without %s response.", step)
                await self._end()
        finally:
            self.on_response = _nothing

    async def _end(self) -> None:
        if self.response_started:
            self._close()
        else:
            await self.send_500_response()

    def _close(self) -> None:
        """Cut the response. Do nothing after its end: the connection may serve another request."""
        if not self.response_complete:
            self._flush()
            self.transport.close()

    async def send(self, message: ASGISendEvent) -> None:
        """Send one message of the application."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if not self.response_started:
            if message["type"] != "http.response.start":
                raise RuntimeError(f"Expected ASGI message 'http.response.start', but got '{message['type']}'.")
            self._start(message)
        elif not self.response_complete:
            if message["type"] != "http.response.body":
                raise RuntimeError(f"Expected ASGI message 'http.response.body', but got '{message['type']}'.")
            self._continue(message)
        else:
            raise RuntimeError(f"Unexpected ASGI message '{message['type']}' sent, after response already completed.")

    def _start(self, message: HTTPResponseStartEvent) -> None:
        """Make the head, and hold it back until the body or the next iteration of the event loop."""
        self.response_started = True
        if self.waiting_for_100_continue:
            self.waiting_for_100_continue = False
            # Without 100 Continue a client may send the body or not, so what would follow is not known.
            self.keep_alive = self.keep_alive and not self.more_body
        status = message["status"]
        if self.access_log:
            client, target = get_client_addr(self.scope), get_path_with_query_string(self.scope)
            method, version = self.scope["method"], self.scope["http_version"]
            self.access_logger.info('%s - "%s %s HTTP/%s" %d', client, method, target, version, status)
        lines = [STATUS_LINE[status]]
        announced = False
        for name, value in (*self.default_headers, *message.get("headers", ())):
            known = _NAMES.get(name) or _lowered(name)
            if HEADER_VALUE_RE.search(value):
                raise RuntimeError("Invalid HTTP header value.")
            if known in CONTROLS:
                announced = self._control(known, value) or announced
            lines += (known, b": ", value, b"\r\n")
        if not self.keep_alive and not announced:
            lines.append(b"connection: close\r\n")
        if self.chunked_encoding is None and self.scope["method"] != "HEAD" and status not in WITHOUT_BODY:
            self.chunked_encoding = True
            lines.append(b"transfer-encoding: chunked\r\n")
        lines.append(b"\r\n")
        self._held = b"".join(lines)
        self._loop.call_soon(self._flush)

    def _control(self, name: bytes, value: bytes) -> bool:
        """Evaluate a header that controls the connection. Return whether it announces the close."""
        if name == b"content-length":
            if self.chunked_encoding is None:
                self.expected_content_length = int(value)
                self.chunked_encoding = False
        elif name == b"transfer-encoding":
            if value.lower() == b"chunked":
                self.expected_content_length = 0
                self.chunked_encoding = True
        elif b"close" in [token.strip() for token in value.lower().split(b",")]:
            self.keep_alive = False
            return True
        return False

    def _flush(self) -> None:
        """Write the head if it is still held back."""
        if self._held:
            head, self._held = self._held, b""
            if not self.disconnected:
                self.transport.write(head)

    def _continue(self, message: HTTPResponseBodyEvent) -> None:
        """Write a piece of the body, behind the head if that is held back. Complete the response after the last."""
        body, more = message.get("body", b""), message.get("more_body", False)
        if self.scope["method"] == "HEAD":
            self.expected_content_length, body = 0, b""
        elif self.chunked_encoding:
            start = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            body = start if more else start + b"0\r\n\r\n"
        elif len(body) > self.expected_content_length:
            raise RuntimeError("Response content longer than Content-Length")
        else:
            self.expected_content_length -= len(body)
        if self._held and len(body) <= MAX_JOINED_BYTES:
            body, self._held = self._held + body, b""
        self._flush()
        self.transport.write(body)
        if more:
            return
        if self.expected_content_length:
            raise RuntimeError("Response content shorter than Content-Length")
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


def _lowered(name: bytes) -> bytes:
    """Return the lower-case form of a header's name. Raise RuntimeError if it is none."""
    if HEADER_RE.search(name):
        raise RuntimeError("Invalid HTTP header name.")
    lowered = name.lower()
    if len(_NAMES) < MAX_NAMES:
        _NAMES[name] = lowered
    return lowered
