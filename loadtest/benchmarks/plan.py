"""The cases and the number of their measurements. It follows from the sizes alone, so two runs measure the same."""

import math
from dataclasses import dataclass

from loadtest.benchmarks.command import Depth
from loadtest.benchmarks.workload import LARGE, SMALL, Size

WORKERS, DEAD = (2, 8, 32), (0, 128, 512)
FORMATS, CHANGED = ("text", "openmetrics"), (0, 10, 100)
USUAL_WORKERS = 8
# About what the library took for a stored number and for a line when this was written, and ours for a stored number.
LIBRARY_SECONDS, LIBRARY_SECONDS_A_LINE, OUR_SECONDS = 3e-6, 1e-5, 2.5e-7
SECONDS_A_ROW = {Depth.QUICK: 0.15, Depth.DEFAULT: 0.8, Depth.FULL: 3.0}
MIN_ROUNDS, MAX_ROUNDS = 3, 25
# The longest scrape of the library, in seconds: once at all, again when warm, and again for OpenMetrics.
MAX_SECONDS_ONCE = {Depth.QUICK: 5.0, Depth.DEFAULT: 5.0, Depth.FULL: math.inf}
MAX_SECONDS_WARM = {Depth.QUICK: 0.5, Depth.DEFAULT: 1.5, Depth.FULL: math.inf}
MAX_SECONDS_OPENMETRICS = {Depth.QUICK: 0.1, Depth.DEFAULT: 0.5, Depth.FULL: math.inf}


@dataclass(frozen=True)
class Case:
    """A number of live and of dead workers of one size."""

    workers: int
    dead: int
    size: Size

    @property
    def library_seconds(self) -> float:
        """About what one scrape takes the library, which reads the files of the dead as well."""
        entries = (self.workers + self.dead) * self.size.entries
        return entries * LIBRARY_SECONDS + self.size.lines * LIBRARY_SECONDS_A_LINE


@dataclass(frozen=True)
class Rounds:
    """The repetitions of one row: ours in each round, the library in the first `pairs` of them."""

    ours: int
    pairs: int
    note: str = ""
    """Why the library is not measured here, where it is not."""


def cases(depth: Depth) -> list[Case]:
    """Return the cases, those of one size and number of workers together."""
    if depth is Depth.QUICK:
        small = [(2, 0), (USUAL_WORKERS, 0), (USUAL_WORKERS, 512)]
        return [*(Case(workers, dead, SMALL) for workers, dead in small), Case(2, 0, LARGE)]
    return [Case(workers, dead, size) for size in (SMALL, LARGE) for workers in WORKERS for dead in DEAD]


def is_scraped_once(case: Case, depth: Depth) -> bool:
    """Return True if the library is measured on this case; with the usual number of workers it always is."""
    return case.library_seconds <= MAX_SECONDS_ONCE[depth] or case.workers == USUAL_WORKERS


def rounds(case: Case, form: str, depth: Depth) -> Rounds:
    """Return the repetitions of a row of this case."""
    half = 1 if form == "text" else 2
    seconds = SECONDS_A_ROW[depth] / half
    ours = _within(int(seconds / (case.workers * case.size.entries * OUR_SECONDS)), MIN_ROUNDS, MAX_ROUNDS // half)
    about = f"one scrape takes the library about {case.library_seconds:.2g} s"
    if not is_scraped_once(case, depth):
        return Rounds(ours, 0, f"{about}: --full measures it")
    if form == "text" and case.library_seconds > MAX_SECONDS_WARM[depth]:
        return Rounds(ours, 0, f"{about}: its cold one stands here, it remembers nothing")
    if form != "text" and case.library_seconds > MAX_SECONDS_OPENMETRICS[depth]:
        return Rounds(ours, 0, f"{about}: measured as text only")
    return Rounds(ours, _within(int(seconds / case.library_seconds), 1, ours))


def _within(number: int, least: int, most: int) -> int:
    return max(least, min(number, most))
