"""Clients of the overload benchmark, in a process of their own: one JSON line with what came of their requests.

With a rate the loop is open: requests are due at their times whatever the service does, over as many connections as it
takes up to a maximum, and each duration counts from the time that it was due. Without one the loop is closed: each
connection sends the next request when it has the response to the last. `Retry-After` is ignored:
each request stands for another client.
"""

import argparse
import asyncio
import json
import re
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import cast

import uvloop

from loadtest.benchmarks.command import Figures

# In the shares of loadtest/locustfile.py; the second is answered by the cache, the others by the database.
PATHS = (
    *["/api/v1/destinations?q=temple&limit=10", "/api/v1/destinations/tanah-lot"] * 2,
    "/api/v1/destinations/tanah-lot/reviews",
)
HEAD = "GET {} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\nUser-Agent: overload\r\n\r\n"
REQUESTS = tuple(HEAD.format(path).encode() for path in PATHS)
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
RETRY_AFTER = re.compile(rb"\r\nretry-after: *[1-9]", re.IGNORECASE)
# In the counts: rejections without Retry-After.
WITHOUT_RETRY_AFTER = "503 without Retry-After"
END_OF_HEAD = b"\r\n\r\n"
TICK_SECONDS = 0.002
# The latency objective in seconds.
OBJECTIVE_SECONDS = 2.0


@dataclass
class Ledger:
    """The outcomes: durations of accepted and of rejected requests in seconds, and a count of everything."""

    accepted: list[float] = field(default_factory=list)
    rejected: list[float] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def figures(self, seconds: float) -> Figures:
        """Return the figures of a run of `seconds`."""
        return {
            "seconds": round(seconds, 2),
            "offered_per_second": round(self.counts["due"] / seconds, 1),
            "accepted_per_second": round(len(self.accepted) / seconds, 1),
            "in_time_per_second": round(sum(one <= OBJECTIVE_SECONDS for one in self.accepted) / seconds, 1),
            "accepted_ms": quantiles(self.accepted),
            "rejected_ms": quantiles(self.rejected),
            "counts": dict(sorted(self.counts.items())),
        }


def quantiles(durations: list[float]) -> dict[str, float | None]:
    """Return P50, P99 and the maximum in milliseconds; None without durations."""
    ordered = sorted(durations)
    if not ordered:
        return {"p50": None, "p99": None, "max": None}
    places = {"p50": len(ordered) // 2, "p99": min(len(ordered) * 99 // 100, len(ordered) - 1), "max": -1}
    return {name: round(ordered[place] * 1000, 1) for name, place in places.items()}


class Connection(asyncio.Protocol):
    """One connection, with at most one request at a time."""

    transport: asyncio.Transport | None = None

    def __init__(self, clients: "Clients") -> None:
        self._clients = clients
        self._received = b""
        self._due: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's has no base class

    @property
    def waits(self) -> bool:
        """True while a request has no response."""
        return self._due is not None

    def send(self, due: float) -> None:
        """Send the next request."""
        self._due = due
        if self.transport is not None:
            self.transport.write(self._clients.next_request())

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(END_OF_HEAD)
        found = LENGTH.search(self._received, 0, end) if end >= 0 else None
        if found is None or len(self._received) < end + len(END_OF_HEAD) + int(found[1]):
            return
        status, due = self._received[9:12].decode(), self._due
        if status == "503" and RETRY_AFTER.search(self._received, 0, end) is None:
            self._clients.ledger.counts[WITHOUT_RETRY_AFTER] += 1
        self._received, self._due = b"", None
        if due is not None:
            self._clients.answered(self, status, due)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- the signature is asyncio's
        if self._due is not None:
            self._clients.ledger.counts["closed"] += 1
        self._clients.lost(self)


class Clients:
    """The connections and what came of their requests."""

    def __init__(self, port: int, connections: int, rate: float) -> None:
        self.ledger = Ledger()
        self._port, self._most, self._rate = port, connections, rate
        self._idle: deque[Connection] = deque()
        self._open: set[Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._number, self._ending = 0, False

    def next_request(self) -> bytes:
        self._number += 1
        return REQUESTS[self._number % len(REQUESTS)]

    async def run(self, seconds: float) -> Figures:
        """Send for `seconds`, wait for what is under way, and close every connection."""
        started = time.perf_counter()
        if self._rate:
            await self._keep_rate(started, seconds)
        else:
            await asyncio.gather(*(self._open_one(time.perf_counter()) for _ in range(self._most)))
            self.ledger.counts["due"] += self._most
            await asyncio.sleep(max(0.0, started + seconds - time.perf_counter()))
        self._ending = True
        self.ledger.counts["unanswered"] = sum(connection.waits for connection in self._open)
        figures = self.ledger.figures(time.perf_counter() - started)
        for connection in list(self._open):
            if connection.transport is not None:
                connection.transport.abort()
        return figures

    async def _keep_rate(self, started: float, seconds: float) -> None:
        sent, total = 0, int(self._rate * seconds)
        while sent < total:
            elapsed = time.perf_counter() - started
            for number in range(sent, min(total, int(elapsed * self._rate) + 1)):
                self._send(started + number / self._rate)
                sent = number + 1
            await asyncio.sleep(TICK_SECONDS)

    def _send(self, due: float) -> None:
        """Send on a connection that has been idle for longest, on a new one, or count that there is none."""
        self.ledger.counts["due"] += 1
        if self._idle:
            self._idle.popleft().send(due)
        elif len(self._open) + len(self._opening) < self._most:
            task = asyncio.get_running_loop().create_task(self._open_one(due))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        else:
            self.ledger.counts["all connections busy"] += 1

    async def _open_one(self, due: float) -> None:
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: Connection(self), "127.0.0.1", self._port
            )
        except OSError:
            self.ledger.counts["not connected"] += 1
            return
        self._open.add(connection)
        connection.send(due)

    def answered(self, connection: Connection, status: str, due: float) -> None:
        """Account for a response."""
        now = time.perf_counter()
        self.ledger.counts[status] += 1
        if status.startswith("2"):
            self.ledger.accepted.append(now - due)
        elif status == "503":
            self.ledger.rejected.append(now - due)
        if self._rate:
            self._idle.append(connection)
        elif not self._ending:
            self.ledger.counts["due"] += 1
            connection.send(now)

    def lost(self, connection: Connection) -> None:
        """Forget a closed connection; a closed loop opens another one."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if not self._rate and not self._ending:
            self.ledger.counts["due"] += 1
            task = asyncio.get_running_loop().create_task(self._open_one(time.perf_counter()))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtest.benchmarks.overload_clients")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second; without it the loop is closed")
    return parser.parse_args()


if __name__ == "__main__":
    given = _arguments()
    clients = Clients(given.port, given.connections, given.rate)
    print(json.dumps(uvloop.run(clients.run(given.seconds))))
