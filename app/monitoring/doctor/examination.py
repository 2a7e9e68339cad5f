"""The examinations: of the surroundings in the master, of the application in a worker.

They are two because a worker is also started to replace one that has ended: what is wrong with the disk then must
not end the service, and what is wrong with the configuration is logged once and not by each worker.
"""

import contextlib
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import ParamSpec

import structlog
from starlette.applications import Starlette

from ..refusal import BOOT_ERROR, await_stop
from . import applications, declared, directory, kinds, logs, notes, servers, surroundings, values, versions
from .finding import ExaminationError, Finding
from .situation import Situation

P = ParamSpec("P")
MAX_WRAPPERS = 20
log: structlog.typing.FilteringBoundLogger = structlog.get_logger("doctor")


def examine(app: object, situation: Situation | None = None) -> list[Finding]:
    """Return the findings about `app`, the metrics and the logging of this process; errors come first.

    Call it in the worker, before its first request, after the routes and middlewares have been added. `app` may be
    wrapped in ASGI middlewares that keep it as `app`. Nothing is left in the metrics.
    """
    situation = situation or Situation.from_environment()
    return _sorted(_of_application(app, situation))


def examine_served(app: object, situation: Situation | None = None) -> list[Finding]:
    """Return what `examine` does, and a finding if `app`, which gunicorn is to serve, is not instrumented."""
    return _sorted([*examine(app, situation), *_checked(applications.uninstrumented, unwrapped(app))])


def examine_surroundings(situation: Situation | None = None) -> list[Finding]:
    """Return the findings about configuration, metrics directory and versions. Call it in the master, once."""
    situation = situation or Situation.from_environment()
    return _sorted(
        [
            *_checked(directory.unset_directory, situation),
            *_checked(directory.unfit_directory, situation),
            *_checked(directory.shared_directory, situation),
            *_checked(surroundings.untrusted_proxies, situation),
            *_checked(surroundings.rewritten_peers, situation),
            *_checked(surroundings.tracing_without_collector, situation),
            *_checked(surroundings.variables_without_effect, situation),
            *_checked(surroundings.stop_budget, situation),
            *_checked(versions.untested_versions),
        ]
    )


def enforce(findings: Sequence[Finding]) -> None:
    """Log the warnings, once for all workers. Raise ExaminationError if there are errors."""
    errors = [finding for finding in findings if finding.severity == "error"]
    warnings = [finding for finding in findings if finding.severity == "warning"]
    if warnings and notes.is_new_warning("\n".join(map(str, warnings))):
        for warning in warnings:
            log.warning(
                "doctor_finding", code=warning.code, what=warning.what, why=warning.why, instead=warning.instead
            )
    if errors:
        raise ExaminationError(errors)


def warn_unstarted() -> None:
    """Log a warning, once, where this process is one of several workers and nothing of the package has set it up."""
    enforce(list(servers.unstarted_worker()))


def refuse_unused_settings() -> None:
    """End the service where gunicorn runs another worker class than the one that Observability.gunicorn() returned.

    Call it in a worker, before it serves. Does nothing outside of a worker. Raise SystemExit if the class is another.
    """
    findings = list(servers.unused_settings())
    if findings and not write_refusal(ExaminationError(findings)):
        await_stop()  # the master ends with a traceback if it reaps a second one
    if findings:
        raise SystemExit(BOOT_ERROR)


def refuse_start(app: object, situation: Situation | None = None) -> None:
    """Examine `app` in a gunicorn worker that has loaded it; with errors, write them once and end the service.

    Raise SystemExit if there are errors. Call it before the lifespan: Starlette would log a traceback.
    """
    try:
        enforce(examine_served(app, situation))
    except ExaminationError as error:
        write_refusal(error)
        raise SystemExit(BOOT_ERROR) from None


def write_refusal(error: ExaminationError) -> bool:
    """Write the errors to standard error, and return True, unless another worker of this start has done so."""
    if not notes.is_first_refusal():
        return False
    with contextlib.suppress(OSError):  # its reader has gone
        sys.stderr.write(f"{error}\n")
        sys.stderr.flush()
    return True


def unwrapped(app: object) -> Starlette | None:
    """Return the Starlette application inside ASGI middlewares; None where there is none."""
    for _ in range(MAX_WRAPPERS):
        if isinstance(app, Starlette) or app is None:
            return app
        app = getattr(app, "app", None)
    return None


def _of_application(app: object, situation: Situation) -> Iterator[Finding]:
    found, starlette = declared.Declared(), None
    try:
        found = declared.find()
    except Exception as error:  # noqa: BLE001 -- see _checked
        yield _failed(declared.find, error)
    if situation.directory is not None:  # with one process and no directory the library works as it always does
        yield from _checked(values.value_class)
        yield from _checked(values.private_values, found)
        yield from _checked(kinds.lost_kinds, found)
        yield from _checked(kinds.lost_functions, found)
        yield from _checked(kinds.gauges_by_process, found)
    yield from _checked(kinds.hidden_metrics, found)
    yield from _checked(applications.foreign_collectors, found)
    yield from _checked(logs.replaced_handlers)
    yield from _checked(logs.replaced_structlog)
    yield from _checked(logs.loguru_sinks)
    try:
        starlette = unwrapped(app)
    except Exception as error:  # noqa: BLE001 -- see _checked
        yield _failed(unwrapped, error)
    if starlette is not None:
        yield from _checked(applications.second_instrumentators, starlette)
        yield from _checked(applications.foreign_expositions, starlette)
        yield from _checked(applications.shadowed_paths, starlette, situation.paths)


def _checked(check: Callable[P, Iterable[Finding]], *arguments: P.args, **more: P.kwargs) -> Iterator[Finding]:
    """Yield the findings of a check, and one more where it fails: an odd object must not end the service."""
    try:
        yield from check(*arguments, **more)
    except Exception as error:  # noqa: BLE001 -- of objects and routes that belong to others
        yield _failed(check, error)


def _failed(check: Callable[..., object], error: Exception) -> Finding:
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    return Finding(
        "check-failed",
        "warning",
        f"the check {check.__name__} ended with {type(error).__name__} in {frame.f_code.co_filename}:{line}",
        "its findings may be missing",
        "fix the object or route that raises it; where it is in this package, report it",
    )


def _sorted(findings: Iterable[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: finding.severity != "error")
