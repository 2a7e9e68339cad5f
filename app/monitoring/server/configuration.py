"""gunicorn's settings and hooks, composed with those of the service."""

import functools
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from .. import logging, tracing
from ..arguments import logging_arguments, tracing_arguments
from ..doctor import ExaminationError, Situation, enforce
from ..doctor.declared import search_imported
from ..doctor.examination import examine_surroundings
from ..metrics import process
from ..metrics.registry import prepare
from ..multiprocess.directory import DirectoryError
from ..options import Options, OptionsError
from ..preload import preload as import_before_forks
from ..stop_budget import StopBudget
from ..traces.environment import check_options
from . import master
from .admission import AdmissionLimits
from .arbiter import RollingArbiter
from .inherited import InheritedSocketError, inherited_addresses
from .limits import Limits
from .settings import addresses, check_class
from .user import WorkerUserError, acting_as, worker_user

Hook = Callable[..., object]
_START_ERRORS = (
    master.StartError,
    tracing.TracingConfigurationError,
    ExaminationError,
    InheritedSocketError,
    WorkerUserError,
    DirectoryError,
)
PACKAGE = __package__.rpartition(".")[0]
HOST_COLLECTOR = f"{PACKAGE}.host:collect"
# Modules that every worker needs: imported once, by the master. The package's own are among them, so that workers never
# mix two versions of it after an upgrade.
PRELOADED = (
    "uvloop",
    "uvicorn.lifespan.on",
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn.protocols.websockets.auto",
    f"{PACKAGE}.instrumentation",
    f"{PACKAGE}.health",
)


class Configured(Protocol):
    """The object whose options are those of the service."""

    options: Options


