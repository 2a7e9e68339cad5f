"""Fixtures of these tests."""

from collections.abc import Iterator

import pytest

from tests.monitoring.multiprocess import simulated
from tests.monitoring.multiprocess.simulated import Scene


@pytest.fixture
def scene() -> Iterator[Scene]:
    """A metrics directory; metrics that the test makes write to it."""
    with simulated.scene() as made:
        yield made
