"""Examples of docs/scale.md are valid for their programs, and figures of docs/architecture.md are those of the code."""

import re
from pathlib import Path

import pytest
import yaml

from app.monitoring.logs.writer import MAX_BYTES, MAX_LINES
from app.monitoring.multiprocess.labels import MAX_SERIES_PER_METRIC
from app.monitoring.traces.span_queue import MAX_BATCH_SIZE, MAX_QUEUE_SIZE
from app.settings import ROOT
from tests.alerts.programs import run

DOCS = ROOT / "docs"
EXAMPLES = re.findall(r"```yaml\n(.*?)```", (DOCS / "scale.md").read_text(), re.DOTALL)
PROMETHEUS = [example for example in EXAMPLES if example.startswith("# prometheus.yml")]
SIGNALS = (DOCS / "architecture.md").read_text().split("## How each signal flows\n")[1].split("\n## ")[0]


def _check(example: str, directory: Path) -> tuple[int, str]:
    (directory / "prometheus.yml").write_text(example)
    done = run("promtool", "check", "config", "--syntax-only", directory / "prometheus.yml")
    return done.returncode, done.stdout


def test_the_page_has_an_example_of_each_way_to_scale() -> None:
    text = "".join(PROMETHEUS)
    assert all(word in text for word in ("hashmod", "/federate", "remote_write"))


@pytest.mark.parametrize("example", PROMETHEUS)
def test_promtool_accepts_the_examples_for_prometheus(example: str, tmp_path: Path) -> None:
    status, output = _check(example, tmp_path)
    assert status == 0, output


def test_promtool_refuses_an_example_with_a_misspelt_key(tmp_path: Path) -> None:
    assert _check(PROMETHEUS[0].replace("modulus", "modulos"), tmp_path)[0] != 0


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_yaml(example: str) -> None:
    assert isinstance(yaml.safe_load(example), dict)


def test_what_is_kept_after_federation_is_what_the_rules_record() -> None:
    rules = yaml.safe_load((ROOT / "monitoring" / "rules" / "baliblissed.yml").read_text())
    names = {rule["record"] for group in rules["groups"] for rule in group["rules"] if "record" in rule}
    patterns = [re.compile(found) for found in re.findall(r'__name__=~"([^"|]+)"', "".join(PROMETHEUS))]
    assert patterns
    assert not {name for name in names if not any(pattern.fullmatch(name) for pattern in patterns)}


@pytest.mark.parametrize(
    "bound",
    [
        f"{MAX_LINES:,} lines and {MAX_BYTES >> 20} MiB a process",
        f"{MAX_QUEUE_SIZE:,} spans a worker",
        f"sent {MAX_BATCH_SIZE} at a time",
        f"label sets a metric, {MAX_SERIES_PER_METRIC:,}",
    ],
)
def test_the_bounds_of_buffers_are_those_of_the_code(bound: str) -> None:
    assert bound in SIGNALS


def test_what_is_dropped_is_counted_in_metrics_that_exist() -> None:
    named = set(re.findall(r"`(baliblissed_\w+)`", SIGNALS))
    assert "baliblissed_spans_dropped_total" in named
    assert not {name for name in named if f"`{name}`" not in (DOCS / "metrics.md").read_text()}
