"""Where the observing layer stands: around the whole stack of an application, its ServerErrorMiddleware included.

Only there does it see both the answer that the application's handler for `Exception` makes and the exception, which
Starlette raises again after it. `add_middleware` cannot put it there.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ..metrics.http import HttpMetrics
from ..traces.lazy_tracer import MakeTracer
from ..traces.request_span import RequestTracer
from .entry import FAILED
from .layer import ObservingMiddleware, problem

App = TypeVar("App", bound=Starlette)


def observe(app: App, *, metrics: HttpMetrics | None = None, tracer: RequestTracer | MakeTracer | None = None) -> App:
    """Put the observing layer around `app`, and return `app`.

    Call it before the application handles anything, in a factory or beside a module-level application. Middleware,
    handlers and instrumentation may be added before or after. Raise RuntimeError if `app` has started, or is observed.
    """
    if app.middleware_stack is not None:
        raise RuntimeError("the application has started: call observe() before it handles anything")
    if getattr(app.build_middleware_stack, "__self__", None).__class__ is _Placement:
        raise RuntimeError("the application is observed already: call observe() once")
    _Placement(app, metrics, tracer).install()
    return app


class _Placement:
    """Wraps the stack of one application when Starlette builds it."""

    def __init__(self, app: Starlette, metrics: HttpMetrics | None, tracer: RequestTracer | MakeTracer | None) -> None:
        self._app, self._metrics, self._tracer = app, metrics, tracer
        self._original: Callable[[], ASGIApp] = app.build_middleware_stack

    def install(self) -> None:
        """Have the application build its stack through `build`."""
        vars(self._app)["build_middleware_stack"] = self.build
        # FastAPI's own telemetry would make a second span for each request.
        telemetry: dict[str, Any] | None = getattr(self._app, "_telemetry", None)
        if telemetry is not None and self._tracer is not None:
            telemetry["tracing"] = False

    def build(self) -> ASGIApp:
        """Return the application's stack inside the layer."""
        stack = self._build_with_an_answer()
        if self._app.build_middleware_stack == self.build:
            return self.around(stack)
        # Another library builds around this one, and OpenTelemetry's takes only Starlette's outermost middleware. It
        # keeps what is in it, which puts the layer outside as soon as something comes in.
        inner: Any = stack
        inner.app = _Mover(self, inner.app)
        return stack

    def around(self, stack: ASGIApp) -> ASGIApp:
        """Return `stack` inside the layer, which makes no spans if OpenTelemetry's middleware does."""
        elsewhere = _traced_elsewhere(self._app)
        tracer = None if elsewhere else self._tracer
        return ObservingMiddleware(stack, metrics=self._metrics, tracer=tracer, traced_elsewhere=elsewhere)

    def move(self) -> None:
        """Put the layer around the stack that is in use."""
        if self._app.middleware_stack is not None:
            self._app.middleware_stack = self.around(self._app.middleware_stack)

    def _build_with_an_answer(self) -> ASGIApp:
        """Build the stack, with our answer to exceptions where the application has no handler for them."""
        handlers = self._app.exception_handlers
        if Exception not in handlers and FAILED not in handlers:
            self._app.exception_handlers = {**handlers, Exception: _answer}
        try:
            return self._original()
        finally:
            self._app.exception_handlers = handlers


class _Mover:
    """Stands innermost until something comes in, usually the lifespan, and is nothing afterwards."""

    def __init__(self, placement: _Placement, app: ASGIApp) -> None:
        self._placement, self._app = placement, app
        self._moved = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if not self._moved:
            self._moved = True
            self._placement.move()
            if scope["type"] != "lifespan":
                app = self._placement.around(app)  # this one has passed the new place already
        await app(scope, receive, send)


async def _answer(request: Request, _error: Exception) -> Response:
    return problem(request.scope["request_id"])


def _traced_elsewhere(app: Starlette) -> bool:
    """Whether opentelemetry-instrumentation-fastapi or -asgi makes the spans of `app`'s requests."""
    if getattr(app, "_is_instrumented_by_opentelemetry", False):
        return True
    return any(getattr(layer.cls, "__name__", "") == "OpenTelemetryMiddleware" for layer in app.user_middleware)
