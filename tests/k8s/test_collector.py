"""k8s/components/collector: the configuration of monitoring/otel-collector, with the addresses of a cluster."""

import os
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from app.settings import ROOT
from tests.k8s.rendering import NAME, Manifest, bytes_of, one, pod_spec, rendered
from tests.telemetry.collector import SHIPPED
from tests.telemetry.program import collector_program

OVERLAY, COLLECTOR = "production", "otel-collector"
MIB = 2**20


@pytest.fixture(scope="module")
def shipped() -> dict[str, Any]:
    """Return monitoring/otel-collector/config.yaml."""
    found: dict[str, Any] = yaml.safe_load(SHIPPED.read_text())
    return found


def container() -> Manifest:
    found: Manifest
    (found,) = pod_spec(OVERLAY, COLLECTOR)["containers"]
    return found


def files() -> dict[str, str]:
    """Return the files of the collector's pod by path."""
    (volume,) = pod_spec(OVERLAY, COLLECTOR)["volumes"]
    (mount,) = container()["volumeMounts"]
    (config,) = [item for item in rendered(OVERLAY) if item["metadata"]["name"] == volume["configMap"]["name"]]
    return {f"{mount['mountPath']}/{name}": text for name, text in config["data"].items()}


def addresses() -> dict[str, str]:
    data: dict[str, str] = one(OVERLAY, "ConfigMap", "otel-collector-addresses")["data"]
    return data


def policies(name: str) -> list[Manifest]:
    """Return the NetworkPolicies that select the pods called `name`."""
    selected = {"matchLabels": {"app.kubernetes.io/name": name}}
    found = [item["spec"] for item in rendered(OVERLAY) if item["kind"] == "NetworkPolicy"]
    return [spec for spec in found if spec["podSelector"] == selected]


def test_the_pod_runs_the_shipped_configuration_and_no_copy_of_it() -> None:
    config, changes = (argument.removeprefix("--config=") for argument in container()["args"])
    assert files() == {config: SHIPPED.read_text(), changes: files()[changes]}
    copies = [path for path in (ROOT / "k8s").rglob("*.yaml") if "tail_sampling" in path.read_text()]
    assert copies == []


def test_every_address_of_the_compose_setup_is_replaced_and_nothing_else_is_changed(shipped: dict[str, Any]) -> None:
    changed = yaml.safe_load(files()[container()["args"][1].removeprefix("--config=")])
    assert changed.keys() == {"exporters"}
    replaced = {name: sorted(settings) for name, settings in changed["exporters"].items()}
    assert replaced == {name: ["endpoint"] for name, settings in shipped["exporters"].items() if "endpoint" in settings}
    for settings in changed["exporters"].values():
        assert settings["endpoint"].removeprefix("${env:").removesuffix("}") in addresses()
    (source,) = container()["envFrom"]
    assert source["configMapRef"]["name"] == one(OVERLAY, "ConfigMap", "otel-collector-addresses")["metadata"]["name"]


def test_the_collector_takes_both_files_together(tmp_path: Path) -> None:
    program = collector_program()
    paths = []
    for argument in container()["args"]:
        path = argument.removeprefix("--config=")
        paths.append(tmp_path / path.rpartition("/")[2])
        paths[-1].write_text(files()[path])
    command = [str(program), "validate", *(f"--config={path}" for path in paths)]
    for environment, accepted in ((addresses(), True), ({}, False)):
        given = {**os.environ, **environment}
        done = subprocess.run(command, env=given, capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode == 0) is accepted, done.stderr


def test_ports_are_those_that_the_configuration_listens_on(shipped: dict[str, Any]) -> None:
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}
    (reader,) = shipped["service"]["telemetry"]["metrics"]["readers"]
    assert ports == {
        "otlp-grpc": int(shipped["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"].rpartition(":")[2]),
        "metrics": reader["pull"]["exporter"]["prometheus"]["port"],
        "health": int(shipped["extensions"]["health_check"]["endpoint"].rpartition(":")[2]),
    }
    assert {port["name"]: port["port"] for port in one(OVERLAY, "Service", COLLECTOR)["spec"]["ports"]} == {
        name: ports[name] for name in ("otlp-grpc", "metrics")
    }


