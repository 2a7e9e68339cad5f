"""The files of a campaign: summary.json for programs, junit.xml for CI, report.html for people."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from loadtest.scenarios import Check, Result


def write(directory: Path, campaign: Mapping[str, Any], results: Sequence[Result]) -> Path:
    """Write the three files; returns the path of summary.json."""
    summary = {
        **campaign,
        "passed": passed(results),
        "scenarios": {
            result.scenario: {
                "passed": result.passed,
                **result.figures,
                "checks": [asdict(check) for check in result.checks],
            }
            for result in results
        },
    }
    path = directory / "summary.json"
    path.write_text(json.dumps(summary, indent=2) + "\n")
    (directory / "junit.xml").write_bytes(_junit(results))
    (directory / "report.html").write_text(_report(campaign, results))
    return path


def passed(results: Sequence[Result]) -> bool:
    """Return True if every scenario passed."""
    return bool(results) and all(result.passed for result in results)


def _junit(results: Sequence[Result]) -> bytes:
    suites = ET.Element("testsuites")
    for result in results:
        failures = sum(not check.passed for check in result.checks)
        suite = ET.SubElement(suites, "testsuite", name=f"loadtest.{result.scenario}")
        suite.set("tests", str(len(result.checks)))
        suite.set("failures", str(failures))
        for check in result.checks:
            case = ET.SubElement(suite, "testcase", classname=f"loadtest.{result.scenario}", name=check.name)
            if not check.passed:
                ET.SubElement(case, "failure", message=check.detail)
    return bytes(ET.tostring(suites, encoding="utf-8", xml_declaration=True))


PAGE = """<!doctype html>
<meta charset="utf-8">
<title>Load test {run_id}</title>
<style>
  body {{font-family: sans-serif}}
  td {{border-top: 1px solid #ccc; padding: .3em .6em; vertical-align: top}}
</style>
<h1>{verdict}</h1>
<p>{facts}</p>
{scenarios}
"""
SCENARIO = """<h2>{name}: {verdict}</h2>
<table>{rows}</table>
<p>Latency in seconds: {latency}</p>
<p><a href="{name}/locust.html">Locust's own report</a></p>
"""


def _report(campaign: Mapping[str, Any], results: Sequence[Result]) -> str:
    scenarios = [
        SCENARIO.format(
            name=escape(result.scenario),
            verdict=_verdict(result.passed),
            rows="".join(_row(check) for check in result.checks),
            latency=escape(json.dumps(result.figures.get("latency_seconds", {}))),
        )
        for result in results
    ]
    return PAGE.format(
        run_id=escape(str(campaign["run_id"])),
        verdict=_verdict(passed(results)),
        facts=escape(json.dumps(dict(campaign))),
        scenarios="".join(scenarios),
    )


def _row(check: Check) -> str:
    return f"<tr><td>{_verdict(check.passed)}</td><td>{escape(check.name)}</td><td>{escape(check.detail)}</td></tr>"


def _verdict(good: bool) -> str:  # noqa: FBT001 -- it is what the word says
    return "passed" if good else "failed"
