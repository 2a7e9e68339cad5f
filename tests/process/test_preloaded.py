"""A module-level application that the master imports before the fork: each worker sends the spans of its requests."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from tests.process.service import ROOT, service, wait_for

CONFIGURATION = """
import sys
from app.monitoring import Observability

def when_ready(server):
    assert "shop.main" in sys.modules, "imported by the master"

globals().update(
    Observability("shop", namespace="shop").gunicorn("shop.main:app", preload=["shop.main"], when_ready=when_ready)
)
"""
APPLICATION = """
import os

import httpx
from fastapi import FastAPI

from app.monitoring import Observability

app = FastAPI()
IMPORTED_BY = os.getpid()


@app.get("/health/ready")
async def ready() -> str:
    return "ready"


@app.get("/pids/{number}")
async def pids(number: int) -> tuple[int, int]:
    async with httpx.AsyncClient(trust_env=False) as client:
        await client.get(f"http://127.0.0.1:{os.environ['PORT']}/health/ready")
    return IMPORTED_BY, os.getpid()


Observability.current().instrument(app)
"""
Sent = tuple[int, str, str, str]


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    """An OTLP collector that keeps the spans it is sent, with the process and the instance they come from."""

    def __init__(self) -> None:
        self.spans: list[Sent] = []

    def Export(self, request: Any, _context: Any) -> Any:  # noqa: N802 -- the name is the protocol's
        for one in request.resource_spans:
            resource = {item.key: item.value for item in one.resource.attributes}
            pid, instance = resource["process.pid"].int_value, resource["service.instance.id"].string_value
            self.spans += [
                (pid, instance, scope.scope.name, span.name) for scope in one.scope_spans for span in scope.spans
            ]
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
def receiver() -> Iterator[tuple[Receiver, str]]:
    """Yield a collector and its address."""
    kept, server = Receiver(), grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(kept, server)  # type: ignore[no-untyped-call]
    address = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield kept, address
    server.stop(None).wait()


@pytest.mark.parametrize(
    ("tracing", "maker"), [("layer", "app.monitoring"), ("instrumentation", "opentelemetry.instrumentation.fastapi")]
)
def test_both_workers_of_a_preloaded_application_send_spans_as_instances_of_their_own(
    tmp_path: Path, receiver: tuple[Receiver, str], tracing: str, maker: str
) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "main.py").write_text(APPLICATION)
    configuration = tmp_path / "gunicorn_conf.py"
    configuration.write_text(CONFIGURATION)
    collector, address = receiver
    environment = {
        "PYTHONPATH": f"{ROOT}:{tmp_path}",
        "TRACING": tracing,
        "OTEL_EXPORTER_OTLP_ENDPOINT": address,
        "OTEL_TRACES_SAMPLER_ARG": "1",
    }
    asked: list[int] = []
    with service(tmp_path, None, configuration, **environment) as running:

        def both_have_answered() -> bool:
            imported_by, pid = running.get(f"/pids/{len(asked)}").json()
            assert imported_by == running.process.pid
            asked.append(pid)
            return len(set(asked)) == 2

        wait_for(both_have_answered, "answers of both workers")
        assert running.stop() == 0, running.output
    requests = [
        (pid, instance)
        for pid, instance, scope, name in collector.spans
        if (scope, name) == (maker, "GET /pids/{number}")
    ]
    assert sorted(pid for pid, _ in requests) == sorted(asked)
    assert len({instance for _, instance in requests}) == len(set(requests)) == 2
    calls = [pid for pid, _, scope, _ in collector.spans if scope == "opentelemetry.instrumentation.httpx"]
    assert sorted(calls) == sorted(asked)
