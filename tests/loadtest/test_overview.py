"""The overview benchmark's parts: the blocks that it writes, the queries that it sends, and its verdicts."""

import math
from pathlib import Path
from typing import Any

import pytest

from app.settings import ROOT
from loadtest.benchmarks.blocks import Labels, Samples, write_block
from loadtest.benchmarks.overview_pods import exposition, grown, parsed, scraped
from loadtest.benchmarks.overview_queries import Asked, Rules, dashboards, filled, long_lived, over_raw, recording_rules
from loadtest.benchmarks.overview_summary import budgets, text
from tests.alerts.programs import run

EXPOSITION = (
    '# TYPE a_total counter\na_total{handler="/api/x",method="GET"} 3.0\n# TYPE g gauge\ng{text="one \\"two\\""} 2.0\n'
)
RULES: Rules = {
    "job:a:rate5m": [("sum by (job) (rate(a[5m]))", {})],
    "job:b:rate5m": [("job:a:rate5m\nor job:b:rate5m", {})],
    "job_slo:c:rate5m": [("x", {"slo": "one"}), ("y", {"slo": "two"})],
}
FIGURES: dict[str, Any] = {
    "queries": [
        {"board": "overview", "first_s": 1.0, "refused": ""},
        {"board": "overview", "first_s": 0.1, "refused": ""},
        {"board": "slo", "first_s": 0.2, "refused": ""},
    ],
    "rules_cpu": [{"group": "g", "cpu_s": 5.0}],
    "missed_evaluations": 0,
}


def test_promtool_reads_the_samples_of_a_block_as_they_were_given(tmp_path: Path) -> None:
    given: dict[Labels, Samples] = {
        (("__name__", "a_total"), ("x", str(number))): Samples(
            1_700_000_000_000, 15_000, tuple(float(math.floor(step * number * 7.3)) for step in range(250))
        )
        for number in range(3)
    }
    given[("__name__", "b"), ("le", "+Inf")] = Samples(
        1_700_000_000_000, 30_000, tuple(math.sin(step) * 1e3 for step in range(121))
    )
    (tmp_path / "wal").mkdir()
    write_block(tmp_path, given.items())
    found: dict[str, list[tuple[int, float]]] = {}
    for line in run("promtool", "tsdb", "dump", tmp_path).stdout.splitlines():
        name, value, time = line.rsplit(" ", 2)
        found.setdefault(name, []).append((int(time), float(value)))
    assert found == {
        "{" + ", ".join(f'{name}="{value}"' for name, value in labels) + "}": [
            (samples.start + step * samples.interval, value) for step, value in enumerate(samples.values)
        ]
        for labels, samples in given.items()
    }


def test_a_pod_grows_by_routes_and_its_counters_count() -> None:
    series = grown(parsed(EXPOSITION), 5)
    assert [dict(one.labels).get("handler") for one in series] == ["/api/x", None, "/api/x/1", "/api/x/2", "/api/x/3"]
    assert exposition(series[:2], 90).decode() == (
        'a_total{handler="/api/x",method="GET"} 4.0\ng{text="one \\"two\\""} 2.0\n'
    )
    names = [name for name, _ in scraped(series[0], 7)]
    assert names == sorted(names)
    assert {"__name__", "handler", "instance", "job", "pod"} <= set(names)


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ('max(job:a:rate5m{job=~".+"})', "max(((sum by (job) (rate(a[5m])))))"),
        ("job:b:rate5m", "((((sum by (job) (rate(a[5m]))))))"),
        ("sum_over_time(job:a:rate5m[1h])", "sum_over_time(((sum by (job) (rate(a[5m]))))[1h:15s])"),
        (
            "job_slo:c:rate5m",
            '((label_replace(x, "slo", "one", "", "")) or (label_replace(y, "slo", "two", "", "")))',
        ),
        ("job:a:rate5m offset 1d", "job:a:rate5m offset 1d"),
        ('job:a:rate5m{x="1"} offset 1d', 'job:a:rate5m{x="1"} offset 1d'),
        ("rate(a[5m])", "rate(a[5m])"),
    ],
)
def test_recorded_series_become_their_rules(expression: str, found: str) -> None:
    assert over_raw(expression, RULES) == found


def test_the_shipped_rules_are_made_of_raw_series_only() -> None:
    rules = recording_rules(ROOT / "monitoring" / "rules" / "baliblissed.yml")
    found = over_raw("job:http_errors:ratio_rate5m", rules)
    assert "http_requests_total" in found
    assert ":" not in found.replace("on (job)", "")


def test_grafanas_variables_are_filled() -> None:
    assert filled('rate(a{job=~"$job", x=~"${x}"}[$__rate_interval])') == 'rate(a{job=~".+", x=~".+"}[60s])'


def test_the_queries_of_panels_and_variables_are_asked() -> None:
    found = dashboards(ROOT / "monitoring" / "grafana" / "dashboards", ["fastapi-overview"])
    assert Asked("fastapi-overview", "$job", "baliblissed_workers", "job") in found
    assert any(one.title == "Error ratio" for one in found)
    assert not [one for one in found if "$" in one.expression]


def test_what_is_read_over_days_is_found() -> None:
    assert long_lived('sum_over_time(a:b{c="d"}[30d]) + e:f offset 1d + g:h[1h]') == {"a:b", "e:f"}


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({}, []),
        ({"queries": [{"board": "overview", "first_s": 1.1, "refused": ""}]}, ["slowest query of overview, s"]),
        ({"queries": [{"board": "slo", "first_s": 0.1, "refused": "too many samples"}]}, ["refused queries of slo"]),
        ({"rules_cpu": [{"group": "g", "cpu_s": 5.1}]}, ["dearest evaluation of a rule group, CPU s"]),
        ({"missed_evaluations": 1}, ["missed evaluations"]),
    ],
)
def test_a_budget_is_missed_by_what_is_over_it(changes: dict[str, Any], missed: list[str]) -> None:
    assert [one["budget"] for one in budgets({**FIGURES, **changes}) if not one["met"]] == missed


def test_the_summary_says_what_was_refused() -> None:
    row = {"panel": "P99", "window": "6h", "recorded_cpu_s": 0.01, "raw_cpu_s": 9.0, "ratio": 900}
    query = {"panel": "P99", "window": "6h", "median_s": 0.1, "cpu_s": 0.1, "series": 1}
    names = ("pods", "up", "series_of_the_service", "series_a_pod", "head_series", "recorded_series", "cores")
    figures = {
        **FIGURES,
        **dict.fromkeys(names, 1),
        **dict.fromkeys(("recorded_series_without_instance", "resident_bytes", "resident_bytes_a_series"), 1),
        "heap_bytes_a_series": 1,
        "prometheus": "2.42.0",
        "queries": [{**one, **query} for one in FIGURES["queries"]],
        "groups": [{"group": "g", "median_s": 1.0, "max_s": 5.0}],
        "dearest_rules": [],
        "boards": [],
        "raw": [{**row, "refused": "too many samples"}],
    }
    shown = text({**figures, "budgets": budgets(figures)})
    assert "over 900" in shown
    assert "refused: too many samples" in shown
