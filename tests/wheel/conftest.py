"""Environments with the wheel for the tests of this directory."""

import pytest

from tests.wheel import environment
from tests.wheel.environment import Environment


@pytest.fixture(scope="session")
def installed_wheel(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Install the package with all of its extras."""
    return environment.make(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def wheel_without_extras(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Install the package and its dependencies alone."""
    return environment.make(tmp_path_factory.mktemp("wheel"), extras=())
