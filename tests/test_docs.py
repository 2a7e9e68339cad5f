"""What the documents say is what the code does."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from app.settings import ROOT, Settings
from loadtest.programs import free_port
from tests.alerts.programs import run
from tests.process.service import total, wait_for

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
    for document in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
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


def blocks(language: str) -> list[str]:
    """The listings of docs/adopting.md."""
    return re.findall(
        rf"^```{language}\n(.+?)^```$", (ROOT / "docs" / "adopting.md").read_text(), re.MULTILINE | re.DOTALL
    )


@pytest.fixture
def adopted(tmp_path: Path) -> Path:
    """A repository in which somebody has done what docs/adopting.md says."""
    own = tmp_path / "own"
    (own / "shop").mkdir(parents=True)
    (tmp_path / "backend").symlink_to(ROOT)
    for commands in blocks("sh"):
        subprocess.run(["/bin/sh", "-euc", commands], cwd=own, check=True)
    for listing in blocks("python"):
        (own / listing.splitlines()[0].removeprefix("# ")).write_text(listing)
    return own


@contextmanager
def served(repository: Path) -> Iterator[tuple[str, str]]:
    """The addresses of the service in `repository`, and of its metrics."""
    port, metrics_port = free_port(), free_port()
    environment = {
        **os.environ,
        "PORT": str(port),
        "METRICS_PORT": str(metrics_port),
        "PROMETHEUS_MULTIPROC_DIR": str(repository / "metrics"),
        "WEB_CONCURRENCY": "2",
    }
    with (repository / "output.log").open("wb") as output:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("gunicorn"), "-c", "gunicorn_conf.py"],
            cwd=repository,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield f"http://127.0.0.1:{port}", f"http://127.0.0.1:{metrics_port}/metrics"
        process.terminate()
        assert process.wait(30) == 0, (repository / "output.log").read_text()
    finally:
        process.kill()
        process.wait()


def test_what_the_document_on_adopting_says_makes_a_service_with_exact_metrics(adopted: Path) -> None:
    def answers(url: str) -> bool:
        try:
            return httpx.get(f"{url}/things/kite", timeout=10).status_code == 200
        except httpx.TransportError:
            return False

    with served(adopted) as (url, metrics):
        wait_for(lambda: answers(url), "the service")
        asked = 1 + sum(answers(url) for _ in range(20))
        text = httpx.get(metrics, timeout=10).text
        assert total(text, "http_requests_total", handler="/things/{name}") == asked == 21
        assert total(text, "shop_workers", state="live") == 2
        assert total(text, "shop_system_memory_used_bytes") > 0
        assert total(text, "process_resident_memory_bytes", worker="exporter") > 0
    assert "baliblissed" not in text
    assert '"event":"hook_failed"' not in (adopted / "output.log").read_text()


def test_what_watches_an_adopted_service_is_accepted_and_knows_the_old_name_no_more(adopted: Path) -> None:
    done = run("promtool", "check", "config", adopted / "monitoring" / "prometheus.yml")
    assert done.returncode == 0, done.stdout
    tests = sorted((adopted / "monitoring" / "rules" / "tests").glob("*.yml"))
    done = run("promtool", "test", "rules", *tests)
    assert done.returncode == 0, done.stdout
    for python in (adopted / "shop").rglob("*.py"):
        assert not re.search(r"baliblissed|(?:from|import) app\b|app\.monitoring", python.read_text()), python
