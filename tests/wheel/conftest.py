"""One environment with the wheel for the tests of this directory."""

import pytest

from tests.wheel import environment
from tests.wheel.environment import Environment


@pytest.fixture(scope="session")
def installed_wheel(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The package as a user installs it."""
    return environment.make(tmp_path_factory.mktemp("wheel"))
