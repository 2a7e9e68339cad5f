"""overlays/development on a real cluster, the one that KUBECONFIG names: `make test-k8s`.

The committed manifests are applied. A kustomization on top of it gives a namespace of the test's own and, where the
K8S_*_IMAGE variables say so, other images. The tests build on one another's state, in this order: the last takes the
database away.
"""

import asyncio
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.k8s import traffic
from tests.k8s.cluster import BACKEND, PATIENCE, Cluster, KubectlError, eventually
from tests.k8s.rendering import Manifest
from tests.process.service import total

HANDLER, PATH = "/api/v1/destinations/{slug}", "/api/v1/destinations/tanah-lot"
REQUESTS, CONNECTIONS, ROUNDS = 200, 20, 10
API, METRICS = 8000, 9090
# The sums of one counter's series, one for each worker's file that has any.
COUNTED_BY_EACH_WORKER = f"""
import glob, json, os
from prometheus_client.mmap_dict import MmapedDict
sums = []
for path in glob.glob(os.environ["PROMETHEUS_MULTIPROC_DIR"] + "/counter_*.db"):
    values = [(json.loads(key), value) for key, value, *_ in MmapedDict.read_all_values_from_file(path)]
    sums.append(sum(v for k, v in values if k[1] == "http_requests_total" and k[2].get("handler") == {HANDLER!r}))
print(json.dumps([value for value in sums if value]))
"""
PROCESS = "import json, os; print(json.dumps([os.getuid(), os.getgid(), bool(os.statvfs('/').f_flag & os.ST_RDONLY)]))"

pytestmark = pytest.mark.skipif(
    not os.environ.get("KUBECONFIG"), reason="KUBECONFIG is not set: it names the cluster to test on"
)


