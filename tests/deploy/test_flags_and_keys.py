"""docs/decisions/0012-flags-and-keys.md lists every flag and key that ships, under its program's pinned release."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from app.settings import ROOT

DOCUMENT = (ROOT / "docs/decisions/0012-flags-and-keys.md").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OWN = {"backend", "alert-receiver"}  # the service's settings are in docs, and a test of theirs holds them
MAPS = {"build", "healthcheck", "logging", "logging.options", "ulimits", "ulimits.nofile"}
# Heading in the document by service of docker-compose.yaml, and the configuration files that its program reads.
PROGRAMS = {
    "PostgreSQL": ("postgres", ()),
    "Redis": ("redis", ()),
    "OpenTelemetry Collector": ("otel-collector", ("otel-collector/config.yaml",)),
    "Jaeger": ("jaeger", ("jaeger/config.yaml",)),
    "VictoriaLogs": ("victorialogs", ()),
    "Prometheus": ("prometheus", ("prometheus.yml",)),
    "Alertmanager": ("alertmanager", ("alertmanager.yml",)),
    "Grafana": (
        "grafana",
        (
            "grafana/provisioning/datasources/datasources.yaml",
            "grafana/provisioning/dashboards/dashboards.yaml",
        ),
    ),
}


def leaves(tree: Any, path: str = "") -> Iterator[str]:
    """Yield the dotted paths of the values in a tree, without positions in lists and names after a slash."""
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from leaves(value, f"{path}.{str(key).partition('/')[0]}".removeprefix("."))
    elif isinstance(tree, list) and any(isinstance(value, dict) for value in tree):
        for value in tree:
            yield from leaves(value, path)
    elif path:
        yield path


def flags(service: dict[str, Any]) -> Iterator[str]:
    """Yield the flags of a service's command and health check."""
    check = service["healthcheck"].get("test", ["CMD"])
    words = " ".join([*service.get("command", []), *check[1:]])
    # Not those of the shell and of python, which stand before a program in their own language.
    for flag in re.findall(r"(?:^|\s)(--?[A-Za-z][\w.-]*)", words):
        if not (service["image"].startswith("redis") and flag in {"-c", "-q"}):
            yield flag


def used(name: str) -> set[str]:
    """Return the flags, variables and keys that are given to a program."""
    service, files = PROGRAMS[name]
    found = {*flags(SERVICES[service]), *SERVICES[service].get("environment", {})}
    for file in files:
        found |= set(leaves(yaml.safe_load((ROOT / "monitoring" / file).read_text())))
    return found


def compose_keys() -> set[str]:
    """Return the keys of docker-compose.yaml: of services, of what is nested in them, of networks and volumes."""
    found = {key for key in COMPOSE if not key.startswith("x-")}
    found |= {f"networks.{key}" for network in COMPOSE["networks"].values() for key in network}
    for service in SERVICES.values():
        for key in service:
            found.add(f"services.{key}")
        for path in MAPS:
            (first, _, second) = path.partition(".")
            value = service.get(first, {})
            value = value.get(second, {}) if second and isinstance(value, dict) else value
            if isinstance(value, dict):
                found |= {f"services.{path}.{key}" for key in value}
    found |= {f"services.depends_on.{key}" for wait in SERVICES["backend"]["depends_on"].values() for key in wait}
    return found - {"services.ulimits.nofile", "services.logging.options", "services"}


def section(name: str) -> tuple[str, list[list[str]]]:
    """Return the heading's release and the cells of the rows below it."""
    (found,) = re.findall(rf"^## {re.escape(name)} ?(.*)\n((?:(?!^## ).*\n?)*)", DOCUMENT, re.MULTILINE)
    lines = [line for line in found[1].splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return found[0], rows[2:]


def listed(name: str) -> set[str]:
    """Return what the first column of a program's table names."""
    return {word for row in section(name)[1] for word in re.findall(r"`([^`]+)`", row[0])}


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_flag_and_key_of_a_program_is_listed_and_nothing_else(name: str) -> None:
    assert listed(name) == used(name)


def test_every_key_of_the_compose_file_is_listed_and_nothing_else() -> None:
    assert listed("Compose") == compose_keys()


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_release_that_was_read_is_the_one_that_runs(name: str) -> None:
    release = SERVICES[PROGRAMS[name][0]]["image"].rpartition(":")[2].removeprefix("v")
    assert section(name)[0] == release


@pytest.mark.parametrize("name", ["Compose", *PROGRAMS])
def test_every_row_says_where_it_was_read_and_what_it_means(name: str) -> None:
    rows = section(name)[1]
    assert rows
    assert all(len(row) == 3 and all(row) for row in rows)
