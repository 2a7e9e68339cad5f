"""One exposition, from the shared directory or from a registry of this process."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.mmap_dict import MmapedDict
from structlog.testing import capture_logs

from app.monitoring.catalogue import catalogue, registry
from app.monitoring.multiprocess.aggregate import directory, exposition
from tests.monitoring.multiprocess.test_exporter import count, environment
from tests.process.service import total


@pytest.fixture
def single() -> CollectorRegistry:
    """A registry of this process."""
    own = CollectorRegistry()
    Counter("rides", "Rides.", registry=own).inc(4)
    return own


def test_without_a_directory_the_registry_of_this_process_is_exposed(
    single: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    assert directory() is None
    body, content_type = exposition("", single)
    assert total(body.decode(), "rides_total") == 4
    assert content_type.startswith("text/plain")


def test_an_empty_name_is_no_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    assert directory() is None


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [("", "text/plain"), ("*/*", "text/plain"), ("application/openmetrics-text", "application/openmetrics-text")],
)
def test_with_a_directory_the_files_of_all_processes_are_exposed(
    single: CollectorRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accept: str, media_type: str
) -> None:
    count(tmp_path, 2)
    count(tmp_path, 3)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    assert directory() == tmp_path
    body, content_type = exposition(accept, single)
    assert content_type.startswith(media_type)
    assert body.endswith(b"# EOF\n") is (media_type != "text/plain")
    assert b'baliblissed_cache_hits_total{cache="places"} 5.0' in body
    assert b"rides" not in body


def garbled_key(file: Path) -> None:
    """Write a file of the right form whose key cannot be read."""
    values = MmapedDict(str(file))  # type: ignore[no-untyped-call]
    values.write_value("no JSON", 1.0, 0.0)  # type: ignore[no-untyped-call]
    values.close()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda file: file.write_bytes(b""), id="empty"),
        pytest.param(lambda file: file.write_bytes(b"\x7f" * 4096), id="garbage"),
        pytest.param(lambda file: file.symlink_to(file.with_name("gone")), id="vanished"),
        pytest.param(garbled_key, id="key that is no JSON"),
    ],
)
def test_a_bad_file_costs_its_own_numbers_only_and_is_counted(
    single: CollectorRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], object]
) -> None:
    count(tmp_path, 2)
    spoil(tmp_path / "counter_999999.db")
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    catalogue()
    before = registry().get_sample_value("baliblissed_exporter_unreadable_files_total") or 0
    with capture_logs() as lines:
        body, _ = exposition("", single)
    assert total(body.decode(), "baliblissed_cache_hits_total", cache="places") == 2
    assert registry().get_sample_value("baliblissed_exporter_unreadable_files_total") == before + 1
    assert [(line["event"], line["count"]) for line in lines] == [("metric_files_left_out", 1)]


def test_a_metric_with_a_forbidden_label_is_left_out(
    single: CollectorRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        "from prometheus_client import Counter\n"
        "Counter('visits', 'Visits.', ['user_id'], registry=None).labels('7').inc()\n"
        "Counter('rides', 'Rides.', ['place'], registry=None).labels('Ubud').inc()"
    )
    subprocess.run([sys.executable, "-c", script], env=environment(tmp_path), check=True)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    text = exposition("", single)[0].decode()
    assert total(text, "rides_total", place="Ubud") == 1
    assert "visits" not in text
