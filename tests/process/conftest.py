"""Clients of a real service, without instrumentation."""

from collections.abc import Iterator

import pytest
from opentelemetry.instrumentation.utils import suppress_instrumentation


@pytest.fixture(autouse=True)
def _clients_make_no_spans() -> Iterator[None]:
    """Another test may have instrumented this process's clients: the service would take their spans for its parents."""
    with suppress_instrumentation():
        yield
