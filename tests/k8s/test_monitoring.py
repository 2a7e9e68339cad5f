"""k8s/components/monitoring: scraping with the operator and without it, and dashboards for Grafana's sidecar."""

import json
import os
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from app.settings import ROOT
from tests.alerts.programs import run
from tests.alerts.rules import slo
from tests.k8s import operator_schemas
from tests.k8s.rendering import NAME, OVERLAYS, Manifest, one, render, rendered
from tests.k8s.targets import discovered, operators_job, relabelled
from tests.listings import blocks

OVERLAY, COLLECTOR = "production", "otel-collector"
COMPONENTS = ROOT / "k8s" / "components"
DASHBOARDS = ROOT / "monitoring" / "grafana" / "dashboards"
PLAIN = COMPONENTS / "without-operator" / "prometheus.yml"
# Of all annotations of an object. `kubectl apply` without --server-side writes the whole object into one.
MAX_ANNOTATIONS = 256 * 2**10
PROMETHEUS = {
    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}},
    "podSelector": {"matchLabels": {"app.kubernetes.io/name": "prometheus"}},
}
# Deployment, its Service with the port `metrics`, and its job in monitoring/prometheus.yml.
SCRAPED = [(NAME, f"{NAME}-metrics", "baliblissed"), (COLLECTOR, COLLECTOR, "otel-collector")]


def plain_jobs() -> dict[str, dict[str, Any]]:
    """Return the scrape configurations of the example without the operator, by job."""
    return {job["job_name"]: job for job in yaml.safe_load(PLAIN.read_text())["scrape_configs"]}


@pytest.fixture(scope="module")
def without_operator(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    """Return production's objects with the component for clusters without the operator, as docs/ has it."""
    directory = tmp_path_factory.mktemp("overlay")
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(OVERLAYS / OVERLAY, directory.resolve())],
        "components": [os.path.relpath(COMPONENTS / "without-operator", directory.resolve())],
    }
    (directory / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return render(directory)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, str]]]:
    """Return the targets of each job by `<deployment> <operator|plain>`, of all that discovery would find."""
    pods = {name: one(OVERLAY, "Deployment", name) for name, _, _ in SCRAPED}
    jobs = {}
    for name, service, job in SCRAPED:
        found = [discovered(pods[name], "metrics", service)]
        found.append(discovered(pods[name], "metrics", service, pod_phase="Succeeded", pod_name="ended"))
        found += [discovered(pods[NAME], "http", NAME), discovered(pods[COLLECTOR], "health", COLLECTOR)]
        found += [discovered(pods[other], "metrics", others) for other, others, _ in SCRAPED if other != name]
        jobs[f"{name} operator"] = operators_job(one(OVERLAY, "PodMonitor", name)), found
        jobs[f"{name} plain"] = plain_jobs()[job], found
    return relabelled(tmp_path_factory.mktemp("jobs"), jobs)


@pytest.mark.parametrize("way", ["operator", "plain"])
@pytest.mark.parametrize(("name", "job"), [(name, job) for name, _, job in SCRAPED])
def test_each_pod_is_one_target_with_the_job_of_the_rules_its_pod_node_and_namespace(
    kept: dict[str, list[dict[str, str]]], name: str, job: str, way: str
) -> None:
    assert kept[f"{name} {way}"] == [
        {
            "job": job,
            "instance": f"{name}-7d4b9c-x2x5z",
            "pod": f"{name}-7d4b9c-x2x5z",
            "node": "node-a",
            "namespace": f"baliblissed-{OVERLAY}",
            "container": one(OVERLAY, "Deployment", name)["spec"]["template"]["spec"]["containers"][0]["name"],
            "endpoint": "metrics",
        }
    ]


