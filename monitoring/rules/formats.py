"""Objectives in the formats of sloth (prometheus/v1) and pyrra (pyrra.dev/v1alpha1), as the `slos` of slo.yaml."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from .objectives import VERSION, WINDOW, ObjectivesError

PYRRA = "pyrra.dev/v1alpha1"
Document = Mapping[str, Any]


def read(path: Path) -> list[dict[str, Any]]:
    """Return the objectives of a file. Raise ObjectivesError if it is of another format or has unsupported parts."""
    found: list[dict[str, Any]] = []
    for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
        if isinstance(document, Mapping) and document.get("version") == VERSION:
            found += document.get("slos") or []
        elif isinstance(document, Mapping) and document.get("apiVersion") == PYRRA:
            found.append(_of_pyrra(document))
        else:
            raise ObjectivesError(f"{path}: want version {VERSION} of sloth, or apiVersion {PYRRA}")
    for one in found:
        if "plugin" in (one.get("sli") or {}):
            raise ObjectivesError(
                f"slos.{one.get('name')}.sli.plugin: want events or raw: plugins of sloth are not read"
            )
    return found


def _of_pyrra(document: Document) -> dict[str, Any]:
    name, spec = document["metadata"]["name"], document["spec"]
    indicator = spec.get("indicator") or {}
    if any((one or {}).get("grouping") for one in indicator.values()):
        raise ObjectivesError(f"{name}.spec.indicator: want no grouping: an objective is one of a whole job")
    events = _events(name, indicator)
    alerting = spec.get("alerting") or {}
    return {
        "name": name,
        "objective": float(spec["target"]),
        "description": spec.get("description") or name,
        "sli": {"events": {"error_query": events[0], "total_query": events[1]}},
        "alerting": {
            "name": alerting.get("name") or re.sub(r"\W", "", name.title()),
            **(
                {"page_alert": {"disable": True}, "ticket_alert": {"disable": True}} if alerting.get("disabled") else {}
            ),
        },
    }


def _events(name: str, indicator: Document) -> tuple[str, str]:
    """Return the queries of errors and of all events."""
    if ratio := indicator.get("ratio"):
        return _rate(ratio["errors"]["metric"]), _rate(ratio["total"]["metric"])
    if latency := indicator.get("latency"):
        total = _rate(latency["total"]["metric"])
        return f"{total} - {_rate(latency['success']['metric'])}", total
    if gauge := indicator.get("bool_gauge"):
        average = f"avg_over_time({gauge['metric']}[{WINDOW}])"
        return f"sum by (job) (1 - {average})", f"sum by (job) ({average} >= bool 0)"
    raise ObjectivesError(f"{name}.spec.indicator: want ratio, latency or bool_gauge")


def _rate(metric: str) -> str:
    return f"sum by (job) (rate({metric}[{WINDOW}]))"
