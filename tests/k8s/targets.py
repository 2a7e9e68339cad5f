"""Targets as Prometheus would have them after its relabelings, without a cluster: promtool relabels static ones."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.alerts.programs import require
from tests.k8s.rendering import Manifest

# promtool waits as long for targets, and static ones are there at once.
SECONDS = 2
Job = dict[str, Any]
Meta = dict[str, str]


def _name(label: str) -> str:
    return label.translate(str.maketrans("./-", "___"))


def discovered(deployment: Manifest, port: str, service: str | None = None, **changed: str) -> Meta:
    """Return the meta labels of a port of one pod as discovery has them; `service` adds those of its EndpointSlice."""
    pod = deployment["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    numbers = {one["name"]: one["containerPort"] for one in container["ports"]}
    meta = {
        "namespace": deployment["metadata"]["namespace"],
        "pod_name": f"{deployment['metadata']['name']}-7d4b9c-x2x5z",
        "pod_node_name": "node-a",
        "pod_phase": "Running",
        "pod_ready": "false",
        "pod_container_name": container["name"],
        "pod_container_port_name": port,
    }
    for label, value in pod["metadata"]["labels"].items():
        meta |= {f"pod_label_{_name(label)}": value, f"pod_labelpresent_{_name(label)}": "true"}
    if service is not None:
        meta |= {"service_name": service, "endpointslice_port_name": port}
    found = {f"__meta_kubernetes_{name}": value for name, value in (meta | changed).items()}
    return {"__address__": f"10.0.0.1:{numbers[port]}", **found}


def operators_job(monitor: Manifest) -> Job:
    """Return the scrape configuration that the operator makes of a PodMonitor with one endpoint and matchLabels."""
    namespace, name, spec = monitor["metadata"]["namespace"], monitor["metadata"]["name"], monitor["spec"]
    (endpoint,) = spec["podMetricsEndpoints"]
    pod = "__meta_kubernetes_pod"
    relabelings: list[dict[str, Any]] = [
        {"source_labels": [f"{pod}_phase"], "regex": "(Failed|Succeeded)", "action": "drop"}
    ]
    for label, value in spec["selector"]["matchLabels"].items():
        sources = [f"{pod}_label_{_name(label)}", f"{pod}_labelpresent_{_name(label)}"]
        relabelings.append({"source_labels": sources, "regex": f"({value});true", "action": "keep"})
    relabelings += [
        {"source_labels": [f"{pod}_container_port_name"], "regex": endpoint["port"], "action": "keep"},
        {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
        {"source_labels": [f"{pod}_container_name"], "target_label": "container"},
        {"source_labels": [f"{pod}_name"], "target_label": "pod"},
        {"target_label": "job", "replacement": f"{namespace}/{name}"},
    ]
    if "jobLabel" in spec:
        source = f"{pod}_label_{_name(spec['jobLabel'])}"
        relabelings.append({"source_labels": [source], "target_label": "job", "regex": "(.+)"})
    relabelings.append({"target_label": "endpoint", "replacement": endpoint["port"]})
    for own in endpoint["relabelings"]:
        relabelings.append({"source_labels": own["sourceLabels"], "target_label": own["targetLabel"]})
    # Jobs are named after the object; the label `job` is what a relabeling makes of it.
    return {"job_name": f"podMonitor/{namespace}/{name}/0", "relabel_configs": relabelings}


def relabelled(directory: Path, jobs: Mapping[str, tuple[Job, Sequence[Meta]]]) -> dict[str, list[dict[str, str]]]:
    """Return the visible labels of the targets that each job keeps of the discovered ones, by promtool."""
    promtool, started = require("promtool"), {}
    for number, (key, (job, targets)) in enumerate(jobs.items()):
        static = [{"targets": [meta["__address__"]], "labels": _without_address(meta)} for meta in targets]
        own = {name: value for name, value in job.items() if name != "kubernetes_sd_configs"}
        config = directory / f"job-{number}.yml"
        config.write_text(yaml.safe_dump({"scrape_configs": [own | {"static_configs": static}]}))
        command = [promtool, "check", "service-discovery", f"--timeout={SECONDS}s", config, job["job_name"]]
        started[key] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    answers = {key: process.communicate(timeout=60)[0] for key, process in started.items()}
    return {key: [_visible(one["labels"]) for one in _parsed(text) if one["labels"]] for key, text in answers.items()}


def _parsed(text: str) -> list[dict[str, dict[str, str]]]:
    assert text.startswith("["), text
    parsed: list[dict[str, dict[str, str]]] = json.loads(text)
    return parsed


def _without_address(meta: Meta) -> Meta:
    return {name: value for name, value in meta.items() if name != "__address__"}


def _visible(labels: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in labels.items() if not name.startswith("__")}
