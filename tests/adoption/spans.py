"""An OTLP receiver on loopback that keeps the spans it is sent."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


class Spans(trace_service_pb2_grpc.TraceServiceServicer):
    """The spans of every request so far, in the form of the protocol."""

    endpoint = ""

    def __init__(self) -> None:
        self.received: list[Any] = []

    def Export(self, request: Any, _context: Any) -> Any:  # noqa: N802 -- the name is the protocol's
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.received += scope.spans
        return trace_service_pb2.ExportTraceServiceResponse()

    def named(self, name: str) -> list[Any]:
        """Return the spans with this name."""
        return [span for span in self.received if span.name == name]

    def below(self, top: Any) -> list[Any]:
        """Return the spans whose parents lead to `top`."""
        found, parents = [], {top.span_id}
        left = [span for span in self.received if span.trace_id == top.trace_id]
        while now := [span for span in left if span.parent_span_id in parents]:
            found += now
            parents = {span.span_id for span in now}
        return found


def attribute(span: Any, key: str) -> str:
    """Return a text attribute of `span`; an empty text where it has none."""
    return next((str(item.value.string_value) for item in span.attributes if item.key == key), "")


@contextmanager
def receiving_spans() -> Iterator[Spans]:
    """Run a receiver on a free port."""
    spans, server = Spans(), grpc.server(ThreadPoolExecutor(4))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(spans, server)  # type: ignore[no-untyped-call]
    spans.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield spans
    finally:
        server.stop(None).wait()
