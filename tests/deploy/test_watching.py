"""The programs of docker-compose.yaml that watch the service: who asks whom, what is kept, and for how long."""

import re

import yaml

from app.settings import ROOT, Settings
from tests.deploy.conftest import OTLP_RECEIVER, SECRETS, Service, compose_config, mounts

Services = dict[str, Service]
# In Jaeger's memory, of a request with eight spans (4.9 KB as OTLP): measured on Jaeger 2.13 with 40,000 of them.
TRACE_BYTES = 15 * 1024


def test_links_of_notifications_lead_to_the_published_ports(services: Services) -> None:
    for name, port in (("prometheus", 9090), ("alertmanager", 9093)):
        assert f"--web.external-url=http://localhost:{port}" in services[name]["command"]


def test_prometheus_keeps_the_error_budgets_window_within_a_size(services: Services) -> None:
    command = services["prometheus"]["command"]
    (time,) = [word.partition("time=")[2] for word in command if word.startswith("--storage.tsdb.retention.time=")]
    assert int(time.removesuffix("d")) >= 32, "the error budget is of 30 days"
    (size,) = [word.partition("size=")[2] for word in command if word.startswith("--storage.tsdb.retention.size=")]
    assert re.fullmatch(r"\d+GB", size)


def test_the_collector_is_the_release_that_the_slim_one_is_built_from(services: Services) -> None:
    manifest = yaml.safe_load((ROOT / "monitoring/otel-collector/builder-config.yaml").read_text())
    version = manifest["dist"]["version"]
    assert services["otel-collector"]["image"] == f"otel/opentelemetry-collector-contrib:{version}"