@pytest.fixture(scope="module")
def kustomization(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kustomization")


@pytest.fixture(scope="module")
def cluster(kustomization: Path) -> Iterator[Cluster]:
    """Yield the overlay, applied and available, in a namespace that is deleted afterwards."""
    created = Cluster(f"baliblissed-test-{os.urandom(4).hex()}")
    try:
        created.apply(kustomization)
        try:
            created.wait("deployment/postgres", "Available")
            created.wait("deployment/redis", "Available")
            created.wait(f"deployment/{BACKEND}", "Available")
        except KubectlError as error:
            pytest.fail(f"{error}\n{created.diagnosis()}")
        yield created
    finally:
        created.run("delete", "namespace", created.namespace, "--ignore-not-found", f"--timeout={PATIENCE:g}s")


def condition(manifest: Manifest, kind: str) -> bool:
    found = {item["type"]: item["status"] for item in manifest["status"].get("conditions", [])}
    return found.get(kind) == "True"


def restarts(cluster: Cluster) -> int:
    return sum(status["restartCount"] for pod in cluster.pods() for status in pod["status"]["containerStatuses"])


def confined(name: str, image: str, *command: str, **security: Any) -> Manifest:
    """Return a pod within the restricted standard, except for the changes in `security`."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": name,
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": list(command),
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                        **security,
                    },
                }
            ],
        },
    }


async def send(url: str) -> list[int]:
    """Send REQUESTS GETs over CONNECTIONS keep-alive connections; return their statuses."""

    async def one_connection() -> list[int]:
        async with httpx.AsyncClient(timeout=30) as client:
            return [(await client.get(url)).status_code for _ in range(REQUESTS // CONNECTIONS)]

    answers = await asyncio.gather(*(one_connection() for _ in range(CONNECTIONS)))
    return [status for statuses in answers for status in statuses]


@contextmanager
def light_traffic(cluster: Cluster) -> Iterator[Cluster]:
    """Run a client pod that sends requests to the Service, as an ingress would, each on a new connection."""
    image = cluster.pod()["spec"]["containers"][0]["image"]
    command = ("python", "-c", Path(traffic.__file__).read_text(), f"http://{BACKEND}:{API}{PATH}")
    cluster.run("apply", "--filename=-", manifest=confined("traffic", image, *command))
    try:
        cluster.wait("pod/traffic", "Ready")
        eventually(lambda: reported(cluster)["sent"], "the first requests")
        yield cluster
    finally:
        cluster.run("delete", "pod/traffic")


def reported(cluster: Cluster) -> dict[str, Any]:
    last = cluster.run("logs", "pod/traffic", "--tail=1").strip()
    report: dict[str, Any] = json.loads(last) if last else {"sent": 0, "failed": []}
    return report


def test_every_pod_is_ready_in_a_namespace_that_enforces_the_restricted_standard(cluster: Cluster) -> None:
    namespace = cluster.get("namespace", cluster.namespace)
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    escalating = confined("x", "x:1", allowPrivilegeEscalation=True)
    with pytest.raises(KubectlError, match="violates PodSecurity"):
        cluster.run("apply", "--dry-run=server", "--filename=-", manifest=escalating)
    for name in (BACKEND, "postgres", "redis"):
        pods = cluster.pods(name)
        assert pods
        assert all(condition(pod, "Ready") for pod in pods), name


def test_the_cluster_holds_what_the_overlay_says(cluster: Cluster, kustomization: Path) -> None:
    cluster.run("diff", "--kustomize", str(kustomization))  # fails where there is a difference


def test_the_service_runs_as_the_user_10001_on_a_read_only_root(cluster: Cluster) -> None:
    assert cluster.python(cluster.pod(), PROCESS) == [10001, 10001, True]


def test_the_probes_are_answered_and_nothing_was_restarted(cluster: Cluster) -> None:
    with cluster.forwarded(f"service/{BACKEND}", API) as (url,):
        assert httpx.get(f"{url}/health/live", timeout=10).status_code == 200
        ready = httpx.get(f"{url}/health/ready", timeout=10)
    assert ready.status_code == 200
    assert ready.json()["status"] == "ready", ready.text
    assert restarts(cluster) == 0


def test_both_ports_are_reached_through_their_services(cluster: Cluster) -> None:
    with cluster.forwarded(f"service/{BACKEND}", API) as (url,):
        assert httpx.get(f"{url}{PATH}", timeout=10).json()["slug"] == "tanah-lot"
    with cluster.forwarded(f"service/{BACKEND}-metrics", METRICS) as (url,):
        scraped = httpx.get(f"{url}/metrics", timeout=10)
    assert scraped.status_code == 200
    live, configured = (total(scraped.text, "baliblissed_workers", state=state) for state in ("live", "configured"))
    assert live == configured > 1
    # The kubelet asks them, and their answers are counted like all others.
    for path in ("/health/live", "/health/ready"):
        assert total(scraped.text, "http_requests_total", handler=path, status="200") > 0


async def test_the_metrics_port_has_the_exact_sum_of_all_workers_of_a_pod(cluster: Cluster) -> None:
    pod = cluster.pod()
    with cluster.forwarded(f"pod/{pod['metadata']['name']}", API, METRICS) as (api, metrics):

        def counted() -> float:
            return total(httpx.get(f"{metrics}/metrics", timeout=10).text, "http_requests_total", handler=HANDLER)

        before, sent = counted(), 0
        for _ in range(ROUNDS):  # which worker takes a connection is the kernel's choice
            assert await send(f"{api}{PATH}") == [200] * REQUESTS
            sent += REQUESTS
            by_worker = cluster.python(pod, COUNTED_BY_EACH_WORKER)
            if len(by_worker) > 1:
                break
        assert [counted() - before for _ in range(5)] == [sent] * 5
        assert len(by_worker) > 1, "one worker alone has counted"
        assert sum(by_worker) == before + sent


def test_the_autoscaler_reads_its_figures(cluster: Cluster) -> None:
    try:
        cluster.wait("apiservice/v1beta1.metrics.k8s.io", "Available")
    except KubectlError:
        pytest.skip("the cluster has no metrics-server")
    cluster.wait(f"horizontalpodautoscaler/{BACKEND}", "ScalingActive")
    status = cluster.get("horizontalpodautoscaler", BACKEND)["status"]
    (metric,) = status["currentMetrics"]
    assert metric["containerResource"]["name"] == "cpu"
    assert metric["containerResource"]["current"]["averageUtilization"] >= 0


def test_a_changed_environment_rolls_out_without_a_failed_request(
    cluster: Cluster, kustomization: Path, tmp_path: Path
) -> None:
    old = {pod["metadata"]["name"] for pod in cluster.pods()}
    with light_traffic(cluster), cluster.followed(cluster.pod(), tmp_path / "old.log") as last_words:
        cluster.apply(kustomization, LOG_LEVEL="WARNING")
        cluster.run("rollout", "status", f"deployment/{BACKEND}", f"--timeout={PATIENCE:g}s", timeout=PATIENCE + 30)
        eventually(lambda: not old & {pod["metadata"]["name"] for pod in cluster.pods()}, "the old pods' end")
        sent_so_far = reported(cluster)["sent"]
        eventually(lambda: reported(cluster)["sent"] > sent_so_far + 20, "requests to the new pods")
        report = reported(cluster)
        assert "Shutting down: Master" in last_words(), "the old pod did not end in order"
    assert report["failed"] == []
    level = cluster.python(cluster.pod(), "import json, os; print(json.dumps(os.environ['LOG_LEVEL']))")
    assert level == "WARNING"
    assert restarts(cluster) == 0


def test_without_redis_the_pod_stays_in_service(cluster: Cluster) -> None:
    cluster.scale("redis", 0)
    eventually(lambda: not cluster.pods("redis"), "the end of Redis")
    with cluster.forwarded(f"service/{BACKEND}", API) as (url,):
        ready = httpx.get(f"{url}/health/ready", timeout=10)
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
        assert httpx.get(f"{url}{PATH}", timeout=10).status_code == 200
    cluster.scale("redis", 1)
    cluster.wait("deployment/redis", "Available")


def test_without_the_database_the_pod_leaves_the_service_and_is_not_restarted(cluster: Cluster) -> None:
    pod = cluster.pod()["metadata"]["name"]
    cluster.scale("postgres", 0)
    cluster.run("wait", f"pod/{pod}", "--for=condition=Ready=false", f"--timeout={PATIENCE:g}s")
    with cluster.forwarded(f"pod/{pod}", API) as (url,):
        assert httpx.get(f"{url}/health/live", timeout=10).status_code == 200
    cluster.scale("postgres", 1)
    cluster.wait(f"pod/{pod}", "Ready")
    assert restarts(cluster) == 0
