"""The manifests are valid, and say what the code says. What a cluster makes of them is in test_cluster.py."""

import base64
import re
from decimal import Decimal
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from app import __version__
from app.api import health
from app.monitoring import tracing
from app.monitoring.health import GRACE_SECONDS
from app.monitoring.options import Options
from app.monitoring.stop_budget import StopBudget
from app.settings import ROOT, SECRET_VARIABLES, Settings
from tests.deploy.conftest import gunicorn
from tests.k8s.rendering import (
    BYTES_A_HISTOGRAM_SERIES,
    NAME,
    backend,
    bytes_of,
    deployments,
    one,
    pod_spec,
    rendered,
    seconds_until_failure,
    validate,
)

# PostgreSQL's default, less the connections reserved for superusers.
POSTGRES_CONNECTIONS = 100 - 3
# Each process of the service maps about 70 MiB after some traffic, 25 of them its own; there is room to grow.
BYTES_A_PROCESS = 60 * 2**20

pytestmark = pytest.mark.parametrize("overlay", ["development", "production"])


def variables(overlay: str) -> dict[str, str]:
    """Return the environment of the pod, except the values of production's own Secret."""
    literals: dict[str, str] = dict(one(overlay, "ConfigMap")["data"])
    if overlay == "production":
        secrets = {
            "DATABASE_URL": "postgresql://somewhere/db",
            "REDIS_URL": "redis://somewhere",
            "ADMIN_API_KEY": "k" * 16,
        }
    else:
        data: dict[str, str] = one(overlay, "Secret")["data"]
        secrets = {name: base64.b64decode(value).decode() for name, value in data.items()}
    return {**literals, **secrets}


def settings(overlay: str) -> Settings:
    values: dict[str, Any] = {name.lower(): value for name, value in variables(overlay).items()}
    return Settings(**values)


def test_every_object_is_valid_by_the_schemas_of_the_oldest_and_the_newest_kubernetes(overlay: str) -> None:
    for manifest in rendered(overlay):
        validate(manifest)


def test_every_object_lies_in_the_namespace_that_enforces_the_restricted_standard(overlay: str) -> None:
    namespace = one(overlay, "Namespace", f"baliblissed-{overlay}")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    others = [item for item in rendered(overlay) if item["kind"] != "Namespace"]
    assert {item["metadata"].get("namespace") for item in others} == {f"baliblissed-{overlay}"}


def test_every_pod_keeps_the_restricted_standard_and_more(overlay: str) -> None:
    for deployment in deployments(overlay):
        spec = deployment["spec"]["template"]["spec"]
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False, "variables such as REDIS_PORT would stand beside the settings"
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        assert all("hostPath" not in volume for volume in spec["volumes"])
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert "hostPort" not in str(container["ports"])


def test_the_backend_runs_as_the_image_s_user_and_without_a_token(overlay: str) -> None:
    security = pod_spec(overlay)["securityContext"]
    assert security["runAsUser"] == security["runAsGroup"] == security["fsGroup"] == 10001
    assert one(overlay, "ServiceAccount")["automountServiceAccountToken"] is False
    assert pod_spec(overlay)["serviceAccountName"] == NAME


def test_every_image_has_a_version_and_the_backend_s_is_the_code_s(overlay: str) -> None:
    for deployment in deployments(overlay):
        for container in deployment["spec"]["template"]["spec"]["containers"]:
            _, colon, tag = container["image"].rpartition(":")
            assert colon, container["image"]
            assert tag != "latest"
    assert backend(overlay)["image"] == f"baliblissed/backend:{__version__}"


def test_the_stores_and_the_collector_are_those_of_the_compose_file(overlay: str) -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]
    others = {item["metadata"]["name"]: item for item in deployments(overlay) if item["metadata"]["name"] != NAME}
    assert others.keys() == ({"postgres", "redis"} if overlay == "development" else {"otel-collector"})
    for name, deployment in others.items():
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert container["image"] == services[name]["image"]


def test_every_variable_is_a_setting_and_all_of_them_together_are_accepted(overlay: str) -> None:
    known = {name.upper() for name in Settings.model_fields}
    assert variables(overlay).keys() <= known
    assert settings(overlay).environment == overlay


