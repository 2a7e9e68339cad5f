"""Traffic and faults that produce data for every panel: responses of each kind, failures, exits and restarts."""

import asyncio
import contextlib
import signal
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import asyncpg
import httpx
from redis.asyncio import Redis

from loadtest.fake_ai import FakeAI
from tests.dashboards.clients import Clients
from tests.dashboards.prometheus import Prometheus
from tests.process.service import PATIENCE, Service

API = "/api/v1"
# The service's own, with a post-fork hook that fails in each worker.
BROKEN_HOOK = """
from pathlib import Path

from app.monitoring import tracing
from app.monitoring.metrics.catalogue import catalogue

exec(compile(Path("gunicorn_conf.py").read_text(), "gunicorn_conf.py", "exec"))


def broken(libraries):
    catalogue().exporter_restarts.inc(float("nan"))  # refused, and counted
    raise RuntimeError("broken on purpose")


tracing.instrument_libraries = broken
"""
# Nothing listens there.
LOST_SPANS = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
FEW_WRITES = {"RATE_LIMIT_WRITES": "3/minute"}
# Enough for the regular responses, but not for the additional methods at the end.
FEW_SERIES = {"MAX_SERIES_PER_METRIC": "14"}
# A lock on a table uses the pool up, and then the slots.
FEW_SLOTS = {"DATABASE_POOL_SIZE": "2", "MAX_IN_FLIGHT": "6", "MAX_QUEUED_REQUESTS": "2"}
SETTINGS = {**LOST_SPANS, **FEW_WRITES, **FEW_SERIES, **FEW_SLOTS}
NOWHERE = "/no/such/path"
PAUSE, LONG = 0.2, 2.2
PAUSE_OF_REDIS = 1500
"""Milliseconds."""
# A series appears in the first scrape and grows in the second; the third leaves time for an evaluation.
SCRAPES = 3


