"""Result files of a campaign, and the rules for its verdict."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import httpx
import pytest

from loadtest import __main__ as command
from loadtest import results
from loadtest.alerts import PrometheusError, Timeline
from loadtest.criteria import Criteria, Fault
from loadtest.ledger import Ledger, Request, read
from loadtest.programs import ProgramError
from loadtest.scenarios import Plan, Result
from loadtest.stack import Options

CAMPAIGN = {"run_id": "20260101T000000Z", "speed": 12}


def result(*passed: bool) -> Result:
    """Return the result of a scenario with these verdicts."""
    made = Result("errors", figures={"requests": 3})
    for number, verdict in enumerate(passed):
        made.check(f"check {number}", verdict, '<b> & "detail"')
    return made


def test_a_scenario_is_passed_when_every_check_is_and_there_is_one() -> None:
    assert result(True, True).passed
    assert not result(True, False).passed
    assert not result().passed


def test_a_campaign_is_passed_when_every_scenario_is_and_there_is_one() -> None:
    assert results.passed([result(True), result(True)])
    assert not results.passed([result(True), result(False)])
    assert not results.passed([])


def test_the_three_files_say_the_same(tmp_path: Path) -> None:
    summary = json.loads(results.write(tmp_path, CAMPAIGN, [result(True, False)]).read_text())
    assert summary["passed"] is False
    assert summary["run_id"] == CAMPAIGN["run_id"]
    assert summary["scenarios"]["errors"]["requests"] == 3
    assert [check["passed"] for check in summary["scenarios"]["errors"]["checks"]] == [True, False]
    suite = ET.parse(tmp_path / "junit.xml").getroot()[0]  # noqa: S314 -- written a line above
    assert (suite.attrib["tests"], suite.attrib["failures"]) == ("2", "1")
    assert suite[1][0].attrib["message"] == '<b> & "detail"'
    report = (tmp_path / "report.html").read_text()
    assert "<h1>failed</h1>" in report
    assert "&lt;b&gt; &amp; &quot;detail&quot;" in report
    assert "<b>" not in report


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ProgramError("Locust ended with status 1"), "Locust ended with status 1"),
        (PrometheusError("sum(: parse error"), "sum(: parse error"),
        (httpx.ReadTimeout(""), "ReadTimeout('')"),
    ],
)
async def test_a_scenario_that_breaks_off_is_not_played_and_the_ones_before_it_are_kept(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    said: str,
) -> None:
    async def run(name: str, *_: Any) -> Result:
        if name == "errors":
            raise error
        return result(True)

    monkeypatch.setattr(command, "run", run)
    assert await command.campaign(["healthy", "errors"], tmp_path, Options()) == command.NOT_RUN
    assert capsys.readouterr().err == f"not run to its end: {said}\n"
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["complete"] is False
    assert len(summary["scenarios"]) == 1


@pytest.mark.parametrize(("passed", "status"), [(True, 0), (False, command.FAILED)])
async def test_a_campaign_ends_with_its_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, passed: bool, status: int
) -> None:
    async def run(*_: Any) -> Result:
        return result(passed)

    monkeypatch.setattr(command, "run", run)
    assert await command.campaign(["healthy"], tmp_path, Options()) == status
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["complete"], summary["passed"]) == (True, passed)


def test_a_timeline_keeps_the_first_moment_of_each_state() -> None:
    timeline = Timeline()
    for moment, states in enumerate([set(), {"pending"}, {"pending"}, {"firing"}, {"firing"}, set(), set()]):
        timeline.note(float(moment), {"HighErrorRate": states} if states else {})
    assert timeline.seen == {"HighErrorRate": {"pending": 1.0, "firing": 3.0, "resolved": 5.0}}
    assert timeline.fired() == {"HighErrorRate"}


def test_an_alert_that_was_only_pending_has_not_fired_nor_been_resolved() -> None:
    timeline = Timeline()
    timeline.note(1.0, {"HighErrorRate": {"pending"}})
    timeline.note(2.0, {})
    assert timeline.fired() == set()
    assert timeline.at("HighErrorRate", "resolved") is None


@pytest.mark.parametrize("speed", [1, 12])
def test_durations_are_those_of_the_criteria_divided_by_the_speed(speed: float) -> None:
    fault = Fault("DependencyDown", inhibits=True, may_fire=frozenset())
    rules = {
        "HighErrorRate": {"expr": "job:http_errors:ratio_rate5m > 0.05", "for": "2m"},
        "DependencyDown": {"expr": "job_dependency:dependency_up:avg < 0.5", "for": "1m", "keep_firing_for": "7m"},
    }
    criteria = Criteria(0.001, (), longest=600, notice=60, rules=rules, faults={"ai": fault})
    found = Plan.read(criteria, speed)
    assert (found.window, found.wait, found.longest) == (300 / speed, 120 / speed, 600 / speed)
    assert (found.notice, found.end, found.fault) == (60 / speed, 420 / speed, fault)


def test_a_ledger_is_the_sum_of_what_all_load_generators_wrote(tmp_path: Path) -> None:
    for name, lines in {
        "one": '[10.0, "GET", "/a", 200, 0.5]\n[11.0, "GET", "/a", 503, 0.25]\n{"tasks": 2, "late": 1}\n',
        "two": '[9.0, "POST", "/b", 0, 1.0]\n{"tasks": 1, "late": 0}\n',
    }.items():
        (tmp_path / f"{name}.jsonl").write_text(lines)
    found = read(sorted(tmp_path.glob("*.jsonl")))
    assert found.requests[0] == Request(10.0, "GET", "/a", 200, 0.5)
    assert (found.tasks, found.late) == (3, 1)
    assert found.counts() == {("GET", "/a", 200): 1, ("GET", "/a", 503): 1, ("POST", "/b", 0): 1}
    assert found.first_error() == 10.0, "the client without an answer knew first"
    assert Ledger(found.requests[:1]).first_error() is None


@pytest.mark.parametrize("text", ["", '[10.0, "GET", "/a", 200, 0.5]\n'])
def test_a_ledger_that_was_cut_short_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "ledger.jsonl").write_text(text)
    with pytest.raises(ValueError, match="did not end in order"):
        read([tmp_path / "ledger.jsonl"])
