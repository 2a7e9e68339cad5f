"""The conftest.py of the package's tests where only the package is installed: no service, but its servers."""

import os

import pytest

# As the service's metrics are named, by which the tests look for them.
os.environ["METRICS_NAMESPACE"] = "baliblissed"

from app.monitoring.metrics.catalogue import catalogue
from tests.fixtures import anyio_backend, exporter, maker, running, spans

# In this process's memory: a test that sets a directory would make them in its files, which it closes.
catalogue()

__all__ = ["anyio_backend", "exporter", "maker", "running", "spans"]


@pytest.fixture
def database_url() -> str:
    return os.environ["TESTS_DATABASE_URL"]


@pytest.fixture
def redis_url() -> str:
    return os.environ["TESTS_REDIS_URL"]
