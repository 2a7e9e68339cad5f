"""Collectors of the exporter: a wrong one stops the start with one line."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.monitoring.server.collectors import HOST_COLLECTOR, check_collectors
from app.monitoring.server.master import StartError
from loadtest.programs import free_port
from tests.process.service import ROOT

CONFIGURATION = """
from app.monitoring import Observability
globals().update(Observability("shop", namespace="shop").gunicorn("shop:app", collectors=["nope:x"]))
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of modules that can be imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "shop_figures.py").write_text(
        "from prometheus_client import Gauge\n"
        "DEPTH = Gauge('depth', 'Depth.', multiprocess_mode='livesum')\n"
        "def collect(catalogue): DEPTH.set(1)\n"
    )
    (tmp_path / "shop_broken.py").write_text("raise RuntimeError('two\\nlines')\n")
    return tmp_path


@pytest.mark.parametrize(
    ("collectors", "message"),
    [
        ("shop_figures:collect", "collectors='shop_figures:collect': want a list of module:function"),
        ([print], "want a list of module:function"),
        (
            ["nope:x"],
            r"^collectors=\['nope:x'\]: .*'nope:x': ModuleNotFoundError: No module named 'nope': want module:",
        ),
        ([HOST_COLLECTOR, "shop_figures:other"], "AttributeError: .* has no attribute 'other': want module:function$"),
        (["shop_figures:DEPTH"], "'shop_figures:DEPTH' is not a function: want module:function$"),
        (["shop_broken:collect"], "RuntimeError: two lines: want module:function$"),
        (["shop_figures"], "want module:function$"),
    ],
)
@pytest.mark.usefixtures("modules")
def test_a_wrong_collector_is_named_with_the_form_that_is_wanted(collectors: Any, message: str) -> None:
    with pytest.raises(StartError, match=message) as raised:
        check_collectors(collectors)
    assert "\n" not in str(raised.value)


def test_collectors_are_imported_by_a_process_of_their_own(
    modules: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "metrics"
    directory.mkdir()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(directory))
    check_collectors([HOST_COLLECTOR, "shop_figures:collect"])
    assert "shop_figures" not in sys.modules
    assert list(directory.iterdir()) == []
    assert modules.exists()


def test_gunicorn_does_not_start_with_a_wrong_collector(tmp_path: Path) -> None:
    (tmp_path / "gunicorn_conf.py").write_text(CONFIGURATION)
    ended = subprocess.run(
        [sys.executable, "-m", "gunicorn", "-c", "gunicorn_conf.py"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PORT": str(free_port()),
            "METRICS_PORT": str(free_port()),
            "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics"),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    (line,) = [line for line in ended.stderr.splitlines() if not line.startswith("{")]
    assert line.startswith("collectors=['nope:x']: the exporter cannot start: 'nope:x': ModuleNotFoundError: ")
    assert ended.returncode == 1
