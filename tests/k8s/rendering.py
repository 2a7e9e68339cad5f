"""The manifests as they reach a cluster: rendered by kustomize itself."""

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import kubernetes_validate  # type: ignore[import-untyped]
import yaml

from app.settings import ROOT
from tests.alerts.programs import refuse
from tests.k8s import operator_schemas

Manifest = dict[str, Any]
OVERLAYS = ROOT / "k8s" / "overlays"
NAME = "baliblissed-backend"
KUBERNETES = ("1.34", kubernetes_validate.latest_version())
# One label set of a latency histogram in a metric file: its boundaries and its sum, each with its labels in the key.
BYTES_A_HISTOGRAM_SERIES = 2_800
UNITS = {"": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
MODULE, VERSION = "sigs.k8s.io/kustomize/kustomize/v5", "v5.7.1"
BUILD_TIMEOUT = 600.0


def _unavailable(reason: str) -> NoReturn:
    refuse(f"the manifests cannot be rendered: {reason}")


def find_kustomize() -> str:
    """Return the kustomize on PATH, else one that Go builds once into the user's cache; skip or fail without either."""
    on_path = shutil.which("kustomize")
    if on_path is not None:
        return on_path
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "baliblissed" / "bin"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one of the processes of a test run builds it
        if not (cache / "kustomize").exists():
            _build_kustomize(cache)
    return str(cache / "kustomize")


def _build_kustomize(directory: Path) -> None:
    go = shutil.which("go")
    if go is None:
        _unavailable("neither kustomize nor Go is on PATH")
    build = subprocess.run(
        [go, "install", f"{MODULE}@{VERSION}"],
        env={**os.environ, "GOBIN": str(directory), "GOFLAGS": ""},
        capture_output=True,
        text=True,
        timeout=BUILD_TIMEOUT,
        check=False,
    )
    if build.returncode != 0:
        _unavailable(f"go install {MODULE}@{VERSION} failed: {build.stderr.strip()[-500:]}")


def render(directory: Path) -> list[Manifest]:
    """Return every object that `kubectl apply -k directory` would send."""
    built = subprocess.run([find_kustomize(), "build", str(directory)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    # Deprecated fields are reported here, and nowhere else.
    assert not built.stderr, built.stderr
    return [manifest for manifest in yaml.safe_load_all(built.stdout) if manifest]


@cache
def rendered(overlay: str) -> tuple[Manifest, ...]:
    return tuple(render(OVERLAYS / overlay))


def validate(manifest: Manifest) -> None:
    """Check the object by the schemas of the oldest and the newest Kubernetes, or by the prometheus-operator's."""
    if str(manifest["apiVersion"]).startswith(f"{operator_schemas.GROUP}/"):
        operator_schemas.validate(manifest)
        return
    for version in KUBERNETES:
        kubernetes_validate.validate(manifest, version, strict=True)


def one(overlay: str, kind: str, name: str = NAME) -> Manifest:
    """Return the only object of that kind and name; a generated name ends in a hash."""
    named = re.compile(rf"{re.escape(name)}(-[a-z0-9]{{10}})?")
    found = [
        item for item in rendered(overlay) if item["kind"] == kind and named.fullmatch(str(item["metadata"]["name"]))
    ]
    assert len(found) == 1, f"{len(found)} objects {kind}/{name} in {overlay}"
    return found[0]


def pod_spec(overlay: str, name: str = NAME) -> Manifest:
    spec: Manifest = one(overlay, "Deployment", name)["spec"]["template"]["spec"]
    return spec


def backend(overlay: str) -> Manifest:
    container: Manifest
    (container,) = pod_spec(overlay)["containers"]
    return container


def deployments(overlay: str) -> Iterator[Manifest]:
    return (item for item in rendered(overlay) if item["kind"] == "Deployment")


def bytes_of(quantity: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([KMG]i)?", quantity).groups(default="")  # type: ignore[union-attr]
    return int(number) * UNITS[unit]


def seconds_until_failure(probe: Manifest) -> int:
    return int(probe["periodSeconds"]) * int(probe["failureThreshold"])


if __name__ == "__main__":
    find_kustomize()
    for release in operator_schemas.VERSIONS:
        operator_schemas.definitions(release)
