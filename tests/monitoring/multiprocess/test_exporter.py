"""The exporter as a process: what it answers, how it starts and how it ends."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from app.monitoring import exporter
from app.monitoring.metrics.catalogue import Catalogue, build_catalogue
from app.monitoring.multiprocess import directory as shared
from loadtest.programs import free_port
from tests import processes
from tests.monitoring.multiprocess.simulated import Scene
from tests.plain_http import plain
from tests.process.service import ROOT, total, wait_for

COMMAND = [sys.executable, "-m", "app.monitoring.exporter"]
COUNTING = """
import sys
from app.monitoring.metrics.catalogue import catalogue
from app.monitoring.metrics.registry import registry
from prometheus_client import Counter, Histogram
Counter("cache_hits_total", "Hits.", ["cache"], registry=registry()).labels("places").inc(int(sys.argv[1]))
Histogram("answer_seconds", "Answers.", ["operation"], registry=registry()).labels("chat").observe(0.3)
catalogue().workers.labels("live").set(int(sys.argv[1]))
"""
OPERATION = """
import sys
from app.monitoring.metrics.registry import registry
from prometheus_client import Counter
Counter("operations_total", "Operations.", ["operation"], registry=registry()).labels(sys.argv[1]).inc()
"""
BROKEN_COLLECTOR = "tests.monitoring.multiprocess.test_exporter:broken"
SETTING_COLLECTOR = "tests.monitoring.multiprocess.test_exporter:setting"
COUNTING_COLLECTOR = "tests.monitoring.multiprocess.test_exporter:counting"
HURRIED = [
    sys.executable,
    "-c",
    "from app.monitoring import exporter; exporter.COLLECT_INTERVAL_SECONDS = 0.05; exporter.main()",
]


def broken(_metrics: object) -> None:
    """Fail, as a collector may."""
    raise RuntimeError("no such sensor")


def setting(metrics: Catalogue) -> None:
    """Set a gauge in a collector."""
    metrics.system_cpu.set(0.25)


def counting(metrics: Catalogue) -> None:
    """Count the calls of a collector."""
    metrics.hook_errors.labels("test").inc()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return an empty metrics directory."""
    path = tmp_path / "metrics"
    path.mkdir()
    return path


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Running"]:
    """Yield an exporter of one process's metrics, for tests that only read."""
    path = tmp_path_factory.mktemp("shared") / "metrics"
    path.mkdir()
    count(path, 2)
    with running(path) as started:
        yield started


def environment(directory: Path | None) -> dict[str, str]:
    """Return the environment of a process that counts in `directory`."""
    unset = {name: value for name, value in os.environ.items() if name != "PROMETHEUS_MULTIPROC_DIR"}
    return {**unset, "PYTHONPATH": str(ROOT), **({"PROMETHEUS_MULTIPROC_DIR": str(directory)} if directory else {})}


def count(directory: Path, hits: int) -> None:
    """Run a process to its end that counts `hits` cache hits."""
    subprocess.run([sys.executable, "-c", COUNTING, str(hits)], env=environment(directory), check=True)


