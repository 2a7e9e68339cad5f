"""`make test-k8s` reports missing prerequisites first: one a line, with the reason and the command that gets it."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from app import __version__
from app.settings import ROOT
from tests.k8s.cluster import SUBSTITUTES
from tests.k8s.rendering import find_kustomize

SCRIPT = ROOT / "tests" / "k8s" / "require.sh"
PRESENT = "sha256:0123456789abcdef"
# Stands in for a cluster: its answer about a pod's image is in a file beside it, named after the pod.
KUBECTL = """#!/bin/sh
here=$(dirname "$0")
echo "$*" >>"$here/calls"
case "$*" in
  "kustomize "*) exec "$KUSTOMIZE" build "$2" ;;
  *"get --raw /readyz"*) cat "$here/ready"; grep -qx ok "$here/ready" ;;
  *" apply "*) cat >>"$here/applied" ;;
  *" get pod "*) cat "$here/$6" ;;
esac
"""
Require = Callable[..., tuple[int, list[str]]]


def run(path: Path, **environment: str) -> tuple[int, list[str]]:
    """Exit status and lines of the script with nothing in its environment but this."""
    done = subprocess.run(
        ["/bin/bash", SCRIPT],
        env={"PATH": str(path), **environment},
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr.splitlines()


@pytest.fixture
def require(tmp_path: Path) -> Require:
    """Return a function that runs the script on a cluster with the given answer per image; PRESENT is the default."""
    (tmp_path / "kubectl").write_text(KUBECTL)
    (tmp_path / "kubectl").chmod(0o755)
    (tmp_path / "config").touch()

    def check(ready: str = "ok", images: dict[str, str] | None = None, **environment: str) -> tuple[int, list[str]]:
        (tmp_path / "ready").write_text(f"{ready}\n")
        for variable in SUBSTITUTES.values():
            said = (images or {}).get(variable, PRESENT)
            (tmp_path / variable.lower().replace("_", "-")).write_text(said)
        given = {"KUBECONFIG": str(tmp_path / "config"), "KUSTOMIZE": find_kustomize(), "HOME": str(tmp_path)}
        return run(Path(f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin"), **given | environment)

    return check


def test_all_that_is_missing_is_said_at_once(tmp_path: Path) -> None:
    status, lines = run(tmp_path)
    assert status == 1
    assert [line.partition(" (")[0] for line in lines] == ["kubectl is not on PATH", "KUBECONFIG is not set"]
    assert "snap install kubectl" in lines[0]
    assert "kind create cluster" in lines[1]


def test_a_configuration_that_is_no_file_is_named(require: Require) -> None:
    status, (line,) = require(KUBECONFIG="/nonexistent/config")
    assert status == 1
    assert line.startswith("KUBECONFIG=/nonexistent/config: no such file")


def test_one_file_of_several_is_enough(require: Require, tmp_path: Path) -> None:
    assert require(KUBECONFIG=f"/nonexistent:{tmp_path / 'config'}") == (0, [])


def test_a_cluster_that_does_not_answer_is_named_with_kubectl_s_reason(require: Require, tmp_path: Path) -> None:
    status, (line,) = require(ready="dial tcp 127.0.0.1:6443: connection refused")
    assert status == 1
    assert f"KUBECONFIG={tmp_path / 'config'} names does not answer within 5 s: dial tcp 127.0.0.1:6443" in line
    assert "kind create cluster" in line


def test_a_cluster_with_the_images_lacks_nothing_and_keeps_nothing(require: Require, tmp_path: Path) -> None:
    assert require() == (0, [])
    applied = (tmp_path / "applied").read_text()
    for image in (f"baliblissed/backend:{__version__}", '"postgres:', '"redis:'):
        assert image in applied
    calls = (tmp_path / "calls").read_text().splitlines()
    (made,) = [call.split()[-1] for call in calls if " create namespace " in call]
    assert f"delete namespace {made} --wait=false" in calls[-1]


def test_every_image_that_cannot_be_had_is_named_with_how_to_get_it(require: Require) -> None:
    images = {"K8S_BACKEND_IMAGE": "ErrImagePull", "K8S_REDIS_IMAGE": "ImagePullBackOff"}
    status, lines = require(images=images)
    assert status == 1
    backend, redis = sorted(lines)
    assert f"no image baliblissed/backend:{__version__} and cannot pull it: ErrImagePull" in backend
    assert f"docker build -t baliblissed/backend:{__version__} . && kind load docker-image" in backend
    assert "no image redis:" in redis
    assert "docker pull redis:" in redis
    assert "export K8S_REDIS_IMAGE=NAME:TAG" in redis


def test_an_image_on_a_node_is_there_even_if_its_container_does_not_start(require: Require) -> None:
    assert require(images={"K8S_BACKEND_IMAGE": "CreateContainerError"}) == (0, [])


def test_an_image_that_takes_too_long_is_missing(require: Require) -> None:
    status, (line,) = require(images={"K8S_POSTGRES_IMAGE": "ContainerCreating"}, K8S_PULL_SECONDS="0")
    assert status == 1
    assert "no image postgres:" in line


@pytest.mark.parametrize("variable", sorted(SUBSTITUTES.values()))
def test_a_named_image_takes_the_place_of_the_committed_one_and_has_a_tag(
    require: Require, tmp_path: Path, variable: str
) -> None:
    assert require(**{variable: "127.0.0.1:5000/own:7"}) == (0, [])
    assert '"127.0.0.1:5000/own:7"' in (tmp_path / "applied").read_text()
    status, (line,) = require(**{variable: "127.0.0.1:5000/own"})
    assert status == 1
    assert line.startswith(f"{variable}=127.0.0.1:5000/own has no tag")


def test_the_command_asks_before_it_sets_anything_up() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert "\ntest-k8s: k8s-requirements $(READY) " in makefile
    assert "\ntest-image: image-requirements $(READY) " in makefile
    done = subprocess.run(
        [shutil.which("make") or "make", "--dry-run", "test-k8s", "READY=/nonexistent/ready"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},  # without what `make test` tells the commands that it runs
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.splitlines()[0] == "tests/k8s/require.sh", done.stderr
