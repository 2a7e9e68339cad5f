"""Nothing grows with the number of the dead: not the directory, not what a scrape reads, not what it writes."""

import pytest
from prometheus_client import Counter, Gauge, Histogram

from app.monitoring.multiprocess import source
from app.monitoring.multiprocess.directory import ARCHIVE, claim, usage
from app.monitoring.multiprocess.labels import OVERFLOW
from app.monitoring.multiprocess.presence import pid_of
from tests.monitoring.multiprocess.simulated import (
    Keeper,
    Scene,
    Worker,
    release,
    samples,
    series,
    shown,
    text,
)

DEATHS = 1000
# Of the archive's generation, of identities, of times.
A_FEW_DIGITS = 16
MODES = ("min", "max", "sum", "mostrecent", "livesum", "livemax")


class Service:
    """Processes that all count the same."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.counted = 0
        first = scene.worker()
        with first.at_work():
            self._hits = Counter("hits", "Hits.", ("place",), registry=None)
            self._took = Histogram("took", "Took.", registry=None)
            self._gauges = [Gauge(mode, mode, registry=None, multiprocess_mode=mode) for mode in MODES]  # type: ignore[arg-type]
        self.live = self._work(first)

    def worker(self, prefix: str | None = None) -> Worker:
        return self._work(self._scene.worker(prefix))

    def _work(self, worker: Worker) -> Worker:
        self.counted += 1
        with worker.at_work():
            for place in range(5):
                self._hits.labels(place).inc(1, {"trace_id": "1"})
            self._took.observe(0.1, {"trace_id": "1"})
            for gauge in self._gauges:
                gauge.set(3)
        return worker


class Reads:
    """A counter of the files that readers read, and of their bytes."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.files = self.bytes = 0
        self._read = source.read
        patch.setattr(source, "read", self._counting)

    def _counting(self, path: str, known: int) -> bytes:
        content = self._read(path, known)
        self.files += 1
        self.bytes += len(content)
        return content


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(monkeypatch)


def cost(keeper: Keeper, reads: Reads) -> tuple[int, int, int, int]:
    """Return files and bytes that one more scrape reads, lines that it writes, and the width of its columns."""
    keeper.fold()
    reads.files = reads.bytes = 0
    keeper.reader.refresh()
    lines = text(keeper.reader, openmetrics=True).count("\n")
    return reads.files, reads.bytes, lines, sum(table.width for table in keeper.reader.tables.values())


def test_after_a_thousand_deaths_directory_and_scrapes_are_as_after_one(scene: Scene, reads: Reads) -> None:
    service, keeper = Service(scene), scene.keeper()
    service.worker().die()
    before = cost(keeper, reads)
    files, held, _ = usage(scene.directory)
    size = (scene.directory / ARCHIVE).stat().st_size
    most = 0
    for _ in range(DEATHS):
        service.worker().die()
        keeper.fold()
        most = max(most, len(scene.names()))
    assert cost(keeper, reads) == before
    assert usage(scene.directory)[:2] == (files, held)
    assert most == len(scene.names()) == files
    assert abs((scene.directory / ARCHIVE).stat().st_size - size) <= A_FEW_DIGITS
    assert service.counted == DEATHS + 2
    found = scene.samples()
    assert found == shown(keeper.reader)
    assert found[series("hits_total", place="0")] == found[series("took_count")] == service.counted
    assert found[series("sum")] == 3 * service.counted
    assert found[series("livesum")] == 3


def test_many_deaths_at_once_are_one_fold_and_leave_no_more_once_the_next_has_come(scene: Scene) -> None:
    service, keeper = Service(scene), scene.keeper()
    service.worker().die()
    keeper.fold()
    before = len(scene.names()), (scene.directory / ARCHIVE).stat().st_size
    for _ in range(DEATHS // 4):
        service.worker().die()
    assert keeper.fold() == DEATHS // 4
    assert keeper.reader.archive.generation == 2
    service.worker().die()
    keeper.fold()
    assert len(scene.names()) == before[0]
    assert abs((scene.directory / ARCHIVE).stat().st_size - before[1]) <= A_FEW_DIGITS
    assert scene.samples()[series("took_count")] == service.counted


def test_label_sets_that_never_come_back_do_not_make_the_archive_grow(scene: Scene) -> None:
    keeper, sizes = scene.keeper(max_series=10), []
    for number in range(200):
        worker = scene.worker()
        with worker.at_work():
            Counter("hits", "Hits.", ("number",), registry=None).labels(number).inc(1, {"trace_id": "1"})
            Histogram("took", "Took.", ("number",), registry=None).labels(number).observe(0.1)
            for mode in ("max", "sum"):
                Gauge(mode, mode, ("number",), registry=None, multiprocess_mode=mode).labels(number).set(1)
        worker.die()
        keeper.fold()
        sizes.append((len(keeper.reader.archive.keys), len(keeper.reader.archive.exemplars)))
    assert len(set(sizes[20:])) == 1
    table = keeper.reader.tables["counter"]
    assert len(table._by_key) <= 11
    found = shown(keeper.reader)
    assert found == shown(scene.reader(max_series=10))
    assert found[series("hits_total", number=OVERFLOW)] == found[series("took_count", number=OVERFLOW)] == 190
    assert found[series("sum", number=OVERFLOW)] == 190
    assert table.refused == {"hits": 190}
    assert sum(value for (name, _), value in found.items() if name == "took_count") == 200


def test_process_ids_that_come_back_add_up(scene: Scene) -> None:
    keeper, service = scene.keeper(), Service(scene)
    pids = set()
    for _ in range(20):
        worker = service.worker("same")
        pids.add(pid_of(worker.identity))
        worker.die()
        if service.counted % 3:
            keeper.fold()
    assert len(pids) == 1
    assert keeper.scrape()[series("took_count")] == scene.samples()[series("took_count")] == service.counted


def test_two_exporters_at_once_fold_each_death_once(scene: Scene) -> None:
    with claim(scene.directory):
        service, exporters = Service(scene), [scene.aggregate(), scene.aggregate()]
        folders = [exporter.folder for exporter in exporters]
        for turn in range(30):
            service.worker().die()
            for exporter in exporters:
                body = exporter.exposition("")[0].decode()
                assert samples(body)[series("took_count")] == service.counted
            if turn == 20:
                assert [folder and folder.folded for folder in folders] == [21, 0]
                dead = exporters.pop(0).folder
                assert dead is not None
                release(dead)
        assert [folder and folder.folded for folder in folders] == [21, 9]
        assert len([name for name in scene.names() if name.endswith(".presence")]) == 1
