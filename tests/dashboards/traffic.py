"""A short life with everything in it that the dashboards draw: answers of all kinds, failures, exits, restarts."""

import asyncio
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from loadtest.fake_ai import FakeAI
from tests.dashboards.prometheus import Prometheus
from tests.process.service import PATIENCE, Service

API = "/api/v1"
# Post-fork fails on it in each worker: a hook error as one has it after a typing mistake in the environment.
BROKEN_TRACING = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_COMPRESSION": "no-such"}
FEW_WRITES = {"RATE_LIMIT_WRITES": "3/minute"}
# Enough for each kind of answer that visitors get, and not for the methods that are tried at the end.
FEW_SERIES = {"MAX_SERIES_PER_METRIC": "14"}
SETTINGS = {**BROKEN_TRACING, **FEW_WRITES, **FEW_SERIES}
NOWHERE = "/no/such/path"
PAUSE = 0.2
# A series that is new in the first has grown in the second, and an evaluation lies between that and the third.
SCRAPES = 3


class Visitors:
    """Sends rounds of requests and counts the statuses."""

    def __init__(self, running: Service, server: Prometheus, fake: FakeAI) -> None:
        self._running = running
        self._server = server
        self._fake = fake
        # A connection for each request: any worker may get it.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._client = httpx.AsyncClient(base_url=running.url, timeout=20, limits=limits)
        self._rounds = 0
        self._methods = ["GET"]
        self.statuses: Counter[int] = Counter()
        fake.text = '{"days": [["tanah-lot"]]}'

    async def live(self) -> None:
        """The whole life, some twenty seconds."""
        async with self._client:
            await self._until(lambda: self._rounds >= 5)
            await self._wait_long()
            for _ in range(2):  # a rate needs a counter that has counted before
                await self._reload()
                await self._lose_a_worker()
            await self._lose_the_exporter()
            await self._spoil_a_file()
            self._fake.status = 500
            await self._until(lambda: self.statuses[503] >= 10)
            self._methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
            await self._until(lambda: "baliblissed_metrics_series_refused_total{" in self._running.scrape())

    async def _until(self, reached: Callable[[], bool]) -> None:
        """Rounds for as long as it takes, and then for as long as Prometheus needs to see it."""
        async with asyncio.timeout(PATIENCE):
            while not reached():
                await self._round()
            before = self._server.scrapes()
            while self._server.scrapes() < before + SCRAPES:
                await self._round()

    async def _round(self) -> None:
        """What visitors do all the time, good and bad."""
        self._rounds += 1
        await asyncio.gather(
            self._send("GET", f"{API}/destinations", params={"q": "temple", "limit": 3}),
            self._send("GET", f"{API}/destinations/tanah-lot"),
            self._send("GET", f"{API}/destinations/no-such-place"),
            *(self._send(method, NOWHERE) for method in self._methods),
            self._send("POST", f"{API}/destinations/tanah-lot/reviews", json={"rating": 5, "text": "Lovely."}),
            self._send("POST", f"{API}/assistant/chat", json={"message": f"A temple, {self._rounds}?"}),
            # Two days' wishes come again and are answered by the cache, the others are new.
            self._plan(month=1),
            self._plan(budget=self._rounds),
        )
        await asyncio.sleep(PAUSE)

    async def _wait_long(self) -> None:
        """One answer takes longer than the objective."""
        self._fake.delay = 2.2
        await self._send("POST", f"{API}/assistant/chat", json={"message": "Take your time."})
        self._fake.delay = 0

    async def _reload(self) -> None:
        """Every worker is replaced."""
        before = {worker.pid for worker in self._running.workers()}
        self._running.process.send_signal(signal.SIGHUP)
        await self._until(lambda: self._settled(before))

    def _settled(self, before: set[int]) -> bool:
        now = {worker.pid for worker in self._running.workers()}
        return len(now) == len(before) and not now & before

    async def _lose_a_worker(self) -> None:
        """A worker is killed, and replaced by the master."""
        victim, exits = self._running.workers()[0], self._killed()
        victim.kill()
        await self._until(lambda: self._killed() > exits and victim not in self._running.workers())

    def _killed(self) -> float:
        return self._running.total("baliblissed_worker_exits_total", reason="killed")

    async def _lose_the_exporter(self) -> None:
        """The exporter is killed, and started again by the master."""
        exporter = self._running.exporter()
        assert exporter is not None
        exporter.kill()
        await self._until(lambda: (self._running.exporter() or exporter).pid != exporter.pid)

    async def _spoil_a_file(self) -> None:
        """A file of a process that is long gone turns out to be garbage, and is set aside."""
        file = self._running.metrics_directory / "counter_1-00000000.db"
        file.write_bytes(b"\x7f" * 4096)
        await self._until(lambda: not file.exists())

    def _plan(self, **wishes: int) -> Awaitable[None]:
        return self._send("POST", f"{API}/assistant/itineraries", json={"days": 1, **wishes})

    async def _send(self, method: str, url: str, **options: Any) -> None:
        try:
            answer = await self._client.request(method, url, **options)
        except (httpx.NetworkError, httpx.RemoteProtocolError):
            # A worker that leaves closes what has not asked yet; who meets that asks again, as clients do.
            answer = await self._client.request(method, url, **options)
        self.statuses[answer.status_code] += 1
