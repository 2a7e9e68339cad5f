"""Files and metadata of the wheel."""

import email
import tomllib
import zipfile
from email.message import Message

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.wheel.environment import PACKAGE, ROOT, SOURCE, Environment
from tests.wheel.internals import HIDDEN, uses

# Libraries without an upper bound. Only documented functions are called, and an upper bound would keep an application
# from a release that works: other libraries of an application need these three as well.
UNBOUNDED = {
    "orjson": "dumps and loads",
    "packaging": "Requirement; releases are numbered by year, so that a bound would expire",
    "psutil": "Process, cpu_percent, virtual_memory and its errors",
}


@pytest.fixture(scope="module")
def names(installed_wheel: Environment) -> set[str]:
    with zipfile.ZipFile(installed_wheel.wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def metadata(installed_wheel: Environment) -> Message:
    (found,) = installed_wheel.packages.glob(f"{PACKAGE}-*.dist-info/METADATA")
    return email.message_from_string(found.read_text())


@pytest.fixture(scope="module")
def requirements(metadata: Message) -> list[Requirement]:
    return [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]


def bounded(requirement: Requirement) -> bool:
    return any(part.operator in {"<", "<=", "==", "~="} for part in requirement.specifier)


def test_the_wheel_holds_every_module_and_the_mark_of_types_and_nothing_else(names: set[str]) -> None:
    modules = {f"{PACKAGE}/{path.relative_to(SOURCE).as_posix()}" for path in SOURCE.rglob("*.py")}
    assert {name for name in names if ".dist-info/" not in name} == {*modules, f"{PACKAGE}/py.typed"}


def test_the_licence_is_in_the_wheel(names: set[str]) -> None:
    assert [name for name in names if name.endswith("/licenses/LICENSE")]


def test_the_wheel_has_the_name_version_and_readme_of_its_project(metadata: Message) -> None:
    project = tomllib.loads((SOURCE / "pyproject.toml").read_text())["project"]
    assert metadata["Name"] == "prefork-observability"
    assert metadata["Version"] == project["version"]
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "MIT"
    assert metadata.get_payload() == (SOURCE / "README.md").read_text()
    assert set(metadata.get_all("Provides-Extra", [])) == set(project["optional-dependencies"])


def test_each_library_has_an_upper_bound_or_a_reason_for_none(requirements: list[Requirement]) -> None:
    assert {str(canonicalize_name(one.name)) for one in requirements if not bounded(one)} == UNBOUNDED.keys()


def test_each_library_whose_internals_are_used_has_an_upper_bound(requirements: list[Requirement]) -> None:
    declared = {str(canonicalize_name(one.name)) for one in requirements}
    modules = [uses(path) for path in SOURCE.rglob("*.py")]
    touched = {library for used in modules if used.internals for library in used.libraries}
    assert {"prometheus-client", "fastapi", *HIDDEN.values()} <= touched
    assert HIDDEN.keys() <= {text for used in modules for text in used.internals}
    # A module that uses internals of one library imports others as well: those of UNBOUNDED are read by name.
    assert touched - UNBOUNDED.keys() <= declared
    assert {text for used in modules for text in used.internals if text.partition(".")[0] in UNBOUNDED} == set()


def test_each_library_that_is_imported_is_declared(requirements: list[Requirement]) -> None:
    declared = {canonicalize_name(one.name) for one in requirements}
    imported = {library for path in SOURCE.rglob("*.py") for library in uses(path).libraries}
    assert {library for library in imported if library not in declared} == set()


def test_the_locked_releases_are_within_the_bounds(requirements: list[Requirement]) -> None:
    locked = {
        canonicalize_name(name): version.split()[0]
        for name, _, version in (
            line.partition("==") for line in (ROOT / "requirements-dev.lock").read_text().splitlines() if "==" in line
        )
    }
    outside = {
        str(one)
        for one in requirements
        if not one.specifier.contains(locked[canonicalize_name(one.name)], prereleases=True)
    }
    assert outside == set()
