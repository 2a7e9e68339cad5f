"""Collection rule of the Kubernetes tests: the cluster test only runs on request."""

from pathlib import Path

import pytest

CLUSTER_TEST = "test_cluster.py"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Ignore the cluster test unless it is named on the command line; a set KUBECONFIG is not enough."""
    if collection_path.name == CLUSTER_TEST and not any(CLUSTER_TEST in argument for argument in config.args):
        return True
    return None
