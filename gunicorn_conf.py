"""gunicorn's configuration: `gunicorn -c gunicorn_conf.py` is the production command; settings in app/settings.py.

SIGHUP starts workers with the code of app/ as it is then. The master's own code stays: this file's imports and
app/monitoring.
"""

import importlib
import os
import signal
import sys
from typing import Any

from app import embedded
from app.observability import build_observability
from app.settings import SettingsError, load_settings

# Until gunicorn has its own handlers, Ctrl-C ends a start without a traceback; what was started ends by its lifeline.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

try:
    settings = load_settings()
except SettingsError as error:
    sys.exit(str(error))

# Imported by the master for all workers: these take three quarters of a worker's start. Code of the service is not
# among them, so that SIGHUP loads it again.
LIBRARIES = (
    "asyncpg",
    "fastapi",
    "httpx",
    "limits.aio.storage",
    "limits.aio.strategies",
    # Each worker instruments these libraries.
    "opentelemetry.instrumentation.asyncpg",
    "opentelemetry.instrumentation.httpx",
    "opentelemetry.instrumentation.redis",
    "purgatory",
    "redis.asyncio",
)
# The master's own, which every worker has to have in the same version.
KEPT = ("app.monitoring", "app.embedded")


def import_libraries() -> None:
    """Import LIBRARIES. The package imports its own afterwards, and keeps the pages of both shared with the workers."""
    for library in LIBRARIES:
        importlib.import_module(library)


def on_starting(server: Any) -> None:  # noqa: ARG001 -- the signature is gunicorn's
    """Start the databases that no setting names, and import libraries while they get ready."""
    try:
        embedded.start_missing(
            settings.data_directory, database=settings.database_url is None, redis=settings.redis_url is None
        )
        import_libraries()
        os.environ.update(embedded.wait_until_ready())
    except embedded.EmbeddedError as error:
        sys.exit(str(error))


def post_fork(server: Any, worker: Any) -> None:  # noqa: ARG001
    """Forget the code of the service that this file has imported, so that the worker imports all of it anew."""
    for name in list(sys.modules):
        if name.startswith("app.") and not name.startswith(KEPT):
            del sys.modules[name]
    importlib.reload(sys.modules["app"])


def on_exit(server: Any) -> None:  # noqa: ARG001
    """Stop them after the last worker."""
    embedded.stop()


globals().update(
    build_observability(settings).gunicorn(
        "app.main:create_app()",
        collectors=["app.managers.metrics:collect"],
        on_starting=on_starting,
        post_fork=post_fork,
        on_exit=on_exit,
    )
)
