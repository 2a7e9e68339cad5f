"""Installation of the observing layer around an application's whole middleware stack, including ServerErrorMiddleware.

Only there does it see both the response of the application's handler for `Exception` and the exception, which
Starlette raises again afterwards. `add_middleware` cannot install a middleware there. With request spans of
opentelemetry-instrumentation-fastapi the layer is directly inside the instrumentation's middleware, which wraps that
stack too.
"""

import weakref
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ..metrics.http import HttpMetrics
from ..traces.lazy_tracer import MakeTracer
from ..traces.request_span import RequestTracer
from .entry import FAILED, log
from .layer import ObservingMiddleware, problem

OPENTELEMETRY_MIDDLEWARE: Final = "OpenTelemetryMiddleware"
NO_SPANS: Final = "its spans are the requests', this package makes none"
NONE: Final = "choose tracing='none'"
App = TypeVar("App", bound=Starlette)
_observed: "weakref.WeakSet[Starlette]" = weakref.WeakSet()


def observe(
    app: App,
    *,
    metrics: HttpMetrics | None = None,
    tracer: RequestTracer | MakeTracer | None = None,
    instrumented: bool = False,
    request_id_pattern: str | None = None,
) -> App:
    """Put the observing layer around `app`, and return `app`.

    Call it before the application handles anything, in a factory or beside a module-level application. Middleware,
    handlers and instrumentation may be added before or after. `tracer` is that of `tracing.request_tracer`, or makes it
    in the worker. With `instrumented` the layer is inside the middleware of opentelemetry-instrumentation-fastapi.
    `request_id_pattern` is a further form of callers' X-Request-ID.
    Raise RuntimeError if `app` has started, or is observed.
    """
    if app.middleware_stack is not None:
        raise RuntimeError("the application has started: instrument it before it handles anything")
    if getattr(app.build_middleware_stack, "__self__", None).__class__ is _Placement:
        raise RuntimeError("the application is observed already: instrument it once")
    _Placement(app, metrics, tracer, instrumented=instrumented, request_id_pattern=request_id_pattern).install()
    _observed.add(app)
    return app


def is_observed(app: Starlette) -> bool:
    """Return True if the layer is around `app`."""
    return app in _observed


def is_any_observed() -> bool:
    """Return True if the layer is around an application of this process."""
    return bool(_observed)


class _Placement:
    """A wrapper of one application's stack, applied when Starlette builds it."""

    def __init__(
        self,
        app: Starlette,
        metrics: HttpMetrics | None,
        tracer: RequestTracer | MakeTracer | None,
        *,
        instrumented: bool,
        request_id_pattern: str | None,
    ) -> None:
        self._app, self._metrics, self._tracer = app, metrics, tracer
        self._instrumented = instrumented
        self._id_pattern = request_id_pattern
        self._warned = False
        self._original: Callable[[], ASGIApp] = app.build_middleware_stack

    def install(self) -> None:
        """Replace the application's `build_middleware_stack` by `build`."""
        vars(self._app)["build_middleware_stack"] = self.build
        # FastAPI's own telemetry would create a second span for each request.
        telemetry: dict[str, Any] | None = getattr(self._app, "_telemetry", None)
        if telemetry is not None and self._tracer is not None:
            telemetry["tracing"] = False

    def build(self) -> ASGIApp:
        """Return the application's stack inside the layer."""
        stack = self._build_with_an_answer()
        if self._instrumented:
            return self._inside(stack)
        if self._app.build_middleware_stack == self.build:
            return self.around(stack)
        # Another library wraps this method, and OpenTelemetry's accepts only Starlette's outermost middleware. A mover
        # inside it moves the layer to the outside at the first scope.
        inner: Any = stack
        inner.app = _Mover(self, inner.app)
        return stack

    def around(self, stack: ASGIApp) -> ASGIApp:
        """Return `stack` inside the layer, which makes no spans if OpenTelemetry's middleware does."""
        elsewhere = traced_elsewhere(self._app)
        if elsewhere is not None:
            self._warn(elsewhere)
        return self._layer(stack, traced_elsewhere=elsewhere is not None)

    def _inside(self, stack: Any) -> ASGIApp:
        """Return `stack` with the layer inside of the instrumentation's middleware, the second from outside."""
        instrumentation: Any = getattr(stack, "app", None)
        if type(instrumentation).__name__ != OPENTELEMETRY_MIDDLEWARE:
            return self._layer(stack)  # the instrumentation has logged why it stays away; the tracer makes our spans
        if added_middleware(self._app) is None:
            instrumentation.app = self._layer(instrumentation.app)
        else:
            # The application has added such a middleware itself after all: two would make two spans.
            self._warn(OPENTELEMETRY_MIDDLEWARE)
            stack.app = self._layer(instrumentation.app, traced_elsewhere=True)
        return cast("ASGIApp", stack)

    def _layer(self, app: ASGIApp, *, traced_elsewhere: bool = False) -> ASGIApp:
        tracer = None if traced_elsewhere else self._tracer
        return ObservingMiddleware(
            app,
            metrics=self._metrics,
            tracer=tracer,
            traced_elsewhere=traced_elsewhere,
            request_id_pattern=self._id_pattern,
        )

    def _warn(self, maker: str) -> None:
        """Log once that another instrumentation makes the request spans, if this package was to make them."""
        if self._tracer is not None and not self._warned:
            self._warned = True
            log.warning("requests_traced_elsewhere", by=maker, effect=NO_SPANS, instead=f"remove {maker}, or {NONE}")

    def move(self) -> None:
        """Wrap the application's current stack in the layer."""
        if self._app.middleware_stack is not None:
            self._app.middleware_stack = self.around(self._app.middleware_stack)

    def _build_with_an_answer(self) -> ASGIApp:
        """Build the stack, with our response to exceptions if the application has no handler for them."""
        handlers = self._app.exception_handlers
        if Exception not in handlers and FAILED not in handlers:
            self._app.exception_handlers = {**handlers, Exception: _answer}
        try:
            return self._original()
        finally:
            self._app.exception_handlers = handlers


class _Mover:
    """The innermost middleware, which moves the layer at the first scope, usually the lifespan. Then a pass-through."""

    def __init__(self, placement: _Placement, app: ASGIApp) -> None:
        self._placement, self._app = placement, app
        self._moved = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if not self._moved:
            self._moved = True
            self._placement.move()
            if scope["type"] != "lifespan":
                app = self._placement.around(app)  # this scope has already passed the layer's new position
        await app(scope, receive, send)


async def _answer(request: Request, _error: Exception) -> Response:
    return problem(request.scope["request_id"])


def traced_elsewhere(app: Starlette) -> str | None:
    """Return the name of the other maker of spans for `app`'s requests, None if there is none."""
    if getattr(app, "_is_instrumented_by_opentelemetry", False):
        return "FastAPIInstrumentor"
    return added_middleware(app)


def added_middleware(app: Starlette) -> str | None:
    """Return the name of OpenTelemetry's middleware if `app` has added it, else None."""
    names = (getattr(layer.cls, "__name__", "") for layer in app.user_middleware)
    return next((name for name in names if name == OPENTELEMETRY_MIDDLEWARE), None)
