"""Every OTEL_* variable that others set is honoured, or refused in one line that names it, or named by the doctor."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.testing import capture_logs

from app.monitoring import tracing
from app.monitoring.doctor import Situation
from app.monitoring.doctor.surroundings import variables_without_effect
from app.monitoring.options import Options, OptionsError
from app.monitoring.traces import environment, exporter, transport
from app.monitoring.traces.environment import TracingConfigurationError
from app.monitoring.traces.lazy_tracer import LazyTracer
from app.monitoring.traces.limits import Limits
from app.monitoring.traces.span_redaction import RedactingExporter
from tests.middleware.wire import Wire
from tests.monitoring.test_tracing import COMMON
from tests.process.service import ROOT

SECRET = "s3cr3t-Zq9"
PREFIXES = ("OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_")


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)


def refusal(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    """Return the one line that refuses the variables; empty if they are accepted."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    try:
        environment.check_environment()
    except TracingConfigurationError as error:
        line = str(error)
    else:
        line = ""
    assert "\n" not in line
    return line


COUNTS = [f"OTEL_{part}_LIMIT" for part in ("ATTRIBUTE_COUNT", "SPAN_ATTRIBUTE_COUNT", "EVENT_ATTRIBUTE_COUNT")] + [
    f"OTEL_{part}_LIMIT" for part in ("LINK_ATTRIBUTE_COUNT", "SPAN_EVENT_COUNT", "SPAN_LINK_COUNT")
]
LENGTHS = ["OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT"]
REFUSED = [
    *(
        (name, value, "want a limit: a whole number from 0")
        for name in COUNTS + LENGTHS
        for value in ("many", "-1", "1.5")
    ),
    ("OTEL_BSP_SCHEDULE_DELAY", "0", "want milliseconds: a whole number from 1"),
    ("OTEL_BSP_EXPORT_TIMEOUT", "soon", "want milliseconds: a whole number from 1"),
    ("OTEL_TRACES_SAMPLER", "parentbased_jaeger_remote", "want one of always_on, always_off"),
    ("OTEL_TRACES_SAMPLER", "xray", "want one of always_on, always_off"),
    ("OTEL_PROPAGATORS", "b3multi", "'b3multi' is not installed; want none or any of baggage, "),
    ("OTEL_PROPAGATORS", "tracecontext,jaeger", "'jaeger' is not installed"),
    ("OTEL_PROPAGATORS", "xray\nbaggage", "'xray\\nbaggage' is not installed"),
    ("OTEL_PYTHON_CONTEXT", "threads", "'threads' is not installed; want any of contextvars_context"),
    ("OTEL_PYTHON_TRACER_PROVIDER", "sdk_tracer_provider", "want it unset"),
    ("OTEL_PYTHON_METER_PROVIDER", "mine", "'mine' is not installed; want any of default_meter_provider"),
    ("OTEL_RESOURCE_ATTRIBUTES", "team=shore,broken", "'broken': want key=value pairs, percent-encoded"),
    ("OTEL_RESOURCE_ATTRIBUTES", "team=100%", "'team=100%': want key=value pairs, percent-encoded"),
    ("OTEL_RESOURCE_ATTRIBUTES", "=shore", "'=shore': want key=value pairs, percent-encoded"),
    ("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "process,moon", "'moon' is not installed; want any of "),
    ("OTEL_PYTHON_EXCLUDED_URLS", "health,(", "'(': missing ), unterminated"),
    ("OTEL_PYTHON_HTTPX_EXCLUDED_URLS", "health,", "an empty expression matches everything"),
    ("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_REQUEST", "x-[", "'x-[': unterminated character set"),
    ("OTEL_PYTHON_EXPORTER_OTLP_GRPC_CREDENTIAL_PROVIDER", "cloud", "'cloud' is not installed"),
    ("OTEL_PYTHON_EXPORTER_OTLP_GRPC_TRACES_CREDENTIAL_PROVIDER", "cloud", "'cloud' is not installed"),
    ("OTEL_PYTHON_EXPORTER_OTLP_GRPC_RETRYABLE_ERROR_CODES", "UNAVAILABLE,LATE", "want names of gRPC's status codes"),
    *((f"{prefix}COMPRESSION", "deflate", "want one of none, gzip with grpc") for prefix in PREFIXES),
    *((f"{prefix}TIMEOUT", "nan", "want seconds, more than 0") for prefix in PREFIXES),
    *((f"{prefix}PROTOCOL", "http/protobuf", "install opentelemetry-exporter-otlp-proto-http") for prefix in PREFIXES),
    *((f"{prefix}INSECURE", "1", "want true or false") for prefix in PREFIXES),
    *(
        (f"{prefix}{part}", path, "want the path of a readable PEM file")
        for prefix in PREFIXES
        for part, path in (("CERTIFICATE", __file__), ("CLIENT_KEY", "/missing"), ("CLIENT_CERTIFICATE", "/"))
    ),
    ("OTEL_EXPORTER_OTLP_CLIENT_KEY", __file__, "want OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE too"),
]


@pytest.mark.parametrize(("name", "value", "wanted"), REFUSED)
def test_what_cannot_be_honoured_is_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, wanted: str
) -> None:
    assert refusal(monkeypatch, **{name: value}).startswith(f"{name}={value!r}: {wanted}")


