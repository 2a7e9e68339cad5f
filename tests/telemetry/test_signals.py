"""Signals by source: spans, log lines and metrics of one request, all correlated with the same trace."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from app.settings import ROOT, Settings
from tests.process.service import wait_for
from tests.telemetry import otlp
from tests.telemetry.log_store import LogStore, log_store
from tests.telemetry.traffic import CHAT, SERVER_ERROR, SLOW_ID, WORKERS, Observed

# Attribute names, in the new and the old semantic conventions.
METHOD = "http.request.method|http.method"
STATUS = "http.response.status_code|http.status_code"
PATH = "url.path|http.target"
SYSTEM = "db.system.name|db.system"
STATEMENT = "db.query.text|db.statement"
ANY = object()


class Row(NamedTuple):
    """The expected `columns` of `source` in one signal. One record that `look` returns must have them all."""

    signal: str
    source: str
    look: Callable[[Observed], list[Mapping[str, Any]]]
    columns: dict[str, Any]


def request_span(seen: Observed) -> otlp.Span:
    """Return the server span of the slow request."""
    (found,) = [span for span in seen.trace(seen.slow) if span.kind == otlp.SERVER]
    return found


def _spans(seen: Observed) -> list[Mapping[str, Any]]:
    trace = seen.trace(seen.slow)
    return [
        {
            **span.resource,
            **span.attributes,
            "kind": span.kind,
            "name": span.name,
            "trace_id": span.trace_id,
            "root": _ancestor(span, trace).name,
            "parent": bool(span.parent_id),
        }
        for span in trace
    ]


def _ancestor(span: otlp.Span, trace: list[otlp.Span]) -> otlp.Span:
    """Return the topmost ancestor of `span` in the trace."""
    above = {other.span_id: other for other in trace}
    while span.parent_id in above:
        span = above[span.parent_id]
    return span


def _access_log(seen: Observed) -> list[Mapping[str, Any]]:
    line = seen.line(SLOW_ID)
    return [{**line, "span of the request": line["span_id"] == request_span(seen).span_id}]


def _exemplars(seen: Observed) -> list[Mapping[str, Any]]:
    return [
        {**sample.labels, **sample.exemplar.labels, "metric": sample.name}
        for family in text_string_to_metric_families(seen.exposition)  # type: ignore[no-untyped-call]
        for sample in family.samples
        if sample.exemplar
    ]


REQUEST = f"POST {CHAT}"
SERVICE = {
    "service.name": "baliblissed-backend",
    "service.namespace": "baliblissed",
    "service.version": ANY,
    "service.instance.id": ANY,
    "deployment.environment.name": "production",
    "host.name": ANY,
    "telemetry.sdk.language": "python",
}
BELOW = {**SERVICE, "kind": otlp.CLIENT, "parent": True, "root": REQUEST}
MODEL = str(Settings.model_fields["ai_model"].default)
ROWS = [
    Row(
        "span",
        "request",
        _spans,
        {
            **SERVICE,
            "kind": otlp.SERVER,
            "name": REQUEST,
            "parent": False,
            "http.route": CHAT,
            METHOD: "POST",
            STATUS: 200,
            PATH: CHAT,
        },
    ),
    Row("span", "SQL", _spans, {**BELOW, "name": "SELECT", SYSTEM: "postgresql", STATEMENT: ANY, "db.namespace": ANY}),
    Row("span", "Redis", _spans, {**BELOW, "name": "EVALSHA", SYSTEM: "redis", STATEMENT: "EVALSHA ? ? ? ? ? ? ?"}),
    Row("span", "AI call", _spans, {**BELOW, METHOD: "POST", STATUS: 200, "url.full|http.url": ANY}),
    Row(
        "span",
        "AI model",
        _spans,
        {**SERVICE, "gen_ai.request.model": MODEL, "gen_ai.usage.input_tokens": 11, "gen_ai.usage.output_tokens": 7},
    ),
    Row("log", "request", _access_log, {"route": CHAT, "status": 200, "span of the request": True}),
    Row(
        "exemplar",
        "request",
        _exemplars,
        {"metric": "http_request_duration_seconds_bucket", "handler": CHAT},
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.signal} of {row.source}")
def test_each_signal_of_each_source_leads_to_the_one_trace(observed: Observed, row: Row) -> None:
    columns = {"trace_id": observed.slow, **row.columns}
    found = row.look(observed)
    assert any(all(_holds(item, names, value) for names, value in columns.items()) for item in found), found


def _holds(found: Mapping[str, Any], names: str, wanted: Any) -> bool:
    """Return True if one of the alternative `names` (separated by |) has the `wanted` value."""
    values = [found[name] for name in names.split("|") if name in found]
    return any(wanted is ANY or value == wanted for value in values)


def test_no_span_of_the_trace_is_without_its_parent(observed: Observed) -> None:
    trace = observed.trace(observed.slow)
    assert {_ancestor(span, trace).span_id for span in trace} == {request_span(observed).span_id}


def test_each_worker_is_an_instance_of_its_own_and_the_log_names_it(observed: Observed) -> None:
    failed = [line for line in observed.logs if line.get("route") == CHAT and line["status"] >= SERVER_ERROR]
    instances: dict[int, set[str]] = {}
    for line in failed:
        (request,) = [span for span in observed.trace(line["trace_id"]) if span.kind == otlp.SERVER]
        assert request.resource["process.pid"] == line["worker"]
        instances.setdefault(line["worker"], set()).add(request.resource["service.instance.id"])
    assert len(instances) == WORKERS
    assert sorted(map(len, instances.values())) == [1] * WORKERS, "a worker with several ids"
    assert len(set.union(*instances.values())) == WORKERS, "an id with several workers"


def test_the_service_ended_well_and_lost_no_span_of_a_request(observed: Observed) -> None:
    assert observed.exit_status == 0
    logged = {line["trace_id"] for line in observed.logs if line["logger"] == "access" and line["route"] == CHAT}
    arrived = {span.trace_id for span in observed.received if span.kind == otlp.SERVER}
    assert logged <= arrived


def test_probes_and_scrapes_leave_no_span_behind(observed: Observed) -> None:
    routes = {span.attributes.get("http.route") for span in observed.received if span.kind == otlp.SERVER}
    assert CHAT in routes
    assert not [route for route in routes if route and route.startswith(("/health", "/metrics"))]


@pytest.fixture(scope="module")
def stored(observed: Observed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LogStore]:
    """Yield a log store that the engine's driver has sent every line of the service's log."""
    with log_store(tmp_path_factory.mktemp("logs")) as store:
        store.send([json.dumps(line, separators=(",", ":")) for line in observed.logs])
        wait_for(lambda: store.query("* | stats count() lines") == [{"lines": str(len(observed.logs))}], "every line")
        yield store


def test_the_log_store_finds_the_lines_of_a_trace(observed: Observed, stored: LogStore) -> None:
    sources = yaml.safe_load(
        (ROOT / "monitoring/grafana/provisioning/datasources/datasources.yaml").read_text().replace("$$", "$")
    )["datasources"]
    (jaeger,) = [source for source in sources if source["type"] == "jaeger"]
    query = jaeger["jsonData"]["tracesToLogsV2"]["query"].replace("${__trace.traceId}", observed.slow)
    found = stored.query(query)
    wanted = [line for line in observed.logs if line.get("trace_id") == observed.slow]
    assert len(found) == len(wanted) > 0
    (access,) = [entry for entry in found if entry["logger"] == "access"]
    assert {name: access[name] for name in ("trace_id", "route", "status", "level", "app_name")} == {
        "trace_id": observed.slow,
        "route": CHAT,
        "status": "200",
        "level": "info",
        "app_name": "backend",
    }
    (logs,) = [source for source in sources if source["uid"] == jaeger["jsonData"]["tracesToLogsV2"]["datasourceUid"]]
    (field,) = logs["jsonData"]["derivedFields"]
    (linked,) = re.findall(field["matcherRegex"], access["_msg"])
    assert (linked, field["datasourceUid"]) == (observed.slow, jaeger["uid"])


def test_the_log_store_answers_by_the_fields_of_a_line(observed: Observed, stored: LogStore) -> None:
    failed = [line for line in observed.logs if line["logger"] == "access" and line["status"] >= SERVER_ERROR]
    query = f"_time:1h app_name:backend | unpack_json | logger:access status:>={SERVER_ERROR} | stats count() failed"
    assert stored.query(query) == [{"failed": str(len(failed))}]
    assert len(failed) > 0
