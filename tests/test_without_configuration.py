"""The listing of docs/adopting.md under a plain Uvicorn, which does not read gunicorn_conf.py."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.settings import ROOT
from loadtest.programs import free_port
from tests.adoption import page
from tests.plain_http import plain
from tests.process.service import wait_for
from tests.processes import started


@pytest.mark.parametrize(
    ("variables", "namespace"),
    [({}, "app"), ({"METRICS_NAMESPACE": "shop", "OTEL_SERVICE_NAME": "shop"}, "shop")],
)
def test_names_come_from_the_environment(tmp_path: Path, variables: dict[str, str], namespace: str) -> None:
    (tmp_path / "shop").mkdir()
    listing = page.listing("shop/main.py").replace("prefork_observability", "app.monitoring")
    (tmp_path / "shop" / "main.py").write_text(
        f"{listing}\nfrom app.monitoring import Observability\nCARTS = Observability.current().gauge('carts', 'C')\n"
    )
    port = free_port()
    # Without the names that this repository's tests have.
    inherited = {
        name: value for name, value in os.environ.items() if name not in {"METRICS_NAMESPACE", "OTEL_SERVICE_NAME"}
    }
    with (
        (tmp_path / "output").open("wb") as output,
        started(
            [sys.executable, "-m", "uvicorn", "shop.main:app", "--port", str(port)],
            cwd=tmp_path,
            env={**inherited, "PYTHONPATH": str(ROOT), **variables},
            stdout=output,
            stderr=subprocess.STDOUT,
        ),
    ):
        # Uvicorn logs that the application has started before it listens.
        wait_for(lambda: b"Uvicorn running on" in (tmp_path / "output").read_bytes(), "the server")
        assert plain.get(f"http://127.0.0.1:{port}/things/kite").status_code == 200
        metrics = plain.get(f"http://127.0.0.1:{port}/metrics").text
    lines = (tmp_path / "output").read_text()
    assert f"\n{namespace}_carts " in metrics
    assert 'handler="/things/{name}"' in metrics
    assert not lines.startswith("{")
