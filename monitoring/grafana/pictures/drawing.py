"""A dashboard as SVG: its panels where Grafana places them, simpler than Grafana draws them. No library."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from itertools import pairwise
from typing import Any, NamedTuple

from .data import Line, Mark
from .numbers import written

Json = Mapping[str, Any]
COLUMN, ROW, GAP, HEAD, FOOT = 50, 26, 4, 44, 34
COLOURS = ("#56a64b", "#e0b400", "#3274d9", "#e0752d", "#b877d9", "#19a2b5", "#c4162a", "#8f3bb8", "#37872d", "#ad4e00")
NAMED = {"green": "#56a64b", "orange": "#ff9830", "red": "#e02f44", "yellow": "#e0b400"}
NAMED |= {"blue": "#3274d9", "purple": "#8f3bb8"}
FAINT, TEXT = "#d8d9da", "#24292e"
MOST = 8
STYLE = (
    f"text{{font-family:sans-serif;font-size:11px;fill:{TEXT}}}.h{{font-size:18px;font-weight:bold}}"
    ".t{font-weight:bold}.f{fill:#6e7681}"
)


class View(NamedTuple):
    """The time axis: `seconds` from `begin` (Unix time) on, whose times are written unless it is None; its marks."""

    seconds: float
    begin: float | None = None
    marks: Sequence[Mark] = ()

    def axis(self, left: float, width: float, y: float) -> Iterator[str]:
        """Write the time of day in UTC below the beginning, the middle and the end of an axis."""
        for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
            if self.begin is not None:
                time = datetime.fromtimestamp(self.begin + share * self.seconds, UTC)
                yield _text(left + share * width, y, f"{time:%H:%M:%S}", "f", anchor)

    def marked(self, left: float, width: float, top: float, bottom: float) -> Iterator[str]:
        """Draw a line where each mark begins, and a bar on the axis for as long as it lasts."""
        for mark in self.marks:
            x, wide = left + mark.start / self.seconds * width, (mark.end - mark.start) / self.seconds * width
            colour = NAMED[mark.colour]
            yield f'<path d="M{x:.0f} {top:.0f}V{bottom:.0f}" stroke="{colour}" stroke-dasharray="2 3"/>'
            yield f'<rect x="{x:.0f}" y="{bottom - 1:.0f}" width="{wide:.0f}" height="3" fill="{colour}"/>'


def board(dashboard: Json, results: Mapping[int, Sequence[Line]], view: View, caption: str) -> str:
    """Return the file. `results` are the series of each panel by its id, over the time of `view`."""
    panels = dashboard["panels"]
    height = HEAD + FOOT + ROW * max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    width = COLUMN * 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        f'<style>{STYLE}</style><rect width="100%" height="100%" fill="#fff"/>',
        _text(10, 28, dashboard["title"], "h"),
        _text(10, height - 12, caption, "f"),
    ]
    for panel in panels:
        parts += _panel(panel, results.get(panel["id"], []), view)
    return "\n".join([*parts, "</svg>\n"])


def _panel(panel: Json, lines: Sequence[Line], view: View) -> Iterator[str]:
    place = panel["gridPos"]
    x, y = place["x"] * COLUMN + GAP, HEAD + place["y"] * ROW + GAP
    width, height = place["w"] * COLUMN - 2 * GAP, place["h"] * ROW - 2 * GAP
    yield f'<g transform="translate({x} {y})">'
    if panel["type"] == "row":
        yield _text(2, 15, panel["title"], "t f")
    else:
        yield f'<rect width="{width}" height="{height}" fill="none" stroke="{FAINT}" rx="2"/>'
        yield _text(8, 16, _short(panel["title"], width), "t")
        draw = {"stat": _numbers, "state-timeline": _states, "heatmap": _buckets}.get(panel["type"], _lines)
        if lines:
            yield from draw(panel, lines, view, width, height)
        else:
            yield _text(width / 2, height / 2 + 8, "no data", "f", "middle")
    yield "</g>"


def _numbers(panel: Json, lines: Sequence[Line], _view: View, width: float, height: float) -> Iterator[str]:
    unit, room = panel["fieldConfig"]["defaults"]["unit"], width / len(lines[:MOST])
    for number, line in enumerate(lines[:MOST]):
        middle = room * (number + 0.5)
        word, colour = _meaning(panel, line.last)
        shown = word or written(line.last, unit)
        style = f'style="font-size:{min(22, round(room / 4.2))}px;fill:{colour}"'
        yield f'<text x="{middle:.0f}" y="{height / 2 + 14:.0f}" text-anchor="middle" {style}>{escape(shown)}</text>'
        if len(lines) > 1:
            yield _text(middle, height - 10, line.name, "f", "middle")


def _lines(panel: Json, lines: Sequence[Line], view: View, width: float, height: float) -> Iterator[str]:
    defaults = panel["fieldConfig"]["defaults"]
    custom = defaults.get("custom", {})
    stacked = custom.get("stacking", {}).get("mode") == "normal"
    shown = sorted(lines, key=lambda line: -max(value for _, value in line.points))[:MOST]
    layers = _stacked(shown) if stacked else [line.points for line in shown]
    limits = [(step["value"], NAMED[step["color"]]) for step in _limits(panel)]
    top, bottom = _extent([value for points in layers for _, value in points], [value for value, _ in limits])
    left, right, above, below = 66, 8, 26, 38

    def place(at: float, value: float) -> tuple[int, int]:
        across = left + at / view.seconds * (width - left - right)
        return round(across), round(height - below - (value - bottom) / (top - bottom) * (height - above - below))

    for share in (0.0, 0.5, 1.0):
        value = bottom + (top / 1.08 - bottom) * share
        _, y = place(0, value)
        yield f'<path d="M{left} {y}H{width - right:.0f}" stroke="{FAINT}"/>'
        yield _text(left - 6, y + 4, written(value, defaults["unit"]), "f", "end")
    yield from view.axis(left, width - left - right, height - below + 12)
    for points, colour in reversed([*zip(layers, COLOURS, strict=False)]):
        yield _path([place(at, value) for at, value in points], colour, place(0, bottom)[1] if stacked else None)
    for value, colour in limits:
        yield f'<path d="M{left} {place(0, value)[1]}H{width - right:.0f}" stroke="{colour}" stroke-dasharray="6 4"/>'
    yield from view.marked(left, width - left - right, above, height - below)
    yield from _legend([line.name for line in shown], len(lines), width, height)


def _extent(values: Sequence[float], limits: Sequence[float]) -> tuple[float, float]:
    """Return the top and the bottom of the vertical axis; of all zeros it ends at 1."""
    top = max([*values, *limits], default=0.0)
    return (top if top > 0 else 1.0) * 1.08, min([0.0, *values])


def _stacked(lines: Sequence[Line]) -> list[list[tuple[float, float]]]:
    total: dict[float, float] = {}
    layers = []
    for line in lines:
        for at, value in line.points:
            total[at] = total.get(at, 0) + value
        layers.append([(at, total[at]) for at, _ in line.points])
    return layers


def _path(points: Sequence[tuple[int, int]], colour: str, floor: int | None) -> str:
    if len(points) == 1:
        return f'<circle cx="{points[0][0]}" cy="{points[0][1]}" r="2.5" fill="{colour}"/>'
    line = "M" + "L".join(f"{x} {y}" for x, y in points)
    if floor is None:
        return f'<path d="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
    return f'<path d="{line}V{floor}H{points[0][0]}Z" fill="{colour}" stroke="#fff" stroke-width=".5"/>'


def _legend(names: Sequence[str], count: int, width: float, height: float) -> Iterator[str]:
    x = 10.0
    for name, colour in zip(names, COLOURS, strict=False):
        if not name:  # a 0 that stands for no series
            continue
        room = 26 + 6 * len(name)
        if x + room > width - 40:
            break
        yield f'<rect x="{x:.0f}" y="{height - 17:.0f}" width="10" height="3" fill="{colour}"/>'
        yield _text(x + 14, height - 12, name, "f")
        x += room
    else:
        if count == len(names):
            return
    yield _text(x, height - 12, "...", "f")


def _states(panel: Json, lines: Sequence[Line], view: View, width: float, height: float) -> Iterator[str]:
    left, above, most = min(240.0, width / 2.4), 28, 10
    room = min(26.0, (height - above - 22) / min(len(lines), most))
    yield from view.axis(left, width - left - 8, height - 8)
    for number, line in enumerate(lines[:most]):
        y = above + number * room
        yield _text(8, y + room / 2 + 3, _short(line.name, left), "f")
        step = min((b - a for (a, _), (b, _) in pairwise(line.points)), default=1.0)
        for start, end, value in _runs(line.points, step):
            word, colour = _meaning(panel, value)
            x, wide = (
                left + start / view.seconds * (width - left - 8),
                (end - start) / view.seconds * (width - left - 8),
            )
            yield f'<rect x="{x:.0f}" y="{y:.0f}" width="{wide:.1f}" height="{room - 3:.0f}" fill="{colour}"/>'
            if wide > 8 * len(word):
                yield _text(x + 4, y + room / 2 + 3, word)


def _runs(points: Sequence[tuple[float, float]], step: float) -> Iterator[tuple[float, float, float]]:
    """Yield start, end and value of each stretch of equal values without a gap."""
    start, last, value = points[0][0], points[0][0], points[0][1]
    for at, new in points[1:]:
        if new != value or at - last > step * 1.5:
            yield start, last + step, value
            start, value = at, new
        last = at
    yield start, last + step, value


def _buckets(_panel: Json, lines: Sequence[Line], view: View, width: float, height: float) -> Iterator[str]:
    ordered = sorted(lines, key=lambda line: float(line.name))
    below: dict[float, float] = {}
    cells = []
    for number, line in enumerate(ordered):
        for at, value in line.points:
            cells.append((number, at, value - below.get(at, 0)))
            below[at] = value
    most = max((value for *_, value in cells), default=0) or 1
    left, above, room = 58, 26, (height - 40) / len(ordered)
    for number, line in enumerate(ordered):
        yield _text(left - 6, above + (len(ordered) - number - 0.3) * room, line.name, "f", "end")
    step = min((b - a for (a, _), (b, _) in pairwise(ordered[0].points)), default=1.0)
    wide = step / view.seconds * (width - left - 8)
    for number, at, value in cells:
        if value > most / 200:
            x, y = left + at / view.seconds * (width - left - 8), above + (len(ordered) - number - 1) * room
            shade = f'fill-opacity="{(value / most) ** 0.5:.2f}"'
            yield f'<rect x="{x:.0f}" y="{y:.0f}" width="{wide:.1f}" height="{room - 1:.0f}" fill="#e0752d" {shade}/>'


def _limits(panel: Json) -> list[Json]:
    defaults = panel["fieldConfig"]["defaults"]
    if defaults.get("custom", {}).get("thresholdsStyle", {}).get("mode") != "dashed":
        return []
    steps = defaults["thresholds"]["steps"]
    # The colour of a floor is that of what lies below it.
    return [
        {"value": step["value"], "color": before["color"] if step["color"] == "green" else step["color"]}
        for before, step in pairwise(steps)
    ]


def _meaning(panel: Json, value: float) -> tuple[str, str]:
    """Return the word and the colour of a value; no word where the panel maps none."""
    defaults = panel["fieldConfig"]["defaults"]
    for one in defaults.get("mappings", []):
        found = one["options"].get(f"{value:g}")
        if found:
            return found["text"], NAMED[found["color"]]
    reached = [step for step in defaults["thresholds"]["steps"] if step["value"] is None or value >= step["value"]]
    return "", NAMED[reached[-1]["color"]]


def _short(text: str, width: float) -> str:
    most = int(width / 6.2)
    return text if len(text) <= most else text[: most - 3] + "..."


def _text(x: float, y: float, text: str, style: str = "", anchor: str = "start") -> str:
    where = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text x="{x:.0f}" y="{y:.0f}" class="{style}"{where}>{escape(text)}</text>'
