"""Alerts over time: which fire, which are about to, since when."""

from collections.abc import Sequence

from .limits import OBJECTIVES
from .panels import Panel, Query, states

MEANINGS = {"1": ("pending", "yellow"), "2": ("firing", "red")}


def firing(
    title: str,
    description: str,
    where: str = 'severity!="none"',
    *,
    by: str = "alertname",
    meanings: dict[str, tuple[str, str]] = MEANINGS,
    alerts: Sequence[str] = (),
    width: int = 24,
) -> Panel:
    """Return a state timeline of the alerts that `where` selects, without those of other services."""
    selector = f'service="{OBJECTIVES.service}", {where}'
    states_by = (f'max by ({by}) (ALERTS{{alertstate="{state}", {selector}}})' for state in ("firing", "pending"))
    legend = " ".join(f"{{{{{label}}}}}" for label in by.split(", "))
    query = Query(" or ".join(f"{2 - index} * {one}" for index, one in enumerate(states_by)), legend)
    return states(title, description, meanings, query, alerts=alerts, width=width)
