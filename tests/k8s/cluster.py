"""A test namespace with the committed overlay, in the cluster that KUBECONFIG selects."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.k8s.rendering import OVERLAYS, Manifest

BACKEND = "baliblissed-backend"
PATIENCE = 180.0
# Images in the manifests, and the variables that replace them where no registry is reachable.
SUBSTITUTES = {
    "baliblissed/backend": "K8S_BACKEND_IMAGE",
    "postgres": "K8S_POSTGRES_IMAGE",
    "redis": "K8S_REDIS_IMAGE",
}


class KubectlError(Exception):
    """kubectl failed; the message contains its standard error."""


def eventually(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Return the first true result of `condition`. Raise AssertionError after `patience` seconds."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.5)
    raise AssertionError(f"waited {patience:g} s in vain for {what}")


class Cluster:
    """kubectl in one namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self._kubectl = shutil.which("kubectl") or "kubectl"

    def run(self, *arguments: str, manifest: Manifest | None = None, timeout: float = PATIENCE) -> str:
        """Run kubectl with `manifest` as its input and return its standard output. Raises KubectlError."""
        done = subprocess.run(
            [self._kubectl, "--namespace", self.namespace, *arguments],
            input=None if manifest is None else json.dumps(manifest),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode != 0:
            raise KubectlError(f"kubectl {' '.join(arguments)[:200]}: {done.stderr.strip()}")
        return done.stdout

    def get(self, *arguments: str) -> Manifest:
        answer: Manifest = json.loads(self.run("get", *arguments, "--output=json"))
        return answer

    def wait(self, what: str, condition: str) -> None:
        """Wait until `what` (deployment/name, pod/name) has the condition."""
        self.run("wait", what, f"--for=condition={condition}", f"--timeout={PATIENCE:g}s", timeout=PATIENCE + 30)

    def scale(self, deployment: str, replicas: int) -> None:
        self.run("scale", f"deployment/{deployment}", f"--replicas={replicas}")

    def pods(self, name: str = BACKEND) -> list[Manifest]:
        """Return the pods of one Deployment, including terminating ones."""
        items: list[Manifest] = self.get("pods", f"--selector=app.kubernetes.io/name={name}")["items"]
        return items

    def pod(self) -> Manifest:
        """Return the oldest backend pod that is not terminating."""
        staying = [pod for pod in self.pods() if "deletionTimestamp" not in pod["metadata"]]
        return min(staying, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    def python(self, pod: Manifest, source: str) -> Any:
        """Run `source` in the pod's container and return its output, parsed as JSON."""
        return json.loads(self.run("exec", str(pod["metadata"]["name"]), "--", "python", "-c", source))

    def apply(self, directory: Path, **variables: str) -> None:
        """Apply overlays/development with a kustomization in `directory` that changes only names and `variables`."""
        kustomization: Manifest = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": self.namespace,
            "resources": [os.path.relpath(OVERLAYS / "development", directory.resolve())],
            "images": list(_images()),
        }
        if variables:
            literals = [f"{name}={value}" for name, value in variables.items()]
            kustomization["configMapGenerator"] = [{"name": BACKEND, "behavior": "merge", "literals": literals}]
        (directory / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        self.run("apply", "--kustomize", str(directory))

    @contextmanager
    def forwarded(self, target: str, *ports: int) -> Iterator[list[str]]:
        """Forward `ports` of `target` (pod/name or service/name) and yield their base URLs on 127.0.0.1."""
        forwarder = subprocess.Popen(
            [self._kubectl, "--namespace", self.namespace, "port-forward", target, *(f":{port}" for port in ports)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield [f"http://127.0.0.1:{port}" for port in _local_ports(forwarder, len(ports))]
        finally:
            forwarder.terminate()
            forwarder.communicate()

    @contextmanager
    def followed(self, pod: Manifest, log: Path) -> Iterator[Callable[[], str]]:
        """Follow the pod's log and yield a function that returns it, also after the pod is gone."""
        with log.open("wb") as output:
            follower = subprocess.Popen(
                [self._kubectl, "--namespace", self.namespace, "logs", "--follow", pod["metadata"]["name"]],
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            yield lambda: log.read_text(errors="replace")
        finally:
            follower.terminate()
            follower.wait()

    def diagnosis(self) -> str:
        """Return pods, events and recent log lines for a failure message."""
        looks = (
            ["get", "pods", "--output=wide"],
            ["get", "events", "--sort-by=.lastTimestamp"],
            ["logs", f"deployment/{BACKEND}", "--tail=20"],
            ["logs", "deployment/postgres", "--tail=20"],
        )
        answers = []
        for look in looks:
            try:
                answers.append(self.run(*look))
            except KubectlError as error:
                answers.append(str(error))
        return "\n".join(answers)


def _images() -> Iterator[dict[str, str]]:
    for name, variable in SUBSTITUTES.items():
        image = os.environ.get(variable)
        if image:
            new_name, colon, tag = image.rpartition(":")
            assert colon, f"{variable}={image!r}: want a name and a tag"
            assert "/" not in tag, f"{variable}={image!r}: want a name and a tag"
            yield {"name": name, "newName": new_name, "newTag": tag}


def _local_ports(forwarder: "subprocess.Popen[str]", count: int) -> list[int]:
    """Return the local ports from kubectl's output, ignoring the lines for IPv6.

    kubectl prints `Forwarding from 127.0.0.1:40123 -> 8000` for each port.
    """
    assert forwarder.stdout is not None
    ports: list[int] = []
    while len(ports) < count:
        line = forwarder.stdout.readline()
        assert line, "kubectl port-forward ended"
        if line.startswith("Forwarding from 127.0.0.1:"):
            ports.append(int(line.split(" -> ")[0].rpartition(":")[2]))
    return ports
