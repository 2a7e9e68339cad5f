"""prometheus_client's own MultiProcessCollector, as an old /metrics route has it, after workers have ended."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from app.monitoring.multiprocess.aggregate import of_directory
from app.monitoring.multiprocess.directory import ARCHIVE
from tests.monitoring.multiprocess.simulated import Samples, Scene, Worker, samples, series
from tests.monitoring.multiprocess.test_faults import HITS
from tests.monitoring.multiprocess.test_oracle import Event, Spec, histories, play, rows
from tests.process.service import ROOT

PATIENT = settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(autouse=True)
def _forget() -> None:
    of_directory.cache_clear()


def collector(path: Path | None = None) -> CollectorRegistry:
    """Return a registry as the library's documentation makes it."""
    own = CollectorRegistry()
    MultiProcessCollector(own, path and str(path))  # type: ignore[no-untyped-call]
    return own


def old_route(path: Path | None = None) -> Samples:
    """Return the samples of a /metrics route as the library's documentation has it."""
    return samples(generate_latest(collector(path)).decode())


def work(worker: Worker) -> None:
    with worker.at_work():
        Counter("hits", "Hits.", registry=None).inc(2)
        Summary("size", "Size.", ("place",), registry=None).labels("Ubud").observe(3)
        Histogram("took", "Took.", ("place",), registry=None, buckets=(1, 2)).labels("Kuta").observe(1.5)
        Gauge("most", "Most.", registry=None, multiprocess_mode="max").set(4)
        Gauge("now", "Now.", registry=None, multiprocess_mode="livesum").set(5)


EXPECTED = {
    series("size_count", place="Ubud"): 2,
    series("size_sum", place="Ubud"): 6,
    series("took_bucket", place="Kuta", le="1.0"): 0,
    series("took_bucket", place="Kuta", le="2.0"): 2,
    series("took_bucket", place="Kuta", le="+Inf"): 2,
    series("took_count", place="Kuta"): 2,
    series("took_sum", place="Kuta"): 3,
    series("most"): 4,
    HITS: 4,
}


def test_an_old_route_shows_the_same_totals_before_a_fold_and_after(scene: Scene) -> None:
    workers, aggregate = [scene.worker() for _ in range(2)], scene.aggregate()
    for worker in workers:
        work(worker)
    assert old_route() == {**EXPECTED, series("now"): 10}
    for living in (5, None):
        workers.pop().die()
        aggregate.refresh()  # the fold of the exporter
        expected = EXPECTED if living is None else {**EXPECTED, series("now"): living}
        assert old_route() == expected
        assert samples(aggregate.exposition("")[0].decode()) == expected
    assert not list(scene.directory.glob("*.db"))
    assert (scene.directory / ARCHIVE).exists()


def test_a_directory_that_is_given_by_its_path_is_read_with_its_archive(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    worker, aggregate = scene.worker(), scene.aggregate()
    work(worker)
    worker.die()
    aggregate.refresh()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    assert old_route() == {}
    assert old_route(scene.directory)[HITS] == 2


def test_a_directory_without_an_archive_is_the_librarys_own(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    work(scene.worker())
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(scene.directory.parent))
    monkeypatch.setattr("app.monitoring.multiprocess.families.of_directory", None)
    assert old_route(scene.directory)[HITS] == 2


def test_an_old_route_that_restricts_names_is_answered(scene: Scene) -> None:
    worker, aggregate = scene.worker(), scene.aggregate()
    work(worker)
    worker.die()
    aggregate.refresh()
    own = CollectorRegistry(support_collectors_without_names=True)
    MultiProcessCollector(own)  # type: ignore[no-untyped-call]
    restricted = own.restricted_registry(["hits_total"])
    assert samples(generate_latest(restricted).decode()) == {HITS: 2}


def test_a_directory_that_is_gone_fails_no_route(scene: Scene) -> None:
    own = collector()
    scene.directory.rename(moved := scene.directory.with_name(f"{scene.directory.name}-moved"))
    try:
        assert generate_latest(own) == b""
    finally:
        moved.rename(scene.directory)


@PATIENT
@given(histories())
def test_the_families_are_those_of_the_library_for_all_files_that_ever_were(
    history: tuple[list[Spec], list[Event]],
) -> None:
    specs, events = history
    with play(specs) as (stage, actors):
        for event in events:
            actors.act(event)
        theirs = actors.library()
        actors.fold()
        of_directory.cache_clear()
        ours = list(MultiProcessCollector(None, str(stage.directory)).collect())  # type: ignore[no-untyped-call]
        mine, other = rows(ours), rows(theirs)
        assert [row for row, _ in mine] == [row for row, _ in other]
        assert [value for _, value in mine] == pytest.approx([value for _, value in other], rel=1e-9, nan_ok=True)


# Another process that imports the package, as a worker does, with a real fold by a real exporter's reader before it.
OLD_ROUTE = """
import json
import app.monitoring.prometheus
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector
own = CollectorRegistry()
MultiProcessCollector(own)
print(json.dumps(own.get_sample_value("hits_total")))
"""


def test_a_worker_that_imports_the_package_has_the_archive_and_another_program_has_not(scene: Scene) -> None:
    worker = scene.worker()
    work(worker)
    worker.die()
    scene.aggregate().refresh()
    for code, expected in ((OLD_ROUTE, 2), (OLD_ROUTE.replace("import app.monitoring.prometheus\n", ""), None)):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=dict(os.environ), capture_output=True, check=True, timeout=60
        )
        assert json.loads(done.stdout) == expected
