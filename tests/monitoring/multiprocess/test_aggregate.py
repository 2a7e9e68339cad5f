"""One exposition, from the shared directory or from a registry of this process; forty at once are one."""

import errno
import gzip
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from structlog.testing import capture_logs

from app.monitoring.metrics.registry import registry
from app.monitoring.multiprocess.aggregate import SingleFlight, directory, exposition, of_directory
from app.monitoring.multiprocess.archive import Files
from app.monitoring.multiprocess.directory import claim
from app.monitoring.multiprocess.reader import DirectoryGoneError
from app.monitoring.prometheus import Instrumentator
from tests.monitoring.multiprocess.simulated import OPENMETRICS, Scene, samples, series
from tests.process.service import total, wait_for

HITS = series("hits_total")
FOLDS = "baliblissed_exporter_folded_processes_total"
# Made here, in single-process mode, for the same reason as the catalogue in simulated.py.
REFUSED = registry().refused.labels("hits", "too_many_series")
REFUSED_GAUGE = registry().refused.labels("depth", "too_many_series")


@pytest.fixture
def single() -> CollectorRegistry:
    """Return a registry of this process."""
    own = CollectorRegistry()
    Counter("rides", "Rides.", registry=own).inc(4)
    return own


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    of_directory.cache_clear()


def counting(scene: Scene, amount: float) -> None:
    with scene.worker().at_work():
        Counter("hits", "Hits.", registry=None).inc(amount, {"trace_id": "1"})


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
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        (OPENMETRICS, "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        (
            f"{OPENMETRICS};version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3",
            "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores",
        ),
    ],
)
def test_with_a_directory_the_files_of_all_processes_are_exposed(
    single: CollectorRegistry, scene: Scene, accept: str, content_type: str
) -> None:
    counting(scene, 2)
    counting(scene, 3)
    assert directory() == scene.directory
    body, found = exposition(accept, single)
    assert found == content_type
    assert body.endswith(b"# EOF\n") is (" # {" in body.decode()) is (OPENMETRICS in accept)
    assert b"hits_total 5.0" in body
    assert b"rides" not in body


def test_a_reader_in_a_worker_leaves_folding_to_the_exporter(single: CollectorRegistry, scene: Scene) -> None:
    worker = scene.worker()
    with worker.at_work():
        Counter("hits", "Hits.", registry=None).inc(2)
    worker.die()
    before = scene.names()
    assert samples(exposition("", single)[0].decode()) == {HITS: 2}
    assert scene.names() == before


def test_a_body_that_is_asked_for_packed_is_so_unless_it_is_small(scene: Scene) -> None:
    counting(scene, 2)
    aggregate = scene.aggregate()
    plain = aggregate.exposition("")[0]
    assert aggregate.exposition("", pack=True)[0] == plain
    with scene.worker().at_work():
        for number in range(50):
            Histogram(f"took_{number}", "Took.", registry=None).observe(number)
    packed = aggregate.exposition("", pack=True)[0]
    assert gzip.decompress(packed) == aggregate.exposition("")[0]
    assert len(packed) * 5 < len(aggregate.exposition("")[0])


def test_what_passes_the_limit_over_all_processes_is_counted(scene: Scene) -> None:
    aggregate = scene.aggregate(max_series=2)
    before = REFUSED._value.get()
    for number in range(5):
        with scene.worker().at_work():
            Counter("hits", "Hits.", ("number",), registry=None).labels(number).inc()
        aggregate.refresh()
    assert REFUSED._value.get() == before + 3
    assert aggregate.series() == {"hits": 3}


def test_it_says_who_lives(scene: Scene) -> None:
    aggregate, worker = scene.aggregate(), scene.worker()
    aggregate.refresh()
    assert aggregate.live() == 0
    counting(scene, 2)
    with worker.at_work():
        Counter("hits", "Hits.", registry=None).inc()
    aggregate.refresh()
    assert aggregate.live() == 2
    worker.die()
    aggregate.refresh()
    assert aggregate.live() == 1


def waiting(single_flight: SingleFlight) -> int:
    """Return the number of threads that wait for a call."""
    return sum(len(call._condition._waiters) for call in single_flight._running.values())  # type: ignore[attr-defined,misc]


