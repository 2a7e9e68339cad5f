"""MetricsManager on this host, and on cgroup files as a container has them."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from prometheus_client import CollectorRegistry

from app.managers.metrics import MetricsManager, collect, memory
from app.monitoring.metrics.catalogue import Catalogue, build_catalogue

MIB = 1024 * 1024


def write_cgroup(
    directory: Path, *, limit: str = str(512 * MIB), used: str = str(300 * MIB), stat: str = f"inactive_file {MIB}\n"
) -> Path:
    """Write the files of cgroup v2 that the manager reads."""
    (directory / "memory.max").write_text(f"{limit}\n")
    (directory / "memory.current").write_text(f"{used}\n")
    (directory / "memory.stat").write_text(stat)
    return directory


@pytest.fixture
def registry() -> CollectorRegistry:
    """Return a registry of this test."""
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> Catalogue:
    """Return the catalogue in that registry."""
    return build_catalogue(registry)


def value(registry: CollectorRegistry, name: str) -> float:
    found = registry.get_sample_value(f"baliblissed_system_{name}")
    assert found is not None
    return found


def test_a_container_counts_its_own_memory_without_the_page_cache(tmp_path: Path) -> None:
    stat = f"anon {200 * MIB}\ninactive_file {100 * MIB}\nactive_file {MIB}\n"
    assert memory(write_cgroup(tmp_path, stat=stat)) == (200 * MIB, 512 * MIB)


def test_a_container_without_page_cache_counts_all_it_uses(tmp_path: Path) -> None:
    assert memory(write_cgroup(tmp_path, stat="anon 1\n"))[0] == 300 * MIB


def test_memory_in_use_is_never_negative(tmp_path: Path) -> None:
    assert memory(write_cgroup(tmp_path, used="5", stat="inactive_file 10\n"))[0] == 0


def test_a_limit_above_the_hosts_memory_is_the_hosts(tmp_path: Path) -> None:
    assert memory(write_cgroup(tmp_path, limit=str(2**60)))[1] == psutil.virtual_memory().total


@pytest.mark.parametrize(
    "files",
    [{"limit": "max"}, {"limit": ""}, {"used": "many"}, {"stat": "inactive_file\n"}, {"stat": "inactive_file x\n"}],
    ids=str,
)
def test_without_a_limit_that_can_be_read_the_figures_are_the_hosts(tmp_path: Path, files: dict[str, str]) -> None:
    used, limit = memory(write_cgroup(tmp_path, **files))
    assert limit == psutil.virtual_memory().total
    assert 0 < used < limit
    assert used != 300 * MIB


def test_without_cgroup_files_the_figures_are_the_hosts(tmp_path: Path) -> None:
    assert memory(tmp_path / "nothing")[1] == psutil.virtual_memory().total


def test_the_gauges_hold_the_containers_memory(tmp_path: Path, registry: CollectorRegistry, metrics: Catalogue) -> None:
    MetricsManager(cgroup=write_cgroup(tmp_path, stat="inactive_file 0\n")).collect(metrics)
    assert value(registry, "memory_used_bytes") == 300 * MIB
    assert value(registry, "memory_limit_bytes") == 512 * MIB


def test_the_gauges_hold_the_disk_that_is_asked_for(
    tmp_path: Path, registry: CollectorRegistry, metrics: Catalogue
) -> None:
    MetricsManager(disk=tmp_path).collect(metrics)
    assert value(registry, "disk_size_bytes") == shutil.disk_usage(tmp_path).total
    assert 0 < value(registry, "disk_used_bytes") <= value(registry, "disk_size_bytes")


def test_the_cpu_is_a_share_of_one(registry: CollectorRegistry, metrics: Catalogue) -> None:
    manager = MetricsManager()
    for _ in range(3):
        manager.collect(metrics)
        assert 0 <= value(registry, "cpu_usage_ratio") <= 1


def test_the_exporters_entry_collects_again_each_time(registry: CollectorRegistry, metrics: Catalogue) -> None:
    collect(metrics)
    size = value(registry, "disk_size_bytes")
    metrics.system_disk_size.set(0)
    collect(metrics)
    assert value(registry, "disk_size_bytes") == size > 0


def test_memory_of_the_host_that_can_be_had_is_not_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = SimpleNamespace(total=100, available=30, used=50, free=10)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: host)
    assert memory(tmp_path) == (70, 100)


def test_the_first_figure_of_the_cpu_is_one(
    registry: CollectorRegistry, metrics: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = iter([25.0, 50.0])
    monkeypatch.setattr(psutil, "cpu_percent", lambda: next(figures))
    MetricsManager().collect(metrics)
    assert value(registry, "cpu_usage_ratio") == 0.25
