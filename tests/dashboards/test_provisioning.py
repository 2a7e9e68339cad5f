"""Grafana finds its datasources and dashboards, and nobody changes them there."""

from typing import Any

import yaml

from tests.dashboards.boards import BOARDS, GRAFANA, variables

# Keys that Grafana reads, by its documentation. It ignores unknown keys without a message.
DATASOURCE_KEYS = {
    *("name", "type", "uid", "orgId", "access", "url", "user", "database", "basicAuth", "basicAuthUser"),
    *("withCredentials", "isDefault", "correlations", "jsonData", "secureJsonData", "version", "editable"),
}
PROVIDER_KEYS = {
    *("name", "orgId", "folder", "folderUid", "type", "disableDeletion", "editable", "updateIntervalSeconds"),
    *("allowUiUpdates", "options"),
}


def provisioned(path: str) -> dict[str, Any]:
    """Return one provisioning file."""
    loaded: dict[str, Any] = yaml.safe_load((GRAFANA / "provisioning" / path).read_text())
    return loaded


def test_the_datasources_have_the_uids_that_dashboards_and_exemplars_refer_to() -> None:
    sources = {source["uid"]: source for source in provisioned("datasources/datasources.yaml")["datasources"]}
    addresses = {uid: (source["type"], source["url"]) for uid, source in sources.items()}
    assert addresses == {
        "prometheus": ("prometheus", "http://prometheus:9090"),
        "jaeger": ("jaeger", "http://jaeger:16686"),
        "alertmanager": ("alertmanager", "http://alertmanager:9093"),
        "victorialogs": ("victoriametrics-logs-datasource", "http://victorialogs:9428"),
    }
    assert [uid for uid, source in sources.items() if source.get("isDefault")] == ["prometheus"]
    assert not any(source["editable"] for source in sources.values())
    options = sources["prometheus"]["jsonData"]
    assert options["timeInterval"] == "15s"
    [exemplars] = options["exemplarTraceIdDestinations"]
    assert exemplars["name"] == "trace_id"
    assert exemplars["datasourceUid"] in sources
    assert sources["alertmanager"]["jsonData"]["implementation"] == "prometheus"
    for name, board in BOARDS.items():
        chosen = next(variable for variable in variables(board) if variable["name"] == "datasource")
        assert chosen["current"]["value"] in sources, name


def test_the_dashboards_come_from_files_only() -> None:
    [provider] = provisioned("dashboards/dashboards.yaml")["providers"]
    assert provider["name"] == "BaliBlissed Dashboards"
    assert provider["folder"] == "BaliBlissed"
    assert provider["type"] == "file"
    assert provider["allowUiUpdates"] is False
    assert provider["disableDeletion"] is True
    assert provider["options"]["path"] == "/etc/grafana/dashboards"


def test_every_key_is_one_that_grafana_reads() -> None:
    sources, dashboards = provisioned("datasources/datasources.yaml"), provisioned("dashboards/dashboards.yaml")
    assert sources.keys() == {"apiVersion", "datasources"}
    assert dashboards.keys() == {"apiVersion", "providers"}
    assert sources["apiVersion"] == dashboards["apiVersion"] == 1
    assert set().union(*sources["datasources"]) <= DATASOURCE_KEYS
    [provider] = dashboards["providers"]
    assert provider.keys() <= PROVIDER_KEYS
    assert provider["options"].keys() <= {"path", "foldersFromFilesStructure"}