def test_every_service_has_a_health_check_or_is_scraped(services: Services) -> None:
    jobs = yaml.safe_load((ROOT / "monitoring/prometheus.yml").read_text())["scrape_configs"]
    unasked = {name for name, service in services.items() if service["healthcheck"].get("disable")}
    assert unasked == {"victorialogs"}, "its image holds nothing that could ask"
    assert unasked <= {job["job_name"] for job in jobs}
    for name in services.keys() - unasked:
        assert services[name]["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}, name


def test_no_log_grows_without_a_limit(services: Services) -> None:
    bounded = {name for name, service in services.items() if service["logging"]["driver"] == "json-file"}
    assert bounded == services.keys() - {"backend"}
    for name in bounded:
        options = services[name]["logging"]["options"]
        assert options["max-size"], name
        assert int(options["max-file"]) <= 5, name


def test_the_backends_log_goes_to_victorialogs_and_holds_up_nothing(services: Services) -> None:
    logging, store = services["backend"]["logging"], services["victorialogs"]
    assert logging["driver"] == "syslog"
    (port,) = [port for port in store["ports"] if port["protocol"] == "udp"]
    # The engine sends from the machine. By TCP it would not start the backend while nothing listens.
    assert logging["options"]["syslog-address"] == f"udp://{port['host_ip']}:{port['published']}"
    assert f"-syslog.listenAddr.udp=:{port['target']}" in store["command"]
    assert logging["options"]["syslog-format"] == "rfc5424micro", "a line's time to the microsecond"
    assert "cache-disabled" not in logging["options"], "docker compose logs would be empty"


def test_logs_are_kept_as_long_as_metrics_within_a_size(services: Services) -> None:
    flags = dict(word.split("=", 1) for word in services["victorialogs"]["command"])
    assert f"--storage.tsdb.retention.time={flags['-retentionPeriod']}" in services["prometheus"]["command"]
    assert re.fullmatch(r"\d+GiB", flags["-retention.maxDiskSpaceUsageBytes"])


def test_grafana_queries_the_log_store_by_the_plugin_that_it_installs(services: Services) -> None:
    sources = yaml.safe_load((ROOT / "monitoring/grafana/provisioning/datasources/datasources.yaml").read_text())
    (logs,) = [source for source in sources["datasources"] if source["uid"] == "victorialogs"]
    plugin, _, version = services["grafana"]["environment"]["GF_PLUGINS_PREINSTALL"].partition("@")
    assert logs["type"] == plugin
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    ports = {port["target"] for port in services["victorialogs"]["ports"] if port["protocol"] == "tcp"}
    assert logs["url"] in {f"http://victorialogs:{port}" for port in ports}


def test_grafana_takes_its_password_and_address_and_nobody_signs_up(services: Services) -> None:
    environment = services["grafana"]["environment"]
    assert environment["GF_SECURITY_ADMIN_PASSWORD"] == SECRETS["GRAFANA_ADMIN_PASSWORD"]
    assert environment["GF_USERS_ALLOW_SIGN_UP"] == "false"
    other = compose_config("docker-compose.yaml", GRAFANA_ROOT_URL="https://grafana.example/")["services"]["grafana"]
    assert other["environment"]["GF_SERVER_ROOT_URL"] == "https://grafana.example/"


def test_prometheus_scrapes_the_metrics_port_and_reaches_alertmanager(services: Services) -> None:
    service = services["prometheus"]
    assert mounts(service) == {
        "/etc/prometheus/prometheus.yml": "monitoring/prometheus.yml",
        "/etc/prometheus/rules": "monitoring/rules",
    }
    assert "--config.file=/etc/prometheus/prometheus.yml" in service["command"]
    assert "--enable-feature=exemplar-storage" in service["command"]
    config = yaml.safe_load((ROOT / "monitoring/prometheus.yml").read_text())
    targets = {
        target for job in config["scrape_configs"] for group in job["static_configs"] for target in group["targets"]
    }
    assert f"backend:{Settings().metrics_port}" in targets
    hosts = {target.partition(":")[0] for target in targets} - {"localhost"}
    assert hosts <= services.keys(), "a target that is no service here"
    (peers,) = config["alerting"]["alertmanagers"][0]["static_configs"]
    assert peers["targets"] == ["alertmanager:9093"]


def test_spans_go_to_the_collector_and_from_there_to_jaeger(services: Services) -> None:
    endpoint = services["backend"]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"]
    assert endpoint == "http://otel-collector:4317"
    place, file = next(iter(mounts(services["otel-collector"]).items()))
    assert f"--config={place}" in services["otel-collector"]["command"]
    assert f"--config={place}" in services["otel-collector"]["healthcheck"]["test"]
    config = (ROOT / file).read_text()
    assert ":4317" in config
    assert "jaeger:4317" in config


def test_the_traces_that_jaeger_keeps_fit_into_its_memory(services: Services) -> None:
    jaeger = services["jaeger"]
    (place, file), *_ = mounts(jaeger).items()
    assert jaeger["command"] == [f"--config={place}"]
    config = yaml.safe_load((ROOT / file).read_text())
    name = config["exporters"]["jaeger_storage_exporter"]["trace_storage"]
    kept = config["extensions"]["jaeger_storage"]["backends"][name]["memory"]["max_traces"]
    limit, go = int(jaeger["mem_limit"]), int(jaeger["environment"]["GOMEMLIMIT"].removesuffix("MiB")) * 2**20
    assert kept * 2 * TRACE_BYTES <= go < 0.8 * limit
    assert config["extensions"]["jaeger_query"]["storage"]["traces"] == name


def test_jaeger_listens_where_the_collector_grafana_and_its_health_check_ask(services: Services) -> None:
    config = yaml.safe_load((ROOT / "monitoring/jaeger/config.yaml").read_text())
    assert config["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"] == "0.0.0.0:4317"
    sources = yaml.safe_load((ROOT / "monitoring/grafana/provisioning/datasources/datasources.yaml").read_text())
    (source,) = [source for source in sources["datasources"] if source["type"] == "jaeger"]
    assert (
        source["url"] == f"http://jaeger:{config['extensions']['jaeger_query']['http']['endpoint'].partition(':')[2]}"
    )
    health = config["extensions"]["healthcheckv2"]["http"]["endpoint"].replace("0.0.0.0", "127.0.0.1")  # noqa: S104
    assert services["jaeger"]["healthcheck"]["test"][-1] == f"http://{health}/status"


def test_span_metrics_go_to_prometheus_which_takes_them(services: Services) -> None:
    config = yaml.safe_load((ROOT / "monitoring/otel-collector/config.yaml").read_text())
    assert config["exporters"]["otlp_http"]["endpoint"] == "http://prometheus:9090/api/v1/otlp"
    assert OTLP_RECEIVER in services["prometheus"]["command"]


def test_grafana_finds_its_provisioning_and_the_dashboards(services: Services) -> None:
    assert mounts(services["grafana"]) == {
        "/etc/grafana/provisioning": "monitoring/grafana/provisioning",
        "/etc/grafana/dashboards": "monitoring/grafana/dashboards",
    }
