"""The collector is killed, hangs or never responds, under traffic and during shutdown of the service."""

import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from loadtest.fake_ai import FakeAI
from tests.process.service import service, wait_for
from tests.process.traffic import traffic
from tests.telemetry.collector import gateway
from tests.telemetry.traffic import CATALOGUE, CHAT, QUESTION, WORKERS

ANSWERS = 150
# The export timeout exceeds every client timeout here, and the queue fills after a few requests: a request that
# blocked on either would time out.
EAGER = {
    "OTEL_TRACES_SAMPLER_ARG": "1",
    "OTEL_EXPORTER_OTLP_TIMEOUT": "60",
    "OTEL_BSP_SCHEDULE_DELAY": "50",
    "OTEL_BSP_MAX_QUEUE_SIZE": "64",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "32",
    "GRACEFUL_TIMEOUT": "10",
}


@dataclass
class Away:
    """A collector that can become unavailable: its endpoint, a function that stops it, and one that checks it."""

    endpoint: str
    go: Callable[[], object]
    answers: Callable[[], bool]


@contextmanager
def collector(how: str, program: Path, directory: Path) -> Iterator[Away]:
    """Yield a collector that can be killed or suspended, as `how` selects. A black hole never responds."""
    if how == "black hole":
        with socket.create_server(("127.0.0.1", 0)) as listener:
            yield Away(f"http://127.0.0.1:{listener.getsockname()[1]}", lambda: None, lambda: False)
        return
    with gateway(program, directory) as running:
        process = psutil.Process(running.process.pid)
        end = process.kill if how == "killed" else process.suspend
        gone = {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
        yield Away(running.endpoint, end, lambda: process.is_running() and process.status() not in gone)


@dataclass
class Outage:
    """Statuses, dropped spans and exit of the service in an outage of the collector."""

    before: Counter[int]
    during: Counter[int]
    dropped: float
    exit_status: int
    stopped: float
    output: str


@pytest.fixture(scope="module", params=["killed", "hung", "black hole"])
def outage(
    request: pytest.FixtureRequest,
    program: Path,
    lasting_addresses: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Outage:
    """Send traffic, stop the collector, send more traffic, stop the service; return the observations."""
    directory = tmp_path_factory.mktemp("outage")
    with collector(request.param, program, directory / "gateway") as away:
        environment = {**lasting_addresses, **EAGER, "OTEL_EXPORTER_OTLP_ENDPOINT": away.endpoint}
        with service(directory, **environment) as running:
            wait_for(lambda: running.answers(CATALOGUE), "the catalogue")
            with traffic(running, CATALOGUE) as statuses:
                wait_for(lambda: statuses.total() > ANSWERS, "answers")
                before = statuses.copy()
                away.go()
                wait_for(lambda: not away.answers(), "the collector's absence")
                wait_for(lambda: statuses.total() > before.total() + ANSWERS, "answers without a collector")
            exit_status = running.stop()
            assert not away.answers()
            dropped, stopped = running.left("baliblissed_spans_dropped_total"), running.exits("stopped")
            return Outage(before, statuses - before, dropped, exit_status, stopped, running.output)


def test_requests_are_answered_as_before(outage: Outage) -> None:
    assert outage.before.keys() == outage.during.keys() == {200}


def test_the_service_ends_by_itself_inside_its_time(outage: Outage) -> None:
    assert outage.exit_status == 0
    # A worker that exceeds GRACEFUL_TIMEOUT is killed, and not counted as stopped.
    assert outage.stopped == WORKERS
    assert "Traceback" not in outage.output


def test_the_log_does_not_fill_with_it(outage: Outage) -> None:
    assert outage.output.count("spans_not_exported") + outage.output.count("spans_lost_at_shutdown") <= 1


def test_spans_that_are_dropped_are_counted(outage: Outage) -> None:
    assert outage.dropped > 0


@pytest.mark.parametrize("how", ["killed", "hung"])
def test_a_collector_that_goes_away_during_the_end_holds_nothing_up(
    program: Path, addresses: dict[str, str], ai: FakeAI, tmp_path: Path, how: str
) -> None:
    ai.delay = 2.0
    with collector(how, program, tmp_path / "gateway") as away, ThreadPoolExecutor() as threads:
        environment = {**addresses, **EAGER, "AI_BASE_URL": ai.url, "OTEL_EXPORTER_OTLP_ENDPOINT": away.endpoint}
        with service(tmp_path, **environment) as running:
            wait_for(lambda: running.answers(CATALOGUE), "the catalogue")
            asked = threads.submit(httpx.post, running.url + CHAT, json=QUESTION, timeout=30)
            wait_for(ai.arrived.is_set, "a request in flight")
            running.process.send_signal(signal.SIGTERM)
            wait_for(lambda: "Handling signal: term" in running.output, "the end's beginning")
            away.go()
            assert asked.result().status_code == httpx.codes.OK
            assert running.stop() == 0
            assert not away.answers()
            assert running.exits("stopped") == WORKERS
