"""Workers that have died: what they leave with the library, and what our archive makes of them.

Eight real processes have counted through each side's value class, the same numbers, and were killed. Hundreds more of
the dead are further names (hard links) of their files: nothing tells them apart for a reader, except that the page
cache holds them once, which favours the library. The Folder makes the archive from such names, eight at a time, as it
would from files of their own.
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


class Graveyard:
    """The dead of one size."""

    def __init__(self, path: Path, size: Size, counts: Sequence[int]) -> None:
        """Let processes count and die, and fold as many as each of `counts` says. Raises BenchmarkError."""
        self._path = path
        self._size = size
        self.folding: list[Figures] = []
        """What folding so many has cost: once, whenever they died."""
        if any(counts):
            self._shared, self._librarys = list(self._left("shared")), list(self._left("library"))
            self._fold(sorted(count for count in counts if count))

    def _left(self, side: str) -> Iterator[Files]:
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
                milliseconds += self._die(aggregate, range(first, first + BATCH))
                if first + BATCH in counts:
                    self._keep(first + BATCH, milliseconds)
            # And what a scrape costs that meets one more; the archives that are kept do not hold these.
            alone = [self._die(aggregate, [counts[-1] + number]) for number in range(SINGLES)]
        for one in self.folding:
            one["one_more_ms"] = round(median(alone), 3)

    def _die(self, aggregate: Aggregate, numbers: Sequence[int]) -> float:
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

    def _keep(self, dead: int, milliseconds: float) -> None:
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

    def bury(self, dead: int, directory: Path) -> None:
        """Put the archive of that many into a directory of ours."""
        shutil.copyfile(self._path / "folded" / EPOCH, directory / EPOCH)
        shutil.copyfile(self._path / f"{ARCHIVE}.{dead}", directory / ARCHIVE)

    def leave(self, dead: int, directory: Path) -> None:
        """Put the files of that many into a directory of the library's, which never removes them."""
        for number in range(dead):
            for kind, file in self._librarys[number % BATCH].items():
                os.link(file, directory / f"{kind}_{FIRST_PID + number}.db")


@contextmanager
def directories(path: Path, live: Path, graveyard: Graveyard, dead: int) -> Iterator[tuple[Path, Path]]:
    """Yield our and the library's directory after `dead` workers have died; both hold hard links to the live files."""
    if dead == 0:
        yield live, live
        return
    ours, library = path / f"ours-{dead}", path / f"library-{dead}"
    ours.mkdir()
    library.mkdir()
    link_live(live, ours)
    graveyard.bury(dead, ours)
    for file in live.glob("*.db"):
        named = owner(file.name)
        if named is not None:
            os.link(file, library / f"{named[0]}_{named[1].partition('-')[0]}.db")
    graveyard.leave(dead, library)
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
