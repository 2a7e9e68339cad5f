"""Exceptions as events of spans, in OpenTelemetry's form. In place of the SDK's, which raises where formatting does."""

from opentelemetry.trace import Span
from opentelemetry.util.types import Attributes, AttributeValue

from ..tracebacks import format_exception, message_of, raised, type_name


def record(
    span: Span,
    exception: BaseException,
    attributes: Attributes = None,
    timestamp: int | None = None,
    escaped: bool = False,  # noqa: FBT001, FBT002 -- the signature is that of Span.record_exception
) -> None:
    """Add the event of `exception` to `span`, and `attributes` to it. Never raises for a faulty exception."""
    found = raised(exception)
    event: dict[str, AttributeValue] = {
        "exception.type": type_name(type(exception)),
        "exception.message": message_of(exception),
        "exception.stacktrace": f"{format_exception(found)}\n" if found else "",
        "exception.escaped": str(escaped),
    }
    span.add_event("exception", {**event, **(attributes or {})}, timestamp)
