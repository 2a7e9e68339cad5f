"""The Prometheus of the overview benchmark: started on a data directory, asked over HTTP, measured from outside."""

import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from loadtest.benchmarks.command import BenchmarkError, Figures
from loadtest.benchmarks.overview_queries import STEP_SECONDS, Asked
from loadtest.programs import ProgramError, find, free_port

START_SECONDS, STOP_SECONDS, ANSWER_SECONDS = 120.0, 60.0, 100.0
RETENTION = "40d"
GROUP = re.compile(r'prometheus_rule_group_last_duration_seconds\{rule_group="[^"]*;([^"]+)"\} (\S+)')
MISSED = re.compile(r"prometheus_rule_group_iterations_missed_total\{[^}]*\} (\S+)")


@dataclass(frozen=True)
class Answer:
    """The seconds of a query on the clock and of CPU, and its number of series or the reason why it was refused."""

    seconds: float
    cpu: float
    series: int
    refused: str = ""


class Server:
    """A running Prometheus."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
        self.process = psutil.Process(process.pid)
        self._popen, self._log = process, log
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=ANSWER_SECONDS)

    def wait(self) -> None:
        """Wait until it is ready. Raise BenchmarkError if it ends before, or is not in time."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._popen.poll() is None:
            try:
                if self._client.get("/-/ready").is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise BenchmarkError(f"Prometheus is not ready: {self._log.read_text(errors='replace')[-2000:]}")

    def now(self, query: str) -> list[Figures]:
        """Return the result of an instant query. Raise BenchmarkError for an error."""
        answer = self._client.post("/api/v1/query", data={"query": query})
        if not answer.is_success:
            raise BenchmarkError(f"{query}: {answer.text}")
        return list(answer.json()["data"]["result"])

    def ask(self, asked: Asked, end: float, seconds: float, patience: float) -> Answer:
        """Time a query over the `seconds` before `end`. Prometheus gives up after `patience` seconds."""
        span = {"start": end - seconds, "end": end}
        began, cpu = time.perf_counter(), self.cpu()
        if asked.label:
            parameters: dict[str, str | float] = {**span, "match[]": asked.expression}
            answer = self._client.get(f"/api/v1/label/{asked.label}/values", params=parameters)
        elif asked.instant:
            moment = {"query": asked.expression, "time": f"{end}", "timeout": f"{patience:g}s"}
            answer = self._client.post("/api/v1/query", data=moment)
        else:
            values = {**span, "query": asked.expression, "step": STEP_SECONDS, "timeout": f"{patience:g}s"}
            answer = self._client.post("/api/v1/query_range", data=values)
        took, cpu = time.perf_counter() - began, self.cpu() - cpu
        found = answer.json()
        if not answer.is_success:
            return Answer(took, cpu, 0, str(found["error"]))
        return Answer(took, cpu, len(found["data"] if asked.label else found["data"]["result"]))

    def cost(self, query: str, time: float) -> float:
        """Return the CPU seconds of an instant query, as a rule is evaluated. Raise BenchmarkError for an error."""
        before = self.cpu()
        answer = self._client.post("/api/v1/query", data={"query": query, "time": time})
        if not answer.is_success:
            raise BenchmarkError(f"{query}: {answer.text}")
        return self.cpu() - before

    def groups(self) -> tuple[dict[str, float], int]:
        """Return the seconds of each rule group's last evaluation, and how many evaluations were missed."""
        text = self._client.get("/metrics").text
        seconds = {name: float(value) for name, value in GROUP.findall(text)}
        return seconds, int(sum(float(value) for value in MISSED.findall(text)))

    def check_rules(self) -> None:
        """Raise BenchmarkError if a rule fails."""
        for group in self._client.get("/api/v1/rules").json()["data"]["groups"]:
            for rule in group["rules"]:
                if rule.get("lastError"):
                    raise BenchmarkError(f"{rule['name']}: {rule['lastError']}")

    def number(self, metric: str) -> float:
        """Return a metric of Prometheus about itself that has no labels."""
        for line in self._client.get("/metrics").text.splitlines():
            if line.startswith(f"{metric} "):
                return float(line.rpartition(" ")[2])
        raise BenchmarkError(f"Prometheus does not expose {metric}")

    def version(self) -> str:
        """Return its version."""
        return str(self._client.get("/api/v1/status/buildinfo").json()["data"]["version"])

    def cpu(self) -> float:
        """Return the CPU seconds that it has used."""
        return sum(self.process.cpu_times()[:2])


def configuration(
    directory: Path, interval: float, rules: str, port: int = 0, targets: Sequence[Mapping[str, str]] = ()
) -> Path:
    """Write a configuration that scrapes `targets`, by their labels, on one `port`; return its path."""
    (directory / "rules.yml").write_text(rules)
    jobs: dict[str, list[dict[str, Any]]] = {}
    for labels in targets:
        own = {**labels, "__metrics_path__": f"/{labels['instance']}"}
        jobs.setdefault(labels["job"], []).append({"targets": [f"127.0.0.1:{port}"], "labels": own})
    document = {
        "global": {
            "scrape_interval": f"{interval:g}s",
            "scrape_timeout": f"{min(interval, 10):g}s",
            "evaluation_interval": f"{interval:g}s",
        },
        "rule_files": [str(directory / "rules.yml")],
        "scrape_configs": [{"job_name": job, "static_configs": configs} for job, configs in jobs.items()],
    }
    path = directory / "prometheus.yml"
    path.write_text(yaml.safe_dump(document))
    return path


@contextmanager
def prometheus(directory: Path, file: Path) -> Iterator[Server]:
    """Yield a Prometheus on the data directory `directory`/data that is ready; end it afterwards."""
    try:
        program = find("prometheus")
    except ProgramError as error:
        raise BenchmarkError(str(error)) from error
    port, log = free_port(), directory / "prometheus.log"
    argv = [
        program,
        f"--config.file={file}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--storage.tsdb.retention.time={RETENTION}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with log.open("ab") as output:
        process = subprocess.Popen(argv, stdout=output, stderr=subprocess.STDOUT)
    try:
        started = Server(process, port, log)
        started.wait()
        yield started
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
