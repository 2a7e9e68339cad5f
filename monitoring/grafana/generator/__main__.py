"""Write the dashboards and their kustomization, or say with --check where a file is not what the generator makes."""

import argparse
import json
import re
import sys
from functools import partial
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from monitoring.rules.groups import OF_THE_AGENCY as ALERTS_OF_THE_AGENCY

from . import (
    ai_service,
    cache_performance,
    config_maps,
    dependencies,
    fastapi_overview,
    infrastructure,
    load_test,
    monitoring,
    slo,
)
from .limits import OBJECTIVES

DIRECTORY = Path(__file__).resolve().parents[1] / "dashboards"
DASHBOARDS = {
    "fastapi-overview.json": fastapi_overview.build,
    "ai-service.json": ai_service.build,
    "cache-performance.json": cache_performance.build,
    "infrastructure.json": infrastructure.build,
    "slo.json": slo.build,
    "load-test.json": load_test.build,
    "dependencies.json": dependencies.build,
    "monitoring.json": monitoring.build,
}


NAMESPACE, TITLE = "baliblissed", "BaliBlissed"
# Their panels show metrics that the agency declares for itself.
OF_THE_AGENCY = ("ai-service.json", "cache-performance.json")
# In place of their address, which has the service's name in another meaning.
RUNBOOKS = "<runbooks>"
NAME = "[a-zA-Z_][a-zA-Z0-9_]*"


def render(namespace: str = NAMESPACE, job: str | None = None, runbooks: str | None = None) -> dict[str, str]:
    """Return each file's name and text for the metrics `<namespace>_...`; with `job` that one is chosen at first.

    `runbooks` is the address of the alerts' pages, without a slash at the end; by default that of slo.yaml.
    """
    encoder = JSONEncoder(indent=2, sort_keys=True, ensure_ascii=False)
    own = namespace == NAMESPACE
    boards = DASHBOARDS if own else {name: build for name, build in DASHBOARDS.items() if name not in OF_THE_AGENCY}
    if not own:
        boards["fastapi-overview.json"] = partial(fastapi_overview.build, of_the_agency=False)
        boards["dependencies.json"] = partial(dependencies.build, of_the_agency=False)
        boards["slo.json"] = partial(slo.build, without=sorted(ALERTS_OF_THE_AGENCY))
    files = {name: encoder.encode(build().build()) + "\n" for name, build in boards.items()}
    files = {name: text.replace(OBJECTIVES.runbooks, RUNBOOKS) for name, text in files.items()}
    if not own:
        files = {name: _named(text, namespace, _title(namespace)) for name, text in files.items()}
    address = runbooks or OBJECTIVES.runbooks
    files = {name: text.replace(RUNBOOKS, address) for name, text in files.items()}
    return {name: _with_job(text, job) for name, text in files.items()} if job else files


def _title(namespace: str) -> str:
    return TITLE if namespace == NAMESPACE else namespace.replace("_", " ").title()


def _named(text: str, namespace: str, title: str) -> str:
    # The word stands in metric names, ids, tags and titles only, and the namespace is letters, digits and underscores.
    return text.replace(NAMESPACE, namespace).replace(TITLE, title)


def _with_job(text: str, job: str) -> str:
    board = json.loads(text)
    for variable in board["templating"]["list"]:
        if variable["name"] == "job":
            variable["current"] = {"selected": True, "text": job, "value": job}
    return json.dumps(board, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _namespace(text: str) -> str:
    if not re.fullmatch(NAME, text):
        raise argparse.ArgumentTypeError(f"{text!r}: want letters, digits and underscores, and no digit first")
    return text


def drift(directory: Path, wanted: dict[str, str]) -> list[str]:
    """Return one line for each file of `directory` that is not as `wanted`. Grafana loads extra files as well."""
    paths = [*directory.glob("*.json"), *directory.glob(config_maps.FILE)]
    found = {path.name: path.read_text(encoding="utf-8") for path in paths}
    lines = [f"{name}: missing" for name in wanted.keys() - found.keys()]
    lines += [f"{name}: no dashboard of the generator" for name in found.keys() - wanted.keys()]
    lines += [f"{name}: differs" for name in found.keys() & wanted.keys() if found[name] != wanted[name]]
    return sorted(lines)


def main() -> int:
    """Exit status 1 where --check found a difference."""
    parser = argparse.ArgumentParser(prog="python -m monitoring.grafana.generator", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a file is out of date")
    parser.add_argument("--namespace", type=_namespace, default=NAMESPACE, help="first word of the metrics' names")
    parser.add_argument("--job", help="the job of Prometheus that is chosen at first; by default all of them")
    parser.add_argument("--runbooks", help="address of the runbooks, without a slash at the end")
    parser.add_argument(
        "--output", "--directory", dest="directory", type=Path, default=DIRECTORY, help="where the JSON files are"
    )
    arguments = parser.parse_args()
    wanted = render(arguments.namespace, arguments.job, arguments.runbooks)
    wanted[config_maps.FILE] = config_maps.kustomization(wanted, arguments.namespace, _title(arguments.namespace))
    if arguments.check:
        lines = drift(arguments.directory, wanted)
        if lines:
            sys.stderr.write("\n".join([*lines, "run: python -m monitoring.grafana.generator"]) + "\n")
        return 1 if lines else 0
    arguments.directory.mkdir(parents=True, exist_ok=True)
    for name, text in wanted.items():
        (arguments.directory / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
