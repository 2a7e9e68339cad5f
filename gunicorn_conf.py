"""gunicorn's configuration: `gunicorn -c gunicorn_conf.py` is the production command; settings in app/settings.py."""

import os
import signal
import sys
from typing import Any

from app import __version__, embedded
from app.settings import SettingsError, load_settings

# Until gunicorn has its own handlers, Ctrl-C ends a start without a traceback; what was started ends by its lifeline.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

try:
    settings = load_settings()
except SettingsError as error:
    sys.exit(str(error))

# Before anything imports prometheus-client, which decides here, once and in silence, where its values live.
os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(settings.metrics_directory)

from app.metrics import NAMESPACE
from app.monitoring import logging, tracing
from app.monitoring.metrics import process
from app.monitoring.server import master

wsgi_app = "app.main:create_app()"
worker_class = "app.monitoring.server.worker.Worker"
bind = f"[{settings.host}]:{settings.port}" if ":" in settings.host else f"{settings.host}:{settings.port}"
workers = settings.web_concurrency
max_requests = settings.max_requests
max_requests_jitter = settings.max_requests_jitter
timeout = settings.worker_timeout
graceful_timeout = settings.graceful_timeout
keepalive = settings.keepalive
forwarded_allow_ips = settings.forwarded_allow_ips
logger_class = "app.monitoring.logging.GunicornLogger"
proc_name = "baliblissed"
# Heartbeats go to memory: on a disk they would block the event loop.
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
# It fails on read-only and homeless containers, and nothing here uses it.
control_socket_disable = True

log_settings: dict[str, Any] = {
    "renderer": "json" if settings.environment == "production" else "console",
    "level": settings.log_level,
    "service": settings.otel_service_name,
    "version": __version__,
    "environment": settings.environment,
}
logging.configure(**log_settings)


def on_starting(server: Any) -> None:  # noqa: ARG001 -- the signatures are gunicorn's
    """Take what the service needs, or end with one line that says what is wrong: no worker runs yet."""
    try:
        master.take_ports_and_directory(
            api=(settings.host, settings.port),
            metrics=(settings.metrics_host, settings.metrics_port),
            directory=settings.metrics_directory,
        )
        master.note_build(__version__, settings.environment)
        embedded.start_missing(
            settings.data_directory, database=settings.database_url is None, redis=settings.redis_url is None
        )
        master.preload("app.main", "uvloop", "uvicorn.lifespan.on", "uvicorn.protocols.http.httptools_impl")
        os.environ.update(embedded.wait_until_ready())
        master.start_exporter(["app.managers.metrics:collect"], log_settings, settings.max_series_per_metric)
    except (master.StartError, embedded.EmbeddedError) as error:
        sys.exit(str(error))


@master.never_raises
def pre_fork(server: Any, worker: Any) -> None:
    """In the master, before each fork."""
    master.before_fork(server, worker)


@master.never_raises
def post_fork(server: Any, worker: Any) -> None:  # noqa: ARG001
    """In the worker: a tracer provider of its own, since exporters and channels do not survive a fork."""
    process.take_place(worker.place)
    if not settings.otel_sdk_disabled:
        tracing.configure(
            exporter=settings.traces_exporter,
            endpoint=settings.otel_exporter_otlp_endpoint,
            ratio=settings.trace_sample_ratio,
            service=settings.otel_service_name,
            version=__version__,
            environment=settings.environment,
            namespace=NAMESPACE,
            timeout=settings.otel_exporter_otlp_timeout,
            queue=settings.otel_bsp_max_queue_size,
            batch=settings.otel_bsp_max_export_batch_size,
        )


@master.never_raises
def child_exit(server: Any, worker: Any) -> None:
    """In the master, after a worker has ended."""
    master.after_exit(server, worker)


@master.never_raises
def on_exit(server: Any) -> None:
    """In the master, after the last worker."""
    master.account_for_killed(server)
    master.stop_exporter()
    embedded.stop()