class Running:
    """A started exporter."""

    def __init__(self, directory: Path, log: Path, command: list[str], *arguments: str) -> None:
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self._log = log.with_suffix(f".{port}.log")
        with self._log.open("wb") as output:
            self.process = subprocess.Popen(
                [*command, "--port", str(port), *arguments],
                env=environment(directory),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        return self._log.read_text()

    def answers(self) -> bool:
        assert self.process.poll() is None, self.output
        try:
            return plain.get(f"{self.url}/health").text == "ok\n"
        except httpx.TransportError:
            return False

    def scrape(self, accept: str = "", encoding: str = "") -> httpx.Response:
        headers = {"Accept": accept, "Accept-Encoding": encoding}
        return plain.get(f"{self.url}/metrics", headers=headers, timeout=30)

    def total(self, sample: str, **labels: str) -> float:
        return total(self.scrape().text, sample, **labels)


@contextmanager
def running(directory: Path, *arguments: str, command: list[str] = COMMAND) -> Iterator[Running]:
    """Yield an exporter that answers; end it afterwards."""
    started = Running(directory, directory.parent / "exporter.log", command, *arguments)
    try:
        wait_for(started.answers, "the exporter")
        yield started
    finally:
        started.process.terminate()
        started.process.wait(30)
        assert started.process.stdin is not None
        started.process.stdin.close()


def refusal(directory: Path | None, *arguments: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of an exporter that ends by itself."""
    done = subprocess.run(
        [*COMMAND, *arguments], env=environment(directory), capture_output=True, text=True, check=False, timeout=60
    )
    return done.returncode, done.stdout, done.stderr


def test_a_scrape_is_the_sum_of_every_process_that_counted(directory: Path) -> None:
    for hits in (2, 3, 5):
        count(directory, hits)
    with running(directory) as started:
        text = started.scrape().text
        assert total(text, "cache_hits_total", cache="places") == 10
        assert total(text, "baliblissed_workers", state="live") == 0  # of the dead
        assert total(text, "answer_seconds_count", operation="chat") == 3
        assert total(text, "answer_seconds_bucket", le="0.5") == 3
        count(directory, 7)
        assert total(started.scrape().text, "cache_hits_total", cache="places") == 17


def test_a_scrape_is_text_unless_openmetrics_is_asked_for(serving: Running) -> None:
    assert serving.scrape().headers["content-type"].startswith("text/plain; version=0.0.4")
    answer = serving.scrape("application/openmetrics-text; version=1.0.0")
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert "cache_hits" in {family.name for family in parse_openmetrics(answer.text)}  # type: ignore[no-untyped-call]


def test_a_scrape_is_packed_where_that_is_asked_for(serving: Running) -> None:
    packed, plain = serving.scrape(encoding="gzip"), serving.scrape(encoding="identity")
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) * 2 < int(plain.headers["content-length"])
    assert "content-encoding" not in plain.headers
    for answer in (packed, plain):
        assert total(answer.text, "cache_hits_total", cache="places") == 2


def test_it_reports_its_own_figures(directory: Path) -> None:
    count(directory, 2)
    with running(directory, command=HURRIED) as started:
        scrapes = started.total("baliblissed_exporter_scrape_duration_seconds_count")
        assert started.total("baliblissed_exporter_scrape_duration_seconds_count") == scrapes + 1
        assert started.total("baliblissed_exporter_folded_processes_total") == 1
        wait_for(lambda: started.total("baliblissed_exporter_live_processes") == 1, "itself to be counted alone")
        wait_for(lambda: started.total("baliblissed_exporter_files") == files(directory), "the number of files")
        assert started.total("baliblissed_exporter_directory_bytes") > 0
        assert started.total("baliblissed_exporter_directory_free_bytes") > 0
        assert started.total("baliblissed_exporter_series", metric="cache_hits") == 1


def files(directory: Path) -> int:
    return sum(path.is_file() for path in directory.rglob("*"))


def test_head_has_the_headers_of_get_and_no_body(serving: Running) -> None:
    answer = httpx.head(f"{serving.url}/health")
    assert (answer.status_code, answer.headers["content-length"], answer.content) == (200, "3", b"")
    assert int(httpx.head(f"{serving.url}/metrics").headers["content-length"]) > 0


@pytest.mark.parametrize("path", ["/", "/metric", "/metrics/", "/health/live"])
def test_other_paths_are_not_found(serving: Running, path: str) -> None:
    answer = plain.get(serving.url + path)
    assert (answer.status_code, answer.text) == (404, "see /metrics\n")
    assert plain.get(f"{serving.url}/metrics?name=x").status_code == 200


def test_a_connection_serves_several_scrapes_and_names_no_python(serving: Running) -> None:
    with httpx.Client(base_url=serving.url) as client:
        answers = [client.get("/metrics"), client.get("/health"), client.get("/metrics")]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert "python" not in answers[0].headers["server"].lower()


def test_a_client_that_goes_away_is_no_event(serving: Running) -> None:
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", int(serving.url.rpartition(":")[2]))) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n")
    assert serving.scrape().status_code == 200
    (line,) = map(json.loads, serving.output.splitlines())
    assert line["event"] == "exporter_started"


def test_an_exporter_that_was_killed_and_started_again_says_the_same(directory: Path) -> None:
    count(directory, 2)
    with running(directory) as first:
        assert first.total("cache_hits_total") == 2
        count(directory, 3)
        first.process.kill()
        first.process.wait()
    with running(directory) as second:
        assert second.total("cache_hits_total") == 5
        # The two that counted, and the first exporter.
        assert second.total("baliblissed_exporter_folded_processes_total") == 3
        assert second.total("baliblissed_exporter_scrape_duration_seconds_count") == 3
        assert len(list(directory.glob("counter_*.db"))) == 1


def test_two_exporters_say_the_same_and_the_second_takes_over_when_the_first_is_killed(directory: Path) -> None:
    with running(directory) as first, running(directory) as second:
        count(directory, 2)
        assert [one.total("cache_hits_total") for one in (second, first, second)] == [2, 2, 2]
        assert len(list(directory.glob("counter_*.db"))) == 2
        first.process.kill()
        first.process.wait()
        count(directory, 3)
        assert second.total("cache_hits_total") == 5
        assert len(list(directory.glob("counter_*.db"))) == 1


def test_no_metric_passes_the_limit_that_it_is_given(directory: Path) -> None:
    for operation in ("chat", "plan", "price"):
        subprocess.run([sys.executable, "-c", OPERATION, operation], env=environment(directory), check=True)
    with running(directory, "--max-series", "2") as started:
        text = started.scrape().text
        assert total(text, "operations_total") == 3
        assert total(text, "operations_total", operation="__overflow__") == 1
        refused = {"metric": "operations", "reason": "too_many_series"}
        assert started.total("baliblissed_metrics_series_refused_total", **refused) == 1


def test_collectors_set_gauges_and_one_that_fails_costs_no_scrape(directory: Path) -> None:
    with running(directory, "--collect", BROKEN_COLLECTOR, "--collect", SETTING_COLLECTOR) as started:
        answer = started.scrape()
        assert answer.status_code == 200
        assert total(answer.text, "baliblissed_system_cpu_usage_ratio") == 0.25
        assert "collector_failed" in started.output
        assert "no such sensor" in started.output


def test_a_broken_file_costs_its_own_numbers_only(directory: Path) -> None:
    count(directory, 2)
    with running(directory) as started:
        (directory / "counter_999999.db").write_bytes(b"no such file")
        assert started.total("cache_hits_total", cache="places") == 2
        assert "metric_file_left_out" in started.output
        assert started.total("baliblissed_exporter_unreadable_files_total") == 1
        assert [path.name.partition(".")[0] for path in (directory / "bad").iterdir()] == ["counter_999999"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_status_0(directory: Path, number: signal.Signals) -> None:
    with running(directory) as started, httpx.Client(base_url=started.url) as client:
        client.get("/health")  # its connection stays open and must not delay the exit
        started.process.send_signal(number)
        assert started.process.wait(exporter.CLIENT_TIMEOUT_SECONDS / 2) == 0
        assert "Traceback" not in started.output


def test_it_ends_with_its_standard_input_where_it_is_told_to(directory: Path) -> None:
    with running(directory, "--end-with-stdin") as started:
        assert started.process.stdin is not None
        started.process.stdin.close()
        assert started.process.wait(30) == 0


def test_a_socket_that_is_handed_over_is_served(directory: Path) -> None:
    with exporter.listen("127.0.0.1", 0) as listener:
        command = [*COMMAND, "--fd", str(listener.fileno())]
        with processes.started(command, env=environment(directory), pass_fds=[listener.fileno()]):
            port = listener.getsockname()[1]
            assert plain.get(f"http://127.0.0.1:{port}/health", timeout=30).text == "ok\n"


def test_help_names_every_option() -> None:
    status, text, _ = refusal(None, "--help")
    assert status == 0
    assert set(re.findall(r"--[a-z-]+", text)) >= {
        "--host",
        "--port",
        "--collect",
        "--fd",
        "--logging",
        "--max-series",
        "--end-with-stdin",
    }


def test_without_a_directory_it_ends_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, reason in (
        (None, "'' is not set"),
        (tmp_path / "away", f"{str(tmp_path / 'away')!r} does not exist"),
        (tmp_path / "file", f"{str(tmp_path / 'file')!r} is no directory"),
    ):
        status, _, error = refusal(path)
        assert status == 1
        assert error == f"PROMETHEUS_MULTIPROC_DIR={reason}: want the directory of the service's metric files\n"


def test_a_taken_port_ends_it_with_one_line(directory: Path) -> None:
    with exporter.listen("127.0.0.1", 0) as taken:
        status, _, error = refusal(directory, "--port", str(taken.getsockname()[1]))
    assert status == 1
    assert re.fullmatch(r"the exporter cannot start: .*Address already in use.*\n", error)


@pytest.mark.parametrize("port", ["70000", "-1"])
def test_a_port_that_does_not_exist_ends_it_with_one_line(directory: Path, port: str) -> None:
    status, _, error = refusal(directory, f"--port={port}")
    assert status == 1
    assert re.fullmatch(r"the exporter cannot start: .*65535.*\n", error)


@pytest.mark.parametrize("reference", ["nowhere:collect", "app.managers.metrics:away", "app.managers.metrics", ":x"])
def test_a_collector_that_cannot_be_loaded_ends_it_with_one_line(directory: Path, reference: str) -> None:
    status, _, error = refusal(directory, "--collect", reference)
    assert status == 1
    assert re.fullmatch(rf"the exporter cannot start: --collect: '{reference}': .*: want module:function\n", error)


def test_collectors_run_again_without_a_scrape(directory: Path) -> None:
    with running(directory, "--collect", COUNTING_COLLECTOR, command=HURRIED) as started:
        wait_for(lambda: total(started.scrape().text, "baliblissed_hook_errors_total", hook="test") > 3, "collectors")


def test_the_duration_of_a_scrape_is_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    own, times = CollectorRegistry(), iter([5.0, 5.25])
    made = build_catalogue(own)
    monkeypatch.setattr(exporter, "catalogue", lambda: made)
    monkeypatch.setattr(exporter, "time", SimpleNamespace(perf_counter=lambda: next(times)))
    aggregate = SimpleNamespace(exposition=lambda _accept, **_: (b"body", "text/plain"))
    server: Any = SimpleNamespace(_aggregate=aggregate)
    assert exporter.Exporter.scrape(server, "", pack=False) == (b"body", "text/plain")
    assert own.get_sample_value("baliblissed_exporter_scrape_duration_seconds_sum") == 0.25


def test_a_client_that_says_nothing_is_hung_up_on(directory: Path) -> None:
    assert exporter.Handler.timeout == exporter.CLIENT_TIMEOUT_SECONDS
    script = "from app.monitoring import exporter; exporter.Handler.timeout = 0.05; exporter.main()"
    with running(directory, command=[sys.executable, "-c", script]) as started:
        port = int(started.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), 30) as silent:
            assert silent.recv(1) == b""


def test_the_figures_of_the_directory_are_its_usage(monkeypatch: pytest.MonkeyPatch, scene: Scene) -> None:
    own = CollectorRegistry()
    monkeypatch.setattr(shared, "usage", lambda path: (3, 4096, 8192) if path == scene.directory else None)
    server: Any = SimpleNamespace(_aggregate=scene.aggregate())
    exporter.Exporter._collect_directory(server, build_catalogue(own))
    figures = ("files", "directory_bytes", "directory_free_bytes")
    assert [own.get_sample_value(f"baliblissed_exporter_{name}") for name in figures] == [3, 4096, 8192]


def test_a_scrape_that_fails_is_answered_with_500_and_logged(directory: Path) -> None:
    with running(directory) as started:
        shutil.rmtree(directory)
        assert started.scrape().status_code == 500
        assert '"scrape_failed"' in started.output
        assert plain.get(f"{started.url}/health").text == "ok\n"
