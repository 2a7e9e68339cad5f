"""Steady traffic over keep-alive connections: reads, and writes whose acknowledgements are kept."""

import asyncio
import contextlib
import json
import random
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from loadtest.chaos.ledger import CLOSED, REFUSED, TIMEOUT, Ledger, Write

PATIENCE_SECONDS = 30.0
PREFIX = "/api/v1/destinations"
SLUGS = ("tanah-lot", "besakih-temple", "uluwatu-temple", "mount-batur", "tirta-empul", "goa-gajah")
DETAIL, LIST, REVIEWS, INQUIRIES = f"{PREFIX}/{{slug}}", PREFIX, f"{PREFIX}/{{slug}}/reviews", "/api/v1/inquiries"
CREATED = 201
# Long enough that the table grows with every few reviews, so that a full disk is noticed; too short to be compressed.
REVIEW = "Worth the way. " * 100 + "Go early."


@dataclass(frozen=True)
class Request:
    """One request; `text` identifies a write, and `key` makes its retry safe."""

    method: str
    handler: str
    path: str
    body: bytes = b""
    text: str = ""
    key: str | None = None

    def encode(self) -> bytes:
        """Return the request in HTTP/1.1."""
        lines = [f"{self.method} {self.path} HTTP/1.1", "Host: localhost"]
        if self.key is not None:
            lines.append(f"Idempotency-Key: {self.key}")
        if self.body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(self.body)}"]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


class Mix:
    """A seeded sequence of requests. Inquiries that were not acknowledged are sent again, with their key."""

    def __init__(self, run: str, seed: int) -> None:
        self._run, self._chance, self._number = run, random.Random(seed), 0  # noqa: S311 -- no secret
        self._retries: deque[Request] = deque()

    def next(self) -> Request:
        """Return the next request."""
        share, slug = self._chance.random(), self._chance.choice(SLUGS)
        if share < 0.7:  # noqa: PLR2004
            return Request("GET", DETAIL, f"{PREFIX}/{slug}")
        if share < 0.8:  # noqa: PLR2004
            return Request("GET", LIST, f"{PREFIX}?limit=5")
        if share < 0.85:  # noqa: PLR2004
            return Request("GET", REVIEWS, f"{PREFIX}/{slug}/reviews?limit=5")
        self._number += 1
        text = f"{self._run}-{self._number}"
        if share < 0.92:  # noqa: PLR2004
            text = f"{text} {REVIEW}"
            body = json.dumps({"rating": self._number % 5 + 1, "text": text}).encode()
            return Request("POST", REVIEWS, f"{PREFIX}/{slug}/reviews", body, text)
        if self._retries:
            return self._retries.popleft()
        body = json.dumps({"name": "A traveller", "email": "a@example.com", "message": text}).encode()
        return Request("POST", INQUIRIES, INQUIRIES, body, text, text)

    def retry(self, request: Request) -> None:
        """Send a write with a key again later."""
        if request.key is not None:
            self._retries.append(request)


class Traffic:
    """Clients on keep-alive connections of their own, which never send a request twice by themselves."""

    def __init__(self, port: int, mix: Mix, ledger: Ledger) -> None:
        self.port, self.mix, self.ledger = port, mix, ledger
        self.generation = 0
        self._open = asyncio.Event()
        self._open.set()

    def reconnect(self) -> None:
        """Have each client send its next request on a new connection."""
        self.generation += 1

    async def pause(self) -> None:
        """Send nothing more, and wait for what is under way."""
        self._open.clear()
        while self.ledger.in_flight:  # noqa: ASYNC110 -- looked at once after each action
            await asyncio.sleep(0.01)

    def resume(self) -> None:
        """Send requests again."""
        self._open.set()

    async def client(self, delay: float, interval: float) -> None:
        """Send a request every `interval` seconds, from `delay` seconds on."""
        loop, client = asyncio.get_running_loop(), _Client(self)
        due = loop.time() + delay
        try:
            while True:
                await asyncio.sleep(max(0.0, due - loop.time()))
                await self._open.wait()
                await client.send(self.mix.next())
                # What could not be sent meanwhile is not sent later, all at once.
                due = max(due + interval, loop.time())
        finally:
            client.close()

    async def burst(self, requests: int) -> None:
        """Send this many requests as quickly as one connection takes them."""
        client = _Client(self)
        try:
            for _ in range(requests):
                await client.send(self.mix.next())
        finally:
            client.close()


class _Client:
    def __init__(self, traffic: Traffic) -> None:
        self._traffic, self._ledger = traffic, traffic.ledger
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._generation = 0

    async def send(self, request: Request) -> None:
        """Send a request and record how it ends."""
        started = asyncio.get_running_loop().time()
        self._ledger.in_flight += 1
        kind = REFUSED
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                reader, writer = await self._connection()
                kind = CLOSED
                writer.write(request.encode())
                status, closes, body = await _answer(reader)
        except (OSError, asyncio.IncompleteReadError) as error:  # TimeoutError is an OSError
            kind = TIMEOUT if isinstance(error, TimeoutError) else kind
            self._ledger.fail(kind, request.method, request.handler, started, repr(error))
            self.close()
            self._traffic.mix.retry(request)
            return
        finally:
            self._ledger.in_flight -= 1
        self._ledger.answer(request.method, request.handler, status, started)
        if status == CREATED:
            table = "inquiries" if request.key else "reviews"
            self._ledger.writes.append(Write(table, json.loads(body)["id"], request.text, request.key))
        elif request.text:
            self._traffic.mix.retry(request)
        if closes:
            self.close()

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        stale = self._generation != self._traffic.generation
        if self._streams is not None and (stale or self._streams[0].at_eof() or self._streams[1].is_closing()):
            self.close()
        if self._streams is None:
            self._generation = self._traffic.generation
            self._streams = await asyncio.open_connection("127.0.0.1", self._traffic.port)
        return self._streams

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bool, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    first, *lines = head.split(b"\r\n")
    headers = dict(line.split(b": ", 1) for line in lines if line)
    body = await reader.readexactly(int(headers.get(b"content-length", b"0")))
    return int(first.split()[1]), headers.get(b"connection") == b"close", body


@asynccontextmanager
async def steady(traffic: Traffic, *, connections: int, rate: float) -> AsyncIterator[None]:
    """Send `rate` requests a second over `connections` connections meanwhile."""
    interval = connections / rate
    tasks = [
        asyncio.create_task(traffic.client(interval * number / connections, interval)) for number in range(connections)
    ]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()  # a client that has failed would send nothing, unnoticed
    finally:
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)
