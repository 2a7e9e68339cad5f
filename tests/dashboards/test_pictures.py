"""Pictures of the dashboards: the lines that queries returned are drawn, and each dashboard has a picture of now."""

import re
import sys
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from app.settings import ROOT
from monitoring.grafana.pictures import __main__ as command
from monitoring.grafana.pictures import drawing
from monitoring.grafana.pictures.data import Line, Mark, Source
from monitoring.grafana.pictures.numbers import written
from tests.dashboards.boards import BOARDS, panels

PICTURES = ROOT / "docs" / "dashboards"
PANEL: dict[str, Any] = {
    "id": 7,
    "type": "timeseries",
    "title": "Share",
    "gridPos": {"x": 0, "y": 0, "w": 12, "h": 8},
    "fieldConfig": {
        "defaults": {
            "unit": "percentunit",
            "custom": {"thresholdsStyle": {"mode": "dashed"}},
            "thresholds": {"steps": [{"value": None, "color": "green"}, {"value": 0.5, "color": "red"}]},
        }
    },
}


@pytest.mark.parametrize("name", BOARDS)
def test_the_picture_of_a_dashboard_has_its_panels_and_is_small(name: str) -> None:
    text = (PICTURES / f"{name}.svg").read_text()
    assert len(text) < 150_000
    shown = {unescape(one) for one in re.findall(r'class="t">([^<]+)<', text)}
    assert {panel["title"] for panel in panels(BOARDS[name])} - shown == set(), "run: make pictures"
    assert "Drawn by python -m monitoring.grafana.pictures" in text


def test_a_line_is_drawn_at_its_values_below_its_limit() -> None:
    line = Line("a & b", [(0.0, 0.0), (60.0, 0.25)])
    text = drawing.board({"title": "Board", "panels": [PANEL]}, {7: [line]}, drawing.View(60), "caption")
    [drawn] = re.findall(r'<path d="(M[^"]+)" fill="none"', text)
    (left, low), (right, high) = (map(int, one.split()) for one in drawn[1:].split("L"))
    [limit] = map(int, re.findall(rf'<path d="M{left} (\d+)H\d+" stroke="#e02f44"', text))
    assert left < right
    assert low - high == pytest.approx(high - limit, abs=1)
    assert "a &amp; b" in text


def test_an_axis_has_the_time_of_day_and_marks_where_an_alert_fires() -> None:
    view = drawing.View(60, 3600, [Mark(30, 60, "red")])
    text = drawing.board({"title": "Board", "panels": [PANEL]}, {7: [Line("a", [(0.0, 0.0), (60.0, 0.25)])]}, view, "")
    assert re.findall(r"01:0\d:\d\d", text) == ["01:00:00", "01:00:30", "01:01:00"]
    [drawn] = re.findall(r'<path d="(M[^"]+)" fill="none"', text)
    left, right = (int(one.split()[0]) for one in drawn[1:].split("L"))
    [(start, wide)] = re.findall(r'<rect x="(\d+)" y="\d+" width="(\d+)" height="3" fill="#e02f44"', text)
    assert int(start) == pytest.approx((left + right) / 2, abs=1)
    assert int(start) + int(wide) == pytest.approx(right, abs=1)


def test_a_mark_ends_where_its_annotation_has_no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [(at, "1") for at in (10, 20, 30, 60, 70)]
    monkeypatch.setattr(Source, "_series", lambda *_: [{"metric": {}, "values": values}])
    board = {"annotations": {"list": [{"expr": "x", "iconColor": "red"}]}, "templating": {"list": []}}
    marks = Source("http://127.0.0.1:1", 0, 90, "1m", steps=9).marks(board)
    assert marks == [Mark(10, 30, "red"), Mark(60, 70, "red")]


def test_a_panel_without_data_says_so() -> None:
    assert "no data" in drawing.board({"title": "Board", "panels": [PANEL]}, {}, drawing.View(60), "caption")


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0512, "percentunit", "5.12%"),
        (-35.3, "percentunit", "-3,530%"),
        (0.25, "s", "250 ms"),
        (2.0, "s", "2 s"),
        (90.0, "s", "1.5 min"),
        (8 * 2**20, "bytes", "8 MiB"),
        (1234.0, "reqps", "1.23k req/s"),
        (3.0, "short", "3"),
    ],
)
def test_numbers_are_written_in_the_unit_of_the_panel(value: float, unit: str, text: str) -> None:
    assert written(value, unit) == text


def test_a_query_is_asked_for_all_values_of_the_variables() -> None:
    asked = Source("http://127.0.0.1:1", 0, 60, "1m").substituted("x{job=~'$job'}[$__rate_interval]", BOARDS["slo"])
    assert asked == "x{job=~'.+'}[1m]"


def test_pictures_of_a_past_incident_are_drawn_up_to_its_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    drawn: list[tuple[float, float, list[str]]] = []
    monkeypatch.setattr(
        command, "draw", lambda source, _output, _data, names, **_: drawn.append((source.start, source.end, names))
    )
    asked = ["--url", "http://127.0.0.1:1", "--minutes", "5", "--until", "1970-01-01T01:00:00+00:00"]
    monkeypatch.setattr(sys, "argv", ["pictures", *asked, "--dashboard", "slo", "--output", str(tmp_path)])
    assert command.main() == 0
    assert drawn == [(3300, 3600, ["slo"])]


def test_only_the_dashboards_that_are_named_are_drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Source, "lines", lambda *_: [])
    command.draw(Source("http://127.0.0.1:1", 0, 60, "1m"), tmp_path, "none", ["slo", "dependencies"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dependencies.svg", "slo.svg"]