def test_jobs_and_intervals_are_those_of_the_compose_setup_and_of_the_rules() -> None:
    composed = yaml.safe_load((ROOT / "monitoring" / "prometheus.yml").read_text())
    plain = yaml.safe_load(PLAIN.read_text())
    assert plain["global"] == composed["global"]
    assert plain_jobs().keys() == {job for _, _, job in SCRAPED} | {"prometheus", "alertmanager"}
    assert plain_jobs().keys() <= {job["job_name"] for job in composed["scrape_configs"]}
    assert set(slo().get("jobs", {"service": slo().get("job")}).values()) <= plain_jobs().keys()
    for name, _, _ in SCRAPED:
        (endpoint,) = one(OVERLAY, "PodMonitor", name)["spec"]["podMetricsEndpoints"]
        assert endpoint["interval"] == composed["global"]["scrape_interval"]
        assert endpoint["scrapeTimeout"] == composed["global"]["scrape_timeout"]
        assert endpoint["path"] == "/metrics"


def test_the_example_without_the_operator_is_a_configuration_of_prometheus(tmp_path: Path) -> None:
    config = yaml.safe_load(PLAIN.read_text())
    checked = run("promtool", "check", "config", PLAIN)
    if checked.returncode != 0:
        # Debian's has no discovery in Kubernetes: it takes the rest, and the form of that part is given here.
        assert "field kubernetes_sd_configs not found" in checked.stdout
        for job in config["scrape_configs"]:
            job.pop("kubernetes_sd_configs", None)
        rest = tmp_path / "prometheus.yml"
        rest.write_text(yaml.safe_dump(config))
        checked = run("promtool", "check", "config", rest)
    assert checked.returncode == 0, checked.stdout
    discovery = [{"role": "endpointslice", "namespaces": {"names": [f"baliblissed-{OVERLAY}"]}}]
    assert [plain_jobs()[job]["kubernetes_sd_configs"] for _, _, job in SCRAPED] == [discovery, discovery]


@pytest.mark.parametrize(("name", "service"), [(name, service) for name, service, _ in SCRAPED])
def test_prometheus_alone_may_scrape_the_port_and_a_service_lists_it(name: str, service: str) -> None:
    deployment = one(OVERLAY, "Deployment", name)
    policy = one(OVERLAY, "NetworkPolicy", name)["spec"]
    assert policy["podSelector"] == deployment["spec"]["selector"]
    (rule,) = [rule for rule in policy["ingress"] if rule["ports"] == [{"port": "metrics", "protocol": "TCP"}]]
    assert rule["from"] == [PROMETHEUS]
    assert [port["targetPort"] for port in one(OVERLAY, "Service", service)["spec"]["ports"]][-1] == "metrics"


def test_prometheus_may_look_for_targets_in_the_namespace_and_change_nothing() -> None:
    role = one(OVERLAY, "Role", "baliblissed-discovery")
    assert {(resource, *rule["verbs"]) for rule in role["rules"] for resource in rule["resources"]} == {
        (resource, "get", "list", "watch") for resource in ("pods", "services", "endpointslices")
    }
    binding = one(OVERLAY, "RoleBinding", "baliblissed-discovery")
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert {subject["namespace"] for subject in binding["subjects"]} == {"monitoring"}


def _mistyped_field(monitor: Manifest) -> None:
    monitor["spec"]["joblabel"] = monitor["spec"].pop("jobLabel")


def _mistyped_field_of_an_endpoint(monitor: Manifest) -> None:
    monitor["spec"]["podMetricsEndpoints"][0]["scrape_timeout"] = "10s"


def _interval_without_a_unit(monitor: Manifest) -> None:
    monitor["spec"]["podMetricsEndpoints"][0]["interval"] = "15"


def _action_that_does_not_exist(monitor: Manifest) -> None:
    monitor["spec"]["podMetricsEndpoints"][0]["relabelings"][0]["action"] = "rename"


def _no_selector(monitor: Manifest) -> None:
    del monitor["spec"]["selector"]


@pytest.mark.parametrize(
    "break_it",
    [
        _mistyped_field,
        _mistyped_field_of_an_endpoint,
        _interval_without_a_unit,
        _action_that_does_not_exist,
        _no_selector,
    ],
)
def test_the_schemas_of_the_operator_refuse_a_broken_object(break_it: Any) -> None:
    monitor = json.loads(json.dumps(one(OVERLAY, "PodMonitor")))
    operator_schemas.validate(monitor)
    break_it(monitor)
    with pytest.raises(jsonschema.ValidationError):
        operator_schemas.validate(monitor)