def settings_of(
    observability: Configured,
    app: str,
    preload: Sequence[str],
    collectors: Sequence[str] | None,
    given: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the variables of gunicorn_conf.py: the package's settings and hooks, combined with those of `given`.

    `given` are the settings that `merged` has left. Raise OptionsError if a class is not made from the package's.
    """
    _check_classes(given)
    options = observability.options
    logging.configure(**logging_arguments(options))
    ours: dict[str, Any] = {
        "wsgi_app": app,
        "worker_class": f"{PACKAGE}.server.worker.Worker",
        "logger_class": f"{PACKAGE}.server.logger.GunicornLogger",
        "bind": options.bind,
        "workers": options.workers,
        "max_requests": options.max_requests,
        "max_requests_jitter": options.max_requests_jitter,
        "timeout": options.worker_timeout,
        "graceful_timeout": options.graceful_timeout,
        "keepalive": options.keepalive,
        "forwarded_allow_ips": options.forwarded_allow_ips,
        "proc_name": options.service,
        # Heartbeats go to memory: on a disk they would block the event loop.
        "worker_tmp_dir": "/dev/shm" if os.access("/dev/shm", os.W_OK) else None,  # noqa: S108
        # Fails in containers with a read-only file system or without a home directory; unused here.
        "control_socket_disable": True,
    }
    given = dict(given)
    hooks = {
        "on_starting": _starting(
            observability,
            app,
            preload,
            [HOST_COLLECTOR] if collectors is None else collectors,
            given.pop("on_starting", None),
        ),
        "nworkers_changed": _configured(observability, app),
        **_hooks(observability),
    }
    for name, value in given.items():
        hooks[name] = _compose(name, hooks[name], value) if name in hooks else value
    return ours | hooks


def _check_classes(given: Mapping[str, Any]) -> None:
    if "worker_class" in given:
        from .worker import Worker  # noqa: PLC0415 -- gunicorn imports it when the configuration has been read

        check_class("worker_class", given["worker_class"], Worker)
    if "logger_class" in given:
        from .logger import GunicornLogger  # noqa: PLC0415

        check_class("logger_class", given["logger_class"], GunicornLogger)


def _check_collectors(collectors: Sequence[object]) -> None:
    """Raise StartError unless this is a sequence of strings. The exporter imports the functions that they name."""
    if isinstance(collectors, str) or not all(isinstance(one, str) for one in collectors):
        raise master.StartError(f"collectors={collectors!r}: want a list of module:function")


def _starting(
    observability: Configured,
    app: str,
    preload: Sequence[str],
    collectors: Sequence[str],
    theirs: Hook | None,
) -> Hook:
    """Return the on_starting hook. `theirs` runs after ports and directory are claimed, and may call sys.exit."""

    def on_starting(server: Any) -> None:
        """Claim ports and directory and start the exporter; exit with a one-line error before any worker runs."""
        options, bound = _final(observability, app, server)
        prepare(options.namespace, options.max_series)  # every worker inherits limit and namespace
        try:
            check_options(options)
            _check_collectors(collectors)
            _claim(options, bound, server.cfg)
        except _START_ERRORS as error:
            sys.exit(str(error))
        master.note_build(options.version, options.environment)
        if theirs is not None:
            theirs(server)
        try:
            # It imports while this process does.
            master.start_exporter(collectors, logging_arguments(options), options.max_series)
        except master.StartError as error:
            sys.exit(str(error))
        if preload and options.traced:
            # Before the modules that import functions of these libraries; each worker's provider gets their spans.
            tracing.instrument_libraries(options.instrument_libraries)
        import_before_forks(*PRELOADED, *preload)
        search_imported()
        RollingArbiter.adopt(server)
        try:
            master.supervise_exporter()
        except master.StartError as error:
            master.stop_exporter()
            sys.exit(str(error))

    return on_starting


def _claim(options: Options, bound: Sequence[str], cfg: Any) -> None:
    """Examine the surroundings, and claim ports and directory; _START_ERRORS are what it raises."""
    inherited, user = inherited_addresses(cfg.address), worker_user(cfg)
    if user is not None:
        user.make_directory(options.directory)
    # Before the directory is claimed: locks on a network file system may not be granted.
    with acting_as(user):
        enforce(examine_surroundings(Situation.of_options(options, inherited or bound)))
    master.take_ports_and_directory(
        api=[] if inherited else addresses(bound),
        metrics=(options.metrics_host, options.metrics_port),
        directory=options.directory,
        user=user,
    )


def _configured(observability: Configured, app: str) -> Hook:
    def nworkers_changed(server: Any, new: int, old: int | None) -> None:  # noqa: ARG001 -- the signature is gunicorn's
        """Run in the master whenever it has read its configuration, also at SIGHUP, and before `preload_app` counts."""
        options, _ = _final(observability, app, server)
        server.stop_delay, server.max_surge = options.stop_delay, options.max_surge
        server.limits, server.admission = Limits.of(options), AdmissionLimits.of(options)

    return nworkers_changed


def _final(observability: Configured, app: str, server: Any) -> tuple[Options, list[str]]:
    """Give `observability` the options that gunicorn runs with; return them and the addresses. Exit if one is wrong."""
    # Imports gunicorn's worker, which a process that only reads the settings does not need.
    from .final_settings import final_options  # noqa: PLC0415

    try:
        observability.options, bound = final_options(observability.options, app, server.cfg)
    except OptionsError as error:
        sys.exit(str(error))
    return observability.options, bound


def _compose(name: str, ours: Hook, theirs: Hook) -> Hook:
    """Return a hook that calls the package's, then the service's. For on_exit in the reverse order."""
    # An exception in a hook would end the service.
    theirs = master.never_raises(theirs)
    first, second = (theirs, ours) if name == "on_exit" else (ours, theirs)

    @functools.wraps(ours)  # gunicorn checks the number of a hook's parameters
    def hook(*arguments: Any) -> None:
        first(*arguments)
        second(*arguments)

    return hook


def _hooks(observability: Configured) -> dict[str, Hook]:
    options = observability.options

    def pre_fork(server: Any, worker: Any) -> None:
        """Run in the master before each fork."""
        master.before_fork(server, worker)

    def post_fork(server: Any, worker: Any) -> None:  # noqa: ARG001
        """Run in the worker. It gets its own tracer provider: exporters and channels do not survive a fork."""
        process.set_worker_slot(worker.slot)
        if options.traced:
            tracing.configure(**tracing_arguments(options))
            tracing.instrument_libraries(options.instrument_libraries)  # the application is imported next

    def child_exit(server: Any, worker: Any) -> None:
        """Run in the master after a worker has ended."""
        master.after_exit(server, worker)

    def on_exit(server: Any) -> None:
        """Run in the master after the last worker."""
        budget = StopBudget(observability.options.graceful_timeout)  # that of the command line, if it has one
        master.account_for_killed(server, budget.killed)
        began = getattr(server, "stop_began", time.monotonic())  # a start that fails has none
        master.stop_exporter(budget.exporter(time.monotonic() - began))

    return {
        "pre_fork": master.never_raises(pre_fork),
        "post_fork": master.never_raises(post_fork),
        "child_exit": master.never_raises(child_exit),
        "on_exit": master.never_raises(on_exit),
    }
