"""An OTLP receiver in a process of its own: it takes spans and says that it has them, so exporters do their work."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from app.monitoring.companion import Companion, announce, wait_for_owner

TIMEOUT_SECONDS = 20.0


class _Service(trace_service_pb2_grpc.TraceServiceServicer):
    def Export(self, _request: Any, _context: Any) -> Any:  # noqa: N802 -- the name is the protocol's
        return trace_service_pb2.ExportTraceServiceResponse()


@contextmanager
def sink() -> Iterator[str]:
    """Yield the endpoint of a started receiver."""
    started = Companion("loadtest.benchmarks.sink")
    try:
        yield f"http://127.0.0.1:{int(started.read_line(TIMEOUT_SECONDS))}"
    finally:
        started.stop()


def main() -> int:
    """Serve until the parent process ends."""
    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(_Service(), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    announce(str(port))
    wait_for_owner()
    server.stop(None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