def test_a_client_certificate_needs_a_key_without_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    line = refusal(
        monkeypatch,
        OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE=__file__,
        OTEL_EXPORTER_OTLP_CLIENT_KEY=__file__,
    )
    assert line.startswith(f"OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE={__file__!r}: want the path")
    assert line.endswith("its key without a password in OTEL_EXPORTER_OTLP_CLIENT_KEY")


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(
    ("part", "value", "wanted"),
    [
        ("HEADERS", f"a=1,{SECRET}", "pair 2: want name=value pairs, percent-encoded"),
        ("HEADERS", f"my key={SECRET}", "pair 1: want name=value pairs"),
        ("HEADERS", f"authorization={SECRET}%0A", "pair 1: want name=value pairs"),
        ("HEADERS", f'authorization="{SECRET}"', "pair 1: want name=value pairs"),
        ("HEADERS", f"key-bin={SECRET}", "pair 1: want name=value pairs"),
        ("ENDPOINT", f"ftp://me:{SECRET}@collector", "want the collector's address such as http://host:4317"),
        ("ENDPOINT", f"http://collector:{SECRET}", "want the collector's address such as http://host:4317"),
        ("ENDPOINT", f"http://me:{SECRET}@collector:4317", "want an address without user and password"),
    ],
)
def test_a_refusal_does_not_repeat_secrets(
    monkeypatch: pytest.MonkeyPatch, prefix: str, part: str, value: str, wanted: str
) -> None:
    line = refusal(monkeypatch, **{f"{prefix}{part}": value})
    assert line.startswith(f"{prefix}{part}: {wanted}")
    assert SECRET not in line


