"""Fixtures of these tests."""

from collections.abc import Iterator

import pytest

from tests.monitoring.multiprocess import simulated
from tests.monitoring.multiprocess.simulated import Scene


@pytest.fixture
def scene() -> Iterator[Scene]:
    """Yield a metrics directory that the test's metrics write to."""
    with simulated.scene() as made:
        yield made