def test_secrets_are_in_the_secret_and_nowhere_else(overlay: str) -> None:
    assert not SECRET_VARIABLES & one(overlay, "ConfigMap")["data"].keys()
    sources = backend(overlay)["envFrom"]
    assert sources[0]["configMapRef"]["name"] == one(overlay, "ConfigMap")["metadata"]["name"]
    if overlay == "production":
        assert sources[1]["secretRef"] == {"name": NAME}
        assert not [item for item in rendered(overlay) if item["kind"] == "Secret"]
    else:
        assert sources[1]["secretRef"]["name"] == one(overlay, "Secret")["metadata"]["name"]


def test_ports_are_the_settings_and_the_services_lead_to_them_by_name(overlay: str) -> None:
    ports = {port["name"]: port["containerPort"] for port in backend(overlay)["ports"]}
    assert ports == {"http": settings(overlay).port, "metrics": settings(overlay).metrics_port}
    defaults = Settings.model_fields
    assert ports == {"http": defaults["port"].default, "metrics": defaults["metrics_port"].default}
    labels = one(overlay, "Deployment")["spec"]["template"]["metadata"]["labels"]
    for service, name in ((NAME, "http"), (f"{NAME}-metrics", "metrics")):
        spec = one(overlay, "Service", service)["spec"]
        assert [(port["name"], port["port"], port["targetPort"]) for port in spec["ports"]] == [
            (name, ports[name], name)
        ]
        assert spec["selector"].items() <= labels.items()
    metrics = one(overlay, "Service", f"{NAME}-metrics")["spec"]
    assert metrics["clusterIP"] == "None"
    assert metrics["publishNotReadyAddresses"] is True, "a pod that is not ready is the one to look at"


def test_a_changed_value_of_the_configuration_changes_its_name_and_so_rolls_out(overlay: str) -> None:
    assert one(overlay, "ConfigMap")["metadata"]["name"] != NAME


