"""Both sides as readers of a directory, each in a process of its own: neither has the other's garbage or free memory.

Times are CPU time, because both sides do nothing but compute: on an idle machine it is the time on the clock, on a busy
one it stays what it is. The library's long scrapes would be interrupted more often, which would flatter the ratio.
"""

import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import NamedTuple

from app.monitoring.multiprocess.aggregate import Aggregate
from loadtest.benchmarks.command import Figures
from loadtest.benchmarks.expositions import ACCEPT, library_exposition
from loadtest.benchmarks.processes import order

Scrape = Callable[[str], bytes]


class Timed(NamedTuple):
    """The duration and the result of a scrape."""

    milliseconds: float
    body: bytes


def ours(directory: Path) -> Scrape:
    """Return a scrape by our Aggregate as the exporter uses it: it also checks for dead processes."""
    aggregate = Aggregate(directory, folds=True)
    return lambda form: aggregate.exposition(ACCEPT[form])[0]


def library(directory: Path) -> Scrape:
    """Return a scrape by the library's collector, which keeps nothing from one scrape to the next."""
    return lambda form: library_exposition(directory, form)


def read(pipe: Connection, side: Callable[[Path], Scrape], directory: Path) -> None:
    """Answer each order (format, whether as a new reader) in a reading process with a Timed."""
    scrape = side(directory)
    while True:
        form, anew = pipe.recv()
        if anew:
            scrape = side(directory)
        started = time.process_time()
        body = scrape(form)
        pipe.send(Timed((time.process_time() - started) * 1e3, body))


def scraped(reader: Connection, form: str, *, anew: bool = False) -> Timed:
    """Have a reading process scrape once."""
    found: Timed = order([reader], (form, anew))[0]
    return found


def compared(ours: list[float], library: list[float]) -> Figures:
    """Return medians in milliseconds, and the median ratio of the pairs; None for what was not measured.

    `least_ratio` is that of the two quickest scrapes: what a machine without other work comes near to.
    """
    pairs = list(zip(library, ours, strict=False))
    return {
        "pairs": len(pairs),
        "our_ms": _rounded(median(ours)),
        "library_ms": _rounded(median(library)) if library else None,
        "ratio": _rounded(median(one / other for one, other in pairs)) if pairs else None,
        "least_ratio": _rounded(min(library) / min(ours)) if pairs else None,
    }


def _rounded(figure: float) -> float:
    """Round to four digits: a second run does not reproduce more."""
    return float(f"{figure:.4g}")
