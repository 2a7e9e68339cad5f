"""Write recording rules and alerts from slo.yaml, with their promtool tests, for this service or another one."""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from monitoring.grafana.generator import __main__ as dashboards

from .cases import table
from .formats import read
from .groups import OF_THE_AGENCY, alerts, groups
from .model import Alert, Record
from .objectives import Objectives, ObjectivesError, content, load, parse
from .panels import panels
from .rendering import prometheus_rule, rules_file

DIRECTORY = Path(__file__).resolve().parent
ROOT = DIRECTORY.parents[1]
PROMETHEUS_RULE, PAGE = "prometheus-rule.yaml", "alerts.md"
COMPONENT = ROOT / "k8s" / "components" / "monitoring"
NAMESPACE = "baliblissed"
NAME = "[a-zA-Z_][a-zA-Z0-9_]*"
# Of recorded series, and of the metrics that the agency declares for itself.
AGENCY_METRIC = re.compile(rf"\b(?:{NAMESPACE}_(?:ai|cache)_|job(?:_cache)?:(?:ai|cache)_)")
# Every form in which rules and tests name the service. A word in none of them is an error and not a guess.
FORMS = re.compile(
    r"(?P<runbooks>https://github\.com/baliblissed/backend/blob/main/docs/runbooks)"
    r"|(?P<metric>\bbaliblissed_)"
    r"|(?P<dashboard>(?<=/d/)baliblissed(?=-))"
    r"|(?P<service>(?<=service: )baliblissed\b|(?<=service=\")baliblissed(?=\")|(?<=name: )baliblissed$)"
    r"|(?P<group>(?<=[\[ ;])baliblissed(?=-(?:recorded|latency|objectives|burn-rates|alerts)\b)"
    r"|(?<=\.\./)baliblissed(?=\.yml)|(?<=rules/)baliblissed(?=\.yml))"
    r"|(?P<job>(?<=job: )baliblissed\b|(?<=job=\")baliblissed(?=\")|(?<=\()baliblissed(?=\))|(?<=of )baliblissed\b)",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Names:
    """The names of one service. `runbooks` and `dashboards` are addresses without a slash at the end."""

    namespace: str = NAMESPACE
    job: str = NAMESPACE
    """Of the series in the tests; the rules hold whatever the job is called."""
    service: str = NAMESPACE
    runbooks: str = "https://github.com/baliblissed/backend/blob/main/docs/runbooks"

    def apply(self, text: str) -> str:
        """Return `text` with these names in place of the committed ones. Raise ValueError for an unknown form."""
        words = {
            "runbooks": self.runbooks,
            "metric": f"{self.namespace}_",
            "dashboard": self.namespace,
            "service": self.service,
            "group": self.namespace,
            "job": self.job,
        }
        left = [line for line in text.splitlines() if NAMESPACE in FORMS.sub("", line)]
        if left:
            raise ValueError(f"{left[0].strip()!r} names the service in a form that FORMS does not have")
        return FORMS.sub(lambda found: words[str(found.lastgroup)], text)


def render(names: Names, without: Sequence[str] = (), objectives: Objectives | None = None) -> dict[str, str]:
    """Return each file's name and text: the rules, the PrometheusRule and the tests of the alerts.

    Another service has no alerts and no recorded series on metrics of the agency. Raise ValueError if `without` names
    no alert.
    """
    committed = names == Names() and not without and objectives is None
    objectives = objectives or load()
    found = groups(objectives)
    known = {alert.name for alert in alerts(found)}
    for name in without:
        if name not in known:
            raise ValueError(f"--without {name}: want one of {', '.join(sorted(known))}")
    left_out = {*without, *(OF_THE_AGENCY if names.namespace != NAMESPACE else ())}
    kept = [replace(group, rules=[rule for rule in group.rules if _kept(rule, left_out)]) for group in found]
    if names.namespace != NAMESPACE:
        without_slos = {slo.name for slo in objectives.slos if f"{slo.alert}BudgetBurnsSlowly" in OF_THE_AGENCY}
        kept = [
            replace(group, rules=[rule for rule in group.rules if not _of_the_agency(rule, without_slos)])
            for group in kept
        ]
    shown = panels(dashboards.render(), objectives)
    # Objectives of another file have no panels.
    shown |= dict.fromkeys(known - shown.keys(), f"{NAMESPACE}-fastapi-overview")
    files = {
        f"{names.namespace}.yml": names.apply(rules_file(kept, objectives, shown)),
        PROMETHEUS_RULE: names.apply(prometheus_rule(kept, objectives, shown)),
    }
    for path in sorted((DIRECTORY / "tests").glob("*.yml")):
        if path.stem in known - left_out:
            text = _linked(path.read_text(encoding="utf-8"), f"{objectives.dashboards}/{shown[path.stem]}")
            files[f"tests/{path.name}"] = names.apply(text)
    if committed:
        tests = {path.stem: path.read_text(encoding="utf-8") for path in (DIRECTORY / "tests").glob("*.yml")}
        files[PAGE] = table(alerts(found), tests)
    for path in sorted((DIRECTORY / "tests" / "incidents").glob("*.yml")):
        text = path.read_text(encoding="utf-8")
        if not left_out & set(re.findall(r"\b[A-Z]\w+", text)):
            files[f"tests/incidents/{path.name}"] = names.apply(text)
    return files


def _linked(text: str, panel: str) -> str:
    """Return a test file with the address of its alert's panel, whose id changes with the dashboard."""
    return re.sub(r"(?<=dashboard_url: )\S+", lambda _: panel, text)


def _kept(rule: object, left_out: set[str]) -> bool:
    if isinstance(rule, Alert):
        return rule.name not in left_out
    return True


def _of_the_agency(rule: Alert | Record, slos: set[str]) -> bool:
    """Return whether a recorded series is of a metric or an objective, one of `slos`, that only the agency has."""
    return isinstance(rule, Record) and (
        rule.labels.get("slo") in slos or AGENCY_METRIC.search(f"{rule.name} {rule.expr}") is not None
    )


def place(name: str) -> Path:
    """Return the path of a committed file."""
    directories = {PROMETHEUS_RULE: COMPONENT, PAGE: ROOT / "docs"}
    return directories.get(name, DIRECTORY) / name


def drift(files: dict[str, str]) -> list[str]:
    """Return one line for each committed file that is not as generated."""
    return [
        f"{place(name).relative_to(ROOT)}: differs from what python -m monitoring.rules makes"
        for name, text in files.items()
        if not place(name).exists() or place(name).read_text(encoding="utf-8") != text
    ]


def _matching(pattern: str, wanted: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise argparse.ArgumentTypeError(f"{text!r}: want {wanted}")
        return text

    return read


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m monitoring.rules", description=__doc__)
    word = _matching(r"[\w.-]+", "letters, digits, underscores, dots and hyphens")
    name = _matching(NAME, "letters, digits and underscores, and no digit first")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a file is out of date")
    parser.add_argument("--namespace", type=name, default=NAMESPACE, help="first word of the metrics' names")
    parser.add_argument("--job", type=word, help="the job of Prometheus in the tests; by default the service")
    parser.add_argument("--service", type=word, help="the label `service` of the alerts; by default the namespace")
    parser.add_argument(
        "--runbooks", default=Names.runbooks, help="address of the runbooks, without a slash at the end"
    )
    parser.add_argument(
        "--dashboards", help="address of Grafana's dashboards, such as https://grafana.example/d; by default slo.yaml's"
    )
    parser.add_argument(
        "--slos", type=Path, help="objectives of a file of sloth or pyrra, in place of those of slo.yaml"
    )
    parser.add_argument("--without", action="append", default=[], metavar="ALERT", help="an alert to leave out")
    parser.add_argument("--output", type=Path, help="directory of the rules; their tests go to tests/")
    given = parser.parse_args()
    if given.namespace != NAMESPACE and given.output is None:
        parser.error("--namespace: want --output too, or the committed rules would be overwritten")
    if given.slos and given.output is None:
        parser.error("--slos: want --output too, or the committed rules would be overwritten")
    return given


def main() -> int:
    """Write the files; exit status 1 for an error in slo.yaml, an alert that does not exist, or with --check drift."""
    given = _arguments()
    service = given.service or given.job or given.namespace
    try:
        chosen = parse({**content(), "slos": read(given.slos)}) if given.slos else None
        if given.dashboards:
            chosen = replace(chosen or load(), dashboards=given.dashboards)
        files = render(Names(given.namespace, given.job or service, service, given.runbooks), given.without, chosen)
    except (OSError, ValueError, ObjectivesError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if given.check:
        found = drift(files)
        sys.stdout.writelines(f"{line}\n" for line in found)
        return 1 if found else 0
    for file, text in files.items():
        path = given.output / file if given.output else place(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
