"""The prometheus-operator's own schemas of its objects, from the Go module that it is released as.

Nothing is compiled. Tests that need them are skipped if they cannot be downloaded, and fail in CI.
"""

import json
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import yaml

from tests.alerts.programs import refuse

MODULE = "github.com/prometheus-operator/prometheus-operator"
# The oldest that is supported, and a recent one.
VERSIONS = ("v0.85.0", "v0.93.1")
GROUP = "monitoring.coreos.com"
DIRECTORY = "example/prometheus-operator-crd"
DOWNLOAD_TIMEOUT = 300.0
Schema = dict[str, Any]


@cache
def definitions(version: str) -> Path:
    """Return the directory of the CustomResourceDefinitions of one release; download it on the first call."""
    go = shutil.which("go")
    if go is None:
        refuse(f"Go is not on PATH, and {MODULE} is a Go module")
    with tempfile.TemporaryDirectory() as outside:  # of any other module
        done = subprocess.run(
            [go, "mod", "download", "-json", f"{MODULE}@{version}"],
            cwd=outside,
            env={**os.environ, "GOFLAGS": ""},
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_TIMEOUT,
            check=False,
        )
    if done.returncode != 0:
        refuse(f"go mod download {MODULE}@{version} failed: {(done.stdout + done.stderr).strip()[-500:]}")
    return Path(json.loads(done.stdout)["Dir"]) / DIRECTORY


@cache
def schema(kind: str, version: str) -> Schema:
    """Return the JSON schema of a kind's v1, in which unknown fields are errors."""
    text = (definitions(version) / f"{GROUP}_{kind.lower()}s.yaml").read_text(encoding="utf-8")
    definition = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 -- both are safe
    (found,) = [one["schema"]["openAPIV3Schema"] for one in definition["spec"]["versions"] if one["name"] == "v1"]
    strict: Schema = _strict(found)
    return strict


def _strict(node: Any) -> Any:
    """Return a copy that forbids what the API server would drop without an error: fields that no schema has."""
    if isinstance(node, list):
        return [_strict(one) for one in node]
    if not isinstance(node, dict):
        return node
    copy = {key: _strict(value) for key, value in node.items()}
    # A property may itself be called `properties`: that of an object has a type beside it.
    if node.get("type") == "object" and "properties" in node and not node.get("x-kubernetes-preserve-unknown-fields"):
        copy.setdefault("additionalProperties", False)
    return copy


def validate(manifest: dict[str, Any]) -> None:
    """Check an object of the operator's by the schemas of VERSIONS. Raises jsonschema.ValidationError."""
    assert manifest["apiVersion"] == f"{GROUP}/v1", manifest["apiVersion"]
    for version in VERSIONS:
        jsonschema.Draft202012Validator(schema(manifest["kind"], version)).validate(manifest)
