"""The dashboards as they ship, and what is in them."""

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
    """What draws something: all but the rows' titles."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def targets(board: Board) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each panel's title with each of its queries."""
    for panel in panels(board):
        for target in panel.get("targets", []):
            yield panel["title"], target


def variables(board: Board) -> list[dict[str, Any]]:
    """The template variables."""
    return list(board["templating"]["list"])


def label_query(variable: dict[str, Any]) -> tuple[str, str]:
    """Selector and label of a variable that lists a label's values."""
    found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
    assert found, variable["query"]
    return found[1], found[2]
