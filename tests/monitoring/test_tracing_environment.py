"""OpenTelemetry's variables for traces: honoured, or refused with one line."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest
from opentelemetry.context import Context
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from app.monitoring import tracing
from app.monitoring.metrics.registry import registry
from app.monitoring.traces import environment
from app.monitoring.traces.environment import Sampling, TracingConfigurationError
from app.monitoring.traces.sampling import RequestSampler
from tests.middleware.wire import Wire
from tests.monitoring.test_tracing import COMMON, SEND_ONE, Collector
from tests.process.service import ROOT

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)


class RecordingCollector(Collector):
    """Keep the headers too."""

    def __init__(self) -> None:
        super().__init__()
        self.headers: list[dict[str, str]] = []

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 -- the name is the protocol's
        self.headers.append(dict(context.invocation_metadata()))
        return super().Export(request, context)


@pytest.fixture
def serve() -> Iterator[Callable[..., tuple[RecordingCollector, int]]]:
    """Yield `serve(credentials)`, which starts a collector and returns it with its port."""
    servers = []

    def start(credentials: Any = None) -> tuple[RecordingCollector, int]:
        collector, server = RecordingCollector(), grpc.server(ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
        address = "127.0.0.1:0"
        port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
        server.start()
        servers.append(server)
        return collector, port

    yield start
    for server in servers:
        server.stop(None).wait()


def send_one(endpoint: str = "http://127.0.0.1:9", **variables: str) -> None:
    """Send a span from a process of its own, to which `endpoint` is an argument."""
    done = subprocess.run(
        [sys.executable, "-c", SEND_ONE, "otlp", endpoint],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "sent True\n"


def test_endpoint_and_headers_of_traces_win(serve: Any) -> None:
    collector, port = serve()
    send_one(
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"127.0.0.1:{port}",
        OTEL_EXPORTER_OTLP_TRACES_INSECURE="true",
        OTEL_EXPORTER_OTLP_HEADERS="x-tenant=all",
        OTEL_EXPORTER_OTLP_TRACES_HEADERS="x-tenant=bali",
        OTEL_RESOURCE_ATTRIBUTES="service.version=9,team=shore",
        OTEL_SERVICE_NAME="ours",
    )
    assert [headers["x-tenant"] for headers in collector.headers] == ["bali"]
    ((resource_spans,),) = [request.resource_spans for request in collector.requests]
    found = {item.key: item.value.string_value for item in resource_spans.resource.attributes}
    assert (found["service.name"], found["service.version"], found["team"]) == ("ours", "9", "shore")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")
def test_a_certificate_of_ones_own_is_trusted(serve: Any, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    collector, port = serve(grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())]))
    send_one(f"https://localhost:{port}", OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE=str(certificate))
    assert len(collector.requests) == 1


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"OTEL_SERVICE_NAME": "theirs"}, {"service.name": "theirs", "service.version": "1.2.3"}),
        ({"OTEL_SERVICE_NAME": ""}, {"service.name": "bali"}),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=theirs,service.namespace=asia"}, {"service.name": "theirs"}),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=x", "OTEL_SERVICE_NAME": "theirs"}, {"service.name": "theirs"}),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.instance.id=pod-7"}, {"service.instance.id": "pod-7"}),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.namespace=asia,a=b%20c"}, {"service.namespace": "asia", "a": "b c"}),
    ],
)
def test_the_operators_resource_wins(
    installed: list[TracerProvider],
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    expected: dict[str, str],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = tracing.configure(exporter="none", namespace="bali", **COMMON).resource.attributes
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("name", "argument", "expected"),
    [
        ("", "", Sampling(0.3)),
        ("", "0.9", Sampling(0.3)),
        ("always_on", "", Sampling(1.0, parent_based=False)),
        ("always_off", "", Sampling(0.0, parent_based=False, keep_failures=False)),
        ("traceidratio", "0.25", Sampling(0.25, parent_based=False)),
        ("traceidratio", "", Sampling(1.0, parent_based=False)),
        ("parentbased_always_on", "0.1", Sampling(1.0)),
        ("parentbased_always_off", "", Sampling(0.0)),
        ("ParentBased_TraceIdRatio", "0.25", Sampling(0.25)),
    ],
)
def test_every_sampler_of_opentelemetry_is_known(
    monkeypatch: pytest.MonkeyPatch, name: str, argument: str, expected: Sampling
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", name)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", argument)
    assert environment.sampling(0.3) == expected


@pytest.mark.parametrize(
    ("name", "called_sampled", "called_unsampled", "failure"),
    [
        ("always_on", True, True, True),
        ("always_off", False, False, False),
        ("parentbased_always_on", True, False, True),
        ("parentbased_always_off", True, False, True),
    ],
)
def test_requests_are_sampled_as_the_sampler_says(
    installed: list[TracerProvider],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    *,
    called_sampled: bool,
    called_unsampled: bool,
    failure: bool,
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", name)
    monkeypatch.setattr(registry(), "exemplar_source", None)
    provider = tracing.configure(exporter="console", **{**COMMON, "ratio": 0.5})
    tracer = tracing.request_tracer("")
    assert tracer is not None
    for flags, sampled in (("01", called_sampled), ("00", called_unsampled)):
        parent = f"00-{TRACE}-{CALLER}-{flags}".encode()
        span = tracer.begin(Wire(headers=((b"traceparent", parent),)).scope, parent)
        assert span.get_span_context().trace_flags.sampled is sampled
        context = SpanContext(int(TRACE, 16), 2, is_remote=True, trace_flags=TraceFlags(int(flags)))
        child = provider.get_tracer("x").start_span("x", set_span_in_context(NonRecordingSpan(context)))
        assert child.get_span_context().trace_flags.sampled is sampled
    assert tracer._late is failure


def test_a_child_follows_its_parent_in_the_process_whatever_the_sampler() -> None:
    parent = SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(0))
    context = set_span_in_context(NonRecordingSpan(parent), Context())
    decision = RequestSampler(1.0, parent_based=False).should_sample(context, 1, "x").decision
    assert decision is Decision.DROP


REFUSED = [
    ("OTEL_TRACES_SAMPLER", "jaeger_remote", "want one of always_on, always_off, traceidratio"),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "want grpc or http/protobuf"),
    ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http", "want grpc or http/protobuf"),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf", "install opentelemetry-exporter-otlp-proto-http"),
    ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "soon", "want seconds"),
    ("OTEL_EXPORTER_OTLP_TIMEOUT", "10000", "want seconds"),
    ("OTEL_EXPORTER_OTLP_TRACES_INSECURE", "yes", "want true or false"),
    ("OTEL_EXPORTER_OTLP_CERTIFICATE", "missing.pem", "want the path of a readable PEM file"),
    ("OTEL_PROPAGATORS", "tracecontext,b3", "'b3' is not installed; want none or any of baggage, "),
]


@pytest.mark.parametrize(("name", "value", "wanted"), REFUSED)
def test_what_cannot_be_honoured_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, wanted: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(TracingConfigurationError) as refused:
        environment.check_environment()
    text = str(refused.value)
    assert text.startswith(f"{name}={value!r}: {wanted}")
    assert "\n" not in text


@pytest.mark.parametrize("argument", ["1.5", "-1", "half", "nan"])
def test_a_share_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, argument: str) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", argument)
    with pytest.raises(TracingConfigurationError, match=r"OTEL_TRACES_SAMPLER_ARG=.*want a share of 0 to 1"):
        environment.check_environment()


def test_the_variables_of_an_exporter_that_is_not_used_are_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
    environment.check_environment(otlp=False)


@pytest.mark.parametrize("value", ["", "none", "tracecontext", " tracecontext , baggage "])
def test_installed_propagators_are_accepted(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("OTEL_PROPAGATORS", value)
    environment.check_environment()


READ_CALLER = f"""
from opentelemetry import baggage
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.util.http import parse_excluded_urls
from app.monitoring.traces.request_span import RequestTracer
from tests.middleware.wire import Wire
parent = b"00-{TRACE}-{CALLER}-01"
tracer = RequestTracer(TracerProvider(shutdown_on_exit=False), parse_excluded_urls(""))
span = tracer.begin(Wire(headers=((b"traceparent", parent), (b"baggage", b"who=me"))).scope, parent)
print(span.trace_id == "{TRACE}", dict(baggage.get_all(span.parent)))
"""


@pytest.mark.parametrize(
    ("propagators", "printed"),
    [("", "True {'who': 'me'}"), ("none", "False {}"), ("tracecontext", "True {}"), ("baggage", "False {}")],
)
def test_only_the_named_propagators_are_read(propagators: str, printed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", READ_CALLER],
        cwd=ROOT,
        env={**os.environ, "OTEL_PROPAGATORS": propagators},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == printed


HTTP_STAND_IN = """
made = []
class OTLPSpanExporter:
    def __init__(self, **options):
        made.append(options)
    def export(self, spans):
        return None
    def shutdown(self):
        pass
"""


def test_http_is_used_where_its_exporter_is_installed(
    installed: list[TracerProvider], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module = tmp_path / "an_http_exporter.py"
    module.write_text(HTTP_STAND_IN)
    monkeypatch.syspath_prepend(str(tmp_path))
    for place in ("environment", "exporter"):
        monkeypatch.setattr(f"app.monitoring.traces.{place}.HTTP_EXPORTER", "an_http_exporter")
    monkeypatch.setattr(registry(), "exemplar_source", None)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    common = {**COMMON, "endpoint": "http://collector:4318/"}
    tracing.configure(exporter="otlp", **common)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://other:4318/traces")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "2.5")
    tracing.configure(exporter="otlp", timeout=9.0, **common)
    assert sys.modules["an_http_exporter"].made == [
        {"endpoint": "http://collector:4318/v1/traces", "timeout": 5.0},
        {"endpoint": "http://other:4318/traces", "timeout": 2.5},
    ]
