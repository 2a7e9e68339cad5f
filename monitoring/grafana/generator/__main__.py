"""Write the dashboards' JSON, or say with --check where a file is not what the generator makes."""

import argparse
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from . import ai_service, cache_performance, fastapi_overview, infrastructure

DIRECTORY = Path(__file__).resolve().parents[1] / "dashboards"
DASHBOARDS = {
    "fastapi-overview.json": fastapi_overview.build,
    "ai-service.json": ai_service.build,
    "cache-performance.json": cache_performance.build,
    "infrastructure.json": infrastructure.build,
}


def render() -> dict[str, str]:
    """Each file's name and text."""
    encoder = JSONEncoder(indent=2, sort_keys=True, ensure_ascii=False)
    return {name: encoder.encode(build().build()) + "\n" for name, build in DASHBOARDS.items()}


def drift(directory: Path, wanted: dict[str, str]) -> list[str]:
    """What of `directory` is not as `wanted`, one line each; Grafana would load a file too many as well."""
    found = {path.name: path.read_text(encoding="utf-8") for path in directory.glob("*.json")}
    lines = [f"{name}: missing" for name in wanted.keys() - found.keys()]
    lines += [f"{name}: no dashboard of the generator" for name in found.keys() - wanted.keys()]
    lines += [f"{name}: differs" for name in found.keys() & wanted.keys() if found[name] != wanted[name]]
    return sorted(lines)


def main() -> int:
    """Exit status 1 where --check found a difference."""
    parser = argparse.ArgumentParser(prog="python -m monitoring.grafana.generator", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a file is out of date")
    parser.add_argument("--directory", type=Path, default=DIRECTORY, help="where the JSON files are")
    arguments = parser.parse_args()
    wanted = render()
    if arguments.check:
        lines = drift(arguments.directory, wanted)
        if lines:
            sys.stderr.write("\n".join([*lines, "run: python -m monitoring.grafana.generator"]) + "\n")
        return 1 if lines else 0
    for name, text in wanted.items():
        (arguments.directory / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
