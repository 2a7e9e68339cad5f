"""The shipped dashboards, and accessors for their panels, queries and variables."""

import json
import re
from collections.abc import Iterator
from typing import Any

from app.settings import ROOT

Board = dict[str, Any]
GRAFANA = ROOT / "monitoring" / "grafana"
DIRECTORY = GRAFANA / "dashboards"
BOARDS: dict[str, Board] = {path.stem: json.loads(path.read_text()) for path in sorted(DIRECTORY.glob("*.json"))}


def panels(board: Board) -> list[dict[str, Any]]:
    """Return the panels of a dashboard, without its rows."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def targets(board: Board) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each query with the title of its panel."""
    for panel in panels(board):
        for target in panel.get("targets", []):
            yield panel["title"], target


def variables(board: Board) -> list[dict[str, Any]]:
    """Return the template variables of a dashboard."""
    return list(board["templating"]["list"])


def annotations(board: Board) -> list[dict[str, Any]]:
    """Return the annotations of a dashboard."""
    return list(board["annotations"]["list"])


def label_query(variable: dict[str, Any]) -> tuple[str, str]:
    """Return selector and label of a label_values() variable."""
    found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
    assert found, variable["query"]
    return found[1], found[2]
