"""The programs of a load test: the service with PostgreSQL and Redis, Prometheus and Alertmanager, all real.

The AI upstream and the receiver of notifications are fakes.
"""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from app.embedded import EmbeddedServers
from app.settings import ROOT, Settings
from loadtest import configuration
from loadtest.alerts import Prometheus, PrometheusError
from loadtest.campaign_metrics import CampaignMetrics, campaign_metrics
from loadtest.fake_ai import FakeAI, fake_ai
from loadtest.programs import Program, ProgramError, find, free_port, until
from loadtest.receiver import Receiver, receiver
from loadtest.users import Export

START_TIMEOUT_SECONDS = 60.0
MONITORING = ROOT / "monitoring"
RULES, PROMETHEUS_LOG = "rules.yml", "prometheus.log"
UNLIMITED = "1000000/minute"
AI = "ai"
FAULTS = (AI,)


@dataclass(frozen=True)
class Options:
    """The parameters of a campaign: `speed` divides every duration of the rules and their scrapes."""

    rules: Path = MONITORING / "rules" / "baliblissed.yml"
    speed: float = 12.0
    users: int = 40
    workers: int = 4


@dataclass
class Stack:
    """The running programs. They are checked during the scenario, which fails if one of them exits early."""

    directory: Path
    url: str
    metrics_url: str
    ai: FakeAI
    receiver: Receiver
    prometheus: Prometheus
    programs: list[Program]
    metrics: CampaignMetrics
    export: Export
    """The users' metrics, where Prometheus expects them."""

    def fails(self, fault: str) -> None:
        """Note that this fault is made from now on."""
        self.metrics.faults[fault] = 1

    def recovers(self, fault: str) -> None:
        """Note that this fault has ended."""
        self.metrics.faults[fault] = 0

    async def scrape(self) -> str:
        """Return the exposition of the metrics port."""
        async with httpx.AsyncClient(timeout=10) as client:
            return (await client.get(self.metrics_url)).raise_for_status().text


@asynccontextmanager
async def stack(directory: Path, options: Options) -> AsyncIterator[Stack]:
    """Start all programs, yield once they are ready, and stop them in reverse order.

    Raises ProgramError or ConfigurationError.
    """
    data = directory / "data"
    data.mkdir(parents=True)
    async with AsyncExitStack() as running:
        running.callback(shutil.rmtree, data, ignore_errors=True)
        ai = await running.enter_async_context(fake_ai())
        listening = await running.enter_async_context(receiver())
        servers = EmbeddedServers(data / "servers")
        running.push_async_callback(asyncio.to_thread, servers.stop)
        addresses = await asyncio.to_thread(servers.wait_until_ready)

        def start(argv: list[str | Path], log: str, environment: dict[str, str] | None = None) -> Program:
            program = Program(argv, directory / log, environment)
            running.push_async_callback(program.stop)
            return program

        port, metrics_port = free_port(), free_port()
        environment = _service_environment(options, port, metrics_port, data / "metrics", ai.url) | addresses
        service = start(
            [Path(sys.executable).with_name("gunicorn"), "-c", ROOT / "gunicorn_conf.py"], "service.log", environment
        )
        # Prometheus starts after the service is ready: it would alert on a slow start as an outage.
        url = f"http://127.0.0.1:{port}"
        await _answers(f"{url}/health/ready", "the service", directory, service)
        manager, manager_port = _start_alertmanager(start, directory, options, listening.url)
        targets = {"backend:9090": f"127.0.0.1:{metrics_port}", "alertmanager:9093": f"127.0.0.1:{manager_port}"}
        export = Export(free_port(), directory.parent.name, directory.name)
        metrics = await running.enter_async_context(
            campaign_metrics(export.run, export.scenario, options.speed, *FAULTS)
        )
        clients = [f"127.0.0.1:{export.port}", metrics.url.removeprefix("http://")]
        watcher, watcher_url = _start_prometheus(start, directory, options, targets, clients)
        prometheus = Prometheus(watcher_url)
        running.push_async_callback(prometheus.close)
        metrics_url = f"http://127.0.0.1:{metrics_port}/metrics"
        programs = [service, manager, watcher]
        started = Stack(directory, url, metrics_url, ai, listening, prometheus, programs, metrics, export)
        await _answers(f"http://127.0.0.1:{manager_port}/-/ready", "Alertmanager", directory, manager)
        await _answers(f"{watcher_url}/-/ready", "Prometheus", directory, watcher)
        await _load_rules(started, options)
        yield started


