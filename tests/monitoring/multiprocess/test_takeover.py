"""A service claims the directory of an earlier one while an exporter that runs beside it folds the dead.

Each acts at every step of the other. Nothing that the earlier service has counted may be among the new one's totals.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Counter, Gauge

from app.monitoring.multiprocess.aggregate import Aggregate
from app.monitoring.multiprocess.directory import ARCHIVE, claim
from app.monitoring.multiprocess.folder import Folder
from app.monitoring.multiprocess.reader import Reader
from tests.monitoring.multiprocess.simulated import Samples, Scene, samples, scene, series, watched

HITS = series("hits_total")


class Steps:
    """Call `act` once, at step number `at` of the observed calls."""

    def __init__(self, at: int, act: Callable[[], object]) -> None:
        self.acted = False
        self._left, self._act = at, act

    def point(self) -> None:
        if self.acted:
            return
        if self._left == 0:
            self.acted = True
            self._act()
        self._left -= 1

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap `call` with a step before it and one after it."""

        def observed(*args: Any, **kwargs: Any) -> Any:
            self.point()
            result = call(*args, **kwargs)
            self.point()
            return result

        return observed


def counted_by_a_dead_process(place: Scene, hits: float) -> None:
    """Leave the files of a process that has ended, a gauge that outlives its process and an exemplar included."""
    worker = place.worker()
    with worker.at_work():
        Counter("hits", "Hits.", registry=None).inc(hits, {"trace_id": "1"})
        Gauge("last", "Last.", registry=None, multiprocess_mode="mostrecent").set(hits)
    worker.die()


def totals(exporter: Aggregate) -> Samples:
    return samples(exporter.exposition("")[0].decode())


@contextmanager
def earlier(*, known: bool) -> Iterator[tuple[Scene, Aggregate]]:
    """Yield a directory with an archive and a dead process's files, and an exporter; it knows the files if `known`."""
    with scene() as place:
        claim(place.directory).close()
        exporter = place.aggregate()
        counted_by_a_dead_process(place, 5)
        exporter.refresh()
        counted_by_a_dead_process(place, 7)
        if known:
            exporter.reader.refresh()
        assert place.samples()[HITS] == 12
        yield place, exporter


def check_that_nothing_is_left(place: Scene, exporter: Aggregate) -> None:
    assert place.samples() == totals(exporter) == {}
    counted_by_a_dead_process(place, 2)
    assert totals(exporter)[HITS] == place.samples()[HITS] == 2
    assert totals(place.aggregate())[HITS] == 2


def claimed(place: Scene, steps: Steps) -> None:
    """Claim the directory; each call that lists or changes it is observed."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("iterdir", "unlink", "rename"):
            patch.setattr(Path, name, steps.around(getattr(Path, name)))
        claim(place.directory).close()


@pytest.mark.parametrize("known", [False, True])
def test_an_exporter_that_folds_at_any_step_of_a_claim_keeps_nothing_of_the_earlier_service(*, known: bool) -> None:
    for at in count():
        with earlier(known=known) as (place, exporter):
            steps = Steps(at, exporter.refresh)
            claimed(place, steps)
            check_that_nothing_is_left(place, exporter)
        if not steps.acted:
            break
    assert at > 2 * 6, "the list, the epoch twice, and at least three files"


def test_an_archive_that_is_written_during_a_claim_belongs_to_nobody(scene: Scene) -> None:
    """The race that the second epoch write prevents: the archive is not in the claim's listing, so it is kept."""
    claim(scene.directory).close()
    exporter = scene.aggregate()
    counted_by_a_dead_process(scene, 7)
    with pytest.MonkeyPatch.context() as patch:
        iterdir = Path.iterdir

        def listed(path: Path) -> Iterator[Path]:
            found = list(iterdir(path))
            assert not (scene.directory / ARCHIVE).exists()
            exporter.refresh()
            assert (scene.directory / ARCHIVE).exists()
            return iter(found)

        patch.setattr(Path, "iterdir", listed)
        claim(scene.directory).close()
    assert (scene.directory / ARCHIVE).exists()
    check_that_nothing_is_left(scene, exporter)


@pytest.mark.parametrize("known", [False, True])
def test_a_claim_at_any_step_of_a_fold_starts_from_nothing(*, known: bool) -> None:
    for at in count():
        with earlier(known=known) as (place, exporter), pytest.MonkeyPatch.context() as patch:
            steps = Steps(at, lambda where=place.directory: claim(where).close())  # type: ignore[misc]
            assert exporter.folder is not None
            exporter.folder._files = watched(steps.point)
            for owner, name in ((Reader, "read_source"), (Reader, "_load_archive"), (Folder, "_folded_archive")):
                patch.setattr(owner, name, steps.around(getattr(owner, name)))
            exporter.refresh()
            patch.undo()
            if not steps.acted:
                break
            check_that_nothing_is_left(place, exporter)
    assert at > 2 * 5, "reading, writing, renaming and removing"
