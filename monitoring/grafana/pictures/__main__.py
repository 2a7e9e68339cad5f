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
from pathlib import Path

from . import drawing
from .data import Source

ROOT = Path(__file__).resolve().parents[3]
BOARDS = ROOT / "monitoring" / "grafana" / "dashboards"
OUTPUT = ROOT / "docs" / "dashboards"
TRAFFIC = "tests/dashboards/test_queries.py"


def draw(source: Source, output: Path, data: str) -> None:
    """Write a file for each dashboard. `data` says in the caption where the data is from."""
    output.mkdir(parents=True, exist_ok=True)
    caption = (
        f"Drawn by python -m monitoring.grafana.pictures from the dashboard's own queries; no screenshot. Data: {data}."
    )
    for path in sorted(BOARDS.glob("*.json")):
        board = json.loads(path.read_text(encoding="utf-8"))
        results = {panel["id"]: source.lines(board, panel) for panel in board["panels"] if panel["type"] != "row"}
        text = drawing.board(board, results, source.end - source.start, caption)
        (output / f"{path.stem}.svg").write_text(text, encoding="utf-8")


def main() -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m monitoring.grafana.pictures", description=__doc__)
    parser.add_argument("--url", help="address of a Prometheus, such as http://localhost:9090")
    parser.add_argument("--minutes", type=float, default=60, help="how far back to draw from now on, with --url")
    parser.add_argument("--rate-interval", default="1m", help="at least four scrape intervals, with --url")
    parser.add_argument("--data", default="a running service", help="where the data is from, for the caption")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="directory of the pictures")
    given = parser.parse_args()
    if given.url:
        now = time.time()
        draw(Source(given.url, now - 60 * given.minutes, now, given.rate_interval), given.output, given.data)
        return 0
    command = [sys.executable, "-m", "pytest", "-n0", "-q", TRAFFIC]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "PICTURES": str(given.output)}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
