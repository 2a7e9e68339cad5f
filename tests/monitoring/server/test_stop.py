"""The master's stop, which gunicorn calls twice at SIGQUIT."""

import pytest
from gunicorn.arbiter import Arbiter
from gunicorn.config import Config

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
