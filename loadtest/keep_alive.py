"""Clients on keep-alive connections at a steady rate, which never send a request twice."""

import asyncio
import contextlib
import os
import socket
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

REQUEST = b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"
ANSWER_SECONDS = 30.0
OK = 200
REFUSED = "refused"
# The kinds of failures by their exceptions; any other keeps its name.
FAILURES = {
    "ConnectionRefusedError": REFUSED,
    "ConnectionResetError": "reset",
    "BrokenPipeError": "reset",
    "IncompleteReadError": "closed",
    "TimeoutError": "no answer",
}

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Opener = Callable[[], Awaitable[Streams]]


def tcp(port: int) -> Opener:
    """Open connections to a port of this machine."""
    return lambda: asyncio.open_connection("127.0.0.1", port)


def tls(port: int) -> Opener:
    """Open TLS connections to a port of this machine, whoever has signed its certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return lambda: asyncio.open_connection("127.0.0.1", port, ssl=context)


def unix(path: Path) -> Opener:
    """Open connections to a Unix socket."""
    return lambda: asyncio.open_unix_connection(path)


@dataclass
class Results:
    """The outcome of all requests: the duration of each response in seconds, and the requests without a response."""

    seconds: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    """The exceptions as `repr`. ConnectionRefusedError is that of a request that was not written."""
    closed: int = 0
    """Connections that the server closed between two messages, or after an answer that said so."""
    announced: int = 0
    """Those of them that the answer before had announced."""
    longest_gap: float = 0.0
    """The longest time between two answers, in seconds."""
    last: float | None = None
    """time.perf_counter() at the last answer."""

    def quantile(self, share: float) -> float:
        """The time within which `share` of the answers came."""
        return sorted(self.seconds)[int(share * (len(self.seconds) - 1))]

    def failures(self) -> Counter[str]:
        """Count the requests that were not answered with 200, by kind."""
        names = [text.partition("(")[0] for text in self.failed]
        kinds = Counter(FAILURES.get(name, name) for name in names)
        kinds.update({f"status {status}": count for status, count in self.statuses.items() if status != OK})
        return kinds

    def answered(self, status: int, due: float, now: float) -> None:
        """Count an answer to a request that was due at `due`."""
        self.seconds.append(max(0.0, now - due))  # a timer of the event loop may be a moment early
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if self.last is not None:
            self.longest_gap = max(self.longest_gap, now - self.last)
        self.last = now


class _Client:
    """One connection after another, one request at a time."""

    def __init__(self, opener: Opener, path: str, results: Results) -> None:
        self._open, self._request, self._seen = opener, REQUEST % path.encode(), results
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, due: float) -> None:
        """Send a request and read its answer; its time counts from `due`, so a stall counts in full."""
        if self._writer is not None and _is_closed(self._writer):
            self._seen.closed += 1
            await self.close()
        try:
            if self._reader is None or self._writer is None:
                self._reader, self._writer = await self._open()
            self._writer.write(self._request)
            async with asyncio.timeout(ANSWER_SECONDS):
                status, closes = await _answer(self._reader)
        except (OSError, asyncio.IncompleteReadError) as error:
            self._seen.failed.append(repr(error))
            await self.close()
            return
        self._seen.answered(status, due, time.perf_counter())
        if closes:
            self._seen.closed += 1
            self._seen.announced += 1
            await self.close()

    async def close(self) -> None:
        """Close the connection."""
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()
        self._reader = self._writer = None


def _is_closed(writer: asyncio.StreamWriter) -> bool:
    """Return whether the server has closed or reset the connection. The kernel knows it before the event loop does."""
    try:
        with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as copy:
            return copy.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    lines = head.split(b"\r\n")
    headers = dict(line.split(b": ", 1) for line in lines[1:] if line)
    await reader.readexactly(int(headers.get(b"content-length", b"0")))
    return int(lines[0].split()[1]), headers.get(b"connection") == b"close"


@asynccontextmanager
async def traffic(opener: Opener, path: str, *, connections: int = 50, rate: float = 300) -> AsyncIterator[Results]:
    """Ask `path` `rate` times a second over `connections` connections meanwhile."""
    results, over, interval = Results(), asyncio.Event(), connections / rate

    async def run(number: int) -> None:
        client = _Client(opener, path, results)
        due = time.perf_counter() + interval * number / connections
        while not over.is_set():
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await client.ask(due)
            due += interval
        await client.close()

    async with asyncio.TaskGroup() as clients:
        for number in range(connections):
            clients.create_task(run(number))
        yield results
        over.set()
