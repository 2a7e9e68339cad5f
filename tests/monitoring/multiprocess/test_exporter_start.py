"""The first lines of an exporter that no master has started."""

import json
from pathlib import Path

import pytest

from tests.monitoring.multiprocess.test_exporter import running


def warnings(output: str) -> list[dict[str, object]]:
    lines = map(json.loads, output.splitlines())
    return [line for line in lines if line["level"] == "warning"]


@pytest.mark.parametrize("value", [None, ""])
def test_an_exporter_without_a_namespace_warns_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv("METRICS_NAMESPACE")
    if value is not None:
        monkeypatch.setenv("METRICS_NAMESPACE", value)
    with running(tmp_path) as started:
        assert "app_exporter_live_processes" in started.scrape().text
        started.scrape()
        (warning,) = warnings(started.output)
    assert warning["event"] == "namespace_not_set"
    assert warning["what"] == "METRICS_NAMESPACE is not set; the package's own metrics are app_*"
    assert warning["instead"] == "METRICS_NAMESPACE=<the namespace of the service>"


def test_an_exporter_with_the_default_namespace_by_name_does_not_warn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METRICS_NAMESPACE", "app")
    with running(tmp_path) as started:
        started.scrape()
        assert warnings(started.output) == []


def test_an_exporter_says_where_it_listens_and_which_directory_it_reads(tmp_path: Path) -> None:
    with running(tmp_path) as started:
        (line,) = map(json.loads, started.output.splitlines())
    assert (line["event"], line["level"]) == ("exporter_started", "info")
    assert (line["listener"], line["directory"]) == (started.url.removeprefix("http://"), str(tmp_path))
