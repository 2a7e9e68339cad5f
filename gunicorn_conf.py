"""gunicorn's configuration: `gunicorn -c gunicorn_conf.py` is the production command; settings in app/settings.py."""

import os
import signal
import sys
from typing import Any

from app import embedded
from app.settings import SettingsError, load_settings

# Until gunicorn has its own handlers, Ctrl-C ends a start without a traceback; what was started ends by its lifeline.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

try:
    settings = load_settings()
except SettingsError as error:
    sys.exit(str(error))

# Before the first metric of the service is made: values go to this directory only from then on.
os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(settings.metrics_directory)

from app.monitoring.server import master
from app.observability import build_observability


def on_starting(server: Any) -> None:  # noqa: ARG001 -- the signature is gunicorn's
    """Start the databases that no setting names, and import the application while they get ready."""
    try:
        embedded.start_missing(
            settings.data_directory, database=settings.database_url is None, redis=settings.redis_url is None
        )
        master.preload("app.main")
        os.environ.update(embedded.wait_until_ready())
    except embedded.EmbeddedError as error:
        sys.exit(str(error))


def on_exit(server: Any) -> None:  # noqa: ARG001
    """Stop them after the last worker."""
    embedded.stop()


globals().update(
    build_observability(settings).gunicorn(
        "app.main:create_app()",
        collectors=["app.managers.metrics:collect"],
        on_starting=on_starting,
        on_exit=on_exit,
    )
)
