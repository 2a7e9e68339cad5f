"""Alerts on the database pool, caches, disk and memory."""

from ..model import Alert
from ..objectives import Objectives


def alerts(objectives: Objectives) -> list[Alert]:
    """Return the alerts on resources."""
    return []
