"""The manifest of docs/adopting.md: valid, and true to the package. tests/test_adopting.py starts its command."""

from typing import Any

import pytest
import yaml

from app.monitoring.health import GRACE_SECONDS
from app.monitoring.options import Options
from tests.k8s.rendering import (
    BYTES_A_HISTOGRAM_SERIES,
    Manifest,
    bytes_of,
    seconds_until_failure,
    validate,
)
from tests.listings import blocks

(TEXT,) = [listing for listing in blocks("adopting.md", "yaml") if listing.startswith("# shop.yaml")]
DEPLOYMENT, HTTP, METRICS = yaml.safe_load_all(TEXT)
POD = DEPLOYMENT["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
# Of a check in the listing of shop/health.py.
CHECK_TIMEOUT = 2.0


@pytest.fixture(scope="module")
def options() -> Options:
    """Return the package's options with the variables of the pod."""
    return Options.read({}, {one["name"]: one["value"] for one in CONTAINER["env"] if "value" in one})


@pytest.mark.parametrize("manifest", [DEPLOYMENT, HTTP, METRICS], ids=["deployment", "http", "metrics"])
def test_each_object_of_the_page_is_valid_by_the_schemas(manifest: Manifest) -> None:
    validate(manifest)


def test_the_pod_of_the_page_keeps_the_restricted_standard() -> None:
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert POD["automountServiceAccountToken"] is False
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_grace_period_of_the_page_covers_sleep_and_stop(options: Options) -> None:
    sleep, grace = CONTAINER["lifecycle"]["preStop"]["sleep"]["seconds"], POD["terminationGracePeriodSeconds"]
    spare = grace - sleep - options.graceful_timeout
    assert spare > 0
    assert options.kill_timeout == grace - sleep
    sentence = f"preStop {sleep} s + GRACEFUL_TIMEOUT {options.graceful_timeout} s"
    assert f"# {sentence} + {spare} s to spare." in TEXT
    assert sleep >= CONTAINER["readinessProbe"]["periodSeconds"]


def test_the_ports_of_the_page_are_those_of_the_options(options: Options) -> None:
    assert {port["name"]: port["containerPort"] for port in CONTAINER["ports"]} == {
        "http": options.port,
        "metrics": options.metrics_port,
    }
    assert options.host == options.metrics_host == "0.0.0.0"  # noqa: S104 -- a pod's own network
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    for service, port in ((HTTP, "http"), (METRICS, "metrics")):
        assert service["spec"]["selector"] == DEPLOYMENT["spec"]["selector"]["matchLabels"] == labels
        assert [one["targetPort"] for one in service["spec"]["ports"]] == [port]


def test_the_probes_of_the_page_are_slower_than_what_they_look_at(options: Options) -> None:
    assert seconds_until_failure(CONTAINER["livenessProbe"]) > options.worker_timeout
    assert CONTAINER["readinessProbe"]["timeoutSeconds"] >= CHECK_TIMEOUT + GRACE_SECONDS + 1
    assert any(f"timeout={CHECK_TIMEOUT})" in listing for listing in blocks("adopting.md", "python"))


def test_the_metric_files_of_the_page_are_in_memory_and_fit(options: Options) -> None:
    mounts: dict[str, Any] = {mount["mountPath"]: mount["name"] for mount in CONTAINER["volumeMounts"]}
    volumes = {volume["name"]: volume["emptyDir"] for volume in POD["volumes"]}
    assert volumes.keys() == set(mounts.values())
    assert all(volume["medium"] == "Memory" for volume in volumes.values())
    size = bytes_of(volumes[mounts[str(options.metrics_directory)]]["sizeLimit"])
    assert 2 * options.max_series * BYTES_A_HISTOGRAM_SERIES * options.workers <= size
    limit = bytes_of(CONTAINER["resources"]["limits"]["memory"])
    assert sum(bytes_of(volume["sizeLimit"]) for volume in volumes.values()) < limit / 2
