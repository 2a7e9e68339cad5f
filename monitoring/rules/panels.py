"""The panel that shows each alert: it links to the alert's runbook."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from .objectives import Objectives


def panels(dashboards: Mapping[str, str], objectives: Objectives) -> dict[str, str]:
    """Return `<uid>?viewPanel=<id>` by alert. `dashboards` are the texts of the JSON files by name."""
    found: dict[str, str] = {}
    for text in dashboards.values():
        board = json.loads(text)
        for panel in _panels(board):
            for link in panel.get("links", []):
                address, _, page = link.get("url", "").rpartition("/")
                if address == objectives.runbooks:
                    found.setdefault(page.removesuffix(".md"), f"{board['uid']}?viewPanel={panel['id']}")
    return found


def _panels(board: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for panel in board["panels"]:
        yield panel
        yield from panel.get("panels", [])