def test_a_rule_with_a_mistyped_field_is_refused() -> None:
    rules = json.loads(json.dumps(one(OVERLAY, "PrometheusRule", "baliblissed")))
    rules["spec"]["groups"] = [{"name": "one", "rules": [{"alert": "Up", "expr": "up", "for": "2m"}]}]
    operator_schemas.validate(rules)
    rules["spec"]["groups"][0]["rules"][0]["keep_firing"] = "2m"
    with pytest.raises(jsonschema.ValidationError, match="keep_firing"):
        operator_schemas.validate(rules)


def test_every_dashboard_is_a_config_map_that_the_sidecar_finds_and_that_an_apply_replaces() -> None:
    maps = [item for item in rendered(OVERLAY) if item["metadata"].get("labels", {}).get("grafana_dashboard") == "1"]
    assert {item["kind"] for item in maps} == {"ConfigMap"}
    found = {name: text for item in maps for name, text in item["data"].items()}
    assert found == {path.name: path.read_text() for path in DASHBOARDS.glob("*.json")}
    for item in maps:
        # No hash: the old one would stay beside the new, and Grafana has two boards with one uid.
        ((_, text),) = item["data"].items()
        assert item["metadata"]["name"] == json.loads(text)["uid"]
        assert item["metadata"]["annotations"] == {"grafana_folder": "BaliBlissed"}


def test_every_object_is_small_enough_for_a_client_side_apply() -> None:
    sizes = {f"{item['kind']}/{item['metadata']['name']}": len(json.dumps(item)) for item in rendered(OVERLAY)}
    assert {name: size for name, size in sizes.items() if size >= MAX_ANNOTATIONS} == {}


def test_without_the_operator_nothing_is_left_that_only_it_defines(without_operator: list[Manifest]) -> None:
    production = [item for item in rendered(OVERLAY) if not item["apiVersion"].startswith(operator_schemas.GROUP)]
    assert len(production) == len(rendered(OVERLAY)) - 3
    # The name of the changed ConfigMap carries another hash; so does its name in the collector's Deployment.
    changed = [item for item in without_operator if item not in production]
    assert sorted(item["kind"] for item in changed) == ["ConfigMap", "Deployment"]
    assert len(without_operator) == len(production)


def test_without_the_operator_span_metrics_go_to_the_prometheus_that_scrapes(without_operator: list[Manifest]) -> None:
    (addresses,) = [item["data"] for item in without_operator if "METRICS_ENDPOINT" in item.get("data", {})]
    assert addresses == {
        "TRACES_ENDPOINT": "jaeger.monitoring.svc:4317",
        "METRICS_ENDPOINT": "http://prometheus.monitoring.svc:9090/api/v1/otlp",
    }


def test_the_document_s_values_are_fields_of_the_operator_s_prometheus() -> None:
    (values,) = [block for block in blocks("deploy-kubernetes.md", "yaml") if block.startswith("prometheus:")]
    spec = yaml.safe_load(values)["prometheus"]["prometheusSpec"]
    # The chart's own, which choose between its label and every object.
    fields = {name for name in spec if not name.endswith("NilUsesHelmValues")}
    assert fields == {"enableOTLPReceiver", "enableFeatures"}
    for version in operator_schemas.VERSIONS:
        path = operator_schemas.definitions(version) / f"{operator_schemas.GROUP}_prometheuses.yaml"
        assert all(f"\n              {name}:\n" in path.read_text() for name in fields), version


def test_the_overlay_of_the_document_is_the_one_that_is_tested() -> None:
    (listing,) = [block for block in blocks("deploy-kubernetes.md", "yaml") if "without-operator" in block]
    overlay = yaml.safe_load(listing)
    for path in (*overlay["resources"], *overlay["components"]):
        assert (OVERLAYS / "own" / path).resolve().is_dir()
    assert "kubectl apply --server-side -k" in (ROOT / "docs" / "deploy-kubernetes.md").read_text()
