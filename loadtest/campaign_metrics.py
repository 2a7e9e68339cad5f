"""The faults that a campaign makes, as metrics for the Prometheus of the run."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from loadtest.serving import serving


@dataclass(eq=False)  # a registry keeps its collectors by identity
class CampaignMetrics(Collector):
    """`faults` holds 1 for one that is made at present, else 0. `url` is set once they are served."""

    run: str
    scenario: str
    speed: float
    faults: dict[str, int] = field(default_factory=dict)
    url: str = ""

    def collect(self) -> Iterator[Metric]:
        """Return the metrics."""
        own = [self.run, self.scenario]
        speed = GaugeMetricFamily("loadtest_speed", "Divides every duration of the rules.", labels=["run", "scenario"])
        speed.add_metric(own, self.speed)
        yield speed
        labels = ["run", "scenario", "fault"]
        faults = GaugeMetricFamily("loadtest_fault_active", "1 while the campaign makes this fault.", labels=labels)
        for fault, active in self.faults.items():
            faults.add_metric([*own, fault], active)
        yield faults


@asynccontextmanager
async def campaign_metrics(run: str, scenario: str, speed: float, *faults: str) -> AsyncIterator[CampaignMetrics]:
    """Serve the metrics on a free port of the loopback, at first without a fault that is made."""
    metrics = CampaignMetrics(run, scenario, speed, dict.fromkeys(faults, 0))
    registry = CollectorRegistry()
    registry.register(metrics)

    async def expose(_request: Request) -> PlainTextResponse:
        return PlainTextResponse(generate_latest(registry))

    async with serving(Starlette(routes=[Route("/metrics", expose)])) as address:
        metrics.url = address
        yield metrics
