"""The master's stop: its budget, and the rest of it for the exporter."""

import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from gunicorn.arbiter import Arbiter
from gunicorn.config import Config

from app.monitoring import Observability, logging
from app.monitoring.metrics.registry import current_namespace, registry
from app.monitoring.server import master
from app.monitoring.server.arbiter import RollingArbiter
from app.monitoring.server.shared_state import ServiceState
from app.monitoring.stop_budget import StopBudget

GRACEFUL_TIMEOUT = 30


def test_a_second_stop_keeps_the_begin_and_the_budget_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Arbiter, "stop", lambda *_: None)
    arbiter = object.__new__(RollingArbiter)
    configuration = Config()
    configuration.set("graceful_timeout", GRACEFUL_TIMEOUT)
    arbiter.__dict__.update(
        reexec_pid=0, master_pid=1, cfg=configuration, service=ServiceState(), LISTENERS=[], systemd=True, address=[]
    )
    arbiter.stop(graceful=False)
    began = arbiter.stop_began
    arbiter.stop()
    assert arbiter.stop_began == began
    assert configuration.graceful_timeout == StopBudget(GRACEFUL_TIMEOUT).workers


@pytest.mark.parametrize("elapsed", [1.0, 60.0])
def test_the_exporter_has_the_rest_of_the_graceful_timeout_that_gunicorn_runs_with(
    monkeypatch: pytest.MonkeyPatch, elapsed: float
) -> None:
    given: list[float] = []
    monkeypatch.setattr(Observability, "_current", None)
    monkeypatch.setattr(Observability, "_under_gunicorn", False)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    monkeypatch.setattr(logging, "configure", lambda **_: None)
    monkeypatch.setattr(master, "stop_exporter", given.append)
    observability = Observability("shop", namespace=current_namespace(), max_series=registry().max_series)
    on_exit = observability.gunicorn("shop:app")["on_exit"]
    # What the command line has replaced.
    observability.options = replace(observability.options, graceful_timeout=120)
    on_exit(SimpleNamespace(WORKERS={}, stop_began=time.monotonic() - elapsed))
    assert given == [pytest.approx(120 - elapsed, abs=10)]
