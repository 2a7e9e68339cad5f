"""Metric files of dead workers: the library's directory with their files, and ours with the archive of them.

Eight real processes count the same numbers through each side's value class and are killed. Further dead workers are
hard links to their files. A reader cannot distinguish them from separate files, except that the page cache holds them
once, which favours the library. The Folder makes the archive from such links, eight at a time.
"""

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from app.monitoring.multiprocess.aggregate import Aggregate
from app.monitoring.multiprocess.directory import ARCHIVE, EPOCH, claim
from app.monitoring.multiprocess.presence import SUFFIX
from app.monitoring.multiprocess.source import owner
from loadtest.benchmarks.command import BenchmarkError, Figures
from loadtest.benchmarks.processes import answers, processes
from loadtest.benchmarks.workload import Size, work, work_as_library

BATCH = 8
# No process has such an id: 4,194,304 is the largest that Linux gives.
FIRST_PID = 5_000_000
FIRST_SEED = 1_000
SINGLES = 5
Files = dict[str, Path]
"""A dead process's files by kind, such as counter."""


class DeadWorkers:
    """The files and archives of dead workers of one size."""

    def __init__(self, path: Path, size: Size, counts: Sequence[int]) -> None:
        """Kill processes that have counted, and fold as many as each of `counts`. Raises BenchmarkError."""
        self._path = path
        self._size = size
        self.folding: list[Figures] = []
        """The cost of folding each number of dead workers, measured once."""
        if any(counts):
            self._shared, self._librarys = list(self._files_of_killed("shared")), list(self._files_of_killed("library"))
            self._fold(sorted(count for count in counts if count))

    def _files_of_killed(self, side: str) -> Iterator[Files]:
        """Let eight processes count, each in its own directory, kill them, and yield their files."""
        places = [self._path / side / str(number) for number in range(BATCH)]
        for place in places:
            place.mkdir(parents=True)
        seeds = range(FIRST_SEED, FIRST_SEED + BATCH)
        target = work if side == "shared" else work_as_library
        with processes(target, [(place, self._size, seed) for place, seed in zip(places, seeds, strict=True)]) as pipes:
            answers(pipes)
        for place in places:
            yield {named[0]: file for file in place.glob("*.db") if (named := owner(file.name)) is not None}

    def _fold(self, counts: Sequence[int]) -> None:
        directory = self._path / "folded"
        with claim(directory):
            aggregate = Aggregate(directory, folds=True)
            milliseconds = 0.0
            for first in range(0, counts[-1], BATCH):
                milliseconds += self._measure_fold(aggregate, range(first, first + BATCH))
                if first + BATCH in counts:
                    self._keep_archive(first + BATCH, milliseconds)
            # The cost of a scrape that folds one more; the kept archives do not hold these.
            alone = [self._measure_fold(aggregate, [counts[-1] + number]) for number in range(SINGLES)]
        for one in self.folding:
            one["one_more_ms"] = round(median(alone), 3)

    def _measure_fold(self, aggregate: Aggregate, numbers: Sequence[int]) -> float:
        """Fold these processes as dead; return the milliseconds until their files are archived and removed."""
        for number in numbers:
            identity = f"{FIRST_PID + number}-{number:08x}"
            for kind, file in self._shared[number % BATCH].items():
                os.link(file, aggregate.path / f"{kind}_{identity}.db")
            (aggregate.path / f"{identity}{SUFFIX}").touch()
        started = time.perf_counter()
        aggregate.refresh()
        milliseconds = (time.perf_counter() - started) * 1e3
        if any(aggregate.path.glob("*.db")):
            raise BenchmarkError("the dead were not folded into the archive")
        return milliseconds

    def _keep_archive(self, dead: int, milliseconds: float) -> None:
        archive = shutil.copyfile(self._path / "folded" / ARCHIVE, self._path / f"{ARCHIVE}.{dead}")
        self.folding.append(
            {
                "lines": self._size.lines,
                "dead": dead,
                "ms": round(milliseconds, 1),
                "ms_a_worker": round(milliseconds / dead, 3),
                "archive_bytes": archive.stat().st_size,
            }
        )

    def copy_archive(self, dead: int, directory: Path) -> None:
        """Copy the archive of `dead` workers into a directory of ours."""
        shutil.copyfile(self._path / "folded" / EPOCH, directory / EPOCH)
        shutil.copyfile(self._path / f"{ARCHIVE}.{dead}", directory / ARCHIVE)

    def link_files(self, dead: int, directory: Path) -> None:
        """Link the files of `dead` workers into a directory of the library's, which never removes them."""
        for number in range(dead):
            for kind, file in self._librarys[number % BATCH].items():
                os.link(file, directory / f"{kind}_{FIRST_PID + number}.db")


@contextmanager
def directories(path: Path, live: Path, dead_workers: DeadWorkers, dead: int) -> Iterator[tuple[Path, Path]]:
    """Yield our and the library's directory after `dead` workers have died; both hold hard links to the live files."""
    if dead == 0:
        yield live, live
        return
    ours, library = path / f"ours-{dead}", path / f"library-{dead}"
    ours.mkdir()
    library.mkdir()
    link_live(live, ours)
    dead_workers.copy_archive(dead, ours)
    for file in live.glob("*.db"):
        named = owner(file.name)
        if named is not None:
            os.link(file, library / f"{named[0]}_{named[1].partition('-')[0]}.db")
    dead_workers.link_files(dead, library)
    try:
        yield ours, library
    finally:
        shutil.rmtree(ours)
        shutil.rmtree(library)


def link_live(live: Path, directory: Path) -> None:
    """Hard-link the live workers' files into another directory. Locks belong to files, so they are shared."""
    for file in live.iterdir():
        if file.suffix in {".db", SUFFIX}:
            os.link(file, directory / file.name)
