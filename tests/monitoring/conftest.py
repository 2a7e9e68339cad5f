"""Logging set up for a test on a stream that it can read, and restored afterwards."""

import io
import json
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from app.monitoring.logging import SERVERS, _state, configure
from tests.monitoring.piped import Pipe

Configure = Callable[..., "Lines"]
TOUCHED = ("", *SERVERS, "gunicorn", "httpx", "httpcore", "library", "library.part", "library.part.x", "li", "ours")


class Lines:
    """Return the lines written since `configure`."""

    def __init__(self, stream: io.StringIO) -> None:
        self._stream = stream

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    def all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    def only(self) -> dict[str, Any]:
        (line,) = self.all()
        return line


@pytest.fixture
def logging_restored() -> Iterator[None]:
    """Restore the test session's logging afterwards."""
    root = logging.getLogger()
    loggers = [logging.getLogger(name) for name in TOUCHED]
    kept = [(logger, logger.level, logger.handlers[:], logger.propagate, logger.disabled) for logger in loggers]
    structlog_kept = structlog.get_config()
    structlog.contextvars.clear_contextvars()
    yield
    structlog.contextvars.clear_contextvars()
    structlog.configure(**structlog_kept)
    _state.fast_path, _state.chain = None, ()
    logging.captureWarnings(capture=False)
    for logger, level, handlers, propagate, disabled in kept:
        logger.setLevel(level)
        logger.handlers, logger.propagate, logger.disabled = handlers, propagate, disabled
    assert root.handlers == kept[0][2]


@pytest.fixture
def configured(logging_restored: None) -> Configure:
    """Return `configured(level="DEBUG")`, which sets logging up on a stream and returns the lines written to it."""

    def set_up(**changes: Any) -> Lines:
        stream = io.StringIO()
        common = {"service": "bali", "version": "1.2.3", "environment": "test"}
        configure(**{"renderer": "json", "level": "INFO", "stream": stream, **common, **changes})
        return Lines(stream)

    return set_up


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


@pytest.fixture
def shared_pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    """Yield a pipe that cannot be reopened through /proc, like another user's."""

    def refuse(*_: Any) -> int:
        raise PermissionError

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse)
        made = Pipe()
    yield made
    made.read()
    made.close()


@pytest.fixture
def installed(exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[TracerProvider]]:
    """Yield the providers installed during this test; restore the process's own one."""
    providers: list[TracerProvider] = []
    monkeypatch.setattr(trace, "set_tracer_provider", providers.append)
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: providers[-1])
    yield providers
    for provider in providers:
        provider.shutdown()