def _service_environment(options: Options, port: int, metrics_port: int, metrics: Path, ai_url: str) -> dict[str, str]:
    """Return the environment of a production service; settings of the caller's shell are reset."""
    inherited = {name: "" for name in os.environ if name.lower() in Settings.model_fields}
    return inherited | {
        "ENVIRONMENT": "production",
        "PORT": str(port),
        "METRICS_PORT": str(metrics_port),
        "PROMETHEUS_MULTIPROC_DIR": str(metrics),
        "WEB_CONCURRENCY": str(options.workers),
        "AI_BASE_URL": ai_url,
        "RATE_LIMIT_WRITES": UNLIMITED,
        "RATE_LIMIT_AI": UNLIMITED,
    }


Start = Callable[..., Program]


def _start_alertmanager(start: Start, directory: Path, options: Options, receiver_url: str) -> tuple[Program, int]:
    port = free_port()
    document = configuration.alertmanager(MONITORING / "alertmanager.yml", receiver_url, options.speed)
    argv = [
        find("alertmanager", "prometheus-alertmanager"),
        f"--config.file={configuration.write(document, directory / 'alertmanager.yml')}",
        f"--storage.path={directory / 'data' / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    return start(argv, "alertmanager.log"), port


def _start_prometheus(
    start: Start, directory: Path, options: Options, targets: dict[str, str], clients: list[str]
) -> tuple[Program, str]:
    port = free_port()
    document = configuration.prometheus(
        MONITORING / "prometheus.yml",
        directory / RULES,
        targets | {"localhost:9090": f"127.0.0.1:{port}"},
        options.speed,
        clients,
    )
    argv = [
        find("prometheus"),
        f"--config.file={configuration.write(document, directory / 'prometheus.yml')}",
        # Kept with the results, for the dashboard of load tests.
        f"--storage.tsdb.path={directory / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{port}",
        # A duration of the rules that can only be set by a flag.
        f"--rules.alert.resend-delay={configuration.quicker('1m', options.speed)}",
        "--web.enable-lifecycle",  # to reload once the rules are written
        "--log.level=warn",
    ]
    return start(argv, PROMETHEUS_LOG), f"http://127.0.0.1:{port}"


async def _load_rules(started: Stack, options: Options) -> None:
    """Load the rules into Prometheus after its first scrape. Raises ProgramError if it rejects them.

    Prometheus discovers its targets five seconds after its start, at any speed. At speed 12 that equals the `for` of
    TargetDown, whose absent() would fire.
    """

    async def scraped() -> bool:
        return await started.prometheus.value('min(up{job="baliblissed"})') == 1

    await _within(scraped, "the first scrape", started.directory, *started.programs)
    configuration.write(configuration.rules(options.rules, options.speed), started.directory / RULES)
    try:
        await started.prometheus.reload()
    except PrometheusError as error:
        log = started.directory / PROMETHEUS_LOG
        raise ProgramError(f"Prometheus does not take {options.rules}: {error}\n{log.read_text()[-2000:]}") from error


async def _answers(url: str, what: str, directory: Path, program: Program) -> None:
    """Wait until `url` returns a success status. Raises ProgramError otherwise."""
    async with httpx.AsyncClient(timeout=10) as client:

        async def look() -> bool:
            try:
                return (await client.get(url)).is_success
            except httpx.TransportError:
                return False

        await _within(look, what, directory, program)


async def _within(look: Callable[[], Awaitable[bool]], what: str, directory: Path, *programs: Program) -> None:
    if not await until(look, START_TIMEOUT_SECONDS, programs):
        raise ProgramError(f"{what} was not there after {START_TIMEOUT_SECONDS:g} s; the logs are in {directory}")
