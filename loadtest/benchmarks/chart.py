"""The chart of a scrape benchmark: a line a case, time to the right on a logarithmic axis. Plain SVG, no library."""

import math
from collections.abc import Iterable, Iterator, Sequence
from html import escape

from loadtest.benchmarks.command import Figures
from loadtest.benchmarks.summary import MIN_RATIO

LEFT, RIGHT, TOP, BOTTOM, STEP = 230, 110, 96, 56, 26
WIDTH = 980
SHARE = 10
OURS, LIBRARY, BUDGET, FAINT = "#0b6e4f", "#b3541e", "#444", "#d8d8d8"
STYLE = "text{font:13px sans-serif;fill:#222}.title{font-size:17px;font-weight:bold}.small{font-size:12px;fill:#555}"


class Axis:
    """Milliseconds to pixels, from one power of ten to another."""

    def __init__(self, values: Iterable[float]) -> None:
        known = [math.log10(value) for value in values if value > 0]
        self.first, self.last = math.floor(min(known)), math.ceil(max(known))
        if self.first == self.last:
            self.last += 1

    def place(self, milliseconds: float) -> float:
        """Return the pixels from the left."""
        share = (math.log10(milliseconds) - self.first) / (self.last - self.first)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def draw(figures: Figures) -> str:
    """Return the whole SVG file."""
    cases: Sequence[Figures] = figures["cases"]
    rows = [(case, {row["changed"]: row for row in case["warm"] if row["format"] == "text"}) for case in cases]
    shown = [row for _, shares in rows for row in shares.values()]
    librarys = [row["library_ms"] for row in shown if row["library_ms"] is not None]
    axis = Axis([*(row["our_ms"] for row in shown), *librarys, *(value / MIN_RATIO for value in librarys)])
    bottom = TOP + STEP * len(rows)
    height = bottom + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}">',
        f"<style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        *_legend(figures["run"]),
        *_grid(axis, bottom),
    ]
    for number, (case, shares) in enumerate(rows):
        parts += _row(axis, TOP + STEP * number + STEP / 2, case, shares)
    return "\n".join([*parts, "</svg>\n"])


def _legend(run: Figures) -> Iterator[str]:
    yield _text(20, 28, "A scrape in text format, milliseconds of CPU", "title")
    yield _circle(30, 52, 6, OURS) + _text(42, 56, f"ours, {SHARE}% of the series changed")
    yield _circle(280, 52, 3.5, OURS) + _text(290, 56, "0% and 100%")
    yield _circle(400, 52, 6, LIBRARY) + _text(412, 56, "MultiProcessCollector")
    yield _budget_tick(590, 52) + _text(600, 56, f"budget: the library's / {MIN_RATIO:g}")
    yield _text(800, 56, "at the right: ratio")
    versions = f"Python {run['python']}, prometheus-client {run['prometheus_client']}, {run['cores']} cores"
    yield _text(20, 80, "workers, dead workers, lines", "small") + _text(LEFT, 80, versions, "small")


def _grid(axis: Axis, bottom: float) -> Iterator[str]:
    for power in range(axis.first, axis.last + 1):
        x = axis.place(10.0**power)
        yield f'<line x1="{x}" y1="{TOP - 8}" x2="{x}" y2="{bottom + 4}" stroke="{FAINT}"/>'
        yield _text(x, bottom + 22, f"{10.0**power:,g} ms", anchor="middle")
    yield _text(
        (LEFT + WIDTH - RIGHT) / 2, bottom + 44, "logarithmic: each line is ten times the last", "small", "middle"
    )


def _row(axis: Axis, y: float, case: Figures, shares: dict[int, Figures]) -> Iterator[str]:
    yield _text(20, y + 4, f"{case['workers']} workers, {case['dead']} dead, {case['lines']:,}")
    row = shares[SHARE]
    ours, library = axis.place(row["our_ms"]), row["library_ms"]
    if library is None:
        yield _text(WIDTH - RIGHT + 12, y + 4, "not measured", "small")
    else:
        end = axis.place(library)
        yield f'<line x1="{ours}" y1="{y}" x2="{end}" y2="{y}" stroke="{FAINT}" stroke-width="5"/>'
        yield _budget_tick(axis.place(library / MIN_RATIO), y)
        yield _circle(end, y, 6, LIBRARY)
        yield _text(WIDTH - RIGHT + 12, y + 4, f"{row['ratio']:,.0f}x")
    for share, other in shares.items():
        if share != SHARE:
            yield _circle(axis.place(other["our_ms"]), y, 3.5, OURS)
    yield _circle(ours, y, 6, OURS)


def _circle(x: float, y: float, radius: float, colour: str) -> str:
    return f'<circle cx="{x}" cy="{y}" r="{radius}" fill="{colour}"/>'


def _budget_tick(x: float, y: float) -> str:
    return f'<line x1="{x}" y1="{y - 10}" x2="{x}" y2="{y + 10}" stroke="{BUDGET}" stroke-width="2"/>'


def _text(x: float, y: float, text: str, style: str = "", anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" class="{style}" text-anchor="{anchor}">{escape(text)}</text>'
