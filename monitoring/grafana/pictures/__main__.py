"""Draw each dashboard from its own queries, as SVG for documents.

With --url the data is that of a running Prometheus. Without it, the tests' own service, traffic and faults make it:
about two minutes, for which Prometheus and Alertmanager have to be on PATH.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from . import drawing
from .data import Source

ROOT = Path(__file__).resolve().parents[3]
BOARDS = ROOT / "monitoring" / "grafana" / "dashboards"
OUTPUT = ROOT / "docs" / "dashboards"
TRAFFIC = "tests/dashboards/test_queries.py"


def draw(source: Source, output: Path, data: str, names: Sequence[str] = (), *, dated: bool = False) -> None:
    """Write a file for each dashboard, or for those of `names`. `data` says in the caption where the data is from.

    With `dated` the time of day is on the axes, and annotations are marked.
    """
    output.mkdir(parents=True, exist_ok=True)
    caption = (
        f"Drawn by python -m monitoring.grafana.pictures from the dashboard's own queries; no screenshot. Data: {data}."
    )
    for path in sorted(path for path in BOARDS.glob("*.json") if not names or path.stem in names):
        board = json.loads(path.read_text(encoding="utf-8"))
        results = {panel["id"]: source.lines(board, panel) for panel in board["panels"] if panel["type"] != "row"}
        view = drawing.View(source.end - source.start)
        if dated:
            view = view._replace(begin=source.start, marks=source.marks(board))
        text = drawing.board(board, results, view, caption)
        (output / f"{path.stem}.svg").write_text(text, encoding="utf-8")


def moment(text: str) -> float:
    """Return the Unix time of an ISO 8601 time; one without an offset is of this machine's zone."""
    return datetime.fromisoformat(text).timestamp()


def main() -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m monitoring.grafana.pictures", description=__doc__)
    parser.add_argument("--url", help="address of a Prometheus, such as http://localhost:9090")
    parser.add_argument("--minutes", type=float, default=60, help="how far back to draw, with --url")
    parser.add_argument(
        "--until",
        type=moment,
        help="draw what was to be seen at this time, such as 2026-01-31T12:00:00+00:00, and not now, with --url",
    )
    parser.add_argument(
        "--dashboard",
        action="append",
        default=[],
        choices=sorted(path.stem for path in BOARDS.glob("*.json")),
        help="draw this one only; several times for several, with --url",
    )
    parser.add_argument("--rate-interval", default="1m", help="at least four scrape intervals, with --url")
    parser.add_argument("--data", default="a running service", help="where the data is from, for the caption")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="directory of the pictures")
    given = parser.parse_args()
    if given.url:
        end = given.until or time.time()
        source = Source(given.url, end - 60 * given.minutes, end, given.rate_interval)
        draw(source, given.output, given.data, given.dashboard, dated=True)
        return 0
    command = [sys.executable, "-m", "pytest", "-n0", "-q", TRAFFIC]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "PICTURES": str(given.output)}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
