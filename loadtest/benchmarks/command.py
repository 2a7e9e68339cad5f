"""Common parts of the benchmarks' commands: their arguments, their exit status, and the JSON they leave."""

import argparse
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Any

from app.monitoring.multiprocess.values import DIRECTORY
from app.settings import ROOT

RESULTS = ROOT / "build" / "bench"
UNTRUE, NOT_RUN = 1, 2
Figures = dict[str, Any]
"""The results of a benchmark, as in the JSON file."""


class BenchmarkError(Exception):
    """A benchmark without figures, or with unreliable ones; the message gives the reason."""


class Depth(StrEnum):
    """The number of measurements."""

    QUICK = "quick"
    DEFAULT = "default"
    FULL = "full"


def run(
    name: str,
    measure: Callable[[Depth], Figures],
    show: Callable[[Figures], str],
    depth: Depth,
    beside: Mapping[str, Callable[[Figures], str]] | None = None,
    results: Path | None = None,
) -> int:
    """Measure, write `<name>.json` and the files `beside` it, and print the summary; returns the exit status.

    Figures never fail a run, whatever they are: only those that are untrue do.
    """
    given = os.environ.get(DIRECTORY)
    if given:
        print(f"{DIRECTORY}={given!r}: want it unset, a benchmark has directories of its own", file=sys.stderr)
        return NOT_RUN
    # The exit ends every started process.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    started, load = time.monotonic(), os.getloadavg()[0]
    try:
        figures = measure(depth)
    except BenchmarkError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return UNTRUE
    except KeyboardInterrupt:
        print(f"{name}: ended early: no results", file=sys.stderr)
        return NOT_RUN
    figures = {"run": facts(depth, load, time.monotonic() - started), **figures}
    results = results or RESULTS
    results.mkdir(parents=True, exist_ok=True)
    contents = {f"{name}.json": json.dumps(figures, indent=2) + "\n"}
    contents |= {file: make(figures) for file, make in (beside or {}).items()}
    for file, content in contents.items():
        (results / file).write_text(content)
    print(show(figures))
    print(f"results: {' '.join(contents)} in {results}")
    return 0


def facts(depth: Depth, load: float, seconds: float) -> Figures:
    """Return the conditions of the run: versions, machine, and the load average at the start."""
    return {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "depth": depth,
        "cores": os.cpu_count(),
        "load_at_start": round(load, 2),
        "python": platform.python_version(),
        "prometheus_client": version("prometheus-client"),
    }


def progress(text: str) -> None:
    """Say where the run is; on standard error, so that the summary can be kept by itself."""
    print(text, file=sys.stderr, flush=True)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Format rows as lines with aligned columns: the first to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def options(prog: str) -> argparse.ArgumentParser:
    """Return the command-line parser of every benchmark, which sets `depth`."""
    parser = argparse.ArgumentParser(prog=prog)
    parser.set_defaults(depth=Depth.DEFAULT)
    chosen = parser.add_mutually_exclusive_group()
    for depth, meaning in ((Depth.QUICK, "fewer cases: half a minute"), (Depth.FULL, "every case: many minutes")):
        chosen.add_argument(f"--{depth}", action="store_const", const=depth, dest="depth", help=meaning)
    return parser
