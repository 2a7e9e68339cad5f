"""The dashboards are what the generator makes, and keep the rules that make them work in any Grafana."""

import copy
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from prometheus_client import CollectorRegistry

from app.observability import NAMESPACE
from app.settings import ROOT
from monitoring.grafana.generator import board, fastapi_overview
from monitoring.grafana.generator.panels import Query, lines
from monitoring.rules.objectives import load
from tests.agency import metrics_in
from tests.alerts.rules import alerts as rules_of_alerts
from tests.alerts.rules import metrics
from tests.dashboards.boards import BOARDS, DIRECTORY, Board, panels, targets, variables
from tests.dashboards.elsewhere import alert_names
from tests.dashboards.lint import complaints
from tests.dashboards.test_provisioning import provisioned

OF_ANY_SERVICE = {"fastapi-overview", "infrastructure", "slo", "load-test", "dependencies", "monitoring"}
WANTED = OF_ANY_SERVICE | {"ai-service", "cache-performance"}


def generator(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the real generator command."""
    command = [sys.executable, "-m", "monitoring.grafana.generator", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_the_dashboards_ship_with_uids_of_their_own() -> None:
    assert BOARDS.keys() == WANTED
    assert {board["uid"] for board in BOARDS.values()} == {f"baliblissed-{name}" for name in WANTED}


def test_the_files_are_what_the_generator_makes() -> None:
    checked = generator("--check", "--directory", str(DIRECTORY))
    assert checked.returncode == 0, checked.stderr


def test_a_changed_a_missing_and_a_stray_file_are_drift_until_the_generator_runs(tmp_path: Path) -> None:
    arguments = ("--directory", str(tmp_path))
    assert generator(*arguments).returncode == 0
    changed = json.loads((tmp_path / "ai-service.json").read_text())
    changed["title"] = "mine"
    (tmp_path / "ai-service.json").write_text(json.dumps(changed))
    (tmp_path / "infrastructure.json").unlink()
    (tmp_path / "stray.json").write_text("{}")
    checked = generator("--check", *arguments)
    assert checked.returncode == 1
    for line in ("ai-service.json: differs", "infrastructure.json: missing", "stray.json: no dashboard"):
        assert line in checked.stderr
    (tmp_path / "stray.json").unlink()
    assert generator(*arguments).returncode == 0
    assert generator("--check", *arguments).returncode == 0
    for name in WANTED:
        assert (tmp_path / f"{name}.json").read_text() == (DIRECTORY / f"{name}.json").read_text()


def test_a_new_panel_does_not_move_the_ids_of_the_others() -> None:
    first, second = (lines(title, "For this test only.", "s", Query("vector(1)", "x")) for title in ("First", "Second"))
    alone = board.build("x", "X", "For this test only.", {"Row": [second]}).build()
    together = board.build("x", "X", "For this test only.", {"Before": [], "Row": [first, second]}).build()
    ids = [{panel.title: panel.id_val or 0 for panel in one.panels or []} for one in (alone, together)]
    assert ids[0].items() <= ids[1].items()
    assert all(0 < number < 2**31 for number in ids[1].values())


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_keeps_every_rule(name: str) -> None:
    assert complaints(BOARDS[name]) == []


def _without_description(board: Board) -> None:
    panels(board)[0]["description"] = ""


def _without_unit(board: Board) -> None:
    del panels(board)[0]["fieldConfig"]["defaults"]["unit"]


def _own_datasource(board: Board) -> None:
    panels(board)[0]["datasource"]["uid"] = "prometheus"


def _editable(board: Board) -> None:
    board["editable"] = True


def _without_uid(board: Board) -> None:
    board["uid"] = None


def _without_job(board: Board) -> None:
    board["templating"]["list"] = [item for item in variables(board) if item["name"] != "job"]


def _overlapping(board: Board) -> None:
    panels(board)[1]["gridPos"] = dict(panels(board)[0]["gridPos"])


def _same_id(board: Board) -> None:
    panels(board)[1]["id"] = panels(board)[0]["id"]


def _with(expression: str, legend: str = "x") -> Callable[[Board], None]:
    def change(board: Board) -> None:
        _, target = next(targets(board))
        target["expr"], target["legendFormat"] = expression, legend

    return change


SCOPE = 'job=~"$job", instance=~"$instance"'


@pytest.mark.parametrize(
    ("break_it", "complaint"),
    [
        (_without_description, "no description"),
        (_without_unit, "no unit"),
        (_own_datasource, "not on the chosen datasource"),
        (_editable, "can be edited"),
        (_without_uid, "uid is not stable"),
        (_without_job, "all values of job"),
        (_overlapping, "overlaps"),
        (_same_id, "share an id"),
        (_with(f"sum(rate(http_requests_total{{{SCOPE}}}[5m]))"), "a window of 5m"),
        (_with("sum(rate(http_requests_total{status='200'}[$__rate_interval]))"), "without the job and instance"),
        (_with(f"rate(http_requests_total{{{SCOPE}}}[$__rate_interval])"), "not added up"),
        (_with(f"sum(http_requests_total{{{SCOPE}}})"), "used as it is"),
        (
            _with(
                f"sum(http_request_duration_seconds_sum{{{SCOPE}}})"
                f" / sum(http_request_duration_seconds_count{{{SCOPE}}})"
            ),
            "used as it is",
        ),
        (
            _with(
                "histogram_quantile(0.99,"
                f" sum(rate(http_request_duration_seconds_bucket{{{SCOPE}}}[$__rate_interval])))"
            ),
            "not kept apart",
        ),
        (_with(f"max(http_requests_in_progress{{{SCOPE}}})"), "exposed by nothing"),
        (_with(f'max(baliblissed_workers{{{SCOPE}, status="live"}})'), "no label status"),
        (_with(f"max by (pid) (baliblissed_workers{{{SCOPE}}})", "{{pid}}"), "has the label pid"),
        (_with(f'max(baliblissed_workers{{{SCOPE}, state=~"$state"}})'), "$state is not defined"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_broken_dashboard_is_complained_about(break_it: Callable[[Board], None], complaint: str) -> None:
    board = copy.deepcopy(BOARDS["infrastructure"])
    break_it(board)
    assert any(complaint in line for line in complaints(board)), complaints(board)


def test_error_ratio_and_latency_show_the_objectives_as_lines() -> None:
    overview = panels(BOARDS["fastapi-overview"])
    limits = {
        panel["title"]: [step["value"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"][1:]]
        for panel in overview
        if panel["type"] == "timeseries"
        and panel["fieldConfig"]["defaults"]["custom"].get("thresholdsStyle") == {"mode": "dashed"}
    }
    assert limits["Error ratio"] == limits["Error ratio by version"] == [0.001, 0.05]
    assert limits["Latency"] == limits["P95 by version"] == [0.5, 2.0]
    assert limits["Slower than 2 s"] == [0.01]


def test_titles_and_descriptions_name_the_limits_that_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("ERROR_LIMITS", (0.002, 0.07)), ("LATENCY_LIMITS", (0.4, 3.0)), ("LATENCY_LIMIT", 3.0)):
        monkeypatch.setattr(fastapi_overview, name, value)
    monkeypatch.setattr(fastapi_overview, "SLOW_SHARE_LIMIT", 0.02)
    shown = json.loads(JSONEncoder().encode(fastapi_overview.build().build()))
    text = {panel["title"]: panel["description"] for panel in panels(shown)}
    assert "0.2%" in text["Error ratio"]
    assert "7%" in text["Error ratio"]
    assert "0.4 s for 99%" in text["Latency"]
    assert "2%" in text["Slower than 3 s"]


def named() -> dict[str, list[str]]:
    """Return the panels that link to the runbook of each alert, by alert."""
    found: dict[str, list[str]] = {}
    for name, one in BOARDS.items():
        for panel in panels(one):
            for link in panel.get("links", []):
                address, _, page = link["url"].rpartition("/")
                assert address == load().runbooks
                found.setdefault(page.removesuffix(".md"), []).append(f"{name}: {panel['title']}")
    return found


def test_every_alert_has_one_panel_that_links_to_its_runbook() -> None:
    assert named().keys() == alert_names()
    assert {alert: found for alert, found in named().items() if len(found) != 1} == {}
    pages = {path.stem for path in (ROOT / "docs" / "runbooks").glob("*.md")}
    assert named().keys() <= pages


def drawn(name: str, title: str) -> list[float]:
    """Return the limits of a panel."""
    panel = next(one for one in panels(BOARDS[name]) if one["title"] == title and one["type"] == "timeseries")
    return [step["value"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"][1:]]


@pytest.mark.parametrize(
    ("name", "title", "alert", "key"),
    [
        ("fastapi-overview", "Error ratio by instance", "InstanceErrorRate", "error_ratio"),
        ("fastapi-overview", "Shed share", "RequestsShed", "share"),
        ("dependencies", "Ready instances", "NotReady", "share"),
        ("dependencies", "Instances that reach each dependency", "DependencyDown", "share"),
        ("monitoring", "Targets up", "TargetDown", "share"),
        ("monitoring", "Queues of the collector", "CollectorFailing", "queue_share"),
        ("infrastructure", "Memory", "MemoryNearLimit", "used_share"),
        ("infrastructure", "Disk", "DiskNearlyFull", "used_share"),
        ("infrastructure", "Late wake-ups by instance", "EventLoopLag", "share"),
        ("infrastructure", "Unplanned exits by instance", "WorkerCrashLoop", "exits"),
        ("cache-performance", "Hit ratio by cache", "CacheHitRateLow", "hit_share"),
    ],
)
def test_a_panel_draws_the_limit_of_its_alert(name: str, title: str, alert: str, key: str) -> None:
    assert drawn(name, title) == [float(load().alerts[alert].values[key])]


def test_a_panel_with_the_limit_of_an_alert_reads_the_series_that_the_alert_evaluates() -> None:
    """A rate over the zoom's own window would pass the line where the alert does not fire, and the reverse."""
    limited = 0
    for panel in (panel for one in BOARDS.values() for panel in panels(one) if panel.get("links")):
        read = " ".join(target["expr"] for target in panel["targets"])
        if len(panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", [])) > 1:
            limited += 1
            assert "$__rate_interval" not in read, panel["title"]
        for link in panel["links"]:
            compared = re.match(r"[( \n]*(job\w*:[\w:]+)[^<>=]* [<>=]+ ", rules_of_alerts()[link["title"]]["expr"])
            if compared:
                series = compared[1].replace("sli_errors:ratio_rate", "burn_rate:ratio")
                assert series in metrics(read), (panel["title"], link["title"])
    assert limited > 15


def test_the_burn_rates_of_each_objective_have_the_factors_of_their_pairs_as_limits() -> None:
    objectives = load()
    for slo in objectives.slos:
        for kind, rates in (("fast", objectives.fast), ("slow", objectives.slow)):
            factors = sorted(pair.factor for pair in rates.pairs)
            assert drawn("slo", f"Burn rate of {slo.name}, {kind} windows") == factors
        assert drawn("slo", f"Failed share of {slo.name}") == [slo.budget]


def test_the_failed_share_of_an_objective_is_not_described_as_what_is_good() -> None:
    found = [panel["description"] for panel in panels(BOARDS["slo"]) if panel["title"].startswith("Failed share of")]
    assert len(found) == len(load().slos)
    assert all(text.startswith("Share of events in five minutes that were not good. Good are: ") for text in found)


def test_every_dashboard_leads_to_the_errors_in_the_log_in_its_time_range() -> None:
    sources = {one["uid"]: one["type"] for one in provisioned("datasources/datasources.yaml")["datasources"]}
    for board_ in BOARDS.values():
        link = next(one for one in board_["links"] if one["title"] == "Errors in the log")
        shown = json.loads(unquote(link["url"].partition("panes=")[2]))["logs"]
        [query] = shown["queries"]
        assert query["datasource"] == {"type": sources[shown["datasource"]], "uid": shown["datasource"]}
        assert shown["range"] == {"from": "${__from}", "to": "${__to}"}


def test_the_breaker_reads_as_words() -> None:
    breakers = [panel for panel in panels(BOARDS["ai-service"]) if panel["title"] == "Circuit breaker"]
    assert len(breakers) == 2
    for panel in breakers:
        options = panel["fieldConfig"]["defaults"]["mappings"][0]["options"]
        assert {value: option["text"] for value, option in options.items()} == {
            "0": "closed",
            "1": "half open",
            "2": "open",
        }


def test_the_dashboards_of_another_service_have_its_metrics_and_its_job(tmp_path: Path) -> None:
    pages = "https://shop.example/runbooks"
    named = ("--namespace", "shop", "--job", "shop-api", "--runbooks", pages)
    done = generator(*named, "--output", str(tmp_path / "boards"))
    assert done.returncode == 0, done.stderr
    written = {path.stem: path.read_text() for path in (tmp_path / "boards").glob("*.json")}
    assert written.keys() == OF_ANY_SERVICE
    for name, text in written.items():
        board = json.loads(text)
        assert "baliblissed" not in text.lower()
        assert board["uid"] == f"shop-{name}"
        assert board["title"].startswith("Shop / ")
        job = next(one for one in board["templating"]["list"] if one["name"] == "job")
        assert job["current"]["value"] == "shop-api"
        assert "shop_workers" in text
        linked = [link["url"] for panel in panels(board) for link in panel.get("links", [])]
        assert linked or name == "load-test"
        assert all(url.startswith(f"{pages}/") for url in linked), linked
        assert [metric for metric in agency_metrics() if metric in text] == []


def agency_metrics() -> list[str]:
    """Return the names, without a namespace, of the metrics that the agency declares for itself."""
    registry = CollectorRegistry()
    metrics_in(registry)
    return [family.name.removeprefix(f"{NAMESPACE}_") for family in registry.collect()]