def test_readiness_asks_the_pipelines_and_liveness_does_not(shipped: dict[str, Any]) -> None:
    asked = {name: container()[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}
    health = {"path": shipped["extensions"]["health_check"].get("path", "/"), "port": "health"}
    assert asked == {"startup": health, "readiness": health, "liveness": {"path": "/metrics", "port": "metrics"}}


def test_spans_are_refused_before_the_container_is_out_of_memory(shipped: dict[str, Any]) -> None:
    resources = container()["resources"]
    limit = bytes_of(resources["limits"]["memory"])
    assert resources["requests"]["memory"] == resources["limits"]["memory"]
    refused = shipped["processors"]["memory_limiter"]["limit_mib"] * MIB
    (variable,) = container()["env"]
    assert variable["name"] == "GOMEMLIMIT"
    assert refused == bytes_of(variable["value"].removesuffix("B")) <= 0.8 * limit


def test_one_collector_runs_at_a_time(shipped: dict[str, Any]) -> None:
    spec = one(OVERLAY, "Deployment", COLLECTOR)["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}
    # Two would write the same series: nothing in them tells one collector from the other.
    assert shipped["connectors"]["spanmetrics"]["resource_metrics_key_attributes"] == [
        "service.name",
        "service.namespace",
    ]


def test_the_document_says_how_many_traces_one_collector_takes(shipped: dict[str, Any]) -> None:
    sampling = shipped["processors"]["tail_sampling"]
    seconds = int(sampling["decision_wait_after_root_received"].removesuffix("s"))
    traces = sampling["num_traces"] // seconds // 100 * 100
    document = (ROOT / "docs" / "deploy-kubernetes.md").read_text()
    assert f"{sampling['num_traces']:,} traces over {seconds} s" in document
    assert f"{traces:,} traces a second" in document
    assert f"{traces * 10:,} requests a second" in document


def test_the_backend_sends_to_the_collector_s_service_and_both_policies_let_it() -> None:
    endpoint = urlsplit(one(OVERLAY, "ConfigMap")["data"]["OTEL_EXPORTER_OTLP_ENDPOINT"])
    service = one(OVERLAY, "Service", COLLECTOR)
    assert (endpoint.scheme, endpoint.hostname) == ("http", service["metadata"]["name"])
    assert [port["name"] for port in service["spec"]["ports"] if port["port"] == endpoint.port] == ["otlp-grpc"]
    labels = one(OVERLAY, "Deployment", COLLECTOR)["spec"]["selector"]["matchLabels"]
    assert service["spec"]["selector"] == labels
    (way_out,) = [rule for spec in policies(NAME) for rule in spec.get("egress", []) if {"podSelector"} & peers(rule)]
    assert way_out == {
        "to": [{"podSelector": {"matchLabels": labels}}],
        "ports": [{"port": endpoint.port, "protocol": "TCP"}],
    }
    (policy,) = policies(COLLECTOR)
    (way_in,) = [rule for rule in policy["ingress"] if rule["ports"][0]["port"] == "otlp-grpc"]
    assert way_in["from"] == [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": NAME}}}]


def peers(rule: Manifest) -> set[str]:
    return {key for peer in rule.get("to", []) for key in peer}


def test_what_leaves_the_collector_goes_to_the_trace_store_and_to_prometheus() -> None:
    (policy,) = policies(COLLECTOR)
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    namespace = {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}
    reached = {
        (rule["to"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/name"], rule["ports"][0]["port"])
        for rule in policy["egress"]
        if "to" in rule and rule["to"][0]["namespaceSelector"] == namespace
    }
    traces, metrics = urlsplit(f"//{addresses()['TRACES_ENDPOINT']}"), urlsplit(addresses()["METRICS_ENDPOINT"])
    assert reached == {("jaeger", traces.port), ("prometheus", metrics.port)}
    for address in (traces, metrics):
        assert str(address.hostname).endswith(".monitoring.svc")