def test_forty_scrapes_at_once_cost_one(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    counting(scene, 2)
    aggregate, go = scene.aggregate(), threading.Event()
    make, made = aggregate._build, []

    def slowly(**arguments: Any) -> bytes:
        made.append(arguments)
        assert go.wait(30)
        return make(**arguments)

    monkeypatch.setattr(aggregate, "_build", slowly)
    with ThreadPoolExecutor(40) as threads:
        answers = [threads.submit(aggregate.exposition, "") for _ in range(40)]
        wait_for(lambda: waiting(aggregate._single_flight) == 39, "thirty-nine to wait for the first")
        go.set()
        bodies = {answer.result(30)[0] for answer in answers}
    assert len(bodies) == len(made) == 1
    counting(scene, 3)
    assert samples(aggregate.exposition("")[0].decode()) == {HITS: 5}
    assert len(made) == 2


def test_scrapes_in_different_formats_do_not_share_an_answer(scene: Scene) -> None:
    counting(scene, 2)
    aggregate = scene.aggregate()
    with ThreadPoolExecutor(20) as threads:
        answers = [
            threads.submit(aggregate.exposition, accept, pack=pack)
            for _ in range(10)
            for accept in ("", OPENMETRICS)
            for pack in (False, True)
        ]
        types = [answer.result(30)[1].partition(";")[0] for answer in answers]
        bodies = [answer.result(30)[0] for answer in answers]
    assert types == ["text/plain", "text/plain", OPENMETRICS, OPENMETRICS] * 10
    assert [body.endswith(b"# EOF\n") for body in bodies] == [False, False, True, True] * 10


def test_a_failure_is_everybodys_who_waits_and_the_next_scrape_succeeds(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting(scene, 2)
    aggregate, go = scene.aggregate(), threading.Event()

    def fail(**_: Any) -> bytes:
        assert go.wait(30)
        raise DirectoryGoneError("it is gone")

    with monkeypatch.context() as patch, ThreadPoolExecutor(5) as threads:
        patch.setattr(aggregate, "_build", fail)
        answers = [threads.submit(aggregate.exposition, "") for _ in range(5)]
        wait_for(lambda: waiting(aggregate._single_flight) == 4, "four to wait for the first")
        go.set()
        assert [str(answer.exception(30)) for answer in answers] == ["it is gone"] * 5
    assert samples(aggregate.exposition("")[0].decode()) == {HITS: 2}


def test_threads_that_scrape_and_collect_at_once_see_totals_that_never_fall(scene: Scene) -> None:
    counting(scene, 1)
    aggregate = scene.aggregate()
    stop = threading.Event()

    def scrape() -> int:
        last, scrapes = 0.0, 0
        while not stop.is_set():
            found = samples(aggregate.exposition("")[0].decode())[HITS]
            assert found >= last
            last, scrapes = found, scrapes + 1
        return scrapes

    with ThreadPoolExecutor(4) as threads:
        scrapers = [threads.submit(scrape) for _ in range(3)]
        for _ in range(50):
            worker = scene.worker()
            with worker.at_work():
                Counter("hits", "Hits.", registry=None).inc()
            worker.die()
            aggregate.refresh()
        stop.set()
        assert all(scraper.result(30) for scraper in scrapers)
    assert samples(aggregate.exposition("")[0].decode()) == {HITS: 51}


def test_gauges_that_pass_the_limit_are_counted_once(scene: Scene) -> None:
    aggregate = scene.aggregate(max_series=2)
    before = REFUSED_GAUGE._value.get()
    for number in range(5):
        with scene.worker().at_work():
            Gauge("depth", "Depth.", ("number",), registry=None, multiprocess_mode="max").labels(number).set(1)
        aggregate.refresh()
    assert REFUSED_GAUGE._value.get() == before + 3


def test_what_passes_the_limit_in_the_next_service_is_counted_from_its_beginning(scene: Scene) -> None:
    aggregate = scene.aggregate(max_series=1)
    before = REFUSED._value.get()
    for _ in range(2):
        with claim(scene.directory):
            worker = scene.worker()
            with worker.at_work():
                hits = Counter("hits", "Hits.", ("number",), registry=None)
                for number in range(3):
                    hits.labels(number).inc()
            aggregate.refresh()
            worker.die()
    assert REFUSED._value.get() == before + 4


async def test_the_limit_of_a_reader_in_a_worker_is_the_registrys(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = FastAPI()
    Instrumentator().expose_to(app, [ip_network("127.0.0.1")])
    monkeypatch.setattr(registry(), "max_series", 2)
    with scene.worker().at_work():
        hits = Counter("hits", "Hits.", ("number",), registry=None)
        for number in range(4):
            hits.labels(number).inc()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://testserver") as client:
        found = samples((await client.get("/metrics")).text)
    assert found[series("hits_total", number="__overflow__")] == 2


def test_what_is_counted_between_the_reading_and_the_fold_is_in_the_same_scrape(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    aggregate, worker = scene.aggregate(), scene.worker()

    def count(amount: float) -> None:
        with worker.at_work():
            Counter("hits", "Hits.", registry=None).inc(amount)

    def last_moment() -> bool:
        count(3)
        worker.die()
        return True

    count(2)
    assert aggregate.folder is not None
    monkeypatch.setattr(aggregate.folder, "in_charge", last_moment)
    assert samples(aggregate.exposition("")[0].decode()) == {HITS: 5}


def test_a_fold_is_counted_once_though_the_files_cannot_be_removed(scene: Scene) -> None:
    class Stuck(Files):
        @staticmethod
        def remove(path: Path) -> None:
            raise OSError(errno.EIO, f"Input/output error: {path.name}")

    aggregate = scene.aggregate()
    assert aggregate.folder is not None
    aggregate.folder._files = Stuck
    before = registry().get_sample_value(FOLDS) or 0
    with capture_logs() as lines:
        for dead in (1, 2):
            worker = scene.worker()
            with worker.at_work():
                Counter("hits", "Hits.", registry=None).inc(2)
            worker.die()
            for _ in range(2):
                assert samples(aggregate.exposition("")[0].decode()) == {HITS: 2 * dead}
                assert registry().get_sample_value(FOLDS) == before + dead
    assert [line["event"] for line in lines] == ["dead_not_folded"] * 4
    aggregate.folder._files = Files
    assert samples(aggregate.exposition("")[0].decode()) == {HITS: 4}
    assert registry().get_sample_value(FOLDS) == before + 2


def test_scrapes_and_folds_leave_no_descriptor_open(scene: Scene) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    aggregate, other = scene.aggregate(), scene.aggregate()
    counts = set()
    with claim(scene.directory):
        for _ in range(5):
            worker = scene.worker()
            with worker.at_work():
                Counter("hits", "Hits.", registry=None).inc(2)
            for one in (aggregate, other):
                one.exposition(OPENMETRICS)
            worker.die()
            for one in (aggregate, other):
                one.refresh()
            counts.add(descriptors())
    assert len(counts) == 1
