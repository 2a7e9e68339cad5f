"""A real Prometheus scrapes metrics whose names are equal after escaping: no scrape fails, and the values are right.

The one on PATH is used, and that of PROMETHEUS3 where the variable has the path of a Prometheus 3: only this one asks
for names in UTF-8.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.dashboards.prometheus import JOB, Prometheus, program, prometheus
from tests.monitoring.multiprocess.test_exporter import environment, running
from tests.process.service import wait_for

COUNTING = """
from app.monitoring.metrics.registry import registry
from prometheus_client import Counter, Gauge, Histogram, Summary
def make(kind, name, *labels, **options):
    return kind(name, "H\\0 \\r\\\\.", labels, registry=None, **options)  # outside of the registry, which refuses some
make(Counter, "c_total", "http.route", "http_route").labels("/a", "/b").inc(3)
make(Counter, "a.b_total").inc(5)
make(Counter, "a_b_total").inc(7)
make(Gauge, "x_count", multiprocess_mode="max").set(11)
make(Histogram, "x").observe(1)
make(Counter, "d_total", "http.route").labels("/d").inc(2, {"trace.id": "1", "trace_id": "2", "": "3"})
make(Counter, "d_total", "http_route").labels("/d").inc(9)
make(Histogram, "temps.d\\u00e9lai_seconds", "r\\u00e9gion", buckets=[1]).labels("sud").observe(0.5, {"a-b": "1"})
make(Summary, "size.bytes", "\\u0436").labels("ж\\r\\0\\n\\"").observe(4)
make(Gauge, "depth.now", "a.b", multiprocess_mode="all").labels("1").set(6)
make(Counter, "reserved_total", "..name__").labels("1").inc()
make(Counter, "empty_total", "").labels("1").inc()
make(Counter, "line\\n\\0\\"_total", "a\\n\\0\\"b").labels("1").inc(8)
make(Counter, "line\\n_total").inc(8)
make(Gauge, "gauge\\n", multiprocess_mode="max").set(8)
"""
NEWER = {"metric_name_validation_scheme": "utf8"}
TEXT, OPENMETRICS = ["PrometheusText1.0.0", "PrometheusText0.0.4"], ["OpenMetricsText1.0.0"]
# The jobs of Prometheus 3 beside the default one: each scheme in both formats.
SCHEMES: list[dict[str, Any]] = [
    {"job_name": f"{name}-{scheme}", "metric_name_escaping_scheme": scheme, "scrape_protocols": protocols, **NEWER}
    for name, protocols in (("text", TEXT), ("openmetrics", OPENMETRICS))
    for scheme in ("allow-utf-8", "underscores", "dots", "values")
]
RESTRICTED: dict[str, Any] = {"job_name": "restricted", "params": {"name[]": ["a_b_total", "x_sum"]}}


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the address of an exporter of these metrics."""
    path = tmp_path_factory.mktemp("names") / "metrics"
    path.mkdir()
    subprocess.run([sys.executable, "-c", COUNTING], env=environment(path), check=True)
    with running(path) as started:
        yield started.url.removeprefix("http://")


def value(server: Prometheus, query: str) -> float | None:
    """Return the value of the one series that `query` gives; None if it gives none."""
    found: list[Any] = server.ask("query", query=query)["result"]
    assert len(found) < 2, found
    return float(found[0]["value"][1]) if found else None


def scraped(server: Prometheus, jobs: list[str]) -> bool:
    """Return True once every job has scraped, successfully or not."""
    return {one["metric"]["job"] for one in server.ask("query", query="up")["result"]} == set(jobs)


def counted(server: Prometheus) -> set[str]:
    """Return the metrics that the exporter counts as hidden."""
    found = server.ask("query", query="baliblissed_exporter_hidden_metrics_total")["result"]
    return {one["metric"]["metric"] for one in found}


UNDERSCORED = {
    "a_b_total": 7,
    "x_count": 1,
    "x_sum": 1,
    "c_total": None,
    'd_total{http_route="/d"}': 9,
    'temps_d_lai_seconds_sum{r_gion="sud"}': 0.5,
    'temps_d_lai_seconds_bucket{r_gion="sud",le="1.0"}': 1,
    "size_bytes_sum": 4,
    'depth_now{a_b="1"}': 6,
    "reserved_total": None,
    "empty_total": None,
}
IN_UTF8 = {
    '{"a.b_total"}': 5,
    "a_b_total": 7,
    "x_count": 1,
    '{"c_total","http.route"="/a",http_route="/b"}': 3,
    '{"d_total","http.route"="/d"}': 2,
    'd_total{http_route="/d"}': 9,
    '{"temps.délai_seconds_sum","région"="sud"}': 0.5,
    '{"size.bytes_sum"}': 4,
    '{"depth.now","a.b"="1"}': 6,
}


def query(selector: str, job: str) -> str:
    """Return `selector` of one job."""
    name, _, labels = selector.partition("{")
    return f"{name}{{{','.join(filter(None, [labels.rstrip('}'), f'job={job!r}']))}}}"


def check(server: Prometheus, job: str, expected: Mapping[str, float | None]) -> None:
    assert value(server, query("up", job)) == 1
    assert {one: value(server, query(one, job)) for one in expected} == expected


def test_no_name_makes_a_scrape_fail(tmp_path: Path, target: str) -> None:
    with prometheus(tmp_path, target, command=program(), jobs=[RESTRICTED]) as server:
        wait_for(lambda: scraped(server, [JOB, "restricted"]), "a scrape of each job")
        assert server.errors() == {}
        check(server, JOB, UNDERSCORED)
        check(server, "restricted", {"a_b_total": 7, "x_sum": 1, "x_count": None})
        hidden = {"a.b", "c", "x_count", "d", "reserved", "empty"}
        wait_for(lambda: hidden <= counted(server), "the next scrape")


def test_prometheus_3_gets_every_name(tmp_path: Path, target: str) -> None:
    command = os.environ.get("PROMETHEUS3")
    if not command:
        pytest.skip("PROMETHEUS3 does not name a Prometheus 3")
    jobs = [RESTRICTED, *SCHEMES]
    with prometheus(tmp_path, target, command=command, jobs=jobs) as server:
        wait_for(lambda: scraped(server, [JOB, *(job["job_name"] for job in jobs)]), "a scrape of each job")
        assert server.errors() == {}
        for job in (JOB, "text-allow-utf-8", "openmetrics-allow-utf-8"):
            check(server, job, IN_UTF8)
        for job in ("text-underscores", "openmetrics-underscores"):
            check(server, job, UNDERSCORED)
        for job in ("text-dots", "openmetrics-dots"):
            check(server, job, {"a_dot_b__total": 5, "a__b__total": 7, 'c__total{http_dot_route="/a"}': 3})
        for job in ("text-values", "openmetrics-values"):
            check(server, job, {"U__a_2e_b__total": 5, "a_b_total": 7, 'c_total{U__http_2e_route="/a"}': 3})
