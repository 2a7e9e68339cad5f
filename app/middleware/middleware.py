"""The layers of a request, from outside to inside.

`Observability.instrument` adds the first and the fourth, FastAPI the second, the third and the last:

1. `ObservingMiddleware`: request id, span, log context, and at the last byte metrics and the access line.
2. `ServerErrorMiddleware`: the handler of `Exception` in app/api/problems.py.
3. `ExceptionTelemetryMiddleware` and `AppBodyLimitMiddleware`: FastAPI's own. `instrument` switches the telemetry off,
   and without `max_body_size` there is no limit.
4. `ProxyHeadersMiddleware`: the client's address from X-Forwarded-For of trusted proxies.
5. `MIDDLEWARE`: the service's own.
6. `ExceptionMiddleware`: the other handlers of app/api/problems.py. The router is inside of it.

With TRACING=instrumentation the middleware of opentelemetry-instrumentation-fastapi is outside of the first layer, and
`ProxiedClient`, which corrects the client's address in its span, is between the fourth and the fifth.
"""

from fastapi import FastAPI
from starlette.middleware import Middleware

from app.middleware.body_limit import BodyLimitMiddleware
from app.middleware.head import HeadMiddleware

MAX_BODY_BYTES = 256 * 1024
# From outside to inside.
MIDDLEWARE = (Middleware(HeadMiddleware), Middleware(BodyLimitMiddleware, limit=MAX_BODY_BYTES))


def add_layers(app: FastAPI) -> None:
    """Add `MIDDLEWARE` to `app`. Call it before `Observability.instrument`, whose layers are outside of these."""
    for layer in reversed(MIDDLEWARE):  # the one added last is the outermost
        app.add_middleware(layer.cls, *layer.args, **layer.kwargs)
