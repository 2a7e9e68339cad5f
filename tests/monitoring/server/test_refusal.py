"""An error of the service's configuration is one line under a server, and an exception everywhere else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.monitoring import Observability, OptionsError
from tests.process.service import ROOT

WITH_OPTIONS = "globals().update(Observability('shop', %s).gunicorn('shop:app'))"
WITH_SETTINGS = "globals().update(Observability('shop').gunicorn('shop:app', %s))"


@pytest.mark.parametrize(
    ("configuration", "environment", "line"),
    [
        (WITH_OPTIONS % "port=0", {}, "port=0: want a number from 1 to 65535"),
        (WITH_OPTIONS % "prot=8100", {}, "prot=8100: no such option of Observability; the closest is port"),
        (WITH_SETTINGS % "backlogg=4", {}, "backlogg=4: no such setting of gunicorn; the closest is backlog"),
        (
            WITH_SETTINGS.replace("shop:app", "shop.main") % "",
            {},
            "app='shop.main': want module:app or module:create_app(), such as 'shop.main:app'",
        ),
        (
            "Observability('shop', namespace='shop').counter('logins', 'L', ['email'])",
            {},
            "shop_logins: label 'email' has one value a user or request: put it into a log line",
        ),
        (WITH_OPTIONS % "", {"PORT": "abc"}, "PORT='abc': want a number from 1 to 65535"),
        (
            WITH_SETTINGS % "worker_class='sync'",
            {},
            "worker_class='sync': want a subclass of app.monitoring.server.worker.Worker",
        ),
        (
            WITH_SETTINGS % "",
            {"PORT": "8100", "METRICS_PORT": "8100"},
            "METRICS_PORT=8100: want a port other than PORT=8100 (HOST='127.0.0.1', METRICS_HOST='127.0.0.1')",
        ),
    ],
)
def test_gunicorn_ends_with_one_line(
    tmp_path: Path, configuration: str, environment: dict[str, str], line: str
) -> None:
    (tmp_path / "gunicorn_conf.py").write_text(f"from app.monitoring import Observability\n{configuration}\n")
    ended = subprocess.run(
        [sys.executable, "-m", "gunicorn", "-c", "gunicorn_conf.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr.splitlines()) == (1, "", [line])


def test_elsewhere_the_error_can_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Observability, "_current", None)
    with pytest.raises(OptionsError, match="port=0: want"):
        Observability("shop", port=0)
