"""The results of a run: summary.json, and a chart of its requests over time with the actions above them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from loadtest.benchmarks.chart import BUDGET, FAINT, LIBRARY, OURS, STYLE
from loadtest.chaos.campaign import Campaign
from loadtest.chaos.resources import MAX_DESCRIPTOR_GROWTH, MAX_MEMORY_GROWTH_BYTES, MIN_SAMPLES

SUMMARY, CHART = "summary.json", "chart.svg"
LEFT, RIGHT, TOP, LANE, PLOT = 60, 20, 84, 11, 180
MIN_WIDTH, MAX_WIDTH, SECOND = 900, 3000, 8
TICKS = (5, 10, 30, 60, 120, 300)
MIN_TICK_PIXELS = 60


def write(directory: Path, campaign: Campaign, facts: Mapping[str, Any]) -> Path:
    """Write both files, and return the summary's path."""
    summary = {**facts, **_figures(campaign)}
    path = directory / SUMMARY
    path.write_text(json.dumps(summary, indent=1) + "\n")
    (directory / CHART).write_text(chart(summary))
    return path


def _figures(campaign: Campaign) -> dict[str, Any]:
    ledger = campaign.world.ledger
    memory, descriptors = campaign.resources.trends()
    return {
        "verdict": "failed" if campaign.violations else "passed",
        "violations": [asdict(violation) for violation in campaign.violations],
        "skipped": campaign.skipped,
        "requests": {
            "answered": ledger.answered.total(),
            "unanswered": ledger.unanswered.total(),
            "failed": len(ledger.failures),
            "acknowledged_writes": len(ledger.writes),
        },
        "scrapes": campaign.scrapes,
        "actions": campaign.actions,
        "resources": {
            "max_memory_growth_bytes": MAX_MEMORY_GROWTH_BYTES,
            "max_descriptor_growth": MAX_DESCRIPTOR_GROWTH,
            "min_samples": MIN_SAMPLES,
            "memory_bytes": {name: _rounded(asdict(found)) for name, found in memory.items()},
            "descriptors": {name: _rounded(asdict(found)) for name, found in descriptors.items()},
        },
        "per_second": [
            {"at": at - int(campaign.started), "answered": one.answered, "failed": one.failed, "longest": one.longest}
            for at, one in sorted(ledger.seconds.items())
        ],
    }


def _rounded(found: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in found.items()}


def chart(summary: Mapping[str, Any]) -> str:
    """Return the chart as SVG, from what is in summary.json."""
    seconds, actions = summary["per_second"], summary["actions"]
    length = max([1, *(one["at"] + 1 for one in seconds)])
    width = min(max(MIN_WIDTH, length * SECOND), MAX_WIDTH)
    scale = (width - LEFT - RIGHT) / length
    names = sorted({one["action"] for one in actions})
    plot = TOP + LANE * len(names) + 16
    height = plot + PLOT + 40
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
    parts = [
        head,
        f"<style>{STYLE} .lane{{font-size:9px}}</style>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
        _text(20, 26, f"Chaos run {summary['run']}, seed {summary['seed']}: {summary['verdict']}", "title"),
        _text(20, 48, "Above: the actions, darker until the service had recovered. Below: requests a second", "small"),
        *_legend(),
        *_lanes(actions, names, scale, plot + PLOT),
        *_bars(seconds, scale, plot),
        *_axis(length, scale, plot + PLOT),
    ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _legend() -> Iterator[str]:
    for x, colour, text in (
        (20, OURS, "answered well"),
        (150, LIBRARY, "failed"),
        (240, BUDGET, "an invariant failed"),
    ):
        yield f'<rect x="{x}" y="58" width="10" height="10" fill="{colour}"/>' + _text(x + 16, 67, text, "small")


def _lanes(actions: list[dict[str, Any]], names: list[str], scale: float, bottom: float) -> Iterator[str]:
    for one in actions:
        x, y = LEFT + one["at"] * scale, TOP + LANE * names.index(one["action"])
        fault = max(one["seconds"] - one["recovery_seconds"], 0.0)
        colour = BUDGET if one["violations"] else OURS
        yield f'<line x1="{x:.1f}" y1="{y}" x2="{x:.1f}" y2="{bottom}" stroke="{FAINT}"/>'
        yield _bar(x, y, one["seconds"] * scale, LANE - 2, colour, opacity=0.35)
        yield _bar(x, y, fault * scale, LANE - 2, colour)
        yield _text(x + max(one["seconds"] * scale, 2) + 3, y + 8, one["action"], "lane")


def _bars(seconds: list[dict[str, Any]], scale: float, top: float) -> Iterator[str]:
    most = max([1, *(one["answered"] + one["failed"] for one in seconds)])
    yield _text(LEFT - 6, top + 10, f"{most}", "small", "end") + _text(LEFT - 6, top + PLOT, "0", "small", "end")
    for one in seconds:
        x, good = LEFT + one["at"] * scale, max(one["answered"] - one["failed"], 0) / most * PLOT
        bad = one["failed"] / most * PLOT
        yield _bar(x, top + PLOT - good, max(scale - 1, 0.5), good, OURS)
        if bad:
            yield _bar(x, top + PLOT - good - bad, max(scale - 1, 0.5), bad, LIBRARY)


def _axis(length: int, scale: float, bottom: float) -> Iterator[str]:
    step = next((tick for tick in TICKS if tick * scale >= MIN_TICK_PIXELS), TICKS[-1])
    for at in range(0, length + 1, step):
        yield _text(LEFT + at * scale, bottom + 18, f"{at} s", "small", "middle")


def _bar(x: float, y: float, width: float, height: float, colour: str, opacity: float = 1.0) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}" opacity="{opacity}"/>'
    )


def _text(x: float, y: float, text: str, style: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{style}" text-anchor="{anchor}">{escape(text)}</text>'
