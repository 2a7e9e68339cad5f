"""Collectors of the exporter: a wrong one stops the start with one line."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.monitoring import Observability, logging
from app.monitoring.exporter import DEFAULT_LOGGING, listen
from app.monitoring.metrics.registry import current_namespace
from app.monitoring.multiprocess.aggregate import Aggregate
from app.monitoring.server import master
from app.monitoring.server.configuration import HOST_COLLECTOR
from app.monitoring.server.master import StartError
from loadtest.programs import free_port
from tests.monitoring.server.masters import master_with
from tests.process.service import ROOT

CONFIGURATION = """
from app.monitoring import Observability, logging
globals().update(Observability("shop", namespace="shop").gunicorn("shop:app", collectors=["nope:x"]))
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory of modules that can be imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "shop_figures.py").write_text(
        "from prometheus_client import Gauge\n"
        "DEPTH = Gauge('depth', 'Depth.', multiprocess_mode='livesum')\n"
        "def collect(catalogue): DEPTH.set(1)\n"
    )
    (tmp_path / "shop_broken.py").write_text("raise RuntimeError('two\\nlines')\n")
    (tmp_path / "shop_ends.py").write_text("import os\nos._exit(7)\n")
    (tmp_path / "shop_hangs.py").write_text("import time\ntime.sleep(600)\n")
    return tmp_path


@pytest.mark.parametrize("collectors", ["shop_figures:collect", [print]])
def test_no_list_of_names_is_refused_before_anything_is_claimed(
    collectors: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")  # set by gunicorn() and unset after this test
    monkeypatch.setattr(logging, "configure", lambda **_: None)
    settings = Observability("shop", namespace=current_namespace()).gunicorn("shop:app", collectors=collectors)
    with pytest.raises(SystemExit, match=r"^collectors=.*: want a list of module:function$"):
        settings["on_starting"](master_with(settings))


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """`started(*collectors)` starts an exporter with them as the master does, and returns its directory."""
    resources = master._Resources(listener=listen("127.0.0.1", 0))
    monkeypatch.setattr(master, "_resources", resources)
    directory = tmp_path / "metrics"
    directory.mkdir()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(directory))

    def start(*collectors: str) -> Path:
        master.start_exporter(collectors, DEFAULT_LOGGING)
        master.supervise_exporter()
        return directory

    yield start
    master.stop_exporter()


@pytest.mark.parametrize(
    ("collector", "message"),
    [
        ("nope:x", "'nope:x': ModuleNotFoundError: No module named 'nope'"),
        ("shop_figures:other", "'shop_figures:other': AttributeError: .* has no attribute 'other'"),
        ("shop_figures:DEPTH", "'shop_figures:DEPTH' is not a function"),
        ("shop_broken:collect", "'shop_broken:collect': RuntimeError: two lines"),
        ("shop_figures", "'shop_figures': AttributeError: .*"),
    ],
)
@pytest.mark.usefixtures("modules")
def test_a_wrong_collector_is_named_with_the_form_that_is_wanted(
    started: Callable[..., Path], collector: str, message: str
) -> None:
    whole = f"^the exporter cannot start: collectors: {message}: want module:function$"
    with pytest.raises(StartError, match=whole) as raised:
        started(HOST_COLLECTOR, collector)
    assert "\n" not in str(raised.value)


@pytest.mark.usefixtures("modules")
def test_collectors_are_imported_by_the_exporter_only(started: Callable[..., Path]) -> None:
    directory = started(HOST_COLLECTOR, "shop_figures:collect")
    assert "shop_figures" not in sys.modules
    assert list(Aggregate(directory).exposition("")[0].decode().splitlines()).count("depth 1.0") == 1


@pytest.mark.usefixtures("modules")
def test_an_exporter_that_ends_or_hangs_while_it_starts_ends_the_start(
    started: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StartError, match=r"^the exporter cannot start: it ended before it was ready$"):
        started("shop_ends:collect")
    master.stop_exporter()
    master._resources.listener = listen("127.0.0.1", 0)
    monkeypatch.setattr(master.ExporterSupervisor.supervise, "__defaults__", (0.2,))
    with pytest.raises(StartError, match=r"^the exporter cannot start: it was not ready after 0.2 s$"):
        started("shop_hangs:collect")


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
    assert line.startswith("the exporter cannot start: collectors: 'nope:x': ModuleNotFoundError: ")
    assert ended.returncode == 1
