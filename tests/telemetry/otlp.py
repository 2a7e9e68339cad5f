"""OTLP in both directions: what a file exporter wrote, and a client that sends spans as they are given."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

INTERNAL, SERVER, CLIENT = 1, 2, 3
ERROR = 2


@dataclass(frozen=True)
class Span:
    """A span as it was written. `text` is all that was written of it, its resource and its scope."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    seconds: float
    status: int
    attributes: dict[str, Any]
    resource: dict[str, Any]
    events: list[dict[str, Any]]
    text: str

    @property
    def keys(self) -> set[str]:
        """The keys of its attributes, its events' and its resource's."""
        return {*self.attributes, *self.resource, *(key for event in self.events for key in event)}


def requests(path: Path) -> list[list[Span]]:
    """Return the spans of each request that a collector wrote into `path`; skip an incomplete last line."""
    return [list(_spans(document)) for document in _documents(path)]


def spans(path: Path) -> list[Span]:
    """Return all spans in `path`."""
    return [span for request in requests(path) for span in request]


def latest_sums(path: Path, metric: str) -> list[tuple[dict[str, Any], float]]:
    """Return labels and value of each point of `metric`, a cumulative sum, in the last line of `path` that has it."""
    points: list[tuple[dict[str, Any], float]] = []
    for document in _documents(path):
        found = [
            (_plain(point["attributes"]), float(point.get("asInt", point.get("asDouble", 0))))
            for scope in _scopes(document, "Metrics")
            for kept in scope["metrics"]
            if kept["name"] == metric
            for point in kept["sum"]["dataPoints"]
        ]
        points = found or points
    return points


def send(endpoint: str, resource_spans: Iterable[ResourceSpans]) -> None:
    """Send spans to the collector at `endpoint`, http://host:port, and have its answer."""
    with grpc.insecure_channel(endpoint.removeprefix("http://")) as channel:
        stub = trace_service_pb2_grpc.TraceServiceStub(channel)  # type: ignore[no-untyped-call]
        request = trace_service_pb2.ExportTraceServiceRequest(resource_spans=resource_spans)
        answer = stub.Export(request, timeout=30)
    assert answer.partial_success.rejected_spans == 0, answer


def _documents(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    for line in path.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            yield json.loads(line)


def _scopes(document: dict[str, Any], kind: str) -> Iterator[dict[str, Any]]:
    for resource in document.get(f"resource{kind}", []):
        yield from resource[f"scope{kind}"]


def _spans(document: dict[str, Any]) -> Iterator[Span]:
    for resource in document.get("resourceSpans", []):
        around = resource.get("resource", {})
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                yield Span(
                    name=span.get("name", ""),
                    trace_id=span["traceId"],
                    span_id=span["spanId"],
                    parent_id=span.get("parentSpanId", ""),
                    kind=span.get("kind", 0),
                    seconds=(int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"])) / 1e9,
                    status=span.get("status", {}).get("code", 0),
                    attributes=_plain(span.get("attributes", [])),
                    resource=_plain(around.get("attributes", [])),
                    events=[_plain(event.get("attributes", [])) for event in span.get("events", [])],
                    text=json.dumps([around, scope.get("scope"), span], ensure_ascii=False),
                )


def _plain(attributes: list[dict[str, Any]]) -> dict[str, Any]:
    return {item["key"]: _value(item["value"]) for item in attributes}


def _value(value: dict[str, Any]) -> Any:
    kind, content = next(iter(value.items()), ("none", None))
    return _read(kind, content)


def _read(kind: str, content: Any) -> Any:
    if kind == "intValue":
        return int(content)
    if kind == "arrayValue":
        return [_value(item) for item in content.get("values", [])]
    if kind == "kvlistValue":
        return _plain(content.get("values", []))
    return content
