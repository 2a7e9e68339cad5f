"""What both Kubernetes tests share: the rendered overlays, and the rule that a cluster is touched only on request."""

from pathlib import Path

import pytest

CLUSTER_TEST = "test_cluster.py"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the cluster test out unless it is named: a KUBECONFIG in somebody's shell is not a request."""
    if collection_path.name == CLUSTER_TEST and not any(CLUSTER_TEST in argument for argument in config.args):
        return True
    return None
