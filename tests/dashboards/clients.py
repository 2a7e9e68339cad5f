"""The traffic's figures as a load test exposes them."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import start_http_server

from app.monitoring.metrics.catalogue import LATENCY_BUCKETS
from loadtest.campaign_metrics import CampaignMetrics
from loadtest.client_metrics import ClientMetrics

RUN, SCENARIO = "chosen", "errors"
OFFERED = 50.0
"""Requests a second; the traffic has no schedule."""


class Clients:
    """Counts requests. `address` (host:port) is where they are exposed."""

    address = ""

    def __init__(self) -> None:
        self.tasks = 0
        self.campaign = CampaignMetrics(RUN, SCENARIO, 1, {"ai": 0})
        self.metrics = ClientMetrics(
            RUN,
            SCENARIO,
            LATENCY_BUCKETS,
            users=lambda: 1,
            offered=lambda: OFFERED,
            tasks=lambda: self.tasks,
            late=lambda: 0,
        )

    def note(self, method: str, path: str, status: int, seconds: float) -> None:
        """Count a request that has ended; `status` 0 is no answer."""
        self.tasks += 1
        self.metrics.note(method, path, status, seconds)


@contextmanager
def exposed() -> Iterator[Clients]:
    """Yield figures that are exposed on the loopback."""
    clients = Clients()
    registry = clients.metrics.registry()
    registry.register(clients.campaign)
    server, thread = start_http_server(0, "127.0.0.1", registry)
    try:
        clients.address = f"127.0.0.1:{server.server_port}"
        yield clients
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
