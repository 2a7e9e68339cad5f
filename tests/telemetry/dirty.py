"""Spans as a service without any redaction would send them: a private value in every place that a span has."""

import hashlib
import time
from collections.abc import Callable
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

Place = Callable[[ResourceSpans, Span, str], None]


def value(content: Any) -> AnyValue:
    """Return `content` as an OTLP value."""
    if isinstance(content, list):
        return AnyValue(array_value=ArrayValue(values=[value(item) for item in content]))
    if isinstance(content, dict):
        return AnyValue(kvlist_value=KeyValueList(values=attributes(content)))
    return AnyValue(int_value=content) if isinstance(content, int) else AnyValue(string_value=content)


def attributes(content: dict[str, Any]) -> list[KeyValue]:
    """Return a mapping as OTLP attributes."""
    return [KeyValue(key=key, value=value(item)) for key, item in content.items()]


def in_attribute(key: str, form: Callable[[str], Any] = str) -> Place:
    """Return the place of the span's attribute `key`, in the form that `form` makes of the private value."""
    return lambda _resource, span, text: span.attributes.extend(attributes({key: form(text)}))


def in_resource(key: str) -> Place:
    """Return the place of the resource's attribute `key`."""
    return lambda resource, _span, text: resource.resource.attributes.extend(attributes({key: text}))


def in_event(key: str) -> Place:
    """Return the place of the attribute `key` of an exception event."""
    return lambda _resource, span, text: span.events.add(name="exception").attributes.extend(attributes({key: text}))


def _in_scope(resource: ResourceSpans, _span: Span, text: str) -> None:
    resource.scope_spans[0].scope.attributes.extend(attributes({"guest": text}))


def _in_link(_resource: ResourceSpans, span: Span, text: str) -> None:
    span.links.add(trace_id=b"1" * 16, span_id=b"1" * 8).attributes.extend(attributes({"guest": text}))


def _in_status(_resource: ResourceSpans, span: Span, text: str) -> None:
    span.status.message = f"ValueError: {text}"


def _in_name(_resource: ResourceSpans, span: Span, text: str) -> None:
    span.name = f"GET /guests/{text}"


def _in_event_name(_resource: ResourceSpans, span: Span, text: str) -> None:
    span.events.add(name=f"guest {text} arrived")


def _in_trace_state(_resource: ResourceSpans, span: Span, text: str) -> None:
    span.trace_state = f"guest={text}"


# Places whose text stays, but for what is private in it.
SEARCHED: dict[str, Place] = {
    "span name": _in_name,
    "event name": _in_event_name,
    "path": in_attribute("url.path", "/guests/{}/rooms".format),
    "old path": in_attribute("http.target", "/guests/{}/rooms".format),
    "SQL": in_attribute("db.statement", "SELECT 1 -- {} --".format),
    "list": in_attribute("url.path", lambda text: ["a", text]),
    "mapping": in_attribute("url.path", lambda text: {"a": {"b": f"see {text}"}}),
    "resource": in_resource("host.name"),
    "exception message": in_event("exception.message"),
    "traceback": in_event("exception.stacktrace"),
}
# Places that are taken out as a whole.
REMOVED: dict[str, Place] = {
    "query": in_attribute("http.url", "http://bali.example/guests?name={}".format),
    "query with line breaks": in_attribute("http.target", "/guests?name=\n{}\n".format),
    "new query": in_attribute("url.full", "http://bali.example/guests?name={}".format),
    "unlisted query": in_attribute("url.query", "name={}".format),
    "header": in_attribute("http.request.header.authorization"),
    "user agent": in_attribute("user_agent.original"),
    "prompt": in_attribute("gen_ai.input.messages", lambda text: [{"role": "user", "content": text}]),
    "client": in_attribute("client.address"),
    "unlisted resource": in_resource("process.command_line"),
    "unlisted in event": in_event("guest"),
    "scope": _in_scope,
    "status message": _in_status,
    "trace state": _in_trace_state,
}
OUT_OF_REACH: dict[str, Place] = {"link": _in_link}


def span(
    trace_id: str, place: Place | None = None, text: str = "", *, error: bool = True, seconds: float = 0.01
) -> ResourceSpans:
    """Return a root span of a service "dirty", with `text` at `place`; an error by default."""
    end = time.time_ns()
    made = Span(
        trace_id=bytes.fromhex(trace_id),
        span_id=hashlib.sha256(trace_id.encode()).digest()[:8],
        name="dirty",
        kind=Span.SPAN_KIND_SERVER,
        start_time_unix_nano=end - int(seconds * 1e9),
        end_time_unix_nano=end,
        status=Status(code=Status.STATUS_CODE_ERROR if error else Status.STATUS_CODE_UNSET),
    )
    resource = ResourceSpans(scope_spans=[ScopeSpans()])
    resource.resource.attributes.extend(attributes({"service.name": "dirty"}))
    if place is not None:
        place(resource, made, text)
    resource.scope_spans[0].spans.append(made)
    return resource