def test_gunicorn_takes_its_port_workers_and_times_from_the_pod_s_variables(overlay: str, tmp_path: Path) -> None:
    shown = gunicorn(variables(overlay) | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)})
    (port,) = [port["containerPort"] for port in backend(overlay)["ports"] if port["name"] == "http"]
    assert shown["bind"] == f"['0.0.0.0:{port}']"
    assert int(shown["workers"]) == settings(overlay).web_concurrency
    sleep = backend(overlay)["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod_spec(overlay)["terminationGracePeriodSeconds"] > sleep + int(shown["graceful_timeout"])
    assert seconds_until_failure(backend(overlay)["livenessProbe"]) > int(shown["timeout"])


def test_both_ports_listen_beyond_the_container_and_metrics_on_the_api_s_port_are_closed(overlay: str) -> None:
    assert settings(overlay).host == settings(overlay).metrics_host == "0.0.0.0"  # noqa: S104 -- a pod's own network
    assert [str(network) for network in settings(overlay).allowed_metrics_ips] == ["127.0.0.1/32"]


def test_probes_ask_the_routes_that_exist_and_liveness_differs_from_readiness(overlay: str) -> None:
    container = backend(overlay)
    asked = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {name: get["path"] for name, get in asked.items()} == {
        "startup": "/health/live",
        "liveness": "/health/live",
        "readiness": "/health/ready",
    }
    assert {get["port"] for get in asked.values()} == {"http"}
    routes = {str(getattr(route, "path", "")) for route in health.router.routes}
    assert {get["path"] for get in asked.values()} <= routes


def test_readiness_waits_longer_than_the_checks_take(overlay: str) -> None:
    timeouts = (health.DATABASE_TIMEOUT, health.REDIS_TIMEOUT, health.AI_TIMEOUT, health.LOCAL_TIMEOUT)
    probe = backend(overlay)["readinessProbe"]
    assert probe["timeoutSeconds"] >= max(timeouts) + GRACE_SECONDS + 1
    assert probe["timeoutSeconds"] <= probe["periodSeconds"]


def test_the_document_says_when_each_probe_gives_up(overlay: str) -> None:
    document = (ROOT / "docs" / "deploy-kubernetes.md").read_text()
    for name in ("startup", "liveness", "readiness"):
        probe = backend(overlay)[f"{name}Probe"]
        row = f"| {name} | `{probe['httpGet']['path']}` | {seconds_until_failure(probe)} s |"
        assert row in document, row


def test_a_hung_worker_is_replaced_before_liveness_ends_its_siblings(overlay: str) -> None:
    assert seconds_until_failure(backend(overlay)["livenessProbe"]) > settings(overlay).worker_timeout


def test_a_slow_start_is_over_before_the_rollout_is_given_up(overlay: str) -> None:
    deadline = one(overlay, "Deployment")["spec"]["progressDeadlineSeconds"]
    assert deadline > seconds_until_failure(backend(overlay)["startupProbe"]) * 2


def test_the_grace_period_covers_the_sleep_and_the_stop(overlay: str) -> None:
    sleep = backend(overlay)["lifecycle"]["preStop"]["sleep"]["seconds"]
    graceful = settings(overlay).graceful_timeout
    grace = pod_spec(overlay)["terminationGracePeriodSeconds"]
    options = Options.read({}, variables(overlay))
    assert options.kill_timeout == grace - sleep
    assert grace - sleep > graceful == options.graceful_timeout
    # The flush is a part of GRACEFUL_TIMEOUT, after the requests in flight.
    budget = StopBudget(graceful)
    assert budget.workers - budget.drain > budget.spans == tracing.SHUTDOWN_DEADLINE
    # A pod that leaves is out of the balancers before it stops: they hear of it when readiness would have told them.
    assert sleep >= backend(overlay)["readinessProbe"]["periodSeconds"]
    document = (ROOT / "docs" / "deploy-kubernetes.md").read_text()
    assert f"{sleep} + {graceful} + {grace - sleep - graceful} = {grace}" in document
    for part in (budget.drain, budget.max_stop_delay, budget.spans, budget.killed):
        assert f"| {part:.4g} s |" in document, part
    assert f"until {budget.workers:g} s |" in document
    latest = budget.exporter(budget.workers + budget.killed)
    assert f"| {latest:g} to {budget.exporter(budget.workers):g} s |" in document


def test_a_rollout_never_has_fewer_pods_and_the_autoscaler_alone_counts_them(overlay: str) -> None:
    deployment = one(overlay, "Deployment")
    assert "replicas" not in deployment["spec"]
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    scaler = one(overlay, "HorizontalPodAutoscaler")["spec"]
    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME}
    (metric,) = scaler["metrics"]
    resource = metric["containerResource"]
    assert resource["name"] == "cpu"
    assert resource["container"] == backend(overlay)["name"]
    assert "cpu" in backend(overlay)["resources"]["requests"], "utilisation is a share of the request"
    assert scaler["behavior"]["scaleDown"]["stabilizationWindowSeconds"] >= 60, "a lull ends no pod"


def test_production_keeps_serving_while_one_pod_is_evicted(overlay: str) -> None:
    fewest = one(overlay, "HorizontalPodAutoscaler")["spec"]["minReplicas"]
    evicted = one(overlay, "PodDisruptionBudget")["spec"]["maxUnavailable"]
    assert fewest > evicted or overlay == "development"


def test_all_pods_that_may_run_at_once_fit_the_connections_of_postgresql(overlay: str) -> None:
    most_pods = one(overlay, "HorizontalPodAutoscaler")["spec"]["maxReplicas"] + 1
    a_pod = settings(overlay).web_concurrency * settings(overlay).database_pool_size
    assert most_pods * a_pod <= POSTGRES_CONNECTIONS