@pytest.mark.parametrize(
    "variables",
    [
        {"OTEL_ATTRIBUTE_COUNT_LIMIT": "unset", "OTEL_SPAN_EVENT_COUNT_LIMIT": "0"},
        {"OTEL_RESOURCE_ATTRIBUTES": "a=b%20c,,k8s.pod.uid = 1,empty="},
        {"OTEL_PROPAGATORS": "baggage,none,b3"},
        {"OTEL_EXPORTER_OTLP_COMPRESSION": "GZIP", "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "none"},
        {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20x,api-key = y, "},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "unix:/run/collector.sock"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "[::1]:4317", "OTEL_EXPORTER_OTLP_INSECURE": "TRUE"},
        {"OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_BSP_EXPORT_TIMEOUT": "30000"},
        {"OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "process, *,otel"},
        {"OTEL_PYTHON_CONTEXT": "contextvars_context", "OTEL_PYTHON_METER_PROVIDER": "default_meter_provider"},
        {"OTEL_PYTHON_EXPORTER_OTLP_GRPC_RETRYABLE_ERROR_CODES": "unavailable, ABORTED"},
        {name: "" for name, _, _ in REFUSED},
    ],
)
def test_what_opentelemetry_allows_is_accepted(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    assert refusal(monkeypatch, **variables) == ""


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(sorted({name for name, _, _ in REFUSED})), value=st.text("aé=,%/:(\n-1 \\\"'", max_size=8))
def test_no_value_gives_anything_but_one_line(name: str, value: str) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        line = refusal(monkeypatch, **{name: value})
        assert line == "" or line.startswith(name)


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_http_takes_deflate_and_needs_a_scheme(monkeypatch: pytest.MonkeyPatch, protocol: Any) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "deflate")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:pw@collector")
    if protocol == "grpc":
        with pytest.raises(TracingConfigurationError, match="without user and password"):
            transport.check_transport(protocol)
    else:
        transport.check_transport(protocol)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "collector:4318")
        with pytest.raises(TracingConfigurationError, match="want http:// or https:// with http/protobuf"):
            transport.check_transport(protocol)


@pytest.mark.parametrize(
    ("endpoint", "flag", "insecure"),
    [
        ("http://c:4317", "false", True),
        ("https://c:4317", "true", False),
        ("c:4317", "", False),
        ("c:4317", "TRUE", True),
        ("unix:/run/c", "true", True),
        (None, "", True),
    ],
)
def test_tls_is_by_the_scheme_and_the_flag_counts_without_one(
    monkeypatch: pytest.MonkeyPatch, endpoint: str | None, flag: str, *, insecure: bool
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_INSECURE", flag)
    assert transport.is_insecure(endpoint) is insecure


@pytest.mark.parametrize(("value", "compression"), [("none", 0), ("", 0), ("gzip", 2)])
def test_compression_reaches_the_exporter(monkeypatch: pytest.MonkeyPatch, value: str, compression: int) -> None:
    """The exporter raises for `none`, and for an empty value."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", value)
    made: Any = exporter.make_exporter("otlp", "http://127.0.0.1:9", None)
    assert made._inner._inner._compression == compression
    made.shutdown()


def test_the_export_of_a_batch_has_the_shorter_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_EXPORT_TIMEOUT", "1500")
    assert (environment.batch_timeout(5.0), environment.batch_timeout(1.0)) == (1.5, 1.0)


def exported(monkeypatch: pytest.MonkeyPatch, span: Any, **variables: str) -> ReadableSpan:
    """Return what leaves of a span to which `span` writes."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    memory = InMemorySpanExporter()
    provider = tracing.configure(exporter="none", **COMMON)
    provider = TracerProvider(span_limits=provider._span_limits, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter._redacting(memory)))
    with provider.get_tracer("x").start_as_current_span("x") as current:
        span(current)
    (found,) = memory.get_finished_spans()
    return found


def test_values_are_cut_after_redaction(installed: list[TracerProvider], monkeypatch: pytest.MonkeyPatch) -> None:
    def write(span: trace.Span) -> None:
        span.set_attributes({"note": "card 4111 1111 1111 1111 of a guest", "names": ["abcdefghijklmn"]})
        span.add_event("e", {"text": "abcdefghijklmn"})

    limits = {"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "8", "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "12"}
    found = exported(monkeypatch, write, **limits)
    assert found.attributes is not None
    assert "4111" not in str(found.attributes["note"])
    assert len(str(found.attributes["note"])) == 12
    assert found.attributes["names"] == ("abcdefghijkl",)
    assert found.events[0].attributes == {"text": "abcdefgh"}


def test_counts_hold_for_attributes_events_and_links(
    installed: list[TracerProvider], monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(span: trace.Span) -> None:
        for number in range(5):
            span.add_event("e", {"a": 1, "b": 2, "c": 3})
            span.set_attribute(f"k{number}", number)

    limits = {"OTEL_ATTRIBUTE_COUNT_LIMIT": "2", "OTEL_SPAN_EVENT_COUNT_LIMIT": "3"}
    found = exported(monkeypatch, write, **limits)
    assert found.attributes is not None
    assert (len(found.attributes), found.dropped_attributes) == (2, 3)
    assert [len(event.attributes or ()) for event in found.events] == [2, 2, 2]
    assert (found.dropped_events, found.dropped_links) == (2, 0)


def test_spans_of_the_layer_are_limited_too(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = InMemorySpanExporter()
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "1")
    made = exporter._redacting(memory)
    assert isinstance(made, RedactingExporter)
    made.export([ReadableSpan("x", attributes={"a": 1, "b": 2, "c": 3})])
    (found,) = memory.get_finished_spans()
    assert (found.attributes, found.dropped_attributes) == ({"a": 1}, 2)


def test_an_unlimited_count_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", "unset")
    assert Limits.read() == Limits(link_attributes=None)


@pytest.mark.parametrize(("own", "path", "sampled"), [("", "/live", False), ("", "/a", True), ("^x$", "/live", True)])
def test_the_general_exclusions_count_without_those_of_fastapi(
    installed: list[TracerProvider], monkeypatch: pytest.MonkeyPatch, own: str, path: str, *, sampled: bool
) -> None:
    monkeypatch.setenv("OTEL_PYTHON_EXCLUDED_URLS", "/live$")
    monkeypatch.setenv("OTEL_PYTHON_FASTAPI_EXCLUDED_URLS", own)
    provider = tracing.configure(exporter="none", **COMMON)
    tracer = tracing.request_tracer("")
    assert provider is not None
    assert tracer is not None
    monkeypatch.setattr(tracer, "_sampler", None)
    assert tracer.begin(Wire(path).scope, None).flags.sampled is sampled


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"OTEL_METRICS_EXPORTER": "otlp", "OTEL_LOGS_EXPORTER": "otlp"}, ["OTEL_LOGS_EXPORTER='otlp', OTEL_METRICS_"]),
        ({"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "None"}, []),
        ({"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_PYTHON_ID_GENERATOR": "random"}, []),
        ({"OTEL_EXPORTER_OTLP_METRICS_HEADERS": SECRET}, ["OTEL_EXPORTER_OTLP_METRICS_HEADERS"]),
        ({"OTEL_CONFIG_FILE": "/etc/otel.yaml"}, ["OTEL_CONFIG_FILE='/etc/otel.yaml'"]),
        ({"OTEL_PYTHON_ID_GENERATOR": "xray"}, ["OTEL_PYTHON_ID_GENERATOR='xray'"]),
        ({"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "100000"}, ["OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT='100000'"]),
        ({"OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "unset"}, ["OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT='unset'"]),
        ({"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "4096", "OTEL_PROPAGATORS": "tracecontext"}, []),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_METRICS_EXPORTER": "otlp"}, []),
    ],
)
def test_a_variable_without_effect_is_named_once(environ: dict[str, str], named: list[str]) -> None:
    found = [str(one) for one in variables_without_effect(Situation.from_environment(environ))]
    assert len(found) == len(named)
    for line, start in zip(found, named, strict=True):
        assert line.startswith(f"warning otel-variable: {start}")
        assert SECRET not in line


@pytest.mark.parametrize("value", ["OTLP", " otlp ", "Console"])
def test_the_exporters_name_has_no_case(value: str) -> None:
    assert Options.read({}, {"OTEL_TRACES_EXPORTER": value}).traces_exporter == value.strip().lower()


@pytest.mark.parametrize("value", ["ftp://collector", "collector", "http://:4317", "http://a b", "http://c:99999"])
def test_an_address_that_no_exporter_takes_is_refused(value: str) -> None:
    with pytest.raises(OptionsError, match=r"^OTEL_EXPORTER_OTLP_ENDPOINT: want the collector's address"):
        Options.read({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": value})


def test_a_request_is_served_without_spans_if_a_variable_is_refused_late() -> None:
    def make() -> None:
        raise TracingConfigurationError("OTEL_TRACES_SAMPLER", "moon", "want one of always_on")

    with capture_logs() as lines:
        assert LazyTracer(make, lambda _: None).resolve() is None
    assert lines == [
        {
            "event": "tracer_not_made",
            "log_level": "error",
            "reason": "OTEL_TRACES_SAMPLER='moon': want one of always_on",
            "effect": "requests have no spans",
        }
    ]


START = """
from app.monitoring import Observability
shop = Observability("shop", metrics_directory={directory!r})
shop.start_worker()
from fastapi import FastAPI
shop.instrument(FastAPI())
print("started")
"""


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "many"}, "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT='many': want a limit: "),
        ({name: "" for name, _, _ in REFUSED}, ""),
    ],
)
def test_a_start_is_one_line_or_works(tmp_path: Path, variables: dict[str, str], line: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", START.format(directory=str(tmp_path / "metrics"))],
        cwd=ROOT,
        env={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert (done.stdout == "started\n") is (line == "")
    assert done.stderr.startswith(line)
    assert len(done.stderr.splitlines()) == bool(line)
