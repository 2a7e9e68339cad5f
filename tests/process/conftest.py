"""Clients of a real service, without instrumentation."""

from collections.abc import Iterator

import pytest
from opentelemetry.instrumentation.utils import suppress_instrumentation


@pytest.fixture(autouse=True)
def _clients_make_no_spans() -> Iterator[None]:
    """Suppress spans of this process's clients: if instrumented, the service would take them for its parents."""
    with suppress_instrumentation():
        yield
