"""A tracer that is made at the lifespan's start or the first request: a module-level app is made before the fork."""

from collections.abc import Callable
from typing import Any, cast

import structlog
from starlette.types import Scope

from .request_span import RequestSpan, RequestTracer
from .variables import TracingConfigurationError

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("tracing")

MakeTracer = Callable[[], RequestTracer | None]


class LazyTracer:
    """Stand for a tracer until the first call, which makes it and passes it to `replace`.

    Later requests use what `replace` was given, so laziness costs them nothing. Without a tracer, spans are None.
    An exception of `make` is logged once: without spans the service still answers.
    """

    def __init__(self, make: MakeTracer, replace: Callable[[RequestTracer | None], None]) -> None:
        self._make: MakeTracer | None = make
        self._replace = replace
        self._made: RequestTracer | None = None

    def resolve(self) -> RequestTracer | None:
        """Return the tracer, made by the first call."""
        make, self._make = self._make, None
        if make is not None:
            try:
                self._made = make()
            except TracingConfigurationError as error:
                log.error("tracer_not_made", reason=str(error), effect="requests have no spans")  # noqa: TRY400 -- one line
            except Exception:  # a server may take one in the lifespan for an application without a lifespan
                log.exception("tracer_not_made", effect="requests have no spans")
            self._replace(self._made)
        return self._made

    def begin(self, scope: Scope, traceparent: bytes | None) -> RequestSpan | None:
        """See RequestTracer."""
        tracer = self.resolve()
        return None if tracer is None else tracer.begin(scope, traceparent)

    def attach(self, span: RequestSpan) -> Any:
        """See RequestTracer."""
        return cast("RequestTracer", self.resolve()).attach(span)

    def end(self, span: RequestSpan, handler: str | None, status: int, seconds: float) -> bool:
        """See RequestTracer."""
        return cast("RequestTracer", self.resolve()).end(span, handler, status, seconds)
