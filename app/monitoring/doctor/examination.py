"""The examinations: of the surroundings in the master, of the application in a worker.

They are two because a worker is also started to replace one that has ended: what is wrong with the disk then must
not end the service, and what is wrong with the configuration is logged once and not by each worker.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import structlog
from starlette.applications import Starlette

from . import applications, declared, directory, kinds, notes, servers, surroundings, values, versions
from .finding import ExaminationError, Finding
from .situation import Situation

MAX_WRAPPERS = 20
log: structlog.typing.FilteringBoundLogger = structlog.get_logger("doctor")
BOOT_ERROR = 3  # gunicorn ends the service when a worker ends with it, and starts another one after any other status


def examine(app: object, situation: Situation | None = None) -> list[Finding]:
    """Return the findings about `app` and the metrics of this process; errors come first.

    Call it in the worker, before its first request, after the routes and middlewares have been added. `app` may be
    wrapped in ASGI middlewares that keep it as `app`. Nothing is left in the metrics.
    """
    situation = situation or Situation.from_environment()
    return _sorted(_of_application(unwrapped(app), situation))


def examine_surroundings(situation: Situation | None = None) -> list[Finding]:
    """Return the findings about configuration, metrics directory and versions. Call it in the master, once."""
    situation = situation or Situation.from_environment()
    return _sorted(
        [
            *directory.unset_directory(situation),
            *directory.unfit_directory(situation),
            *surroundings.untrusted_proxies(situation),
            *surroundings.tracing_without_collector(situation),
            *versions.untested_versions(versions.requirements()),
        ]
    )


def enforce(findings: Sequence[Finding]) -> None:
    """Log the warnings, once for all workers, and raise ExaminationError where there are errors."""
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


def refuse_start(
    app: object, situation: Situation | None = None, *, is_stopping: Callable[[], bool] = lambda: False
) -> None:
    """Examine `app` in a gunicorn worker that has loaded it; with errors, write them once and end the service.

    Raises SystemExit. Call it before the lifespan: Starlette would log a traceback. `is_stopping` returns whether the
    master has told the worker to stop.
    """
    try:
        enforce(examine(app, situation))
    except ExaminationError as error:
        if not write_refusal(error):
            # The master is about to end the service with this worker. Should it reap a second worker with this status
            # meanwhile, it would end with a traceback.
            deadline = time.monotonic() + notes.REFUSAL_SECONDS
            while time.monotonic() < deadline and not is_stopping():
                time.sleep(0.01)
        raise SystemExit(BOOT_ERROR) from None


def write_refusal(error: ExaminationError) -> bool:
    """Write the errors to standard error, and return True, unless another worker of this start has done so."""
    if not notes.is_first_refusal():
        return False
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


def _of_application(app: Starlette | None, situation: Situation) -> Iterator[Finding]:
    found = declared.find()
    if situation.directory is not None:  # with one process and no directory the library works as it always does
        yield from values.value_class()
        yield from values.private_values(found)
        yield from kinds.lost_kinds(found)
        yield from kinds.lost_functions(found)
    yield from kinds.hidden_metrics(found)
    yield from applications.foreign_collectors(found)
    if app is not None:
        yield from applications.second_instrumentators(app)
        yield from applications.foreign_expositions(app)
        yield from applications.shadowed_paths(app, situation.paths)


def _sorted(findings: Iterable[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: finding.severity != "error")
