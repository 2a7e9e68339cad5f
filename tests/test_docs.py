"""What the documents say is what the code does."""

import ast
import re
import sys
from pathlib import Path

import pytest

from app.settings import ROOT, Settings
from tests import api_reference

DEFAULTS_BY_MACHINE = {"web_concurrency", "prometheus_multiproc_dir", "data_directory"}


def settings_table() -> str:
    """The README's table of settings, made from their declarations."""
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


def _imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return names | {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}


@pytest.mark.parametrize("path", sorted((ROOT / "app" / "monitoring").rglob("*.py")), ids=str)
def test_monitoring_knows_nothing_of_the_packages_above_it(path: Path) -> None:
    ours = {name for name in _imports(path) if name == "app" or name.startswith("app.")}
    assert all(name.startswith("app.monitoring") for name in ours), ours


@pytest.mark.parametrize("path", sorted((ROOT / "app").rglob("*.py")), ids=str)
def test_no_base_http_middleware_and_no_on_event(path: Path) -> None:
    text = path.read_text()
    assert "BaseHTTPMiddleware" not in text
    assert ".on_event" not in text


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="newer Pythons write signatures and docstrings differently")
def test_the_list_of_public_names_is_what_the_modules_declare() -> None:
    assert api_reference.PAGE.read_text() == api_reference.page(), "run: python -m tests.api_reference"
