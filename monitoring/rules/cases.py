"""The cases in which each alert is tested, read from its promtool tests, and their table in docs/alerts.md."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from .model import Alert

# Ten times as fast where the package has been built with libyaml.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
DIRECTORY = Path(__file__).resolve().parent / "tests"
CASES = (
    "fires",
    "just below",
    "resolves",
    "no traffic",
    "absent series",
    "counter reset",
    "pod churn",
    "one bad pod of ten",
    "outage of an hour",
    "fresh pod",
)
NOT_APPLICABLE = re.compile(rf"^# not applicable: ({'|'.join(CASES)}): (.+)$", re.MULTILINE)
INTRODUCTION = """# Alerts by case

Made by `python -m monitoring.rules` from the promtool tests in `monitoring/rules/tests/`, one file an alert. A number
counts the tests of a case; the notes below say why a case does not apply.

- fires, just below, resolves: the condition holds, holds by a little less than the threshold, and ends
- no traffic, absent series: counters stand still; nothing is scraped
- counter reset: a container starts again and its counters begin at 0
- pod churn: ten pods are replaced by ten others
- one bad pod of ten: the others are well
- outage of an hour: the condition lasts an hour, while pods are unready and traffic is gone
- fresh pod: the first occurrence in a pod that has just started
"""


def counted(text: str) -> dict[str, int]:
    """Return the number of tests of each case in a test file. Raise ValueError if a test names no case."""
    found: dict[str, int] = {}
    for test in yaml.load(text, Loader=LOADER)["tests"]:  # noqa: S506 -- a safe loader
        case = str(test.get("name", "")).partition(":")[0]
        if case not in CASES:
            raise ValueError(f"{test.get('name')!r}: want a name that begins with one of {', '.join(CASES)}")
        found[case] = found.get(case, 0) + 1
    return found


def not_applicable(text: str) -> dict[str, str]:
    """Return the reason for each case that does not apply to a test file's alert."""
    return dict(NOT_APPLICABLE.findall(text))


def table(alerts: Sequence[Alert], files: Mapping[str, str]) -> str:
    """Return the page of alerts by case. `files` are the test files by alert."""
    lines = [INTRODUCTION]
    lines.append(f"| alert | severity | {' | '.join(CASES)} |")
    lines.append(f"|{'---|' * (len(CASES) + 2)}")
    reasons = []
    for alert in sorted(alerts, key=lambda one: one.name):
        counts, excused = counted(files[alert.name]), not_applicable(files[alert.name])
        cells = [str(counts[case]) if case in counts else "note" if case in excused else "" for case in CASES]
        page = f"[{alert.name}](runbooks/{alert.name}.md)"
        lines.append(f"| {page} | {alert.severity} | {' | '.join(cells)} |")
        reasons += [f"- {alert.name}, {case}: {reason}" for case, reason in excused.items()]
    return "\n".join([*lines, "", "## Notes", "", *reasons, ""])