class Visitors:
    """A client that sends rounds of requests and counts the statuses."""

    def __init__(
        self, running: Service, server: Prometheus, fake: FakeAI, clients: Clients, stores: Mapping[str, str]
    ) -> None:
        """`stores` are DATABASE_URL and REDIS_URL; `clients` are told of each request."""
        self._clients = clients
        self._running = running
        self._stores = stores
        self._server = server
        self._fake = fake
        # One connection per request, so that any worker may accept it.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._client = httpx.AsyncClient(base_url=running.url, timeout=20, limits=limits)
        self._rounds = self._searches = 0
        self._methods = ["GET"]
        self.statuses: Counter[int] = Counter()
        fake.text = '{"days": [["tanah-lot"]]}'

    async def live(self) -> None:
        """Run all traffic and faults. Takes about twenty seconds."""
        async with self._client:
            await self._until(lambda: self._rounds >= 5)
            await self._wait_long()
            for _ in range(2):  # rate() needs a counter with an earlier sample
                await self._reload()
                await self._lose_a_worker()
            await self._lose_the_exporter()
            await self._pause_the_exporter()
            await self._spoil_a_file()
            await self._lock_the_database()
            await self._pause_redis()
            self._fake.status, self._clients.campaign.faults["ai"] = 500, 1
            await self._until(lambda: self.statuses[503] >= 10)
            self._methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
            await self._until(lambda: "baliblissed_metrics_series_refused_total{" in self._running.scrape())

    async def _until(self, reached: Callable[[], bool]) -> None:
        """Send rounds until `reached()` holds, and then until Prometheus has made SCRAPES more scrapes."""
        async with asyncio.timeout(PATIENCE):
            while not reached():
                await self._round()
            before = self._server.scrapes()
            while self._server.scrapes() < before + SCRAPES:
                await self._round()

    async def _round(self) -> None:
        """Send one round of regular requests, valid and invalid."""
        self._rounds += 1
        await asyncio.gather(
            self._send("GET", f"{API}/destinations", params={"q": "temple", "limit": 3}),
            self._send("GET", f"{API}/destinations/tanah-lot"),
            self._send("GET", f"{API}/destinations/no-such-place"),
            *(self._send(method, NOWHERE) for method in self._methods),
            self._send("POST", f"{API}/destinations/tanah-lot/reviews", json={"rating": 5, "text": "Lovely."}),
            self._send("POST", f"{API}/assistant/chat", json={"message": f"A temple, {self._rounds}?"}),
            # The first request repeats and is served from the cache; the second is new each round.
            self._plan(month=1),
            self._plan(budget=self._rounds),
            self._send_malformed(),
        )
        await asyncio.sleep(PAUSE)

    async def _send_malformed(self) -> None:
        """Send a request without Host, which the server rejects."""
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", self._running.port)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            await reader.read()
            writer.close()
            await writer.wait_closed()

    async def _wait_long(self) -> None:
        """Send a request that takes longer than the latency objective."""
        self._fake.delay = LONG
        await self._send("POST", f"{API}/assistant/chat", json={"message": "Take your time."})
        self._fake.delay = 0

    async def _reload(self) -> None:
        """Send SIGHUP and wait until every worker is replaced."""
        before = {worker.pid for worker in self._running.workers()}
        self._running.process.send_signal(signal.SIGHUP)
        await self._until(lambda: self._settled(before))

    def _settled(self, before: set[int]) -> bool:
        now = {worker.pid for worker in self._running.workers()}
        return len(now) == len(before) and not now & before

    async def _lose_a_worker(self) -> None:
        """Kill a worker and wait until the master has replaced it."""
        victim, exits = self._running.workers()[0], self._killed()
        victim.kill()
        await self._until(lambda: self._killed() > exits and victim not in self._running.workers())

    def _killed(self) -> float:
        return self._running.total("baliblissed_worker_exits_total", reason="killed")

    async def _lose_the_exporter(self) -> None:
        """Kill the exporter and wait until the master has restarted it."""
        exporter = self._running.exporter()
        assert exporter is not None
        exporter.kill()
        await self._until(lambda: (self._running.exporter() or exporter).pid != exporter.pid)

    async def _pause_the_exporter(self) -> None:
        """Stop the exporter until the rules have seen that scrapes fail, and let it go on."""
        exporter = self._running.exporter()
        assert exporter is not None
        exporter.suspend()
        try:
            await self._found("job_instance:up:service == 0")
        finally:
            exporter.resume()
        await self._found("job_instance:up:service == 1")

    async def _found(self, query: str, send: Callable[[], Awaitable[None]] | None = None) -> None:
        """Send rounds, or what `send` does, until `query` has a result."""
        async with asyncio.timeout(PATIENCE):
            while not self._server.ask("query", query=query)["result"]:
                await (send or self._round)()

    async def _lock_the_database(self) -> None:
        """Lock a table until statements have timed out, no connection was free in time, and requests were shed."""
        blocker = await asyncpg.connect(self._stores["DATABASE_URL"])
        try:
            async with blocker.transaction():
                await blocker.execute("LOCK TABLE destinations IN ACCESS EXCLUSIVE MODE")
                await asyncio.gather(*(self._give_up() for _ in range(4)))
                await self._found("job:http_slow_requests:ratio_rate5m > 0", self._stall)
                # They wait for half a second at most, so a scrape may miss them.
                await self._found("max_over_time(baliblissed_requests_queued[1m]) > 0", self._flood)
                before = self._server.scrapes()
                while self._server.scrapes() < before + SCRAPES:
                    await self._flood()
        finally:
            await blocker.close()
        await self._until(lambda: True)

    async def _stall(self) -> None:
        await asyncio.gather(self._hang(), self._flood())

    async def _flood(self) -> None:
        """Send more requests than there are slots and places in the queue."""
        await asyncio.gather(*(self._search() for _ in range(30)))

    async def _hang(self) -> None:
        """Stop a worker while it answers requests."""
        worker = self._running.workers()[0]
        await asyncio.sleep(PAUSE)
        worker.suspend()
        await asyncio.sleep(LONG)
        worker.resume()

    async def _give_up(self) -> None:
        """Send a request and do not wait for the answer."""
        path = f"{API}/destinations"
        try:
            await self._client.get(path, params={"q": "given up"}, timeout=PAUSE)
        except httpx.TransportError:
            self._clients.note("GET", path, 0, PAUSE)

    async def _pause_redis(self) -> None:
        """Have Redis answer nothing for a moment."""
        client = Redis.from_url(self._stores["REDIS_URL"])
        await client.client_pause(PAUSE_OF_REDIS)
        await client.aclose()
        await self._until(lambda: True)

    async def _spoil_a_file(self) -> None:
        """Write corrupt metrics files of exited processes and wait until they are moved away, or folded.

        In one of them only an entry is corrupt.
        """
        directory = self._running.metrics_directory
        file, folded = directory / "counter_1-00000000.db", directory / "counter_1-00000001.db"
        file.write_bytes(b"\x7f" * 4096)
        entry = struct.pack("<i4sdd", 2, b"[]  ", 1.0, 0.0)  # key and padding
        folded.write_bytes(struct.pack("<ii", 8 + len(entry), 0) + entry)
        await self._until(lambda: not file.exists() and not folded.exists())

    def _search(self) -> Awaitable[None]:
        """Search for something new, which no cache has."""
        self._searches += 1
        return self._send("GET", f"{API}/destinations", params={"q": f"nothing {self._searches}"})

    def _plan(self, **wishes: int) -> Awaitable[None]:
        return self._send("POST", f"{API}/assistant/itineraries", json={"days": 1, **wishes})

    async def _send(self, method: str, url: str, **options: Any) -> None:
        start = time.monotonic()
        async with asyncio.timeout(PATIENCE):
            answer = await self._sent(method, url, **options)
        self.statuses[answer.status_code] += 1
        self._clients.note(method, url, answer.status_code, time.monotonic() - start)

    async def _sent(self, method: str, url: str, **options: Any) -> httpx.Response:
        """Send a request, as often as a worker that exits closes its connection."""
        while True:
            try:
                return await self._client.request(method, url, **options)
            except (httpx.NetworkError, httpx.RemoteProtocolError):
                await asyncio.sleep(PAUSE)
