"""Checks that installed libraries are within the bounds that the package was tested with."""

import tomllib
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from .finding import Finding

DISTRIBUTION = "prefork-observability"
PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def requirements(project: Path = PROJECT) -> list[str]:
    """Return the package's requirements, those of its extras included.

    They come from the project file beside the package, else from the installed distribution; none where neither is
    there, as in a copy of the package without its project file.
    """
    if project.exists():
        table = tomllib.loads(project.read_text())["project"]
        extras: dict[str, list[str]] = table.get("optional-dependencies", {})
        return [*table.get("dependencies", []), *(one for extra in extras.values() for one in extra)]
    try:
        return metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return []


def untested_versions(wanted: Iterable[str] | None = None) -> Iterator[Finding]:
    """Find installed libraries outside their bounds, the package's own. A library that is not installed is not used."""
    seen: set[str] = set()
    for text in requirements() if wanted is None else wanted:
        requirement = Requirement(text)
        if requirement.name in seen:
            continue
        try:
            installed = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            seen.add(requirement.name)
            yield Finding(
                "untested-version",
                "warning",
                f"{requirement.name} {installed} is installed",
                "the package relies on internals of this library, and was not tested with this version",
                f"{requirement.name}{requirement.specifier}",
            )
