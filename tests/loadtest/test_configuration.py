"""The run's configuration is the shipped one with other addresses and shorter durations, and nothing else."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from loadtest import configuration
from loadtest.configuration import ConfigurationError, milliseconds, quicker, quicker_expression
from loadtest.receiver import HEARTBEAT, PAGES, TICKETS
from tests.alerts.programs import run
from tests.alerts.rules import MONITORING, RULES, load

SPEED = 12.0
# A range, or an offset.
DURATION = re.compile(r"(?<=\[)\w+(?=\])|(?<=offset )\w+")
ADDRESSES = {"backend:9090": "127.0.0.1:1", "alertmanager:9093": "127.0.0.1:2", "localhost:9090": "127.0.0.1:3"}


@pytest.mark.parametrize(
    ("duration", "length"), [("5m", 300_000), ("1h30m", 5_400_000), ("750ms", 750), ("1d", 86_400_000), ("0s", 0)]
)
def test_a_duration_is_read_as_prometheus_reads_it(duration: str, length: int) -> None:
    assert milliseconds(duration) == length


@pytest.mark.parametrize("wrong", ["", "5", "m", "5 m", "-5m", "1.5h", "5m!"])
def test_what_is_no_duration_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        milliseconds(wrong)


@given(st.integers(1, 10**6), st.sampled_from(["ms", "s", "m", "h"]), st.floats(1, 30))
def test_a_quicker_duration_is_the_duration_divided_and_never_nothing(number: int, unit: str, speed: float) -> None:
    whole = milliseconds(f"{number}{unit}")
    assert milliseconds(quicker(f"{number}{unit}", speed)) == pytest.approx(whole / speed, abs=1)
    assert milliseconds(quicker(f"{number}{unit}", speed)) >= 1


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("rate(a_total[5m])", "rate(a_total[25000ms])"),
        ("max_over_time(rate(a[5m])[1h:1m])", "max_over_time(rate(a[25000ms])[300000ms:5000ms])"),
        ("a offset 1h > 5", "a offset 300000ms > 5"),
        ('rate(a{label="5m"}[1m]) > 0.05', 'rate(a{label="5m"}[5000ms]) > 0.05'),
        (r'a{label=~"x\"5m.*"}', r'a{label=~"x\"5m.*"}'),
        ("a{label='5m'} + b{label=`5m`}", "a{label='5m'} + b{label=`5m`}"),
        ("job:errors:rate5m > job:slo:5m", "job:errors:rate5m > job:slo:5m"),
        ("1e3 + 0.5 + 10", "1e3 + 0.5 + 10"),
    ],
)
def test_only_ranges_and_offsets_of_an_expression_change(expression: str, wanted: str) -> None:
    assert quicker_expression(expression, SPEED) == wanted


def test_the_shipped_rules_keep_everything_but_their_durations() -> None:
    quick, shipped = configuration.rules(RULES, SPEED), load(RULES)
    for one, other in zip(quick["groups"][0]["rules"], shipped["groups"][0]["rules"], strict=True):
        assert one.keys() == other.keys()
        assert {key: one[key] for key in one if key not in {"expr", "for"}} == {
            key: other[key] for key in other if key not in {"expr", "for"}
        }
        assert DURATION.sub("", str(one["expr"])) == DURATION.sub("", str(other["expr"]))
        for short, long in zip(_durations(one), _durations(other), strict=True):
            assert short == pytest.approx(long / SPEED, abs=1)


def _durations(rule: dict[str, Any]) -> list[int]:
    return [milliseconds(text) for text in [*DURATION.findall(str(rule["expr"])), rule.get("for", "0s")]]


def test_at_speed_1_windows_are_production_s() -> None:
    assert [_durations(rule) for rule in configuration.rules(RULES, 1)["groups"][0]["rules"]] == [
        _durations(rule) for rule in load(RULES)["groups"][0]["rules"]
    ]


def test_promtool_accepts_what_is_generated(tmp_path: Path) -> None:
    rules = configuration.write(configuration.rules(RULES, SPEED), tmp_path / "rules.yml")
    document = configuration.prometheus(MONITORING / "prometheus.yml", rules, ADDRESSES, SPEED)
    done = run("promtool", "check", "config", configuration.write(document, tmp_path / "prometheus.yml"))
    assert done.returncode == 0, done.stdout
    assert "rules.yml is valid" in done.stdout or "rules found" in done.stdout
    assert {job["job_name"] for job in document["scrape_configs"]} == {"baliblissed", "prometheus", "alertmanager"}
    assert document["global"] == {
        "scrape_interval": "1250ms",
        "scrape_timeout": "1250ms",
        "evaluation_interval": "1250ms",
    }


def test_the_load_test_s_own_targets_are_a_job_of_their_own(tmp_path: Path) -> None:
    document = configuration.prometheus(
        MONITORING / "prometheus.yml", tmp_path / "rules.yml", ADDRESSES, SPEED, ["127.0.0.1:4", "127.0.0.1:5"]
    )
    assert document["scrape_configs"][-1] == {
        "job_name": "loadtest",
        "static_configs": [{"targets": ["127.0.0.1:4", "127.0.0.1:5"]}],
    }


@pytest.mark.parametrize(("speed", "timeout"), [(1, "10s"), (1.25, "10s"), (2, "7500ms"), (12, "1250ms")])
def test_a_scrape_has_its_real_time_out_or_the_whole_interval(speed: float, timeout: str, tmp_path: Path) -> None:
    document = configuration.prometheus(MONITORING / "prometheus.yml", tmp_path / "rules.yml", ADDRESSES, speed)
    assert document["global"]["scrape_timeout"] == timeout


def test_amtool_accepts_what_is_generated_and_every_webhook_stays_here(tmp_path: Path) -> None:
    document = configuration.alertmanager(MONITORING / "alertmanager.yml", "http://127.0.0.1:4", SPEED)
    done = run("amtool", "check-config", configuration.write(document, tmp_path / "alertmanager.yml"))
    assert done.returncode == 0, done.stdout
    urls = [hook["url"] for one in document["receivers"] for hook in one.get("webhook_configs", [])]
    assert urls == [f"http://127.0.0.1:4/{path}" for path in (PAGES, TICKETS, HEARTBEAT)]
    assert document["route"]["group_wait"] == "25000ms"
    assert [child.get("group_wait") for child in document["route"]["routes"]] == ["0s", None, "2500ms"]


def test_a_webhook_that_would_leave_the_machine_is_refused(tmp_path: Path) -> None:
    shipped = (MONITORING / "alertmanager.yml").read_text()
    own = tmp_path / "alertmanager.yml"
    own.write_text(shipped.replace("http://alert-receiver:9095/pages", "https://pager.example.com/pages"))
    with pytest.raises(ConfigurationError, match="would leave this machine"):
        configuration.alertmanager(own, "http://127.0.0.1:4", SPEED)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "groups: [",
        "[]",
        "groups: [{name: x}]",
        "groups: [{name: x, rules: [{alert: A, expr: up, for: 5}]}]",
        "groups: [{name: x, rules: [{alert: A, expr: up, for: soon}]}]",
    ],
)
def test_a_file_that_is_no_configuration_is_named(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "rules.yml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigurationError, match=r"rules\.yml"):
        configuration.rules(path, SPEED)


def test_long_expressions_are_written_as_they_are(tmp_path: Path) -> None:
    document = configuration.rules(RULES, SPEED)
    assert yaml.safe_load(configuration.write(document, tmp_path / "rules.yml").read_text()) == document