def test_one_pod_at_a_time_may_be_evicted_and_an_unready_one_always(overlay: str) -> None:
    budget = one(overlay, "PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert budget["selector"] == one(overlay, "Deployment")["spec"]["selector"]


def test_pods_spread_over_nodes_and_zones(overlay: str) -> None:
    constraints = pod_spec(overlay)["topologySpreadConstraints"]
    assert [constraint["topologyKey"] for constraint in constraints] == [
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    ]
    selector = one(overlay, "Deployment")["spec"]["selector"]
    assert all(constraint["labelSelector"] == selector for constraint in constraints)
    # The old revision's pods do not count in a rollout, and a cluster with one zone runs all of them.
    assert all(constraint["matchLabelKeys"] == ["pod-template-hash"] for constraint in constraints)
    assert all(constraint["whenUnsatisfiable"] == "ScheduleAnyway" for constraint in constraints)


def test_what_is_written_at_run_time_is_in_memory_and_bounded(overlay: str) -> None:
    mounts = {mount["name"]: mount["mountPath"] for mount in backend(overlay)["volumeMounts"]}
    assert set(mounts.values()) == {str(settings(overlay).metrics_directory), "/dev/shm", "/tmp"}  # noqa: S108 -- mounts
    volumes = {volume["name"]: volume["emptyDir"] for volume in pod_spec(overlay)["volumes"]}
    assert volumes.keys() == mounts.keys()
    assert all(volume["medium"] == "Memory" for volume in volumes.values())
    resources = backend(overlay)["resources"]
    left = bytes_of(resources["limits"]["memory"]) - sum(bytes_of(volume["sizeLimit"]) for volume in volumes.values())
    processes = settings(overlay).web_concurrency + 2  # the master and the exporter
    assert left >= processes * BYTES_A_PROCESS
    assert resources["requests"]["memory"] == resources["limits"]["memory"]
    assert Decimal(re.sub("m$", "e-3", resources["requests"]["cpu"])) > 0


def test_the_metrics_volume_is_not_filled_before_the_series_limit_holds(overlay: str) -> None:
    (volume,) = [volume["emptyDir"] for volume in pod_spec(overlay)["volumes"] if volume["name"] == "metrics"]
    full_histogram = settings(overlay).max_series_per_metric * BYTES_A_HISTOGRAM_SERIES
    assert 2 * full_histogram * settings(overlay).web_concurrency <= bytes_of(volume["sizeLimit"])


def test_the_metrics_port_is_open_to_prometheus_in_its_namespace_and_to_nobody_else(overlay: str) -> None:
    policy = one(overlay, "NetworkPolicy")["spec"]
    assert policy["podSelector"] == one(overlay, "Deployment")["spec"]["selector"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    by_port = {rule["ports"][0]["port"]: rule for rule in policy["ingress"]}
    assert len(by_port) == len(policy["ingress"]) == 2
    assert all(len(rule["ports"]) == 1 for rule in policy["ingress"])
    assert "from" not in by_port["http"]
    assert by_port["metrics"]["from"] == [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}},
            "podSelector": {"matchLabels": {"app.kubernetes.io/name": "prometheus"}},
        }
    ], "two items would mean: everything in that namespace, and such pods in ours"


def test_the_backend_reaches_dns_its_stores_and_in_production_the_collector_and_its_upstream(overlay: str) -> None:
    policies = [
        item["spec"]
        for item in rendered(overlay)
        if item["kind"] == "NetworkPolicy" and item["metadata"]["labels"]["app.kubernetes.io/name"] == NAME
    ]
    ports = {
        (port["port"], port["protocol"])
        for policy in policies
        for rule in policy.get("egress", [])
        for port in rule["ports"]
    }
    needed = {(53, "UDP"), (53, "TCP"), (5432, "TCP"), (6379, "TCP")}
    assert ports == (needed | {(443, "TCP"), (4317, "TCP")} if overlay == "production" else needed)


def test_the_way_to_the_ai_upstream_leads_to_public_addresses_only(overlay: str) -> None:
    policies = [item for item in rendered(overlay) if item["metadata"]["name"] == f"{NAME}-ai-upstream"]
    assert len(policies) == (1 if overlay == "production" else 0)
    for policy in policies:
        assert policy["spec"]["podSelector"] == one(overlay, "Deployment")["spec"]["selector"]
        ((peer,),) = (rule["to"] for rule in policy["spec"]["egress"])
        closed = [ip_network(network) for network in peer["ipBlock"]["except"]]
        # A node, a pod, a carrier's network, and a cloud's metadata service with the keys of the node.
        for address in ("10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254"):
            assert any(ip_address(address) in network for network in closed), address


def test_only_proxies_in_private_networks_are_believed(overlay: str) -> None:
    for network in settings(overlay).forwarded_allow_ips.split(","):
        assert ip_network(network).is_private, network


def test_the_document_names_what_the_secret_must_hold(overlay: str) -> None:
    document = (ROOT / "docs" / "deploy-kubernetes.md").read_text()
    assert f"baliblissed-{overlay}" in document
    for name in SECRET_VARIABLES:
        assert f"`{name}`" in document
