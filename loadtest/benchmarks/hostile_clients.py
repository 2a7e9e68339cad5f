"""Attackers of the hostile benchmark, in a process of their own: one JSON line with what they got.

    heads    connections that each send a head of 8 MB, in rounds; they go on sending after a response
    halves   connections that send a part of a head and stay open
    drips    connections that send a body at one byte a second, and open another connection after each response
    resets   connections that send a request and reset, as fast as the machine can

Outcomes are counted by connection: the status of the response; `closed` or `reset` if the server ended it without one;
`open` if it had none at the end of `--seconds`; `not connected`.
"""

import argparse
import asyncio
import contextlib
import json
import os
import resource
import socket
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, cast

import uvloop

from loadtest.benchmarks.overload_clients import REQUESTS

ADDRESS: Final = "127.0.0.1"
HEAD_BYTES, PIECE_BYTES = 8 * 2**20, 2**16
BEGIN_OF_HEAD: Final = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: "
DRIPPED_BYTES = 10_000
DRIPPED_HEAD: Final = (
    b"POST /api/v1/inquiries HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n" % DRIPPED_BYTES
)
DRIP_SECONDS = 1.0
# Connections that are being opened at a time.
MAX_OPENING = 100
RESET_THREADS = 16
CONNECT_SECONDS = 5.0
LINGER_NOT: Final = struct.pack("ii", 1, 0)  # close() resets the connection


@dataclass(frozen=True)
class Attack:
    """The service's port and the amounts."""

    port: int
    connections: int
    rounds: int
    seconds: float


class Attacker(asyncio.Protocol):
    """One connection. It stays open for writing after the server has sent the end of its side."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.ended, self.writable = asyncio.Event(), asyncio.Event()
        self.lost = False
        self._received = b""
        self._without_response = "open"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's has no base class
        self.writable.set()

    def data_received(self, data: bytes) -> None:
        self._received = (self._received + data)[:12]
        self.ended.set()

    def eof_received(self) -> bool:
        self._end("closed")
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._end("closed" if exc is None else "reset")
        self.lost = True
        self.writable.set()

    def _end(self, without_response: str) -> None:
        if not self.ended.is_set():
            self._without_response = without_response
        self.ended.set()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    @property
    def outcome(self) -> str:
        """The status of the response, or the kind of end."""
        return self._received[9:12].decode("latin-1") or self._without_response

    async def end(self, seconds: float) -> bool:
        """Return whether the server has responded or ended the connection within `seconds`."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.ended.wait(), seconds)
        return self.ended.is_set()


class Crowd:
    """Opens connections, and counts what they got."""

    def __init__(self, attack: Attack) -> None:
        self.attack = attack
        self.counts: Counter[str] = Counter()
        self._opening = asyncio.Semaphore(MAX_OPENING)
        self._deadline = time.monotonic() + attack.seconds

    @property
    def seconds_left(self) -> float:
        """The seconds until the end of the attack."""
        return max(0.0, self._deadline - time.monotonic())

    async def each(self, act: Callable[[Attacker], Awaitable[None]]) -> None:
        """Open all connections, let each act, and count its outcome."""
        await asyncio.gather(*(self.one(act) for _ in range(self.attack.connections)))

    async def one(self, act: Callable[[Attacker], Awaitable[None]]) -> None:
        """Do so with one connection."""
        loop = asyncio.get_running_loop()
        try:
            async with self._opening, asyncio.timeout(CONNECT_SECONDS):
                _, attacker = await loop.create_connection(Attacker, ADDRESS, self.attack.port)
        except OSError:  # TimeoutError too
            self.counts["not connected"] += 1
            return
        await act(attacker)
        self.counts[attacker.outcome] += 1
        attacker.transport.abort()


async def heads(crowd: Crowd) -> None:
    """Send long heads, one round after another."""
    piece = b"x" * PIECE_BYTES

    async def send(attacker: Attacker) -> None:
        attacker.transport.write(BEGIN_OF_HEAD)
        for _ in range(HEAD_BYTES // PIECE_BYTES):
            await attacker.writable.wait()
            if attacker.lost:
                break
            attacker.transport.write(piece)
        await attacker.end(crowd.seconds_left)

    for _ in range(crowd.attack.rounds):
        await crowd.each(send)


async def halves(crowd: Crowd) -> None:
    """Send parts of heads, and wait."""

    async def send(attacker: Attacker) -> None:
        attacker.transport.write(BEGIN_OF_HEAD)
        await attacker.end(crowd.seconds_left)

    await crowd.each(send)


async def drips(crowd: Crowd) -> None:
    """Send bodies slowly, until the time is over."""

    async def send(attacker: Attacker) -> None:
        attacker.transport.write(DRIPPED_HEAD)
        while crowd.seconds_left and not await attacker.end(min(DRIP_SECONDS, crowd.seconds_left)):
            attacker.transport.write(b" ")

    async def again() -> None:
        while crowd.seconds_left:
            await crowd.one(send)
            await asyncio.sleep(min(DRIP_SECONDS, crowd.seconds_left))

    await asyncio.gather(*(again() for _ in range(crowd.attack.connections)))


def resets(attack: Attack) -> Counter[str]:
    """Open, send and reset connections in threads."""
    deadline = time.monotonic() + attack.seconds

    def run(connections: range) -> Counter[str]:
        counts: Counter[str] = Counter()
        for number in connections:
            if time.monotonic() > deadline:
                break
            counts[_reset(attack.port, REQUESTS[number % len(REQUESTS)])] += 1
        return counts

    shares = [range(first, attack.connections, RESET_THREADS) for first in range(RESET_THREADS)]
    with ThreadPoolExecutor(RESET_THREADS) as pool:
        return sum(pool.map(run, shares), Counter[str]())


def _reset(port: int, request: bytes) -> str:
    with socket.socket() as connection:
        connection.settimeout(CONNECT_SECONDS)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
        try:
            connection.connect((ADDRESS, port))
        except OSError:
            return "not connected"
        try:
            connection.sendall(request)
        except OSError:
            return "reset"
        return "reset by the attacker"


ASYNCHRONOUS = {"heads": heads, "halves": halves, "drips": drips}
KINDS = (*ASYNCHRONOUS, "resets")


async def attacked(kind: str, attack: Attack) -> Counter[str]:
    """Return the outcomes of an attack of an asynchronous kind."""
    crowd = Crowd(attack)
    await ASYNCHRONOUS[kind](crowd)
    return crowd.counts


def main() -> None:
    """Attack, and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.benchmarks.hostile_clients")
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", type=float, required=True, help="the longest time of the attack")
    given = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    attack, started = Attack(given.port, given.connections, given.rounds, given.seconds), time.monotonic()
    counts = resets(attack) if given.kind == "resets" else uvloop.run(attacked(given.kind, attack))
    result = {
        "seconds": round(time.monotonic() - started, 2),
        "counts": dict(sorted(counts.items())),
        "cores": sorted(os.sched_getaffinity(0)),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
