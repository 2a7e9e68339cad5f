"""The documents agree with the code."""

import ast
import importlib
import re
import sys
from pathlib import Path

import pytest

from app.settings import ROOT, Settings
from tests import api_reference

PACKAGE = api_reference.PACKAGE
PUBLIC_MODULES = {PACKAGE + name for name in api_reference.MODULES}
SERVICE = [
    ROOT / "gunicorn_conf.py",
    *(path for path in sorted((ROOT / "app").rglob("*.py")) if ROOT / "app" / "monitoring" not in path.parents),
]
DEFAULTS_BY_MACHINE = {"web_concurrency", "prometheus_multiproc_dir", "data_directory"}


def settings_table() -> str:
    """Return the README's table of settings, generated from their declarations."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "" if name in DEFAULTS_BY_MACHINE or field.default is None else field.default
        if isinstance(default, tuple):
            default = ",".join(str(network).removesuffix("/32") for network in default)
        lines.append(f"| `{name.upper()}` | {f'`{default}`' if default != '' else ''} | {field.description} |")
    return "\n".join(lines)


def test_the_readme_has_the_settings_as_they_are_declared() -> None:
    readme = (ROOT / "README.md").read_text()
    table = readme.split("app/settings.py -->\n")[1].split("\n<!-- end of settings")[0]
    assert table == settings_table()


def test_every_link_in_the_documents_leads_somewhere() -> None:
    for document in [*ROOT.glob("*.md"), ROOT / "app" / "monitoring" / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document}: {target}"


def _imports(code: str) -> list[tuple[int, str, list[str]]]:
    """Return level, module and names of every import in `code`; names are empty for `import module`."""
    nodes = list(ast.walk(ast.parse(code)))
    whole: list[tuple[int, str, list[str]]] = [
        (0, alias.name, []) for node in nodes if isinstance(node, ast.Import) for alias in node.names
    ]
    parts = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    return whole + [(node.level, node.module or "", [alias.name for alias in node.names]) for node in parts]


def _leaving(code: str, depth: int) -> list[str]:
    """Return the imports in `code` that reach outside the package; the module is `depth` directories below its root."""
    return [
        "." * level + module
        for level, module, _ in _imports(code)
        if level > depth + 1 or (level == 0 and module.partition(".")[0] == "app")
    ]


def _private(code: str) -> list[str]:
    """Return the imports of non-public names of the package in `code`."""
    found = []
    for _, module, names in _imports(code):
        # `from app.monitoring import logging` imports a module.
        for name in [f"{module}.{one}" for one in names] or [module]:
            if not (name + ".").startswith(f"{PACKAGE}."):
                continue
            home, _, member = name.rpartition(".")
            declared = importlib.import_module(home).__all__ if home in PUBLIC_MODULES else ()
            if name not in PUBLIC_MODULES and member not in declared:
                found.append(name)
    return found


@pytest.mark.parametrize("path", sorted((ROOT / "app" / "monitoring").rglob("*.py")), ids=str)
def test_monitoring_imports_itself_relatively_and_nothing_above_it(path: Path) -> None:
    depth = len(path.relative_to(ROOT / "app" / "monitoring").parts) - 1
    assert _leaving(path.read_text(), depth) == []


@pytest.mark.parametrize(
    ("code", "depth", "found"),
    [
        ("from ..settings import Settings", 0, ["..settings"]),
        ("from ... import settings", 1, ["..."]),
        ("from .. import logging", 1, []),
        ("from app.monitoring import logging", 0, ["app.monitoring"]),
        ("import app.monitoring.logging", 0, ["app.monitoring.logging"]),
        ("import apparent", 0, []),
    ],
)
def test_an_import_that_leaves_the_package_is_found(code: str, depth: int, found: list[str]) -> None:
    assert _leaving(code, depth) == found


@pytest.mark.parametrize("path", SERVICE, ids=str)
def test_the_service_imports_public_names_of_the_package_only(path: Path) -> None:
    assert _private(path.read_text()) == []


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from app.monitoring import Observability, logging", []),
        ("from app.monitoring.logging import get_logger", []),
        ("import app.monitoring.health", []),
        ("from app.monitoring import instrumentation", ["app.monitoring.instrumentation"]),
        ("from app.monitoring.logging import Writer", ["app.monitoring.logging.Writer"]),
        ("from app.monitoring.server.master import StartError", ["app.monitoring.server.master.StartError"]),
        ("import app.monitoring.metrics.registry", ["app.monitoring.metrics.registry"]),
    ],
)
def test_an_import_of_a_private_name_is_found(code: str, found: list[str]) -> None:
    assert _private(code) == found


@pytest.mark.parametrize("path", sorted((ROOT / "app").rglob("*.py")), ids=str)
def test_no_base_http_middleware_and_no_on_event(path: Path) -> None:
    text = path.read_text()
    assert "BaseHTTPMiddleware" not in text
    assert ".on_event" not in text


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="newer Pythons write signatures and docstrings differently")
def test_the_list_of_public_names_is_what_the_modules_declare() -> None:
    assert api_reference.PAGE.read_text() == api_reference.page(), "run: python -m tests.api_reference"


@pytest.mark.parametrize("path", sorted((ROOT / "app" / "monitoring").rglob("*.py")), ids=str)
def test_docstrings_say_raise_x_if(path: Path) -> None:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = [
        ast.get_docstring(node) or "" for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, documented)
    ]
    sentences = [one for text in texts for one in re.split(r"(?<=[.;])\s+", " ".join(text.split()))]
    raised = [one for one in sentences if re.match(r"raises? [A-Z]", one, re.IGNORECASE)]
    assert [one for one in raised if not re.match(r"Raise [A-Z].* (if|unless) ", one)] == []
